"""Directories of results: what is there is replaced by a whole one, or stays."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import StorageError, UserError
from spark_w2v.spark import result_directories
from spark_w2v.spark.result_directories import check_directory, write_directory


def rows_of(directory: Path) -> list[int]:
    return sorted(pq.read_table(directory)["id"].to_pylist())


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Renames:
    """A file system of Hadoop's, of which some renames fail."""

    def __init__(self, files: Any, fail: Callable[[int], bool]) -> None:
        self._files, self._fail, self._count = files, fail, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def rename(self, source: Any, target: Any) -> bool:
        self._count += 1
        return not self._fail(self._count) and bool(self._files.rename(source, target))


@pytest.mark.parametrize(
    ("failing", "is_back", "said"),
    [([1], True, "could not be moved away"), ([2], True, "could not be made"), ([2, 3], False, "and those before in")],
)
def test_a_rename_that_fails_loses_neither_the_new_rows_nor_those_before(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: list[int], is_back: bool, said: str
) -> None:
    target = tmp_path / "to"
    write_directory(spark.range(3), str(target), False, ["id"])
    path_of = result_directories.hadoop_path
    files = Renames(path_of(spark, str(target))[1], lambda number: number in failing)
    monkeypatch.setattr(result_directories, "hadoop_path", lambda *given: (path_of(*given)[0], files))
    with pytest.raises(StorageError, match=said) as error:
        write_directory(spark.range(5), str(target), True, ["id"])
    [made] = tmp_path.glob("to.*.unfinished")
    assert f"the new rows are complete in file:{made}" in str(error.value)
    assert rows_of(made) == [0, 1, 2, 3, 4]
    assert rows_of(target if is_back else next(tmp_path.glob("to.*.replaced"))) == [0, 1, 2]
    assert len(left_in(tmp_path)) == 2


def test_what_appeared_meanwhile_is_not_removed(spark: SparkSession, tmp_path: Path) -> None:
    target = tmp_path / "to"
    check_directory(spark, str(target), False, ["id"])
    write_directory(spark.range(3), str(target), False, ["id"])  # another program
    with pytest.raises(UserError, match=r"exists already; .* the new rows are complete in file:.*unfinished\.$"):
        write_directory(spark.range(5), str(target), False, ["id"])
    (target / "mine.txt").touch()
    with pytest.raises(UserError, match=r"holds mine\.txt"):
        write_directory(spark.range(5), str(target), True, ["id"])
    (target / "mine.txt").unlink()
    assert rows_of(target) == [0, 1, 2]


