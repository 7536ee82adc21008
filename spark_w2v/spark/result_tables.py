"""Rows that a command leaves: in a directory of Parquet files, or in a table of Spark's catalog.

Each replaces what an earlier run of the command left there, and nothing else.
"""

import contextlib
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyspark.sql.types as T
from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors.exceptions.captured import CapturedException, PythonException

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.places import OF_A_RUN, check_password, local_path
from spark_w2v.spark.hadoop_files import escape_glob
from spark_w2v.spark.java_errors import cause_of, is_interruption, lost, message_of, text_of, translate_error

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

OURS = re.compile(r"part-[\w.-]+\.parquet|_SUCCESS")  # the files that Spark writes for us
# What file systems throw, by its Java class.
OF_STORAGE = re.compile(r"^Caused by: (java\.io|java\.nio\.file|org\.apache\.hadoop)\.[\w.$]*Exception", re.MULTILINE)
BUILTIN = "spark_catalog"  # the name of Spark's own catalog
MARK = "spark_w2v.run"  # property of our tables: the run that the rows come from
PREVIOUS = "spark_w2v.previous"  # the directory of the rows before, which readers may still be at


# Directories


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
    if (run := _run_above(session, files, path)) is not None:
        raise UserError(f"{target}: is inside of {run}, which holds a run and nothing else; give another directory.")
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


def _run_above(session: "SparkSession", files: Any, path: Any) -> Any | None:
    """The directory of a run that a path is inside of; None where there is none that may be looked at."""
    while (path := path.getParent()) is not None:
        with contextlib.suppress(Py4JJavaError, CapturedException):
            if all(files.exists(_below(session, path, name)) for name in OF_A_RUN):
                return path
    return None


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
        if _is_of_storage(error):
            raise StorageError(f"{target}: could not be written ({cause_of(error)}); run the command again.") from None
        raise
    try:
        _check_content(session, target, overwrite, columns)  # again, as this took a while
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}; the new rows are complete in {made}.") from None
    was_there = files.exists(path)
    if was_there and (reason := _move(files, path, former)):
        raise StorageError(f"{target}: could not be moved away ({reason}); the new rows are complete in {made}.")
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
    path, files = _path(session, target)
    path, _ = _path(session, str(files.makeQualified(path).toString()))  # again: Hadoop makes "x/." end with a slash
    if (scheme := str(path.toUri().getScheme())) in ("http", "https"):  # where Hadoop says that every file exists
        raise UserError(f"{target}: Hadoop only reads over {scheme}; give a directory that it can write to.")
    if path.getParent() is None or path.getName() in ("", ".", ".."):
        raise UserError(f"{target}: is the root of a file system; give a directory.")
    if path.toUri().getScheme() == "file":  # symbolic links are followed, so that they stay links
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


def _path(session: "SparkSession", target: str) -> tuple[Any, Any]:
    """The path of a directory, and its file system. As a path without a scheme, it is on this host in local mode."""
    context = session.sparkContext
    jvm: Any = context._jvm
    path = jvm.org.apache.hadoop.fs.Path(target)
    return path, path.getFileSystem(context._jsc.hadoopConfiguration())


# Tables


def check_table(session: "SparkSession", name: str, schema: T.StructType | None = None) -> None:
    """Refuse a name that is none, or of a table that is not ours or has other columns.

    Args:
        schema: of the rows to come; None where it is not known yet.

    Raises:
        UserError: one sentence.
    """
    try:
        exists = session.catalog.tableExists(name)
        if _is_builtin(session, name):
            _directory_of_tables(session, name)
    except Exception as error:
        reason = (message_of(error) or str(error).partition("\n")[0])[:200].rstrip(".")
        raise UserError(
            f"{name}: is not the name of a table that can be made ({reason}); give a name such as db.vectors."
        ) from None
    if not exists:
        return
    if MARK not in _properties(session, name):
        raise UserError(f"{name}: is a table that spark_w2v did not write, so it is not replaced; give another name.")
    if schema is not None:
        found = {field.name: field.dataType.simpleString() for field in session.table(name).schema}
        wanted = {field.name: field.dataType.simpleString() for field in schema}
        # Another catalog replaces the columns too, and may have other types than Spark.
        if found != wanted if _is_builtin(session, name) else found.keys() != wanted.keys():
            raise UserError(
                f"{name}: has the columns {_listed(found)}, and these rows {_listed(wanted)}; drop the table, or give "
                "another name."
            )


def write_table(rows: "DataFrame", name: str, run: str, change: str) -> None:
    """Replace the rows of a table, or make it.

    Args:
        run: the property MARK.
        change: what the user can do if that fails, for the message.

    Raises:
        StorageError: Spark cannot.
    """
    try:
        _replace_table(rows, name, run)
    except (Py4JError, CapturedException) as error:
        # A function that fails in Python is a mistake of ours.
        if isinstance(error, PythonException) or is_interruption(error) or lost(error) is not None:
            raise
        raise StorageError(f"{name}: the table could not be written ({cause_of(error)}); {change}.") from None


