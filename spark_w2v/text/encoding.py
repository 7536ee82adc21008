"""Segments as ids of a vocabulary's words."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.errors import UserError
from spark_w2v.text.arrow_arrays import offsets_of, string_bytes
from spark_w2v.text.spellings import codes_of, words_of
from spark_w2v.text.weights import UNITS
from spark_w2v.types import Float64Array, Int32Array, Int64Array

# A hash table of a million words takes 0.2 s, as long as a million look-ups. Batches with an eighth as many words as
# the vocabulary are looked up one by one, smaller ones together, up to TOGETHER bytes.
LOOKED_UP, TOGETHER = 8, 32 << 20

# Arrow's types of whole numbers, by what Spark calls them.
ID_TYPES = {"tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}


@dataclass(frozen=True)
class Vocabulary:
    """The V words that get a vector; a word's id is its position."""

    words: pa.Array  # (V,) large_string, unique
    # (V,) occurrences in the corpus, and in its windows of earlier runs where a word was rare there; descending; 0 for
    # words of an earlier run that do not occur.
    counts: Int64Array
    total_words: int  # words of the corpus, repeated ones included
    distinct_words: int  # of the corpus and of the windows of an earlier run, including those without a vector
    ids: pa.Array | None = None  # (V,) the words as whole numbers, where the column of the corpus has such

    def __len__(self) -> int:
        return len(self.words)

    @property
    def id_type(self) -> str | None:
        """The type of the ids, as Spark calls it."""
        return None if self.ids is None else id_type_name(self.ids.type)


def id_type_name(kind: pa.DataType | None) -> str | None:
    """Return what Spark calls one of ID_TYPES; None of another type."""
    return next((name for name, of_id in ID_TYPES.items() if of_id == kind), None)


def ids_of(
    words: pa.Array,
    id_type: str,
    of: str = "vocabulary.keep_missing: the words of the earlier run",
    change: str = "leave keep_missing out",
) -> pa.Array:
    """Return words, which are whole numbers in decimal, as numbers of a type.

    Args:
        of, change: what the words are, and what a user may change, for a message.

    Raises:
        UserError: a word is none, or not written as the column's are, as it may be one of another corpus.
    """
    spelled = words.cast(pa.string())
    try:
        numbers = spelled.cast(ID_TYPES[id_type])
        # Arrow also reads 007 and 0x7, and two words must not have one id.
        others = spelled.filter(pc.not_equal(numbers.cast(pa.string()), spelled)).slice(0, 1).to_pylist()
    except pa.ArrowInvalid as error:
        others = re.findall("'(.*)'", str(error))[:1] or [""]
    if others:
        raise UserError(
            f'{of} have "{others[0]}", which is not a number of the type {id_type}, as those of the column are; '
            f"{change}, or read the column as strings."
        )
    return numbers


def together(batches: Iterable[pa.RecordBatch], words: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of SEGMENTS together, so that looking up their words is worth a hash table of the vocabulary.

    Args:
        words: of the vocabulary.
    """
    waiting: list[pa.RecordBatch] = []
    distinct = size = 0
    for batch in batches:
        waiting.append(batch)
        distinct += string_bytes(batch.column("ends")).size // 4
        size += batch.nbytes
        if LOOKED_UP * distinct >= words or size >= TOGETHER:
            yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
            waiting, distinct, size = [], 0, 0
    if waiting:
        yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)


def encode_batch(batch: pa.RecordBatch, words: pa.Array) -> pa.RecordBatch:
    """Convert rows of SEGMENTS to rows of ENCODED."""
    spellings, begins = words_of(batch)
    id_of = pc.fill_null(pc.index_in(spellings.cast(words.type), value_set=words), -1).to_numpy()
    encoded = [
        encode_segment(codes, lengths, id_of[begin:end], weights)
        for (begin, end), (codes, lengths, weights) in zip(pairwise(begins), codes_of(batch), strict=True)
    ]
    kept = pa.array([bool(ids) for ids, _, _ in encoded], pa.bool_())
    columns = {name: batch.column(name).filter(kept) for name in ("file", "start", "segment")}
    for place, name in enumerate(("ids", "lengths", "weights")):
        columns[name] = pa.array([segment[place] for segment in encoded if segment[0]], pa.binary())
    return pa.RecordBatch.from_pydict(columns)


def encode_segment(
    codes: Int32Array, lengths: Int32Array, id_of: Int32Array, weights: Int32Array
) -> tuple[bytes, bytes, bytes]:
    """Ids, sentence lengths and weights of one segment, without the words that have no id.

    Args:
        codes: (N,) every word, as an index into id_of.
        lengths: (S,) words of each sentence.
        id_of: word id, or -1.
        weights: (S,) of each sentence in units, or empty.
    """
    ids = id_of[codes]
    known = ids >= 0
    known_before = offsets_of(known)
    ends = np.cumsum(lengths)
    left = np.diff(known_before[ends], prepend=0)
    stay = left > 0
    of_sentence = weights[stay] if weights.size else weights
    return ids[known].astype("<i4").tobytes(), left[stay].astype("<i4").tobytes(), of_sentence.astype("<i4").tobytes()


class EncodedSegment(NamedTuple):
    """A row of ENCODED.

    Args:
        place: file, start and number of the segment.
        ids: (n,) of all words.
        lengths: (S,) words of each sentence.
        weights: (S,) of each sentence; empty where all are 1.
    """

    place: tuple[int, ...]
    ids: Int32Array
    lengths: Int32Array
    weights: Float64Array


def segment_of(row: tuple[Any, ...]) -> EncodedSegment:
    """Return a row of ENCODED as arrays; ids and lengths are not copied."""
    ids, lengths, weights = (np.frombuffer(column, "<i4") for column in row[3:6])
    return EncodedSegment((row[0], row[1], row[2]), ids, lengths, weights / UNITS)


def segments_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    """Rows of some batches of ENCODED, without a copy of their bytes."""
    for batch in batches:
        places = zip(*(batch.column(name).to_pylist() for name in ("file", "start", "segment")), strict=True)
        ids, lengths, weights = (batch.column(name) for name in ("ids", "lengths", "weights"))
        for row, place in enumerate(places):
            yield *place, ids[row].as_buffer(), lengths[row].as_buffer(), weights[row].as_buffer()
