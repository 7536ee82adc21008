"""An epoch of `replicas`: each task trains its own copy of the parameters on its share of the sentences.

The copies are averaged at each sync. V words, D dimensions.
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
from spark_w2v.skipgram.sampling import KERNEL, REPLICA, generator
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.buckets import LARGEST_CHUNK, RunSpec, keep_modules
from spark_w2v.text.encoding import segment_of
from spark_w2v.types import Float32Array, Float64Array, UInt64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Replicas:
    """The sentences of each replica, and the training on them.

    Args:
        encoded: ENCODED.
        run_spec: for the tasks.
        count: number of replicas.
    """

    def __init__(self, encoded: "DataFrame", run_spec: "Broadcast[RunSpec]", count: int) -> None:
        self._run_spec, self._count = run_spec, count
        self._context = encoded.sparkSession.sparkContext
        # Sorted, because rows come out of a shuffle in any order, and the result depends on the order of training.
        self._shares: RDD[Any] = (
            # The sampler is taken from the broadcast: of a sampler in the closure, Spark would make a broadcast that
            # stays.
            encoded.rdd.flatMap(lambda row: assign_sentences(row, count, run_spec.value.sampler))
            .repartitionAndSortWithinPartitions(count, lambda key: key[0])
            .persist(StorageLevel.MEMORY_AND_DISK)
        )
        try:
            sizes = self._shares.mapPartitions(lambda rows: [sum(len(ids) // 4 for _, (ids, _, _) in rows)])
            self._sizes = sizes.collect()
        except BaseException:
            self.close()
            raise

    def sync(
        self,
        center: Float32Array,
        context: Float32Array,
        params: SgdParams,
        place: tuple[int, int],
        edges: Float64Array,
    ) -> tuple[list["TaskResult"], list["AveragedRows"]]:
        """Train all replicas on the sentences of one sync, and average them.

        Args:
            center, context: (V, D) parameters that all replicas start from.
            params: for the whole sync.
            place: epoch, sync.
            edges: (syncs + 1,) edges of the epoch's syncs.

        Returns:
            The result of each replica; the averaged rows, one range per result.
        """
        # Plain arrays: a mapped array would be unpickled as a mapped array without a file.
        sent = [send(self._context, np.asarray(matrix)) for matrix in (center, context)]
        try:
            trained = self._shares.mapPartitionsWithIndex(
                _replica_task(self._run_spec, sent[0], sent[1], params, place, edges, self._sizes)
            )
            averaged = trained.partitionBy(self._count, int).mapPartitions(_average_task(sent[0], sent[1], self._count))
            results = averaged.collect()
        finally:
            for broadcast in sent:
                broadcast.destroy()
        return [result for _, of_replicas in results for result in of_replicas], [part for part, _ in results]

    def close(self) -> None:
        """Release the sentences."""
        self._shares.unpersist()


@dataclass(frozen=True)
class TaskResult:
    """Result of one replica."""

    pairs: int = 0
    words: int = 0
    loss: float = 0.0
    loss_pairs: int = 0
    pair_seconds: float = 0.0
    kernel_seconds: float = 0.0


@dataclass(frozen=True)
class AveragedRows:
    """One range of averaged rows, with its number `part`."""

    part: int
    center: Float32Array
    context: Float32Array
    divergence: str | None  # why they show that training diverged


def assign_sentences(row: tuple[Any, ...], replicas: int, sampler: PairSampler) -> Iterator[Any]:
    """Assign the sentences of a segment to replicas in turn, without the held-out ones.

    Args:
        row: of ENCODED.
        replicas: number of replicas.

    Yields:
        ((replica, file, start, segment), (ids, lengths, weights)) of each replica with a sentence, as raw int32, int32
        and float64.
    """
    place, ids, lengths, weights = segment_of(row)
    # Beginning with one of each segment's own, as files of one sentence would all be of the first.
    first = int(generator(sampler.seed, REPLICA, *place).integers(replicas))
    mine = (np.arange(lengths.size) + first) % replicas
    mine[sampler.held_out_sentences(place, lengths.size)] = -1
    whose = np.repeat(mine, lengths)
    for replica in range(replicas):
        if (mine == replica).any():
            here = mine == replica
            own_weights = weights[here] if weights.size else weights
            yield (replica, *place), (ids[whose == replica].tobytes(), lengths[here].tobytes(), own_weights.tobytes())


def row_range(words: int, part: int, parts: int) -> slice:
    """Return the range of rows that task `part` of `parts` averages."""
    return slice(words * part // parts, words * (part + 1) // parts)


def _replica_task(
    run_spec: "Broadcast[RunSpec]",
    center: "Broadcast[Float32Array]",
    context: "Broadcast[Float32Array]",
    params: SgdParams,
    place: tuple[int, int],
    edges: Float64Array,
    sizes: list[int],
) -> Callable[[int, Iterable[Any]], Iterator[Any]]:
    def train(replica: int, rows: Iterable[Any]) -> Iterator[Any]:
        keep_modules()
        task = ReplicaTask(run_spec.value, center.value.copy(), context.value.copy(), params, (*place, replica))
        with threadpool_limits(1, "blas"):
            task.train(rows, edges, sizes[replica])
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


class ReplicaTask:
    """Training of one replica during one sync.

    Args:
        center, context: (V, D) its own copies; changed.
        params: for the whole sync.
        place: epoch, sync, replica.
    """

    def __init__(
        self,
        run_spec: RunSpec,
        center: Float32Array,
        context: Float32Array,
        params: SgdParams,
        place: tuple[int, int, int],
    ) -> None:
        self.center, self.context = center, context
        self.center_updates = np.zeros(len(center))
        self.context_updates = np.zeros(len(context))
        self._run_spec, self._params, self._place = run_spec, params, place
        self._noise = BlockNoise.of(run_spec.noise, center.shape[1])
        self._chunks = 0
        self.results = TaskResult()

    def train(self, rows: Iterable[Any], edges: Float64Array, size: int) -> None:
        """Train on the sentences of this sync, a chunk of pairs at a time.

        Args:
            rows: as assign_sentences yields them.
            edges: (syncs + 1,) edges of the epoch's syncs.
            size: number of words of all rows.
        """
        sampler = replace(self._run_spec.sampler, held_out=0.0)
        epoch, sync, replica = self._place
        waiting: list[UInt64Array] = []
        waits, seen, seen_before, kept = 0, 0, 0, 0
        started = time.monotonic()
        for key, (ids, lengths, weights) in rows:
            place = (*key[1:], replica)
            words, sizes = np.frombuffer(ids, "<i4"), np.frombuffer(lengths, "<i4")
            seen += words.size
            for keys, drawn in sampler.parts(
                place, words, sizes, epoch, edges, only=sync, weights=np.frombuffer(weights, "<f8")
            ):
                kept += drawn
                waiting.append(keys)
                waits += keys.size
                if waits >= LARGEST_CHUNK:
                    started = self._train_chunk(waiting, seen_before / size, seen / size, started)
                    waits, seen_before = 0, seen
        self._train_chunk(waiting, seen_before / max(size, 1), 1.0, started)
        self.results = replace(self.results, words=kept)

    def _train_chunk(self, waiting: list[UInt64Array], first: float, last: float, started: float) -> float:
        """Empty the waiting list, and train on its pairs.

        Args:
            first, last: share of the rows that is read before and after the chunk.
            started: time when drawing the chunk began.

        Returns:
            The time when training it ended.
        """
        if not waiting:
            return started
        pairs = np.concatenate(waiting)
        waiting.clear()
        pairs.sort()
        codec = PairCodec.of(self._run_spec.sampler.blocks)
        sync = self._params
        slope = sync.last_rate - sync.first_rate
        params = replace(sync, first_rate=sync.first_rate + slope * first, last_rate=sync.first_rate + slope * last)
        rng = generator(self._run_spec.sampler.seed, KERNEL, *self._place, self._chunks)
        self._chunks += 1
        ready = time.monotonic()
        stats: TrainStats = train_pairs(
            self.center, self.context, pairs, codec, self._noise, params, rng, count_updates=True
        )
        self.center_updates += stats.center_updates
        self.context_updates += stats.context_updates
        ended = time.monotonic()
        done = self.results
        self.results = replace(
            done,
            pairs=done.pairs + stats.pairs,
            loss=done.loss + stats.loss,
            loss_pairs=done.loss_pairs + stats.loss_pairs,
            pair_seconds=done.pair_seconds + ready - started,
            kernel_seconds=done.kernel_seconds + ended - ready,
        )
        return ended


def _average_task(
    center: "Broadcast[Float32Array]", context: "Broadcast[Float32Array]", parts: int
) -> Callable[[Iterable[Any]], Iterable[tuple[AveragedRows, list[TaskResult]]]]:
    def merge(rows: Iterable[Any]) -> Iterable[tuple[AveragedRows, list[TaskResult]]]:
        found = sorted(rows, key=lambda row: row[1][0])
        if not found:
            return []
        part, copies = found[0][0], [copy for _, copy in found]
        mine = row_range(len(center.value), part, parts)
        centers = average(((rows, updates) for _, _, rows, updates, _, _ in copies), center.value[mine])
        contexts = average(((rows, updates) for _, _, _, _, rows, updates in copies), context.value[mine])
        merged = AveragedRows(part, centers, contexts, divergence(centers) or divergence(contexts))
        return [(merged, [copy[1] for copy in copies if copy[1] is not None])]

    return merge
