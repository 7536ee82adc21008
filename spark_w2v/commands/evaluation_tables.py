"""The results of an evaluation as tables in a terminal."""

from collections.abc import Sequence
from pathlib import Path

from spark_w2v.analysis.evaluation_results import Analogies, NeighbourhoodDrift, Section, Similarity
from spark_w2v.errors import printable
from spark_w2v.text.messages import columns

MOST_SHOWN = 50  # words


def print_pairs(results: Sequence[Sequence[Similarity]]) -> None:
    if not results:
        return
    rows = [
        [
            "word similarity",
            "pairs",
            *_both("used", results[0]),
            *_both("Spearman", results[0]),
            *_both("Pearson", results[0]),
        ]
    ]
    for runs in results:
        rows.append(
            [Path(runs[0].file).name, f"{runs[0].pairs:,}", *(f"{run.used:,}" for run in runs)]
            + [_number(run.spearman) for run in runs]
            + [_number(run.pearson) for run in runs]
        )
    print_table(rows)


def print_analogies(runs: Sequence[Analogies]) -> None:
    rows = [
        [Path(runs[0].file).name, "questions", *_both("used", runs), *_both("3CosAdd", runs), *_both("3CosMul", runs)]
    ]
    lines: list[tuple[Section, ...]] = [
        *zip(*(run.sections for run in runs), strict=True),
        tuple(r.total for r in runs),
    ]
    for sections in lines:
        rows.append(
            [sections[0].section, f"{sections[0].questions:,}", *(f"{section.used:,}" for section in sections)]
            + [_number(section.add) for section in sections]
            + [_number(section.mul) for section in sections]
        )
    print_table(rows)


def print_drift(moves: NeighbourhoodDrift) -> None:
    print(
        f"\n{moves.common_words:,} words in both, {moves.only_here:,} in this one only, "
        f"{moves.only_there:,} in the other only"
    )
    if moves.mean_shared is None:
        return
    print(
        f"Of {moves.near} nearest words, {moves.mean_shared:.1f} are the same in both on average, "
        f"among {moves.among:,} words."
    )
    if moves.moved:
        print("Moved most:")
    for move in moves.moved:
        print(f"  {printable(move.word)}, {move.shared} the same")
        print(f"    this:  {', '.join(map(printable, move.here))}")
        print(f"    other: {', '.join(map(printable, move.there))}")


def print_missing(result: Similarity | Analogies, run: str | None) -> None:
    """Print the words of a set that have no vector, MOST_SHOWN of them.

    Args:
        run: whose vectors, where there are two.
    """
    shown = ", ".join(map(printable, result.missing[:MOST_SHOWN])) or "none"
    of_run = "" if run is None else f" in {printable(run)}"
    more = f" and {len(result.missing) - MOST_SHOWN:,} more" if len(result.missing) > MOST_SHOWN else ""
    print(f"\n{printable(Path(result.file).name)}: words without a vector{of_run}: {shown}{more}")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*texts, strict=True)]
    print()
    for first, *others in texts:
        print("  ".join([first + " " * (widths[0] - columns(first)), *map(str.rjust, others, widths[1:])]).rstrip())


def _both(name: str, runs: Sequence[object]) -> list[str]:
    return [name, "other"][: len(runs)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
