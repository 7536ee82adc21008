"""Words of many scripts, sentences and segments: without Spark first, then through it."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config
from spark_w2v.spark import corpus, session
from spark_w2v.spark.session import reading_session
from spark_w2v.spark.tables import SEGMENTS
from tests.support.segments import unpacked

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# Through Spark


def read_rows(spark: "SparkSession", *paths: Path, **keys: Any) -> list[tuple[Any, ...]]:
    segments = corpus.read(spark, [str(path) for path in paths], config.Corpus(**keys))
    return sorted(tuple(row) for row in segments.collect())


def all_words(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    found: list[str] = []
    for row in rows:
        words, _ = unpacked(dict(zip(SEGMENTS.names, row, strict=True)))
        found += [words[code] for code in np.frombuffer(row[SEGMENTS.names.index("codes")], "<i4")]
    return found


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Files of all kinds, in directories, with names that need care."""
    folder = tmp_path / "in put" / "day=1"
    folder.mkdir(parents=True)
    (folder / "é %20 #1.txt").write_text("One two.\r\nThree\n\nfour", encoding="utf-8")
    (folder / "_hidden.txt").write_text("hidden")
    (folder / "empty.txt").touch()
    (tmp_path / "in put" / "b.txt.gz").write_bytes(gzip.compress("\ufeffbyte-order\nmark\n".encode()))
    return tmp_path / "in put"


def test_directories_compressed_files_and_strange_names_are_read(spark: "SparkSession", sentences: Path) -> None:
    rows = read_rows(spark, sentences)
    assert [row[:3] for row in rows] == [(0, 0, 0), (1, 0, 0)]
    assert all_words(rows) == ["byte", "order", "mark", "one", "two", "three", "four"]
    # A file that is reached twice is read once.
    assert read_rows(spark, sentences, sentences / "*.gz", sentences) == rows


def test_pieces_do_not_depend_on_cores_or_on_settings_of_the_session(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 40 KB, which one core would read as a whole and eight in eighths, if the caller's settings were to count.
    lines = [f"{number} " + "word " * (number % 13) for number in range(1000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(lines[:10]))
    for module in (session, corpus):
        monkeypatch.setattr(module, "SPLIT_BYTES", 10_000)
    expected = read_rows(spark, tmp_path)
    assert len({row[:2] for row in expected if row[0] == 0}) > 2
    settings = {
        "spark.sql.files.maxPartitionBytes": "1000",
        "spark.sql.files.minPartitionNum": "8",
        "spark.sql.files.openCostInBytes": "1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "7",
        "spark.sql.leafNodeDefaultParallelism": "5",
    }
    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        assert read_rows(spark, tmp_path) == expected
    finally:
        for key in settings:
            spark.conf.unset(key)

    def small_batches(session_of: "SparkSession") -> "SparkSession":
        made = reading_session(session_of)
        made.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 3)
        made.conf.set("spark.sql.execution.arrow.useLargeVarTypes", "true")
        return made

    monkeypatch.setattr(corpus, "reading_session", small_batches)
    assert read_rows(spark, tmp_path) == expected
    assert all_words(expected) == " ".join(lines + lines[:10]).split()


def test_parquet_gives_text_or_ready_made_words(spark: "SparkSession", tmp_path: Path) -> None:
    table = pa.table({"my text": ["Ab c", None, ""], "items": [["Ab", "c d"], [None, "x"], None]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read_rows(spark, tmp_path, format="parquet", column="my text")
    assert all_words(rows) == ["ab", "c"]
    rows = read_rows(spark, tmp_path, format="parquet", column="items", tokenizer="none")
    assert all_words(rows) == ["Ab", "c d", "x"]


def test_jsonl_gives_text_or_ready_made_words(spark: "SparkSession", tmp_path: Path) -> None:
    lines = ['{"my text": "Ab \\u00e9", "n": [1]}', '{"items": ["Ab", "c d", null, 7]}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert all_words(read_rows(spark, tmp_path, format="jsonl", column="my text")) == ["ab", "é"]
    rows = read_rows(spark, tmp_path, format="jsonl", column="items", tokenizer="none")
    assert all_words(rows) == ["Ab", "c d", "7"]


def test_a_word_that_the_configuration_changes_is_changed(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ab #Cd abcdef")
    read: Callable[..., list[str]] = lambda **keys: all_words(read_rows(spark, tmp_path, **keys))  # noqa: E731
    assert read(lower_case=False, max_word_length=3) == ["Ab", "Cd"]
    assert read(tokenizer="regex", pattern="#?[a-z]+") == ["ab", "#cd", "abcdef"]
    assert read(tokenizer="whitespace") == ["ab", "#cd", "abcdef"]


def test_where_a_file_is_split_does_not_depend_on_the_number_of_cores(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one two three\n" * 30_000)  # 420 kB, which two cores would have in halves
    for module in (session, corpus):
        monkeypatch.setattr(module, "SPLIT_BYTES", 300 << 10)
    assert sorted({row[1] for row in read_rows(spark, tmp_path)}) == [0, 300 << 10]
