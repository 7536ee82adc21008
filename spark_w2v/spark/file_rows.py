"""Files of each format → rows with columns, or lines with what was found in them."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.spark import columns
from spark_w2v.spark.columns import CORRUPT
from spark_w2v.spark.inputs import Inputs
from spark_w2v.text.messages import refuse

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession

    from spark_w2v.config import Corpus

FORMAT_NAMES = {"parquet": "Parquet", "orc": "ORC", "csv": "CSV", "avro": "Avro"}
PARSED, NOT_JSON = "parsed json", "not json"
PARTITION = re.compile("/[^/=]+=[^/]*/")  # in the path of a file: a directory that is a value of a column


def file_rows(session: "SparkSession", found: Inputs, corpus_config: "Corpus") -> "DataFrame":
    """The rows of files; with a column CORRUPT of CSV, and of JSON where a line is none.

    Raises:
        ConfigError: Spark has no reader of the format.
    """
    c = corpus_config
    reader = _reader(session, found, bool(c.where or c.group_by or c.order_by or c.weight))
    match c.format:
        case "jsonl":
            return reader.option("columnNameOfCorruptRecord", CORRUPT).json(found.paths)
        case "csv":
            return _csv(reader, found, c)
        case "avro":
            try:
                return reader.format("avro").load(found.paths)
            except Exception as error:
                if "Failed to find data source: avro" not in str(error):
                    raise
                refuse(
                    'corpus.format: Spark has no reader of "avro"; add it with --packages '
                    f"org.apache.spark:spark-avro_2.13:{session.version}, or convert the files to Parquet."
                )
        case kind:
            return reader.format(kind).load(found.paths)


def file_lines(session: "SparkSession", found: Inputs) -> "DataFrame":
    """The lines of files, in the column `value`."""
    return _reader(session, found, False).text(found.paths)


def _reader(session: "SparkSession", found: Inputs, with_partitions: bool) -> "DataFrameReader":
    """A reader of files.

    Args:
        with_partitions: directories such as day=2026-01-31 are values of a column. Spark then refuses files beside
            such directories, which are no mistake where nobody asks for the column.
    """
    partitioned = with_partitions and any(PARTITION.search(unquote(file.path)) for file in found.files)
    return session.read.options(**found.options).option("recursiveFileLookup", not partitioned)


def _csv(reader: "DataFrameReader", found: Inputs, corpus_config: "Corpus") -> "DataFrame":
    """Rows of CSV; the words stay as they are written, also where they look like numbers."""
    c = corpus_config
    # By name, and not by place in the line: the columns of two files may differ in their order.
    reader = reader.option("header", True).option("enforceSchema", False)
    reader = reader.option("escape", '"')  # a quote in quotes is doubled, as everybody but Spark writes it
    typed = bool(c.where or c.order_by)  # of text, "10" would be before "9"
    fields = reader.option("inferSchema", typed).csv(found.paths).schema.fields
    as_text = [T.StructField(field.name, T.StringType()) if field.name == c.column else field for field in fields]
    schema = T.StructType([*as_text, T.StructField(CORRUPT, T.StringType())])
    return reader.schema(schema).option("columnNameOfCorruptRecord", CORRUPT).csv(found.paths)


def parsed_json(lines: "DataFrame", names: Sequence[str]) -> "DataFrame":
    """Lines with the fields of these names, or paths, parsed for the functions below."""
    # As variant, because as string a number or an object would pass for text.
    wanted = list(dict.fromkeys(top for name in names if name for top in (name, name.partition(".")[0])))
    fields = [T.StructField(name, T.VariantType()) for name in wanted]
    schema = T.StructType([*fields, T.StructField(NOT_JSON, T.StringType())])
    return lines.withColumn(PARSED, F.from_json("value", schema, {"columnNameOfCorruptRecord": NOT_JSON}))


def json_field(name: str) -> "Column":
    """The field of a name, or of a path such as doc.body, as variant."""
    found = columns.column_named(PARSED).getField(name)
    first, *fields = name.split(".")
    if fields and all(re.fullmatch(r"[A-Za-z_]\w*", field, re.ASCII) for field in fields):
        path = ".".join(["$", *fields])
        nested = F.try_variant_get(columns.column_named(PARSED).getField(first), path, "variant")
        return F.coalesce(found, nested)
    return found


def json_number(name: str) -> "Column":
    """The field of a name as a number; null where it is none."""
    return F.try_variant_get(json_field(name), "$", "double")


def is_malformed_json() -> "Column":
    """Whether a line is not a JSON object."""
    return columns.column_named(PARSED).getField(NOT_JSON).isNotNull()
