"""Files whose columns have other types, and directories that are values of a column, next to files that are in none."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from spark_w2v.errors import UserError
from spark_w2v.spark import corpus
from spark_w2v.spark.file_types import _holds
from tests.spark.test_columns import settings
from tests.spark.test_event_files import OF_EVENTS
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TIMES = [datetime(2026, 1, 31, 10), datetime(2026, 1, 31, 12)]
DOCS = pa.array([{"x": 1}] * 2, pa.struct({"x": pa.int32()}))


def write(folder: Path, kind: str, *tables: dict[str, pa.Array]) -> None:
    for number, columns in enumerate(tables):
        path, table = str(folder / f"{number}.{kind}"), pa.table(columns)
        pyarrow.orc.write_table(table, path) if kind == "orc" else pq.write_table(table, path)


def read(spark: "SparkSession", folder: Path, kind: str, **keys: Any) -> list[str]:
    return sorted(sentences(corpus.read(spark, [str(folder)], settings(**{**keys, "format": kind}))))


def events(**columns: pa.Array) -> dict[str, pa.Array]:
    return {"s": pa.array([1, 1]), "t": pa.array([1, 2]), "item": pa.array([7, 8]), **columns}


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_words_that_a_narrower_type_would_change_are_refused(spark: "SparkSession", tmp_path: Path, kind: str) -> None:
    narrow, wide = (pa.array([words], pa.list_(of)) for words, of in (([1, 2], pa.int16()), ([70000, 3], pa.int32())))
    write(tmp_path, kind, {"items": narrow}, {"items": wide})
    with pytest.raises(UserError) as error:
        read(spark, tmp_path, kind, column="items", tokenizer="none")
    assert str(error.value) == (
        f'--input: {tmp_path}/1.{kind} has a column "items" of array<int>, which Spark would read as array<smallint>, '
        "as others have it; write it with one type, or give the files of each type in a run of their own."
    )


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("t", pa.array(TIMES, pa.timestamp("ns")), pa.array(TIMES, pa.timestamp("us"))),
        ("s", pa.array([1, 1], pa.int16()), pa.array([65537, 65537], pa.int32())),
        ("t", pa.array([1, 2], pa.int32()), pa.array([1, 2], pa.uint32())),
        ("w", pa.array([1, 1], pa.int8()), pa.array([300, 1], pa.int32())),
        ("doc", DOCS.cast(pa.struct({"x": pa.int8()})), DOCS),
    ],
)  # fmt: skip
def test_columns_of_events_that_would_change_are_refused(
    spark: "SparkSession", tmp_path: Path, name: str, one: pa.Array, other: pa.Array
) -> None:
    weight = pa.array([1, 1], pa.int32())
    tables = [events(**{"w": weight, "doc": DOCS, name: column}) for column in (one, other)]
    write(tmp_path, "parquet", *tables)
    keys = {**OF_EVENTS, "weight": "w", "group_by": "s, doc.x" if name == "doc" else "s"}
    with pytest.raises(UserError, match=rf'^--input: {tmp_path}/1\.parquet has a column "{name}'):
        read(spark, tmp_path, "parquet", **keys)


def test_columns_that_nobody_uses_may_change_and_wide_ones_hold_narrow_ones(
    spark: "SparkSession", tmp_path: Path
) -> None:
    first = events(s=pa.array([2**33, 2**33]), other=pa.array([1, 2]))
    write(tmp_path, "parquet", first, events(s=pa.array([1, 1], pa.int32()), other=pa.array(["x", "y"])))
    assert read(spark, tmp_path, "parquet", **OF_EVENTS) == ["7 8", "7 8"]
    with pytest.raises(UserError, match='has a column "other" of string, which Spark would read as bigint'):
        read(spark, tmp_path, "parquet", **OF_EVENTS, where="other > 0")


@pytest.mark.parametrize(
    ("read", "other", "holds"),
    [
        ("array<bigint>", "array<int>", True), ("int", "bigint", False), ("double", "float", True),
        ("float", "double", False), ("string", "int", False), ("bigint", "double", False), ("int", "void", True),
        ("map<string,int>", "map<string,bigint>", True), ("date", "timestamp_ntz", False),
    ],
)  # fmt: skip
def test_what_a_type_holds(spark: "SparkSession", read: str, other: str, holds: bool) -> None:
    import pyspark.sql.types as T

    assert _holds(T.DataType.fromDDL(read), T.DataType.fromDDL(other)) == holds


def test_files_next_to_directories_are_read_where_no_key_names_these(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    write(tmp_path / "day=1", "parquet", events())
    write(tmp_path, "parquet", events(s=pa.array([2, 2]), item=pa.array([9, 10])))
    assert read(spark, tmp_path, "parquet", **OF_EVENTS) == ["7 8", "9 10"]
    with pytest.raises(UserError) as error:
        read(spark, tmp_path, "parquet", **OF_EVENTS, where="DAY = 1")
    assert str(error.value) == (
        f"{tmp_path}/0.parquet: is not in a directory such as day=..., as others are, so it has no column day; give it "
        "in a run of its own, or leave out what names the column."
    )


def test_two_inputs_with_directories_are_read_together(spark: "SparkSession", tmp_path: Path) -> None:
    for number, name in enumerate(("clicks/day=1", "buys/day=1", "buys/day=2/hour=3")):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name, "parquet", events(s=pa.array([number, number])))
    found = corpus.read(spark, [f"{tmp_path}/clicks", f"{tmp_path}/buys"], settings(format="parquet", **OF_EVENTS))
    assert sentences(found) == ["7 8"] * 3
