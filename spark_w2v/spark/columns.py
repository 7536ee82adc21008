"""The columns that a configuration names: where they are in a table, and whether they hold what is needed."""

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.errors import UserError
from spark_w2v.spark.java_errors import message_of
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.messages import name_hint
from spark_w2v.text.tokenizer import NO_REASON
from spark_w2v.text.weights import MOST_WEIGHT, UNITS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from spark_w2v.config import Corpus

# Types of whole numbers, by what Spark calls them; words of a column of one of them get it back as their id.
ID_TYPES = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)

# What rows of a group may be ordered by.
ORDERED = (
    T.NumericType, T.StringType, T.BinaryType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType,
    T.TimeType, T.DayTimeIntervalType,
)  # fmt: skip

# In the names of columns that are added to the user's. Drawn in each process, so that no column of theirs has it.
TOKEN = secrets.token_hex(4)

# Name of the column with lines that are no rows, which Spark's readers of CSV and JSON add.
CORRUPT = f"not a row {TOKEN}"
WRONG_TYPE = f"not a word {TOKEN}"  # of a row of JSON: whether its word or its group is neither text nor a number
INVALID = f"not utf-8 {TOKEN}"  # of a row of CSV or JSON: whether it has U+FFFD in place of bytes that are not UTF-8

# Before the name of a column of doubles in CSV or JSON: the same numbers with digits that a double has no room for, as
# far as this type has. Those that are too large for it are null.
EXACT, EXACT_TYPE = f"exactly {TOKEN} ", "decimal(38,9)"


class FoundColumn(NamedTuple):
    """A column of a table, or a field of one."""

    value: "Column"
    kind: T.DataType


def column_named(name: str) -> "Column":
    """The column of this name, whatever characters are in it."""
    # Quoted only where it must be: spark.sql.parser.quotedRegexColumnNames takes what is quoted for a pattern.
    return F.col(name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"`{name.replace('`', '``')}`")


def find_column(schema: T.StructType, name: str) -> FoundColumn | None:
    """The column of a name, or of a path such as doc.body; None where there is none.

    Of an array of structures, a field is the array of that field.
    """
    if name in schema.names:
        return FoundColumn(column_named(name), schema[name].dataType)
    first, *fields = name.split(".")
    if first not in schema.names:
        return None
    value, kind = column_named(first), schema[first].dataType
    for field in fields:
        inside = kind.elementType if isinstance(kind, T.ArrayType) else kind
        if not isinstance(inside, T.StructType) or field not in inside.names:
            return None
        value, found = value.getField(field), inside[field].dataType
        kind = T.ArrayType(found) if isinstance(kind, T.ArrayType) else found
    return FoundColumn(value, kind)


def names_of(schema: T.StructType) -> list[str]:
    """The names of the columns, and of the fields of those that are structures, as far as a path can lead to them."""
    nested = [f"{field.name}.{name}" for field in schema if isinstance(field.dataType, T.StructType)
              for name in field.dataType.names if "." not in name]  # fmt: skip
    return [*(name for name in schema.names if TOKEN not in name), *nested]


def need_column(schema: T.StructType, name: str, key: str, table: str) -> FoundColumn:
    """The column of a name.

    Args:
        key: of the configuration that names it.
        table: what has no such column, for the message.

    Raises:
        UserError: there is none.
    """
    found = find_column(schema, name)
    if found is None:
        raise UserError(f'{key}: {table} no column "{name}"; {name_hint(name, names_of(schema))}')
    return found


def need_columns(schema: T.StructType, names: str, key: str, table: str) -> list[FoundColumn]:
    """The columns of names that are separated by commas, as `need_column` finds each."""
    return [need_column(schema, name, key, table) for name in names_in(schema, names)]


def is_named(column: str, corpus_config: "Corpus") -> bool:
    """Whether a key names a column, alone or among others, or in a condition."""
    c = corpus_config
    keys = (c.column, c.weight, c.group_by, c.order_by, c.where)
    return any(re.search(rf"(?<!\w){re.escape(column)}(?!\w)", key, re.IGNORECASE) for key in keys)


def names_in(schema: T.StructType, names: str) -> list[str]:
    """The names that are separated by commas; a single one where a column is called so, commas and all."""
    if names in schema.names:
        return [names]
    return [name.strip() for name in names.split(",")] if names else []


# Types of which Spark makes the largest, with the same values.
WIDENED = (T.IntegralType, (T.FloatType, T.DoubleType), (T.DateType, T.TimestampType))


def are_joined_as_they_are(one: T.DataType, other: T.DataType) -> bool:
    """Whether no value of either type changes where Spark makes one column of both.

    It makes numbers of strings, so that 007 is 7, and doubles of whole numbers, of which those beyond 2^53 are alike.
    """
    if isinstance(one, T.ArrayType) and isinstance(other, T.ArrayType):
        return are_joined_as_they_are(one.elementType, other.elementType)
    if isinstance(one, T.NullType) or isinstance(other, T.NullType) or one.simpleString() == other.simpleString():
        return True
    if isinstance(one, T.DecimalType) and isinstance(other, T.DecimalType):
        return one.scale == other.scale
    return any(isinstance(one, kinds) and isinstance(other, kinds) for kinds in WIDENED)


def is_array_of_words(kind: T.DataType) -> bool:
    """Whether a column has ready-made words: strings, or whole numbers, which are words in decimal."""
    return isinstance(kind, T.ArrayType) and is_word(kind.elementType)


