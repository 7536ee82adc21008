"""The two matrices of parameters: their initial values, blocks and averages.

V words, D dimensions, B blocks. Parameters are kept in block order, in which the rows of a block are contiguous. With
one block this is the order of falling load, which is mostly that of word ids.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.sampling import INITIAL, generator
from spark_w2v.types import Float32Array, Float64Array, Int32Array, Int64Array, UInt64Array

Scalar = TypeVar("Scalar", bound=np.generic)

CHUNK = 1 << 20  # numbers drawn at a time, = 4 MB
AVERAGED_BYTES = 4 << 20  # of rows in float64 that are averaged at a time
TOTAL_LOAD = 2.0**52  # sum of the scaled loads; loads that differ by 2^-52 of the whole stay different
LONG_RUN = 1000  # words of equal load that are assigned at once; fewer are as fast one by one
LONGEST_ROW = 1000.0  # length; rows of runs that converge are mostly below 5, and at 30 sigma is 0 or 1 in float32


@dataclass(frozen=True)
class Blocks:
    """The vocabulary cut in B blocks of equal load.

    Args:
        block: (V,) block of each word.
        row: (V,) row of each word within its block.
        order: (V,) word ids, block after block.
        ends: (B + 1,) block b has the positions ends[b] to ends[b + 1] - 1 of `order`.
    """

    block: Int32Array
    row: Int32Array
    order: Int32Array
    ends: Int32Array

    @property
    def count(self) -> int:
        """B."""
        return self.ends.size - 1

    @property
    def bits(self) -> int:
        """Bits that number the rows of the largest block; at least 1."""
        return max(1, int(np.diff(self.ends).max() - 1).bit_length())

    @cached_property
    def numbers(self) -> UInt64Array:
        """(V,) block and row of each word in one number; the block starts at bit 2 * bits."""
        return self.block.astype(np.uint64) << np.uint64(2 * self.bits) | self.row.astype(np.uint64)

    def of(self, matrix: npt.NDArray[Scalar], block: int) -> npt.NDArray[Scalar]:
        """Return the rows of one block of a matrix in block order, as a view."""
        return matrix[self.ends[block] : self.ends[block + 1]]


def assign_blocks(load: Float64Array, count: int) -> Blocks:
    """Assign words to blocks of equal load: each word, by descending load, to the lightest block that has a free row.

    Ties go to the lower word id and to the lower block. Every block has ceil(V / B) rows.

    Args:
        load: (V,) expected occurrences of each word in an epoch.
        count: B, at most V.
    """
    ranked = np.argsort(-load, kind="stable")
    # Integers, so that the loads of blocks add up exactly, and a run of equal words can be assigned at once. At least
    # 1, so that every block gets words even where no word has a load.
    weights = np.maximum(np.rint(load[ranked] * (TOTAL_LOAD / max(float(load.sum()), 1e-290))), 1).astype(np.int64)
    loads, room = np.zeros(count, np.int64), np.full(count, -(-load.size // count))
    assigned = np.empty(load.size, np.int32)
    begins = np.concatenate([[0], np.flatnonzero(np.diff(weights)) + 1, [load.size]])
    long = np.flatnonzero(np.diff(begins) >= LONG_RUN)
    done = 0
    for begin, end in [*zip(begins[long].tolist(), begins[long + 1].tolist(), strict=True), (load.size, load.size)]:
        assigned[done:begin] = _assign_each(weights[done:begin].tolist(), loads, room)
        if begin < end:
            assigned[begin:end] = _assign_equal(int(weights[begin]), end - begin, loads, room)
        done = end
    block = np.empty(load.size, np.int32)
    block[ranked] = assigned
    order = ranked[np.argsort(assigned, kind="stable")].astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=count))]).astype(np.int32)
    row = np.empty(load.size, np.int32)
    row[order] = np.arange(load.size, dtype=np.int32) - ends[block[order]]
    return Blocks(block, row, order, ends)


def _assign_each(weights: list[int], loads: Int64Array, room: Int64Array) -> list[int]:
    """Assign words to blocks one by one and return the block of each; loads and room are changed."""
    heap = [(weight, b) for b, weight in enumerate(loads.tolist()) if room[b]]
    heapq.heapify(heap)
    left = room.tolist()
    assigned = []
    for weight in weights:
        total, b = heap[0]
        assigned.append(b)
        left[b] -= 1
        loads[b] = total + weight
        if left[b]:
            heapq.heapreplace(heap, (total + weight, b))
        else:
            heapq.heappop(heap)
    room[:] = left
    return assigned


def _assign_equal(weight: int, words: int, loads: Int64Array, room: Int64Array) -> Int64Array:
    """Do the same for words of one weight at once: half of the words of a natural vocabulary have the lowest counts.

    The lightest block takes the next word, so the loads at which words are taken never decrease: they are the loads
    that each block goes through, merged.
    """
    low, high = int(loads.min()) - 1, int(loads.max()) + weight * words
    while high - low > 1:  # find the least load up to which the blocks take enough words
        middle = (low + high) // 2
        enough = np.clip((middle - loads) // weight + 1, 0, room).sum() >= words
        low, high = (low, middle) if enough else (middle, high)
    taken = np.clip((high - loads) // weight + 1, 0, room)
    block = np.repeat(np.arange(loads.size), taken)
    nth = np.arange(block.size) - np.repeat(np.cumsum(taken) - taken, taken)
    assigned = block[np.lexsort((block, loads[block] + weight * nth))][:words]
    counts = np.bincount(assigned, minlength=loads.size)
    loads += weight * counts
    room -= counts
    return assigned


def initialise(center: Float32Array, seed: int, places: Int32Array | None = None) -> None:
    """Fill center rows uniformly in [-1/2D, 1/2D), as in word2vec.c. Context rows begin as zeros.

    A row depends only on the seed, the word id and D. CHUNK numbers of one sequence are drawn at a time, so that no
    array as large as a matrix is made.

    Args:
        center: (V, D), written to.
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


