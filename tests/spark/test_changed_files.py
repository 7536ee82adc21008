"""Files that change between the listing of the input and the end of reading it."""

import gzip
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_w2v import config, pipeline
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus
from tests.support.inputs import LINE, listed, text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ADVICE = "; train on a copy, or on files that nobody writes to."
SETTINGS = config.from_dict({"vocabulary": {"min_count": 1}})


def grow(path: Path) -> None:
    text(path, 5)


def shorten(path: Path) -> None:
    os.truncate(path, 1)


def touch(path: Path) -> None:
    os.utime(path, (0, 1.5))


def replace(path: Path) -> None:
    """By as many bytes that were written at another time, as a program does that writes the file again."""
    path.write_text(path.read_text().upper())
    touch(path)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (shorten, "is 1 bytes of 20"),
        (replace, f"is {3 * len(LINE)} bytes of 1970-01-01T00:00:01.500+00:00 after it was read"),
        (touch, f"is {3 * len(LINE)} bytes of 1970-01-01T00:00:01.500+00:00 after it was read"),
        (Path.unlink, "is gone after it was read"),
    ],
)
def test_a_file_that_is_not_what_was_listed_is_refused(
    spark: "SparkSession", folder: Path, change: Callable[[Path], None], after: str
) -> None:
    path = text(folder / "a é.txt", 3)
    text(folder / "b.txt")
    found = listed(spark, folder)
    corpus.check_unchanged(spark, found, "text")
    change(path)
    with pytest.raises(UserError) as error:
        corpus.check_unchanged(spark, found, "text")
    assert str(error.value).startswith(f"{path}: was {3 * len(LINE)} bytes of 20")
    assert f" when it was listed, and {after}" in str(error.value)
    assert str(error.value).endswith(ADVICE)
    shorten(folder / "b.txt")
    with pytest.raises(UserError, match="after it was read, and 1 other file changed, too; "):
        corpus.check_unchanged(spark, found, "text")


def test_a_text_that_has_grown_is_a_warning_and_a_table_is_refused(
    spark: "SparkSession", folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = text(folder / "a.txt", 3)
    found = listed(spark, folder)
    grow(path)
    for kind in ("text", "jsonl", "csv"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            corpus.check_unchanged(spark, found, kind)
        assert caplog.messages == [
            f"1 file has grown since the input was listed, such as {path} from 69 to 115 bytes; "
            "what was added may not be read"
        ]
    with pytest.raises(UserError, match="when it was listed"):
        corpus.check_unchanged(spark, found, "parquet")
    packed = folder / "b.txt.gz"
    packed.write_bytes(gzip.compress(b"a b"))
    found = listed(spark, folder)
    packed.write_bytes(gzip.compress(b"a b c d e f"))
    with pytest.raises(UserError, match=r"b\.txt\.gz: was .* when it was listed"):
        corpus.check_unchanged(spark, found, "text")


@pytest.mark.parametrize("kind", ["text", "group_by"])
def test_a_file_that_is_cut_while_it_is_read_ends_the_run(spark: "SparkSession", folder: Path, kind: str) -> None:
    of_events = {"format": "csv", "column": "gamma", "tokenizer": "none", "group_by": "alpha"}
    settings = SETTINGS if kind == "text" else config.from_dict({"corpus": of_events, "vocabulary": {"min_count": 1}})
    path = text(folder / "a.txt", 2000)
    path.write_text(path.read_text().replace(" ", ",") if kind == "group_by" else path.read_text())
    found = listed(spark, folder, kind=settings.corpus.format)
    segments = corpus.read(spark, [str(folder)], settings.corpus, found)
    os.truncate(path, 1000 * len(LINE))
    with pytest.raises(UserError, match=rf"a\.txt: was {2000 * len(LINE)} bytes of .* is {1000 * len(LINE)} bytes"):
        pipeline.prepare(segments, settings, files=found).release()


def test_files_elsewhere_are_listed_again(
    spark: "SparkSession", folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    conf.set("fs.viewfs.mounttable.again.link./in", folder.as_uri())
    paths = [text(folder / name, 3) for name in ("deep/a b.txt", "deep/c.txt", "_hidden.txt", "d.txt")]
    given = ["viewfs://again/in/deep", "viewfs://again/in/_hidden.txt", "viewfs://again/in/d.txt"]

    def check() -> str:
        with pytest.raises(UserError) as error:
            corpus.check_unchanged(spark, found, "text")
        return str(error.value)

    found = listed(spark, *given)
    assert len(found.files) == 4
    text(folder / "deep" / "new.txt")
    corpus.check_unchanged(spark, found, "text")
    grow(paths[0])
    corpus.check_unchanged(spark, found, "text")
    assert "1 file has grown since the input was listed, such as viewfs://again/in/deep/a b.txt" in caplog.text
    shorten(paths[2])
    assert check().startswith("viewfs://again/in/_hidden.txt: was 69 bytes of ")
    paths[1].unlink()
    assert ", and 1 other file changed, too; " in check()
    found = listed(spark, *given)
    paths[3].unlink()  # a path that was given, so that Spark would say that there is none
    assert check().startswith("viewfs://again/in/d.txt: was 69 bytes of ")
    assert "is gone or empty after it was read;" in check()
