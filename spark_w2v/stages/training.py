"""ENCODED → parameters: epochs, rounds, the average on the driver.

V words, D dimensions, B blocks, S slices of an epoch (sweeps of `blocks`, syncs of `replicas`).
"""

import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark import RDD, Broadcast, SparkContext, StorageLevel
from threadpoolctl import threadpool_limits

from spark_w2v.skipgram.descent import Step, Walk, descend
from spark_w2v.skipgram.held_out import Sample, draw_sample, sentences_held_out
from spark_w2v.skipgram.pairs import Drawing, Keys, Layout, epoch_edges, latin_square
from spark_w2v.skipgram.parameters import Blocks, average, deal_blocks, initialise
from spark_w2v.skipgram.sampling import (
    KERNEL,
    LATIN_SQUARE,
    frequent_share,
    generator,
    keep_probability,
    noise_distribution,
)
from spark_w2v.stages.parameter_files import ByWord, ParameterFiles
from spark_w2v.stages.training_pairs import LOT, FiledPairs, Plan, Records, ShuffledPairs, keep_modules, piece_of
from spark_w2v.stages.transport import Courier, Returned, Sent, give_back

Floats = npt.NDArray[np.float32]

LEAST_RATE = 1e-4  # of the first learning rate, as in word2vec.c
SMALLEST_BLOCK = 256  # words: fewer, and a word is its own noise too often, and rounds take longer than their work
SMALLEST_REPLICA = 20_000  # words of an epoch: fewer, and a copy has nothing to say that the average would keep
MOST_PAIRS = 1 << 24  # of a bucket, about; more are cut in more slices. = 256 MB while a task takes them apart
HELD_OUT_SHARE = 0.01  # of the sentences at most


class DivergedError(ArithmeticError):
    """A parameter or a loss stopped being finite."""


@dataclass(frozen=True)
class Settings:
    """What training may be asked to do, resolved: no "auto" is left."""

    scheme: str
    partitions: int
    dimensions: int
    window: int
    negatives: int
    epochs: int
    learning_rate: float
    slices: int  # sweeps_per_epoch of blocks, syncs_per_epoch of replicas
    subsample: float
    noise_exponent: float
    damping: float
    seed: int
    held_out_words: int


@dataclass
class State:
    """Where a run stands; all that resuming needs.

    Args:
        parameters: complete; never written to again once training has begun.
        epoch, round: the next to train.
        loss, loss_pairs, pairs, words, seconds, pair_seconds, kernel_seconds: of the epoch so far.
    """

    parameters: ParameterFiles
    epoch: int = 0
    round: int = 0
    loss: float = 0.0
    loss_pairs: int = 0
    pairs: int = 0
    words: int = 0
    seconds: float = 0.0
    pair_seconds: float = 0.0
    kernel_seconds: float = 0.0

    POSITION = ("epoch", "round", "loss", "loss_pairs", "pairs", "words", "seconds", "pair_seconds", "kernel_seconds")

    @property
    def center(self) -> Floats:
        """(V, D) in block order, mapped."""
        return self.parameters.center

    @property
    def context(self) -> Floats:
        """(V, D) in block order, mapped."""
        return self.parameters.context

    def position(self) -> dict[str, Any]:
        """All but the parameters, as JSON-able values."""
        return {name: getattr(self, name) for name in self.POSITION}


@dataclass(frozen=True)
class Progress:
    """What is reported after each round.

    Args:
        done: share of the run, 0 to 1.
        learning_rate: at the end of the round.
        metrics: of the epoch, where the round was its last; else None.
    """

    done: float
    epoch: int
    round: int
    rounds: int
    learning_rate: float
    loss: float | None
    metrics: dict[str, Any] | None = None


def expected_pairs(load: float, window: int) -> float:
    """Pairs of an epoch, and a few more: what the ends of sentences cut off is not taken away.

    Args:
        load: words that subsampling leaves.
    """
    return load * (window + 1)


def kept_words(counts: npt.NDArray[np.int64], subsample: float) -> npt.NDArray[np.float64]:
    """(V,) how often each word is trained on in an epoch, in the mean."""
    return counts.astype(np.float64) * kept_share(counts, subsample)


def kept_share(counts: npt.NDArray[np.int64], subsample: float) -> Floats:
    """(V,) probability that an occurrence of each word is trained on."""
    total = int(counts.sum())
    return keep_probability(counts, total, frequent_share(subsample, total))


