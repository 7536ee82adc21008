"""The driver's side of an epoch of `blocks`: one barrier stage, and the exchange between its tasks.

B blocks, T tasks, S sweeps. A failed attempt is repeated from the last complete parameters that came back. Each attempt
has its own secret and its own listener, so that no process of an earlier attempt can reach it.
"""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyspark.sql.functions as F
from pyspark import Broadcast, SparkContext

from spark_w2v.errors import DivergedError, SparkLostError
from spark_w2v.exchange.driver import DIVERGED, JOINING, DriverPart
from spark_w2v.exchange.listener import NoPortError, listen
from spark_w2v.exchange.node import Node
from spark_w2v.exchange.plan import CENTER, ExchangeError, ExchangePlan, share_blocks
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.parameters import Blocks, divergence
from spark_w2v.skipgram.sampling import RING, generator
from spark_w2v.skipgram.schedule import Ring
from spark_w2v.spark.block_task import RESULT, TaskSpec, train_with
from spark_w2v.spark.buckets import RECORDS, RunSpec, draw_records, file_pairs, keep_modules
from spark_w2v.spark.epoch_job import EpochJob
from spark_w2v.spark.java_errors import CANCELLED
from spark_w2v.spark.session import settings_of_epochs
from spark_w2v.spark.slots import PAUSE, ExchangeSettings, driver_host, is_local_mode, running_tasks, slots, tasks_left
from spark_w2v.text.encoding import segments_of
from spark_w2v.text.messages import counted
from spark_w2v.types import Float32Array, Float64Array

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

log = logging.getLogger("spark_w2v")

REPORT_EVERY = 0.5  # seconds between reports of progress
CHECK_SLOTS_EVERY = 5.0  # seconds between checks, while no task has connected
# Seconds to wait after a failed attempt for as many slots as it had: Spark ends its tasks in 2 to 4 s, and replaces a
# lost executor in about as many.
SETTLE = 10.0
CHUNK = 1 << 22  # floats checked for divergence at a time
WORK = ("draw_seconds", "take_seconds", "kernel_seconds", "wait_seconds", "task_bytes")


@dataclass(frozen=True)
class EpochProgress:
    """Progress of an epoch.

    Args:
        done: share of all its pairs that is trained; None while pairs are drawn.
    """

    done: float | None


@dataclass(frozen=True)
class SweepEnded:
    """All parameters of the end of a sweep have come back to the driver.

    Args:
        sweep: its number in the epoch, from 0.
        parameters: of the end of the sweep; the receiver owns their files.
        trained: loss, loss pairs and pairs of each sweep since the last one that came back.
        tasks: statistics of each task since the beginning of the attempt.
        work: sums over the tasks since the last event of this kind, by the names of WORK, and driver_bytes.
    """

    sweep: int
    parameters: ParameterFiles
    trained: list[tuple[float, int, int]]
    tasks: list[dict[str, Any]]
    work: dict[str, float]


Event = EpochProgress | SweepEnded


class FileStore:
    """Mapped files that the driver's part of the exchange reads rows from and writes rows to.

    Making a file takes long on some file systems, and meanwhile the exchange could send no heartbeats. So files are
    there before rows of their sweep may come, which are those of two sweeps.

    Args:
        before: parameters that the attempt starts from.
        make: creates the parameters of the end of a sweep; may raise StorageError.
        kept: sweeps whose parameters come back.
    """

    def __init__(
        self, blocks: Blocks, before: ParameterFiles, make: Callable[[int], ParameterFiles], kept: Iterable[int]
    ) -> None:
        self._blocks, self._make, self._kept = blocks, make, iter(kept)
        self._before: ParameterFiles | None = before
        self._after: dict[int, ParameterFiles] = {}
        try:
            self.make_next()
            self.make_next()
        except BaseException:
            self.close()
            raise

    def make_next(self) -> None:
        """Make the files of the next sweep, if there is one."""
        if (sweep := next(self._kept, None)) is not None:
            self._after[sweep] = self._make(sweep)

    def read(self, kind: bytes, block: int) -> Float32Array:
        assert self._before is not None, "tasks have it before a sweep ends"
        return self._blocks.of(self._before.center if kind == CENTER else self._before.context, block)

    def write(self, sweep: int, kind: bytes, block: int) -> Float32Array:
        after = self._after[sweep]
        return self._blocks.of(after.center if kind == CENTER else after.context, block)

    def take(self, sweep: int) -> ParameterFiles:
        """Return the parameters of a complete sweep; the caller owns them from then on."""
        self._before = None  # a file that is removed takes its place on the disk as long as it is mapped
        return self._after.pop(sweep)

    def close(self) -> None:
        """Remove the parameters of incomplete sweeps, and let go of all files, whoever still has the store."""
        for files in self._after.values():
            files.remove()
        self._after.clear()
        self._before = None