def test_a_directory_that_appears_at_the_last_moment_is_told(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "to"

    def make(_: int) -> bool:
        target.mkdir()
        (target / "mine.txt").touch()
        return False

    path_of = result_directories.hadoop_path
    files = Renames(path_of(spark, str(target))[1], make)
    monkeypatch.setattr(result_directories, "hadoop_path", lambda *given: (path_of(*given)[0], files))
    with pytest.raises(StorageError, match=r"was made by someone else; the new rows are complete in"):
        write_directory(spark.range(5), str(target), False, ["id"])
    assert rows_of(next(target.glob("*.unfinished"))) == [0, 1, 2, 3, 4]
    assert (target / "mine.txt").exists()


@pytest.mark.parametrize("name", ["embeddings", "embeddings/.", "new", "embeddings/new", "new/a/b"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_directory_of_a_run_is_refused(spark: SparkSession, tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / "embeddings").mkdir()
    (tmp_path / "embeddings" / "part-00000.parquet").touch()
    (tmp_path / "run.json").touch()
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(UserError, match=r"is inside of .*, which holds a run"):
        check_directory(spark, f"{tmp_path}/{name}", overwrite, ["id"])


@pytest.mark.parametrize(
    ("pointer", "name", "on_disk"),
    [
        ("CURRENT", "near", False),  # of a store, where a run finds what it did not write
        ("CURRENT", "runs/near", False),
        ("current", "runs/2", True),
    ],
)
def test_a_directory_that_holds_runs_alone_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pointer: str, name: str, on_disk: bool
) -> None:
    monkeypatch.setattr(result_directories, "_is_on_disk", lambda path: on_disk)
    (tmp_path / "runs" / "1").mkdir(parents=True)
    if on_disk:
        (tmp_path / pointer).symlink_to("runs/1")
    else:
        (tmp_path / pointer).write_text("1")
    with pytest.raises(UserError, match=r"is inside of .*, which holds runs and nothing else"):
        check_directory(spark, f"{tmp_path}/{name}", False, ["id"])


def test_a_result_may_be_next_to_runs_on_a_disk(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "runs" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("runs/1")
    check_directory(spark, f"{tmp_path}/near", False, ["id"])


def test_directories_of_others_that_are_called_so_are_no_runs(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("current", "runs"):
        (tmp_path / name).mkdir()
    check_directory(spark, f"{tmp_path}/runs/near", False, ["id"])


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_mount_point_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """It can neither be renamed nor replaced, and Hadoop would copy what is in it."""
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(tmp_path / "volume"))
    (tmp_path / "volume").mkdir()
    with pytest.raises(UserError, match=r"volume: is a mount point"):
        check_directory(spark, str(tmp_path / "volume"), overwrite, ["id"])
    check_directory(spark, str(tmp_path / "volume" / "near"), overwrite, ["id"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file/to", r"cannot be made \(.*\); give"),
        ("file/a/to", "cannot be made"),
        ("/proc/nowhere/to", "made no directory there"),
        ("x" * 240, "cannot be made"),  # no room for the name of the unfinished one
    ],
)
def test_where_no_directory_can_be_made_is_refused_before_there_are_rows(
    spark: SparkSession, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=said) as error:
        check_directory(spark, str(tmp_path / name), False, ["id"])
    assert "\n" not in str(error.value)
    assert left_in(tmp_path) == ["file"]


def test_looking_whether_a_directory_can_be_made_leaves_none(spark: SparkSession, tmp_path: Path) -> None:
    check_directory(spark, f"{tmp_path}/a/b/to", False, ["id"])
    assert left_in(tmp_path) == []


def test_rows_that_cannot_be_written_are_one_sentence(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/to: could not be written \(.*\); run the command again") as error:
        write_directory(spark.range(3), f"{tmp_path}/file/to", False, ["id"])
    assert "\n" not in str(error.value)


def test_a_full_disk_is_that_of_the_target_or_one_of_sparks(spark: SparkSession, tmp_path: Path) -> None:
    class Full:
        def __init__(self) -> None:
            self.sparkSession, self.write = spark, self

        def parquet(self, place: str) -> None:
            raise RuntimeError("Caused by: java.io.IOException: No space left on device")

    with pytest.raises(StorageError, match=r"to: could not be written: its disk is full, or a disk of Spark's is full"):
        write_directory(Full(), str(tmp_path / "to"), False, ["id"])  # type: ignore[arg-type]


def test_what_could_only_be_moved_in_part_is_named(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "to"
    write_directory(spark.range(3), str(target), False, ["id"])
    path_of = result_directories.hadoop_path

    def copy(number: int) -> bool:
        if number == 1:
            [made] = tmp_path.glob("to.*.unfinished")
            shutil.copytree(target, tmp_path / made.name.replace("unfinished", "x"))
        return number == 1

    files = Renames(path_of(spark, str(target))[1], copy)
    monkeypatch.setattr(result_directories, "hadoop_path", lambda *given: (path_of(*given)[0], files))
    monkeypatch.setattr(
        result_directories, "_temporary",
        lambda session, parent, name, state: result_directories._below(
            session, parent, f"{name}.1.{'x' if state == 'replaced' else state}"
        ),
    )  # fmt: skip
    with pytest.raises(StorageError, match=r"complete in .*to\.1\.unfinished, and those before, or .* in .*to\.1\.x"):
        write_directory(spark.range(5), str(target), True, ["id"])


def test_rows_that_cannot_be_computed_are_no_fault_of_the_storage(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_of = result_directories.hadoop_path

    class Undeletable(Renames):
        def delete(self, *given: Any) -> bool:
            raise RuntimeError("nothing can be removed")

    files = Undeletable(path_of(spark, str(tmp_path))[1], lambda number: False)
    monkeypatch.setattr(result_directories, "hadoop_path", lambda *given: (path_of(*given)[0], files))
    for wrong in ("raise_error('DIVIDE_BY_ZERO') as id", "array_repeat('x', 2147483647 - int(id)) as id"):
        with pytest.raises(Exception, match=r"DIVIDE_BY_ZERO|array") as error:
            write_directory(spark.range(3).selectExpr(wrong), f"{tmp_path}/to", False, [])
        assert not isinstance(error.value, StorageError)
    failing = spark.range(3).mapInArrow(lambda batches: 1 / 0, "id long")  # type: ignore[arg-type, return-value]
    with pytest.raises(Exception, match="ZeroDivisionError") as error:
        write_directory(failing, f"{tmp_path}/to", False, [])
    assert not isinstance(error.value, StorageError)


@pytest.mark.parametrize("kind", ["other columns", "no Parquet", "no rows of ours"])
def test_parquet_of_others_is_never_replaced(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "corpus [1]"
    if kind == "other columns":
        spark.range(3).withColumnRenamed("id", "text").write.parquet(str(target))
        for checksum in target.glob(".*"):
            checksum.unlink()
    else:
        target.mkdir()
        (target / ("part-00000.parquet" if kind == "no Parquet" else "_SUCCESS")).write_text("")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(UserError, match="holds no result of this command, so it is not touched"):
        write_directory(spark.range(5), str(target), True, ["id"])
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_files_of_parquet_without_success_are_replaced_only_when_asked(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "part-00000.parquet")
    with pytest.raises(UserError, match="exists already; give --overwrite"):
        check_directory(spark, str(tmp_path), False, ["id"])
    check_directory(spark, str(tmp_path), True, ["id"])


@pytest.mark.parametrize("name", ["to/.", "to/", "there/../to", "to"])
def test_any_spelling_of_a_directory_is_replaced(spark: SparkSession, tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "to").mkdir()  # empty
    for count in (2, 3):
        check_directory(spark, f"{tmp_path}/{name}", count == 3, ["id"])
        write_directory(spark.range(count), f"{tmp_path}/{name}", count == 3, ["id"])
        assert rows_of(tmp_path / "to") == list(range(count))
    assert left_in(tmp_path) == ["there", "to"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_symbolic_link_stays_one_and_what_it_leads_to_is_replaced(
    spark: SparkSession, tmp_path: Path, is_there: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "to")
    (tmp_path / "there").mkdir()
    if is_there:
        write_directory(spark.range(2), f"{tmp_path}/there/to", False, ["id"])
    check_directory(spark, str(link), is_there, ["id"])
    write_directory(spark.range(3), str(link), is_there, ["id"])
    assert link.is_symlink()
    assert rows_of(tmp_path / "there" / "to") == [0, 1, 2]
    assert left_in(tmp_path) == ["link", "there"]
    assert left_in(tmp_path / "there") == ["to"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "hdfs:///to",
            r"hdfs:///to: is in a file system that cannot be opened \(Incomplete HDFS URI, no host.*\); correct",
        ),
        ("hdfs://nohost.invalid:1/to", r"cannot be opened \(unknown host nohost\.invalid\); correct"),
    ],
)
def test_a_file_system_that_is_not_there_is_one_sentence(spark: SparkSession, target: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        check_directory(spark, target, False, ["id"])
    assert "\n" not in str(error.value)


def test_a_file_system_that_is_only_read_is_refused(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"^http://host/to: Hadoop only reads over http; give a directory"):
        check_directory(spark, "http://host/to", False, ["id"])


@pytest.mark.parametrize("root", ["/", "file:///", "/.", "/.."])
def test_a_root_is_refused(spark: SparkSession, root: str) -> None:
    with pytest.raises(UserError, match="is the root of a file system"):
        check_directory(spark, root, True, ["id"])


def test_a_dot_is_the_directory_that_spark_is_in(spark: SparkSession) -> None:
    path, _ = result_directories._directory(spark, ".")
    assert str(path.toString()) == f"file:{Path.cwd()}"
