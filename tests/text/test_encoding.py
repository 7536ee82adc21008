"""Segments in the ids of a vocabulary's words."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.text import encoding
from spark_w2v.text.encoding import encode_batch, together
from spark_w2v.text.spellings import words_of
from tests.support.lines import WORDS
from tests.text.test_segments import batches_of


def segments() -> Iterator[pa.RecordBatch]:
    from spark_w2v.text.segments import cut

    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 60, size=20)) for _ in range(40)]
    for first in range(0, 40, 8):  # 8 lines of one split are one segment
        yield from cut(batches_of(texts[first : first + 8], 3, [first] * 8), WORDS, {-7: 3})


@pytest.mark.parametrize(
    ("vocabulary", "held", "batches"),
    [(8 * 40, 9, 5), (8 * 90, 9, 3), (10_000, 9, 1), (10_000, 1.5, 3), (10_000, 0, 5)],
)
def test_batches_are_encoded_together_where_their_words_are_few(
    vocabulary: int, held: float, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list(segments())
    monkeypatch.setattr(encoding, "TOGETHER", held * given[0].nbytes)
    assert all(50 < words_of(batch)[1][-1] <= 60 for batch in given)
    joined = list(together(iter(given), vocabulary))
    assert len(joined) == batches
    assert pa.Table.from_batches(joined) == pa.Table.from_batches(given)
    words = pa.array([f"w{word}" for word in range(0, 60, 2)], pa.large_string())
    one_by_one, at_once = (pa.Table.from_batches(encode_batch(b, words) for b in some) for some in (given, joined))
    assert one_by_one.to_pylist() == at_once.to_pylist()
    assert len(at_once) == 5


def test_nothing_is_together_nothing() -> None:
    assert not list(together(iter([]), 10))
