"""Parts of the messages to the user that several modules need."""

import difflib
import re
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from spark_w2v.errors import cut, printable

MOST_SHOWN = 5  # names in a message, and of each reason in run.json


def path_text(path: str) -> str:
    """Return a path of Spark's as a user writes it."""
    return unquote(re.sub("^file:/+", "/", path))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 file, 2 files.

    Args:
        noun: in the singular, of a plural with s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def columns(text: str) -> int:
    """Return how wide a terminal draws a text."""
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me") else
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def some(names: Sequence[str], most: int = MOST_SHOWN, shown: Callable[[str], str] = str) -> str:
    """The first few of many names, without control characters."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return printable(", ".join(map(shown, names[:most]))) + more


def some_words(words: Sequence[str], most: int = MOST_SHOWN) -> str:
    """The first few of many words, which may be of any length."""
    return some(words, most, cut)


def name_hint(name: str, names: Sequence[str]) -> str:
    """Return the name that was probably meant, or else the names that there are."""
    if not names:
        return "it has none."
    same = [other for other in names if other.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"it has {some(names)}."
