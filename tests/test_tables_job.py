"""The job on tables of events: the same bits in any order, ids next to words, and a table that is replaced whole."""

import logging
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import spark_w2v
from spark_w2v.errors import UserError
from spark_w2v.runs import embeddings
from spark_w2v.spark import corpus
from spark_w2v.spark import session as of_spark
from spark_w2v.spark.catalog_tables import _is_kept_by_spark, check_table
from spark_w2v.spark.session import OF_COMMAND, start_session
from tests.support.training_job import submit, train_here

EVENTS: dict[str, dict[str, Any]] = {
    "corpus": {"format": "table", "column": "item", "tokenizer": "none", "group_by": "session", "order_by": "at"},
    "training": {"dimensions": 8, "epochs": 5, "partitions": 1, "window": "sentence", "held_out_words": 100},
    "vocabulary": {"min_count": 1, "subsample": 0.0},
    "output": {"report": False},
}


def changed(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {**EVENTS.get(name, {}), **sections.get(name, {})} for name in {*EVENTS, *sections}}


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> Any:
    """Sessions of items of one kind: ids of a kind are alike modulo 5."""
    rng = np.random.default_rng(1)
    rows = []
    for session in range(400):
        kind = int(rng.integers(5))
        rows += [(session, at, int(10_000_000_000 + 5 * rng.integers(8) + kind), 1.0) for at in range(9)]
    return spark.createDataFrame(rows, "session int, at int, item bigint, weight double")


@pytest.fixture
def database(spark: SparkSession, tmp_path: Path) -> Any:
    spark.sql(f"create database shop location '{tmp_path}/shop'")
    yield "shop"
    spark.sql("drop database shop cascade")


