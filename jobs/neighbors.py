"""Print the words nearest to a word: neighbors.py OUTPUT WORD... [--top 10] [--analogy A B C]. Needs no Spark."""

import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa

from spark_w2v.analysis.neighbors import analogy, closest_spellings, nearest, unit_vectors, word_id
from spark_w2v.command_line import (
    OUTPUT_HELP,
    USERS_MISTAKE,
    Parser,
    columns,
    leave,
    print_error,
    printable,
    whole_number,
    with_exit_codes,
)
from spark_w2v.runs.embeddings import Embeddings, read
from spark_w2v.runs.ids import directory_of

PROGRAM = "neighbors.py"
LARGEST_TOP = 10_000


@with_exit_codes(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when something was found, 2 for a mistake."""
    parser = Parser(prog=PROGRAM, description="The words nearest to a word, by the cosine of their vectors.")
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument("words", metavar="WORD", nargs="*", help="a word to find the neighbours of")
    parser.add_argument("--top", type=whole_number(LARGEST_TOP), default=10, metavar="N", help="how many to print (10)")
    parser.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="A is to B as C is to what?")
    options = parser.parse_args(arguments)
    if not options.words and not options.analogy:
        parser.error("no word is given; give one, or --analogy A B C")
    embeddings = read(directory_of(options.output))
    return 0 if answer(embeddings, options.words, options.analogy, options.top) else USERS_MISTAKE


def answer(embeddings: Embeddings, asked: Sequence[str], triple: Sequence[str] | None, top: int) -> bool:
    """Print what is known of the words; whether that was anything."""
    words = embeddings.words
    known = {word: word_id(words, word) for word in [*asked, *(triple or ())]}
    for word in (word for word, found in known.items() if found is None):
        spellings = ", ".join(map(printable, closest_spellings(words, word)))
        print_error(
            PROGRAM,
            f"{printable(word)} has no vector; " + (f"close to it: {spellings}" if spellings else "nothing is close"),
        )
    units = unit_vectors(embeddings.vectors)
    tables = []
    for word in asked:
        if (found := known[word]) is not None:
            title = f"{printable(word)} ({embeddings.counts[found]:,} times)"
            tables.append((title, nearest(units, units[found], [found], top)))
    if triple:
        ids = [found for word in triple if (found := known[word]) is not None]
        if len(ids) == 3:
            a, b, c = map(printable, triple)
            tables.append((f"{a} is to {b} as {c} is to", analogy(units, ids[0], ids[1], ids[2], top)))
    for number, (title, rows) in enumerate(tables):
        print(("\n" if number else "") + title)
        print_rows(words, [(row, cosine, int(embeddings.counts[row])) for row, cosine in rows])
    return bool(tables)


def print_rows(words: pa.StringArray, rows: Sequence[tuple[int, float, int]]) -> None:
    texts = [printable(words[row].as_py()) for row, _, _ in rows]
    width = max(map(columns, texts), default=0)
    digits = max((len(f"{count:,}") for _, _, count in rows), default=0)
    for text, (_, cosine, count) in zip(texts, rows, strict=True):
        print(f"  {text}{' ' * (width - columns(text))}  {cosine:6.3f}  {count:>{digits},}")


if __name__ == "__main__":
    leave(main)