def is_word(kind: T.DataType) -> bool:
    """Whether a column has a ready-made word in each row."""
    whole = isinstance(kind, T.IntegralType) or (isinstance(kind, T.DecimalType) and kind.scale == 0)
    return whole or isinstance(kind, T.StringType)


def id_type_of(kind: T.DataType) -> str | None:
    """The type of whole numbers that the words of a column are, as Spark calls it; None where they are no such."""
    element = kind.elementType if isinstance(kind, T.ArrayType) else kind
    return element.simpleString() if isinstance(element, ID_TYPES) else None


def check_type(column: str, found: T.DataType, ready_made: bool) -> None:
    """Refuse a column that does not hold what the tokenizer takes."""
    if ready_made and not is_array_of_words(found):
        change = "give another column or another corpus.tokenizer."
        if is_word(found) and not isinstance(found, T.StringType):
            change = "give corpus.group_by, the column of the sentence that a row belongs to, or another column."
        raise UserError(
            f'corpus.column: "{column}" is {found.simpleString()}, ready-made words are array<string>, or an array of '
            f"whole numbers; {change}"
        )
    if not ready_made and not isinstance(found, T.StringType):
        change = 'set corpus.tokenizer to "none".' if is_array_of_words(found) else "give another column."
        raise UserError(f'corpus.column: "{column}" is {found.simpleString()}, text is string; {change}')


def check_word(column: str, found: T.DataType) -> None:
    """Refuse a column that does not hold one word a row."""
    if not is_word(found):
        change = "leave corpus.group_by out" if is_array_of_words(found) else "give another column"
        raise UserError(
            f'corpus.column: "{column}" is {found.simpleString()}, with corpus.group_by a row holds one word, a string '
            f"or a whole number; {change}."
        )


def need_weight(schema: T.StructType, name: str, table: str) -> "Column":
    """The column of weights of a name, as `need_column` finds it; a string may hold numbers, as in CSV."""
    value, kind = need_column(schema, name, "corpus.weight", table)
    if not isinstance(kind, T.NumericType | T.StringType):
        raise UserError(f'corpus.weight: "{name}" is {kind.simpleString()}, a weight is a number; give another column.')
    return value


def check_groups(names: str, found: Sequence[FoundColumn]) -> None:
    """Refuse columns of which Spark gives different values the same hash: those of parts that may be null or empty."""
    for column in found:
        if not isinstance(column.kind, T.AtomicType) or isinstance(column.kind, T.VariantType):
            raise UserError(
                f'corpus.group_by: "{names}" has a column of {column.kind.simpleString()}, rows are grouped by '
                "numbers, strings, dates and times; give other columns."
            )


def check_order(names: str, found: Sequence[FoundColumn]) -> None:
    """Refuse columns whose values have no order outside Spark."""
    for column in found:
        if not isinstance(column.kind, ORDERED):
            raise UserError(
                f'corpus.order_by: "{names}" has a column of {column.kind.simpleString()}, rows are ordered by '
                "numbers, strings, dates and times; give other columns."
            )


def where(rows: "DataFrame", condition: str) -> "DataFrame":
    """The rows that meet a condition in SQL; all where it is empty.

    A line that is no row has no values that the condition could be asked of: it stays, to be counted as bad.

    Raises:
        UserError: what Spark says of the condition.
    """
    if not condition:
        return rows
    meets = F.expr(condition)
    if CORRUPT in rows.schema.names:
        meets = column_named(CORRUPT).isNotNull() | meets
    try:
        return rows.where(meets)
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        ours = f"`[^`]*{TOKEN}[^`]*`"
        message = re.sub(f"{ours}, |(, )?{ours}", "", message)  # among the names that Spark suggests
        raise UserError(f"corpus.where: Spark refuses it ({message.rstrip('.')}); change it.") from None


def weight_units(weight: "Column") -> "Column":
    """The units of a weight, int; null where it is none that can be."""
    number = weight.try_cast("double")
    # NaN is above all numbers in Spark.
    return F.when(number.between(0, MOST_WEIGHT), F.round(number * UNITS).cast("int"))


def no_reason() -> "Column":
    """The reason of a row that is not bad."""
    # Cast, or Spark warns of each comparison with it that it is always true.
    return F.lit(NO_REASON).cast("int")


def reason_of_rows(schema: T.StructType) -> "Column":
    """The reason why a row is bad, as its reader says: of CSV, it has more or fewer fields than there are names."""
    if CORRUPT not in schema.names:
        return no_reason()
    reason = F.when(column_named(CORRUPT).isNotNull(), COUNTERS.index("malformed_lines"))
    for name, counter in ((WRONG_TYPE, "wrong_type_lines"), (INVALID, "invalid_utf8_lines")):
        if name in schema.names:
            reason = reason.when(column_named(name), COUNTERS.index(counter))
    return reason.otherwise(NO_REASON)


def is_read(reason: "Column") -> "Column":
    """Whether the text of a line with this reason is read: one that is not UTF-8 is bad, and has words all the same."""
    return reason.isin(NO_REASON, COUNTERS.index("invalid_utf8_lines"))


def with_reason_of_weight(reason: "Column", units: "Column") -> "Column":
    """The reason why a row is bad, which may be its weight."""
    bad = is_read(reason) & units.isNull()
    return F.when(bad, COUNTERS.index("bad_weight_lines")).otherwise(reason)


def exact_values(schema: T.StructType, names: Sequence[str]) -> list["Column"]:
    """The numbers of these columns with all of their digits, as far as they are doubles in CSV or JSON."""
    return [column_named(f"{EXACT}{name}") for name in names if f"{EXACT}{name}" in schema.names]
