"""How good vectors are: evaluate.py OUTPUT --pairs FILE... --analogies FILE... [--compare OTHER]. Needs no Spark.

With --fail-below it is the gate between training and publishing: another exit code when the vectors got worse.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spark_w2v.analysis import evaluation, report
from spark_w2v.analysis.evaluation import RESTRICT, AnalogyIndex
from spark_w2v.analysis.evaluation_results import (
    Analogies,
    Evaluation,
    NeighbourhoodDrift,
    Scores,
    Section,
    Similarity,
)
from spark_w2v.command_line import (
    EXIT_CODES,
    OUTPUT_HELP,
    Parser,
    columns,
    leave,
    print_error,
    printable,
    whole_number,
    with_exit_codes,
)
from spark_w2v.runs.embeddings import read
from spark_w2v.runs.ids import add_file, directory_of, holds_runs
from spark_w2v.runs.places import is_local

PROGRAM = "evaluate.py"
AMONG, SHOW = 10_000, 20
MOST = 10**9
WORSE = 3  # exit code


@with_exit_codes(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when evaluated, 2 for a mistake, 3 below --fail-below, 75 when the storage refused the report."""
    parser = Parser(
        prog=PROGRAM,
        description="Word similarity and analogies, as gensim evaluates them.",
        epilog=f"{EXIT_CODES} {WORSE} is of --fail-below: evaluated, and worse than the limit.",
    )
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument(
        "--pairs", nargs="+", action="extend", default=[], metavar="FILE",
        help="word similarity, laid out as WordSim-353, SimLex-999 or MEN",
    )  # fmt: skip
    parser.add_argument(
        "--analogies", nargs="+", action="extend", default=[], metavar="FILE",
        help="analogies, laid out as questions-words.txt",
    )  # fmt: skip
    parser.add_argument(
        "--restrict", type=whole_number(MOST), default=RESTRICT, metavar="N",
        help=f"ask for and answer with the N most frequent words only ({RESTRICT:,})",
    )  # fmt: skip
    parser.add_argument("--compare", metavar="OTHER", help="the output of another run, for a second column")
    parser.add_argument(
        "--among", type=whole_number(MOST), default=AMONG, metavar="N",
        help=f"with --compare: look at the neighbourhoods of the N most frequent words of both ({AMONG:,})",
    )  # fmt: skip
    parser.add_argument(
        "--fail-below", type=_share, metavar="SHARE",
        help=f"with --compare: exit code {WORSE} when a score, or how much could be answered, is below this share of "
        "the other's, as in 0.95; a directory of runs that has no current one yet is nothing to be worse than",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the results there too; an earlier report is replaced")
    parser.add_argument("--report", action="store_true", help="make OUTPUT's report.html again, with the results in it")
    options = parser.parse_args(arguments)
    if not (options.pairs or options.analogies or options.compare):
        parser.error("nothing is asked; give --pairs FILE, --analogies FILE or --compare OTHER")
    if options.fail_below is not None and not (options.compare and (options.pairs or options.analogies)):
        parser.error("--fail-below needs --compare OTHER, and --pairs FILE or --analogies FILE to compare by")
    other = options.compare
    if options.fail_below is not None and holds_runs(other):
        print(f"{printable(other)} has no current run yet, so there is nothing to be worse than")
        other = None
    runs = [path for path in (options.output, other) if path is not None]
    outputs = [directory_of(path) for path in runs]
    target = None if options.json is None else report.target_of(options.json, *outputs)
    spaces = [evaluation.space(read(output), options.restrict) for output in outputs]
    pairs = [[evaluation.similarity(space, Path(file)) for space in spaces] for file in options.pairs]
    analogies = [[evaluation.analogies(space, Path(file)) for space in spaces] for file in options.analogies]
    moves = (
        evaluation.neighbourhood_drift(spaces[0], spaces[1], among=options.among, show=SHOW)
        if len(spaces) == 2
        else None
    )
    for number, (path, space) in enumerate(zip(runs, spaces, strict=True)):
        place = f"{'other' if number else 'this'}: " if len(runs) == 2 else ""
        print(f"{place}{printable(path)}, {len(space.words):,} words of {space.units.shape[1]} dimensions")
    print_pairs(pairs)
    for results in analogies:
        print_analogies(results)
    if moves:
        print_moves(moves)
    found = _results(runs, spaces, pairs, analogies, moves, options.restrict)
    if target:
        report.write(target, json.dumps(msgspec.to_builtins(found), indent=1, allow_nan=False) + "\n")
    if options.report:
        run = report.finished(outputs[0])
        report.write(outputs[0] / report.NAME, report.page(run, found))
        if not is_local(options.output):
            add_file(options.output, outputs[0] / report.NAME)
    if options.fail_below is not None and len(runs) == 2:
        return _gate([*pairs, *analogies], options.fail_below)
    return 0


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a share above 0 and up to 1, such as 0.95")
    return number


def _gate(results: Sequence[Sequence[Similarity | Analogies]], share: float) -> int:
    """Say what is worse than allowed; the exit code."""
    worse = [line for this, other in results for line in evaluation.worse(this, other, share)]
    for line in worse:
        print_error(PROGRAM, line)
    if not worse:
        print(f"\nno score is below {share:g} of the other's")
    return WORSE if worse else 0


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
    for run, *_ in results:
        print_bad_lines(run)


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
    print_bad_lines(runs[0])


def print_moves(moves: NeighbourhoodDrift) -> None:
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


def print_bad_lines(result: Similarity | Analogies) -> None:
    if result.bad_lines:
        print_error(PROGRAM, f"{result.file}: lines of another layout, left out: {result.bad_lines:,}.")


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


def _results(
    runs: Sequence[str],
    spaces: Sequence[AnalogyIndex],
    pairs: Sequence[Sequence[Similarity]],
    analogies: Sequence[Sequence[Analogies]],
    moves: NeighbourhoodDrift | None,
    restrict: int,
) -> Evaluation:
    scores = [
        Scores(
            path, len(space.words), space.units.shape[1], [found[number] for found in pairs],
            [found[number] for found in analogies],
        )
        for number, (path, space) in enumerate(zip(runs, spaces, strict=True))
    ]  # fmt: skip
    return Evaluation(restrict, scores[0], scores[1] if moves else None, moves)


if __name__ == "__main__":
    leave(main)
