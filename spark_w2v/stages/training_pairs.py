"""ENCODED → the pairs of one epoch, by partition.

B blocks, S slices of an epoch. Partition (s * B + i) * B + j of an epoch holds the pairs of slice s whose center is in
block i and whose context is in block j; the last partition, S * B * B, holds what was drawn, so that the driver knows
every bucket's size before the first round.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark import RDD, Broadcast

from spark_w2v.skipgram.pairs import Drawing, Keys, Layout

# Pairs that a task sorts at a time, at most. = 64 MB with the copy
LOT = 4_000_000
# Arrays of 8 MB are used again; those of 32 MB are new pages for each lot, which took 16 of 35 ns a pair.
USUAL_LOT = 1_000_000
RECORD = 1024  # pairs of a bucket in a lot, about: fewer, and a record costs more than what is in it


@dataclass(frozen=True)
class Plan:
    """What every task of a run needs, broadcast once.

    Args:
        noise: (V,) probability of each row as a noise word, in block order.
        negatives, damping: as in descent.Step.
    """

    drawing: Drawing
    noise: npt.NDArray[np.float64]
    negatives: int
    damping: float


@cache
def keep_modules() -> None:
    """Leave what a Python worker has loaded so far out of its garbage collections, once for all its tasks.

    Spark's daemon collects garbage after each task, and 20 ms went by looking through the modules.
    """
    gc.freeze()


def piece_of(row: tuple[Any, ...]) -> tuple[tuple[int, ...], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """A row of ENCODED: its place, ids and sentence lengths."""
    return (row[0], row[1], row[2]), np.frombuffer(row[3], "<i4"), np.frombuffer(row[4], "<i4")


def shuffle_pairs(
    encoded: "RDD[Any]", plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64]
) -> "RDD[tuple[int, bytes]]":
    """One epoch's pairs, routed to their partitions in one shuffle as raw integers: 4 bytes a pair, 8 where a block
    has more than 65,536 words.

    Lazy; the shuffle's files live as long as the RDD.
    """
    blocks = plan.value.drawing.blocks.count
    buckets = (edges.size - 1) * blocks * blocks
    return encoded.mapPartitions(_route(plan, epoch, edges)).partitionBy(buckets + 1, int)


def _route(
    plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64]
) -> Callable[[Iterable[Any]], Iterator[tuple[int, bytes]]]:
    def route(rows: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
        keep_modules()
        yield from route_pairs(rows, plan.value.drawing, epoch, edges)

    return route


def lot_of(buckets: int) -> int:
    """Pairs that are sorted at a time and cut for so many buckets."""
    return min(LOT, max(USUAL_LOT, RECORD * buckets))


def route_pairs(
    rows: Iterable[Any], drawing: Drawing, epoch: int, edges: npt.NDArray[np.float64]
) -> Iterator[tuple[int, bytes]]:
    """(bucket, pairs) of some rows of ENCODED, then (S * B * B, words and pairs of each bucket)."""
    layout, blocks = Layout.of(drawing.blocks), drawing.blocks.count
    buckets = (edges.size - 1) * blocks * blocks
    lot = lot_of(buckets)
    drawn = np.zeros(buckets + 1, np.int64)
    waiting: list[Keys] = []
    for row in rows:
        keys, words = drawing.pairs(*piece_of(row), epoch, edges)
        drawn[buckets] += words
        waiting.append(keys)
        if sum(map(len, waiting)) >= lot:
            yield from _buckets(waiting, layout, blocks, drawn)
    yield from _buckets(waiting, layout, blocks, drawn)
    yield buckets, drawn.tobytes()


def _buckets(
    waiting: list[Keys], layout: Layout, blocks: int, drawn: npt.NDArray[np.int64]
) -> Iterator[tuple[int, bytes]]:
    """Empty the waiting list, and cut what was in it by bucket."""
    if not waiting:
        return
    keys = np.concatenate(waiting)
    waiting.clear()
    keys.sort()
    # Bits of a pair's number: slice, center block, context block. B need not be a power of two.
    number = np.arange(drawn.size - 1, dtype=np.uint64)
    part, pair = np.divmod(number, np.uint64(blocks * blocks))
    center, context = np.divmod(pair, np.uint64(blocks))
    bits = np.uint64(layout.block)
    prefix = ((part << bits | center) << bits | context) << np.uint64(2 * layout.row)
    cuts = np.append(np.searchsorted(keys, prefix), keys.size)
    pairs = layout.shortened(keys)
    sizes = np.diff(cuts)
    drawn[:-1] += sizes
    for bucket in np.flatnonzero(sizes):
        yield int(bucket), pairs[cuts[bucket] : cuts[bucket + 1]].tobytes()


def drawn_of(counts: Iterable[tuple[int, bytes]]) -> tuple[npt.NDArray[np.int64], int]:
    """What was drawn in an epoch: pairs of each bucket, and words, from the rows of the last partition."""
    total = sum(np.frombuffer(data, np.int64) for _, data in counts)
    assert isinstance(total, np.ndarray), "every task that draws pairs also says how many"
    return total[:-1], int(total[-1])
