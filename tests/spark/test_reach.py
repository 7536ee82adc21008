"""Whether tasks reach the driver and each other; on a network: tests/cluster/test_network.py."""

import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from pyspark import BarrierTaskContext
from pyspark.sql import SparkSession

from spark_w2v.errors import SparkLostError, UserError
from spark_w2v.exchange import driver
from spark_w2v.spark import reach, slots
from spark_w2v.spark.block_task import Attempt, TaskFunction
from spark_w2v.spark.java_errors import CANCELLED
from spark_w2v.spark.reach import check_reach

SETTINGS = slots.ExchangeSettings(timeout=20.0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "spark_w2v"]


def test_tasks_meet_and_end(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files_for: list[int] = []
    monkeypatch.setattr(reach, "allow_connections", files_for.append)
    with caplog.at_level(logging.INFO):
        check_reach(spark, SETTINGS, 2)
    assert files_for == [2]
    assert not said(caplog)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback has one address")
def test_a_driver_that_no_task_reaches_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "driver_host", lambda _: ("127.0.0.1", "127.0.0.9"))
    sentence = r"^the driver cannot be reached at 127\.0\.0\.9:\d+ \(.*\); set spark\.driver\.host .* to them\.$"
    with pytest.raises(UserError, match=sentence):
        check_reach(spark, SETTINGS, 2)


NOWHERE = "255.255.255.255"  # which refuses no connection, as behind a firewall


def test_a_driver_that_nobody_refuses_and_nobody_reaches_is_refused(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "driver_host", lambda _: ("127.0.0.1", NOWHERE))
    with pytest.raises(UserError, match=rf"^the driver cannot be reached at {NOWHERE}:\d+ \(.*\); set spark\.driver"):
        check_reach(spark, slots.ExchangeSettings(timeout=5.0), 2)


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_driver_that_one_task_alone_does_not_reach_is_refused(
    lost: int, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_in = reach.meet_in

    def meet_or_not(attempt: Attempt) -> TaskFunction:
        ways = {False: meet_in(attempt), True: meet_in(replace(attempt, driver=(NOWHERE, attempt.driver[1])))}

        def meet(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield from ways[BarrierTaskContext.get().partitionId() == lost](batches)

        return meet

    monkeypatch.setattr(reach, "meet_in", meet_or_not)
    monkeypatch.setattr(driver, "JOINING", 2.0)
    with pytest.raises(UserError, match=rf"^the driver cannot be reached at {NOWHERE}:\d+ \(.*\); set spark\.driver"):
        check_reach(spark, slots.ExchangeSettings(timeout=2.0), 2)


def test_a_port_that_another_run_has_is_left_to_training(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, caplog.at_level(logging.INFO):
        port = taken.getsockname()[1]
        check_reach(spark, slots.ExchangeSettings(ports=(port, port), timeout=20.0), 2)
    (line,) = said(caplog)
    assert re.fullmatch(rf"whether tasks reach each other is seen when they train: .*no port from {port} to .*", line)


def test_a_check_that_is_cancelled_ends_the_training(spark: SparkSession) -> None:
    context, ended = spark.sparkContext, threading.Event()

    def keep_cancelling() -> None:
        while not ended.wait(0.02):
            context.cancelJobGroup("mine")

    context.setJobGroup("mine", "my own work")
    thread = threading.Thread(target=keep_cancelling)
    thread.start()
    try:
        with pytest.raises(SparkLostError, match=f"^{re.escape(CANCELLED)}$"):
            check_reach(spark, SETTINGS, 2)
    finally:
        ended.set()
        thread.join()
        for key in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(key, None)  # type: ignore[arg-type]  # None removes it


def test_without_free_slots_training_is_to_find_out(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reach, "slots", lambda _: (64, 1))  # more than there are, so that Spark starts none
    with caplog.at_level(logging.INFO):
        check_reach(spark, slots.ExchangeSettings(timeout=0.5), 64)
    assert [line.partition(": ")[0] for line in said(caplog)] == [
        "whether tasks reach each other is seen when they train"
    ]
