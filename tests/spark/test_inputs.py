"""Which files are read: each once, none in silence, and nothing for something else than it is."""

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, inputs, vocabulary
from spark_w2v.spark.hadoop_files import BROKEN, EMPTY, HIDDEN, LINKED, SAME, SPECIAL, File, Hadoop
from spark_w2v.spark.input_checks import check_outputs
from spark_w2v.spark.java_errors import translate_error
from spark_w2v.text import packed
from tests.support.inputs import LINE, left_out, lines_of, listed, names, refused, text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# Each once


def test_a_directory_and_a_link_to_it_are_read_once(spark: "SparkSession", folder: Path) -> None:
    text(folder / "2026-01-01" / "part.txt", 40)
    (folder / "latest").symlink_to("2026-01-01")
    found = listed(spark, folder)
    assert names(found, folder) == ["2026-01-01/part.txt"]
    assert left_out(found, folder) == {LINKED: ["latest"]}
    assert lines_of(spark, folder, found=found) == 40
    assert lines_of(spark, folder / "latest", folder) == 40
    assert lines_of(spark, folder / "latest") == 40


def test_links_in_a_circle_end(spark: "SparkSession", folder: Path) -> None:
    text(folder / "part.txt", 3)
    text(folder / "deep" / "other.txt", 2)
    (folder / "again").symlink_to(".")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "itself").symlink_to("itself")
    found = listed(spark, folder)
    assert names(found, folder) == ["deep/other.txt", "part.txt"]
    assert left_out(found, folder) == {LINKED: ["again", "deep/up"], BROKEN: ["itself"]}
    assert lines_of(spark, folder, found=found) == 5


def test_a_link_is_followed_where_nothing_else_leads(spark: "SparkSession", folder: Path, tmp_path: Path) -> None:
    text(tmp_path / "far" / "a.txt")
    text(folder / "b.txt")
    (folder / "elsewhere").symlink_to(tmp_path / "far")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    found = listed(spark, folder)
    assert names(found, tmp_path) == ["far/a.txt", "in/b.txt"]
    assert left_out(found, folder) == {BROKEN: ["gone"]}
    assert lines_of(spark, folder, found=found) == 2


def test_a_link_keeps_the_name_that_tells_how_its_file_is_packed(
    spark: "SparkSession", folder: Path, tmp_path: Path
) -> None:
    # As the caches of git-annex, DVC and Hugging Face lay files out.
    (tmp_path / "0123abc").write_bytes(gzip.compress(LINE.encode() * 7))
    (folder / "a.txt.gz").symlink_to(tmp_path / "0123abc")
    (folder / "b.txt.gz").symlink_to(tmp_path / "0123abc")
    found = listed(spark, folder)
    assert names(found, folder) == ["a.txt.gz"]
    assert left_out(found, folder) == {LINKED: ["b.txt.gz"]}
    assert lines_of(spark, folder, found=found) == 7
    assert lines_of(spark, folder / "b.txt.gz") == 7


def test_a_file_with_two_names_is_read_once(spark: "SparkSession", folder: Path) -> None:
    os.link(text(folder / "a.txt", 5), folder / "b.txt")
    found = listed(spark, folder)
    assert left_out(found, folder) == {SAME: ["b.txt"]}
    assert lines_of(spark, folder, found=found) == 5


def test_paths_that_overlap_are_read_once(spark: "SparkSession", folder: Path) -> None:
    text(folder / "a.txt", 5)
    text(folder / "deep" / "b.txt", 5)
    os.symlink(folder / "a.txt", folder.parent / "link.txt")
    found = listed(spark, folder.parent / "link.txt", folder, folder / "deep", f"{folder}/*", folder / "a.txt")
    assert names(found, folder.parent) == ["in/deep/b.txt", "link.txt"]
    assert lines_of(spark, folder, found=found) == 10


# Hidden and other files that are no input


