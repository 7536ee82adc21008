"""Print the words nearest to a word: neighbors.py OUTPUT WORD... [--top 10] [--analogy A B C]. Needs no Spark."""

import argparse
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa

from spark_w2v.stages.embeddings import Embeddings, OutputError, read
from spark_w2v.stages.neighbors import analogy, closest_spellings, nearest, unit_vectors, word_id
from spark_w2v.stages.publication import UserError, is_local, local_path

LARGEST_TOP = 10_000


class Parser(argparse.ArgumentParser):
    """Says of a mistake one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; --help shows the usage")
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when something was found, 2 for a mistake."""
    parser = Parser(prog="neighbors.py", description="The words nearest to a word, by the cosine of their vectors.")
    parser.add_argument("output", metavar="OUTPUT", help="the output of a finished run of jobs/train.py")
    parser.add_argument("words", metavar="WORD", nargs="*", help="a word to find the neighbours of")
    parser.add_argument("--top", type=whole_number, default=10, metavar="N", help="how many to print (10)")
    parser.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="A is to B as C is to what?")
    options = parser.parse_args(arguments)
    if not options.words and not options.analogy:
        parser.error("no word is given; give one, or --analogy A B C")
    try:
        if not is_local(options.output):
            raise OutputError(f"{options.output}: is not on this host; copy it here, or mount it.")
        embeddings = read(local_path(options.output))
    except (OutputError, UserError) as error:
        complain(str(error))
        return 2
    return 0 if answer(embeddings, options.words, options.analogy, options.top) else 2


def answer(embeddings: Embeddings, asked: Sequence[str], triple: Sequence[str] | None, top: int) -> bool:
    """Print what is known of the words; whether that was anything."""
    words = embeddings.words
    known = {word: word_id(words, word) for word in [*asked, *(triple or ())]}
    for word in (word for word, found in known.items() if found is None):
        spellings = ", ".join(map(shown, closest_spellings(words, word)))
        complain(f"{shown(word)} has no vector; " + (f"close to it: {spellings}" if spellings else "nothing is close"))
    units = unit_vectors(embeddings.vectors)
    tables = []
    for word in asked:
        if (found := known[word]) is not None:
            title = f"{shown(word)} ({embeddings.counts[found]:,} times)"
            tables.append((title, nearest(units, units[found], [found], top)))
    if triple:
        ids = [found for word in triple if (found := known[word]) is not None]
        if len(ids) == 3:
            a, b, c = map(shown, triple)
            tables.append((f"{a} is to {b} as {c} is to", analogy(units, ids[0], ids[1], ids[2], top)))
    for number, (title, rows) in enumerate(tables):
        print(("\n" if number else "") + title)
        print_rows(words, [(row, cosine, int(embeddings.counts[row])) for row, cosine in rows])
    return bool(tables)


def print_rows(words: pa.StringArray, rows: Sequence[tuple[int, float, int]]) -> None:
    texts = [shown(words[row].as_py()) for row, _, _ in rows]
    width = max(map(columns, texts), default=0)
    digits = max((len(f"{count:,}") for _, _, count in rows), default=0)
    for text, (_, cosine, count) in zip(texts, rows, strict=True):
        print(f"  {text}{' ' * (width - columns(text))}  {cosine:6.3f}  {count:>{digits},}")


def columns(text: str) -> int:
    """How wide a terminal draws a text."""
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me") else
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def shown(word: str) -> str:
    """A word without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in word)


def complain(sentence: str) -> None:
    print(f"neighbors.py: {shown(sentence)}", file=sys.stderr)


def whole_number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= LARGEST_TOP:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a whole number from 1 to {LARGEST_TOP:,}")
    return number


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would complain again when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