def divergence(rows: Float32Array) -> str | None:
    """Return how some rows, (R, D), show that training diverged, or None if they do not."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(rows, rows)
        longest = float(squares.max(initial=0.0)) ** 0.5
    if longest <= LONGEST_ROW:  # never true of NaN, which max passes on
        return None
    if not np.isfinite(rows).all():
        return "a parameter is not finite"
    return f"a vector has the length {longest:.3g}, more than {LONGEST_ROW:,.0f}"


def shortened(rows: Float32Array) -> Float32Array:
    """Return rows, (R, D), where those longer than LONGEST_ROW have half that length, so that they can be trained."""
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.vecdot(rows, rows))
    long = lengths > LONGEST_ROW
    if not long.any():
        return rows
    found = rows.copy()
    found[long] *= (np.float32(LONGEST_ROW / 2) / lengths[long])[:, None]
    return found


def average(copies: Iterable[tuple[Float32Array, Float32Array]], before: Float32Array) -> Float32Array:
    """Return the mean of every row over the copies, weighted by the updates that each copy made to it.

    A copy that never updated a row does not count for it. A row that no copy updated stays as it was. The average of
    one copy is that copy, bit for bit.

    Args:
        copies: (R, D) rows and (R,) updates of each copy, in a fixed order; read one at a time.
        before: (R, D) the rows that all copies started from.
    """
    # float64, because weight * row / weight in float32 differs from the row.
    total = np.zeros(len(before))
    mean = np.zeros(before.shape)
    # Some rows at a time, as each product of all of them would take as much memory as the mean.
    step = max(1, AVERAGED_BYTES // mean[:1].nbytes) if mean.size else 1
    ranges = [slice(a, a + step) for a in range(0, len(before), step)]
    for rows, updates in copies:
        weight = updates.astype(np.float64)
        for some in ranges:
            mean[some] += weight[some, None] * rows[some]
        total += weight
    result = before.copy()
    for some in ranges:
        touched = total[some] > 0
        result[some][touched] = mean[some][touched] / total[some][touched, None]
    return result
