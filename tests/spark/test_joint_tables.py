"""Tables by their names: several as one, and one that has no end."""

from typing import TYPE_CHECKING

import pytest

from spark_w2v.errors import UserError
from spark_w2v.spark import corpus
from tests.spark.test_columns import settings
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_a_stream_is_refused(spark: "SparkSession") -> None:
    spark.readStream.format("rate").load().createOrReplaceTempView("endless")
    with pytest.raises(UserError, match="endless: is a stream, which has no end; "):
        corpus.read_tables(spark, ["endless"], settings(format="table", column="value"))


TYPES = (
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
)
QUICK = ("int", "date")  # of those that are read, a second or two each
NAMES = {"column": "item", "group_by": "g", "order_by": "o"}


def fit(key: str, kind: str) -> bool:
    """Whether a column of this type may be given as the key."""
    return key == "column" if kind.startswith("array") else key == "order_by" or kind not in ("date", "float")


def value_of(kind: str, number: int) -> str:
    """Return the SQL of a number in a type, or of a day."""
    if kind == "void":
        return "null"
    value = f"'2026-01-0{number}'" if kind in ("date", "timestamp") else f"'{number}'"
    return f"cast(array({value}) as {kind})" if kind.startswith("array") else f"cast({value} as {kind})"


@pytest.mark.parametrize(
    ("key", "one", "other", "together"),
    [
        pytest.param(key, one, other, together, marks=[pytest.mark.slow] if together and one not in QUICK else [])
        for key in NAMES
        for one, other, together in TYPES
        if fit(key, one)
    ],
)
def test_columns_of_several_tables_are_of_one_type(
    spark: "SparkSession", key: str, one: str, other: str, together: bool
) -> None:
    for number, (view, kind) in enumerate((("two", one), ("one", other)), 1):
        values = {"column": f"'{view}'", "group_by": "'1'", "order_by": f"'{number}'"}
        values[key] = value_of(kind, number)
        columns = ", ".join(f"{value} as {NAMES[name]}" for name, value in values.items())
        spark.sql(f"select {columns}").createOrReplaceTempView(view)
    grouped = {} if one.startswith("array") else {"group_by": "g", "order_by": "o"}
    keys = settings(format="table", column="item", tokenizer="none", **grouped)
    if together:
        expected = {"column": ["1 2"] if grouped else ["1", "2"], "group_by": ["one", "two"], "order_by": ["two one"]}
        if one == "void":  # its row has no word, or no group
            expected |= {"column": ["2"], "group_by": ["one"]}
        assert sorted(sentences(corpus.read_tables(spark, ["two", "one"], keys))) == expected[key]
        return
    with pytest.raises(UserError, match=f'one: its column "{NAMES[key]}" is of type '):
        corpus.read_tables(spark, ["two", "one"], keys)
