"""Columns of other types in other files: Spark reads all files as one of them says, and 70000 as a smallint is 4464."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyspark.sql.types as T

from spark_w2v.errors import UserError
from spark_w2v.spark import columns
from spark_w2v.spark.hadoop_files import escape_glob
from spark_w2v.spark.java_errors import parameters_of
from spark_w2v.text.messages import path_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrameReader, SparkSession

    from spark_w2v.config import Corpus
    from spark_w2v.spark.hadoop_files import File
    from spark_w2v.spark.inputs import Inputs

MOST_SCHEMAS = 100  # files that are looked at one by one, where something is wrong
NUMBERS = ("tinyint", "smallint", "int", "bigint"), ("float", "double")  # each holds all values of those before it


def schemas(session: "SparkSession", files: "Sequence[File]", kind: str) -> Iterator[tuple[str, T.StructType]]:
    """Yield the paths and schemas of the first files, one by one."""
    reader = session.read.option("header", True)  # of CSV
    for file in files[:MOST_SCHEMAS]:
        yield file.path, reader.format(kind).load(escape_glob(unquote(file.path))).schema


def check_types(
    session: "SparkSession", reader: "DataFrameReader", found: "Inputs", read: T.StructType, corpus_config: "Corpus"
) -> None:
    """Refuse files in which a column that is used has a type whose values are others as the type that is read.

    Args:
        reader: of these files.
        read: the schema that all files are read with.

    Raises:
        UserError: one sentence.
    """
    c = corpus_config
    if c.format not in ("parquet", "orc") or len(found.files) < 2:
        return
    try:
        reader.format(c.format).option("mergeSchema", True).load(found.paths)  # compares the schemas of all files
        return
    except Exception as error:
        sides = parameters_of(error, "CANNOT_MERGE_SCHEMAS")
        if sides is None:  # whatever it is, reading will say so
            return
    used = [c.column, c.weight, *columns.names_in(read, c.group_by), *columns.names_in(read, c.order_by)]
    # Fields of structures, and all that a condition may ask of.
    names = [*filter(None, used), *(name for name in read.names if columns.is_named(name, c))]
    for path, schema in schemas(session, found.files, c.format):
        _check(f"{path_text(path)} has", read, schema, names)
    for side in ("left", "right"):
        merging: Any = T.DataType.fromDDL(sides[side].strip('"'))
        _check("some files have", read, merging, names)


def _check(where: str, read: T.StructType, other: T.StructType, names: Sequence[str]) -> None:
    for name in names:
        one, two = (columns.find_column(schema, name) for schema in (read, other))
        if one and two and not _holds(one.kind, two.kind):
            raise UserError(
                f'--input: {where} a column "{name}" of {two.kind.simpleString()}, which Spark would read as '
                f"{one.kind.simpleString()}, as others have it; write it with one type, or give the files of each type "
                "in a run of their own."
            )


def _holds(read: T.DataType, other: T.DataType) -> bool:
    """Whether values of the other type are the same ones as the type that is read."""
    if isinstance(read, T.ArrayType) and isinstance(other, T.ArrayType):
        return _holds(read.elementType, other.elementType)
    if isinstance(read, T.StructType | T.MapType) or isinstance(other, T.NullType):
        return True  # a field of it is looked at by itself
    one, two = read.simpleString(), other.simpleString()
    return one == two or any(one in kinds and two in kinds and kinds.index(two) < kinds.index(one) for kinds in NUMBERS)