@dataclass
class BlockEpoch:
    """One epoch of `blocks`.

    Args:
        encoded: ENCODED.
        run_spec: for the tasks.
        epoch, epochs: number of the epoch, from 0, and number of epochs of the run.
        edges: (S + 1,) edges of its sweeps.
        dimensions: D.
        rates: first and last learning rate of the run.
        snapshots: whether parameters come back after each sweep, not only after the last.
        exchange: how processes reach each other.
        make: creates files for the parameters of the end of a sweep.
    """

    encoded: "DataFrame"
    run_spec: "Broadcast[RunSpec]"
    epoch: int
    epochs: int
    edges: Float64Array
    dimensions: int
    rates: tuple[float, float]
    snapshots: bool
    exchange: ExchangeSettings
    make: Callable[[int], ParameterFiles]
    _slots: int = field(init=False, default=0)  # most slots that an attempt has found
    _tags: list[str] = field(init=False, default_factory=list)  # of the jobs of the attempts

    @property
    def _context(self) -> SparkContext:
        return self.encoded.sparkSession.sparkContext

    def run(self, parameters: ParameterFiles, sweep: int) -> Iterator[Event]:
        """Train, and yield progress and the parameters of ended sweeps.

        Args:
            parameters: parameters to begin with; the caller owns them.
            sweep: sweep to begin with.

        Raises:
            SparkLostError: spark.task.maxFailures attempts failed, or the job was cancelled.
            DivergedError: parameters are not finite or too large, or a loss is not finite.
            StorageError: there is no room for the parameters that come back.
        """
        most = int(self._context.getConf().get("spark.task.maxFailures", "4") or 4)
        first, failures = "", 0
        while sweep < self.edges.size - 1:
            try:
                for event in self._attempt(parameters, sweep, failures):
                    if isinstance(event, SweepEnded):
                        parameters, sweep = event.parameters, event.sweep + 1
                    yield event
            except ExchangeError as error:
                failures += 1
                first = first or str(error)
                if DIVERGED in str(error):
                    raise DivergedError(DIVERGED) from None
                if failures >= most:
                    raise SparkLostError(
                        f"epoch {self.epoch + 1} failed {failures} times (spark.task.maxFailures); the first time: "
                        f"{first.rstrip('.')}"
                    ) from error
                log.warning(
                    "epoch %d: attempt %d of %d failed: %s; it goes on from sweep %d of %d",
                    self.epoch + 1, failures, most, str(error).rstrip("."), sweep + 1, self.edges.size - 1,
                )  # fmt: skip

    def _attempt(self, parameters: ParameterFiles, sweep: int, number: int) -> Iterator[Event]:
        blocks = self.run_spec.value.sampler.blocks
        most = min(blocks.count, self.exchange.tasks or blocks.count)
        count, executors = self._slots_again(most) if number else slots(self._context)
        self._slots = max(self._slots, count)
        if not count:
            raise ExchangeError("Spark has no executor")
        tasks = min(most, count)
        sweeps = self.edges.size - 1
        ring = Ring.draw(blocks.count, sweeps, generator(self.run_spec.value.sampler.seed, RING, self.epoch))
        rows = tuple(np.diff(blocks.ends).tolist())
        exchange = ExchangePlan(
            ring, sweep * blocks.count, rows, self.dimensions,
            share_blocks(blocks.count, tasks, executors), self.snapshots, self.exchange.timeout,
        )  # fmt: skip
        bind, host = driver_host(self._context)
        secret = os.urandom(32)
        # A stack, so that nothing stays open where a user interrupts what ends the job.
        with contextlib.ExitStack() as at_the_end:
            folder = None
            if is_local_mode(self._context):
                # Inside Spark's temporary directory, which is removed when the session ends, however this process ends.
                folder = tempfile.mkdtemp(prefix="pairs-", dir=self._context._temp_dir)
                at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
            listener = at_the_end.enter_context(self._listen(bind))
            store = FileStore(blocks, parameters, self.make, filter(exchange.is_kept, exchange.sweeps))
            at_the_end.callback(store.close)
            node, part = Node(secret, listener), DriverPart(exchange, store)
            del parameters
            at_the_end.callback(warn_of_strangers, node, part)
            at_the_end.callback(node.close)
            spec = TaskSpec(
                exchange, (host, node.port), self.exchange.ports, secret, self.epoch, self.edges, self.epochs,
                self.rates,
            )  # fmt: skip
            what = (
                f"epoch {self.epoch + 1} of {self.epochs}: {counted(blocks.count, 'block')}, {counted(tasks, 'task')}, "
                f"{counted(sweeps - sweep, 'sweep')}"
            )
            tag = f"epoch {self.epoch + 1} attempt {number + 1} {uuid.uuid4().hex}"
            self._tags.append(tag)
            job = EpochJob(self._context, self._frame(spec, sweep, folder), tag, what, exchange.timeout)
            at_the_end.callback(job.end)
            node.start(part)
            job.start()
            yield from self._watch(part, job, store, float(self.edges[sweep]))

    def _listen(self, bind: str) -> socket.socket:
        """Listen as `listen` does, once a port is free: another training of this host may have all for a moment."""
        until = time.monotonic() + self.exchange.timeout
        while True:
            try:
                return listen(bind, self.exchange.ports)
            except NoPortError:
                if time.monotonic() > until:
                    raise
            time.sleep(PAUSE)

    def _slots_again(self, wanted: int) -> tuple[int, int]:
        """Return the slots after a failed attempt, as slots() does, without those that earlier attempts still take.

        Spark counts the slots of an executor that does not answer until it knows that it is lost, and a barrier stage
        waits for all the slots that it was promised. After a lost executor there may be no slot for a moment. Other
        work of the session ends by itself, and is waited for as by the first attempt.

        Args:
            wanted: slots to wait for a little, if there were as many before.
        """
        begun = time.monotonic()
        while True:
            count, executors = slots(self._context)
            free, waited = count - tasks_left(self._context, self._tags), time.monotonic() - begun
            enough = free > 0 and free >= min(wanted, self._slots)
            if enough or waited > (SETTLE if free > 0 else max(SETTLE, self.exchange.timeout)):
                return max(free, 0), executors
            time.sleep(PAUSE)

    def _frame(self, spec: TaskSpec, sweep: int, folder: str | None) -> "DataFrame":
        """Return the job of an attempt.

        Args:
            folder: for files of pairs, instead of the shuffle; None to use the shuffle.
        """
        run_spec, epoch, edges, ranges = self.run_spec, self.epoch, self.edges, spec.exchange.ranges

        def draw(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
            keep_modules()
            records = draw_records(segments_of(batches), run_spec.value.sampler, epoch, edges, ranges, sweep)
            for record in records if folder is None else file_pairs(records, folder):
                yield record.batch()

        # An epoch's pairs take 8 bytes each on the local disks, and there is no room for those of all epochs.
        with settings_of_epochs(self.encoded.sparkSession):
            frame = (
                self.encoded.mapInArrow(draw, RECORDS)
                .repartitionById(len(ranges), F.col("task"))
                .mapInArrow(train_with(run_spec, spec), RESULT, barrier=True)
            )
            frame._jdf.queryExecution().executedPlan()  # now, with these settings; the job runs later
        return frame

    def _watch(self, part: DriverPart, job: EpochJob, store: FileStore, begun: float) -> Iterator[Event]:
        """Yield the events of an attempt, until it has ended.

        Args:
            begun: share of the epoch's pairs that is trained when the attempt begins.
        """
        next_report = next_look = 0.0
        busy = time.monotonic()  # when Spark was seen to have tasks
        running: float | None = None  # since when it was seen to have tasks of the exchange
        before: dict[str, float] = {}
        while True:
            has_job_ended = job.ended  # before what has come is looked at: it ends after the last of it
            with part.changed:
                if not part.snapshots and not part.has_ended:
                    part.changed.wait(REPORT_EVERY)
                found = [part.snapshots.popleft() for _ in range(len(part.snapshots))]
                stats = [part.stats.get(task, {}) for task in range(part.plan.tasks)]
                progress, joined, failure, is_over = (
                    list(part.progress.values()), part.tasks_joined, part.failure, part.is_over,
                )  # fmt: skip
            for snapshot in found:
                files = store.take(snapshot.sweep)
                try:
                    _refuse_diverged(files)
                except DivergedError:
                    files.remove()
                    raise
                work = {name: sum(task.get(name, 0) for task in stats) for name in WORK} | {"driver_bytes": part.bytes}
                since = {name: value - before.get(name, 0) for name, value in work.items()}
                before = work
                yield SweepEnded(snapshot.sweep, files, snapshot.trained, stats, since)
                store.make_next()
                with part.changed:
                    part.handled(snapshot.sweep)
            if found:  # the attempt has gone on meanwhile, for as long as a checkpoint takes
                continue
            if is_over:
                job.wait(part.plan.timeout)
                return
            if failure is not None or has_job_ended:
                reason = job.reason() if failure is None else job.reason_behind(failure)
                if job.was_cancelled:  # who cancels it does not want it again
                    raise SparkLostError(CANCELLED)
                raise ExchangeError(reason)
            now = time.monotonic()
            if not joined and now > next_look:
                next_look = now + CHECK_SLOTS_EVERY
                if (count := slots(self._context)[0]) < part.plan.tasks:
                    raise ExchangeError(f"Spark has {count} slots left of the {part.plan.tasks} that there were")
                if job.has_shuffled and tasks_left(self._context, self._tags[-1:]):
                    running = now if running is None else running
                    if now - running > (most := part.plan.timeout + JOINING):
                        raise ExchangeError(
                            f"none of {counted(part.plan.tasks, 'task')} has connected to the driver within {most:g} s"
                        )
                if running_tasks(self._context):
                    busy = now
                elif now - busy > part.plan.timeout:  # of executors that spark.excludeOnFailure excludes it uses none
                    raise ExchangeError(
                        f"Spark counts {count} slots, and has started none of {counted(part.plan.tasks, 'task')} for "
                        f"{part.plan.timeout:g} s"
                    )
            if now > next_report:
                next_report = now + REPORT_EVERY
                done = None
                if len(progress) == part.plan.tasks and all(total is not None for _, total in progress):
                    trained, total = (sum(pair[place] or 0 for pair in progress) for place in (0, 1))
                    done = begun + (1 - begun) * min(1.0, trained / max(total, 1))
                yield EpochProgress(done)


def warn_of_strangers(node: Node, part: DriverPart) -> None:
    with part.changed:
        refused = sum(part.refused_by.values())
    for who, count in (("the driver", node.refused), ("the tasks", refused)):
        if count:
            log.warning("exchange: %s turned %d connections away that did not know the run's secret", who, count)


def _refuse_diverged(files: ParameterFiles) -> None:
    for matrix in (files.center, files.context):
        step = max(1, CHUNK // matrix.shape[1])
        for begin in range(0, len(matrix), step):
            if (found := divergence(matrix[begin : begin + step])) is not None:
                raise DivergedError(found)
