"""Messages to the user about lines that cannot be read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from spark_w2v.errors import UserError
from spark_w2v.text.counters import BAD_LINES
from spark_w2v.text.messages import counted, name_hint, path_text

if TYPE_CHECKING:
    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus


# In JSON, one half of a character beyond 16 bits without the other one; not the end of an excerpt, nor a \ and a u.
FIRST_HALF, SECOND_HALF = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
HALF = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:(?P<first>%b)(?!%b|\\?(?:u[dD]?[c-fC-F]?[0-9a-fA-F]?)?$)|(?<!%b)(?P<second>%b))"
    % (FIRST_HALF, SECOND_HALF, FIRST_HALF, SECOND_HALF)
)


class BadLine(NamedTuple):
    """A line that could not be read, or not as it is."""

    file: str
    line: int | None  # from 1; None where it is not known
    beginning: bytes

    def __str__(self) -> str:
        return path_text(self.file) if self.line is None else f"{path_text(self.file)}:{self.line}"


def check_counters(
    counters: dict[str, int], corpus_config: "Corpus", bad_lines: Mapping[str, Sequence[BadLine]] | None = None
) -> None:
    """Refuse a corpus of which too much could not be read, or which has no words for a reason that can be named.

    Args:
        bad_lines: the first ones, by what is wrong with them.

    Raises:
        UserError: no line has the column, no row a group, or more bad lines than corpus.max_bad_fraction.
    """
    lines, bad_lines, are_events = counters["lines"], bad_lines or {}, bool(corpus_config.group_by)
    bad = {name: counters[name] for name in BAD_LINES if counters[name]}
    total = sum(bad.values())
    if are_events:  # a line is a group there, or a bad row
        lines = counters["words"] + counters["long_words"] + counters["null_words"] + total
        if counters["missing_lines"] == lines > 0:
            raise UserError(
                f'corpus.group_by: "{corpus_config.group_by}" is null in all {lines:,} rows; give other columns.'
            )
    elif lines and corpus_config.format == "jsonl" and counters["missing_lines"] == lines - counters["blank_lines"] > 0:
        names = _field_names(bad_lines.get("missing_lines", ()))
        hint = name_hint(corpus_config.column, names) if names else "give the name of the field that holds the text."
        hint = hint.replace("it has", "they have")
        raise UserError(f'corpus.column: none of {lines:,} lines has a field "{corpus_config.column}"; {hint}')
    if corpus_config.where:
        # Of rows that the condition leaves out nobody knows the number, and lines that are no rows are of all of them.
        unread = bad.pop("malformed_lines", 0)
        lines, total = lines - unread, total - unread
        if not lines:
            raise UserError(
                f"corpus.where: no row meets the condition '{corpus_config.where}'"
                + (f", and {counted(unread, 'line')} cannot be read as rows" if unread else "")
                + "; change it, or wait until such rows are there."
            )
    if total > corpus_config.max_bad_fraction * lines:
        reasons = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in bad.items())
        named = {name: ", ".join(map(str, bad_lines[name])) for name in bad if bad_lines.get(name)}
        first = "; ".join(f"{name.replace('_', ' ')}: {places}" for name, places in named.items())
        if len(named) == len(bad) == 1:
            first = "".join(named.values())
        hints = [hint for name in bad for hint in _hints(name, bad_lines.get(name, ()), corpus_config)]
        raise UserError(
            f"{total:,} of {lines:,} {'rows' if are_events else 'lines'} are bad ({reasons}), {total / lines:.1%}; "
            + (f"the first are {first}; " if first else "")
            + "".join(f"{hint}; " for hint in hints)
            + f"fix the input, or raise corpus.max_bad_fraction ({corpus_config.max_bad_fraction:g})."
        )
    if not counters["words"]:
        _refuse_wordless(counters, corpus_config)


def _refuse_wordless(counters: dict[str, int], corpus_config: "Corpus") -> None:
    """Refuse a corpus without words, where the configuration is the reason."""
    if counters["long_words"]:
        raise UserError(
            f"the corpus has no words: all {counters['long_words']:,} are longer than corpus.max_word_length "
            f"({corpus_config.max_word_length:,}); raise it, or check corpus.tokenizer."
        )
    if counters["wordless_lines"] and corpus_config.tokenizer == "regex":
        hint = ", which is lower-cased before; for a pattern of upper-case letters set corpus.lower_case to false"
        raise UserError(
            f"the corpus has no words: corpus.pattern '{corpus_config.pattern}' matches nothing in "
            f"{counters['wordless_lines']:,} lines of text{hint if corpus_config.lower_case else ''}."
        )


def _field_names(bad_lines: Sequence[BadLine]) -> list[str]:
    """Names of the fields of JSON lines that do not have the field asked for."""
    names = (name for bad in bad_lines for name in bad.beginning.decode(errors="replace").split("\n"))
    return list(dict.fromkeys(name for name in names if name))


def _hints(name: str, bad_lines: Sequence[BadLine], corpus_config: "Corpus") -> Iterator[str]:
    """The probable cause of a kind of bad lines, and what to do."""
    column = corpus_config.column
    for bad in bad_lines[:1]:
        match name:
            case "invalid_utf8_lines":
                yield _encoding_hint(bad.beginning)
            case "binary_lines":
                zeros = bad.beginning.count(0) / max(len(bad.beginning), 1)
                if zeros > 0.3:
                    width = 16 if zeros < 0.6 else 32
                    yield f"the text looks like UTF-{width}, convert it (iconv -f UTF-{width} -t UTF-8)"
            case "malformed_lines":
                file, start = path_text(bad.file), bad.beginning.removeprefix(b"\xef\xbb\xbf").strip()
                if start.startswith(b"["):
                    yield f"{file} is one JSON array, not one object per line (jq -c '.[]' makes it so)"
                elif start == b"{":
                    yield f"{file} has objects of several lines, not one per line (jq -c . makes it so)"
                elif half := HALF.search(start):
                    cut = (half["first"] or half["second"]).decode()
                    yield f"{file} has {cut}, half of a character, which another program cut in two"
            case "wrong_type_lines" if corpus_config.tokenizer == "none":
                yield f'the field "{column}" is not always an array of strings or numbers'
            case "wrong_type_lines":
                is_array = re.search(rb'"%s"\s*:\s*\[' % re.escape(column.encode()), bad.beginning)
                change = '; for ready-made words set corpus.tokenizer to "none"' if is_array else ""
                yield f'the field "{column}" is not always a string{change}'
            case "missing_lines":
                if names := _field_names(bad_lines):
                    yield f'without the field "{column}", {name_hint(column, names).rstrip(".?")}'


def _encoding_hint(line: bytes) -> str:
    """The encoding that a line that is not UTF-8 seems to have."""
    line = line.replace("\ufffd".encode(), b"\xff")  # of CSV, where Spark's reader has replaced each bad byte
    text = line.decode(errors="replace")
    high = sum(byte >= 0x80 for byte in line)
    if sum(character >= "\x80" for character in text.replace("\ufffd", "")) > text.count("\ufffd"):
        return "the text is UTF-8 with damaged characters"
    # Letters with accents stand alone among others; in Cyrillic, Greek, Chinese, ... most bytes are of this kind.
    if high <= 0.3 * len(line):
        return "the text looks like Latin-1 or Windows-1252, convert it (iconv -f WINDOWS-1252 -t UTF-8)"
    return "the text has another encoding, such as Windows-1251, GB18030 or Shift-JIS, convert it (iconv -t UTF-8)"
