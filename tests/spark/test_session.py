"""Spark that does not start ends the job with one sentence; Spark that starts has a Python worker soon."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_w2v import job
from spark_w2v.spark import defaults, session, shared_session
from tests.support.training_job import submit


def start(tmp_path: Path, master: str, *settings: str) -> tuple[int, str]:
    """Return the exit code, and what was said."""
    (tmp_path / "a.txt").write_text("alpha beta\n")
    done = submit(["--input", tmp_path / "a.txt", "--output", tmp_path / "out"], master, settings)
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("master", "settings", "reason"),
    [
        ("local[0]", [], "Asked to run locally with 0 threads"),
        ("local[1]", ["--driver-memory", "300m"], "must be at least 471859200"),
        ("local[1]", ["--conf", "spark.serializer=no.such.Class"], "no.such.Class"),
    ],
)
def test_a_setting_that_spark_refuses_is_one_sentence(
    java_home: str, tmp_path: Path, master: str, settings: list[str], reason: str
) -> None:
    status, said = start(tmp_path, master, *settings)
    assert status == 2, said
    (sentence,) = [line for line in said.splitlines() if line.startswith("train.py: Spark does not start (")]
    assert reason in sentence
    assert "Traceback" not in said
    assert "\tat " not in said


@pytest.mark.slow
def test_a_master_that_does_not_answer_is_to_be_tried_again(java_home: str, tmp_path: Path) -> None:
    status, said = start(tmp_path, "spark://127.0.0.1:1")
    assert status == 75, said
    assert "Traceback" not in said


def test_a_local_session_starts_a_python_worker(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = SimpleNamespace(getOrCreate=lambda: spark)
    builder.config = lambda *setting: builder
    monkeypatch.setattr(session, "SparkSession", SimpleNamespace(builder=builder))
    tracker = spark.sparkContext.statusTracker()
    before = set(tracker.getJobIdsForGroup("workers"))
    session.start_session()
    deadline = time.monotonic() + 60
    while not set(tracker.getJobIdsForGroup("workers")) - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("more", "expected"), [({}, "false"), ({f"{session.SOCKETS}.dir": "/run/short"}, None)])
def test_on_yarn_workers_have_no_sockets_with_a_long_path(
    more: dict[str, str], expected: str | None, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, str] = {}
    builder = SimpleNamespace(getOrCreate=lambda: spark)

    def config(key: str, value: str) -> Any:
        found[key] = value
        return builder

    builder.config = config
    given = {"spark.master": "yarn", f"{session.SOCKETS}.enabled": "true", **more}  # of conf/spark-defaults.conf
    monkeypatch.setattr(session, "SparkSession", SimpleNamespace(builder=builder))
    monkeypatch.setattr(defaults, "launch", lambda: given)
    monkeypatch.setattr(session, "_start_workers", lambda session: None)
    session.start_session()
    assert found.get(f"{session.SOCKETS}.enabled") == expected


def test_each_slot_of_a_cluster_starts_a_python_worker(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no executor has come for a while."""
    counts = iter([0, 0, 1, 2, 2])
    monkeypatch.setattr(session, "TOGETHER", 0.0)
    monkeypatch.setattr(session, "slots", lambda context: (next(counts), 1))
    monkeypatch.setattr(session, "is_local_mode", lambda context: False)
    tracker = spark.sparkContext.statusTracker()
    before = set(tracker.getJobIdsForGroup("workers"))
    with session.restored_properties(spark.sparkContext, ("spark.jobGroup.id", "spark.job.description")):
        session._start_workers(spark)
    (job,) = set(tracker.getJobIdsForGroup("workers")) - before
    found = tracker.getJobInfo(job)
    assert found is not None
    stages = [tracker.getStageInfo(stage) for stage in found.stageIds]
    assert [stage.numTasks for stage in stages if stage is not None] == [2]


@pytest.mark.parametrize("before", [True, False])
def test_a_command_stops_only_a_spark_that_it_started(
    before: bool, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[SparkSession] = []
    monkeypatch.setattr(job, "start_session", lambda: spark)
    monkeypatch.setattr(job, "stop_session", stopped.append)
    assert session.is_running()
    if not before:
        monkeypatch.setattr(job, "is_running", lambda: False)
    with contextlib.ExitStack() as cleanup:
        assert job._started(cleanup) is spark
    assert stopped == ([] if before else [spark])


def test_the_last_of_several_calls_stops_the_spark_that_one_of_them_started(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Any] = []
    ours: Any = SimpleNamespace(sparkContext=object())
    theirs: Any = SimpleNamespace(sparkContext=object())
    monkeypatch.setattr(shared_session, "start_session", lambda: ours)
    monkeypatch.setattr(shared_session, "stop_session", stopped.append)
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        assert first.enter_context(shared_session.used_session(lambda: None)) is ours
        assert second.enter_context(shared_session.used_session(lambda: ours)) is ours
        first.close()
        assert not stopped
        second.close()
        assert stopped == [ours]
    with shared_session.used_session(lambda: theirs):
        pass
    assert stopped == [ours]


def test_a_task_that_is_silent_for_long_keeps_its_worker(spark: SparkSession) -> None:
    """As a task that trains: an idle timeout of Spark's workers would end every epoch that takes longer."""

    def silent(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            time.sleep(2.5)
            yield batch

    name = "spark.sql.execution.pyspark.udf."
    spark.conf.set(f"{name}idleTimeoutSeconds", "1")
    spark.conf.set(f"{name}killOnIdleTimeout", "true")
    try:
        rows = session.in_own_session(spark.range(1, numPartitions=1))
        assert rows.mapInArrow(silent, "id long").count() == 1
    finally:
        spark.conf.unset(f"{name}idleTimeoutSeconds")
        spark.conf.unset(f"{name}killOnIdleTimeout")
