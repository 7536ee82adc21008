"""Files and tables with columns: formats, nested columns, directories of partitions, conditions, weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, vocabulary
from spark_w2v.spark.java_errors import translate_error
from tests.support.bad_input import checked, explained, prepared
from tests.support.segments import OF_GOOD_LINES, sentences, sentences_and_counters, weighted_sentences

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = [
    (1, ("a b c",), [1, 2], 2.5, [("x",), ("y",)], "2026-01-01"),
    (2, ("d e",), [3, 4], 0.0, [("z",)], "2026-01-02"),
]
SCHEMA = "k int, doc struct<body:string>, ids array<int>, w double, events array<struct<item:string>>, day string"
FORMATS = {"parquet": "parquet", "orc": "orc", "jsonl": "json"}


@pytest.fixture(scope="module")
def stored(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows in each format, one directory a day."""
    root = tmp_path_factory.mktemp("stored")
    rows = spark.createDataFrame(ROWS, SCHEMA)
    for name, sparks in FORMATS.items():
        rows.write.partitionBy("day").format(sparks).save(str(root / name))
    return root


def settings(**keys: Any) -> config.Corpus:
    """With defaults for the rest, and checked as a file is."""
    return config.from_dict({"corpus": keys}).corpus


def read(spark: "SparkSession", path: Path, **keys: Any) -> "DataFrame":
    return corpus.read(spark, [str(path)], settings(**keys))


def counted(segments: "DataFrame") -> dict[str, int]:
    return {name: n for name, n in vocabulary.counters(segments).items() if n and name not in OF_GOOD_LINES}


def refused(spark: "SparkSession", path: Path, **keys: Any) -> str:
    with pytest.raises(UserError) as error:
        read(spark, path, **keys)
    return str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_path_leads_into_a_column(spark: "SparkSession", stored: Path, kind: str) -> None:
    assert sentences(read(spark, stored / kind, format=kind, column="doc.body")) == ["a b c", "d e"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_field_of_an_array_of_structures_is_an_array_of_words(spark: "SparkSession", stored: Path, kind: str) -> None:
    found = read(spark, stored / kind, format=kind, column="events.item", tokenizer="none")
    assert sentences(found) == ["x y", "z"]


@pytest.mark.slow
def test_arrays_of_json_are_told_by_what_their_objects_have(spark: "SparkSession", tmp_path: Path) -> None:
    events = [
        '[{"item":"a"},{"item":null},{"x":1},{"item":7}]', "[]", '[{"item":["a"]}]', '[{"x":1}]', '["item"]', "3",
        "null", '{"item":["b"]}',
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(f'{{"doc":{{"events":{value}}}}}' for value in events))
    segments = read(spark, tmp_path, format="jsonl", column="doc.events.item", tokenizer="none")
    found, counters = sentences_and_counters(segments)
    assert found == ["a 7", "b"]
    assert counters == {"null_words": 2, "wordless_lines": 1, "wrong_type_lines": 1, "missing_lines": 4}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["body-text", "body text", "bödy", "a[0]", "it's", "it's [1]", 'a "b" [1]', "$", "7"])
def test_a_path_of_json_may_have_any_name_in_it(spark: "SparkSession", tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"doc": {name: {"x y": "a b", "w-1": 2}}}))
    segments = read(spark, tmp_path, format="jsonl", column=f"doc.{name}.x y", weight=f"doc.{name}.w-1")
    assert weighted_sentences(segments) == [("a b", 2.0)]


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_a_condition_may_name_a_directory_and_any_column(spark: "SparkSession", stored: Path, kind: str) -> None:
    keys = {"format": kind, "column": "ids", "tokenizer": "none"}
    assert sentences(read(spark, stored / kind, **keys, where="day = '2026-01-02'")) == ["3 4"]
    assert sentences(read(spark, stored / kind, **keys, where="k < 2 and doc.body like '%b%'")) == ["1 2"]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("dya = 3", "corpus.where: Spark refuses it (A column, variable, or function parameter with name `dya` cannot"),
        ("k + 1", "Filter expression \"(k + 1)\" of type \"INT\" is not a boolean); change it."),
        ("k = = 3", "corpus.where: Spark refuses it (Syntax error at or near '='); change it."),
    ],
)  # fmt: skip
def test_a_condition_that_is_none_is_refused_in_one_sentence(
    spark: "SparkSession", stored: Path, condition: str, sentence: str
) -> None:
    found = refused(spark, stored / "parquet", format="parquet", column="doc.body", where=condition)
    assert sentence in found
    assert "\n" not in found


