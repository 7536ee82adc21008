"""Rows that a command leaves: in a directory of Parquet files, or in a table of Spark's catalog.

Each replaces what an earlier run of the command left there, and nothing else.
"""

import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyspark.sql.types as T

from spark_w2v.errors import UserError
from spark_w2v.runs.places import check_password
from spark_w2v.spark.java_errors import message_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

OURS = re.compile(r"part-[\w.-]+\.parquet|_SUCCESS")  # the files that Spark writes for us
MARK = "spark_w2v.run"  # property of our tables: the run that the rows come from
PREVIOUS = "spark_w2v.previous"  # the directory of the rows before, which readers may still be at


# Directories


def check_directory(session: "SparkSession", target: str, overwrite: bool) -> None:
    """Refuse to write to a directory that holds something else, or, without `overwrite`, a finished result.

    Raises:
        UserError: one sentence.
    """
    check_password(target)
    path, files = _path(session, target)
    if not files.exists(path):
        return
    if not files.getFileStatus(path).isDirectory():
        raise UserError(f"{target}: is a file; give a directory that does not exist yet.")
    names = [str(status.getPath().getName()) for status in files.listStatus(path)]
    if strange := sorted(name for name in names if not OURS.fullmatch(name)):
        raise UserError(
            f"{target}: holds {strange[0]}, which no command of spark_w2v wrote, so it is not touched, even with "
            "--overwrite; give another directory."
        )
    if "_SUCCESS" in names and not overwrite:
        raise UserError(f"{target}: exists already; give --overwrite to replace it, or another directory.")


def write_directory(rows: "DataFrame", target: str) -> None:
    """Write rows as Parquet; what was there before is removed once they are complete."""
    path, files = _path(rows.sparkSession, target)
    made, _ = _path(rows.sparkSession, f"{target.rstrip('/')}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        rows.write.parquet(str(made.toString()))
        files.delete(path, True)
        files.rename(made, path)
    finally:
        files.delete(made, True)


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
        if not exists and _is_builtin(session, name):
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
    if schema is not None and _is_builtin(session, name):
        found = {field.name: field.dataType.simpleString() for field in session.table(name).schema}
        wanted = {field.name: field.dataType.simpleString() for field in schema}
        if found != wanted:
            raise UserError(
                f"{name}: has the columns {_listed(found)}, and these rows {_listed(wanted)}; drop the table, or give "
                "another name."
            )


def write_table(rows: "DataFrame", name: str, run: str) -> None:
    """Replace the rows of a table, or make it.

    A catalog of its own (Iceberg, Delta) replaces the table in one step, with its properties. A table of Spark's own
    catalog, or Hive's, is Parquet in a directory for each run: one call to the catalog moves the table from one
    directory to the next, and the directory before stays until the next time, for those who are reading.

    Args:
        run: the property MARK.
    """
    session = rows.sparkSession
    if not _is_builtin(session, name):
        rows.writeTo(name).tableProperty(MARK, run).createOrReplace()
        return
    exists = session.catalog.tableExists(name)
    directory = f"{_directory_of_tables(session, name)}/{_plain(name)}-{_plain(run)}-{uuid.uuid4().hex[:8]}"
    rows.write.parquet(directory)
    names = {"name": name}
    if not exists:
        session.sql(
            f"CREATE TABLE IDENTIFIER(:name) USING parquet LOCATION '{_quoted(directory)}' "
            f"TBLPROPERTIES ('{MARK}' = '{_quoted(run)}')",
            args=names,
        )
        return
    before = _properties(session, name)
    former = _location(session, name)
    session.sql(f"ALTER TABLE IDENTIFIER(:name) SET LOCATION '{_quoted(directory)}'", args=names)
    properties = {MARK: run, PREVIOUS: former}
    listed = ", ".join(f"'{key}' = '{_quoted(value)}'" for key, value in properties.items())
    session.sql(f"ALTER TABLE IDENTIFIER(:name) SET TBLPROPERTIES ({listed})", args=names)
    session.catalog.refreshTable(name)
    if PREVIOUS in before:
        path, files = _path(session, before[PREVIOUS])
        files.delete(path, True)


def _is_builtin(session: "SparkSession", name: str) -> bool:
    """Whether a table is, or would be, in Spark's own catalog, which cannot replace a table in one step."""
    parts = name.split(".")
    catalogs = {str(found.name) for found in session.catalog.listCatalogs()}
    catalog = parts[0] if len(parts) > 2 or parts[0] in catalogs else session.catalog.currentCatalog()
    return catalog == "spark_catalog" and session.conf.get("spark.sql.catalog.spark_catalog", "builtin") == "builtin"


def _properties(session: "SparkSession", name: str) -> dict[str, str]:
    rows = session.sql("SHOW TBLPROPERTIES IDENTIFIER(:name)", args={"name": name}).collect()
    return {row["key"]: row["value"] for row in rows}


def _location(session: "SparkSession", name: str) -> str:
    rows = session.sql("DESCRIBE TABLE EXTENDED IDENTIFIER(:name)", args={"name": name}).collect()
    return next(str(row["data_type"]) for row in rows if row["col_name"] == "Location")


def _directory_of_tables(session: "SparkSession", name: str) -> str:
    """The directory of the database that a table is in."""
    parts = name.split(".")
    database = parts[-2] if len(parts) > 1 else session.catalog.currentDatabase()
    return str(session.catalog.getDatabase(database).locationUri).rstrip("/")


def _plain(name: str) -> str:
    """A name with nothing that a path could take for something else."""
    return re.sub(r"[^\w-]+", "-", name)


def _quoted(text: str) -> str:
    """The content of a string literal of SQL."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())
