"""Whatever is wrong with the input: one sentence, or skipped and counted; never a traceback, never silence."""

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config
from spark_w2v.stages import corpus, vocabulary
from spark_w2v.stages.schemas import TALLIES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def tallied(spark: "SparkSession", path: Path, **keys: Any) -> dict[str, int]:
    """What is counted in the files of a path, without what is 0."""
    pieces = corpus.read(spark, [str(path)], config.Corpus(**keys))
    return {name: count for name, count in vocabulary.tallies(pieces).items() if count}


def refused(spark: "SparkSession", path: Path, **keys: Any) -> str:
    with pytest.raises(config.ConfigError) as error:
        corpus.read(spark, [str(path)], config.Corpus(**keys))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def explained(spark: "SparkSession", path: Path, **keys: Any) -> str:
    """What is said of a file that turns out to be bad while it is read, whichever job reads it."""
    pieces = corpus.read(spark, [str(path)], config.Corpus(**keys))
    sentences = set()
    for job in (lambda: vocabulary.tallies(pieces), lambda: vocabulary.count_words(pieces, 1), pieces.rdd.count):
        with pytest.raises(Exception) as error:  # noqa: PT011 - of whatever class, it has to be explained
            job()
        sentences.add(corpus.explain(error.value))
    (sentence,) = sentences
    assert sentence is not None
    assert "\n" not in sentence
    return sentence


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
        ("[a", "no glob"),
        ("nofs://host/x", 'no such file system (No FileSystem for scheme "nofs")'),
        ("http://127.0.0.1:9/x", "cannot list files there"),
        ("hdfs://127.0.0.1:9/x", "hdfs://127.0.0.1:9/x: cannot be opened (Connection refused)."),
        ("://", "://: cannot be opened (Expected scheme name at index 0: :/)."),
        ("\udcff", "cannot be opened ("),
    ],
)
def test_a_path_that_is_none_is_refused(spark: "SparkSession", path: str, words: str) -> None:
    with pytest.raises(config.ConfigError) as error:
        corpus.read(spark, [path], config.Corpus())
    assert words in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "a.txt").chmod(0)
    assert f"{tmp_path}/a.txt: cannot be read" in explained(spark, tmp_path)


@pytest.mark.parametrize("pattern", ["(?<=a)b", "(", r"(a)\1", "[z-a]"])
def test_a_pattern_that_re2_refuses_is_refused_without_spark(pattern: str) -> None:
    with pytest.raises(config.ConfigError, match=r"^corpus\.pattern: .* is refused by RE2 \(.*\)"):
        corpus.check_tokenizer(config.Corpus(tokenizer="regex", pattern=pattern))


def test_a_pattern_of_re2_is_accepted() -> None:
    corpus.check_tokenizer(config.Corpus(tokenizer="regex", pattern=r"[\p{L}']+"))


def test_names_of_columns_that_spark_takes_for_one_are_told(spark: "SparkSession", tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one two"], "Text": ["one two"]}), tmp_path / "a.parquet")
    assert "two columns `text`" in refused(spark, tmp_path, format="parquet")


def test_text_has_no_ready_made_words(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert "corpus.tokenizer" in refused(spark, tmp_path, tokenizer="none")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"column": "test"}, 'no column "test"; did you mean text?'),
        ({"column": "zzz"}, "it has text, items, n."),
        ({"column": "items"}, 'text is string; set corpus.tokenizer to "none"'),
        ({"column": "n"}, "is bigint, text is string"),
        ({"column": "text", "tokenizer": "none"}, "is string, ready-made words are array<string>"),
        ({"column": "numbers", "tokenizer": "none"}, 'no column "numbers"'),
    ],
)
def test_a_parquet_column_that_does_not_fit_is_refused(
    spark: "SparkSession", tmp_path: Path, keys: dict[str, str], words: str
) -> None:
    pq.write_table(pa.table({"text": ["a"], "items": [["a"]], "n": [1]}), tmp_path / "a.parquet")
    assert words in refused(spark, tmp_path, format="parquet", **keys)


def test_text_given_as_parquet_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no Parquet at all, but text")
    assert refused(spark, tmp_path, format="parquet").startswith(f"{tmp_path}/a.parquet: is not Parquet, or damaged")


# While reading