def _replace_table(rows: "DataFrame", name: str, run: str) -> None:
    """Replace the rows of a table, or make it, as write_table says.

    A catalog of its own (Iceberg, Delta) replaces the table in one step, with its properties. A table of Spark's own
    catalog, or Hive's, is Parquet in a directory for each run: one call to the catalog moves the table from one
    directory to the next, and the directory before stays until the next time, for those who are reading.
    """
    session = rows.sparkSession
    catalog, parts = _catalog_and_rest(session, name)
    if not _is_builtin(session, name):
        writer = rows.writeTo(name).tableProperty(MARK, run)
        if "delta" in (session.conf.get(f"spark.sql.catalog.{catalog}", "") or "").lower():
            writer = writer.using("delta")  # which takes Spark's default for Parquet otherwise, and cannot replace it
        writer.createOrReplace()
        return
    exists = session.catalog.tableExists(name)
    directory = f"{_directory_of_tables(session, name)}/{_plain('.'.join(parts))}-{_plain(run)}-{uuid.uuid4().hex[:8]}"
    path, files = _path(session, directory)
    try:
        rows.write.parquet(directory)
    except BaseException:
        with contextlib.suppress(Exception):  # which would hide the cause
            files.delete(path, True)
        raise
    names = {"name": name}
    if not exists:
        session.sql(
            f"CREATE TABLE IDENTIFIER(:name) USING parquet LOCATION '{_quoted(directory)}' "
            f"TBLPROPERTIES ('{MARK}' = '{_quoted(run)}')",
            args=names,
        )
        return
    metadata = _metadata(session, parts)
    former, previous = _text(session, metadata.location()), metadata.properties().get(PREVIOUS)
    session.sql(f"ALTER TABLE IDENTIFIER(:name) SET LOCATION '{_quoted(directory)}'", args=names)
    properties = {MARK: run, PREVIOUS: former}
    listed = ", ".join(f"'{key}' = '{_quoted(value)}'" for key, value in properties.items())
    session.sql(f"ALTER TABLE IDENTIFIER(:name) SET TBLPROPERTIES ({listed})", args=names)
    session.catalog.refreshTable(name)
    if previous.isDefined() and previous.get() != former:  # somebody may have gone back to it
        path, files = _path(session, previous.get())
        if _is_of_table(path, parts[-1], [_path(session, place)[0] for place in (directory, former)]):
            files.delete(path, True)


def _is_builtin(session: "SparkSession", name: str) -> bool:
    """Whether a table is, or would be, in Spark's own catalog, which cannot replace a table in one step."""
    is_its = _catalog_and_rest(session, name)[0] == BUILTIN
    return is_its and session.conf.get(f"spark.sql.catalog.{BUILTIN}", "builtin") == "builtin"


def _catalog_and_rest(session: "SparkSession", name: str) -> tuple[str, list[str]]:
    """The catalog that a table is, or would be, in, and the parts of its name after that: of `a.b`.c these two."""
    state: Any = session._jsparkSession.sessionState()
    found = state.sqlParser().parseMultipartIdentifier(name)
    parts = [str(found.apply(place)) for place in range(found.size())]
    if len(parts) > 1 and state.catalogManager().isCatalogRegistered(parts[0]):
        first, *parts = parts
        return BUILTIN if first.lower() == BUILTIN else first, parts  # Spark knows its own in any case of letters
    return str(session.catalog.currentCatalog()), parts


def _is_of_table(path: Any, table: str, others: Sequence[Any]) -> bool:
    """Whether a path is of a directory that _replace_table made for a table: next to others of it, and named so."""
    pattern = re.compile(rf"(?:[\w-]+-)?{re.escape(_plain(table))}-[\w-]+-[0-9a-f]{{8}}", re.IGNORECASE)
    is_next = any(path.getParent() is not None and path.getParent().equals(other.getParent()) for other in others)
    return is_next and pattern.fullmatch(path.getName()) is not None


def _properties(session: "SparkSession", name: str) -> dict[str, str]:
    """The properties of a table; Spark has ******* for a value that looks like a secret, as of a path with `token`."""
    rows = session.sql("SHOW TBLPROPERTIES IDENTIFIER(:name)", args={"name": name}).collect()
    return {row["key"]: row["value"] for row in rows}


def _metadata(session: "SparkSession", parts: Sequence[str]) -> Any:
    """Scala's CatalogTable of a table of Spark's own catalog, in which nothing is hidden.

    Args:
        parts: as of _catalog_and_rest.
    """
    state: Any = session._jsparkSession.sessionState()
    quoted = ".".join("`" + part.replace("`", "``") + "`" for part in parts[-2:])
    return state.catalog().getTableMetadata(state.sqlParser().parseTableIdentifier(quoted))


def _text(session: "SparkSession", location: Any) -> str:
    """A java.net.URI as Spark takes a path: with a space where the URI has %20."""
    jvm: Any = session.sparkContext._jvm
    return str(jvm.org.apache.hadoop.fs.Path(location).toString())


def _directory_of_tables(session: "SparkSession", name: str) -> str:
    """The directory of the database in Spark's own catalog that a table is, or would be, in.

    Raises:
        UserError: the catalog takes no such name, or Spark finds no table in that directory.
    """
    *database, table = _catalog_and_rest(session, name)[1]
    if not re.fullmatch(r"\w+", table, re.ASCII):
        raise UserError("it may have letters of ASCII, digits and _")
    state: Any = session._jsparkSession.sessionState()
    found = state.catalog().getDatabaseMetadata((database or [session.catalog.currentDatabase()])[-1])
    location = _text(session, found.locationUri()).rstrip("/")
    if re.search(r"[]\[{}*?\\]", location):  # tables of Spark's own are not found there, either
        raise UserError("Spark takes the []{}*?\\ in the directory of its database for a pattern")
    return location


def _plain(name: str) -> str:
    """A name with nothing that a path could take for something else."""
    return re.sub(r"[^\w-]+", "-", name)


def _quoted(text: str) -> str:
    """The content of a string literal of SQL."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())
