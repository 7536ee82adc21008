"""Vectors of words from the contexts in which they occur ("à la carte", Khodak et al. 2018).

The vector of a word is a linear map of the mean of the vectors of the words around it, and the map is fitted on words
that have vectors.

V words, D dimensions, S slots: words whose contexts are summed, F words that a map is fitted on, T targets of each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from spark_w2v.skipgram.nearest_rows import unit_rows
from spark_w2v.types import Float32Array, Float64Array, Int32Array, Int64Array

LARGEST = 1000.0  # number of a vector, times UNITS less than 2^31
ROWS = 1 << 16  # that are made whole at a time
WEIGHT_UNITS = 256  # of the weight of a sentence, at least; more where the sums have room for them
MOST_WEIGHT_UNITS = 1 << 16
UNITS = 1 << 20  # of a number in a sum; whole numbers, as sums of them do not depend on the order
RIDGES = 10.0 ** np.arange(-6, 1.25, 0.25)  # tried, times the mean square of the singular values of the weighted means
HELD = 1 << 18  # contexts of words that are held before they are summed


class ContextVectors(NamedTuple):
    """Contribution of each word to the sums of the words next to it.

    Args:
        rows: (C, D + 1) in units: the vector times the keep probability, and this probability. Words are ids below C,
            the most frequent ones. Long vectors are shortened, all of them by the same factor, to fit.
    """

    rows: Int32Array

    @classmethod
    def of(cls, vectors: Float32Array, keep: Float32Array) -> "ContextVectors":
        """Return those of (C, D) vectors of words that are trained on with probability `keep`, (C,).

        A word without a vector has a keep probability of 0.
        """
        longest = max(float(vectors.max(initial=0.0)), -float(vectors.min(initial=0.0)))
        factor = UNITS / max(1.0, longest / LARGEST)
        rows = np.empty((len(vectors), vectors.shape[1] + 1), np.int32)
        for start in range(0, len(rows), ROWS):
            some = slice(start, start + ROWS)
            weight = keep[some].astype(np.float64)[:, None]
            rows[some, :-1] = np.rint(vectors[some] * (weight * factor))
            rows[some, -1:] = np.rint(weight * UNITS)
        return cls(rows)

    def most_occurrences(self, window: int, shrinks: bool, longest: int | None = None) -> int:
        """Return of how many occurrences, by weight in WEIGHT_UNITS, a sum surely fits in 64 bits.

        Args:
            window, shrinks: as of context_sums.
            longest: words of the longest sentence, past which no context is; None where it is not known.
        """
        largest = max(1, int(self.rows.max(initial=0)), -int(self.rows.min(initial=0)))
        reach = window if longest is None else max(1, min(window, longest - 1))
        contexts = reach * (2 * window - reach + 1 if shrinks else 2)
        return (1 << 62) // (largest * WEIGHT_UNITS * contexts)


class ContextSums(NamedTuple):
    """Sums over the contexts of some slots.

    Args:
        slots: (s,) ascending, unique.
        sums: (s, D + 1) in units.
    """

    slots: Int32Array
    sums: Int64Array


def context_sums(
    ids: Int32Array,
    lengths: Int32Array,
    slot_of: Int32Array,
    contexts: ContextVectors,
    window: int,
    shrinks: bool = True,
    weights: Float64Array | None = None,
    units: int = WEIGHT_UNITS,
) -> Iterator[ContextSums]:
    """Yield sums over the contexts of the words with a slot in some sentences; together, over all of them.

    Some of the contexts are summed at a time, so that memory does not grow with the window.

    Args:
        ids: (n,) words of all sentences.
        lengths: words of each sentence; sums to n.
        slot_of: (V,) slot of each word; -1 for one without.
        window: largest reach.
        shrinks: a context at distance d counts window - d + 1 times, as often as a reach from 1 to window comes to it;
            if false, once.
        weights: of each sentence; None where all are 1.
        units: of the weight 1.
    """
    of_sentence = None if weights is None else np.rint(weights * units).astype(np.int64)
    sentence = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
    slot, is_context = slot_of[ids], ids < len(contexts.rows)
    held: list[tuple[Int32Array, Int32Array, Int64Array]] = []
    count = 0
    for distance in range(1, min(window, ids.size - 1) + 1):
        together = sentence[distance:] == sentence[:-distance]
        if not together.any():
            break
        here, there = slice(None, -distance), slice(distance, None)
        for center, context in ((here, there), (there, here)):
            found = np.flatnonzero(together & (slot[center] >= 0) & is_context[context])
            counted_times = np.full(found.size, window - distance + 1 if shrinks else 1, np.int64)
            if of_sentence is not None:
                counted_times *= of_sentence[sentence[center][found]]
            held.append((slot[center][found], ids[context][found], counted_times))
            count += found.size
        if count >= HELD:
            yield _summed(held, contexts)
            held, count = [], 0
    if count:
        yield _summed(held, contexts)


def weight_units(most: int, occurrences: int) -> int:
    """Return the units of weights that sums have room for, a power of two: of the weight 1 they change no mean.

    Args:
        most: occurrences that sums have room for with WEIGHT_UNITS.
        occurrences: that the most frequent word has.
    """
    units = WEIGHT_UNITS
    while units < MOST_WEIGHT_UNITS and 2 * units // WEIGHT_UNITS * occurrences <= most:
        units *= 2
    return units


def _summed(held: list[tuple[Int32Array, Int32Array, Int64Array]], contexts: ContextVectors) -> ContextSums:
    """Return the sums over some contexts.

    Args:
        held: slots, the words next to them, and how often each counts.
    """
    rows, columns, times = (np.concatenate(part) for part in zip(*held, strict=True))
    slots, row = np.unique(rows, return_inverse=True)
    words, column = np.unique(columns, return_inverse=True)
    counted = sparse.csr_array((times, (row, column)), shape=(slots.size, words.size))
    return ContextSums(slots.astype(np.int32), counted @ contexts.rows[words].astype(np.int64))


def means_of(sums: Int64Array) -> Float64Array:
    """Return (s, D) means of the contexts from (s, D + 1) sums; NaN for a word without contexts."""
    with np.errstate(invalid="ignore"):
        found: Float64Array = sums[:, :-1] / sums[:, -1:]
    return found


def turn_rows(rows: Float32Array, directions: Float32Array) -> Float32Array:
    """Return rows, (R, D), turned to the mean of their own direction and of others, with the length that they had.

    Rows for which that mean is exactly zero stay as they are.

    Args:
        directions: (R, D) sums of vectors of length 1, each of which counts as much as the row.
    """
    lengths = np.sqrt(np.einsum("rd,rd->r", rows, rows, dtype=np.float64))[:, None]
    between = unit_rows(unit_rows(rows) + directions)
    return np.where(between.any(axis=1, keepdims=True), between * lengths, rows).astype(np.float32)


def fit_map(means: Float64Array, vectors: Float64Array, counts: Int64Array) -> Float64Array:
    """Return the (D, T) map from means to vectors by ridge regression, weighted by the logarithm of the counts.

    The ridge is that of RIDGES with the least error by generalized cross-validation (Golub, Heath, Wahba 1979). Without
    one, few words in many dimensions fit their noise.

    Args:
        means: (F, D) of words that have vectors.
        vectors: (F, T) of these words.
        counts: (F,) occurrences, which the means are of.
    """
    if not len(means):
        return np.zeros((means.shape[1], vectors.shape[1]))
    weight = np.sqrt(np.log(counts + 1.0))[:, None]
    targets = vectors * weight
    left, sizes, right = np.linalg.svd(means * weight, full_matrices=False)
    onto = left.T @ targets
    squares, explained = sizes**2, (onto**2).sum(axis=1)
    unexplained = max(0.0, (targets**2).sum() - explained.sum())  # below it by rounding alone
    ridges = RIDGES * (squares.mean() or 1.0)
    left_over = ridges[:, None] / (squares + ridges[:, None])  # of each direction, by each ridge
    errors = (unexplained + left_over**2 @ explained) / (len(means) - (1 - left_over).sum(axis=1)) ** 2
    ridge = ridges[errors.argmin()]
    found: Float64Array = right.T @ ((sizes / (squares + ridge))[:, None] * onto)
    return found
