"""The two matrices: initialise, cut in blocks, average.

V words, D dimensions, B blocks. Parameters are kept in block order, in which the rows of a block are contiguous; one
block is the order of word ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.sampling import INITIAL, generator

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)

CHUNK = 1 << 20  # numbers drawn at a time, = 4 MB


@dataclass(frozen=True)
class Blocks:
    """The vocabulary cut in B blocks of equal load.

    Args:
        block: (V,) block of each word.
        row: (V,) row of each word within its block.
        order: (V,) word ids, block after block.
        ends: (B + 1,) block b has the places ends[b] to ends[b + 1] of the order.
    """

    block: Ints
    row: Ints
    order: Ints
    ends: Ints

    @property
    def count(self) -> int:
        """B."""
        return self.ends.size - 1

    @property
    def bits(self) -> int:
        """Bits that number the rows of the largest block; at least 1."""
        return max(1, int(np.diff(self.ends).max() - 1).bit_length())

    @cached_property
    def numbers(self) -> npt.NDArray[np.uint64]:
        """(V,) each word's block, two rows' bits above its row."""
        return self.block.astype(np.uint64) << np.uint64(2 * self.bits) | self.row.astype(np.uint64)

    def of(self, matrix: npt.NDArray[Scalar], block: int) -> npt.NDArray[Scalar]:
        """The rows of one block of a matrix in block order: a view."""
        return matrix[self.ends[block] : self.ends[block + 1]]


def deal_blocks(load: Doubles, count: int) -> Blocks:
    """Blocks of equal load: words dealt by falling load, there and back again (boustrophedon).

    Args:
        load: (V,) how often each word is trained on.
        count: B, at most V.
    """
    rank = np.empty(load.size, np.int64)
    rank[np.argsort(-load, kind="stable")] = np.arange(load.size)
    turn, seat = np.divmod(rank, count)
    block = np.where(turn % 2, count - 1 - seat, seat).astype(np.int32)
    order = np.lexsort((rank, block)).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=count))]).astype(np.int32)
    row = np.empty(load.size, np.int32)
    row[order] = np.arange(load.size, dtype=np.int32) - ends[block[order]]
    return Blocks(block, row, order, ends)


def initialise(center: Floats, context: Floats, seed: int, places: Ints | None = None) -> None:
    """Fill center rows uniformly in [-1/2D, 1/2D) and context rows with zeros, as in word2vec.c.

    A row depends on the seed, the word id and D alone. CHUNK numbers of one sequence are drawn at a time, so that
    nothing of the size of a matrix is made.

    Args:
        center, context: (V, D), written to.
        places: (V,) row of each word; None where rows are in the order of word ids.
    """
    words, dimensions = center.shape
    rng = generator(seed, INITIAL)
    step = max(1, CHUNK // dimensions)
    for start in range(0, words, step):
        stop = min(start + step, words)
        rows = rng.random((stop - start, dimensions), dtype=np.float32)
        rows -= np.float32(0.5)
        rows /= np.float32(dimensions)
        center[slice(start, stop) if places is None else places[start:stop]] = rows
    context[:] = 0


def average(copies: Iterable[tuple[Floats, Floats]], before: Floats) -> Floats:
    """Mean of every row over the copies, weighted by the updates that each copy made to it.

    A copy that never touched a row has no say in it; a row that no copy touched stays as it was. One copy alone comes
    out bit for bit.

    Args:
        copies: (R, D) rows and (R,) updates of each, in a fixed order; one at a time is held.
        before: (R, D) the rows that all copies started from.
    """
    # float64: weight * row / weight in float32 would not give the row back.
    total = np.zeros(len(before))
    mean = np.zeros(before.shape)
    for rows, updates in copies:
        weight = updates.astype(np.float64)
        mean += weight[:, None] * rows
        total += weight
    touched = total > 0
    result = before.copy()
    result[touched] = mean[touched] / total[touched, None]
    return result
