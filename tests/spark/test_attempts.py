"""Attempts at an epoch: what is shown of them, and how they end where a task does not come, or stands still."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark import InheritableThread
from pyspark.sql import SparkSession

from spark_w2v.errors import SparkLostError
from spark_w2v.exchange.driver import JOINING
from spark_w2v.exchange.plan import ExchangeError
from spark_w2v.spark import block_epochs, buckets, epoch_job, session
from spark_w2v.spark import training as training_module
from spark_w2v.spark.block_epochs import BlockEpoch, EpochProgress, SweepEnded
from spark_w2v.spark.epoch_job import EpochJob
from spark_w2v.spark.java_errors import lost
from spark_w2v.spark.slots import ExchangeSettings, tasks_left
from spark_w2v.spark.training_state import State
from tests.support.planted import SETTINGS, made

ROOT = Path(__file__).resolve().parents[2]


def test_tasks_that_spark_never_starts_end_the_run_in_bounded_time(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a barrier stage that has fewer slots than Spark counts: of excluded executors it uses none."""
    cancelled = threading.Event()
    monkeypatch.setattr(EpochJob, "_run", lambda job: cancelled.wait(60))
    monkeypatch.setattr(EpochJob, "end", lambda job: None)
    monkeypatch.setattr(block_epochs, "CHECK_SLOTS_EVERY", 0.1)
    monkeypatch.setattr(block_epochs, "SETTLE", 0.1)
    training = made(spark, tmp_path, SETTINGS, exchange=ExchangeSettings(timeout=0.3))
    said = r"failed 4 times .*Spark counts 2 slots, and has started none of 2 tasks for 0\.3 s"
    with pytest.raises(SparkLostError, match=said):
        list(training.run())
    cancelled.set()


@pytest.mark.parametrize(
    ("crash", "explained", "said"),
    [
        (signal.SIGKILL, False, r"Python worker exited unexpectedly \(crashed\)"),
        (
            signal.SIGSEGV,
            True,
            r"Python worker exited unexpectedly \(crashed\): Fatal Python error: Segmentation fault",
        ),
    ],
)
def test_a_worker_that_is_killed_or_crashes_is_named(
    spark: SparkSession, crash: signal.Signals, explained: bool, said: str
) -> None:
    session = spark.newSession()
    session.conf.set("spark.sql.execution.pyspark.udf.faulthandler.enabled", explained)

    def end(batches: Iterator[Any]) -> Iterator[Any]:
        os.kill(os.getpid(), crash)
        yield from batches

    frame = session.range(1).mapInArrow(end, "result string", barrier=True)
    job = EpochJob(spark.sparkContext, frame, "epoch", "an epoch", 60)
    job.start()
    job.wait(60)
    assert re.fullmatch(said, job.reason())


