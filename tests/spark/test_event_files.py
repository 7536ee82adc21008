"""Which files of events are read: those that were listed, each once, with the columns of their directories."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spark_w2v.spark import corpus, file_rows
from tests.spark.test_columns import refused, settings
from tests.support.segments import sentences, sentences_and_counters

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OF_EVENTS: dict[str, Any] = {"column": "item", "tokenizer": "none", "group_by": "s", "order_by": "t"}


def write(spark: "SparkSession", path: Path, kind: str, item: int) -> None:
    rows: Any = spark.createDataFrame([(1, 1, item)], "s int, t int, item int").coalesce(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "parquet":
            rows.write.parquet(f"{path}.made")
        case "csv":
            rows.write.option("header", True).csv(f"{path}.made")
        case _:
            getattr(rows.write, kind.removesuffix("l"))(f"{path}.made")
    (made,) = Path(f"{path}.made").glob("part-*")
    made.rename(path)
    for left in Path(f"{path}.made").iterdir():
        left.unlink()
    Path(f"{path}.made").rmdir()


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(("kind", "folder"), [("parquet", "plain"), ("csv", "day=1"), ("jsonl", "plain")])
def test_a_file_that_comes_after_the_listing_is_not_read(
    spark: "SparkSession", tmp_path: Path, kind: str, folder: str
) -> None:
    write(spark, tmp_path / folder / "a é.x", kind, 10)
    found = corpus.list_files(spark, [str(tmp_path)], kind)
    write(spark, tmp_path / folder / "b é.x", kind, 20)
    segments = corpus.read(spark, [str(tmp_path)], settings(format=kind, **OF_EVENTS), found)
    assert sentences(segments) == ["10"]


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("kind", ["link to a directory", "link to a file", "broken link", "second name"])
def test_a_second_way_to_a_file_costs_no_column_of_a_directory(
    spark: "SparkSession", tmp_path: Path, kind: str
) -> None:
    tmp_path = tmp_path / "of [shop] {1}"
    for day, item in ((1, 10), (2, 20)):
        write(spark, tmp_path / f"day={day}" / "a.parquet", "parquet", item)
    match kind:
        case "link to a directory":
            (tmp_path / "latest").symlink_to("day=2")
        case "link to a file":
            (tmp_path / "day=1" / "b.parquet").symlink_to("../day=2/a.parquet")
        case "broken link":
            (tmp_path / "latest").symlink_to("day=3")
        case _:
            os.link(tmp_path / "day=2" / "a.parquet", tmp_path / "day=1" / "z.parquet")
    where = "day >= 1" if kind == "second name" else "day = 2"  # either may be left out
    given = str(tmp_path).replace("[", "\\[").replace("{", "\\{").replace("]", "\\]").replace("}", "\\}")
    found = sentences(corpus.read(spark, [given], settings(format="parquet", where=where, **OF_EVENTS)))
    assert found == (["10 20"] if kind == "second name" else ["20"])


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "orc"])
def test_groups_that_are_directories_are_told_apart_as_they_are_written(
    spark: "SparkSession", tmp_path: Path, kind: str
) -> None:
    rows = [("007", 9, 1), ("7", 10, 2), ("7", 9, 3), ("8", 1, 4), (None, 1, 5)]
    frame: Any = spark.createDataFrame([(1, *row) for row in rows], "s int, user string, t int, item int")
    writer = frame.write.partitionBy("user", "t").option("header", True)
    getattr(writer, kind.removesuffix("l"))(str(tmp_path / "user=7" / "events"))
    keys = {**OF_EVENTS, "format": kind, "group_by": "user, s", "where": "t < 100 and user > 0 or user is null"}
    segments = corpus.read(spark, [str(tmp_path / "user=7" / "events")], settings(**keys))
    found, counters = sentences_and_counters(segments)
    assert sorted(found) == ["1", "3 2", "4"]
    assert counters == {"missing_lines": 1}


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "orc"])
def test_groups_that_are_directories_of_times_do_not_depend_on_the_time_zone(
    spark: "SparkSession", tmp_path: Path, kind: str, in_berlin: None
) -> None:
    for item, time in enumerate(["02%3A30%3A00", "03%3A30%3A00", "03%3A30%3A00.0"]):
        write(spark, tmp_path / f"at=2024-03-31 {time}" / "a.x", kind, item)
    keys = {**OF_EVENTS, "format": kind, "group_by": "at", "where": "year(at) = 2024"}
    assert sorted(sentences(corpus.read(spark, [str(tmp_path)], settings(**keys)))) == ["0", "1", "2"]


@pytest.mark.parametrize("first", ["parquet", ""])
def test_columns_of_directories_are_known_with_either_version_of_sparks_readers(
    spark: "SparkSession", tmp_path: Path, first: str
) -> None:
    spark.range(2).selectExpr("id", "id as day", "1 as `a user`").write.partitionBy("day", "a user").parquet(
        str(tmp_path / "of")
    )
    session = spark.newSession()
    session.conf.set("spark.sql.sources.useV1SourceList", first)
    assert file_rows._directories(session.read.parquet(str(tmp_path / "of"))) == ["day", "a user"]


def test_the_name_of_a_group_or_an_order_of_csv_may_have_a_comma(spark: "SparkSession", tmp_path: Path) -> None:
    # As whole numbers 007 and 7 are one group, and as doubles the times of 2 and 3 are the same.
    rows = ["007,0.5,1,,", "7,9007199254740993,2,,", "7,9007199254740992,3,,"]
    (tmp_path / "a.csv").write_text("\n".join(['"shop, user","day,t",item,user,user', *rows]))
    keys = {**OF_EVENTS, "format": "csv", "group_by": "shop, user", "order_by": "day,t"}
    assert sorted(sentences(corpus.read(spark, [str(tmp_path)], settings(**keys)))) == ["1", "3 2"]


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("kind", ["table", "csv", "jsonl"])
def test_columns_of_the_user_may_be_called_as_those_that_are_added(
    spark: "SparkSession", tmp_path: Path, kind: str
) -> None:
    names = ["s", "t", "item", "not a row", "Not a Word", "exactly t", "exactly s", "parsed json"]
    rows = [
        (1, 1.5, "a", "x", "true", 3, 1, 7),
        (1, 2.5, "b", "x", "true", 2, 2, 7),
        (1, 3.5, "c", "y", "true", 1, 3, 7),
    ]
    keys = {**OF_EVENTS, "format": kind, "where": "`not a row` = 'x' and `parsed json` = 7"}
    if kind == "table":
        found = corpus.read_text_frame(spark.createDataFrame(rows, names), settings(**keys))
    else:
        folder = tmp_path / "parsed json=7"
        folder.mkdir()
        lines = [json.dumps(dict(zip(names, row[:-1], strict=False))) for row in rows]
        if kind == "csv":
            lines = [",".join(names[:-1]), *(",".join(map(str, row[:-1])) for row in rows)]
        (folder / "a").write_text("\n".join(lines))
        found = corpus.read(spark, [str(tmp_path)], settings(**keys))
        sentence = refused(spark, tmp_path, **{**keys, "where": "`not a rwo` = 'x'"})
        assert sentence.count("`not a row") == 1, "a column that is added is suggested, too"
    assert sentences_and_counters(found) == (["a b"], {})


def test_how_the_callers_session_parses_times_orders_nothing(spark: "SparkSession", tmp_path: Path) -> None:
    times = {"third": "03.5", "first": "00.999999", "second": "03.060", "fourth": "03.600"}
    rows = [f"1,2026-01-31T10:00:{second}Z,{item}" for item, second in times.items()]
    (tmp_path / "a.csv").write_text("\n".join(["s,t,item", *rows]))
    spark.conf.set("spark.sql.legacy.timeParserPolicy", "LEGACY")
    try:
        keys = {**OF_EVENTS, "format": "csv"}
        assert sentences(corpus.read(spark, [str(tmp_path)], settings(**keys))) == ["first second third fourth"]
    finally:
        spark.conf.unset("spark.sql.legacy.timeParserPolicy")


def test_times_of_a_column_with_a_collation_are_ordered_as_times(spark: "SparkSession") -> None:
    rows: Any = spark.createDataFrame(
        [(1, "10:00:00Z", "first"), (1, "10:00:00.5Z", "second"), (1, "12:30:00+02:00", "third")],
        "s int, clock string, item string",
    )
    rows = rows.selectExpr("s", "concat('2026-01-31T', clock) collate utf8_lcase as t", "item")
    assert sentences(corpus.read_text_frame(rows, settings(format="table", **OF_EVENTS))) == ["first second third"]
