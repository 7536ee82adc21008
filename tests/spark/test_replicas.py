"""Which sentences a replica has, and that its task changes copies of its own: a worker keeps what is broadcast."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spark_w2v.skipgram.kernel import SgdParams
from spark_w2v.skipgram.pairs import PairSampler
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.spark.buckets import RunSpec
from spark_w2v.spark.replicas import _replica_task, assign_sentences
from tests.support.planted import WORDS, rows_of_text


def test_what_is_broadcast_is_not_changed() -> None:
    sampler = PairSampler(np.ones(WORDS, np.float32), 3, 5, 0.0, assign_blocks(np.ones(WORDS), 1))
    run_spec: Any = SimpleNamespace(value=RunSpec(sampler, np.full(WORDS, 1 / WORDS), 2, 0.1))
    center: Any = SimpleNamespace(value=np.full((WORDS, 4), 0.1, np.float32))
    context: Any = SimpleNamespace(value=np.full((WORDS, 4), 0.2, np.float32))
    rows = [assigned for row in rows_of_text() for assigned in assign_sentences(row, 1, sampler)]
    words = sum(len(ids) // 4 for _, (ids, _, _) in rows)
    params, edges = SgdParams(2, 0.1, 0.05, 0.01), np.array([0.0, 1.0])
    task = _replica_task(run_spec, center, context, params, (0, 0), edges, [words])
    ((_, (_, done, trained, *_)),) = task(0, iter(rows))
    assert done.pairs > 0
    assert (trained != center.value).any()
    assert (center.value == np.float32(0.1)).all()
    assert (context.value == np.float32(0.2)).all()


@pytest.mark.parametrize("sentences", [1, 3, 20])
def test_the_sentences_of_many_short_files_are_of_all_replicas_alike(sentences: int) -> None:
    sampler = PairSampler(np.ones(5, np.float32), 3, 5, 0.0, assign_blocks(np.ones(5), 1))
    files = np.random.default_rng(1).integers(1 << 62, size=2000).tolist()
    ids, lengths = np.zeros(2 * sentences, np.int32).tobytes(), np.full(sentences, 2, np.int32).tobytes()
    found = np.zeros(8, np.int64)
    for file in files:
        for (replica, *place), (_, own, _) in assign_sentences((file, 0, 0, ids, lengths, b""), 8, sampler):
            assert place == [file, 0, 0]
            found[replica] += len(own) // 4
    assert found.sum() == 2000 * sentences
    assert found.min() > 0.8 * found.mean()