def test_a_truncated_gz_among_good_ones_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"word%d and some more\n" % number for number in range(50_000)))
    (tmp_path / "a.txt.gz").write_bytes(whole)
    (tmp_path / "b é %.txt.gz").write_bytes(whole[: len(whole) // 2])
    assert explained(spark, tmp_path) == (
        f"{tmp_path}/b é %.txt.gz: cannot be read to its end (it ends too early: truncated?); "
        "replace it, or leave it out of --input."
    )


def test_text_called_gz_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_text("just text\n")
    assert "a.txt.gz: cannot be read to its end (it is not gzip)" in explained(spark, tmp_path)


def test_a_file_removed_meanwhile_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    pieces = corpus.read(spark, [str(tmp_path)], config.Corpus())
    (tmp_path / "a.txt").unlink()
    with pytest.raises(Exception) as error:  # noqa: PT011 - of whatever class, it has to be explained
        vocabulary.tallies(pieces)
    assert corpus.explain(error.value) == f"{tmp_path}/a.txt: was removed while it was read; start again."


def test_what_is_no_fault_of_the_input_is_not_explained() -> None:
    assert corpus.explain(ZeroDivisionError("division by zero")) is None


def test_blank_lines_alone_have_no_words(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n\t\n\u3000\n")
    assert tallied(spark, tmp_path) == {"lines": 4, "blank_lines": 4}
    with pytest.raises(config.ConfigError, match="the corpus has no words"):
        vocabulary.count_words(corpus.read(spark, [str(tmp_path)], config.Corpus()), min_count=1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_than_utf_8_is_counted_as_binary(spark: "SparkSession", tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("one two\nthree four\n".encode(encoding))
    found = tallied(spark, tmp_path)
    assert found["binary_lines"] == found["lines"] >= 2
    assert "words" not in found


def test_random_bytes_never_pass_for_a_corpus(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(np.random.default_rng(0).bytes(200_000))
    found = vocabulary.tallies(corpus.read(spark, [str(tmp_path)], config.Corpus()))
    with pytest.raises(
        config.ConfigError, match=r"lines are bad \(.*binary lines.*invalid utf8 lines\).*max_bad_fraction"
    ):
        corpus.check_tallies(found, config.Corpus())


def test_invalid_utf8_is_replaced_and_counted(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait\nfine\n")
    found = tallied(spark, tmp_path)
    assert found == {"lines": 2, "words": 4, "sentences": 2, "lines_with_words": 2, "invalid_utf8_lines": 1}


def test_a_line_of_20_mb_is_cut_and_not_dropped(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before\n" + "word " * 4_000_000 + "\nafter")
    found = tallied(spark, tmp_path)
    assert found == {
        "lines": 3, "words": 4_000_002, "sentences": 4002, "lines_with_words": 3, "cut_lines": 1,
    }  # fmt: skip


def test_a_word_of_a_million_characters_is_skipped_and_counted(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a " + "b" * 1_000_000 + " c " + "é" * 10_000)
    found = tallied(spark, tmp_path)
    assert (found["words"], found["long_words"]) == (2, 2)


def test_a_million_lines_of_one_word_are_all_read(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word\n" * 1_000_000)
    assert tallied(spark, tmp_path) == {
        "lines": 1_000_000, "words": 1_000_000, "sentences": 1_000_000, "lines_with_words": 1_000_000,
    }  # fmt: skip


def test_json_lines_are_skipped_by_reason(spark: "SparkSession", tmp_path: Path) -> None:
    lines = [
        b'{"text": "a b"}', b'{"text": 5}', b'{"text": {"x": 1}}', b'{"text": ["a"]}', b'{"text": true}',
        b'{"text": null}', b"{}", b'{"other": "x"}', b"{broken", b"[1]", b'"x"', b"", b"  ", b'{"text": ""}',
        b'{"text": "--"}', b'{"text": "caf\xe9"}', b'{"te\0xt": 1}', b'{"text": "a\\u0000b"}', b'{"text": "\\ud83d"}',
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert tallied(spark, tmp_path, format="jsonl") == {
        "lines": 19, "words": 3, "sentences": 2, "lines_with_words": 2, "blank_lines": 3, "wordless_lines": 1,
        "wrong_type_lines": 4, "missing_lines": 3, "malformed_lines": 4, "binary_lines": 2, "invalid_utf8_lines": 1,
    }  # fmt: skip


def test_json_arrays_are_skipped_by_reason(spark: "SparkSession", tmp_path: Path) -> None:
    lines = ['{"text": ["a b", null, ""]}', '{"text": "a b"}', '{"text": []}', '{"text": null}', '{"text": [[1]]}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert tallied(spark, tmp_path, format="jsonl", tokenizer="none") == {
        "lines": 5, "words": 2, "sentences": 2, "lines_with_words": 2, "wordless_lines": 1, "missing_lines": 1,
        "wrong_type_lines": 1, "null_words": 2,
    }  # fmt: skip


def test_json_lines_without_the_field_are_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n\n{"body": "y"}')
    found = vocabulary.tallies(corpus.read(spark, [str(tmp_path)], config.Corpus(format="jsonl")))
    with pytest.raises(config.ConfigError, match='none of 3 lines has a field "text"'):
        corpus.check_tallies(found, config.Corpus(format="jsonl", max_bad_fraction=1.0))


def test_nulls_in_parquet_are_counted(spark: "SparkSession", tmp_path: Path) -> None:
    pq.write_table(pa.table({"items": [["a", None], None, [], [None]]}), tmp_path / "a.parquet")
    assert tallied(spark, tmp_path, format="parquet", column="items", tokenizer="none") == {
        "lines": 4, "words": 1, "sentences": 1, "lines_with_words": 1, "wordless_lines": 2, "missing_lines": 1,
        "null_words": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_more_bad_lines_than_allowed_stop_the_run(bad: int, stops: bool) -> None:
    found = dict.fromkeys(TALLIES, 0) | {"lines": 100, "binary_lines": bad}
    if not stops:
        corpus.check_tallies(found, config.Corpus())
        return
    with pytest.raises(config.ConfigError, match=r"^2 of 100 lines are bad \(2 binary lines\), 2\.0%"):
        corpus.check_tallies(found, config.Corpus())
