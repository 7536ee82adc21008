"""Values, types and ranges in words, for messages and for the reference."""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from spark_w2v.config.text_sections import LARGEST_INT
from spark_w2v.errors import cut


def is_kind(value: Any, kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case msgspec.inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case msgspec.inspect.BoolType():
            return isinstance(value, bool)
        case _:
            return isinstance(value, str)


def kind_required(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.IntType():
            return "a whole number"
        case msgspec.inspect.FloatType():
            return "a number"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType(values=values):
            *first, last = [f'"{value}"' for value in values]
            return f"{', '.join(first)} or {last}" if first else last
        case msgspec.inspect.StrType(min_length=1, max_length=int(most)):
            return f"a string of 1 to {most} characters"
        case msgspec.inspect.StrType(min_length=1):
            return "a string that is not empty"
        case _:
            return "a string"


def bounds(kind: msgspec.inspect.Type) -> tuple[str, str]:
    """Return the lower and the upper end of a range in words; empty where there is no range."""
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return "", ""
    lower = f"at least {_number(kind.ge)}" if kind.ge is not None else f"greater than {_number(kind.gt)}"
    upper = f"at most {_number(kind.le)}" if kind.le is not None else f"less than {_number(kind.lt)}"
    return lower, upper


def _number(value: float | None) -> str:
    assert value is not None, "a number in the configuration has a range"
    return str(int(value)) if value == int(value) else str(value)


def range_of(kind: msgspec.inspect.Type) -> str:
    lower, upper = bounds(kind)
    # An upper end that only the machine's integers set tells a reader nothing.
    endless = isinstance(kind, msgspec.inspect.IntType) and kind.le is not None and kind.le >= LARGEST_INT
    return " and ".join(filter(None, [lower, "" if endless else upper]))


def limit_of(value: float, kind: msgspec.inspect.Type) -> tuple[str, str]:
    """Return which end of the range a number is beyond, and that end in words."""
    assert isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    lower, upper = bounds(kind)
    below = (kind.ge is not None and value < kind.ge) or (kind.gt is not None and value <= kind.gt)
    return ("too_small", lower) if below else ("too_large", upper)


def kind_of(value: Any) -> str:
    match value:
        case bool():
            return "a boolean"
        case int():
            return "a whole number"
        case float():
            return "a number with a decimal point"
        case str():
            return "a string"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case datetime.date() | datetime.time():
            return "a date or a time"
        case None:
            return "no value"
        case _:
            return f"a {type(value).__name__}"


def as_toml(value: Any) -> str:
    """A value as TOML writes it, on one line and cut to a readable length."""
    match value:
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 256:  # Python refuses to print integers of more than 4,300 digits
            return "a number of more than 77 digits"
        case int() | float() | datetime.date() | datetime.time():
            return str(value)
        case str():
            return f'"{cut(value)}"'
        case Mapping():
            return "{...}" if value else "{}"
        case list() | tuple():
            return "[...]" if value else "[]"
        case None:
            return "null"
        case _:
            return cut(repr(value))
