"""Columns of CSV and JSON that order events, where Spark took numbers for text or cut their digits.

Spark gives a column one type for all of its values: one that is not a number makes text of all numbers, of which 10
comes before 9, and one fraction makes doubles of all, of which those beyond 2^53 may be equal.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.spark import columns
from spark_w2v.spark.columns import FoundColumn
from spark_w2v.text.messages import refuse

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from spark_w2v.config import Corpus

MOST_SHOWN = 40  # characters of a text among numbers

# Without numbers such as 1e3, because ids of letters and digits may look like these.
NUMBER = r"^\s*[+-]?(\d*\.\d+(e[+-]?\d+)?|\d+(\.|e[+-]\d+)?)\s*$"


def count_rows(
    rows: "DataFrame", corpus_config: "Corpus", orders: Sequence[FoundColumn]
) -> tuple[int, list[FoundColumn]]:
    """How many rows there are, and what orders them: of CSV and JSON, numbers where text or doubles have numbers.

    The same job looks at the values of these columns.

    Args:
        orders: the columns of corpus.order_by.

    Raises:
        ConfigError: a column has numbers and other text, so that it has no order of numbers.
    """
    schema, c = rows.schema, corpus_config
    names = columns.names_in(schema, c.order_by)
    texts = {c.column, *columns.names_in(schema, c.group_by)}  # which are ordered as they are written
    asked = [F.count("*").alias("rows")]
    if c.format == "csv":  # of which Spark refuses a query with a column of bad lines and of directories alone
        asked.append(F.count(columns.column_named(schema.names[0])))
    for number, (name, order) in enumerate(zip(names, orders, strict=True)):
        if exact := columns.exact_values(schema, [name]):
            is_rounded = ~order.value.try_cast(columns.EXACT_TYPE).eqNullSafe(exact[0])
            asked.append(F.bool_or(is_rounded).alias(f"rounded{number}"))
        elif columns.CORRUPT in schema.names and isinstance(order.kind, T.StringType) and name not in texts:
            asked += _numbers_in(order.value, number)
    (row,) = rows.agg(*asked).collect()
    found, ordered = row.asDict(), []
    for number, (name, order) in enumerate(zip(names, orders, strict=True)):
        ordered.append(order)
        if found.get(f"rounded{number}"):
            ordered += [_exact(value) for value in columns.exact_values(schema, [name])]
        elif _is_misordered(found, number):
            _check_no_text(name, found[f"text{number}"])
            # Doubles first, as they have room for all numbers.
            ordered[-1:] = [FoundColumn(order.value.try_cast("double"), T.DoubleType()), _exact(order.value)]
    return found["rows"], ordered


def _numbers_in(text: "Column", number: int) -> list["Column"]:
    """The least and the largest number of digits of the numbers in a column of text, and a text that is not one.

    A number with a point or a sign has -1 digits.
    """
    # The values of lines that are not rows have made text of a column, too, and order nothing.
    value = F.when(columns.column_named(columns.CORRUPT).isNull(), text)
    digits = F.when(value.rlike(r"^\d+$"), F.length(value)).when(value.rlike(f"(?i){NUMBER}"), -1)
    other = F.when(value.try_cast("double").isNull(), value)
    return [
        F.min(digits).alias(f"least{number}"),
        F.max(digits).alias(f"most{number}"),
        F.substring(F.min(other), 1, MOST_SHOWN).alias(f"text{number}"),
    ]


def _is_misordered(found: dict[str, Any], number: int) -> bool:
    """Whether there are numbers in a column of text of which the bytes have another order."""
    least, most = found.get(f"least{number}"), found.get(f"most{number}")
    return least is not None and (least < 0 or least != most)


def _check_no_text(name: str, text: str | None) -> None:
    if text is not None:
        refuse(
            f'corpus.order_by: "{name}" has numbers and also {text!r}, and as text 10 comes before 9; fix such values, '
            "leave their rows out with corpus.where, or give another column."
        )


def _exact(value: "Column") -> FoundColumn:
    return FoundColumn(value.try_cast(columns.EXACT_TYPE), T.DecimalType(38, 9))
