"""ENCODED → the pairs of one epoch, by bucket.

B blocks, S slices of an epoch. Bucket (s * B + i) * B + j of an epoch holds the pairs of slice s whose center is in
block i and whose context is in block j; the last one, S * B * B, holds what was drawn, so that the driver knows every
bucket's size before the first round.

On one machine the tasks that draw write files, and the tasks that train read them; on a cluster Spark's shuffle does
both. Raw integers either way, in the same records, 4 bytes a pair, 8 where a block has more than 65,536 words.
"""

import gc
import os
import tempfile
import uuid
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
INDEX = ".index"


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


Records = Iterable[bytes]
Train = Callable[[int, Records], Iterable[Any]]  # what a task does with the pairs of a bucket


class ShuffledPairs:
    """One epoch's pairs in a shuffle of Spark's, a bucket a partition; its files live as long as this does.

    Args:
        drawn: (S * B * B,) pairs of each bucket.
        words: that they come from.
    """

    def __init__(
        self, encoded: "RDD[Any]", plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64]
    ) -> None:
        buckets = bucket_count(plan.value.drawing, edges)
        self._context = encoded.context
        self._pairs = encoded.mapPartitions(_route(plan, epoch, edges)).partitionBy(buckets + 1, int)
        self.drawn, self.words = drawn_of(data for _, data in self._context.runJob(self._pairs, list, [buckets]))

    def train(self, task: Train, buckets: list[int]) -> list[Any]:
        """What tasks say that get a bucket each."""

        def take(bucket: int, rows: Iterable[tuple[int, bytes]]) -> Iterable[Any]:
            return task(bucket, (data for _, data in rows))

        return self._context.runJob(self._pairs.mapPartitionsWithIndex(take), list, buckets)

    def close(self) -> None:
        """Nothing: Spark removes the files of a shuffle that nobody holds."""


class FiledPairs:
    """One epoch's pairs in files that all tasks see, one of each task that drew; as ShuffledPairs otherwise.

    Nothing passes through the JVM, which is most of what a shuffle costs on one machine (docs/decisions.md).
    """

    def __init__(
        self, encoded: "RDD[Any]", plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64]
    ) -> None:
        self._context = encoded.context
        # Spark removes its own temporary directory when the session ends, whatever becomes of us.
        self._folder = tempfile.TemporaryDirectory(prefix="pairs-", dir=self._context._temp_dir)
        self._files = encoded.mapPartitions(_write(plan, epoch, edges, self._folder.name)).collect()
        buckets = bucket_count(plan.value.drawing, edges)
        self._buckets: RDD[Any] = self._context.parallelize((), buckets)
        self.drawn, self.words = drawn_of(read_records(self._files, buckets))

    def train(self, task: Train, buckets: list[int]) -> list[Any]:
        """What tasks say that get a bucket each."""
        files = self._files

        def take(bucket: int, nothing: Iterable[Any]) -> Iterable[Any]:
            list(nothing)  # a worker that has not seen the end of its input is ended after its task
            return task(bucket, read_records(files, bucket))

        return self._context.runJob(self._buckets.mapPartitionsWithIndex(take), list, buckets)

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()


def _route(
    plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64]
) -> Callable[[Iterable[Any]], Iterator[tuple[int, bytes]]]:
    def route(rows: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
        keep_modules()
        yield from route_pairs(rows, plan.value.drawing, epoch, edges)

    return route


def _write(
    plan: "Broadcast[Plan]", epoch: int, edges: npt.NDArray[np.float64], folder: str
) -> Callable[[Iterable[Any]], Iterator[str]]:
    route = _route(plan, epoch, edges)

    def write(rows: Iterable[Any]) -> Iterator[str]:
        # A name of its own: a task may be running twice, and the attempt that lost must not write over the other.
        path = os.path.join(folder, uuid.uuid4().hex)
        write_records(path, route(rows), bucket_count(plan.value.drawing, edges) + 1)
        yield path

    return write


def write_records(path: str, records: Iterable[tuple[int, bytes]], buckets: int) -> None:
    """Write records one after the other, and beside them where those of each bucket lie.

    Args:
        records: (bucket, bytes).
        buckets: so many, from 0.
    """
    places = []
    at = 0
    with open(path, "wb") as file:
        for bucket, data in records:
            places.append((bucket, at, len(data)))
            at += file.write(data)
    found = np.array(places, np.int64).reshape(-1, 3)
    found = found[np.argsort(found[:, 0], kind="stable")]
    first = np.searchsorted(found[:, 0], np.arange(buckets + 1))  # of each bucket, and the end of the last
    np.concatenate([[buckets], first, found[:, 1:].ravel()]).tofile(path + INDEX)


def read_records(paths: Iterable[str], bucket: int) -> Iterator[bytes]:
    """The records of a bucket in some files of write_records."""
    for path in paths:
        index = np.memmap(path + INDEX, np.int64, "r")  # where there are many buckets, little of it is looked at
        places = index[index[0] + 2 :].reshape(-1, 2)
        with open(path, "rb") as file:
            for at, size in places[index[bucket + 1] : index[bucket + 2]].tolist():
                file.seek(at)
                yield file.read(size)


def bucket_count(drawing: Drawing, edges: npt.NDArray[np.float64]) -> int:
    """S * B * B.

    Args:
        edges: of the epoch's slices.
    """
    return int(edges.size - 1) * drawing.blocks.count**2


def lot_of(buckets: int) -> int:
    """Pairs that are sorted at a time and cut for so many buckets."""
    return min(LOT, max(USUAL_LOT, RECORD * buckets))


def route_pairs(
    rows: Iterable[Any], drawing: Drawing, epoch: int, edges: npt.NDArray[np.float64]
) -> Iterator[tuple[int, bytes]]:
    """(bucket, pairs) of some rows of ENCODED, then (S * B * B, words and pairs of each bucket)."""
    layout, blocks, buckets = Layout.of(drawing.blocks), drawing.blocks.count, bucket_count(drawing, edges)
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


def drawn_of(counts: Records) -> tuple[npt.NDArray[np.int64], int]:
    """What was drawn in an epoch: pairs of each bucket, and words, from the records of the last bucket."""
    total = sum(np.frombuffer(data, np.int64) for data in counts)
    assert isinstance(total, np.ndarray), "every task that draws pairs also says how many"
    return total[:-1], int(total[-1])
