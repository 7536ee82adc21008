"""Whatever is wrong with the input: one sentence, or skipped and counted; never a traceback, never silence."""

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, file_rows, java_errors, vocabulary
from spark_w2v.spark.java_errors import text_of, translate_error
from spark_w2v.text.bad_lines import check_counters
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.tokenizer import check_tokenizer
from tests.support.bad_input import checked, explained, refused, tallied
from tests.support.segments import unpacked

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# Before any work


@pytest.mark.parametrize("name", ["nope", "*.nope", "no such dir/x.txt"])
def test_a_path_that_does_not_exist_is_named(spark: "SparkSession", tmp_path: Path, name: str) -> None:
    assert refused(spark, tmp_path / name) == f"{tmp_path}/{name}: no such file; give --input paths that exist."


def test_a_name_with_brackets_is_a_pattern_unless_they_are_escaped(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one two\n")
    assert "a[1].txt: is read as a pattern, which no file fits" in refused(spark, tmp_path / "a[1].txt")
    assert tallied(spark, tmp_path / r"a\[1\].txt")["words"] == 2


def test_a_name_with_a_colon_is_told_whether_it_is_given_or_found(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a:b.txt").write_text("one two\n")
    sentence = "a:b.txt: Hadoop takes no colon in a name; rename it."
    assert refused(spark, tmp_path / "a:b.txt") == sentence
    assert explained(spark, tmp_path) == sentence


def test_a_directory_without_files_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    assert "has no files" in refused(spark, tmp_path)


def test_files_of_no_bytes_are_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    assert "2 files of 0 bytes" in refused(spark, tmp_path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "an empty path"),
        ("[a", "not a glob"),
        ("nofs://host/x", 'no such file system (No FileSystem for scheme "nofs")'),
        ("http://127.0.0.1:9/x", "cannot list files there"),
        ("hdfs://127.0.0.1:9/x", "hdfs://127.0.0.1:9/x: cannot be opened (Connection refused)."),
        ("://", "://: cannot be opened (Expected scheme name at index 0: :/)."),
        ("\udcff", "cannot be opened ("),
    ],
)
def test_a_path_that_is_none_is_refused(spark: "SparkSession", path: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        corpus.read(spark, [path], config.Corpus())
    assert words in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "a.txt").chmod(0)
    assert f"{tmp_path}/a.txt: cannot be read" in explained(spark, tmp_path)


@pytest.mark.parametrize("pattern", ["(?<=a)b", "(", r"(a)\1", "[z-a]"])
def test_a_pattern_that_re2_refuses_is_refused_without_spark(pattern: str) -> None:
    with pytest.raises(UserError, match=r"^corpus\.pattern: .* is refused by RE2 \(.*\)"):
        check_tokenizer(config.Corpus(tokenizer="regex", pattern=pattern))


def test_a_pattern_that_matches_bytes_is_refused() -> None:
    with pytest.raises(UserError, match=r"^corpus\.pattern: .* has \\C, which matches a byte"):
        check_tokenizer(config.Corpus(tokenizer="regex", pattern=r"a\\\C"))


@pytest.mark.parametrize("pattern", [r"[\p{L}']+", r"a\\C"])
def test_a_pattern_of_re2_is_accepted(pattern: str) -> None:
    check_tokenizer(config.Corpus(tokenizer="regex", pattern=pattern))


