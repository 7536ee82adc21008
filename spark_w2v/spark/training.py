"""ENCODED → parameters: the epochs of a run, whatever the scheme.

V words, D dimensions, S sweeps of an epoch (with `replicas`, syncs).
"""

import logging
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
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles, fill_average
from spark_w2v.skipgram.held_out import Sample, draw_sample, sentences_held_out
from spark_w2v.skipgram.induction import turn_rows
from spark_w2v.skipgram.kernel import SgdParams
from spark_w2v.skipgram.pairs import PairSampler
from spark_w2v.skipgram.parameters import Blocks, assign_blocks, initialise
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.skipgram.schedule import (
    epoch_edges,
    equal_sweeps,
    expected_pairs,
    kept_share,
    kept_words,
    largest_bucket,
    learning_rate,
    share_of_run,
)
from spark_w2v.spark.block_epochs import BlockEpoch, EpochProgress, SweepEnded
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.buckets import RunSpec
from spark_w2v.spark.induction import Induced, induce
from spark_w2v.spark.replicas import Replicas, TaskResult, row_range
from spark_w2v.spark.slots import ExchangeSettings
from spark_w2v.spark.tables import ENCODED, ENCODED_ARROW
from spark_w2v.spark.training_state import LossLimit, Progress, Settings, State, about_tasks
from spark_w2v.spark.vocabulary import longest_sentence
from spark_w2v.text.encoding import segment_of, segments_of
from spark_w2v.types import BoolArray, Float32Array, Float64Array, Int64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger("spark_w2v")

HELD_OUT_SHARE = 0.01  # most sentences that are held out


