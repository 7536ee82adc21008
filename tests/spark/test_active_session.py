"""Training leaves the active session to its caller, in each thread and while it goes on."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark import RDD
from pyspark.sql import SparkSession

from spark_w2v import train
from spark_w2v.spark.session import create_frame, own_session, reading_session, restored_caller


def in_a_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_a_dataframe_of_a_session_of_ours_leaves_the_active_session(spark: SparkSession) -> None:
    spark.createDataFrame([(1,)], "a int")  # which makes it the active one
    own = own_session(spark)

    def make() -> SparkSession | None:
        assert create_frame(own, pa.table({"a": [1]})).sparkSession is own
        return SparkSession.getActiveSession()

    assert make() is spark
    assert in_a_thread(make) is None
    assert SparkSession.active() is spark


@pytest.mark.parametrize("make", [own_session, reading_session])
def test_rdds_make_dataframes_of_the_callers_session(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, make: Callable[[SparkSession], SparkSession]
) -> None:
    monkeypatch.setattr(RDD, "toDF", RDD.toDF)  # to be restored: PySpark gives it to the last session that was made
    mine = spark.newSession()
    assert make(mine) is not mine
    try:
        assert spark.sparkContext.parallelize([(1,)]).toDF(["a"]).sparkSession is mine
    finally:
        spark.createDataFrame([(1,)], "a int")


def test_dataframes_of_several_threads_leave_the_active_session(spark: SparkSession) -> None:
    spark.createDataFrame([(1,)], "a int")

    def work() -> None:
        own = own_session(spark)
        for _ in range(20):
            create_frame(own, pa.table({"a": [1]}))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SparkSession.active() is spark


def test_a_session_that_another_thread_makes_active_stays(spark: SparkSession) -> None:
    mine = spark.newSession()
    with restored_caller(spark.sparkContext):
        create_frame(own_session(spark), pa.table({"a": [1]}))
        in_a_thread(lambda: mine.createDataFrame([(1,)], "a int"))
    try:
        assert SparkSession._activeSession is mine
    finally:
        spark.createDataFrame([(1,)], "a int")


@pytest.mark.slow
def test_callbacks_and_other_threads_have_the_callers_session(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    config: dict[str, dict[str, Any]] = {
        "corpus": {"column": "words", "tokenizer": "none"},
        "training": {"partitions": 1, "dimensions": 4, "epochs": 1},
        "vocabulary": {"min_count": 1, "subsample": 0, "words": str(tmp_path / "words.txt")},
    }
    rows = spark.createDataFrame([(["a", "b", "c"],)] * 30, "words array<string>")
    seen: list[bool] = []

    def note(metrics: Any) -> None:
        seen.append(SparkSession.active() is spark)

    def run() -> SparkSession | None:
        train(rows, tmp_path / threading.current_thread().name, config=config, callbacks=[note])
        return SparkSession.getActiveSession()

    assert run() is spark
    assert in_a_thread(run) is None
    assert SparkSession.active() is spark
    assert seen == [True, True]