def test_names_of_columns_that_spark_takes_for_one_are_told(spark: "SparkSession", tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one two"], "Text": ["one two"]}), tmp_path / "a.parquet")
    assert refused(spark, tmp_path, format="parquet").startswith("--input: the files have two columns `text`")


def test_names_that_spark_takes_for_one_are_told_where_both_may_be_meant(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"Text": "a b", "text": 2}\n')
    assert refused(spark, tmp_path, format="jsonl", column="Text", weight="text") == (
        "the input has two fields `Text`, as Spark reads names; rename one."
    )
    for names in (["text", "text"], ["text", "Text"]):
        with pytest.raises(UserError, match=r"^the input has two columns `text`, as Spark reads names; rename one\.$"):
            corpus.read_text_frame(spark.createDataFrame([("a b", "c d")]).toDF(*names), config.Corpus())


def test_text_has_no_ready_made_words(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert "corpus.tokenizer" in refused(spark, tmp_path, tokenizer="none")


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"column": "test"}, 'no column "test"; did you mean text?'),
        ({"column": "zzz"}, "it has text, items, n, x."),
        ({"column": "TEXT"}, 'no column "TEXT"; did you mean text?'),
        (
            {"column": "x", "tokenizer": "none"},
            "is array<double>, ready-made words are array<string>, or an array of whole",
        ),
        ({"column": "x"}, "is array<double>, text is string; give another column."),
        ({"column": "items"}, 'text is string; set corpus.tokenizer to "none"'),
        ({"column": "n"}, "is bigint, text is string"),
        ({"column": "text", "tokenizer": "none"}, "is string, ready-made words are array<string>"),
        ({"column": "mumbers", "tokenizer": "none"}, 'no column "mumbers"'),
    ],
)
def test_a_parquet_column_that_does_not_fit_is_refused(
    spark: "SparkSession", tmp_path: Path, keys: dict[str, str], words: str
) -> None:
    table = pa.table({"text": ["a"], "items": [["a"]], "n": [1], "x": [[1.5]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert words in refused(spark, tmp_path, format="parquet", **keys)


@pytest.mark.parametrize("lacking", ["a", "c [1] é"])
def test_a_parquet_file_without_the_column_is_named(spark: "SparkSession", tmp_path: Path, lacking: str) -> None:
    pq.write_table(pa.table({"other": ["x"]}), tmp_path / f"{lacking}.parquet")
    pq.write_table(pa.table({"items": [["alpha", "beta"]] * 50}), tmp_path / "b.parquet")
    keys = {"format": "parquet", "column": "items", "tokenizer": "none"}
    if lacking == "a":  # it is the first, whose schema Spark takes for that of all
        assert refused(spark, tmp_path, **keys) == (
            f'corpus.column: {tmp_path}/a.parquet has no column "items", it has other; {tmp_path}/b.parquet has it. '
            "Leave files without it out of --input."
        )
    else:
        assert f"1 of 51 lines are bad (1 missing lines), 2.0%; the first are {tmp_path}/{lacking}" in (
            checked(spark, tmp_path, **keys)
        )


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(("column", "tokenizer"), [("text", "words"), ("items", "none")])
def test_a_parquet_file_whose_column_has_another_type_is_named(
    spark: "SparkSession", tmp_path: Path, column: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": ["a b"], "items": [["a"]]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1.5], "items": [[2]]}), tmp_path / "b.parquet")
    kinds = ("double", "string") if column == "text" else ("array<bigint>", "array<string>")
    assert refused(spark, tmp_path, format="parquet", column=column, tokenizer=tokenizer).startswith(
        f'--input: {tmp_path}/b.parquet has a column "{column}" of {kinds[0]}, which Spark would read as {kinds[1]}'
    )
    monkeypatch.setattr(file_rows, "check_types", lambda *_: None)  # as of tables, whose files are not looked at
    assert explained(spark, tmp_path, format="parquet", column=column, tokenizer=tokenizer) == (
        f"{tmp_path}/b.parquet: its column {column} is {'DOUBLE' if column == 'text' else 'INT64'}, in other files it "
        "is string; convert it, or leave it out of --input."
    )


def test_text_given_as_parquet_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no Parquet at all, but text")
    assert refused(spark, tmp_path, format="parquet").startswith(
        f"{tmp_path}/a.parquet: is not what corpus.format says, or damaged"
    )


# While reading


def test_a_truncated_gz_among_good_ones_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"word%d and some more\n" % number for number in range(10_000)))
    (tmp_path / "a.txt.gz").write_bytes(whole)
    (tmp_path / "b é %.txt.gz").write_bytes(whole[: len(whole) // 2])
    assert explained(spark, tmp_path) == (
        f"{tmp_path}/b é %.txt.gz: cannot be read to its end (it ends too early: truncated?); "
        "replace it, or leave it out of --input."
    )


def test_a_file_with_braces_in_its_name_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "{shop}.gz").write_text("just text\n")
    assert f"{tmp_path}/{{shop}}.gz: cannot be read to its end (it is not gzip)" in explained(spark, tmp_path)


def test_a_name_with_braces_that_hadoop_refuses_is_named() -> None:
    error = ValueError("Relative path in absolute URI: {a}:b.txt")
    assert translate_error(error) == "{a}:b.txt: Hadoop takes no colon in a name; rename it."


def test_text_called_gz_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_text("just text\n")
    assert "a.txt.gz: cannot be read to its end (it is not gzip)" in explained(spark, tmp_path)


def test_a_file_removed_meanwhile_is_named(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("words")
    segments = corpus.read(spark, [str(tmp_path)], config.Corpus())
    (tmp_path / "a.txt").unlink()
    with pytest.raises(Exception) as error:  # noqa: PT011 - of whatever class, it has to be explained
        vocabulary.counters(segments)
    assert translate_error(error.value) == f"{tmp_path}/a.txt: was removed while it was read; start again."
    # So does Spark call a file that may not be read; root, as whom tests may run, reads everything.
    text = f"{text_of(error.value)}\nCaused by: java.io.FileNotFoundException: {tmp_path}/a.txt (Permission denied)"
    monkeypatch.setattr(java_errors, "text_of", lambda _: text)
    denied = f"{tmp_path}/a.txt: cannot be read (permission denied); give readable files."
    assert translate_error(error.value) == denied


def test_what_is_no_fault_of_the_input_is_not_explained() -> None:
    assert translate_error(ZeroDivisionError("division by zero")) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"tokenizer": "regex", "pattern": "[ACGT]{6}"},
            "corpus.pattern '[ACGT]{6}' matches nothing in 2 lines of text, which is lower-cased before; "
            "for a pattern of upper-case letters set corpus.lower_case to false.",
        ),
        ({"tokenizer": "regex", "pattern": "[0-9]+", "lower_case": False}, "matches nothing in 2 lines of text."),
        ({"max_word_length": 3}, "all 2 are longer than corpus.max_word_length (3)"),
    ],
)
def test_a_corpus_without_words_because_of_the_configuration_says_so(
    spark: "SparkSession", tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    (tmp_path / "a.txt").write_text("ACGTAC\nGGGTTTAAA\n")
    assert words in checked(spark, tmp_path, **keys)


@pytest.mark.slow
def test_names_that_spark_or_the_job_uses_itself_are_names_like_others(spark: "SparkSession", tmp_path: Path) -> None:
    names = ["_metadata", "value", "start", "reason", "parsed", "path_hash"]
    pq.write_table(pa.table({name: [f"in {name}"] for name in ["text", *names]}), tmp_path / "a.parquet")
    for name in ["text", *names]:
        assert tallied(spark, tmp_path, format="parquet", column=name)["words"] == (
            2 if "_" not in name.strip("_") else 3
        )
    (tmp_path / "a.parquet").unlink()
    names += ["_not_json", "not text", "_corrupt_record", "a.b", "a`b", "$", "x y"]
    (tmp_path / "a.jsonl").write_text(json.dumps(dict.fromkeys(names, "two words")))
    for name in names:
        assert tallied(spark, tmp_path, format="jsonl", column=name)["words"] == 2, name


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.uint8(),
        pa.uint16(),
        pa.uint32(),
        pa.uint64(),
        pa.decimal128(20, 0),
    ],
)
def test_whole_numbers_are_words_in_decimal(spark: "SparkSession", tmp_path: Path, kind: pa.DataType) -> None:
    most = 10**19 if pa.types.is_decimal(kind) else np.iinfo(kind.to_pandas_dtype()).max
    items = pa.array([[1, 2, most], None, [None, 1]], pa.list_(pa.int64() if most < 2**63 else pa.uint64())).cast(
        pa.list_(kind)
    )
    pq.write_table(pa.table({"items": items}), tmp_path / "a.parquet")
    segments = corpus.read(spark, [str(tmp_path)], config.Corpus(format="parquet", column="items", tokenizer="none"))
    (row,) = segments.collect()
    assert unpacked(row) == (["1", "2", str(most)], [2, 1, 1])
    assert row["counters"][COUNTERS.index("null_words")] == 1


def test_nulls_in_parquet_are_counted(spark: "SparkSession", tmp_path: Path) -> None:
    pq.write_table(pa.table({"items": [["a", None], None, [], [None]]}), tmp_path / "a.parquet")
    assert tallied(spark, tmp_path, format="parquet", column="items", tokenizer="none") == {
        "lines": 4, "words": 1, "sentences": 1, "lines_with_words": 1, "wordless_lines": 2, "missing_lines": 1,
        "null_words": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_more_bad_lines_than_allowed_stop_the_run(bad: int, stops: bool) -> None:
    found = dict.fromkeys(COUNTERS, 0) | {"lines": 100, "binary_lines": bad}
    if not stops:
        check_counters(found, config.Corpus())
        return
    with pytest.raises(UserError, match=r"^2 of 100 lines are bad \(2 binary lines\), 2\.0%"):
        check_counters(found, config.Corpus())
