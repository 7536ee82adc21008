"""Embeddings → the words nearest to a word: cosines of unit vectors, and the closest spellings of words unknown.

Letters: V words, D dimensions.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rapidfuzz.distance import OSA
from rapidfuzz.process import cdist

from spark_w2v.errors import UserError
from spark_w2v.skipgram.nearest_rows import NearestRows, unit_rows
from spark_w2v.types import Float32Array, Int64Array

ROWS = 1 << 14  # divided at a time


def word_id(words: pa.StringArray, word: str) -> int | None:
    """The id of a word; None where it has no vector as it is spelled, nor in NFC, as tokenizers make it."""
    for spelling in (word, unicodedata.normalize("NFC", word)):
        try:
            index = pc.index(words, pa.scalar(spelling, pa.string())).as_py()
        except UnicodeEncodeError:  # an argument that was not UTF-8
            return None
        if index >= 0:
            return int(index)
    return None


def unit_vectors(vectors: Float32Array) -> Float32Array:
    """(V, D) of length 1; a zero vector stays zero, so that its cosines are 0."""
    units = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), ROWS):  # as the quotients have 64 bits before they are rounded
        units[start : start + ROWS] = unit_rows(vectors[start : start + ROWS])
    return units


def whole(num: Any) -> int:
    """Return how many neighbors are asked for.

    Raises:
        UserError: it is not a whole number of at least 1.
    """
    is_whole = isinstance(num, int | np.integer) or (isinstance(num, float | np.floating) and float(num).is_integer())
    if not is_whole or num < 1:
        raise UserError(f"num is {num!r}; it must be a whole number of at least 1.")
    return int(num)


def hint(words: pa.StringArray, word: str) -> str:
    """Return the end of the sentence that a word has no vector: the words that are spelled much like it."""
    near = closest_spellings(words, word)
    return f"; near are {', '.join(near)}." if near else "."


def direction_of(vector: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """Return a vector that a user gave, at a length of which float32 has the square.

    Raises:
        UserError: it has not D numbers, all finite.
    """
    try:
        vector = vector.astype(np.float64)
    except (TypeError, ValueError):
        raise UserError(f"the vector has values of type {vector.dtype}; it must have numbers.") from None
    if vector.shape != (dimensions,):
        found = f"{vector.size} numbers" if vector.ndim == 1 else f"the shape {vector.shape}"
        raise UserError(f"the vector has {found}; it must have {dimensions} numbers, in one dimension.")
    if not np.isfinite(vector).all():
        raise UserError("the vector has numbers that are not finite; all must be.")
    # By a power of two, which changes no digit: float32 has no room for the squares of 1e20.
    return np.asarray(np.ldexp(vector, -np.frexp(np.abs(vector).max())[1]))


def nearest(units: Float32Array, direction: NDArray[Any], excluded: Sequence[int], top: int) -> list[tuple[int, float]]:
    """Ids and cosines of the nearest words, nearest first, ties by id.

    Args:
        units: (V, D) of length 1.
        direction: (D,) of any length.
    """
    cosines = units @ unit_vectors(np.asarray(direction, np.float32)[None])[0]
    cosines[list(excluded)] = -np.inf
    top = min(top, len(units) - len(set(excluded)))
    if top < 1:
        return []
    least = np.partition(cosines, len(cosines) - top)[len(cosines) - top]
    candidates = np.flatnonzero(cosines >= least)
    order = candidates[np.lexsort((candidates, -cosines[candidates]))][:top]
    return [(int(i), float(cosines[i])) for i in order]


def nearest_rows(units: Float32Array, ids: Int64Array, near: int) -> tuple[Int64Array, Float32Array]:
    """(len(ids), near) the nearest other rows, nearest first, ties by id, and their cosines.

    Args:
        units: (V, D) of length 1.
        ids: the rows that are asked for; each takes some 100 bytes for each of its nearest.
        near: less than V.
    """
    if not near or not ids.size:
        return np.zeros((ids.size, near), np.int64), np.zeros((ids.size, near), np.float32)
    found = NearestRows(units[ids], ids, near)
    found.add(units, 0)
    return found.result()


def analogy(units: Float32Array, a: int, b: int, c: int, top: int) -> list[tuple[int, float]]:
    """a is to b as c is to what: nearest to b - a + c (3CosAdd, Mikolov et al. 2013), the three left out."""
    return nearest(units, units[b] - units[a] + units[c], [a, b, c], top)


def closest_spellings(words: pa.StringArray, word: str, top: int = 5) -> list[str]:
    """Return the words with the fewest changes of a character or swaps of two, the most frequent first among equals."""
    wanted = _comparable(word)
    limit = max(1, min(len(wanted) // 3, 4))
    near = pc.indices_nonzero(
        pc.less_equal(pc.abs(pc.subtract(pc.utf8_length(words), len(wanted))), limit + 1)  # case may change lengths
    ).to_numpy()
    candidates = words.take(pa.array(near)).to_pylist()
    distances = edit_distances([_comparable(candidate) for candidate in candidates], wanted)
    order = np.argsort(distances, kind="stable")[:top]
    return [candidates[i] for i in order if distances[i] <= limit]


def edit_distances(candidates: Sequence[str], word: str) -> NDArray[np.int16]:
    """(len(candidates),) insertions, deletions, replacements and swaps of neighbours that lead to the word."""
    distances: NDArray[np.int16] = cdist([word], candidates, scorer=OSA.distance, dtype=np.int16)[0]
    return distances


def _comparable(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold()
