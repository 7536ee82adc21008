"""Files that other programs write: times as text, other separators, types and sizes that Spark's readers refuse."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.spark import vocabulary
from spark_w2v.spark.java_errors import reason_of
from tests.spark.test_columns import counted, read, refused
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS = {"group_by": "s", "order_by": "t", "column": "item", "tokenizer": "none"}


def write_events(path: Path, kind: str, times: list[Any]) -> None:
    """Write events of one session, whose items are a, b, c, ..., with these times."""
    rows = [{"s": 1, "t": time, "item": item} for time, item in zip(times, "abcdefgh", strict=False)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path / "a.parquet")
    elif kind == "jsonl":
        (path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        lines = [",".join(str(value) for value in row.values()) for row in rows]
        (path / "a.csv").write_text("\n".join(["s,t,item", *lines]))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2026-01-31T10:00:00.5Z", "2026-01-31T10:00:00Z", "2026-01-31T10:00:00.51Z"], "b a c"),
        (["2026-01-31T10:00:00+02:00", "2026-01-31T09:00:00+00:00", "2026-01-31T08:00:00.5Z"], "a c b"),
        # Without seconds, which Java leaves out where they are 0; and by the names of zones.
        (["2026-01-31T10:00:30Z", "2026-01-31T10:00Z", "2026-01-31T10:00+01:00"], "c b a"),
        (["2026-01-31 10:00:00 America/New_York", "2026-01-31 10:00:00 Europe/Berlin", ""], "c b a"),
        (["2026-01-31 11:00:00", "2026-01-31T10:00:00", "2026-2-15", "2026-10-5"], "b a c d"),
        (["2026-01-31 9:30", "2026-01-31 10:15:00", None, "2026-01-31"], "c d a b"),
        # As they are written, though 02:30 does not exist there.
        (["2024-03-31T03:00:00", "2024-03-31T02:30:00.5", "2024-03-31T02:30:00"], "c b a"),
    ],
)
def test_times_that_are_text_are_ordered_as_times(
    spark: "SparkSession", tmp_path: Path, in_berlin: None, kind: str, times: list[Any], expected: str
) -> None:
    if kind == "csv":
        times = ["" if time is None else time for time in times]
    write_events(tmp_path, kind, times)
    assert sentences(read(spark, tmp_path, format=kind, **EVENTS)) == [expected]


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (
            ["2026-01-30T10:00:00Z", "2026-01-31T10:00:00"],
            "times with a time zone and times without, such as '2026-01-31T10:00:00'",
        ),
        (["2026-01-30T10:00:00Z", "-", "2026-01-31T10:00:00.5Z"], "times and also '-'"),
    ],
)
def test_times_among_other_text_and_with_and_without_a_zone_are_refused(
    spark: "SparkSession", tmp_path: Path, times: list[str], says: str
) -> None:
    write_events(tmp_path, "jsonl", times)
    assert refused(spark, tmp_path, format="jsonl", **EVENTS) == (
        f'corpus.order_by: "t" has {says}; write all of them alike, leave rows out with corpus.where, or give another '
        "column."
    )


@pytest.mark.parametrize(
    ("times", "warned"),
    [
        (["9:30", "10:15"], True), (["09:30", "10:15"], False), (["b", "ab"], False),
        (["31.12.2025", "10:15"], True),
        (["10/15/2026", "31/12/2025"], True), (["2026/10/15", "2025/12/31"], False),
    ],
)  # fmt: skip
def test_other_text_that_begins_with_digits_is_warned_of(
    spark: "SparkSession", tmp_path: Path, caplog: pytest.LogCaptureFixture, times: list[str], warned: bool
) -> None:
    write_events(tmp_path, "parquet", times)
    read(spark, tmp_path, format="parquet", **EVENTS)
    says = f'corpus.order_by: "t" is text, such as {min(times)!r}, and is ordered by its bytes'
    assert (says in caplog.messages) == warned


def test_times_in_nanoseconds_are_read(spark: "SparkSession", tmp_path: Path) -> None:
    times = pa.array([3, 2_000_000_001, 2_000_000_000], pa.timestamp("ns"))
    table = pa.table({"s": [1, 1, 1], "t": times, "item": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet", version="2.6")
    assert pq.read_schema(tmp_path / "a.parquet").field("t").type == pa.timestamp("ns")
    assert sentences(read(spark, tmp_path, format="parquet", **EVENTS)) == ["a c b"]


def test_a_column_of_a_type_that_spark_does_not_read_is_told(spark: "SparkSession", tmp_path: Path) -> None:
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))
    pq.write_table(pa.table({"id": uuid, "text": ["a b"]}), tmp_path / "a.parquet")
    assert refused(spark, tmp_path, format="parquet", column="text") == (
        "--input: the Parquet files have a column of a type that Spark does not read (Illegal Parquet type: "
        "FIXED_LEN_BYTE_ARRAY (UUID)); write it as another, such as UUIDs as strings."
    )


def test_words_that_are_directories_are_as_they_are_written(spark: "SparkSession", tmp_path: Path) -> None:
    for item in ("007", "7"):
        (tmp_path / f"item={item}").mkdir()
        pq.write_table(pa.table({"s": [1], "t": [len(item)]}), tmp_path / f"item={item}" / "a.parquet")
    assert sentences(read(spark, tmp_path, format="parquet", **EVENTS)) == ["7 007"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_csv_with_other_separators_is_refused(spark: "SparkSession", tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.csv").write_text(f"id{separator}text\n17{separator}the cat\n")
    assert refused(spark, tmp_path, format="csv", column="text") == (
        f"--input: the CSV files separate fields by {separator!r}; write them with commas, or give Parquet."
    )


def test_a_line_of_csv_with_very_many_commas_is_bad(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na b\n" + "," * 30_000 + "\nc d\n")
    segments = read(spark, tmp_path, format="csv", column="text")
    assert counted(segments) == {"malformed_lines": 1}
    assert sentences(segments) == ["a b", "c d"]


def test_a_string_of_json_may_be_as_long_as_a_line(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "ab " * 7_000_000}))
    segments = read(spark, tmp_path, format="jsonl", column="text")
    assert vocabulary.counters(segments)["words"] == 7_000_000


def test_the_words_of_a_path_are_no_reason() -> None:
    assert reason_of("Caused by: E: file:/my magic/a.csv: not there") == "file:/my magic/a.csv: not there"
    assert (
        reason_of("Caused by: java.io.IOException: file:/data/magic/a.csv: not there")
        == "file:/data/magic/a.csv: not there"
    )
    assert reason_of("Caused by: java.io.IOException: file:/data/a.csv: bad magic") == "it is damaged"
