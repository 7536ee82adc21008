"""An epoch of `replicas`: each task trains a copy of its own on its share of the sentences, and copies are averaged.

V words, D dimensions.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark import RDD, Broadcast, StorageLevel
from threadpoolctl import threadpool_limits

from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.kernel import SgdParams, TrainStats, train_pairs
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import average, divergence
from spark_w2v.skipgram.sampling import KERNEL, generator
from spark_w2v.spark.buckets import LOT, RunSpec, keep_modules
from spark_w2v.text.encoding import segment_of
from spark_w2v.types import Float32Array, Float64Array, UInt64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Replicas:
    """The sentences of each replica, and what trains on them.

    Args:
        encoded: ENCODED.
        plan: for the tasks.
        count: replicas.
    """

    def __init__(self, encoded: "DataFrame", plan: "Broadcast[RunSpec]", count: int) -> None:
        self._plan, self._count = plan, count
        self._context = encoded.sparkSession.sparkContext
        # Sorted, because rows come out of a shuffle in any order and a replica walks them one after the other.
        self._shares: RDD[Any] = (
            # The drawing is that of the broadcast: in the closure, Spark would make a broadcast of it that stays.
            encoded.rdd.flatMap(lambda row: deal_sentences(row, count, plan.value.sampler))
            .repartitionAndSortWithinPartitions(count, lambda key: key[0])
            .persist(StorageLevel.MEMORY_AND_DISK)
        )
        try:
            sizes = self._shares.mapPartitions(lambda rows: [sum(len(ids) // 4 for _, (ids, _) in rows)])
            self._sizes = sizes.collect()
        except BaseException:
            self.close()
            raise

    def sync(
        self, center: Float32Array, context: Float32Array, step: SgdParams, place: tuple[int, int], edges: Float64Array
    ) -> tuple[list["TaskResult"], list["TaskResult"]]:
        """Train all replicas on a sync's part of the sentences, and average them.

        Args:
            center, context: (V, D) that all begin with.
            place: epoch, sync.
            edges: of the epoch's syncs.

        Returns:
            What each replica did, and the averaged rows, a range in each.
        """
        # Plain arrays: a mapped one would be unpickled as a mapped one that has no file.
        sent = [self._context.broadcast(np.asarray(matrix)) for matrix in (center, context)]
        try:
            trained = self._shares.mapPartitionsWithIndex(
                _replica_task(self._plan, sent[0], sent[1], step, place, edges, self._sizes)
            )
            averaged = trained.partitionBy(self._count, int).mapPartitions(_average_task(sent[0], sent[1], self._count))
            results = averaged.collect()
        finally:
            for broadcast in sent:
                broadcast.destroy()
        return [walk for _, walks in results for walk in walks], [part for part, _ in results]

    def close(self) -> None:
        """Let go of the sentences."""
        self._shares.unpersist()


@dataclass(frozen=True)
class TaskResult:
    """Result of one replica; or a range of averaged rows, by its number."""

    pairs: int
    words: int
    loss: float
    loss_pairs: int
    pair_seconds: float
    kernel_seconds: float
    part: int
    center: Float32Array
    context: Float32Array
    divergence: str | None = None  # how its rows show that training diverged


NONE = np.empty((0, 0), np.float32)  # rows of who brings none


def deal_sentences(row: tuple[Any, ...], replicas: int, sampler: PairSampler) -> Iterator[Any]:
    """The sentences of a segment that each replica trains on, without the held-out ones.

    Returns:
        ((replica, file, start, segment), (ids, lengths)), both as raw int32.
    """
    place, ids, lengths = segment_of(row)
    mine = (np.arange(lengths.size) + place[-1]) % replicas
    mine[sampler.held_out_sentences(place, lengths.size)] = -1
    whose = np.repeat(mine, lengths)
    for replica in range(replicas):
        if (mine == replica).any():
            yield (replica, *place), (ids[whose == replica].tobytes(), lengths[mine == replica].tobytes())


def row_range(words: int, part: int, parts: int) -> slice:
    """The rows that one task averages."""
    return slice(words * part // parts, words * (part + 1) // parts)


def _replica_task(
    plan: "Broadcast[RunSpec]",
    center: "Broadcast[Float32Array]",
    context: "Broadcast[Float32Array]",
    step: SgdParams,
    place: tuple[int, int],
    edges: Float64Array,
    sizes: list[int],
) -> Callable[[int, Iterable[Any]], Iterator[Any]]:
    def train(replica: int, rows: Iterable[Any]) -> Iterator[Any]:
        keep_modules()
        task = ReplicaWalk(plan.value, center.value.copy(), context.value.copy(), step, (*place, replica))
        with threadpool_limits(1, "blas"):
            task.walk(rows, edges, sizes[replica])
        for part in range(len(sizes)):
            rows_of_part = row_range(len(task.center), part, len(sizes))
            done = task.results if part == 0 else None
            yield (
                part,
                (
                    replica,
                    done,
                    task.center[rows_of_part],
                    task.center_updates[rows_of_part],
                    task.context[rows_of_part],
                    task.context_updates[rows_of_part],
                ),
            )

    return train


class ReplicaWalk:
    """One replica's walk over its sentences.

    Args:
        center, context: (V, D) its own copies; changed.
        place: epoch, sync, replica.
    """

    def __init__(
        self, plan: RunSpec, center: Float32Array, context: Float32Array, step: SgdParams, place: tuple[int, int, int]
    ) -> None:
        self.center, self.context = center, context
        self.center_updates = np.zeros(len(center))
        self.context_updates = np.zeros(len(context))
        self._plan, self._step, self._place = plan, step, place
        self._noise = BlockNoise.of(plan.noise, center.shape[1])
        self._lots = 0
        self.results = TaskResult(0, 0, 0.0, 0, 0.0, 0.0, 0, NONE, NONE)

    def walk(self, rows: Iterable[Any], edges: Float64Array, size: int) -> None:
        """Train on this sync's part of the sentences.

        Args:
            rows: from deal_sentences.
            edges: of the epoch's slices, the syncs.
            size: words of all rows.
        """
        sampler = replace(self._plan.sampler, held_out=0.0)
        epoch, sync, replica = self._place
        waiting: list[UInt64Array] = []
        waits, seen, seen_before, kept = 0, 0, 0, 0
        started = time.monotonic()
        for key, (ids, lengths) in rows:
            place = (*key[1:], replica)
            words, sizes = np.frombuffer(ids, "<i4"), np.frombuffer(lengths, "<i4")
            keys, drawn = sampler.pairs(place, words, sizes, epoch, edges, only=sync)
            seen += words.size
            kept += drawn
            waiting.append(keys)
            waits += keys.size
            if waits >= LOT:
                started = self._train(waiting, seen_before / size, seen / size, started)
                waits, seen_before = 0, seen
        self._train(waiting, seen_before / max(size, 1), 1.0, started)
        self.results = replace(self.results, words=kept)

    def _train(self, waiting: list[UInt64Array], first: float, last: float, started: float) -> float:
        if not waiting:
            return started
        pairs = np.concatenate(waiting)
        waiting.clear()
        pairs.sort()
        codec = PairCodec.of(self._plan.sampler.blocks)
        step = self._step
        slope = step.last_rate - step.first_rate
        step = replace(step, first_rate=step.first_rate + slope * first, last_rate=step.first_rate + slope * last)
        rng = generator(self._plan.sampler.seed, KERNEL, *self._place, self._lots)
        self._lots += 1
        ready = time.monotonic()
        walk: TrainStats = train_pairs(
            self.center, self.context, pairs, codec, self._noise, step, rng, count_updates=True
        )
        self.center_updates += walk.center_updates
        self.context_updates += walk.context_updates
        ended = time.monotonic()
        w = self.results
        self.results = replace(
            w,
            pairs=w.pairs + walk.pairs,
            loss=w.loss + walk.loss,
            loss_pairs=w.loss_pairs + walk.loss_pairs,
            pair_seconds=w.pair_seconds + ready - started,
            kernel_seconds=w.kernel_seconds + ended - ready,
        )
        return ended


def _average_task(
    center: "Broadcast[Float32Array]", context: "Broadcast[Float32Array]", parts: int
) -> Callable[[Iterable[Any]], Iterable[tuple[TaskResult, list[TaskResult]]]]:
    def merge(rows: Iterable[Any]) -> Iterable[tuple[TaskResult, list[TaskResult]]]:
        found = sorted(rows, key=lambda row: row[1][0])
        if not found:
            return []
        part, copies = found[0][0], [copy for _, copy in found]
        mine = row_range(len(center.value), part, parts)
        centers = average(((rows, updates) for _, _, rows, updates, _, _ in copies), center.value[mine])
        contexts = average(((rows, updates) for _, _, _, _, rows, updates in copies), context.value[mine])
        diverged = divergence(centers) or divergence(contexts)
        merged = TaskResult(0, 0, 0.0, 0, 0.0, 0.0, part, centers, contexts, diverged)
        return [(merged, [copy[1] for copy in copies if copy[1] is not None])]

    return merge
