"""ENCODED → the pairs of one epoch, at the task that trains them.

A task that draws pairs sorts a chunk of them by bucket and cuts it by the task that trains them. A record is one task's
pairs of one chunk, with the number of pairs of each of its buckets. Spark shuffles the records. The task that trains
writes them to its local disk as they arrive and reads a bucket when it trains it, so its memory does not grow with the
epoch.

B blocks, S sweeps of an epoch, k center blocks of a task. A task's bucket (s * k + c) * B + j holds the pairs of sweep
s whose center is in its center block c and whose context is in block j. Where blocks are large, a bucket is cut in
strips by its center rows (PairCodec.strip), and each strip is sorted and counted for itself.
"""

import gc
import math
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_w2v.skipgram.pairs import PairArray, PairCodec, PairSampler
from spark_w2v.skipgram.scatter import counting_sort
from spark_w2v.text.encoding import segment_of
from spark_w2v.types import Float64Array, Int64Array, UInt64Array

# Most pairs that a task sorts by strip at a time. = 64 MB with the copy
LARGEST_CHUNK = 4_000_000
# Memory of 8 MB is reused; arrays of 32 MB are new pages for each chunk, which took 16 of 35 ns per pair.
USUAL_CHUNK = 1_000_000
RECORD_PAIRS = 1024  # pairs of a strip in a chunk, about: with fewer, a record costs more than its content
SPOOL_BYTES = 64 << 20  # bytes of pairs that a task sorts by strip at a time
FEW_PAIRS = 64  # pairs of a strip in a record: fewer are cheaper to move by index than by slice

# Columns of the shuffle. `words` and `seconds` are those of the whole chunk, on one of its records.
RECORDS = "task int, words long, seconds double, width int, sizes binary, pairs binary, path string, at long"
OPEN_FILES = 256  # most files of other tasks that a task keeps open


@dataclass(frozen=True)
class RunSpec:
    """Specification that every task of a run needs, broadcast once.

    Args:
        sampler: draws the pairs.
        noise: (V,) probability of each row as a noise word, in block order.
        negatives, damping: as in kernel.SgdParams.
    """

    sampler: PairSampler
    noise: Float64Array
    negatives: int
    damping: float


@cache
def keep_modules() -> None:
    """Exclude what a Python worker has loaded so far from garbage collection, once for all its tasks.

    Spark's daemon collects garbage after each task, which took 20 ms for the modules.
    """
    gc.freeze()


@dataclass(frozen=True)
class Record:
    """One task's pairs of one chunk.

    Args:
        task: the task that trains them.
        words: words that the whole chunk comes from, on one of its records; 0 on the others.
        seconds: time that drawing the chunk took, likewise.
        sizes: (S * k * B * strips,) number of pairs of each strip of the task's buckets.
        pairs: stored pairs, one strip after the other; empty where they are in a file.
        path, at: that file, and the byte at which they begin.
    """

    task: int
    words: int
    seconds: float
    sizes: npt.NDArray[np.unsignedinteger[Any]]
    pairs: PairArray
    path: str = ""
    at: int = 0

    def batch(self) -> pa.RecordBatch:
        """Return the record as a row of RECORDS, without a copy of the pairs."""
        return pa.RecordBatch.from_arrays(
            [
                pa.array([self.task], pa.int32()),
                pa.array([self.words], pa.int64()),
                pa.array([self.seconds], pa.float64()),
                pa.array([self.sizes.itemsize], pa.int32()),
                _binary(self.sizes),
                _binary(self.pairs),
                pa.array([self.path], pa.string()),
                pa.array([self.at], pa.int64()),
            ],
            ["task", "words", "seconds", "width", "sizes", "pairs", "path", "at"],
        )


def _binary(array: npt.NDArray[Any]) -> pa.Array:
    ends = pa.py_buffer(np.array([0, array.nbytes], np.int32))
    return pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(array)])


def read_records(batch: pa.RecordBatch, dtype: np.dtype[Any]) -> Iterator[Record]:
    """Yield the records of some rows of RECORDS.

    Args:
        dtype: type of the stored pairs.
    """
    tasks, words, seconds, widths = (batch.column(name).to_pylist() for name in ("task", "words", "seconds", "width"))
    sizes, pairs = batch.column("sizes"), batch.column("pairs")
    paths, places = batch.column("path").to_pylist(), batch.column("at").to_pylist()
    for row, task in enumerate(tasks):
        yield Record(
            task,
            words[row],
            seconds[row],
            np.frombuffer(sizes[row].as_buffer(), f"<u{widths[row]}"),
            np.frombuffer(pairs[row].as_buffer(), dtype),
            paths[row],
            places[row],
        )