@dataclass
class Training:
    """One run of training.

    Every state has its own parameters, in a new directory, which is removed when the next state is complete, unless the
    run made it a checkpoint, or `average` needs it. That of the last state stays; the caller removes it.

    Args:
        encoded: ENCODED, persisted by the caller.
        counts: (V,) occurrences in `encoded`; 0 for a word that is never trained on and keeps its vectors.
        folder: for this training alone, created if missing; the caller removes what is left in it.
        snapshots: whether there is a new state after each sweep of `blocks`, not only after each epoch.
        exchange: how the processes of `blocks` reach each other.
        averages: whether the parameters that the training starts from are kept on the disk, for `average`.
    """

    encoded: "DataFrame"
    counts: Int64Array
    settings: Settings
    folder: Path
    snapshots: bool = False
    exchange: ExchangeSettings = field(default_factory=ExchangeSettings)
    averages: bool = False
    blocks: Blocks = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        keep = kept_share(self.counts, s.subsample)
        load = kept_words(self.counts, s.subsample)
        self.blocks = assign_blocks(load, s.partitions if s.scheme == "blocks" else 1)
        held_out = min(HELD_OUT_SHARE, s.held_out_words / max(load.sum(), 1.0))
        noise = noise_distribution(self.counts, s.noise_exponent)
        sampler = PairSampler(keep, s.window, s.seed, held_out, self.blocks, s.max_contexts, s.shrinks)
        self._run_spec = RunSpec(sampler, noise[self.blocks.order], s.negatives, s.damping)
        self._pairs = expected_pairs(load.sum(), s.expected_contexts)
        if s.scheme == "blocks":
            bucket = largest_bucket(self._pairs, s.partitions, load)
            self.settings = replace(s, slices=equal_sweeps(s.slices, bucket))
        self._places = np.empty(self.counts.size, np.int32)  # row of each word in block order
        self._places[self.blocks.order] = np.arange(self.counts.size, dtype=np.int32)
        self._sample = self._draw_sample(sampler, noise)
        self._trained_before = np.zeros(self.counts.size, np.int64)
        self._initial: ParameterFiles | None = None
        self._limit = LossLimit(s.negatives)
        parameters = self._create("initial")
        initialise(parameters.center, s.seed, self._places)
        self.state = State(parameters)

    @property
    def _context(self) -> SparkContext:
        return self.encoded.sparkSession.sparkContext

    def _draw_sample(self, sampler: PairSampler, noise: Float64Array) -> Sample:
        # Of a sampler in the closure, Spark would make a broadcast that stays.
        sent = send(self._context, sampler)

        def held_out(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for row in segments_of(batches):
                segment = segment_of(row)
                for some_ids, some_lengths in sentences_held_out([segment], sent.value):
                    values = [*segment.place, some_ids.tobytes(), some_lengths.tobytes(), b""]
                    yield pa.RecordBatch.from_pydict(
                        {name: [value] for name, value in zip(ENCODED.names, values, strict=True)}, ENCODED_ARROW
                    )

        self._context.setJobDescription("training: drawing the held-out sentences")
        try:
            rows = self.encoded.mapInArrow(held_out, ENCODED).collect() if sampler.held_out else []
        finally:
            sent.destroy()
        found = [segment_of(row) for row in rows]
        sentences = [(one.ids, one.lengths) for one in sorted(found, key=lambda segment: segment.place)]
        return draw_sample(sentences, sampler, noise, self.settings.negatives).moved(self._places)

    def resume(self, position: dict[str, Any], parameters: ParameterFiles) -> None:
        """Continue from a checkpoint of the same corpus and configuration.

        Args:
            position: as State.position returns it.
            parameters: of the checkpoint; not removed.
        """
        self._take(parameters)
        self.state = State.at(position, parameters)

    def start_from(self, rows: Iterable[tuple[npt.NDArray[np.integer[Any]], Float32Array, Float32Array]]) -> None:
        """Start from these vectors instead of random ones; a word without given vectors keeps its random ones.

        Args:
            rows: chunks of word ids (n,) with their center and context vectors, (n, D) each.
        """
        for words, center, context in rows:
            places = self._places[words]
            self.state.center[places] = center
            self.state.context[places] = context
        self._limit.begin_with(self.held_out_loss())

    def count_before(self, trained: Int64Array, known: BoolArray) -> None:
        """Say which words have initial vectors, (V,), and on how many occurrences each was trained, (V,)."""
        self._trained_before, self._known = trained, known
        self._initial = self.state.parameters if self.averages else None

    def average(self) -> None:
        """Average the result with the initial vectors, if these are kept; see `share_of_run`."""
        if (before := self._initial) is not None:
            shares = share_of_run(self._trained_before, self.trained() - self._trained_before)
            with self._new_parameters("average") as made:
                fill_average(made, self.state.parameters, before, shares[self.blocks.order])
            before.remove()
            self._initial = None

    def turn_new_words(self) -> None:
        """Turn the vectors of new words to what their contexts and their own context vectors say, after `average`.

        They were trained among the vectors of this run alone, which the average has moved (docs/decisions.md).
        """
        for part in self.induce(self._known, rare=True):
            places = self._places[part.words]
            self.state.center[places] = turn_rows(self.state.center[places], part.center)

    def trained(self) -> Int64Array:
        """Return (V,) occurrences that the vectors of each word were trained on, expected, over all finished epochs."""
        here = self.state.epoch * kept_words(self.counts, self.settings.subsample)
        return self._trained_before + np.rint(here).astype(np.int64)

    def induce(self, known: BoolArray, rare: bool = False) -> Iterator[Induced]:
        """Yield vectors of the words that have none yet, from their contexts; see induction.induce.

        Args:
            known: (V,) whether a word has vectors.
            rare: whether they turn words that have been trained; without enough words to fit the map there are none.
        """
        s = self.settings
        if not (~known & (self.counts > 0)).any():
            return
        keep = kept_share(self.counts, s.subsample)
        vectors, window = self.vectors(), (s.window, s.shrinks)
        yield from induce(self.encoded, self.counts, known, vectors, keep, *window, s.seed, rare=rare)

    def held_out_loss(self) -> float | None:
        """Return the held-out loss of the current parameters; None without held-out pairs."""
        return self._sample.loss(self.state.center, self.state.context)

    def vectors(self) -> tuple[ByWord, ByWord]:
        """Return center and context vectors by word id, (V, D) each, read from the files of the state."""
        return ByWord(self.state.center, self._places), ByWord(self.state.context, self._places)

    def _create(self, name: str) -> ParameterFiles:
        """Create parameters of zeros, to be written to.

        The name is unique: another run may have taken over this run's folder, because its host seemed dead.
        """
        directory = self.folder / f".{name}-{uuid.uuid4().hex[:8]}.unfinished"
        return ParameterFiles.create(directory, self.counts.size, self.settings.dimensions)

    @contextmanager
    def _new_parameters(self, name: str) -> Iterator[ParameterFiles]:
        """Create parameters of zeros, to be filled; they replace those of the state unless an error is raised."""
        made = self._create(name)
        try:
            yield made
        except BaseException:
            made.remove()
            raise
        self._take(made)

    def _take(self, parameters: ParameterFiles) -> None:
        """Replace the state's parameters by these. A checkpoint and what `average` needs stay on the disk."""
        former, self.state.parameters = self.state.parameters, parameters
        if former.is_temporary and former is not self._initial:
            former.remove()

    def run(self) -> Iterator[Progress]:
        """Train to the end, and yield progress. Where progress.is_saved, the caller may save the state before going on.

        Raises:
            NoPairsError: no sentence has two words.
            DivergedError: parameters or the loss are not finite, or too large.
            SparkLostError: an epoch failed too often.
        """
        run_spec = send(self._context, self._run_spec)
        try:
            if self.settings.scheme == "blocks":
                for epoch in range(self.state.epoch, self.settings.epochs):
                    yield from self._block_epoch(epoch, run_spec)
            else:
                count = self.settings.partitions
                self._context.setJobDescription(f"training: assigning the sentences to {count} replicas")
                replicas = Replicas(self.encoded, run_spec, count)
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
            run_spec.destroy()

    def _progress(self, epoch: int, done: float, **more: Any) -> Progress:
        """Return a report.

        Args:
            epoch: from 0.
            done: share of the epoch.
            more: other fields of Progress.
        """
        state, done = self.state, (epoch + done) / self.settings.epochs
        loss = state.loss / state.loss_pairs if state.loss_pairs else None
        return Progress(done, epoch, learning_rate(*self.settings.rates, done), loss, **more)

    def _end_epoch(self, epoch: int, sweeps: int, more: dict[str, Any]) -> Progress:
        """End an epoch: report its metrics, and set the state to the beginning of the next epoch.

        Args:
            more: metrics that differ between schemes.

        Raises:
            NoPairsError: it is the first one, and no sentence has two words. An epoch that happens
                to draw no pair is no error, as subsampling leaves little of a small vocabulary.
            DivergedError: its loss is larger than that of an untrained model.
        """
        state = self.state
        if not (epoch or state.pairs) and longest_sentence(self.encoded) < 2:
            raise NoPairsError(self.counts.size)
        progress = self._progress(epoch, 1.0)
        held_out = self.held_out_loss()
        self._limit.check(progress.loss, held_out)
        metrics = {
            "epoch": epoch + 1,
            "loss": progress.loss,
            "held_out_loss": held_out,
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
        self.state = State(state.parameters, epoch + 1, has_trained=state.has_trained or state.pairs > 0)
        return replace(progress, is_saved=True, metrics=metrics)

    def _block_epoch(self, epoch: int, run_spec: "Broadcast[RunSpec]") -> Iterator[Progress]:
        s = self.settings
        edges = epoch_edges(epoch, self.blocks.count, s.slices, self._pairs)
        trained = BlockEpoch(
            self.encoded, run_spec, epoch, s.epochs, edges, s.dimensions, s.rates, self.snapshots,
            self.exchange,
            lambda sweep: self._create(f"{epoch}-{sweep + 1}"),
        )  # fmt: skip
        sweeps, begun = edges.size - 1, time.monotonic()
        for event in trained.run(self.state.parameters, self.state.sweep):
            before = float(edges[self.state.sweep])
            if isinstance(event, EpochProgress):
                done = before if event.done is None else event.done
                yield self._progress(epoch, done, is_drawing=event.done is None)
                continue
            self._take(event.parameters)
            self._add(event, time.monotonic() - begun)
            begun = time.monotonic()
            if self.state.sweep < sweeps:
                yield self._progress(epoch, float(edges[self.state.sweep]), is_saved=True)
            else:
                yield self._end_epoch(epoch, sweeps, about_tasks(event.tasks))

    def _add(self, event: SweepEnded, seconds: float) -> None:
        """Add sweeps that have come back to the state.

        Args:
            seconds: since the sweeps before.
        """
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
            first, last = (learning_rate(*s.rates, (epoch + edges[number + k]) / s.epochs) for k in (0, 1))
            params = SgdParams(s.negatives, s.damping, first, last)
            self._context.setJobDescription(f"epoch {epoch + 1} of {s.epochs}: sync {number + 1} of {syncs}")
            results, parts = replicas.sync(self.state.center, self.state.context, params, (epoch, number), edges)
            if not all(math.isfinite(result.loss) for result in results):
                raise DivergedError(DIVERGED)
            if (found := next((part.divergence for part in parts if part.divergence), None)) is not None:
                raise DivergedError(found)
            with self._new_parameters(f"{epoch}-{number + 1}") as new:
                for part in parts:
                    rows = row_range(self.counts.size, part.part, s.partitions)
                    new.center[rows], new.context[rows] = part.center, part.context
            self._add_results(results, time.monotonic() - begun)
            if self.state.sweep < syncs:
                yield self._progress(epoch, float(edges[self.state.sweep]), is_saved=True)
            else:
                pairs = [result.pairs for result in results]
                yield self._end_epoch(
                    epoch, syncs, {"tasks": len(results), "most_task_pairs": max(pairs), "least_task_pairs": min(pairs)}
                )

    def _add_results(self, results: list[TaskResult], seconds: float) -> None:
        """Add the results of a sync to the state."""
        state = self.state
        for result in results:
            state.loss += result.loss
            state.loss_pairs += result.loss_pairs
            state.pairs += result.pairs
            state.words += result.words
            state.take_seconds += result.pair_seconds
            state.kernel_seconds += result.kernel_seconds
        state.sweep += 1
        state.seconds += seconds
