"""Events in files and tables: rows of a word each, in sentences by their groups and order."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark.sql.functions as F
import pytest

from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, session, vocabulary
from spark_w2v.spark.tables import id_type_of
from spark_w2v.text.bad_lines import check_counters
from spark_w2v.text.tokenizer import SEGMENT_WORDS
from tests.spark.test_columns import counted, read, refused, settings
from tests.support.bad_input import checked
from tests.support.segments import sentences, sentences_and_counters, weighted_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

EVENTS = [
    (1, 3, 10), (1, 1, 11), (2, 1, 12), (1, 1, 9), (None, 1, 7), (2, 0, None), (2, 5, 13), (3, 1, 8), (1, 2, 100),
]  # fmt: skip
OF_EVENTS = {"format": "parquet", "column": "item", "tokenizer": "none", "group_by": "s", "order_by": "t"}


def events_of(
    spark: "SparkSession", rows: list[tuple[Any, ...]] = EVENTS, schema: str = "s int, t int, item bigint"
) -> Any:
    return spark.createDataFrame(rows, schema)


def digest(segments: "DataFrame") -> str:
    rows = sorted(tuple(row) for row in segments.select("file", "start", "segment", "words", "ends", "codes").collect())
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def test_rows_of_a_group_are_a_sentence_in_their_order_ties_by_the_word(spark: "SparkSession") -> None:
    segments = corpus.read_text_frame(events_of(spark), settings(**OF_EVENTS))
    found, counters = sentences_and_counters(segments)
    assert sorted(found) == ["12 13", "8", "9 11 100 10"]
    assert counters == {"missing_lines": 1, "null_words": 1}
    assert id_type_of(segments) == "bigint"


def test_the_order_and_the_partitions_of_the_rows_change_nothing(spark: "SparkSession") -> None:
    rng = np.random.default_rng(1)
    rows = [(int(s), int(t), int(i)) for s, t, i in rng.integers(0, 50, (3000, 3))]
    found = set()
    for number, seed in enumerate((1, 2, 3)):
        mixed = [rows[k] for k in np.random.default_rng(seed).permutation(len(rows))]
        frame = events_of(spark, mixed).repartition(1 + 3 * number)
        found.add(digest(corpus.read_text_frame(frame, settings(**OF_EVENTS))))
    assert len(found) == 1


def test_events_are_the_sentences_of_the_same_sessions_as_arrays(spark: "SparkSession") -> None:
    rng = np.random.default_rng(2)
    rows = [(int(s), number, int(i)) for number, (s, i) in enumerate(rng.integers(0, 40, (2000, 2)))]
    frame = events_of(spark, rows)
    grouped = corpus.read_text_frame(frame, settings(**OF_EVENTS, max_sentence_words=7))
    arrays = frame.groupBy("s").agg({"item": "collect_list"}).toDF("s", "item")
    one = corpus.read_text_frame(
        arrays, settings(format="parquet", column="item", tokenizer="none", max_sentence_words=7)
    )
    assert sorted(sentences(grouped)) == sorted(sentences(one))
    assert vocabulary.counters(grouped) == vocabulary.counters(one)


def test_words_of_events_may_be_decimals_without_digits_after_the_point(spark: "SparkSession") -> None:
    frame = events_of(spark).selectExpr("s", "t", "cast(item as decimal(20, 0)) as item")
    found = sentences(corpus.read_text_frame(frame, settings(**OF_EVENTS)))
    assert sorted(found) == ["11 9 100 10", "12 13", "8"]


@pytest.mark.parametrize("time", ["int", "string"])
def test_words_of_events_that_are_too_long_are_skipped_and_counted(spark: "SparkSession", time: str) -> None:
    words = ["a" * 50, "a" * 51, "é" * 50, "é" * 51, "𝛂" * 50, "𝛂" * 51, "x" * 5000, "b"]
    frame = events_of(spark, [(1, n, word) for n, word in enumerate(words)], "s int, t int, item string")
    frame = frame.selectExpr("s", f"cast(t as {time}) as t", "item")
    segments = corpus.read_text_frame(frame, settings(**OF_EVENTS, max_word_length=50))
    assert sentences_and_counters(segments) == ([" ".join([*words[:6:2], "b"])], {"long_words": 4})


def test_a_file_of_events_that_is_damaged_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    numbers = pa.array(np.random.default_rng(1).integers(0, 1 << 40, 5000))
    pq.write_table(pa.table({"s": numbers, "t": numbers, "item": numbers}), path)
    content = bytearray(path.read_bytes())
    content[4:40_000] = b"\xff" * 39_996
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"events\.parquet"):
        read(spark, tmp_path, **OF_EVENTS)


def test_events_of_a_day_that_has_none_are_no_sentences(spark: "SparkSession", tmp_path: Path) -> None:
    events_of(spark).withColumn("day", F.lit(1)).write.partitionBy("day").parquet(str(tmp_path / "events"))
    found = corpus.read_text_frame(spark.read.parquet(str(tmp_path / "events")).where("day = 2"), settings(**OF_EVENTS))
    assert sentences(found) == []  # nothing is left to read, and so nothing to shuffle


@pytest.mark.parametrize("is_adaptive", [False, True])  # as where files are read, and as a user's session may be
def test_batches_of_short_events_have_no_limit_of_bytes_and_others_have(
    spark: "SparkSession", is_adaptive: bool
) -> None:
    context = spark.sparkContext
    limit = "spark.sql.execution.arrow.maxBytesPerBatch"
    context.setLocalProperty(limit, "7")
    try:
        found = session.own_session(spark).range(30, numPartitions=1)
        # A row is longer than the limit, so that each is a batch.
        found.sparkSession.conf.set(limit, 1)
        found.sparkSession.conf.set("spark.sql.adaptive.enabled", is_adaptive)
        sizes = found.mapInArrow(sizes_of, "size int")
        short = session.shuffled_without_limit_of_bytes(sizes.repartition(1))
        assert [row["size"] for row in short.collect()] == [30]
        assert len(sizes.collect()) == len(short.mapInArrow(sizes_of, "size int").collect()) * 30 == 30
        assert context.getLocalProperty(limit) == "7"
    finally:
        context.setLocalProperty(limit, None)  # type: ignore[arg-type]


def sizes_of(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"size": pa.array([len(batch)], pa.int32())})


def test_a_group_may_be_of_several_columns_and_longer_than_a_sentence(spark: "SparkSession") -> None:
    rows = [(1, 1, 5), (1, 1, 6), (1, 2, 7), (2, 1, 8)]
    keys = {**OF_EVENTS, "group_by": "s, t", "order_by": ""}
    assert sorted(sentences(corpus.read_text_frame(events_of(spark, rows), settings(**keys)))) == ["5 6", "7", "8"]
    long = [(1, n, n) for n in range(10)]
    found = corpus.read_text_frame(events_of(spark, long), settings(**OF_EVENTS, max_sentence_words=4))
    assert sentences(found) == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert vocabulary.counters(found)["cut_lines"] == 1


@pytest.mark.slow
def test_no_group_is_held_as_a_whole_whatever_the_longest_sentence(spark: "SparkSession") -> None:
    rows = spark.range(2 * SEGMENT_WORDS + 1).selectExpr("1 as s", "id as t", "id % 7 as item")
    segments = corpus.read_text_frame(rows, settings(**OF_EVENTS, max_sentence_words=2**31 - 1))
    found = vocabulary.counters(segments)
    assert (found["lines"], found["sentences"], found["words"]) == (3, 3, 2 * SEGMENT_WORDS + 1)


def test_bad_rows_are_counted_among_rows_and_have_no_place(spark: "SparkSession", tmp_path: Path) -> None:
    rows = [(None if n % 100 == 99 else n // 50, n, n % 7) for n in range(5000)]
    events_of(spark, rows).repartition(3).write.parquet(str(tmp_path / "events"))
    check_counters(vocabulary.counters(read(spark, tmp_path / "events", **OF_EVENTS)), settings(**OF_EVENTS))
    sentence = checked(spark, tmp_path / "events", **OF_EVENTS, max_bad_fraction=0.001)
    assert sentence == (
        "50 of 5,000 rows are bad (50 missing lines), 1.0%; fix the input, or raise corpus.max_bad_fraction (0.001)."
    )


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_without_any_group_are_refused_by_the_right_key(spark: "SparkSession", tmp_path: Path, kind: str) -> None:
    frame = events_of(spark, [(None, 1, 5), (None, 2, 6)])
    frame = frame if kind == "parquet" else frame.selectExpr("cast(null as int) as s", "t", "item")
    getattr(frame.write.option("ignoreNullFields", False), kind.removesuffix("l"))(str(tmp_path / "events"))
    keys = {**OF_EVENTS, "format": kind, "column": "item"}
    assert checked(spark, tmp_path / "events", **keys) == (
        'corpus.group_by: "s" is null in all 2 rows; give other columns.'
    )


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize(
    "time",
    [
        "cast(t as decimal(20, 2))", "cast(t as double)", "if(t = 3, double('NaN'), -t)", "cast(t as string)",
        "timestamp_micros(t)", "cast(timestamp_micros(t) as timestamp_ntz)", "date_from_unix_date(cast(t as int))",
        "t % 2 = 0", "nullif(t, 5)", "cast(cast(t as string) as binary)", "make_dt_interval(t)", "-t",
    ],
)  # fmt: skip
def test_events_are_ordered_as_spark_orders_them(spark: "SparkSession", time: str) -> None:
    rows = [(int(s), int(t), n) for n, (s, t) in enumerate(np.random.default_rng(3).integers(0, 12, (300, 2)))]
    frame = events_of(spark, rows, "s int, t bigint, item bigint").selectExpr("s", f"{time} as t", "item")
    found = sentences(corpus.read_text_frame(frame, settings(**OF_EVENTS)))
    expected: dict[int, list[str]] = {}
    for row in frame.orderBy("s", "t", "item").collect():
        expected.setdefault(row["s"], []).append(str(row["item"]))
    assert sorted(found) == sorted(" ".join(items) for items in expected.values())


def test_of_a_group_the_largest_weight_counts(spark: "SparkSession") -> None:
    rows = [(1, 1, 5, 0.5), (1, 2, 6, 2.0), (2, 1, 7, None), (2, 2, 8, 1.0)]
    frame = events_of(spark, rows, "s int, t int, item int, w double")
    segments = corpus.read_text_frame(frame, settings(**OF_EVENTS, weight="w"))
    assert sorted(weighted_sentences(segments)) == [("5 6", 2.0), ("8", 1.0)]
    assert counted(segments) == {"bad_weight_lines": 1}


@pytest.mark.slow
def test_the_weights_of_a_long_group_do_not_depend_on_the_order_of_its_rows(spark: "SparkSession") -> None:
    """A group of more than 250,000 rows is several lines, and each has the largest weight of its rows."""
    found = []
    for heavy in (0, 250_009):
        frame = spark.range(250_010, numPartitions=1).selectExpr(
            "1 as s", "1 as t", "7 as item", f"if(id = {heavy}, 5.0d, 1.0d) as w"
        )
        segments = corpus.read_text_frame(frame, settings(**OF_EVENTS, weight="w"))
        found.append([(text.count("7"), weight) for text, weight in weighted_sentences(segments)])
    assert found[0] == found[1]


@pytest.mark.slow
def test_events_in_files_of_csv_and_json_are_ordered_as_numbers(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("s,t,item\n1,10,007\n1,9,b\n2,1,c\nbad\n,3,x\n")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "a.json").write_text('{"s":1,"t":10,"item":"007"}\n{"s":1,"t":9,"item":"b"}\nbad\n{"t":3}\n')
    keys = {**OF_EVENTS, "format": "csv"}
    bad = {"malformed_lines": 1, "missing_lines": 1}
    found, counters = sentences_and_counters(read(spark, tmp_path / "csv", **keys))
    assert (sorted(found), counters) == (["b 007", "c"], bad)
    segments = read(spark, tmp_path / "json", **{**keys, "format": "jsonl"})
    assert sentences_and_counters(segments) == (["b 007"], bad)


@pytest.mark.slow
def test_words_and_groups_of_json_that_are_neither_text_nor_numbers_are_bad(
    spark: "SparkSession", tmp_path: Path
) -> None:
    wrong = ['{"x":1}', '["p","q"]', "true", "1e3"]
    values = ['"a"', "7", "2.50", *wrong, "null", '"{\\"x\\":1}"', '"true"']
    words = [f'{{"s":1,"t":{t},"item":{value},"at":{{"item":{value}}}}}' for t, value in enumerate(values)]
    groups = [f'{{"s":{value},"t":-1,"item":"b","at":{{"item":"b"}}}}' for value in (*wrong, '"1"', '"c"', "null")]
    (tmp_path / "a.json").write_text("\n".join([*words, *groups, '{"s":1,"t":90}']))
    for column in ("item", "at.item"):
        keys = {**OF_EVENTS, "format": "jsonl", "column": column}
        segments = read(spark, tmp_path, **keys)
        assert sorted(sentences(segments)) == ["b", 'b a 7 2.5 {"x":1} true']
        assert counted(segments) == {"wrong_type_lines": 8, "null_words": 2, "missing_lines": 1}
        assert sentences(read(spark, tmp_path, **keys, where=f"{column} like '_' and t < 9 and s <> 'c'")) == ["b a 7"]
    assert checked(spark, tmp_path, **keys) == (
        "9 of 18 rows are bad (1 missing lines, 8 wrong type lines), 50.0%; fix the input, or raise "
        "corpus.max_bad_fraction (0.01)."
    )


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    ("kind", "lines", "expected"),
    [
        ("csv", ["1,9,a", "1,10,b", "1,11,c", "2,-"], ["a b c"]),  # the last line is bad
        ("jsonl", ["9", '"10"', "11.5", "9.25"], ["a d b c"]),
        ("csv", ["1,1767225600000000002,a", "1,1767225600000000001,b", "2,1.5,c"], ["b a", "c"]),
        ("jsonl", ["1767225600000000002", "1767225600000000001", "1.5"], ["c b a"]),
        ("jsonl", ["1e3", "NaN", "1e300", "2"], ["d a c b"]),
        ("csv", ["1,0009,a", "1,0010,b", "1,-,c"], ["c a b"]),
        ("jsonl", ['"2026-01-01T10:00"', '"2026-01-01T09:00"', "null"], ["c b a"]),
    ],
)
def test_numbers_among_other_values_are_ordered_as_numbers_with_all_their_digits(
    spark: "SparkSession", tmp_path: Path, kind: str, lines: list[str], expected: list[str]
) -> None:
    if kind == "csv":
        content = ["s,t,item", *lines]
    else:
        content = [f'{{"s":1,"at":{{"t":{t}}},"item":"{item}"}}' for t, item in zip(lines, "abcd", strict=False)]
    (tmp_path / f"a.{kind}").write_text("\n".join(content))
    keys = {**OF_EVENTS, "format": kind, "order_by": "t" if kind == "csv" else "at.t"}
    assert sorted(sentences(read(spark, tmp_path, **keys))) == expected


def test_text_among_numbers_that_order_events_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s,t,item\n1,9,first\n1,10,second\n1,11,third\n2,-,x\n")
    keys = {**OF_EVENTS, "format": "csv"}
    assert refused(spark, tmp_path, **keys) == (
        "corpus.order_by: \"t\" has numbers and also '-', and as text 10 comes before 9; fix such values, leave their "
        "rows out with corpus.where, or give another column."
    )
    assert sentences(read(spark, tmp_path, **keys, where="t <> '-'")) == ["first second third"]
    assert sorted(sentences(read(spark, tmp_path, **{**keys, "order_by": "s, item"}))) == ["first second third", "x"]


def test_groups_of_json_are_told_apart_by_all_of_their_digits(spark: "SparkSession", tmp_path: Path) -> None:
    groups = ["9007199254740993", "9007199254740992", "1.5", "1.50", "1e3", "1000"]
    lines = [f'{{"s":{group},"t":{t},"item":{t}}}' for t, group in enumerate(groups)]
    (tmp_path / "a.json").write_text("\n".join(lines))
    segments = read(spark, tmp_path, **OF_EVENTS | {"format": "jsonl", "where": "s > 1"})
    assert sorted(sentences(segments)) == ["0", "1", "2 3", "4 5"]


def test_times_of_csv_without_a_zone_are_ordered_as_they_are_written(
    spark: "SparkSession", tmp_path: Path, in_berlin: None
) -> None:
    (tmp_path / "a.csv").write_text("s,t,item\n1,2024-03-31 02:45:00,first\n1,2024-03-31 03:10:00,second\n")
    keys = {**OF_EVENTS, "format": "csv"}
    assert sentences(read(spark, tmp_path, **keys)) == ["first second"]
    assert sentences(read(spark, tmp_path, **keys, where="t > '2024-03-31 03:00:00'")) == ["second"]


@pytest.mark.parametrize("condition", ["day = 1", "item IS NOT NULL AND day = 1", "coalesce(day, 0) = 1"])
def test_lines_that_are_no_rows_are_counted_whatever_the_condition(
    spark: "SparkSession", tmp_path: Path, condition: str
) -> None:
    lines = [
        '{"s":1,"t":1,"item":"a","day":1}', '{"s":1,"t":2,"item"', '{"s":2,"t":1,"item":"b","day":2}', "bad", "5",
        '{"s":1,"t":3,"item":"c","day":1}{"s":1,"t":4,"item":"d","day":1}', '[{"s":1,"t":5,"item":"e","day":1}]',
        "null", "", " \t",
    ]  # fmt: skip
    (tmp_path / "a.json").write_text("\n".join(lines))
    segments = read(spark, tmp_path, **{**OF_EVENTS, "format": "jsonl", "where": condition})
    assert sentences_and_counters(segments) == (["a"], {"malformed_lines": 6})


def test_fields_of_json_and_directories_may_have_any_name(spark: "SparkSession", tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / f"a day={day}").mkdir()
        lines = [f'{{"value":1,"line":{t},"not json":"{t}{day}","a.b":{{"c":{t}}}}}' for t in (2, 1)]
        (tmp_path / f"a day={day}" / "a.json").write_text("\n".join(lines))
    keys = {
        "format": "jsonl", "tokenizer": "none", "column": "not json", "group_by": "value, a day", "order_by": "line",
        "where": "`a.b`.c > 0",
    }  # fmt: skip
    assert sorted(sentences(read(spark, tmp_path, **keys))) == ["11 21", "12 22"]


def test_a_directory_that_looks_like_a_value_above_the_input_hides_no_file(
    spark: "SparkSession", tmp_path: Path
) -> None:
    root = tmp_path / "env=prod" / "events"
    for number, folder in enumerate((root, root / "a", root / "a" / "b")):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"s": [number], "t": [1], "item": [number]}), folder / f"{number}.parquet")
    assert sorted(sentences(read(spark, root, **OF_EVENTS))) == ["0", "1", "2"]
    assert sorted(sentences(read(spark, root / "a", **OF_EVENTS))) == ["1", "2"]


def test_directories_that_are_values_may_be_below_any_name(spark: "SparkSession", tmp_path: Path) -> None:
    root = tmp_path / "100%41 é"
    (root / "day=1").mkdir(parents=True)
    pq.write_table(pa.table({"s": [1], "t": [1], "item": [7]}), root / "day=1" / "0.parquet")
    assert sentences(read(spark, root, **OF_EVENTS, where="day = 1")) == ["7"]


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("twice", [("", ""), ("", "day=1"), ("day=1", "day=1/0.parquet")])
def test_events_of_directories_that_are_values_are_read_once(
    spark: "SparkSession", tmp_path: Path, twice: tuple[str, str]
) -> None:
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(pa.table({"s": [day], "t": [1], "item": [day]}), tmp_path / f"day={day}" / "0.parquet")
    paths = [str(tmp_path / name) for name in twice]
    found = corpus.read(spark, paths, settings(**OF_EVENTS))
    assert sorted(sentences(found)) == (["1", "2"] if "" in twice else ["1"])
    if "" in twice:
        assert sentences(corpus.read(spark, paths, settings(**OF_EVENTS, where="day = 2"))) == ["2"]


def test_sessions_of_csv_are_the_same_only_if_they_are_written_so(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s,t,item\n007,1,a\n7,2,b\n7,10,c\n")
    keys = {**OF_EVENTS, "format": "csv"}
    assert sorted(sentences(read(spark, tmp_path, **keys))) == ["a", "b c"]
    assert sorted(sentences(read(spark, tmp_path, **{**keys, "order_by": "s, t"}))) == ["a", "b c"]
    (tmp_path / "a.csv").write_text("s,t,item\n1,1,010\n1,1,009\n")
    assert sentences(read(spark, tmp_path, **{**keys, "order_by": "t, item"})) == ["009 010"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"group_by": "session"}, 'corpus.group_by: the DataFrame has no column "session"; '),
        ({"order_by": "t,time"}, 'corpus.order_by: the DataFrame has no column "time"; '),
        ({"order_by": "t, ids"}, 'corpus.order_by: "t, ids" has a column of array<int>, rows are ordered by numbers'),
        ({"group_by": "ids"}, 'corpus.group_by: "ids" has a column of array<int>, rows are grouped by numbers'),
        ({"group_by": "t,both"}, 'corpus.group_by: "t,both" has a column of struct<a:int>, rows are grouped by'),
        ({"column": "ids"}, 'corpus.column: "ids" is array<int>, with corpus.group_by a row holds one word'),
    ],
)
def test_columns_of_events_that_cannot_be_are_refused(
    spark: "SparkSession", keys: dict[str, str], sentence: str
) -> None:
    schema = "s int, t int, item int, ids array<int>, both struct<a: int>"
    frame = events_of(spark, [(1, 1, 5, [1], (1,))], schema)
    with pytest.raises(UserError) as error:
        corpus.read_text_frame(frame, settings(**{**OF_EVENTS, **keys}))
    assert str(error.value).startswith(sentence)


def test_a_column_of_single_words_needs_groups(spark: "SparkSession") -> None:
    with pytest.raises(UserError, match=r"give corpus\.group_by, the column of the sentence that a row belongs to"):
        corpus.read_text_frame(events_of(spark), settings(format="parquet", column="item", tokenizer="none"))