def most_partitions(scheme: str, vocabulary: int, load: float) -> int:
    """Partitions that a corpus is large enough for.

    Args:
        vocabulary: V.
        load: words that subsampling leaves.
    """
    return max(1, vocabulary // SMALLEST_BLOCK if scheme == "blocks" else int(load) // SMALLEST_REPLICA)


@dataclass
class Training:
    """One run of training.

    Every state has parameters of its own, in a new directory. The directory of the state before is removed when the new
    state is complete, unless it was made a checkpoint meanwhile: then it is the run's. The directory of the last state
    stays, for whoever reads it.

    Args:
        encoded: ENCODED, persisted by the caller.
        counts: (V,) occurrences of each word; 0 for a word that is never trained on and keeps its vectors.
        folder: of this training alone, made where it is missing; the caller removes what is left in it.
    """

    encoded: "RDD[Any]"
    counts: npt.NDArray[np.int64]
    settings: Settings
    folder: Path
    blocks: Blocks = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        keep = kept_share(self.counts, s.subsample)
        load = kept_words(self.counts, s.subsample)
        self.blocks = deal_blocks(load, s.partitions if s.scheme == "blocks" else 1)
        held_out = min(HELD_OUT_SHARE, s.held_out_words / max(load.sum(), 1.0))
        noise = noise_distribution(self.counts, s.noise_exponent)
        drawing = Drawing(keep, s.window, s.seed, held_out, self.blocks)
        self._plan = Plan(drawing, noise[self.blocks.order], s.negatives, s.damping)
        if s.scheme == "blocks":
            bucket = expected_pairs(load.sum(), s.window) / s.partitions**2
            self.settings = replace(s, slices=max(s.slices, math.ceil(bucket / MOST_PAIRS)))
        self._places = np.empty(self.counts.size, np.int32)  # row of each word in block order
        self._places[self.blocks.order] = np.arange(self.counts.size, dtype=np.int32)
        self._sample = self._draw_sample(drawing, noise)
        parameters = self._create("initial")
        initialise(parameters.center, parameters.context, s.seed, self._places)
        self.state = State(parameters)

    @property
    def _context(self) -> SparkContext:
        return self.encoded.context

    def _draw_sample(self, drawing: Drawing, noise: npt.NDArray[np.float64]) -> Sample:
        def held_out(rows: Iterable[Any]) -> Iterator[Any]:
            for row in rows:
                place, ids, lengths = piece_of(row)
                for some_ids, some_lengths in sentences_held_out([(place, ids, lengths)], drawing):
                    yield place, some_ids, some_lengths

        self._context.setJobGroup("held out", "training: drawing the held-out sentences")
        found = self.encoded.mapPartitions(held_out).collect() if drawing.held_out else []
        sentences = [(ids, lengths) for _, ids, lengths in sorted(found, key=lambda row: row[0])]
        return draw_sample(sentences, drawing, noise, self.settings.negatives).moved(self._places)

    def resume(self, position: dict[str, Any], parameters: ParameterFiles) -> None:
        """Go on from a checkpoint of the same corpus and configuration."""
        self._take(parameters)
        self.state = State(parameters, **{name: position[name] for name in State.POSITION})

    def start_from(self, rows: Iterable[tuple[npt.NDArray[np.integer[Any]], Floats, Floats]]) -> None:
        """Begin with these vectors instead of random ones; a word without any keeps its random ones.

        Args:
            rows: some word ids (n,) at a time, with their center and context vectors, (n, D) each.
        """
        for words, center, context in rows:
            places = self._places[words]
            self.state.center[places] = center
            self.state.context[places] = context

    def held_out_loss(self) -> float | None:
        """Of the parameters as they are; None without held-out pairs."""
        return self._sample.loss(self.state.center, self.state.context)

    def vectors(self) -> tuple[ByWord, ByWord]:
        """Center and context vectors by word id, (V, D) each, read from the files of the state."""
        return ByWord(self.state.center, self._places), ByWord(self.state.context, self._places)

    def _create(self, name: str) -> ParameterFiles:
        """Parameters of zeros, to be written to."""
        # A name of its own: a run that was taken for dead may still be at work in the same folder.
        directory = self.folder / f".{name}-{uuid.uuid4().hex[:8]}.unfinished"
        return ParameterFiles.create(directory, self.counts.size, self.settings.dimensions)

    @contextmanager
    def _new_parameters(self, epoch: int, number: int) -> Iterator[ParameterFiles]:
        """Parameters of zeros, to be filled; they take the place of the state's own, unless an error comes first.

        Args:
            epoch, number: the next round to train.
        """
        made = self._create(f"{epoch}-{number}")
        try:
            yield made
        except BaseException:
            made.remove()
            raise
        self._take(made)

    def _take(self, parameters: ParameterFiles) -> None:
        """Put these in place of the state's parameters, which are removed, unless they are a checkpoint."""
        former, self.state.parameters = self.state.parameters, parameters
        if former.is_temporary:
            former.remove()

    def run(self) -> Iterator[Progress]:
        """Train to the end, a round at a time; between two rounds `state` may be saved."""
        plan = self._context.broadcast(self._plan)
        shares = self._shares() if self.settings.scheme == "replicas" else None
        self._courier = Courier(self._context)
        try:
            epochs = self._blocks_epoch if shares is None else self._replicas(shares)
            for epoch in range(self.state.epoch, self.settings.epochs):
                yield from epochs(epoch, plan)
        finally:
            self._courier.close()
            plan.destroy()
            if shares is not None:
                shares.unpersist()

    def _rate(self, done: float) -> float:
        return self.settings.learning_rate * max(LEAST_RATE, 1.0 - done)

    def _finish_round(self, epoch: int, rounds: int, done: float, walked: list["Walked"], started: float) -> Progress:
        """Add a round to the state; the last of an epoch closes it."""
        state = self.state
        for walk in walked:
            state.loss += walk.loss
            state.loss_pairs += walk.loss_pairs
            state.pairs += walk.pairs
            state.words += walk.words
            state.pair_seconds += walk.pair_seconds
            state.kernel_seconds += walk.kernel_seconds
        number = state.round
        state.round += 1
        state.seconds += time.monotonic() - started
        done = (epoch + done) / self.settings.epochs
        loss = state.loss / state.loss_pairs if state.loss_pairs else None
        progress = Progress(done, epoch, number, rounds, self._rate(done), loss)
        if state.round < rounds:
            return progress
        metrics = {
            "epoch": epoch + 1,
            "loss": loss,
            "held_out_loss": self.held_out_loss(),
            "learning_rate": progress.learning_rate,
            "pairs": state.pairs,
            "words": state.words,
            "rounds": rounds,
            "seconds": round(state.seconds, 3),
            "pair_seconds": round(state.pair_seconds, 3),
            "kernel_seconds": round(state.kernel_seconds, 3),
            "words_per_second": round(state.words / max(state.seconds, 1e-9)),
            "words_per_second_per_core": round(state.words / max(state.kernel_seconds, 1e-9)),
        }
        self.state = State(state.parameters, epoch + 1)
        return replace(progress, metrics=metrics)

    def _refuse_diverged(self, epoch: int, number: int, walked: list["Walked"]) -> None:
        for walk in walked:
            if not (walk.finite and np.isfinite(walk.loss)):
                raise DivergedError(
                    f"training diverged in epoch {epoch + 1}, round {number + 1}: a parameter or the loss is not "
                    f"finite. Lower training.learning_rate ({self.settings.learning_rate:g}) or raise training.damping "
                    f"({self.settings.damping:g})."
                )

    def _blocks_epoch(self, epoch: int, plan: "Broadcast[Plan]") -> Iterator[Progress]:
        state, blocks, count = self.state, self.blocks, self.blocks.count
        edges = epoch_edges(epoch, self.blocks.count, self.settings.slices)
        rounds = (edges.size - 1) * count
        started = time.monotonic()
        self._describe(epoch, "drawing the pairs")
        draw = ShuffledPairs if self._courier.folder is None else FiledPairs
        with closing(draw(self.encoded, plan, epoch, edges)) as pairs:
            drawn, total = pairs.drawn, int(pairs.drawn.sum())
            if not total:
                raise NoPairsError()
            state.words = pairs.words
            if not state.round:
                state.pair_seconds += time.monotonic() - started
            state.seconds += time.monotonic() - started
            for number in range(state.round, rounds):
                started = time.monotonic()
                part, turn = divmod(number, count)
                partners = latin_square(count, generator(self.settings.seed, LATIN_SQUARE, epoch, part))[turn]
                buckets = [(part * count + i) * count + int(j) for i, j in enumerate(partners)]
                buckets = [bucket for bucket in buckets if drawn[bucket]]
                before, here = state.pairs, int(drawn[buckets].sum())
                done = (before + here) / total
                step = Step(
                    self.settings.negatives,
                    self.settings.damping,
                    self._rate((epoch + before / total) / self.settings.epochs),
                    self._rate((epoch + done) / self.settings.epochs),
                )
                self._describe(epoch, f"round {number + 1} of {rounds}")
                walked = self._train_buckets(pairs, buckets, plan, step, epoch)
                trained = sum(walk.pairs for walk in walked)
                assert trained == here, f"{trained} pairs trained of {here} drawn"
                self._refuse_diverged(epoch, number, walked)
                with self._new_parameters(epoch, number + 1) as new:
                    trained_blocks = {walk.center_block: walk.center for walk in walked}
                    for block in range(count):
                        blocks.of(new.center, block)[:] = trained_blocks.get(block, blocks.of(state.center, block))
                    trained_blocks = {walk.context_block: walk.context for walk in walked}
                    for block in range(count):
                        blocks.of(new.context, block)[:] = trained_blocks.get(block, blocks.of(state.context, block))
                yield self._finish_round(epoch, rounds, done, walked, started)

    def _train_buckets(
        self,
        pairs: ShuffledPairs | FiledPairs,
        buckets: list[int],
        plan: "Broadcast[Plan]",
        step: Step,
        epoch: int,
    ) -> list["Walked"]:
        """One round: each task gets its two blocks, and only those."""
        courier, sent = self._courier, {}
        try:
            for bucket in buckets:
                center, context = divmod(bucket % self.blocks.count**2, self.blocks.count)
                sent[bucket] = (
                    courier.send(("center", center), self.blocks.of(self.state.center, center)),
                    courier.send(("context", context), self.blocks.of(self.state.context, context)),
                )
            found = pairs.train(_bucket_task(plan, sent, step, epoch, courier.folder), buckets)
            return [
                replace(
                    walk,
                    center=courier.take_back(("center", walk.center_block), center),
                    context=courier.take_back(("context", walk.context_block), context),
                )
                for walk, center, context in found
            ]
        finally:
            courier.clear()

    def _shares(self) -> "RDD[Any]":
        """The sentences of each replica, persisted."""
        replicas = self.settings.partitions
        drawing = self._plan.drawing
        self._context.setJobGroup("replicas", f"training: dealing the sentences to {replicas} replicas")
        # Sorted, because rows come out of a shuffle in any order and a replica walks them one after the other.
        return (
            self.encoded.flatMap(lambda row: deal_sentences(row, replicas, drawing))
            .repartitionAndSortWithinPartitions(replicas, lambda key: key[0])
            .persist(StorageLevel.MEMORY_AND_DISK)
        )

    def _replicas(self, shares: "RDD[Any]") -> Callable[[int, "Broadcast[Plan]"], Iterator[Progress]]:
        sizes = shares.mapPartitions(lambda rows: [sum(len(ids) // 4 for _, (ids, _) in rows)]).collect()
        return lambda epoch, plan: self._replicas_epoch(epoch, plan, shares, sizes)

    def _replicas_epoch(
        self, epoch: int, plan: "Broadcast[Plan]", shares: "RDD[Any]", sizes: list[int]
    ) -> Iterator[Progress]:
        state, replicas = self.state, self.settings.partitions
        edges = epoch_edges(epoch, self.blocks.count, self.settings.slices)
        rounds = edges.size - 1
        for number in range(state.round, rounds):
            started = time.monotonic()
            first, last = (self._rate((epoch + edges[number + k]) / self.settings.epochs) for k in (0, 1))
            step = Step(self.settings.negatives, self.settings.damping, first, last)
            self._describe(epoch, f"sync {number + 1} of {rounds}")
            # Plain arrays: a mapped one would be unpickled as a mapped one that has no file.
            center, context = (self._context.broadcast(np.asarray(matrix)) for matrix in (state.center, state.context))
            try:
                trained = shares.mapPartitionsWithIndex(
                    _replica_task(plan, center, context, step, (epoch, number), edges, sizes)
                )
                averaged = trained.partitionBy(replicas, int).mapPartitions(_average_task(center, context, replicas))
                results = averaged.collect()
            finally:
                center.destroy()
                context.destroy()
            walked = [walk for _, walks in results for walk in walks]
            if not state.pairs + sum(walk.pairs for walk in walked) and number == rounds - 1:
                raise NoPairsError()
            parts = [part for part, _ in results]
            self._refuse_diverged(epoch, number, [*walked, *parts])
            with self._new_parameters(epoch, number + 1) as new:
                for part in parts:
                    rows = row_range(self.counts.size, part.center_block, replicas)
                    new.center[rows], new.context[rows] = part.center, part.context
            yield self._finish_round(epoch, rounds, float(edges[number + 1]), walked, started)

    def _describe(self, epoch: int, what: str) -> None:
        """What the Spark UI shows of the jobs to come."""
        self._context.setJobGroup(f"epoch {epoch + 1}", f"epoch {epoch + 1} of {self.settings.epochs}: {what}")


class NoPairsError(ValueError):
    """The corpus has words, and no two of them stand together."""

    def __init__(self) -> None:
        super().__init__(
            "no pair to train on: every sentence has fewer than two words of the vocabulary. Lower "
            "vocabulary.min_count, or check that the corpus has one sentence a line."
        )


@dataclass(frozen=True)
class Walked:
    """What one task did, and the rows it brings back; blocks of `replicas` are ranges of rows."""

    pairs: int
    words: int
    loss: float
    loss_pairs: int
    pair_seconds: float
    kernel_seconds: float
    center_block: int
    context_block: int
    center: Floats
    context: Floats
    finite: bool = True  # whether all rows are


NONE = np.empty((0, 0), np.float32)  # rows of who brings none


def is_finite(rows: Floats) -> bool:
    """Whether no number of the rows is infinite or none."""
    return bool(np.isfinite(rows).all())


def _bucket_task(
    plan: "Broadcast[Plan]", sent: dict[int, tuple[Sent, Sent]], step: Step, epoch: int, folder: str | None
) -> Callable[[int, Records], Iterable[tuple[Walked, Returned, Returned]]]:
    def train(bucket: int, records: Records) -> Iterable[tuple[Walked, Returned, Returned]]:
        started = time.monotonic()
        keep_modules()
        blocks = plan.value.drawing.blocks
        center_block, context_block = divmod(bucket % blocks.count**2, blocks.count)
        layout = Layout.of(blocks)
        pairs = np.concatenate([np.frombuffer(data, layout.dtype) for data in records])
        # Records come out of a shuffle in any order. Sorting the pairs puts them in one order, and in groups.
        pairs.sort()
        noise = blocks.of(plan.value.noise, context_block)
        center, context = (some.rows() for some in sent[bucket])
        ready = time.monotonic()
        rng = generator(plan.value.drawing.seed, KERNEL, epoch, bucket)
        with threadpool_limits(1, "blas"):
            walk = descend(center, context, pairs, layout, noise, step, rng)
        ended = time.monotonic()
        walked = Walked(
            walk.pairs, 0, walk.loss, walk.loss_pairs, ready - started, ended - ready,
            center_block, context_block, NONE, NONE, is_finite(center) and is_finite(context),
        )  # fmt: skip
        return [(walked, give_back(center, folder), give_back(context, folder))]

    return train


def deal_sentences(row: tuple[Any, ...], replicas: int, drawing: Drawing) -> Iterator[Any]:
    """The sentences of a piece that each replica trains on, without the held-out ones.

    Returns:
        ((replica, file, start, piece), (ids, lengths)), both as raw int32.
    """
    place, ids, lengths = piece_of(row)
    mine = (np.arange(lengths.size) + place[-1]) % replicas
    mine[drawing.held_out_sentences(place, lengths.size)] = -1
    whose = np.repeat(mine, lengths)
    for replica in range(replicas):
        if (mine == replica).any():
            yield (replica, *place), (ids[whose == replica].tobytes(), lengths[mine == replica].tobytes())


def row_range(words: int, part: int, parts: int) -> slice:
    """The rows that one task averages."""
    return slice(words * part // parts, words * (part + 1) // parts)


def _replica_task(
    plan: "Broadcast[Plan]",
    center: "Broadcast[Floats]",
    context: "Broadcast[Floats]",
    step: Step,
    place: tuple[int, int],
    edges: npt.NDArray[np.float64],
    sizes: list[int],
) -> Callable[[int, Iterable[Any]], Iterator[Any]]:
    def train(replica: int, rows: Iterable[Any]) -> Iterator[Any]:
        keep_modules()
        task = ReplicaWalk(plan.value, center.value.copy(), context.value.copy(), step, (*place, replica))
        with threadpool_limits(1, "blas"):
            task.walk(rows, edges, sizes[replica])
        for part in range(len(sizes)):
            rows_of_part = row_range(len(task.center), part, len(sizes))
            done = task.walked if part == 0 else None
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

    def __init__(self, plan: Plan, center: Floats, context: Floats, step: Step, place: tuple[int, int, int]) -> None:
        self.center, self.context = center, context
        self.center_updates = np.zeros(len(center))
        self.context_updates = np.zeros(len(context))
        self._plan, self._step, self._place = plan, step, place
        self._lots = 0
        self.walked = Walked(0, 0, 0.0, 0, 0.0, 0.0, 0, 0, NONE, NONE)

    def walk(self, rows: Iterable[Any], edges: npt.NDArray[np.float64], size: int) -> None:
        """Train on this sync's part of the sentences.

        Args:
            rows: from deal_sentences.
            edges: of the epoch's slices, the syncs.
            size: words of all rows.
        """
        drawing = replace(self._plan.drawing, held_out=0.0)
        epoch, sync, replica = self._place
        waiting: list[Keys] = []
        waits, seen, seen_before, kept = 0, 0, 0, 0
        started = time.monotonic()
        for key, (ids, lengths) in rows:
            place = (*key[1:], replica)
            words, sizes = np.frombuffer(ids, "<i4"), np.frombuffer(lengths, "<i4")
            keys, drawn = drawing.pairs(place, words, sizes, epoch, edges, only=sync)
            seen += words.size
            kept += drawn
            waiting.append(keys)
            waits += keys.size
            if waits >= LOT:
                started = self._train(waiting, seen_before / size, seen / size, started)
                waits, seen_before = 0, seen
        self._train(waiting, seen_before / max(size, 1), 1.0, started)
        self.walked = replace(self.walked, words=kept)

    def _train(self, waiting: list[Keys], first: float, last: float, started: float) -> float:
        if not waiting:
            return started
        pairs = np.concatenate(waiting)
        waiting.clear()
        pairs.sort()
        layout = Layout.of(self._plan.drawing.blocks)
        step = self._step
        slope = step.last_rate - step.first_rate
        step = replace(step, first_rate=step.first_rate + slope * first, last_rate=step.first_rate + slope * last)
        rng = generator(self._plan.drawing.seed, KERNEL, *self._place, self._lots)
        self._lots += 1
        ready = time.monotonic()
        walk: Walk = descend(self.center, self.context, pairs, layout, self._plan.noise, step, rng)
        self.center_updates += walk.center_updates
        self.context_updates += walk.context_updates
        ended = time.monotonic()
        w = self.walked
        self.walked = replace(
            w,
            pairs=w.pairs + walk.pairs,
            loss=w.loss + walk.loss,
            loss_pairs=w.loss_pairs + walk.loss_pairs,
            pair_seconds=w.pair_seconds + ready - started,
            kernel_seconds=w.kernel_seconds + ended - ready,
        )
        return ended


def _average_task(
    center: "Broadcast[Floats]", context: "Broadcast[Floats]", parts: int
) -> Callable[[Iterable[Any]], Iterable[tuple[Walked, list[Walked]]]]:
    def merge(rows: Iterable[Any]) -> Iterable[tuple[Walked, list[Walked]]]:
        found = sorted(rows, key=lambda row: row[1][0])
        if not found:
            return []
        part, copies = found[0][0], [copy for _, copy in found]
        mine = row_range(len(center.value), part, parts)
        centers = average(((rows, updates) for _, _, rows, updates, _, _ in copies), center.value[mine])
        contexts = average(((rows, updates) for _, _, _, _, rows, updates in copies), context.value[mine])
        finite = is_finite(centers) and is_finite(contexts)
        merged = Walked(0, 0, 0.0, 0, 0.0, 0.0, part, part, centers, contexts, finite)
        return [(merged, [copy[1] for copy in copies if copy[1] is not None])]

    return merge
