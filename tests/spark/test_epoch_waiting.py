"""How long an epoch waits for tasks that Spark does not start."""

import threading
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import SparkLostError
from spark_w2v.spark import block_epochs
from spark_w2v.spark.epoch_job import EpochJob
from spark_w2v.spark.slots import ExchangeSettings
from tests.support.planted import SETTINGS, made


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