def file_pairs(records: Iterable[Record], directory: str) -> Iterator[Record]:
    """Write the pairs of records to a file that all tasks can read, and yield the records without them.

    Only the place in the file goes through the shuffle. For local mode, where shuffling the pairs took a seventh of the
    processor time of training (docs/measurements.md).

    Args:
        directory: for the files; the caller removes it.
    """
    # A unique name: a task may run twice, and one attempt must not overwrite the file of the other.
    path = os.path.join(directory, uuid.uuid4().hex)
    at = 0
    with open(path, "wb") as file:
        for record in records:
            file.write(record.pairs.data)  # tofile() does not say that the disk is full
            file.flush()
            yield replace(record, pairs=record.pairs[:0], path=path, at=at)
            at += record.pairs.nbytes


def chunk_size(strips: int) -> int:
    """Return the number of pairs to sort by strip at a time.

    Args:
        strips: number of them in all buckets.
    """
    return min(LARGEST_CHUNK, max(USUAL_CHUNK, RECORD_PAIRS * strips))


def draw_records(
    rows: Iterable[tuple[Any, ...]],
    sampler: PairSampler,
    epoch: int,
    edges: Float64Array,
    ranges: tuple[tuple[int, int], ...],
    first: int = 0,
) -> Iterator[Record]:
    """Draw the pairs of some rows of ENCODED, as records.

    Args:
        edges: (S + 1,) edges of the epoch's sweeps.
        ranges: (T,) center blocks of each task: the first, and one after the last.
        first: sweep to begin with; pairs of the sweeps before it are left out.
    """
    sweeps = edges.size - 1
    chunk = chunk_size(sweeps * sampler.blocks.count**2 << PairCodec.of(sampler.blocks, sweeps).strip)
    waiting: list[UInt64Array] = []
    size = words = 0
    begun = time.monotonic()
    for row in rows:
        segment = segment_of(row)
        for keys, kept in sampler.parts(*segment[:3], epoch, edges, weights=segment.weights):
            waiting.append(keys)
            size += keys.size
            words += kept
            if size >= chunk:
                yield from _cut(waiting, words, begun, sampler, sweeps, ranges, first)
                size = words = 0
                begun = time.monotonic()
    yield from _cut(waiting, words, begun, sampler, sweeps, ranges, first)


def _cut(
    waiting: list[UInt64Array],
    words: int,
    begun: float,
    sampler: PairSampler,
    sweeps: int,
    ranges: tuple[tuple[int, int], ...],
    first: int,
) -> Iterator[Record]:
    """Empty the waiting list, and yield its pairs as one record per task."""
    if not waiting:
        return
    codec, blocks = PairCodec.of(sampler.blocks, sweeps), sampler.blocks.count
    keys = np.concatenate(waiting)
    waiting.clear()
    # A pair's number without what is stored: sweep, center block, context block, strip. B need not be a power of two,
    # so not every number belongs to a bucket.
    codes = (keys >> np.uint64(2 * codec.row - codec.strip)).astype(np.int32)
    grid = (sweeps, 1 << codec.block, 1 << codec.block, 1 << codec.strip)
    begins, pairs = counting_sort(codes, math.prod(grid), keys.astype(codec.stored))
    sizes = np.diff(begins).reshape(grid)[first:, :blocks, :blocks]
    starts = begins[:-1].reshape(grid)[first:, :blocks, :blocks]
    width = np.min_scalar_type(int(sizes.max(initial=0)))
    seconds = time.monotonic() - begun
    for task, (begin, end) in enumerate(ranges):
        mine = np.zeros((sweeps, end - begin, blocks, 1 << codec.strip), width)
        mine[first:] = sizes[:, begin:end]
        if not mine.any() and not words:
            continue
        found = [
            pairs[starts[s, begin, 0, 0] : starts[s, end - 1, -1, -1] + sizes[s, end - 1, -1, -1]]
            for s in range(sweeps - first)
        ]
        yield Record(task, words, seconds, mine.ravel(), np.concatenate(found))
        words, seconds = 0, 0.0