@pytest.fixture(scope="module")
def of_table(spark: SparkSession, events: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The model of a run on a table, and its output; to look at only."""
    events.createOrReplaceTempView("clicks")
    output = tmp_path_factory.mktemp("table") / "out"
    return spark_w2v.train("clicks", output, config=EVENTS), output


def bits(output: Path) -> bytes:
    return np.asarray(embeddings.read(str(output)).vectors).tobytes()


@pytest.mark.slow
def test_a_table_a_frame_and_files_of_events_give_the_same_bits(
    spark: SparkSession, events: Any, of_table: tuple[Any, Path], tmp_path: Path
) -> None:
    mixed = events.orderBy("item", "at").repartition(5)
    of_frame = changed(corpus={"format": "parquet"})
    spark_w2v.train(mixed, tmp_path / "frame", config=of_frame)
    mixed.write.parquet(str(tmp_path / "files"))
    spark_w2v.train(tmp_path / "files", tmp_path / "of_files", config=of_frame)
    assert bits(of_table[1]) == bits(tmp_path / "frame") == bits(tmp_path / "of_files")


def test_ids_are_next_to_the_words_and_join_without_a_cast(
    spark: SparkSession, events: Any, of_table: tuple[Any, Path]
) -> None:
    model, output = of_table
    schema = pq.read_schema(next((output / "embeddings").glob("*.parquet")))
    assert schema.names == ["word", "id", "word_id", "count", "vector"]
    assert str(schema.field("id").type) == "int64"
    assert "id" in pq.read_schema(next((output / "vocabulary").glob("*.parquet"))).names
    joined = spark.read.parquet(f"{output}/embeddings").join(events.withColumnRenamed("item", "id"), "id")
    assert joined.count() == 9 * 400
    query = f"select count(*) from '{output}/embeddings/*.parquet' where id = word::bigint"
    assert duckdb.execute(query).fetchall() == [(40,)]
    near = model.findSynonyms("10000000000", 7).collect()
    assert np.mean([row.id % 5 == 0 for row in near]) > 0.5


@pytest.mark.slow
def test_a_partition_of_a_table_of_the_catalog_is_read_by_any_of_its_names(
    spark: SparkSession, events: Any, tmp_path: Path, database: str
) -> None:
    days = events.selectExpr("*", "date_add(date'2026-01-01', session % 2) as day")
    days.write.partitionBy("day").saveAsTable(f"{database}.clicks")
    days.where("day = '2026-01-02'").createOrReplaceTempView("one_day")
    epochs = {"epochs": 1}
    spark_w2v.train("one_day", tmp_path / "view", config=changed(training=epochs))
    config = changed(corpus={"where": "day = '2026-01-02'"}, training=epochs)
    for number, name in enumerate((f"{database}.clicks", f"spark_catalog.{database}.clicks")):
        spark_w2v.train(name, tmp_path / str(number), config=config)
        assert bits(tmp_path / str(number)) == bits(tmp_path / "view")


@pytest.mark.slow
def test_the_command_reads_a_table_by_its_name(spark: SparkSession, events: Any, tmp_path: Path) -> None:
    events.createOrReplaceTempView("clicks")
    options = [
        f"--set={section}.{key}={value}" for section, keys in EVENTS.items() for key, value in keys.items()
        if key != "report"
    ]  # fmt: skip
    arguments = ["--input", "clicks", "--output", str(tmp_path / "out"), "--set=output.report=false", *options]
    assert train_here(spark, arguments) == 0
    spark_w2v.train("clicks", tmp_path / "api", config=EVENTS)
    assert bits(tmp_path / "out") == bits(tmp_path / "api")
    assert train_here(spark, [*arguments, "--overwrite", "--set=corpus.where=session < 10"]) == 0
    assert train_here(spark, [*arguments, "--overwrite", "--set=corpus.where=sesion < 10"]) == 2


def test_a_table_that_would_be_gone_with_the_command_is_refused(
    spark: SparkSession, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, str] = {}
    check_table(spark, f"{database}.vectors")  # of a session that goes on
    start_session()
    check_table(spark, f"{database}.vectors")
    monkeypatch.setattr(spark.sparkContext, OF_COMMAND, True, raising=False)
    with pytest.raises(UserError, match=r"\.vectors: this Spark has its catalog in memory, and the table"):
        check_table(spark, f"{database}.vectors")
    monkeypatch.setattr(spark.conf, "get", lambda key, *default: kinds.get(key, *default))
    for kind, is_kept in (("org.apache.spark.sql.delta.catalog.DeltaCatalog", True), ("SparkSessionCatalog", False)):
        kinds["spark.sql.catalog.spark_catalog"] = kind
        assert _is_kept_by_spark(spark, f"{database}.vectors") is is_kept
    monkeypatch.undo()
    monkeypatch.setattr(spark.sparkContext, OF_COMMAND, False, raising=False)  # and so it is again after this
    monkeypatch.setattr(of_spark, "is_running", lambda: False)
    start_session()
    assert getattr(spark.sparkContext, OF_COMMAND)


@pytest.mark.slow
def test_the_command_refuses_a_table_in_memory_before_it_trains(tmp_path: Path, java_home: str) -> None:
    (tmp_path / "text.txt").write_text("a b\n")
    done = submit(["--input", tmp_path / "text.txt", "--output", tmp_path / "out", "--set=output.table=vectors"])
    assert done.returncode == 2, done.stdout
    assert "train.py: vectors: this Spark has its catalog in memory" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_weights_pass_through_both_schemes(spark: SparkSession, events: Any, tmp_path: Path, scheme: str) -> None:
    training = {"scheme": scheme, "partitions": 1 if scheme == "blocks" else 2}
    corpus = {"format": "parquet", "weight": "weight"}
    doubled = events.selectExpr("session", "at", "item", "weight * 2 as weight")
    losses = []
    for name, frame in (("one", events), ("two", doubled), ("none", events.selectExpr("*", "0 as w"))):
        weight = "w" if name == "none" else "weight"
        config = changed(training=training, corpus={**corpus, "weight": weight})
        if name == "none":
            with pytest.raises(UserError, match="whose weights come to less than a half each"):
                spark_w2v.train(frame, tmp_path / name, config=config)
            continue
        model = spark_w2v.train(frame, tmp_path / name, config=config)
        losses.append(model.summary.epochs[0]["pairs"])
    assert losses[1] == 2 * losses[0]  # whole sentences, nothing subsampled: nothing is left to chance


def test_the_vectors_go_to_a_table_that_is_replaced_in_one_step(
    spark: SparkSession, events: Any, tmp_path: Path, database: str
) -> None:
    events.createOrReplaceTempView("clicks")
    before = list(Path(spark.sparkContext._temp_dir).glob("tmp*"))
    for number in (1, 2):  # tests/spark/test_catalog_tables.py has more of them, and that all but two are removed
        config = changed(output={"table": f"{database}.vectors"}, training={"seed": number})
        spark_w2v.train("clicks", tmp_path / "runs", config=config, run_id=f"night-{number}")
        spark.catalog.refreshTable(f"{database}.vectors")
        rows = spark.table(f"{database}.vectors").orderBy("word_id").collect()
        assert rows[0].asDict().keys() == {"word", "id", "word_id", "count", "vector"}
        found = embeddings.read(str(tmp_path / "runs" / "runs" / f"night-{number}"))
        assert [row.word for row in rows] == found.words.to_pylist()
        assert np.array([row.vector for row in rows], np.float32).tobytes() == np.asarray(found.vectors).tobytes()
        properties = {row["key"]: row["value"] for row in spark.sql(f"show tblproperties {database}.vectors").collect()}
        assert properties["spark_w2v.run"] == f"night-{number}"
    # Nothing of the vectors stays in the session.
    assert list(Path(spark.sparkContext._temp_dir).glob("tmp*")) == before
    # That of the night before stays, for those who are reading.
    assert len(list((tmp_path / "shop").iterdir())) == 2


def test_a_table_that_is_not_ours_is_refused_before_the_training(
    spark: SparkSession, events: Any, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.createOrReplaceTempView("clicks")
    read: list[Any] = []
    monkeypatch.setattr(corpus, "read_tables", lambda *arguments: read.append(arguments))
    spark.range(3).write.saveAsTable(f"{database}.mine")
    for name, says in (
        (f"{database}.mine", "is a table that spark_w2v did not write"),
        ("nowhere.vectors", "is not the name of a table that can be made"),
        ("a b", "is not the name of a table that can be made"),
    ):
        with pytest.raises(UserError, match=says):
            spark_w2v.train("clicks", tmp_path / "out", config=changed(output={"table": name}))
    assert not read, "which takes most of the time where the rows are events"
    assert spark.table(f"{database}.mine").count() == 3
    assert not (tmp_path / "out" / "embeddings").exists()


@pytest.mark.slow
def test_a_table_that_cannot_be_written_is_told_in_one_sentence_and_written_with_resume(
    spark: SparkSession, events: Any, tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "spark_w2v")
    events.createOrReplaceTempView("clicks")
    (tmp_path / "shop").rmdir()
    (tmp_path / "shop").touch()  # in the way of the rows
    options = [
        f"--set={section}.{key}={value}" for section, keys in EVENTS.items() for key, value in keys.items()
        if key != "report"
    ]  # fmt: skip
    arguments = ["--input", "clicks", "--output", str(tmp_path / "out"), "--set=output.report=false", *options]
    assert train_here(spark, [*arguments, f"--set=output.table={database}.vectors"]) == 75
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: ")]
    assert sentence.startswith(f"train.py: {database}.vectors: the table could not be written (")
    assert sentence.endswith("); --resume goes on from the last checkpoint, and writes it before the output.")
    (tmp_path / "shop").unlink()
    assert train_here(spark, [*arguments, f"--set=output.table={database}.vectors", "--resume"]) == 0
    assert "resumed after epoch 5, sweep 0" in caplog.text, "nothing is trained again"
    assert spark.table(f"{database}.vectors").count() == 40
    spark_w2v.train("clicks", tmp_path / "api", config=EVENTS)
    assert bits(tmp_path / "out") == bits(tmp_path / "api")
