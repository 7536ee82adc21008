"""Tables by their names: several as one, and one that has no end."""

from typing import TYPE_CHECKING

import pytest

from spark_w2v.errors import ConfigError
from spark_w2v.spark import corpus
from tests.spark.test_columns import settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_a_stream_is_refused(spark: "SparkSession") -> None:
    spark.readStream.format("rate").load().createOrReplaceTempView("endless")
    with pytest.raises(ConfigError, match="endless: is a stream, which has no end; "):
        corpus.read_tables(spark, ["endless"], settings(format="table", column="value"))


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("int", "bigint", True),
        ("array<int>", "array<bigint>", True),
        ("string", "string", True),
        ("string", "bigint", False),  # of which Spark makes bigint
        ("array<string>", "array<bigint>", False),
        ("bigint", "double", False),  # of which it makes double
        ("bigint", "decimal(20,0)", False),
        ("decimal(20,0)", "decimal(10,0)", True),
        ("void", "string", True),
        ("date", "timestamp", True),
        ("float", "double", True),
    ],
)
@pytest.mark.parametrize("key", ["column", "group_by", "order_by"])
def test_columns_of_several_tables_are_of_one_type(
    spark: "SparkSession", key: str, one: str, other: str, together: bool
) -> None:
    if (one.startswith("array") and key != "column") or (one in ("date", "float") and key != "order_by"):
        return
    others = {"column": "item", "group_by": "g", "order_by": "o"}
    for view, kind in (("one", one), ("other", other)):
        columns = ["'1' as item", "'1' as g", "'1' as o"]
        columns = [f"cast(null as {kind}) as {others[key]}", *(c for c in columns if not c.endswith(f" {others[key]}"))]
        spark.sql(f"select {', '.join(columns)}").createOrReplaceTempView(view)
    grouped = {} if one.startswith("array") else {"group_by": "g", "order_by": "o"}
    keys = settings(format="table", column="item", tokenizer="none", **grouped)
    if together:
        corpus.read_tables(spark, ["one", "other"], keys)
        return
    with pytest.raises(ConfigError, match=f'other: its column "{others[key]}" is of type '):
        corpus.read_tables(spark, ["one", "other"], keys)
