"""The mean vector of a document, against a loop over its words."""

import pickle
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_w2v.spark.vocabulary import encoding_bytes
from spark_w2v.text.documents import mean_vectors
from tests.support.peak_memory import peak_of

WORDS = pa.array(["the", "é", "😀", "cat"], pa.string())
VECTORS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

words = st.sampled_from([*WORDS.to_pylist(), "unknown", "", None])
documents = st.lists(st.none() | st.lists(words, max_size=6), max_size=8)


def mean_one_word_at_a_time(document: list[str | None], skip_unknown: bool) -> list[float]:
    total, known = np.zeros(3), 0
    for word in document:
        if word in WORDS.to_pylist():
            total += VECTORS[WORDS.to_pylist().index(word)].astype(np.float64)
            known += 1
    divisor = known if skip_unknown else len(document)
    return list(total * (1.0 / max(divisor, 1)))


@pytest.mark.parametrize("skip_unknown", [False, True])
@given(documents=documents)
def test_the_mean_equals_a_loop_over_the_words(documents: list[list[str | None] | None], skip_unknown: bool) -> None:
    found = mean_vectors(pa.array(documents, pa.list_(pa.string())), WORDS, VECTORS, skip_unknown)
    assert found.type == pa.list_(pa.float64())
    expected = [None if document is None else mean_one_word_at_a_time(document, skip_unknown) for document in documents]
    assert found.to_pylist() == expected


def test_unknown_words_pull_the_mean_to_zero_or_are_left_out() -> None:
    document = pa.array([["cat", "unknown"]])
    assert mean_vectors(document, WORDS, VECTORS, False).to_pylist() == [(VECTORS[3].astype(np.float64) / 2).tolist()]
    assert mean_vectors(document, WORDS, VECTORS, True).to_pylist() == [VECTORS[3].astype(np.float64).tolist()]


def test_a_slice_of_a_batch_is_as_good_as_a_batch() -> None:
    whole = pa.array([["the"], None, ["cat", "é"], ["😀"]])
    found = mean_vectors(whole.slice(1, 2), WORDS, VECTORS, False)
    assert found.to_pylist() == mean_vectors(whole, WORDS, VECTORS, False).to_pylist()[1:3]


@pytest.mark.parametrize("length", [3, 60])
def test_a_task_takes_the_memory_that_is_asked_for(length: int) -> None:
    def run(packed: bytes) -> None:
        words, vectors = pickle.loads(packed)
        mean_vectors(pa.array([["x", None]] * 10, pa.list_(pa.string())), words, vectors, True)

    found, need = [], []
    for count in (10_000, 140_000, 270_000):  # just more than a table has room for, which is the worst
        words = pa.array([str(number).rjust(length, "w") for number in range(count)])
        vectors = np.ones((count, 50), np.float32)
        need.append(encoding_bytes(count, words.nbytes) + vectors.nbytes)
        found.append(peak_of(partial(run, pickle.dumps((words, vectors), 5))))
    for more, asked in zip(np.diff(found), np.diff(need), strict=True):
        assert asked / 2 < more < asked