def test_hidden_files_are_left_out_and_told_unless_they_are_named(spark: "SparkSession", folder: Path) -> None:
    for name in ("a.txt", "_Hid den.txt", ".b.txt", "_temporary/c.txt", "day=1/_d=e.txt", "f.txt._COPYING_"):
        text(folder / name)
    (folder / "empty.txt").touch()
    os.mkfifo(folder / "pipe")
    found = listed(spark, folder)
    assert names(found, folder) == ["a.txt", "day=1/_d=e.txt"]
    hidden = [".b.txt", "_Hid den.txt", "_temporary", "f.txt._COPYING_"]
    assert left_out(found, folder) == {
        HIDDEN: hidden, EMPTY: ["empty.txt"], SPECIAL: ["pipe"],
    }  # fmt: skip
    assert left_out(listed(spark, f"{folder}/*"), folder)[HIDDEN] == hidden
    assert "left out: 4 hidden by their names (" in inputs.summary(found)[1]
    assert inputs.facts(found)["skipped"][HIDDEN]["count"] == 4
    assert names(listed(spark, f"{folder}/_*.txt"), folder) == ["_Hid den.txt"]
    named = [folder / name for name in hidden]
    found = listed(spark, *named, folder / "a.txt")
    assert names(found, folder) == [".b.txt", "_Hid den.txt", "_temporary/c.txt", "a.txt", "f.txt._COPYING_"]
    assert lines_of(spark, *named, found=found) == 5


def test_a_packed_file_that_is_hidden_and_named_is_unpacked(spark: "SparkSession", folder: Path) -> None:
    (folder / "_A.txt.gz").write_bytes(gzip.compress(LINE.encode() * 3))
    assert lines_of(spark, folder / "_A.txt.gz") == 3
    pq.write_table(pa.table({"text": ["a b"] * 4}), folder / "_b.parquet")
    assert lines_of(spark, folder / "_b.parquet", format="parquet") == 4


def test_a_corpus_of_what_is_left_out_is_refused(spark: "SparkSession", folder: Path) -> None:
    text(folder / "_a.txt")
    assert refused(spark, folder) == (
        f"{folder}: has no files but what is left out (1 hidden by their names, such as {folder}/_a.txt); "
        "give --input a directory with files in it, or a file."
    )


def test_a_file_that_appears_after_the_listing_is_left_out(spark: "SparkSession", folder: Path) -> None:
    text(folder / "b.txt", 3)
    found = listed(spark, folder)
    text(folder / "a.txt", 5)
    text(folder / "c.txt", 5)
    assert lines_of(spark, folder, found=found) == 3


