"""Print the words nearest to a word: neighbors.py OUTPUT WORD... [--top 10] [--analogy A B C]. Needs no Spark."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from spark_w2v.analysis.neighbors import analogy, closest_spellings, nearest, unit_vectors, word_id
from spark_w2v.command_line import (
    LARGEST_TOP,
    OUTPUT_HELP,
    USERS_MISTAKE,
    Parser,
    print_error,
    whole_number,
    with_exit_codes,
)
from spark_w2v.errors import printable
from spark_w2v.runs.embeddings import Embeddings, read
from spark_w2v.runs.ids import directory_of
from spark_w2v.text.messages import columns


@with_exit_codes
def main(arguments: Sequence[str] | None = None, program: str = "neighbors.py") -> int:
    """0 when something was found, 2 for a mistake."""
    parser = Parser(prog=program, description="The words nearest to a word, by the cosine of their vectors.")
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument("words", metavar="WORD", nargs="*", help="a word to find the neighbours of")
    parser.add_argument("--top", type=whole_number(LARGEST_TOP), default=10, metavar="N", help="how many to print (10)")
    parser.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="A is to B as C is to what?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    given = sys.argv[1:] if arguments is None else arguments
    # Words may come after options, too; argparse then takes a first -- for one of its own.
    options = parser.parse_args(given) if "--" in given else parser.parse_intermixed_args(given)
    if not options.words and not options.analogy:
        parser.error("no word is given; give one, or --analogy A B C")
    embeddings = read(directory_of(options.output))
    asked = [*options.words, *(options.analogy or ())]
    words = embeddings.words
    unknown = {word: closest_spellings(words, word) for word in dict.fromkeys(asked) if word_id(words, word) is None}
    for word, spellings in unknown.items():
        near = ", ".join(map(printable, spellings))
        close = f"close to it: {near}" if near else "nothing is close"
        print_error(program, f"{printable(word)} has no vector; {close}")
    answers = answer(embeddings, options.words, options.analogy, options.top)
    if options.json:
        print(json.dumps({"answers": answers, "unknown": unknown}))  # ASCII: whatever the encoding of stdout
    else:
        print_tables(answers)
    return 0 if answers else USERS_MISTAKE


def answer(
    embeddings: Embeddings, asked: Sequence[str], triple: Sequence[str] | None, top: int
) -> list[dict[str, Any]]:
    """Return what is known of the words, JSON-able.

    Args:
        asked: words whose neighbours are wanted; those without a vector have no answer.
        triple: A, B and C of an analogy.

    Returns:
        Per question the word and its count, or the analogy, and its neighbours, nearest first: word, cosine, count.
    """
    words, units = embeddings.words, unit_vectors(embeddings.vectors)

    def described(found: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
        return [
            {"word": words[row].as_py(), "cosine": round(cosine, 6), "count": int(embeddings.counts[row])}
            for row, cosine in found
        ]

    answers: list[dict[str, Any]] = []
    for word in asked:
        if (row := word_id(words, word)) is not None:
            near = described(nearest(units, units[row], [row], top))
            answers.append({"word": word, "count": int(embeddings.counts[row]), "neighbors": near})
    ids = [found for word in triple or () if (found := word_id(words, word)) is not None]
    if len(ids) == 3:
        near = described(analogy(units, ids[0], ids[1], ids[2], top))
        answers.append({"analogy": list(triple or ()), "neighbors": near})
    return answers


def print_tables(answers: Sequence[dict[str, Any]]) -> None:
    """Print answers for a person to read."""
    for number, found in enumerate(answers):
        if "analogy" in found:
            a, b, c = map(printable, found["analogy"])
            title = f"{a} is to {b} as {c} is to"
        else:
            title = f"{printable(found['word'])} ({found['count']:,} times)"
        print(("\n" if number else "") + title)
        rows = [(printable(near["word"]), near["cosine"], near["count"]) for near in found["neighbors"]]
        width = max((columns(word) for word, _, _ in rows), default=0)
        digits = max((len(f"{count:,}") for _, _, count in rows), default=0)
        for word, cosine, count in rows:
            print(f"  {word}{' ' * (width - columns(word))}  {cosine:6.3f}  {count:>{digits},}")
