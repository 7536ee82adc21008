"""Whether tasks reach the driver and each other; on a network: tests/cluster/test_network.py."""

import logging
import sys

import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import ConfigError
from spark_w2v.spark import reach, slots
from spark_w2v.spark.reach import check_reach

SETTINGS = slots.ExchangeSettings(timeout=20.0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "spark_w2v"]


def test_tasks_meet_and_end(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check_reach(spark, SETTINGS, 2)
    assert not said(caplog)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback has one address")
def test_a_driver_that_no_task_reaches_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "driver_host", lambda _: ("127.0.0.1", "127.0.0.9"))
    sentence = r"^the driver cannot be reached at 127\.0\.0\.9:\d+ \(.*\); set spark\.driver\.host .* to them\.$"
    with pytest.raises(ConfigError, match=sentence):
        check_reach(spark, SETTINGS, 2)


def test_without_free_slots_training_is_to_find_out(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reach, "slots", lambda _: (64, 1))  # more than there are, so that Spark starts none
    with caplog.at_level(logging.INFO):
        check_reach(spark, slots.ExchangeSettings(timeout=0.5), 64)
    assert [line.partition(": ")[0] for line in said(caplog)] == [
        "whether tasks reach each other is seen when they train"
    ]
