"""Segments as ids of a vocabulary's words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.types import Int32Array, Int64Array


@dataclass(frozen=True)
class Vocabulary:
    """The V words that get a vector; a word's id is its position."""

    words: pa.Array  # (V,) large_string, unique
    counts: Int64Array  # (V,) occurrences in the corpus, descending; 0 for words of an earlier run that do not occur
    total_words: int  # words of the corpus, repeated ones included
    distinct_words: int  # distinct words of the corpus, including those without a vector

    def __len__(self) -> int:
        return len(self.words)


def encode_batch(batch: pa.RecordBatch, words: pa.Array) -> pa.RecordBatch:
    """Convert rows of SEGMENTS to rows of ENCODED."""
    spellings = batch.column("words")
    ids = pc.index_in(spellings.flatten().cast(words.type), value_set=words)
    id_of = pc.fill_null(ids, -1).to_numpy()
    sizes = pc.list_value_length(spellings).to_numpy()
    ends = np.cumsum(sizes)
    starts = ends - sizes
    encoded: list[tuple[bytes, bytes]] = []
    keep: list[bool] = []
    codes, lengths = batch.column("codes"), batch.column("lengths")
    for row in range(len(batch)):
        segment = encode_segment(
            np.frombuffer(codes[row].as_buffer(), "<i4"),
            np.frombuffer(lengths[row].as_buffer(), "<i4"),
            id_of[starts[row] : ends[row]],
        )
        keep.append(bool(segment[0]))
        encoded.append(segment)
    kept = pa.array(keep, pa.bool_())
    return pa.RecordBatch.from_pydict(
        {
            "file": batch.column("file").filter(kept),
            "start": batch.column("start").filter(kept),
            "segment": batch.column("segment").filter(kept),
            "ids": pa.array([ids for ids, _ in encoded if ids], pa.binary()),
            "lengths": pa.array([lengths for ids, lengths in encoded if ids], pa.binary()),
        }
    )


def encode_segment(codes: Int32Array, lengths: Int32Array, id_of: Int32Array) -> tuple[bytes, bytes]:
    """Ids and sentence lengths of one segment, without the words that have no id.

    Args:
        codes: (N,) every word, as an index into id_of.
        lengths: (S,) words of each sentence.
        id_of: word id, or -1.
    """
    ids = id_of[codes]
    known = ids >= 0
    known_before = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(known, out=known_before[1:])
    ends = np.cumsum(lengths)
    left = np.diff(known_before[ends], prepend=0)
    return ids[known].astype("<i4").tobytes(), left[left > 0].astype("<i4").tobytes()


def segment_of(row: tuple[Any, ...]) -> tuple[tuple[int, ...], Int32Array, Int32Array]:
    """Place, ids and sentence lengths of a row of ENCODED."""
    return (row[0], row[1], row[2]), np.frombuffer(row[3], "<i4"), np.frombuffer(row[4], "<i4")


def segments_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    """Rows of some batches of ENCODED, without a copy of their bytes."""
    for batch in batches:
        places = zip(*(batch.column(name).to_pylist() for name in ("file", "start", "segment")), strict=True)
        ids, lengths = batch.column("ids"), batch.column("lengths")
        for row, place in enumerate(places):
            yield *place, ids[row].as_buffer(), lengths[row].as_buffer()
