"""The distinct words of segments, in a form in which Spark passes them on without looking at each of them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from spark_w2v.text.arrow_arrays import offsets_of, string_bytes, string_offsets
from spark_w2v.types import Int32Array, Int64Array

ODD = np.uint64(0x9E3779B97F4A7C15)  # of the golden ratio
HASHED = 1 << 18  # bytes that are hashed at a time, and of one word


def packed_words(words: pa.Array) -> tuple[bytes, bytes]:
    """Return the UTF-8 of strings, one after the other, and where each ends: int32, little-endian."""
    offsets = string_offsets(words)
    return string_bytes(words).tobytes(), (offsets[1:] - offsets[0]).astype("<i4").tobytes()


def words_of(batch: pa.RecordBatch) -> tuple[pa.StringArray, Int64Array]:
    """Return the words of all rows of SEGMENTS, one row after the other, and (rows + 1,) where those of each begin."""
    content, packed_ends = batch.column("words"), batch.column("ends")
    ends = string_bytes(packed_ends).view("<i4")
    begins = (string_offsets(packed_ends) - string_offsets(packed_ends)[0]).astype(np.int64) // ends.itemsize
    starts = string_offsets(content)[:-1] - string_offsets(content)[0]
    offsets = np.concatenate([[0], ends + np.repeat(starts, np.diff(begins))]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(string_bytes(content))]
    return pa.Array.from_buffers(pa.string(), ends.size, buffers), begins


def codes_of(batch: pa.RecordBatch) -> Iterator[tuple[Int32Array, Int32Array, Int32Array]]:
    """Yield of each row of SEGMENTS its codes, and the lengths and weights of its sentences, without a copy."""
    columns = [batch.column(name) for name in ("codes", "lengths", "weights")]
    for row in range(len(batch)):
        codes, lengths, weights = (np.frombuffer(column[row].as_buffer(), "<i4") for column in columns)
        yield codes, lengths, weights


def word_hashes(words: pa.StringArray) -> Int64Array:
    """Return a hash of each word that follows from its UTF-8 alone: a polynomial in an odd number, modulo 2^64."""
    starts, content = string_offsets(words)[:-1], np.frombuffer(words.buffers()[2] or b"", np.uint8)
    lengths = np.minimum(np.diff(string_offsets(words)), HASHED)
    powers = np.full(lengths.max(initial=0), ODD).cumprod()
    ends = offsets_of(lengths)
    hashes = np.empty(len(words), np.uint64)
    first = 0
    while first < len(words):
        end = int(np.searchsorted(ends, ends[first] + HASHED, side="right")) - 1
        bounds = ends[first : end + 1] - ends[first]
        places = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths[first:end])
        bytes_of = content[np.repeat(starts[first:end], lengths[first:end]) + places]
        sums = np.zeros(places.size + 1, np.uint64)
        np.cumsum((bytes_of + np.uint64(1)) * powers[places], out=sums[1:])
        hashes[first:end] = sums[bounds[1:]] - sums[bounds[:-1]]
        first = end
    hashes ^= hashes >> np.uint64(32)
    hashes *= ODD
    return (hashes ^ hashes >> np.uint64(29)).view(np.int64)
