"""Segments do not depend on batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.text import segments, tokenizer
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.tokenizer import NO_REASON
from tests.support.lines import WORDS
from tests.support.segments import unpacked


def batches_of(texts: Sequence[str], sizes: int, starts: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
    for first in range(0, len(texts), sizes):
        part = texts[first : first + sizes]
        start = starts[first : first + sizes] if starts else [0] * len(part)
        yield pa.RecordBatch.from_pydict(
            {
                "path_hash": pa.array([-7] * len(part), pa.int64()),
                "start": pa.array(start, pa.int64()),
                "value": pa.array(part, pa.string()),
                "reason": pa.array([NO_REASON] * len(part), pa.int32()),
            }
        )


def segments_of(texts: Sequence[str], sizes: int, starts: Sequence[int] | None = None) -> list[dict[str, Any]]:
    return [
        row for batch in segments.cut(batches_of(texts, sizes, starts), WORDS, {-7: 3}) for row in batch.to_pylist()
    ]


def sentences_of(row: dict[str, Any]) -> list[str]:
    codes, lengths = np.frombuffer(row["codes"], "<i4"), np.frombuffer(row["lengths"], "<i4")
    spelled = [unpacked(row)[0][code] for code in codes]
    ends = np.cumsum(lengths)
    return [" ".join(spelled[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


@pytest.mark.parametrize("sizes", [1, 3, 7, 1000])
def test_pieces_do_not_depend_on_batches_and_lose_no_word(monkeypatch: pytest.MonkeyPatch, sizes: int) -> None:
    for module in (tokenizer, segments):
        monkeypatch.setattr(module, "SEGMENT_WORDS", 10)
    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 30, size=rng.integers(0, 9))) for _ in range(60)]
    starts = [0] * 35 + [16] * 25
    rows = segments_of(texts, sizes, starts)
    assert rows == segments_of(texts, 17, starts)
    assert [sentence for row in rows for sentence in sentences_of(row)] == [text for text in texts if text]
    places = [(row["file"], row["start"], row["segment"]) for row in rows]
    assert places == [(3, start, segment) for start in (0, 16) for segment in range(sum(p[1] == start for p in places))]
    for row in rows:
        codes = np.frombuffer(row["codes"], "<i4")
        assert len(codes) <= 10
        assert len(codes) == np.frombuffer(row["lengths"], "<i4").sum()
        words, counts = unpacked(row)
        assert np.bincount(codes, minlength=len(words)).tolist() == counts
        assert len(set(words)) == len(words)
    last = [row["counters"] for row in rows if row["counters"][0]]
    assert [counters[0] for counters in last] == [35, 25]


def test_a_piece_is_as_full_as_whole_sentences_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tokenizer, segments):
        monkeypatch.setattr(module, "SEGMENT_WORDS", 5)
    lengths = [
        np.frombuffer(row["lengths"], "<i4").tolist() for row in segments_of(["a b c", "a b", "a", "a b c d e f"], 2)
    ]
    assert lengths == [[3, 2], [1], [5], [1]]


def test_a_split_without_words_still_tells_of_its_lines() -> None:
    (row,) = segments_of(["", "--"], 1)
    assert row["counters"][COUNTERS.index("lines")] == 2
    assert (*unpacked(row), row["codes"], row["lengths"]) == ([], [], b"", b"")
