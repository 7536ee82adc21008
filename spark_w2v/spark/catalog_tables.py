"""Rows that a run or a command leaves in a table of Spark's catalog.

They replace those that an earlier one left there, and nothing else.
"""

import contextlib
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyspark.sql.types as T
from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors.exceptions.captured import CapturedException, PythonException

from spark_w2v.errors import StorageError, UserError
from spark_w2v.spark.java_errors import cause_of, is_interruption, lost, message_of
from spark_w2v.spark.result_directories import hadoop_path
from spark_w2v.spark.session import OF_COMMAND

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BUILTIN = "spark_catalog"  # the name of Spark's own catalog
MARK = "spark_w2v.run"  # property of our tables: the run that the rows come from
PREVIOUS = "spark_w2v.previous"  # the directory of the rows before, which readers may still be at


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
    kept = session.conf.get("spark.sql.catalogImplementation", "in-memory")
    is_ours = getattr(session.sparkContext, OF_COMMAND, False)
    if is_ours and kept == "in-memory" and _is_kept_by_spark(session, name):
        raise UserError(
            f"{name}: this Spark has its catalog in memory, and the table would be gone with the command; set "
            "spark.sql.catalogImplementation=hive, or give a table of a catalog (spark.sql.catalog.NAME)."
        )
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
        kind = (session.conf.get(f"spark.sql.catalog.{catalog}", "") or "").lower()
        for provider in ("delta", "iceberg"):
            # As a catalog of a session they take Spark's default otherwise, Parquet, and cannot replace that.
            if provider in kind:
                writer = writer.using(provider)
        writer.createOrReplace()
        return
    exists = session.catalog.tableExists(name)
    directory = f"{_directory_of_tables(session, name)}/{_plain('.'.join(parts))}-{_plain(run)}-{uuid.uuid4().hex[:8]}"
    path, files = hadoop_path(session, directory)
    try:
        rows.write.parquet(directory)
        if not exists:
            session.sql(
                f"CREATE TABLE IDENTIFIER(:name) USING parquet LOCATION '{_quoted(directory)}' "
                f"TBLPROPERTIES ('{MARK}' = '{_quoted(run)}')",
                args={"name": name},
            )
            return
        metadata = _metadata(session, parts)
        former, previous = _text(session, metadata.location()), metadata.properties().get(PREVIOUS)
        _alter(session, metadata, path, {MARK: run, PREVIOUS: former})
    except BaseException:
        with contextlib.suppress(Exception):  # which would hide the cause
            # The catalog may have done what it did not answer.
            if not session.catalog.tableExists(name) or not _is_in(session, parts, path, files):
                files.delete(path, True)
        raise
    session.catalog.refreshTable(name)
    if previous.isDefined() and previous.get() != former:  # somebody may have gone back to it
        path, files = hadoop_path(session, previous.get())
        if _is_of_table(path, parts[-1], [hadoop_path(session, place)[0] for place in (directory, former)]):
            files.delete(path, True)


def _alter(session: "SparkSession", metadata: Any, directory: Any, properties: Mapping[str, str]) -> None:
    """Change the directory and properties of a table of Spark's own catalog in one call, for which SQL has two.

    A run that dies in between would leave rows of one run under the name of another.

    Args:
        metadata: Scala's CatalogTable.
    """
    jvm: Any = session.sparkContext._jvm
    storage = _copied(metadata.storage(), locationUri=jvm.scala.Option.apply(directory.toUri()))
    changed = metadata.properties()
    for key, value in properties.items():
        changed = changed.updated(key, value)
    state, none = session._jsparkSession.sessionState(), jvm.scala.Option.empty()
    state.catalog().alterTable(_copied(metadata, storage=storage, properties=changed, stats=none))
    if metadata.stats().isDefined():  # of the rows before; Hive's catalog leaves them as they are
        state.catalog().alterTableStats(metadata.identifier(), none)


def _is_in(session: "SparkSession", parts: Sequence[str], directory: Any, files: Any) -> bool:
    """Whether the rows of a table of Spark's own catalog are in a directory."""
    location = hadoop_path(session, _text(session, _metadata(session, parts).location()))[0]
    return bool(files.makeQualified(location).equals(files.makeQualified(directory)))


def _copied(case_class: Any, **changes: Any) -> Any:
    """Scala's copy(name = value, ...) of an instance of a case class."""
    names = [case_class.productElementName(place) for place in range(case_class.productArity())]
    return case_class.copy(*(changes.get(name, case_class.productElement(place)) for place, name in enumerate(names)))


def _is_builtin(session: "SparkSession", name: str) -> bool:
    """Whether a table is, or would be, in Spark's own catalog, which cannot replace a table in one step."""
    is_its = _catalog_and_rest(session, name)[0] == BUILTIN
    return is_its and session.conf.get(f"spark.sql.catalog.{BUILTIN}", "builtin") == "builtin"


def _is_kept_by_spark(session: "SparkSession", name: str) -> bool:
    """Whether the name of a table is kept by Spark's own catalog: Delta's, in its place, leaves names to it."""
    kind = (session.conf.get(f"spark.sql.catalog.{BUILTIN}", "builtin") or "").lower()
    return _catalog_and_rest(session, name)[0] == BUILTIN and (kind == "builtin" or "delta" in kind)


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
