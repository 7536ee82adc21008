"""Weights of sentences: fixed-point numbers, so that their sums do not depend on the order of the rows."""

import numpy as np

from spark_w2v.types import Int32Array, Int64Array

BITS = 16
UNITS = 1 << BITS  # of the weight 1; a weight below half a unit is 0
MOST_WEIGHT = 1000  # a sentence is there as often while its pairs are drawn


def loads_of(lengths: Int64Array, weights: Int32Array) -> Int64Array:
    """Return the words that each sentence may be in an epoch, (S,), its own at least.

    Args:
        lengths: (S,) words of each sentence.
        weights: (S,) in units.
    """
    return lengths * np.maximum(-(-weights.astype(np.int64) // UNITS), 1)
