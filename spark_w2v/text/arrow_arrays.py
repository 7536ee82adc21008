"""Buffers and offsets of Arrow's arrays of strings and lists."""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.types import BoolArray, Int64Array


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert to another of Arrow's types for the same values; strings that are not UTF-8 stay as they are."""
    if array.type.equals(kind):
        return array
    # By way of bytes, because from one type of strings to another Arrow refuses what is not UTF-8.
    if pa.types.is_string(kind) and not pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary()).cast(pa.binary())
        return pa.StringArray.from_buffers(len(array), *array.buffers()[1:], array.buffers()[0], -1, array.offset)
    return array.cast(kind)


def booleans(array: pa.Array) -> BoolArray:
    """(n,) with null as False."""
    found: BoolArray = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return found


def composed(text: pa.Array) -> pa.Array:
    """Strings in Unicode's NFC."""
    if _composes():
        return pc.utf8_normalize(text, "NFC")
    words = [None if word is None else unicodedata.normalize("NFC", word) for word in text.to_pylist()]
    return pa.array(words, text.type)


@functools.cache
def _composes() -> bool:
    """Whether Arrow composes: in the wheels of pyarrow 19 to 25 it decomposes what it is to compose."""
    composed: bool = pc.utf8_normalize(pa.array(["e\u0301"]), "NFC").to_pylist() == ["\u00e9"]
    return composed


def once(array: pa.Array) -> pa.Array:
    """Each value the first time that it is there, and null in place of the others."""
    first = np.zeros(len(array), np.bool_)
    first[pc.index_in(array.unique(), value_set=array).to_numpy()] = True
    return pc.if_else(pa.array(first), array, pa.scalar(None, array.type))


def offsets_of(lengths: Int64Array | BoolArray) -> Int64Array:
    """(n + 1,) where each of n runs starts, and the end of the last."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def string_offsets(text: pa.Array) -> npt.NDArray[np.int32]:
    """(n + 1,) where each of n strings, or binaries, starts in the buffer of their bytes, and the end of the last."""
    return np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]


def string_bytes(text: pa.Array) -> npt.NDArray[np.uint8]:
    """The UTF-8 of all strings of an array, or the bytes of all binaries, one after the other."""
    content = text.buffers()[2]
    if not len(text) or content is None:
        return np.empty(0, np.uint8)
    offsets = string_offsets(text)
    return np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]


def flatten_lists(lists: pa.Array) -> tuple[Int64Array, pa.Array]:
    """Offsets (n + 1,) from 0 and elements of n lists; a null list counts as an empty one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets_of(lengths), lists.flatten()