class Spool:
    """Pairs of one task, on its local disk. The file has no name, so that nothing is left of it, however the task ends.

    Pairs that are in a file already stay there.

    Args:
        buckets: S * k * B.
        codec: of the pairs.
        directory: for the file.
    """

    def __init__(self, buckets: int, codec: PairCodec, directory: str) -> None:
        self.words, self.pairs, self.draw_seconds = 0, 0, 0.0
        self._codec, self._dtype, self._strips = codec, codec.stored, buckets << codec.strip
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # lives as long as this
        self._index = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._bytes = 0
        self._sources: list[str] = []  # file of each run; "" is the spool's own
        self._open: dict[str, BinaryIO] = {}
        self._places: Int64Array | None = None  # the index, once it has been read
        self._waiting: list[Record] = []
        self._waits = 0

    def add(self, record: Record) -> None:
        """Add a record."""
        self.words += record.words
        self.draw_seconds += record.seconds
        self.pairs += int(record.sizes.sum(dtype=np.int64))
        if record.path:
            self._index_run(np.cumsum(record.sizes, dtype=np.int64), record.at, record.path)
            return
        self._waiting.append(record)
        self._waits += record.pairs.nbytes
        if self._waits >= SPOOL_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the waiting records, sorted by strip. Call it after the last record."""
        if not self._waits:
            self._index.flush()
            return
        sizes = np.zeros(self._strips, np.int64)
        for record in self._waiting:
            sizes += record.sizes
        ends = np.cumsum(sizes)
        ordered = merge_records([(record.sizes, record.pairs) for record in self._waiting], ends - sizes, self._dtype)
        self._waiting.clear()
        self._waits = 0
        self._index_run(ends, self._bytes, "")
        self._file.write(ordered.data)
        self._bytes += ordered.nbytes
        self._index.flush()
        self._file.flush()

    def _index_run(self, ends: Int64Array, at: int, source: str) -> None:
        """Add a run to the index: where each strip begins in its file, in pairs, and where the last one ends."""
        self._index.write((np.concatenate([[0], ends]) + at // self._dtype.itemsize).data)
        self._sources.append(source)

    def _places_of(self, bucket: int) -> Int64Array:
        """Return the (runs, strips + 1) places of a bucket, and where it ends."""
        runs = len(self._sources)
        if not runs:
            return np.empty((0, 2), np.int64)
        if self._places is None or len(self._places) < runs:
            self._places = np.memmap(self._index, np.int64, "r", shape=(runs, self._strips + 1))
        first, end = bucket << self._codec.strip, (bucket + 1) << self._codec.strip
        return self._places[:, first : end + 1]

    def bucket(self, number: int) -> PairArray:
        """Return the pairs of a bucket, in any order: records come out of a shuffle in any order."""
        places = self._places_of(number)
        pairs = np.empty(int((places[:, -1] - places[:, 0]).sum()), self._dtype)
        at = 0
        for begin, end, source in zip(places[:, 0].tolist(), places[:, -1].tolist(), self._sources, strict=True):
            if begin == end:
                continue
            descriptor = self._file_of(source).fileno()
            room = pairs[at : at + end - begin].data.cast("B")
            offset = begin * self._dtype.itemsize
            while room:
                count = os.preadv(descriptor, [room], offset)
                assert count, "the file is as long as its index says"
                room, offset = room[count:], offset + count
            at += end - begin
        return self._codec.restore(pairs, np.diff(places))

    def _file_of(self, source: str) -> BinaryIO:
        if not source:
            return self._file
        if source not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[source] = open(source, "rb", buffering=0)  # noqa: SIM115  # close() closes it
        return self._open[source]

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()
        self._file.close()
        self._index.close()


def merge_records(
    records: list[tuple[npt.NDArray[Any], PairArray]], starts: Int64Array, dtype: np.dtype[Any]
) -> PairArray:
    """Return the pairs of some records, one strip after the other.

    Args:
        records: sizes of the strips, (strips,), and pairs of each record.
        starts: (strips,) where each strip begins in the result.
        dtype: type of the stored pairs.
    """
    if len(records) == 1:
        return records[0][1]
    starts = starts.copy()
    result: PairArray = np.empty(sum(pairs.size for _, pairs in records), dtype)
    for sizes, pairs in records:
        wide = sizes.astype(np.int64)
        own = np.cumsum(wide) - wide
        filled = np.flatnonzero(wide)
        if pairs.size < FEW_PAIRS * filled.size:
            result[np.repeat(starts - own, wide) + np.arange(pairs.size)] = pairs
        else:
            for strip in filled.tolist():
                to, at, size = starts[strip], own[strip], wide[strip]
                result[to : to + size] = pairs[at : at + size]
        starts += wide
    return result
