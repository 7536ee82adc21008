"""Tables of Spark's catalog: the rows are those of one run, under its name, and those before stay for readers."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import UserError
from spark_w2v.spark import catalog_tables
from spark_w2v.spark.catalog_tables import MARK, PREVIOUS, check_table, write_table


def rows_of(directory: Path) -> list[int]:
    return sorted(pq.read_table(directory)["id"].to_pylist())


@pytest.mark.parametrize(
    ("is_builtin", "columns", "is_refused"),
    [
        (True, "word string, count bigint", False),
        (True, "word string, count int", True),
        (False, "word string, count int", False),  # a catalog of its own has its own types
        (False, "word string, neighbor string", True),
    ],
)
def test_a_table_with_other_columns_is_not_replaced(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_builtin: bool,
    columns: str,
    is_refused: bool,
) -> None:
    """A table of neighbors must not take the place of the vectors by mistake."""
    monkeypatch.setattr(catalog_tables, "_is_builtin", lambda session, name: is_builtin)
    spark.sql(
        f"create table replaced (word string, count bigint) using parquet location '{tmp_path}/rows' "
        f"tblproperties ('{MARK}' = 'a')"
    )
    try:
        schema = spark.createDataFrame([], columns).schema
        if is_refused:
            with pytest.raises(UserError, match="replaced: has the columns word string, count bigint, and these rows"):
                check_table(spark, "replaced", schema)
        else:
            check_table(spark, "replaced", schema)
    finally:
        spark.sql("drop table replaced")


@pytest.mark.parametrize(
    ("catalog", "provider"),
    [
        ("org.apache.iceberg.spark.SparkSessionCatalog", ["iceberg"]),
        ("org.apache.iceberg.spark.SparkCatalog", ["iceberg"]),
        ("org.apache.spark.sql.delta.catalog.DeltaCatalog", ["delta"]),
        ("com.example.Catalog", []),
    ],
)
def test_a_catalog_that_is_not_sparks_own_makes_tables_of_its_kind(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, catalog: str, provider: list[str]
) -> None:
    """None of them can be loaded here: Spark's own writer is replaced, and told what it would be told."""
    told: list[tuple[str, ...]] = []

    class Writer:
        def __getattr__(self, step: str) -> Any:
            def tell(*arguments: str) -> Writer:
                told.append((step, *arguments))
                return self

            return tell

    monkeypatch.setattr(catalog_tables, "_is_builtin", lambda session, name: False)
    monkeypatch.setattr(spark.conf, "get", lambda key, default: {"spark.sql.catalog.spark_catalog": catalog}[key])
    frame = spark.range(1)
    monkeypatch.setattr(type(frame), "writeTo", lambda rows, name: Writer())
    write_table(frame, "db.vectors", "night", "try again")
    assert [step[1] for step in told if step[0] == "using"] == provider
    assert told[0] == ("tableProperty", MARK, "night")
    assert told[-1] == ("createOrReplace",)


