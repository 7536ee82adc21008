"""Trainings that are cancelled, and attempts that find no port, or end at the same moment as their job."""

import socket
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from spark_w2v.errors import SparkLostError
from spark_w2v.exchange.listener import listen
from spark_w2v.spark import block_epochs
from spark_w2v.spark.block_epochs import BlockEpoch
from spark_w2v.spark.java_errors import CANCELLED, lost
from spark_w2v.spark.slots import ExchangeSettings
from tests.support.planted import SETTINGS, made


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
@pytest.mark.parametrize("by_group", [False, True])
def test_a_training_that_is_cancelled_ends_and_is_not_repeated(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture, by_group: bool, scheme: str
) -> None:
    """As by Ctrl-C in a notebook, on Spark's page, or by a program that cancels the job group of the caller."""
    context = spark.sparkContext

    def cancel(_: object) -> None:
        if by_group:
            context.cancelJobGroup("mine")
        else:
            context.cancelAllJobs()

    ended = threading.Event()

    def keep_cancelling() -> None:
        while not ended.wait(0.05):
            cancel(None)

    settings = replace(SETTINGS, scheme=scheme, epochs=50)
    context.setJobGroup("mine", "my own work")
    thread = threading.Thread(target=keep_cancelling)
    try:
        run = made(spark, tmp_path, settings).run()
        next(run)
        thread.start()
        with pytest.raises((SparkLostError, Py4JJavaError)) as raised:
            deque(run, maxlen=0)
    finally:
        ended.set()
        thread.join()
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]  # None removes it
    assert (lost(raised.value) or str(raised.value)) == CANCELLED
    assert not [record for record in caplog.records if "attempt" in record.getMessage()]


def free_ports(count: int) -> int:
    """The first of some neighbouring ports that nobody listens on."""
    for first in range(20_000, 30_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@pytest.mark.slow
def test_a_task_without_a_port_says_so_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """The driver and one of two tasks have the two ports; the other task never comes."""
    first = free_ports(2)
    training = made(spark, tmp_path, SETTINGS, exchange=ExchangeSettings(ports=(first, first + 1), timeout=60))
    begun = time.monotonic()
    said = (
        rf"epoch 1 failed 4 times \(spark\.task\.maxFailures\); the first time: 127\.0\.0\.1: no port from {first} to "
        rf"{first + 1} is free; raise exchange\.last_port$"
    )
    with pytest.raises(SparkLostError, match=said):
        list(training.run())
    assert time.monotonic() - begun < 60


def test_an_attempt_waits_for_a_port_of_the_range(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another training of the host may have them all for a moment."""
    first = free_ports(3)
    taken = [socket.create_server(("127.0.0.1", first + number)) for number in range(3)]

    tried = []

    def count(host: str, ports: tuple[int, int]) -> socket.socket:
        tried.append(ports)
        if len(tried) == 3:
            for sock in taken:
                sock.close()
        return listen(host, ports)

    monkeypatch.setattr(block_epochs, "listen", count)
    exchange = ExchangeSettings(ports=(first, first + 2), timeout=20)
    assert list(made(spark, tmp_path, SETTINGS, exchange=exchange).run())
    assert len(tried) >= 3
    assert not [record for record in caplog.records if "attempt" in record.getMessage()]


def test_ports_that_stay_taken_end_an_attempt(spark: SparkSession, tmp_path: Path) -> None:
    first = free_ports(1)
    exchange = ExchangeSettings(ports=(first, first), timeout=0.2)
    with (
        socket.create_server(("127.0.0.1", first)),
        pytest.raises(SparkLostError, match=rf"failed 4 times .* no port from {first} to {first} is free"),
    ):
        list(made(spark, tmp_path, SETTINGS, exchange=exchange).run())


def test_a_job_that_ends_with_the_last_rows_has_not_failed() -> None:
    part: Any = SimpleNamespace(
        changed=threading.Condition(), snapshots=deque(), has_ended=True, stats={}, tasks_joined=1, failure=None,
        plan=SimpleNamespace(tasks=1, timeout=1.0), progress={}, is_over=False,
    )  # fmt: skip

    class Job:
        was_cancelled = False

        @property
        def ended(self) -> bool:
            part.is_over = True  # the last rows have come while somebody asked
            return True

        def reason(self) -> str:
            return "the tasks ended before all rows had come back"

        def wait(self, timeout: float) -> None:
            pass

    epoch: Any = SimpleNamespace(_context=None, _tags=[])
    assert list(BlockEpoch._watch(epoch, part, Job(), None, 0.0)) == []  # type: ignore[arg-type]
