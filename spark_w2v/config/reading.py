"""Reading a configuration from a TOML file, from overrides or from a dictionary."""

import re
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from spark_w2v.config.checking import Given, check, keys_named, refuse_key, refuse_section
from spark_w2v.config.keys import KEYS, SECTIONS, Key
from spark_w2v.config.paths import with_home
from spark_w2v.config.sections import Config
from spark_w2v.config.wording import as_toml, kind_of
from spark_w2v.errors import UserError, cut

# A configuration has some 2 kB. A corpus given in its place, or /dev/zero, is refused before it fills the memory.
LARGEST_FILE = 1 << 20  # bytes


def load(path: str | Path | None, overrides: Sequence[str] = (), uses: Collection[str] = ()) -> Config:
    """Read a configuration; what is not given keeps its default.

    Args:
        path: a TOML file; None for the defaults.
        overrides: `section.key=value`; each wins over the file, and the last one over those before it. A value is
            written as in TOML, but a string needs no quotes; white space around it is dropped.
        uses: paths of keys that are not refused where other keys take their effect away.

    Raises:
        UserError: one sentence on the first mistake found.
    """
    return from_dict({} if path is None else _read_toml(str(path)), str(path), overrides, uses)


def from_dict(
    tables: Any, place: str = "configuration", overrides: Sequence[str] = (), uses: Collection[str] = ()
) -> Config:
    """The configuration that `as_dict` wrote, checked like a file; `place` is what an error calls it.

    Args:
        overrides, uses: as of `load`.
    """
    given = _given_in_tables(tables, place)
    for override in overrides:
        given |= _given_in_override(override)
    return check(given, uses)


def as_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Every key by section, defaults included, in types that JSON has."""
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(config)
    return tables


def _read_toml(place: str) -> dict[str, Any]:
    try:
        with open(with_home(place), "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UserError(f"{place}: no such file; give a TOML file, such as conf/local.toml.") from None
    except IsADirectoryError:
        raise UserError(f"{place}: is a directory; give a TOML file, such as conf/local.toml.") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); give a readable TOML file.") from None
    except ValueError as error:  # a path with a NUL or a lone surrogate in it
        raise UserError(f"{place}: is not a path ({error}); give a TOML file, such as conf/local.toml.") from None
    if len(content) > LARGEST_FILE:
        raise UserError(
            f"{place}: is larger than 1 MiB, so no configuration; give a TOML file, such as conf/local.toml.",
        )
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a byte-order mark first
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{place}: line {line} is not UTF-8; save the file as UTF-8 text.") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{place}: is nested too deep; a configuration has sections and keys, no more.") from None
    except ValueError as error:  # TOMLDecodeError, or Python's on a number of more than 4,300 digits
        _refuse_toml(place, text, str(error))


def _refuse_toml(place: str, text: str, message: str) -> NoReturn:
    lines = text.split("\n")
    problem, at, position = message.partition(" (at ")
    match = re.match(r"line (\d+),", position)
    if match:
        number = int(match[1])
    elif at:  # "at end of document": the last line with something on it
        number = max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
    else:
        raise UserError(f"{place}: is not TOML: {message}.")
    problem = problem[:1].lower() + problem[1:]
    hint = {
        "invalid value": '; strings need quotes, as in scheme = "auto"',
        "cannot overwrite a value": "; a key may be given once",
    }.get(problem, "; a section may be given once" if problem.endswith("twice") else "")
    line = lines[number - 1].strip() if number <= len(lines) else ""
    raise UserError(f"{place}: line {number}, {as_toml(line)}, is not TOML: {problem}{hint}.")


def _given_in_tables(tables: Any, place: str) -> dict[str, Given]:
    if not isinstance(tables, Mapping):  # JSON that something else wrote
        raise UserError(f"{place}: is {kind_of(tables)}; it must be a table of sections.")
    given: dict[str, Given] = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            refuse_section(str(section), table, place)  # a dict of Python may have anything for a name
        if not isinstance(table, Mapping):
            raise UserError(
                f"{place}: {section} = {as_toml(table)} is {kind_of(table)}; it must be a section, [{section}].",
            )
        for name, value in table.items():
            path = f"{section}.{name}"
            if path not in KEYS:
                refuse_key(path, place)
            given[path] = Given(_plain(value), place, is_override=False)
    return given


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy as the number or the string of Python that it is, and all else as it is."""
    numpy = sys.modules.get("numpy")  # whoever has such a value has loaded it; a configuration does not need it
    if numpy is None or not isinstance(value, numpy.generic) or isinstance(value, numpy.timedelta64):
        return value
    if isinstance(value, numpy.floating):
        return float(value)  # item() leaves a long double as it is
    return value.item() if isinstance(value, numpy.integer | numpy.bool_ | numpy.str_) else value


def _given_in_override(override: str) -> dict[str, Given]:
    place = f"--set {override[:100]}"
    path, equals, text = override.partition("=")
    path, text = path.strip(), text.strip()
    if not equals:
        example = f"{path}={as_toml(KEYS[path].default)}" if path in KEYS else "training.epochs=3"
        raise UserError(f"{place}: has no value; it must be section.key=value, as in {example}.")
    if "." not in path:
        owner = keys_named(path)
        hint = f"did you mean {owner}?" if owner else "it must be section.key=value, as in training.epochs=3."
        raise UserError(f"{place}: has no section; {hint}")
    if path not in KEYS:
        section, _, name = path.partition(".")
        if section in SECTIONS:
            refuse_key(path, place)
        refuse_section(section, {name: text}, place)
    return {path: Given(_override_value(text, KEYS[path], place), place, is_override=True)}


def _override_value(text: str, key: Key, place: str) -> Any:
    if not key.is_text and re.fullmatch(r"[+-]?\.\d[\d_]*([eE][+-]?\d+)?", text):
        text = text.replace(".", "0.", 1)  # as everybody writes .01, and TOML does not
    try:
        tables = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        _refuse_quotes(text, place)
        return text
    if list(tables) != ["value"]:  # a line end in the text, and a second key after it
        return text
    value = tables["value"]
    return text if key.is_text and not isinstance(value, str) else value


def _refuse_quotes(text: str, place: str) -> None:
    """Refuse one string in quotes that TOML does not know, as its quotes would be part of the value.

    Text that has more than that is meant as it is: the pattern "a"|b, or '?[a-z]+ for words that may begin with one.
    """
    quote = text[:1]
    if quote not in ("'", '"') or text.count(quote) != 2 or not text.endswith(quote):
        return
    inner = text.strip(quote)
    example = f"'{cut(inner)}'" if inner and "'" not in inner else "'...'"
    raise UserError(
        f"{place}: is in quotes and is not a string of TOML; write the value in single quotes, between which a "
        f"backslash stands for itself ({example}), or without quotes."
    )