def test_statistics_of_the_rows_before_are_forgotten(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(f"create database counted location '{tmp_path}/counted'")
    try:
        for count in (3, 4):
            write_table(spark.range(count), "counted.numbers", "run", "try again")
            told = {
                row["col_name"]: row["data_type"] for row in spark.sql("describe extended counted.numbers").collect()
            }
            assert "Statistics" not in told
            spark.sql("analyze table counted.numbers compute statistics")
            told = {
                row["col_name"]: row["data_type"] for row in spark.sql("describe extended counted.numbers").collect()
            }
            assert f"{count} rows" in told["Statistics"]
    finally:
        spark.sql("drop database counted cascade")


def test_rows_that_somebody_went_back_to_stay(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(f"create database went_back location '{tmp_path}/went_back'")
    try:
        name, property_of = "went_back.numbers", "show tblproperties went_back.numbers"
        for count in (1, 2):
            write_table(spark.range(count), name, "run", "try again")
        [previous] = [row["value"] for row in spark.sql(property_of).collect() if row["key"] == PREVIOUS]
        spark.sql(f"alter table {name} set location '{previous}'")
        spark.catalog.refreshTable(name)
        assert spark.table(name).count() == 1
        write_table(spark.range(3), name, "run", "try again")
        assert spark.table(name).count() == 3
        assert rows_of(Path(previous.removeprefix("file:"))) == [0], "for those who are reading"
    finally:
        spark.sql("drop database went_back cascade")


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(("folder", "table"), [("wh a%20b", "token"), ("tokens", "numbers"), ("shop", "url_numbers")])
def test_only_the_rows_before_stay_wherever_a_table_is(
    spark: SparkSession, tmp_path: Path, folder: str, table: str
) -> None:
    """Spark hides values that look like secrets, and has a space in a location as %20."""
    spark.sql(f"create database somewhere location '{tmp_path}/{folder}'")
    try:
        for count in (1, 2, 3, 4):
            check_table(spark, f"somewhere.{table}")
            write_table(spark.range(count), f"somewhere.{table}", "run", "try again")
            assert spark.table(f"somewhere.{table}").count() == count
        assert [path.name for path in tmp_path.iterdir()] == [folder]
        assert sorted(len(rows_of(path)) for path in (tmp_path / folder).iterdir()) == [3, 4]
    finally:
        spark.sql("drop database somewhere cascade")


def test_a_database_in_a_directory_that_spark_takes_for_a_pattern_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.sql(f"create database pattern location '{tmp_path}/a [1]'")
    try:
        with pytest.raises(UserError, match=r"can be made \(Spark takes the \[\]\{\}.* for a pattern\); give a name"):
            check_table(spark, "pattern.numbers")
    finally:
        spark.sql("drop database pattern cascade")


@pytest.mark.parametrize("name", ["numbers/numbers-run-01234567", "mine"])
def test_a_directory_that_is_no_table_of_ours_is_not_removed(spark: SparkSession, tmp_path: Path, name: str) -> None:
    spark.sql(f"create database careful location '{tmp_path}/careful'")
    try:
        write_table(spark.range(1), "careful.numbers", "run", "try again")
        (tmp_path / "careful" / name).mkdir(parents=True)
        spark.sql(f"alter table careful.numbers set tblproperties ('{PREVIOUS}' = '{tmp_path}/careful/{name}')")
        write_table(spark.range(2), "careful.numbers", "run", "try again")
        assert (tmp_path / "careful" / name).exists()
    finally:
        spark.sql("drop database careful cascade")


def test_a_table_whose_rows_fail_leaves_no_directory(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(f"create database failed location '{tmp_path}/failed'")
    try:
        with pytest.raises(Exception, match="DIVIDE_BY_ZERO"):
            write_table(
                spark.range(3).selectExpr("raise_error('DIVIDE_BY_ZERO') as id"), "failed.numbers", "run", "try again"
            )
        assert not list((tmp_path / "failed").glob("*"))
    finally:
        spark.sql("drop database failed cascade")


@pytest.mark.parametrize("is_done", [True, False])
def test_a_catalog_that_does_not_answer_leaves_rows_of_one_run_under_its_name(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    alter = catalog_tables._alter

    def fail(*arguments: Any) -> None:
        if is_done:
            alter(*arguments)
        raise RuntimeError("no answer")

    spark.sql(f"create database unheard location '{tmp_path}/unheard'")
    try:
        write_table(spark.range(1), "unheard.numbers", "run-1", "try again")
        monkeypatch.setattr(catalog_tables, "_alter", fail)
        with pytest.raises(RuntimeError, match="no answer"):
            write_table(spark.range(2), "unheard.numbers", "run-2", "try again")
        spark.catalog.refreshTable("unheard.numbers")
        assert spark.table("unheard.numbers").count() == 1 + is_done
        properties = {row["key"]: row["value"] for row in spark.sql("show tblproperties unheard.numbers").collect()}
        assert properties[MARK] == f"run-{1 + is_done}"
        assert len(list((tmp_path / "unheard").iterdir())) == 1 + is_done, "the rows before stay for readers"
    finally:
        spark.sql("drop database unheard cascade")


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    "name",
    ["spark_catalog.default.named", "SPARK_CATALOG.default.named", "`spark_catalog`.`default`.`named`", "`named`"],
)
def test_the_name_of_a_table_may_be_quoted_and_have_its_catalog(spark: SparkSession, name: str) -> None:
    try:
        for count in (1, 2, 3):
            check_table(spark, name, spark.range(1).schema)
            write_table(spark.range(count), name, "run", "try again")
            spark.catalog.refreshTable(name)
            assert spark.table("default.named").count() == count
    finally:
        spark.sql("drop table if exists default.named")


def test_the_name_of_a_table_that_cannot_be_made_is_refused_before_there_are_rows(spark: SparkSession) -> None:
    for name in ("`a b`", "default.`a-b`", "`my.db`.v", "SPARK_CATALOG.nowhere.v", "spark_catalog.v", "a.b.v", ""):
        with pytest.raises(UserError, match="is not the name of a table that can be made") as error:
            check_table(spark, name)
        assert "\n" not in str(error.value)