def test_a_file_that_spark_does_not_list_is_refused(
    spark: "SparkSession", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = {str(text(folder / "a.txt")), str(text(folder / "b.txt"))}
    whole: Callable[..., list[File]] = inputs._listed
    monkeypatch.setattr(inputs, "_listed", lambda *arguments: whole(*arguments)[:1])
    path, _, sentence = refused(spark, folder).partition(": ")
    assert path in unseen
    assert sentence.startswith("not among the files that Spark lists; ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read_is_refused(spark: "SparkSession", folder: Path) -> None:
    text(folder / "a.txt")
    (folder / "deep").mkdir(mode=0)
    assert f"{folder}/deep: cannot be read (Permission denied)" in refused(spark, folder)


# Names


def test_names_beyond_ascii_are_refused_where_java_cannot_open_them(
    spark: "SparkSession", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text(folder / "a.txt")
    text(folder / "ö.txt")
    text(folder / "日本.txt")
    assert len(listed(spark, folder).files) == 3
    whole = Hadoop.__init__

    def in_posix(hadoop: Hadoop, session: "SparkSession") -> None:
        whole(hadoop, session)
        hadoop._encoding = "ANSI_X3.4-1968"

    monkeypatch.setattr(Hadoop, "__init__", in_posix)
    for path in (folder, f"{folder}/*.txt", folder / "{ö,a}.txt", folder / "ö.txt"):
        sentence = refused(spark, path)
        assert f"{folder}/ö.txt" in sentence
        assert "set LC_ALL=C.UTF-8" in sentence
    assert names(listed(spark, f"{folder}/a*"), folder) == ["a.txt"]


def test_a_name_that_an_executor_cannot_open_is_told(spark: "SparkSession", folder: Path) -> None:
    segments = corpus.read(spark, [str(text(folder / "ö.txt"))], config.Corpus())
    (folder / "ö.txt").unlink()  # to an executor whose locale is not UTF-8 it is as if it were not there
    with pytest.raises(Exception) as error:  # noqa: PT011 - of whatever class, it has to be explained
        vocabulary.counters(segments)
    assert translate_error(error.value) == (
        f"{folder}/ö.txt: was removed while it was read, or the workers' locale has no such name; start again, with "
        "LC_ALL=C.UTF-8 there."
    )


def test_a_name_that_is_not_utf_8_is_refused(spark: "SparkSession", folder: Path) -> None:
    text(folder / "a.txt")
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "wb") as file:
        file.write(b"words")
    assert "caf\\xe9.txt: not a name in UTF-8" in refused(spark, folder)


# Tables and outputs


def delta(table: Path) -> None:
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / f"{0:020}.json").write_text(json.dumps({"add": {"path": "part-0.parquet"}}))


def hudi(table: Path) -> None:
    (table / ".hoodie").mkdir(parents=True)


def iceberg(table: Path) -> None:
    (table / "metadata").mkdir(parents=True)
    (table / "metadata" / "v1.metadata.json").write_text("{}")


@pytest.mark.parametrize("make", [delta, hudi, iceberg])
def test_a_table_is_refused_wherever_the_path_leads_into_it(
    spark: "SparkSession", folder: Path, make: Callable[[Path], None]
) -> None:
    table = folder / "table"
    make(table)
    (table / "data" / "day=1").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a b"]}), table / "data" / "day=1" / "part-0.parquet")
    pq.write_table(pa.table({"text": ["a b"]}), folder / "plain.parquet")
    for path in (folder, table, table / "data", f"{table}/data/*/*.parquet", table / "data/day=1/part-0.parquet"):
        sentence = refused(spark, path, kind="parquet")
        assert sentence.startswith(f"{table}: is a")
        assert f'spark.read.format("{make.__name__}")' in sentence
    assert len(listed(spark, folder / "plain.parquet", kind="parquet").files) == 1


def test_the_output_of_a_run_is_not_an_input(spark: "SparkSession", folder: Path) -> None:
    text(folder / "a.txt")
    output = folder / "out"
    for name in ("embeddings", "context", "vocabulary"):
        text(output / name / "part-0.parquet")
    for name in ("run.json", "metrics.jsonl", "_SUCCESS"):
        text(output / name)
    for path in (folder, output, f"{folder}/*"):
        assert refused(spark, path).startswith(f"{output}: is the output of a run")


@pytest.mark.parametrize("path", ["in", "in/*", "in/deep/..", "link", "in/d*"])
def test_an_output_inside_of_the_input_is_refused(spark: "SparkSession", folder: Path, path: str) -> None:
    text(folder / "deep" / "a.txt")
    (folder.parent / "link").symlink_to("in")
    sentence = refused(spark, folder.parent / path, outputs=[f"{folder}/deep/out"])
    assert sentence.startswith(f"{folder}/deep/out: is inside of --input {folder.parent}/")


def test_an_output_that_a_pattern_would_find_is_refused(spark: "SparkSession", folder: Path) -> None:
    text(folder / "a.txt")
    assert "is inside of --input" in refused(spark, f"{folder}/*", outputs=[f"{folder}/out"])
    assert len(listed(spark, f"{folder}/*.txt", outputs=[f"{folder}/out"]).files) == 1
    assert len(listed(spark, folder, outputs=[f"{folder}-out"]).files) == 1


@pytest.mark.parametrize(
    ("pattern", "finds"),
    [
        ("/in/{a,out}", True),
        ("/in/{a,b}", False),
        ("/{in/out,x}/run", True),
        ("/in/o{u{t,p},x}", True),
        ("/in/{a,o*}/r?n", True),
        ("/in/{a,*}.txt", False),
        ("/*,b", False),
        ("/in/[!a-n]ut", True),
        ("/in/[^o]ut", False),
        (r"/in/\{a,out\}", False),
        ("/*", True),
        ("/in/out/run/*", False),
        ("/in/out+", False),
    ],
)
def test_an_output_is_compared_with_patterns_as_hadoop_reads_them(
    spark: "SparkSession", pattern: str, finds: bool
) -> None:
    def check() -> None:
        check_outputs(Hadoop(spark), [pattern], [], ["/in/out/run"])

    if not finds:
        return check()
    with pytest.raises(UserError, match="is inside of --input"):
        check()


# Other file systems


def test_elsewhere_too_what_is_hidden_is_told_and_tables_are_refused(spark: "SparkSession", folder: Path) -> None:
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    conf.set("fs.viewfs.mounttable.far.link./in", folder.as_uri())
    text(folder / "deep" / "a b.txt", 3)
    text(folder / "_b.txt", 2)
    (folder / "c.txt").touch()
    found = listed(spark, "viewfs://far/in")
    assert [file.path for file in found.files] == ["viewfs://far/in/deep/a%20b.txt"]
    assert found.skipped == {HIDDEN: ["viewfs://far/in/_b.txt"], EMPTY: ["viewfs://far/in/c.txt"]}
    assert lines_of(spark, "viewfs://far/in", found=found) == 3
    assert lines_of(spark, "viewfs://far/in/_b.txt") == 2
    for output in ("viewfs://far/in/out", "viewfs://far/in"):
        assert "is inside of --input viewfs://far/in" in refused(spark, "viewfs://far/in", outputs=[output])
    (folder / "x.zip").write_bytes(b"whatever")
    assert packed.ARCHIVE in refused(spark, "viewfs://far/in")
    delta(folder)
    for path in ("viewfs://far/in", "viewfs://far/in/deep", "viewfs://far/in/deep/*.txt"):
        assert refused(spark, path).startswith("viewfs://far/in: is a Delta table")


# Many


def test_many_names_take_no_longer_than_their_number(spark: "SparkSession", tmp_path: Path) -> None:
    # 20,000 names that the shell made of a pattern; with all pairs of them looked at it took minutes.
    roots = [f"{tmp_path}/{number}.txt" for number in range(20_000)]
    started = time.monotonic()
    check_outputs(Hadoop(spark), roots, roots, [f"{tmp_path}/out"])
    assert time.monotonic() - started < 5


def test_small_files_share_tasks_and_packed_ones_count_what_they_hold(spark: "SparkSession", folder: Path) -> None:
    for number in range(300):
        text(folder / f"{number:03}.txt")
    segments = corpus.read(spark, [str(folder)], config.Corpus())
    assert segments.rdd.getNumPartitions() == 2
    files = [File(f"file:/{number}.txt.gz", number, 1 << 20, 0) for number in range(10)]
    assert inputs.Inputs(files, [], {}, {}, [], True).open_bytes == inputs.OPEN_BYTES + (3 << 20)


# What tells a corpus from another


def test_what_identifies_a_corpus_names_each_file_with_size_and_time(spark: "SparkSession", folder: Path) -> None:
    text(folder / "é %20 #1.txt")
    text(folder / "b.txt")
    file = text(folder / "_hidden.txt")
    (folder / "empty.txt").touch()
    before = inputs.identity(listed(spark, folder).files)
    assert len(before) == 2, "hidden and empty files are not read"
    first = next(path for path in before if path.endswith("1.txt"))
    file.write_text("changed")
    assert inputs.identity(listed(spark, folder).files) == before
    (read,) = folder.glob("é*")
    os.utime(read, (0, 1.5))
    after = inputs.identity(listed(spark, folder).files)
    assert after == before | {first: f"{read.stat().st_size} bytes of 1970-01-01T00:00:01.500+00:00"}


def test_a_corpus_of_very_many_files_is_identified_by_a_digest() -> None:
    files = [File(f"file:/{number:06d}", number, 10, 1000) for number in range(inputs.MOST_NAMED + 1)]
    before = inputs.identity(files)
    assert len(before) == 4
    for change in ({"path": "file:/a"}, {"bytes": 11}, {"modified": 999}):
        assert inputs.identity([files[0]._replace(**change), *files[1:]]) != before
