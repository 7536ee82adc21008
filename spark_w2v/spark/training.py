"""ENCODED → parameters: the epochs of a run, whatever the scheme.

V words, D dimensions, S sweeps of an epoch (syncs of `replicas`).
"""

import math
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import Broadcast, SparkContext

from spark_w2v.errors import DivergedError, NoPairsError
from spark_w2v.exchange.driver import DIVERGED
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles
from spark_w2v.skipgram.held_out import Sample, draw_sample, sentences_held_out
from spark_w2v.skipgram.kernel import SgdParams
from spark_w2v.skipgram.pairs import PairSampler
from spark_w2v.skipgram.parameters import Blocks, assign_blocks, initialise
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.skipgram.schedule import MOST_PAIRS, epoch_edges, expected_pairs, kept_share, kept_words, learning_rate
from spark_w2v.spark.block_epochs import BlockEpoch, Moved, SweepEnded
from spark_w2v.spark.buckets import RunSpec
from spark_w2v.spark.replicas import Replicas, TaskResult, row_range
from spark_w2v.spark.slots import ExchangeSettings
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.training_state import Progress, Settings, State
from spark_w2v.text.encoding import segment_of, segments_of
from spark_w2v.types import Float32Array, Float64Array, Int64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


HELD_OUT_SHARE = 0.01  # of the sentences at most
# Times the loss of an untrained model that an epoch of a run that converges stays below: texts of some dozen words that
# teach nothing came to 1.005 at the default rate, runs that diverged to 1.3 and more in their first or second epoch.
MOST_LOSS = 1.05
# Times the held-out loss that a run begins with: vectors of another text may know less than nothing of this one, and
# where it is short or the rate is low they do not unlearn it at once.
MOST_GIVEN_LOSS = 2.0
ENCODED_ARROW = pa.schema(
    [
        ("file", pa.int32()),
        ("start", pa.int64()),
        ("segment", pa.int32()),
        ("ids", pa.binary()),
        ("lengths", pa.binary()),
    ]
)


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
        snapshots: there is a new state after each sweep of `blocks`, not only after each epoch.
        exchange: how the processes of `blocks` reach each other.
    """

    encoded: "DataFrame"
    counts: Int64Array
    settings: Settings
    folder: Path
    snapshots: bool = False
    exchange: ExchangeSettings = field(default_factory=ExchangeSettings)
    blocks: Blocks = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        keep = kept_share(self.counts, s.subsample)
        load = kept_words(self.counts, s.subsample)
        self.blocks = assign_blocks(load, s.partitions if s.scheme == "blocks" else 1)
        held_out = min(HELD_OUT_SHARE, s.held_out_words / max(load.sum(), 1.0))
        noise = noise_distribution(self.counts, s.noise_exponent)
        sampler = PairSampler(keep, s.window, s.seed, held_out, self.blocks)
        self._plan = RunSpec(sampler, noise[self.blocks.order], s.negatives, s.damping)
        self._pairs = expected_pairs(load.sum(), s.window)
        if s.scheme == "blocks":
            bucket = self._pairs / s.partitions**2
            self.settings = replace(s, slices=max(s.slices, math.ceil(bucket / MOST_PAIRS)))
        self._places = np.empty(self.counts.size, np.int32)  # row of each word in block order
        self._places[self.blocks.order] = np.arange(self.counts.size, dtype=np.int32)
        self._sample = self._draw_sample(sampler, noise)
        self._most_given = 0.0  # loss that an epoch may have because of the vectors that the run was given
        parameters = self._create("initial")
        initialise(parameters.center, parameters.context, s.seed, self._places)
        self.state = State(parameters)

    @property
    def _context(self) -> SparkContext:
        return self.encoded.sparkSession.sparkContext

    def _draw_sample(self, sampler: PairSampler, noise: Float64Array) -> Sample:
        # In the closure itself, Spark would make a broadcast of the sampler that stays.
        sent = self._context.broadcast(sampler)

        def held_out(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for row in segments_of(batches):
                place, ids, lengths = segment_of(row)
                for some_ids, some_lengths in sentences_held_out([(place, ids, lengths)], sent.value):
                    values = [*place, some_ids.tobytes(), some_lengths.tobytes()]
                    yield pa.RecordBatch.from_pydict(
                        {name: [value] for name, value in zip(ENCODED.names, values, strict=True)}, ENCODED_ARROW
                    )

        self._context.setJobGroup("held out", "training: drawing the held-out sentences")
        try:
            rows = self.encoded.mapInArrow(held_out, ENCODED).collect() if sampler.held_out else []
        finally:
            sent.destroy()
        found = [segment_of(row) for row in rows]
        sentences = [(ids, lengths) for _, ids, lengths in sorted(found, key=lambda segment: segment[0])]
        return draw_sample(sentences, sampler, noise, self.settings.negatives).moved(self._places)

    def resume(self, position: dict[str, Any], parameters: ParameterFiles) -> None:
        """Go on from a checkpoint of the same corpus and configuration."""
        self._take(parameters)
        self.state = State(parameters, **{name: position[name] for name in position})

    def start_from(self, rows: Iterable[tuple[npt.NDArray[np.integer[Any]], Float32Array, Float32Array]]) -> None:
        """Begin with these vectors instead of random ones; a word without any keeps its random ones.

        Args:
            rows: some word ids (n,) at a time, with their center and context vectors, (n, D) each.
        """
        for words, center, context in rows:
            places = self._places[words]
            self.state.center[places] = center
            self.state.context[places] = context
        loss = self.held_out_loss()
        self._most_given = math.inf if loss is None else MOST_GIVEN_LOSS * loss

    def held_out_loss(self) -> float | None:
        """Of the parameters as they are; None without held-out pairs."""
        return self._sample.loss(self.state.center, self.state.context)

    def vectors(self) -> tuple[ByWord, ByWord]:
        """Center and context vectors by word id, (V, D) each, read from the files of the state."""
        return ByWord(self.state.center, self._places), ByWord(self.state.context, self._places)

    def _create(self, name: str) -> ParameterFiles:
        """Parameters of zeros, to be written to.

        Of a name that no other run has: one may have taken this run's folder over, as its host seemed dead.
        """
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
        """Train to the end; where progress says that there is a new state, it may be saved before going on.

        Raises:
            NoPairsError: there is nothing to train on.
            DivergedError: parameters or the loss are not finite, or too large.
            SparkLostError: an epoch failed too often.
        """
        plan = self._context.broadcast(self._plan)
        try:
            if self.settings.scheme == "blocks":
                for epoch in range(self.state.epoch, self.settings.epochs):
                    yield from self._block_epoch(epoch, plan)
            else:
                self._context.setJobGroup("replicas", f"training: dealing the sentences to {self.settings.partitions}")
                replicas = Replicas(self.encoded, plan, self.settings.partitions)
                try:
                    for epoch in range(self.state.epoch, self.settings.epochs):
                        yield from self._replica_epoch(epoch, replicas)
                finally:
                    replicas.close()
        except DivergedError as error:
            raise DivergedError(
                f"training diverged in epoch {self.state.epoch + 1}: {error}. Lower training.learning_rate "
                f"({self.settings.learning_rate:g}) or raise training.damping ({self.settings.damping:g})."
            ) from None
        finally:
            plan.destroy()

    def _progress(self, epoch: int, done: float, **more: Any) -> Progress:
        """Args:
        done: share of the epoch.
        """
        state, done = self.state, (epoch + done) / self.settings.epochs
        loss = state.loss / state.loss_pairs if state.loss_pairs else None
        return Progress(done, epoch, learning_rate(self.settings.learning_rate, done), loss, **more)

    def _end_epoch(self, epoch: int, sweeps: int, more: dict[str, Any]) -> Progress:
        """Close an epoch: its metrics, and a state that stands at the beginning of the next.

        Raises:
            DivergedError: it learned less than nothing.
        """
        state = self.state
        progress = self._progress(epoch, 1.0)
        self._refuse_loss(progress.loss)
        metrics = {
            "epoch": epoch + 1,
            "loss": progress.loss,
            "held_out_loss": self.held_out_loss(),
            "learning_rate": progress.learning_rate,
            "pairs": state.pairs,
            "words": state.words,
            "sweeps": sweeps,
            "seconds": round(state.seconds, 3),
            "draw_seconds": round(state.draw_seconds, 3),
            "pair_seconds": round(state.draw_seconds + state.take_seconds, 3),
            "kernel_seconds": round(state.kernel_seconds, 3),
            "wait_seconds": round(state.wait_seconds, 3),
            "driver_bytes": state.driver_bytes,
            "task_bytes": state.task_bytes,
            **more,
            "words_per_second": round(state.words / max(state.seconds, 1e-9)),
            "words_per_second_per_core": round(state.words / max(state.kernel_seconds, 1e-9)),
        }
        self.state = State(state.parameters, epoch + 1)
        return replace(progress, is_saved=True, metrics=metrics)

    def _refuse_loss(self, loss: float | None) -> None:
        untrained = (1 + self.settings.negatives) * math.log(2)  # the context rows of an untrained model are zeros
        most = max(MOST_LOSS * untrained, self._most_given)
        if loss is not None and loss > most:
            raise DivergedError(f"its loss is {loss:.4g} per pair, and that of an untrained model {untrained:.4g}")

    def _block_epoch(self, epoch: int, plan: "Broadcast[RunSpec]") -> Iterator[Progress]:
        s = self.settings
        edges = epoch_edges(epoch, self.blocks.count, s.slices, self._pairs)
        trained = BlockEpoch(
            self.encoded, plan, epoch, s.epochs, edges, s.dimensions, s.learning_rate, self.snapshots, self.exchange,
            lambda sweep: self._create(f"{epoch}-{sweep + 1}"),
        )  # fmt: skip
        sweeps, begun = edges.size - 1, time.monotonic()
        for event in trained.run(self.state.parameters, self.state.sweep):
            before = float(edges[self.state.sweep])
            if isinstance(event, Moved):
                done = before if event.done is None else before + event.done * (1 - before)
                yield self._progress(epoch, done, is_drawing=event.done is None)
                continue
            self._take(event.parameters)
            self._add(event, time.monotonic() - begun)
            begun = time.monotonic()
            if self.state.sweep < sweeps:
                yield self._progress(epoch, float(edges[self.state.sweep]), is_saved=True)
            elif not self.state.pairs:
                raise NoPairsError(self.counts.size)
            else:
                yield self._end_epoch(epoch, sweeps, _about_tasks(event.tasks))

    def _add(self, event: SweepEnded, seconds: float) -> None:
        """Take note of sweeps that have come back."""
        state = self.state
        state.sweep = event.sweep + 1
        for loss, loss_pairs, pairs in event.trained:
            state.loss += loss
            state.loss_pairs += loss_pairs
            state.pairs += pairs
        state.words = sum(task.get("words", 0) for task in event.tasks)
        state.seconds += seconds
        for name, value in event.work.items():
            setattr(state, name, getattr(state, name) + value)

    def _replica_epoch(self, epoch: int, replicas: Replicas) -> Iterator[Progress]:
        s = self.settings
        edges = epoch_edges(epoch, 1, s.slices, self._pairs)
        syncs = edges.size - 1
        for number in range(self.state.sweep, syncs):
            begun = time.monotonic()
            first, last = (learning_rate(s.learning_rate, (epoch + edges[number + k]) / s.epochs) for k in (0, 1))
            step = SgdParams(s.negatives, s.damping, first, last)
            name = f"epoch {epoch + 1}"
            self._context.setJobGroup(name, f"{name} of {s.epochs}: sync {number + 1} of {syncs}")
            results, parts = replicas.sync(self.state.center, self.state.context, step, (epoch, number), edges)
            if not self.state.pairs + sum(walk.pairs for walk in results) and number == syncs - 1:
                raise NoPairsError(self.counts.size)
            if not all(math.isfinite(walk.loss) for walk in results):
                raise DivergedError(DIVERGED)
            if (found := next((part.divergence for part in parts if part.divergence), None)) is not None:
                raise DivergedError(found)
            with self._new_parameters(epoch, number + 1) as new:
                for part in parts:
                    rows = row_range(self.counts.size, part.part, s.partitions)
                    new.center[rows], new.context[rows] = part.center, part.context
            self._add_walks(results, time.monotonic() - begun)
            if self.state.sweep < syncs:
                yield self._progress(epoch, float(edges[self.state.sweep]), is_saved=True)
            else:
                pairs = [walk.pairs for walk in results]
                yield self._end_epoch(
                    epoch, syncs, {"tasks": len(results), "most_task_pairs": max(pairs), "least_task_pairs": min(pairs)}
                )

    def _add_walks(self, results: list[TaskResult], seconds: float) -> None:
        state = self.state
        for walk in results:
            state.loss += walk.loss
            state.loss_pairs += walk.loss_pairs
            state.pairs += walk.pairs
            state.words += walk.words
            state.take_seconds += walk.pair_seconds
            state.kernel_seconds += walk.kernel_seconds
        state.sweep += 1
        state.seconds += seconds


def _about_tasks(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Which tasks had most and least to do, and where the slowest was, for the metrics."""
    pairs = [task.get("pairs", 0) for task in tasks]
    busy = [task.get("take_seconds", 0.0) + task.get("kernel_seconds", 0.0) for task in tasks]
    slowest = tasks[busy.index(max(busy))]
    return {
        "tasks": len(tasks),
        "most_task_pairs": max(pairs),
        "least_task_pairs": min(pairs),
        "slowest_host": slowest.get("host"),
    }