@pytest.mark.slow
def test_a_worker_that_stands_still_while_it_draws_pairs_is_ended(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(spark, tmp_path / "whole", SETTINGS)
    list(whole.run())
    stood, draw = tmp_path / "stood", buckets.draw_records

    def draw_or_stand(*arguments: Any) -> Iterator[Any]:
        if not stood.exists():
            stood.touch()
            time.sleep(600)
        yield from draw(*arguments)

    monkeypatch.setattr(block_epochs, "draw_records", draw_or_stand)
    training = made(spark, tmp_path / "other", SETTINGS, exchange=ExchangeSettings(timeout=3))
    list(training.run())
    assert stood.exists()
    assert np.array_equal(training.state.center, whole.state.center)


def test_the_share_that_is_done_counts_each_pair_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks count pairs from the beginning of their attempt, and sweeps end meanwhile."""
    part: Any = SimpleNamespace(
        changed=threading.Condition(), snapshots=deque(), has_ended=True, stats={}, tasks_joined=2, failure=None,
        plan=SimpleNamespace(tasks=2, timeout=1.0), progress={0: (4, 10), 1: (6, 10)}, is_over=False,
    )  # fmt: skip
    job: Any = SimpleNamespace(ended=False)
    seen = next(BlockEpoch._watch(None, part, job, None, 0.25))  # type: ignore[arg-type]
    assert seen == EpochProgress(0.25 + 0.75 * 0.5)

    class Epoch:
        def __init__(self, *_: Any) -> None: ...

        def run(self, *_: Any) -> Iterator[EpochProgress]:
            yield EpochProgress(None)
            yield EpochProgress(0.6)

    monkeypatch.setattr(training_module, "BlockEpoch", Epoch)
    training = made(spark, tmp_path, SETTINGS)
    training.state = State(training.state.parameters, epoch=1, sweep=1)
    progress = training.run()
    edge = 1.0  # of the only sweep
    assert [next(progress).done, next(progress).done] == [(1 + edge) / 2, 1.6 / 2]


def test_tasks_that_run_and_never_connect_end_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_epochs, "JOINING", 0.2)
    monkeypatch.setattr(block_epochs, "CHECK_SLOTS_EVERY", 0.05)
    monkeypatch.setattr(block_epochs, "slots", lambda context: (2, 1))
    monkeypatch.setattr(block_epochs, "running_tasks", lambda context: 2)
    monkeypatch.setattr(block_epochs, "tasks_left", lambda context, tags: {"one": 2}[tags[0]])
    part: Any = SimpleNamespace(
        changed=threading.Condition(), snapshots=deque(), has_ended=True, stats={}, tasks_joined=False, failure=None,
        plan=SimpleNamespace(tasks=2, timeout=0.1), progress={}, is_over=False,
    )  # fmt: skip
    job: Any = SimpleNamespace(ended=False, has_shuffled=False)
    epoch: Any = SimpleNamespace(_context=None, _tags=["earlier", "one"])
    begun = time.monotonic()

    def watch() -> None:
        for _ in BlockEpoch._watch(epoch, part, job, None, 0.0):  # type: ignore[arg-type]
            job.has_shuffled = time.monotonic() - begun > 0.5  # while pairs are drawn, nobody has to connect

    with pytest.raises(ExchangeError, match=r"none of 2 tasks has connected to the driver within 0\.3 s"):
        watch()
    assert time.monotonic() - begun > 0.8


@pytest.mark.parametrize(
    ("failure", "failures", "error", "told"),
    [
        ("a block came twice", ["lost the driver"], None, "a block came twice"),
        ("lost task 3 (a:1): closed", [], None, "lost task 3 (a:1): closed"),
        ("lost task 3 (a:1): closed", ["lost the driver"], None, "lost task 3 (a:1): closed"),
        (
            "lost task 3 (a:1): closed",
            ["lost task 3", "the exchange failed: MemoryError"],
            None,
            "the exchange failed: M",
        ),
        (
            "task 1 (b:2) stopped: lost task 0 (a:1): closed",
            [],
            RuntimeError("MemoryError: Java heap"),
            "MemoryError: J",
        ),
    ],
)
def test_the_cause_of_a_lost_task_is_told_where_it_is_known(
    failure: str, failures: list[str], error: BaseException | None, told: str
) -> None:
    job = EpochJob(None, None, "tag", "what", 1.0)  # type: ignore[arg-type]
    job._failures, job._error = failures, error
    job._thread = threading.Thread(target=int)
    job.start()
    assert job.reason_behind(failure).startswith(told)


def test_a_sweep_that_ends_while_the_one_before_is_saved_is_not_a_failure() -> None:
    """Saving a checkpoint may take longer than all that is left of an epoch."""
    matrices = SimpleNamespace(center=np.zeros((1, 1), np.float32), context=np.zeros((1, 1), np.float32))
    part: Any = SimpleNamespace(
        changed=threading.Condition(), snapshots=deque([SimpleNamespace(sweep=0, trained=None)]), has_ended=False,
        stats={}, tasks_joined=1, failure=None, plan=SimpleNamespace(tasks=1, timeout=1.0), progress={}, is_over=False,
        bytes=0, handled=lambda sweep: None,
    )  # fmt: skip
    job: Any = SimpleNamespace(ended=False, wait=lambda timeout: None, reason=lambda: "the tasks ended")
    store: Any = SimpleNamespace(take=lambda sweep: matrices, make_next=lambda: None)
    ended = []
    for event in BlockEpoch._watch(None, part, job, store, 0.0):  # type: ignore[arg-type]
        assert isinstance(event, SweepEnded)
        ended.append(event.sweep)
        if not part.is_over:
            part.snapshots.append(SimpleNamespace(sweep=1, trained=None))
            part.has_ended = part.is_over = job.ended = True
    assert ended == [0, 1]


def test_a_job_that_its_thread_has_yet_to_start_is_cancelled_too(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, run_shuffles = threading.Event(), session.run_shuffles_watched

    def later(frame: Any, timeout: float) -> None:
        begin.wait(60)
        run_shuffles(frame, timeout)

    def draw(batches: Iterator[Any]) -> Iterator[Any]:
        for _ in range(100):
            time.sleep(0.2)
        (tmp_path / "drawn").touch()
        yield from batches

    monkeypatch.setattr(epoch_job, "run_shuffles_watched", later)
    frame = spark.range(1).mapInArrow(draw, "id bigint").repartition(2).selectExpr("'{}' AS result")
    job = EpochJob(spark.sparkContext, frame, "ended", "an epoch", 60.0)
    job.start()
    threading.Timer(0.5, begin.set).start()
    job.end()
    assert job.failed
    assert "cancelled" in job.reason()
    assert not (tmp_path / "drawn").exists()


# Python has nobody to tell what ended a generator that nobody holds.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_attempt_that_is_interrupted_twice_leaves_nothing_behind(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Job:
        def __init__(self, *_: Any) -> None:
            self.ended = self.has_shuffled = False

        def start(self) -> None: ...

        def end(self) -> None:  # while the driver waits for the job to end
            raise KeyboardInterrupt

    monkeypatch.setattr(block_epochs, "EpochJob", Job)
    monkeypatch.setattr(block_epochs, "running_tasks", lambda context: 1)
    training = made(spark, tmp_path, SETTINGS)
    before = set(os.listdir(tmp_path)), set(os.listdir(spark.sparkContext._temp_dir))
    progress = training.run()
    next(progress)
    with pytest.raises(KeyboardInterrupt):
        progress.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert "exchange" not in [thread.name for thread in threading.enumerate()]
    assert (set(os.listdir(tmp_path)), set(os.listdir(spark.sparkContext._temp_dir))) == before


def test_a_worker_that_is_killed_outside_of_an_epoch_is_a_reason_to_try_again(spark: SparkSession) -> None:
    def killed(batches: Iterator[Any]) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield from batches

    with pytest.raises(Exception, match="Python worker exited unexpectedly") as failed:
        spark.range(1).mapInArrow(killed, "id bigint").collect()
    assert "a Python worker was killed or crashed" in str(lost(failed.value))


@pytest.mark.slow
def test_what_cannot_be_released_as_spark_was_shut_down_is_a_reason_to_try_again(java_home: str) -> None:
    program = """
from pyspark.sql import SparkSession
from spark_w2v.spark.java_errors import lost
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
sent = spark.sparkContext.broadcast(1)
spark.sparkContext._jsc.sc().stop()
try:
    sent.destroy()
except Exception as error:
    print(lost(error))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "Spark was shut down\n", done.stderr


def test_another_attempt_waits_for_the_tasks_of_those_before_and_not_for_other_work(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wait").touch()

    def wait(batches: Iterator[Any]) -> Iterator[Any]:
        while (tmp_path / "wait").exists():
            time.sleep(0.05)
        yield from batches

    def work() -> None:
        spark.sparkContext.addJobTag("working")
        spark.range(0, 2, 1, 2).mapInArrow(wait, "id bigint").collect()

    monkeypatch.setattr(block_epochs, "SETTLE", 0.1)
    epoch = SimpleNamespace(
        _context=spark.sparkContext, _tags=["earlier"], _slots=2, exchange=ExchangeSettings(timeout=0.3)
    )
    thread = InheritableThread(target=work)
    thread.start()
    try:
        while tasks_left(spark.sparkContext, ["working"]) < 2:
            time.sleep(0.05)
        assert BlockEpoch._slots_again(epoch, 2)[0] == 2  # type: ignore[arg-type]
        epoch._tags.append("working")
        assert BlockEpoch._slots_again(epoch, 2)[0] == 0  # type: ignore[arg-type]
    finally:
        (tmp_path / "wait").unlink()
        thread.join()
    assert BlockEpoch._slots_again(epoch, 2)[0] == 2  # type: ignore[arg-type]


def test_the_documented_time_until_an_epoch_is_repeated_is_that_of_the_program() -> None:
    text = " ".join((ROOT / "docs" / "how-it-works.md").read_text().split())
    reason, end, slots = epoch_job.REASON, epoch_job.CANCELS, block_epochs.SETTLE
    assert f"at most {reason:g} s for Spark's reason, {end} s for the end of the attempt's job, and {slots:g} s" in text
    assert f"at most twice `exchange.timeout` and {reason + end:g} s pass" in text
    assert f"(with a timeout of {slots:g} s or more)" in text
    assert f"or {JOINING:g} s more for a task that stops before it has connected" in text