def test_a_condition_that_fails_on_a_value_is_explained(spark: "SparkSession", stored: Path) -> None:
    segments = read(spark, stored / "parquet", format="parquet", column="doc.body", where="doc.body > 3")
    with pytest.raises(Exception, match="CAST_INVALID_INPUT") as error:
        segments.collect()
    assert str(translate_error(error.value)).startswith("the value 'a b c' is \"STRING\", which cannot be read as")


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("1 / (k - k) > 0", "Division by zero"),
        ("k % (k - k) > 0", "Remainder by zero"),
        ("k + 2147483647 > 0", "overflow"),
        ("ids[9] = 1", "The index 9 is out of bounds"),
        ("element_at(ids, 0) = 1", "The index 0 is invalid"),
        ("to_timestamp(doc.body, 'y') = now()", "Text 'a b c' could not be parsed"),
        ("cast(1e30 * k as int) > 0", "due to an overflow"),
        ("raise_error(doc.body) is null", "a b c"),
    ],
)
def test_a_condition_that_cannot_be_computed_is_explained(
    spark: "SparkSession", stored: Path, condition: str, reason: str
) -> None:
    found = explained(spark, stored / "parquet", format="parquet", column="doc.body", where=condition)
    assert found.startswith("Spark cannot compute a value (")
    assert reason in found
    assert found.endswith("); in corpus.where, or in the view or DataFrame that is read, change the expression.")


def test_a_condition_that_no_row_meets_is_named(spark: "SparkSession", stored: Path) -> None:
    found = checked(spark, stored / "parquet", format="parquet", column="doc.body", where="k > 1000")
    assert found == (
        "corpus.where: no row meets the condition 'k > 1000'; change it, or wait until such rows are there."
    )


