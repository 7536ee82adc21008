"""How good vectors are: evaluate.py OUTPUT --pairs FILE... --analogies FILE... [--compare OTHER]. Needs no Spark.

With --fail-below it is the gate between training and publishing: another exit code when the vectors got worse.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from spark_w2v.analysis import evaluation, report
from spark_w2v.analysis.evaluation import RESTRICT, AnalogyIndex, Lines
from spark_w2v.analysis.evaluation_results import Analogies, Evaluation, NeighbourhoodDrift, Scores, Similarity
from spark_w2v.command_line import (
    EXIT_CODES,
    OUTPUT_HELP,
    USERS_MISTAKE,
    Parser,
    print_error,
    whole_number,
    with_exit_codes,
    without_passwords,
)
from spark_w2v.commands.evaluation_tables import print_analogies, print_drift, print_missing, print_pairs
from spark_w2v.errors import printable
from spark_w2v.runs.embeddings import center_digest, read
from spark_w2v.runs.ids import add_file, directory_of, holds_runs
from spark_w2v.runs.places import is_local, version_of

AMONG, SHOW = 10_000, 20
MOST = 10**9
WORSE = 3  # exit code

Result = TypeVar("Result", Similarity, Analogies)


@with_exit_codes
@without_passwords
def main(arguments: Sequence[str] | None = None, program: str = "evaluate.py") -> int:
    """0 when evaluated, 2 for a mistake, 3 below --fail-below, 75 when the storage refused the report."""
    options = _options(arguments, program)
    for file in (*options.pairs, *options.analogies):
        evaluation.check_file(Path(file))
    other = options.compare
    if options.fail_below is not None and holds_runs(other):
        print(f"{printable(other)} has no current run yet, so there is nothing to be worse than")
        other = None
    runs = [path for path in (options.output, other) if path is not None]
    outputs = [directory_of(path) for path in runs]
    version = version_of(outputs[0])
    target = None if options.json is None else report.target_of(options.json, report.EVALUATION, *outputs)
    if options.report:
        report.check_target(outputs[0] / report.NAME)
    spaces = [evaluation.space(read(output), options.restrict) for output in outputs]
    pairs = [_of_each(evaluation.similarity, Path(file), spaces) for file in options.pairs]
    analogies = [_of_each(evaluation.analogies, Path(file), spaces) for file in options.analogies]
    moves = (
        evaluation.neighbourhood_drift(spaces[0], spaces[1], among=options.among, show=SHOW)
        if len(spaces) == 2
        else None
    )
    for number, (path, space) in enumerate(zip(runs, spaces, strict=True)):
        place = f"{'other' if number else 'this'}: " if len(runs) == 2 else ""
        print(f"{place}{printable(path)}, {len(space.words):,} words of {space.units.shape[1]} dimensions")
    print_pairs(pairs)
    for questions in analogies:
        print_analogies(questions)
    by_run: list[list[Similarity | Analogies]] = [
        [*(found[number] for found in pairs), *(found[number] for found in analogies)] for number in range(len(runs))
    ]
    for result in by_run[0]:
        if result.bad_lines:
            print_error(program, f"{result.file}: lines of another layout, left out: {result.bad_lines:,}.")
    for run, results in zip(runs, by_run, strict=True):
        for result in results:
            if options.missing:
                print_missing(result, run if len(runs) == 2 else None)
            else:
                result.missing = []
    if moves:
        print_drift(moves)
    digests = [center_digest(output) for output in outputs]
    found = _results(runs, spaces, digests, pairs, analogies, moves, options.restrict)
    if target:
        text = json.dumps(msgspec.to_builtins(found), indent=1, allow_nan=False) + "\n"
        report.write(target, text, report.EVALUATION)
    if options.report:
        finished = report.finished(outputs[0])
        report.write_into(outputs[0], version, report.page(finished, found))
        if not is_local(options.output):
            add_file(options.output, outputs[0] / report.NAME)
    worse = (
        options.fail_below is not None and len(runs) == 2 and _gate([*pairs, *analogies], options.fail_below, program)
    )
    unusable = [sentence for result in by_run[0] if (sentence := _unusable(result))]
    for sentence in unusable:
        print_error(program, sentence)
    return worse or (USERS_MISTAKE if unusable else 0)


def _options(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = Parser(
        prog=program,
        description="Word similarity and analogies, as gensim evaluates them.",
        epilog=f"{EXIT_CODES} {WORSE} is of --fail-below: evaluated, and worse than the limit. 2 also "
        "says that nothing of a file could be used, after everything else is done.",
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
    parser.add_argument("--missing", action="store_true", help="list the words of each file that have no vector")
    parser.add_argument("--json", metavar="FILE", help="write the results there too; an earlier report is replaced")
    parser.add_argument("--report", action="store_true", help="make OUTPUT's report.html again, with the results in it")
    options = parser.parse_args(arguments)
    if not (options.pairs or options.analogies or options.compare):
        parser.error("nothing is asked; give --pairs FILE, --analogies FILE or --compare OTHER")
    if options.fail_below is not None and not (options.compare and (options.pairs or options.analogies)):
        parser.error("--fail-below needs --compare OTHER, and --pairs FILE or --analogies FILE to compare by")
    return options


def _of_each(
    score: Callable[[AnalogyIndex, Path, Lines | None], Result], path: Path, spaces: Sequence[AnalogyIndex]
) -> list[Result]:
    """The results of each run on a file, which is read once, as it may be a pipe."""
    lines = evaluation.read_lines(path) if len(spaces) > 1 else None
    return [score(space, path, lines) for space in spaces]


def _unusable(result: Similarity | Analogies) -> str | None:
    """A sentence on a set that says nothing of these vectors; None where it does."""
    total, used, what = (
        (result.pairs, result.used, "pairs has both words")
        if isinstance(result, Similarity)
        else (result.total.questions, result.total.used, "questions has all four words")
    )
    if used:
        return None
    return (
        f"{result.file}: none of its {total:,} {what} in the vocabulary, so it measures nothing; give a set in the "
        "language of the text, or lower vocabulary.min_count (--missing lists the words)."
    )


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a share above 0 and up to 1, such as 0.95")
    return number


def _gate(results: Sequence[Sequence[Similarity | Analogies]], share: float, program: str) -> int:
    """Say what is worse than allowed; the exit code."""
    worse = [line for this, other in results for line in evaluation.worse(this, other, share)]
    left_out = [line for this, other in results for line in evaluation.not_compared(this, other)]
    for line in [*worse, *left_out]:
        print_error(program, line)
    if not worse:
        print(f"\nno score {'that is compared ' if left_out else ''}is below {share:g} of the other's")
    return WORSE if worse else 0


def _named(result: Result) -> Result:
    """The same result of a file whose name is UTF-8, as JSON has to be."""
    return msgspec.structs.replace(result, file=result.file.encode("utf-8", "backslashreplace").decode())


def _results(
    runs: Sequence[str],
    spaces: Sequence[AnalogyIndex],
    digests: Sequence[str],
    pairs: Sequence[Sequence[Similarity]],
    analogies: Sequence[Sequence[Analogies]],
    moves: NeighbourhoodDrift | None,
    restrict: int,
) -> Evaluation:
    scores = [
        Scores(
            path, len(space.words), space.units.shape[1], [_named(found[number]) for found in pairs],
            [_named(found[number]) for found in analogies], digests[number],
        )
        for number, (path, space) in enumerate(zip(runs, spaces, strict=True))
    ]  # fmt: skip
    return Evaluation(restrict, scores[0], scores[1] if moves else None, moves)
