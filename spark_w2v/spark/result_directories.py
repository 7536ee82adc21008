"""Rows that a command leaves in a directory of Parquet files.

It replaces what an earlier run of the command left there, and nothing else.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors.exceptions.captured import CapturedException, PythonException

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.places import OF_A_RUN, check_password, local_path
from spark_w2v.spark.hadoop_files import escape_glob
from spark_w2v.spark.java_errors import DISK_FULL, cause_of, is_interruption, lost, message_of, text_of, translate_error

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

OURS = re.compile(r"part-[\w.-]+\.parquet|_SUCCESS")  # the files that Spark writes for us
# What file systems throw, by its Java class.
OF_STORAGE = re.compile(r"^Caused by: (java\.io|java\.nio\.file|org\.apache\.hadoop)\.[\w.$]*Exception", re.MULTILINE)


def check_directory(session: "SparkSession", target: str, overwrite: bool, columns: Sequence[str]) -> None:
    """Refuse to write to a directory of a run, to one that holds something else, or, without `overwrite`, anything.

    Nor may it be where no directory can be made.

    Args:
        columns: that every result of this command has. Without all of them, Parquet is someone else's.

    Raises:
        UserError: one sentence.
    """
    check_password(target)
    try:
        path, files = _directory(session, target)
    except (Py4JJavaError, CapturedException) as error:
        if translate_error(error) is not None:  # says more
            raise
        raise UserError(
            f"{target}: is in a file system that cannot be opened ({cause_of(error)}); correct the URI, or the "
            "configuration of Hadoop (HADOOP_CONF_DIR)."
        ) from None
    try:
        _check_content(session, target, overwrite, columns)
        # Where write_directory writes, as a store may allow no other place.
        made = [_temporary(session, path.getParent(), path.getName(), "unfinished"), *_missing_parents(files, path)]
        reason = None if files.mkdirs(made[0]) else "the file system made no directory there"
    except (Py4JJavaError, CapturedException) as error:
        reason = cause_of(error)
    else:
        for directory in made:
            with contextlib.suppress(Py4JJavaError, CapturedException):  # not empty: others use it
                files.delete(directory, False)
    if reason:
        raise UserError(f"{target}: cannot be made ({reason}); give a directory inside of one that may be written to.")


def _check_content(session: "SparkSession", target: str, overwrite: bool, columns: Sequence[str]) -> None:
    """Refuse what check_directory refuses of what is there."""
    path, files = _directory(session, target)
    is_there = files.exists(path)
    if (above := _above(session, files, path)) is not None:
        raise UserError(f"{target}: is inside of {above} and nothing else; give another directory.")
    if _is_on_disk(path) and os.path.ismount(path.toUri().getPath()):
        raise UserError(f"{target}: is a mount point, which cannot be replaced as a whole; give a directory in it.")
    if not is_there:
        return
    if not files.getFileStatus(path).isDirectory():
        raise UserError(f"{target}: is a file; give a directory that does not exist yet.")
    names = [str(status.getPath().getName()) for status in files.listStatus(path)]
    strange = sorted(name for name in names if not OURS.fullmatch(name))
    if names and not strange and not overwrite:
        raise UserError(f"{target}: exists already; give --overwrite to replace it, or another directory.")
    if strange or (names and not _has_columns(session, path, columns)):
        what = f"{strange[0]}, which no command of spark_w2v wrote" if strange else "no result of this command"
        raise UserError(f"{target}: holds {what}, so it is not touched, even with --overwrite; give another directory.")


def _above(session: "SparkSession", files: Any, path: Any) -> str | None:
    """The directory of a run, or of runs, that a path is inside of, and what it holds; None where none is seen.

    A directory of runs in a store has a CURRENT, and only runs. On a disk, it is `runs` in it that has only runs, next
    to a link.
    """
    on_disk = _is_on_disk(path)
    while (path := path.getParent()) is not None:
        with contextlib.suppress(Py4JJavaError, CapturedException):
            if all(files.exists(_below(session, path, name)) for name in OF_A_RUN):
                return f"{path}, which holds a run"
            if not on_disk and all(files.exists(_below(session, path, name)) for name in ("CURRENT", "runs")):
                return f"{path}, which holds runs"
            if on_disk and path.getName() == "runs" and os.path.islink(f"{path.getParent().toUri().getPath()}/current"):
                return f"{path}, which holds runs"
    return None


def _is_on_disk(path: Any) -> bool:
    return str(path.toUri().getScheme()) == "file"


def _has_columns(session: "SparkSession", path: Any, columns: Sequence[str]) -> bool:
    try:
        return set(columns) <= set(session.read.parquet(escape_glob(str(path.toString()))).columns)
    except CapturedException:  # there is no Parquet, or it is damaged
        return False


def write_directory(rows: "DataFrame", target: str, overwrite: bool, columns: Sequence[str]) -> None:
    """Write rows as Parquet; what was there before is removed once they are complete, and in its place.

    Args:
        columns: as for check_directory.

    Raises:
        UserError: something appeared there meanwhile that check_directory refuses; the rows stay where it says.
        StorageError: the rows could not be written; or they are complete, could not be put in place, and stay where it
            says.
    """
    session = rows.sparkSession
    path, files = _directory(session, target)
    parent, name = path.getParent(), path.getName()
    made, former = (_temporary(session, parent, name, state) for state in ("unfinished", "replaced"))
    try:
        rows.write.parquet(str(made.toString()))
    except BaseException as error:
        with contextlib.suppress(Exception):  # which would hide the cause
            files.delete(made, True)
        if isinstance(error, Exception) and lost(error) == DISK_FULL:
            raise StorageError(f"{target}: could not be written: its disk is full, or {DISK_FULL}.") from None
        if _is_of_storage(error):
            raise StorageError(f"{target}: could not be written ({cause_of(error)}); run the command again.") from None
        raise
    try:
        _check_content(session, target, overwrite, columns)  # again, as this took a while
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}; the new rows are complete in {made}.") from None
    was_there = files.exists(path)
    if was_there and (reason := _move(files, path, former)):
        left = ""
        if files.exists(former):  # Hadoop copies where it cannot rename, and may fail in the middle
            left = f", and those before, or a part of them, in {former}"
        raise StorageError(f"{target}: could not be moved away ({reason}); the new rows are complete in {made}{left}.")
    if reason := _move(files, made, path):
        left = f", and those before in {former}" if was_there and _move(files, former, path) else ""
        raise StorageError(f"{target}: could not be made ({reason}); the new rows are complete in {made}{left}.")
    if files.exists(inside := _below(session, path, made.getName())):  # Hadoop moves into a directory that is there
        left = f", and those before in {former}" if was_there else ""
        raise StorageError(f"{target}: was made by someone else; the new rows are complete in {inside}{left}.")
    if was_there:
        files.delete(former, True)


def _directory(session: "SparkSession", target: str) -> tuple[Any, Any]:
    """The whole path of a directory, with its scheme and all its parents, and its file system.

    Raises:
        UserError: it is the root of a file system.
    """
    path, files = hadoop_path(session, target)
    path, _ = hadoop_path(
        session, str(files.makeQualified(path).toString())
    )  # again: Hadoop makes "x/." end with a slash
    if (scheme := str(path.toUri().getScheme())) in ("http", "https"):  # where Hadoop says that every file exists
        raise UserError(f"{target}: Hadoop only reads over {scheme}; give a directory that it can write to.")
    if path.getParent() is None or path.getName() in ("", ".", ".."):
        raise UserError(f"{target}: is the root of a file system; give a directory.")
    if _is_on_disk(path):  # symbolic links are followed, so that they stay links
        jvm: Any = session.sparkContext._jvm
        path = jvm.org.apache.hadoop.fs.Path("file", None, str(local_path(path.toUri().getPath())))
    return path, files


def _missing_parents(files: Any, path: Any) -> list[Any]:
    """The parents that do not exist, the deepest first."""
    found = []
    while (path := path.getParent()) is not None and not files.exists(path):
        found.append(path)
    return found


def _temporary(session: "SparkSession", parent: Any, name: str, state: str) -> Any:
    return _below(session, parent, f"{name}.{uuid.uuid4().hex[:8]}.{state}")


def _is_of_storage(error: BaseException) -> bool:
    """Whether rows could not be written, and not: computed, by Spark, by Python or by the user's expression."""
    if not isinstance(error, Py4JError | CapturedException) or isinstance(error, PythonException):
        return False
    text = text_of(error)
    if not OF_STORAGE.search(text) or "org.apache.spark.api.python.PythonException" in text:
        return False
    return not (is_interruption(error) or lost(error) or translate_error(error))


def _below(session: "SparkSession", path: Any, name: str) -> Any:
    jvm: Any = session.sparkContext._jvm
    return jvm.org.apache.hadoop.fs.Path(path, name)


def _move(files: Any, source: Any, target: Any) -> str | None:
    """Rename a directory; why not, where it was not."""
    try:
        return None if files.rename(source, target) else "the file system did not rename it"
    except (Py4JJavaError, CapturedException) as error:
        return (message_of(error) or str(error).partition("\n")[0])[:200].rstrip(".")


def hadoop_path(session: "SparkSession", target: str) -> tuple[Any, Any]:
    """The path of a directory, and its file system. As a path without a scheme, it is on this host in local mode."""
    context = session.sparkContext
    jvm: Any = context._jvm
    path = jvm.org.apache.hadoop.fs.Path(target)
    return path, path.getFileSystem(context._jsc.hadoopConfiguration())
