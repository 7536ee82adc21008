"""Resources that an epoch uses, checked before it begins."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_w2v import pipeline
from spark_w2v.config import from_dict
from spark_w2v.errors import SparkLostError, UserError
from spark_w2v.spark import slots
from spark_w2v.spark.slots import driver_host

LIMITS = """
import resource
from spark_w2v.exchange.node import PENDING
from spark_w2v.spark.slots import OTHER_FILES, allow_connections
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
allow_connections((600 - OTHER_FILES - PENDING) // 2)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, hard), "enough already"
allow_connections(600)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1200 + PENDING + OTHER_FILES, hard)
allow_connections(hard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_the_limit_of_open_files_is_raised_or_the_run_refused() -> None:
    # In a process of its own, as the limit holds for all of it.
    ended = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "UserError" in last or "UserError" in last, ended.stderr
    assert (
        "the driver has a connection with each of 4,096 tasks, needs 8,576 open files and may have 4,096; raise its "
        "limit" in last
    )


def test_a_driver_that_cannot_listen_is_refused_before_the_work_starts(spark: SparkSession) -> None:
    with socket.socket() as taken:
        taken.bind((driver_host(spark.sparkContext)[0], 0))
        port = taken.getsockname()[1]
        keys = {"training": {"partitions": 2}, "exchange": {"first_port": port, "last_port": port}}
        with pytest.raises(UserError, match=rf"no port from {port} to {port} is free; raise exchange\.last_port"):
            pipeline.resolve(spark, from_dict(keys))
    slots.check_spark(spark.sparkContext, slots.ExchangeSettings(ports=(port, port)))


def test_too_few_ports_are_refused_before_the_work_starts(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are enough for the driver and two tasks on one machine, two are not."""
    context, settings = spark.sparkContext, slots.ExchangeSettings(ports=(41000, 41001))
    with pytest.raises(UserError, match=r"are a range of 2, and with 2 tasks a machine needs 3 ports; raise exch"):
        slots.planned_tasks(context, settings, 4)
    assert slots.planned_tasks(context, settings, 1) == 1
    assert slots.planned_tasks(context, slots.ExchangeSettings(ports=(41000, 41002)), 4) == 2

    cluster: Any = SimpleNamespace(master="spark://m")
    settings = slots.ExchangeSettings(ports=(41000, 41003))
    monkeypatch.setattr(slots, "slots", lambda context: (8, 2))
    assert slots.planned_tasks(cluster, settings, 64) == 8
    monkeypatch.setattr(slots, "slots", lambda context: (9, 2))
    with pytest.raises(UserError, match=r"are a range of 4, and with 9 tasks a machine needs 5 ports"):
        slots.planned_tasks(cluster, settings, 64)
    assert slots.planned_tasks(cluster, settings, 8) == 8


def test_tasks_without_slots_are_refused_before_the_work_starts(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"exchange\.tasks is 3, and Spark has 2 slots"):
        pipeline.resolve(spark, from_dict({"training": {"partitions": 4}, "exchange": {"tasks": 3}}))


def test_automatic_partitions_are_as_many_as_slots(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not spark.default.parallelism, which clusters set to what suits their shuffles."""
    monkeypatch.setattr(slots, "slots", lambda context: (5, 1))
    assert pipeline.resolve(spark, from_dict({})).partitions == 5
    monkeypatch.setattr(slots, "slots", lambda context: (0, 1))
    with pytest.raises(SparkLostError, match="Spark has no executors"):
        pipeline.resolve(spark, from_dict({}))
    dynamic = SimpleNamespace(get=lambda key, default: "true" if "dynamicAllocation" in key else default)
    monkeypatch.setattr(type(spark.sparkContext), "getConf", lambda context: dynamic)
    monkeypatch.setattr(slots, "settled_slots", lambda context: 0)
    with pytest.raises(UserError, match=r"spark\.dynamicAllocation\.enabled is true"):
        pipeline.resolve(spark, from_dict({}))


@pytest.mark.parametrize(
    ("keys", "plain", "refusals"),
    [
        ((), False, 0),
        (("io.encryption.enabled",), False, 2),
        (("io.encryption.enabled",), True, 0),
        (("authenticate.enableSaslEncryption",), False, 1),
        (("network.crypto.enabled",), False, 1),
        (("ssl.enabled",), False, 1),
        (("ssl.rpc.enabled",), False, 1),
        (("ssl.rpc.enabled",), True, 0),
    ],
)
def test_what_spark_encrypts_is_not_left_plain_unless_it_is_allowed(
    keys: tuple[str, ...], plain: bool, refusals: int
) -> None:
    conf = {f"spark.{key}": "TRUE" for key in keys}
    conf["spark.driver.host"] = "127.0.0.1"
    context: Any = SimpleNamespace(getConf=lambda: conf)
    settings = slots.ExchangeSettings(plain=plain)
    checks: list[Callable[[], None]] = [
        lambda: slots.check_spark(context, settings),
        lambda: slots.check_local_disks(context, settings, "session"),
    ]
    for number, check in enumerate(checks):
        if number < refusals:
            with pytest.raises(UserError, match=rf"^spark\.{re.escape(keys[0])} is true, and "):
                check()
        else:
            check()
    slots.check_local_disks(context, settings, "")  # no rows are sorted


class Clock:
    """Executors come at some seconds after the start of a session, which began `age` seconds ago."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, come: dict[float, int], age: float, **conf: str) -> None:
        self.now = 0.0
        conf = {f"spark.{key.replace('_', '.')}": value for key, value in conf.items()}
        self.context: Any = SimpleNamespace(master="spark://m", startTime=-1000 * age, getConf=lambda: conf)
        monkeypatch.setattr(
            slots, "time", SimpleNamespace(sleep=self.sleep, time=lambda: self.now, monotonic=lambda: self.now)
        )
        there = lambda context: (sum(count for at, count in come.items() if at <= self.now), 1)  # noqa: E731
        monkeypatch.setattr(slots, "slots", there)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("come", "age", "conf", "found", "after"),
    [
        ({3: 2, 6: 2, 9: 4}, 0, {}, 8, 14),
        ({3: 2, 6: 2, 9: 4}, 0, {"cores_max": "4"}, 4, 6),
        ({3: 2, 6: 2}, 0, {"cores_max": "8"}, 4, 11),
        ({3: 2, 6: 2}, 0, {"executor_instances": "2", "executor_cores": "4", "task_cpus": "2"}, 4, 6),
        ({3: 2, 6: 2}, 0, {"executor_instances": "1", "executor_cores": "2", "task_cpus": "0.5"}, 4, 6),
        ({3: 2, 6: 2}, 55, {}, 2, 5),  # a session whose executors are there or do not come
        ({0: 3, 1: 1}, 60, {}, 3, 0),
        ({}, 0, {}, 0, 60),
    ],
)
def test_executors_that_are_on_their_way_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, come: dict[float, int], age: float, conf: dict[str, str], found: int, after: float
) -> None:
    clock = Clock(monkeypatch, come, age, **conf)
    assert slots.settled_slots(clock.context) == found
    assert clock.now == pytest.approx(after, abs=0.5)


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (10, -1):  # within the wait, and before it
        clock = Clock(monkeypatch, {}, 0)
        slots.time.time = lambda clock=clock, at=seconds: clock.now - (3600 if clock.now > at else 0)  # type: ignore[attr-defined]
        assert slots.settled_slots(clock.context) == 0
        assert clock.now == pytest.approx(60, abs=0.5)
