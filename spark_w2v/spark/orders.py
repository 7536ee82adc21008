"""Columns that order events, where numbers and times are text, or Spark cut the digits of numbers.

Of CSV and JSON Spark gives a column one type for all of its values: one that is not a number makes text of all numbers,
of which 10 comes before 9, and one fraction makes doubles of all, of which those beyond 2^53 may be equal. Times of
JSON are text, and others may be: of these, 10:00:00.5Z comes before 10:00:00Z, and 10:00+02:00 after 09:00Z.
"""

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.errors import UserError
from spark_w2v.spark import columns
from spark_w2v.spark.columns import FoundColumn

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from spark_w2v.config import Corpus

log = logging.getLogger(__name__)

TEXT = T.StringType()
MOST_SHOWN = 40  # characters of a text among numbers

# A day, and what may follow it. Spark reads other texts as times, too, such as 9:30, which is one of today.
TIME = r"^\s*\d{4}-\d\d?-\d\d?([T ].*)?\s*$"
NO_SECONDS = r"^(\s*\S+[T ]\d\d?:\d\d?)\s*(Z|[+-]\d.*)$"  # before a zone, where Spark asks for them
YEAR_LAST = re.compile(r"\s*\d\d?[./-]\d\d?[./-]\d\d")  # a date whose year is last; TIME has it first
ZONE = r"[T ]\d\d?:\d\d?:\d\d?(?:\.\d*)?(?![\d.])\s*(\S.*?)\s*$"

# Without numbers such as 1e3, because ids of letters and digits may look like these.
NUMBER = r"^\s*[+-]?(\d*\.\d+(e[+-]?\d+)?|\d+(\.|e[+-]\d+)?)\s*$"


def count_rows(
    rows: "DataFrame", corpus_config: "Corpus", orders: Sequence[FoundColumn]
) -> tuple[int, list[FoundColumn]]:
    """How many rows there are, and what orders them: times that are text and, of CSV and JSON, numbers, too.

    The same job looks at the values of these columns.

    Args:
        orders: the columns of corpus.order_by.

    Raises:
        UserError: a column has numbers or times and other text, or times with a zone and without.
    """
    schema, c = rows.schema, corpus_config
    names = columns.names_in(schema, c.order_by)
    texts = {c.column, *columns.names_in(schema, c.group_by)}  # which are ordered as they are written
    asked = [F.count("*").alias("rows")]
    if c.format == "csv":  # of which Spark refuses a query with a column of bad lines and of directories alone
        asked.append(F.count(columns.column_named(schema.names[0])))
    # A collation decides nothing here.
    orders = [FoundColumn(o.value.cast(TEXT), TEXT) if isinstance(o.kind, T.StringType) else o for o in orders]
    for number, (name, order) in enumerate(zip(names, orders, strict=True)):
        if exact := columns.exact_values(schema, [name]):
            is_rounded = ~order.value.try_cast(columns.EXACT_TYPE).eqNullSafe(exact[0])
            asked.append(F.bool_or(is_rounded).alias(f"rounded{number}"))
        elif order.kind == TEXT and name not in texts:  # whose order is that of the bytes
            # The values of lines that are not rows have made text of a column, too, and order nothing.
            has_lines = columns.CORRUPT in schema.names
            value = F.when(columns.column_named(columns.CORRUPT).isNull(), order.value) if has_lines else order.value
            asked += [*(_numbers_in(value, number) if has_lines else []), *_times_in(value, number)]
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
        elif found.get(f"varied{number}"):
            ordered[-1:] = [*_times(name, order.value, found, number), order]
        elif YEAR_LAST.match(found.get(f"digit{number}") or ""):
            _warn_of_digits(name, found[f"digit{number}"])
    return found["rows"], ordered


def _numbers_in(value: "Column", number: int) -> list["Column"]:
    """The least and the largest number of digits of the numbers in a column of text, and a text that is not one.

    A number with a point or a sign has -1 digits.
    """
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


def _times_in(value: "Column", number: int) -> list["Column"]:
    """What is in texts that may be times, of which the bytes may have another order: one of each kind of them."""
    value = F.when(F.trim(value) != "", value)
    time = _with_seconds(value)
    zone, is_time = F.regexp_extract(time, ZONE, 1), F.when(value.rlike(TIME), time.try_cast("timestamp")).isNotNull()
    # Texts with digits in the same places and one zone are in the order of their times.
    form = F.when(value.isNotNull(), F.struct(F.translate(time, "123456789", "000000000"), zone))
    return [
        (F.min(form) != F.max(form)).alias(f"varied{number}"),
        *(
            F.substring(F.min(F.when(kind, value)), 1, MOST_SHOWN).alias(f"{name}{number}")
            for name, kind in {
                "zoned": is_time & (zone != ""), "unzoned": is_time & (zone == ""), "other": ~is_time,
                "digit": ~is_time & value.rlike(r"^\s*\d"),
            }.items()
        ),
    ]  # fmt: skip


def _with_seconds(value: "Column") -> "Column":
    return F.regexp_replace(value, NO_SECONDS, "$1:00$2")


def _times(name: str, value: "Column", found: dict[str, Any], number: int) -> list[FoundColumn]:
    """The times in a column of text; nothing where there are none: it is ordered by its bytes."""
    zoned, unzoned, other, digit = (found[f"{kind}{number}"] for kind in ("zoned", "unzoned", "other", "digit"))
    if zoned is None and unzoned is None:
        if digit is not None:
            _warn_of_digits(name, digit)
        return []
    what = "times" if other is not None else "times with a time zone"
    odd = f"also {other!r}" if other is not None else f"times without, such as {unzoned!r}"
    if other is not None or None not in (zoned, unzoned):
        raise UserError(
            f'corpus.order_by: "{name}" has {what} and {odd}; write all of them alike, leave rows out with '
            "corpus.where, or give another column."
        )
    if zoned is None:  # as they are written: in a time zone with summer time, some would be the same
        return [FoundColumn(_with_seconds(value).try_cast("timestamp_ntz"), T.TimestampNTZType())]
    return [FoundColumn(_with_seconds(value).try_cast("timestamp"), T.TimestampType())]


def _warn_of_digits(name: str, digit: str) -> None:
    log.warning('corpus.order_by: "%s" is text, such as %r, and is ordered by its bytes', name, digit)


def _check_no_text(name: str, text: str | None) -> None:
    if text is not None:
        raise UserError(
            f'corpus.order_by: "{name}" has numbers and also {text!r}, and as text 10 comes before 9; fix such values, '
            "leave their rows out with corpus.where, or give another column."
        )


def _exact(value: "Column") -> FoundColumn:
    return FoundColumn(value.try_cast(columns.EXACT_TYPE), T.DecimalType(38, 9))