@pytest.mark.slow
def test_bad_rows_of_csv_are_named_by_their_lines_and_found_with_a_condition(
    spark: "SparkSession", tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("day,text\n1,a b\n,x,y\n2,c d\n1,e,f,g\n")
    keys = {"format": "csv", "column": "text"}
    assert f"the first are {tmp_path}/a.csv:3, {tmp_path}/a.csv:5; " in checked(spark, tmp_path, **keys)
    # A condition leaves out the good rows of other days, and no lines that are none, whatever is in them.
    for condition in ("day = 2", "day IS NOT NULL AND day = 2"):
        assert counted(read(spark, tmp_path, **keys, where=condition)) == {"malformed_lines": 2}
    prepared(spark, tmp_path, **keys, where="day = 2")
    assert "where: no row meets the condition 'day = 3', and 2 lines cannot be read as rows; change it" in checked(
        spark, tmp_path, **keys, where="day = 3"
    )


def test_with_a_condition_a_bad_row_is_named_by_its_file(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("day,text,w\n1,a b,1\n2,c d,x\n2,e f,1\n")
    found = checked(spark, tmp_path, format="csv", column="text", weight="w", where="day = 2")
    assert found.startswith("1 of 2 lines are bad (1 bad weight lines), 50.0%; ")
    assert f"the first are {tmp_path}/a.csv; " in found


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_are_of_the_row_and_its_sentences(spark: "SparkSession", stored: Path, kind: str) -> None:
    segments = read(spark, stored / kind, format=kind, column="ids", tokenizer="none", weight="w")
    assert weighted_sentences(segments) == [("1 2", 2.5), ("3 4", 0.0)]


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_a_column_that_is_not_there_is_named_with_the_nearest(spark: "SparkSession", stored: Path, kind: str) -> None:
    found = refused(spark, stored / kind, format=kind, column="doc.bdoy")
    assert found.startswith("corpus.column: the ")
    assert found.endswith("did you mean doc.body?")
    found = refused(spark, stored / kind, format=kind, column="doc.body", weight="ww")
    assert found == 'corpus.weight: the files have no column "ww"; did you mean w?'
    found = refused(spark, stored / kind, format=kind, column="doc.body", weight="doc")
    assert found.startswith('corpus.weight: "doc" is struct<body:string>, a weight is a number')


def test_a_field_with_a_dot_in_its_name_is_not_proposed(spark: "SparkSession") -> None:
    frame = spark.sql("select named_struct('x.y', 'a b') as doc, 'a' as k")
    with pytest.raises(UserError, match=r'no column "doc\.x\.y"; did you mean doc\?$'):
        corpus.read_text_frame(frame, settings(format="parquet", column="doc.x.y"))


def test_true_is_not_a_weight(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a b", "w": true}\n{"text": "c d", "w": 2}\n')
    segments = read(spark, tmp_path, format="jsonl", weight="w")
    assert weighted_sentences(segments) == [("c d", 2.0)]
    assert counted(segments) == {"bad_weight_lines": 1}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_line_that_is_not_utf8_is_not_read_without_its_weight(
    spark: "SparkSession", tmp_path: Path, kind: str
) -> None:
    rows = [("caf\u00e9", '"x"'), ("b c", "2"), ("\u00e9t\u00e9 d", "3")]
    form = '{{"text": "{}", "w": {}}}' if kind == "jsonl" else "{},{}"
    head = [] if kind == "jsonl" else ["text,w"]
    (tmp_path / "a").write_bytes("\n".join([*head, *(form.format(*row) for row in rows)]).encode("latin-1"))
    segments = read(spark, tmp_path, format=kind, column="text", weight="w")
    assert sorted(weighted_sentences(segments)) == [("b c", 2.0), ("t d", 3.0)]
    assert counted(segments) == {"bad_weight_lines": 1, "invalid_utf8_lines": 1}


def test_a_weight_that_is_none_is_a_bad_line(spark: "SparkSession") -> None:
    weights = [1.0, None, -0.5, float("nan"), float("inf"), 1000.0, 1000.5, 1e-9]
    rows = spark.createDataFrame([(f"word{n} w", weight) for n, weight in enumerate(weights)], "text string, w double")
    segments = corpus.read_text_frame(rows, settings(format="parquet", weight="w"))
    assert sorted(weighted_sentences(segments)) == [("word0 w", 1.0), ("word5 w", 1000.0), ("word7 w", 0.0)]
    assert counted(segments) == {"bad_weight_lines": 5}


def test_whole_weights_give_the_vocabulary_of_the_text_repeated(spark: "SparkSession") -> None:
    rows = [("a b a", 3), ("b c", 1), ("d", 0), ("c c", 2)]
    weighted = spark.createDataFrame(rows, "text string, w int")
    segments = corpus.read_text_frame(weighted, settings(format="parquet", weight="w"))
    repeated = spark.createDataFrame([(text,) for text, w in rows for _ in range(w)], "text string")
    plain = corpus.read_text_frame(repeated, settings(format="parquet"))
    found, expected = vocabulary.count_words(segments, 1, weighted=True), vocabulary.count_words(plain, 1)
    assert found.words.to_pylist() == expected.words.to_pylist() == ["a", "c", "b"]
    assert found.counts.tolist() == expected.counts.tolist() == [6, 5, 4]
    assert found.total_words == expected.total_words
    assert found.distinct_words == expected.distinct_words == 3  # d counts nothing


def test_fractions_add_up_before_they_are_rounded(spark: "SparkSession") -> None:
    rows = spark.createDataFrame([("a b", 0.29)] * 5 + [("b", 0.2)], "text string, w double")
    segments = corpus.read_text_frame(rows, settings(format="parquet", weight="w"))
    assert vocabulary.count_words(segments, 1, weighted=True).counts.tolist() == [2, 1]  # of 1.65 and 1.45


def test_weights_of_nothing_leave_no_words(spark: "SparkSession") -> None:
    rows = spark.createDataFrame([("a b", 0.0)], "text string, w double")
    segments = corpus.read_text_frame(rows, settings(format="parquet", weight="w"))
    with pytest.raises(UserError, match="2 distinct ones, whose weights come to less than a half each"):
        vocabulary.count_words(segments, 1, weighted=True)


# CSV


def test_csv_is_read_by_name_and_its_words_stay_as_they_are_written(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('session,t,item\n1,10,007\n1,9,"b ""c"", d"\n2,1\n2,2,e,f\n')
    segments = read(spark, tmp_path, format="csv", column="item")
    assert sentences_and_counters(segments) == (["007", "b c d"], {"malformed_lines": 2})
    assert sentences(read(spark, tmp_path, format="csv", column="item", where="t > 9")) == ["007"]


def test_csv_files_with_other_columns_are_refused_and_not_mixed_up(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("session,t,item\n1,10,one\n" * 5)
    (tmp_path / "b.csv").write_text("item,t,session\none,10,1\n")
    segments = read(spark, tmp_path, format="csv", column="item")
    with pytest.raises(Exception, match="header") as error:
        segments.collect()
    sentence = str(translate_error(error.value))
    assert sentence.startswith(f"{tmp_path}/b.csv: cannot be read to its end (its first line has other names than")


@pytest.mark.slow
@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("names", [",s,t,item", "x,s,t,item,X", "x,s,t,item,x", ",s,t,item,", "s,t,item,a4,,"])
def test_names_of_csv_that_are_empty_or_double_do_no_harm_where_nobody_asks_for_them(
    spark: "SparkSession", tmp_path: Path, names: str
) -> None:
    columns = names.split(",")

    def content(columns: list[str], *rows: dict[str, str]) -> str:
        return "\n".join([",".join(columns), *(",".join(row.get(name, "0") for name in columns) for row in rows)])

    (tmp_path / "day=1").mkdir()
    first = [{"s": "1", "t": str(t), "item": f"00{t}"} for t in (10, 9)]
    (tmp_path / "day=1" / "a.csv").write_text(content(columns, *first))
    (tmp_path / "day=1" / "b.csv").write_text("\n" + content(columns, {"s": "2", "t": "1", "item": "b"}) + "\n1\n")
    keys = {"format": "csv", "column": "item", "tokenizer": "none", "group_by": "s", "order_by": "t"}
    for condition in ("", "day = 1 and t > 0"):
        found, counters = sentences_and_counters(read(spark, tmp_path, **keys, where=condition))
        assert sorted(found) == ["009 0010", "b"]
        assert counters == {"malformed_lines": 1}
    assert sentences(read(spark, tmp_path, format="csv", column="item")) == ["0010", "009", "b"]
    for name in {f"_c{len(columns) - 1}", "_c0", "x0"}:
        assert f'have no column "{name}"; ' in refused(spark, tmp_path, format="csv", column=name)
    swapped = [{"s": "item", "item": "s"}.get(name, name) for name in columns]
    (tmp_path / "day=1" / "c.csv").write_text(content(swapped, {"s": "3", "t": "1", "item": "c"}))
    assert refused(spark, tmp_path, **keys) == (
        f"{tmp_path}/day=1/c.csv: cannot be read to its end (its first line has other names than the other files, or "
        "another order of them); replace it, or leave it out of --input."
    )


@pytest.mark.fast_cases(6)
@pytest.mark.parametrize("key", ["column", "group_by", "order_by", "weight", "where"])
@pytest.mark.parametrize("double", ["X,x", "x,x"])
def test_a_name_that_csv_has_twice_is_refused_where_it_is_asked_for(
    spark: "SparkSession", tmp_path: Path, key: str, double: str
) -> None:
    (tmp_path / "a.csv").write_text(f"s,t,item,w,{double}\n1,1,1,1,1,1\n")
    keys = {"column": "item", "group_by": "s", "order_by": "t", "weight": "w", "where": "t > 0", "tokenizer": "none"}
    asked = {"group_by": "s, x", "where": "t > 0 and x > 0"}.get(key, "x")
    assert refused(spark, tmp_path, format="csv", **{**keys, key: asked}) == (
        f'corpus.{key}: the CSV files have two columns "x", as Spark reads names; rename one.'
    )


def test_csv_without_the_column_or_for_words_that_are_an_array_is_refused(
    spark: "SparkSession", tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("session,t,item\n1,10,one\n")
    found = refused(spark, tmp_path, format="csv", column="itme")
    assert found == 'corpus.column: the CSV files have no column "itme"; did you mean item?'
    found = refused(spark, tmp_path, format="csv", column="item", tokenizer="none")
    assert found.startswith('corpus.column: "item" is string, ready-made words are array<string>')


def test_a_format_that_the_files_are_not_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("session,t,item\n1,10,one\n")
    for kind in ("orc", "parquet"):
        found = refused(spark, tmp_path, format=kind, column="item")
        assert found.startswith(f"{tmp_path}/a.csv: is not what corpus.format says, or damaged; ")
    found = refused(spark, tmp_path, format="avro", column="item")
    assert found.startswith('corpus.format: Spark has no reader of "avro"; add it with --packages org.apache.spark:')


def test_an_empty_field_of_csv_is_a_text_without_words(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('day,text\n1,a b\n2,\n3,""\n4\n')
    for keys in ({}, {"where": "day > 0"}):
        segments = read(spark, tmp_path, format="csv", column="text", **keys)
        assert sentences_and_counters(segments) == (["a b"], {"blank_lines": 2, "malformed_lines": 1})


# Tables


def test_a_table_or_view_is_read_by_its_name(spark: "SparkSession") -> None:
    spark.createDataFrame(ROWS, SCHEMA).createOrReplaceTempView("texts")
    spark.createDataFrame([(3, ("f g",), [5], 1.0, [], "2026-01-03")], SCHEMA).createOrReplaceTempView("more_texts")
    keys = settings(format="table", column="doc.body", where="day > '2026-01-01'")
    assert sentences(corpus.read_tables(spark, ["texts"], keys)) == ["d e"]
    assert sorted(sentences(corpus.read_tables(spark, ["texts", "more_texts"], keys))) == ["d e", "f g"]
    for name, reason in (("texst", "the catalog has no `texst`"), ("/data/texts", "Syntax error at or near '/'")):
        with pytest.raises(UserError) as refused:
            corpus.read_tables(spark, [name], keys)
        assert str(refused.value) == (
            f"{name}: cannot be read as a table ({reason}); give --input the names of tables."
        )
    for columns in ("1 as x", "2 as k, doc, ids, w, events, array(day) as day", "*, 1 as one"):
        spark.sql(f"select {columns} from texts").createOrReplaceTempView("others")
        with pytest.raises(UserError) as refused:
            corpus.read_tables(spark, ["texts", "others"], keys)
        assert str(refused.value).startswith("others: has other columns than texts (")
        assert str(refused.value).endswith("); give --input views with the same columns.")
    spark.sql("select * except (doc), struct(1L as body) as doc from texts").createOrReplaceTempView("others")
    with pytest.raises(UserError) as refused:  # 007 would be the word 7
        corpus.read_tables(spark, ["texts", "others"], keys)
    assert str(refused.value) == (
        'others: its column "doc.body" is of type bigint, and that of texts of type string; give --input views that '
        "cast them to the same type."
    )
    with pytest.raises(UserError, match='texts has no column "body"; '):
        corpus.read_tables(spark, ["texts"], settings(format="table", column="body"))
