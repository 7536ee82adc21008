"""Ours next to MLlib on a cluster, and next to itself on one machine: python -m bench.cluster.

The cluster is Spark's standalone one: a master and two workers of one core, processes of their own on loopback. The
text is synthetic (bench.synthetic), one epoch of ours against one iteration of MLlib. Runs are interleaved, and every
ratio is taken within a round.

V words of the vocabulary, D dimensions, B blocks of ours or partitions of MLlib's.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import measure, page
from bench.scale_tables import table
from bench.standalone import Cluster, environment
from bench.synthetic import write_text, zipf_counts
from bench.systems import DIMENSIONS, Facts, facts, mllib_command, train_command

OUTPUT = measure.ROOT / "build" / "bench"
DOCUMENT = measure.ROOT / "docs" / "bench.md"
COMMAND = "python -m bench.cluster"
CORES = 2
EXECUTOR_MEMORY, WORKER_MEMORY = "3g", "4g"
TAIL = 3000  # characters that a failed run may say


class Size(NamedTuple):
    """Words of the short text and of the long one, the two vocabularies, and blocks where they are many."""

    words: int
    long: int
    small: int
    large: int
    many: int


FULL = Size(4_000_000, 16_000_000, 50_000, 200_000, 32)
QUICK = Size(100_000, 200_000, 1_000, 4_000, 4)


class Case(NamedTuple):
    """A row of the table: a system on the cluster or on one machine, with as many cores."""

    system: str  # "ours" or "mllib"
    place: str  # "cluster" or "local"
    words: int
    vocabulary: int
    blocks: int

    def __str__(self) -> str:
        system = "ours" if self.system == "ours" else "MLlib"
        parts = "blocks" if self.system == "ours" else "partitions"
        text = f"{self.words / 1e6:g} M words, V {self.vocabulary:,}"
        return f"{system}, {self.place}, {text}, {self.blocks} {parts}"


class Goal(NamedTuple):
    """Two rows to compare: seconds of `value` of the one are to be at most, or at least, so many times the other's."""

    about: str
    value: str
    over: Case
    under: Case
    bound: float
    at_least: bool = False


def goals_of(size: Size) -> list[Goal]:
    """Goals that the figures have to meet; the cases are theirs."""
    w, small, large = size.words, size.small, size.large
    # In this order, so that the two runs of a ratio are next to each other, or nearly so.
    goals = [
        Goal(f"cluster / local, B 2, V {v:,}: training", "train_seconds", Case("ours", "cluster", w, v, 2),
             Case("ours", "local", w, v, 2), 1.3)
        for v in (small, large)
    ]  # fmt: skip
    goals += [
        Goal(f"MLlib / ours, {text / 1e6:g} M words, B {b}, V {large:,}: {about}", value,
             Case("mllib", "cluster", text, large, b), Case("ours", "cluster", text, large, b), 4, at_least=True)
        for text in (w, size.long)
        for b in (2, 8)
        for value, about in (("fit", "counting words and training"), ("seconds", "the whole process"))
    ]  # fmt: skip
    goals += [
        Goal(f"8 blocks / 2 blocks, cluster, V {v:,}: training", "train_seconds", Case("ours", "cluster", w, v, 8),
             Case("ours", "cluster", w, v, 2), 1.4)
        for v in (small, large)
    ]  # fmt: skip
    most = Case("ours", "local", w, small, size.many)
    about = f"{size.many} blocks / 2 blocks, local, V {small:,}: training"
    return [*goals, Goal(about, "train_seconds", most, Case("ours", "local", w, small, 2), 3)]


def command_of(case: Case, master: str, text: Path, output: Path, seed: int) -> list[str]:
    """Command that starts this run from the root of the checkout."""
    options = ["--master", master if case.place == "cluster" else f"local[{CORES}]"]
    options += ["--executor-memory", EXECUTOR_MEMORY]
    if case.system == "mllib":
        settings = {"text": text, "output": output, "seed": seed, "min-count": 1, "epochs": 1}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return mllib_command(options, ["mllib-2", *arguments, "--partitions", str(case.blocks)])
    return train_command(
        options,
        text,
        output,
        {
            "vocabulary.min_count": 1,
            "training.scheme": "blocks",
            "training.partitions": case.blocks,
            "training.dimensions": DIMENSIONS,
            "training.epochs": 1,
            "training.seed": seed,
            "output.checkpoint": "none",
        },
    )


def measured(case: Case, master: str, text: Path, scratch: Path, seed: int) -> dict[str, Any]:
    """Run once; a dict of seconds.

    Returns:
        seconds of the whole process; train_seconds, MLlib's with counting the words; fit, the same of both systems:
        reading, counting and training, with Spark started already.
    """
    output, log = scratch / "output", scratch / "log.txt"
    shutil.rmtree(output, ignore_errors=True)
    ran = measure.run(command_of(case, master, text, output, seed), environment(), log)
    if ran.code:
        raise RuntimeError(f"{case}: exit code {ran.code}\n{log.read_text(errors='replace')[-TAIL:]}")
    told: Facts = facts("ours-2" if case.system == "ours" else "mllib-2", output)
    return {
        **case._asdict(),
        "seed": seed,
        "seconds": ran.seconds,
        "train_seconds": told.train_seconds,
        "fit": (told.vocabulary_seconds or 0.0) + told.train_seconds,
        "load": os.getloadavg()[0],
    }


def _of(runs: Sequence[Mapping[str, Any]], case: Case, value: str) -> list[float]:
    return [run[value] for run in runs if all(run[name] == part for name, part in case._asdict().items())]


def _shown(values: Sequence[float], decimals: int) -> str:
    middle, least, most = (f"{value:,.{decimals}f}" for value in (median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least} to {most})"


def ratios_of(runs: Sequence[Mapping[str, Any]], goal: Goal) -> list[float]:
    """One per round."""
    pairs = zip(_of(runs, goal.over, goal.value), _of(runs, goal.under, goal.value), strict=True)
    return [over / under for over, under in pairs]


def report(found: Mapping[str, Any], cases: Sequence[Case], goals: Sequence[Goal]) -> str:
    """The figures as Markdown."""
    runs = found["runs"]
    rows = [
        [str(case)] + [_shown(_of(runs, case, value), 1) for value in ("seconds", "fit")]
        + [_shown(_of(runs, case, "train_seconds"), 1) if case.system == "ours" else "–"]
        for case in cases
    ]  # fmt: skip
    compared = []
    for goal in goals:
        values = ratios_of(runs, goal)
        is_met = median(values) >= goal.bound if goal.at_least else median(values) <= goal.bound
        bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:g}"
        compared.append([goal.about, _shown(values, 2), bound, "yes" if is_met else "**no**"])
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    loads = [run["load"] for run in runs]
    about = (
        f"Made by `{found['command']}` in {found['minutes']:.0f} minutes: synthetic text, "
        f"D {DIMENSIONS}, one epoch of ours, one iteration of MLlib; the cluster is a standalone master and {CORES} "
        f"workers of one core on this machine, local mode has as many cores. {found['cores']} cores of "
        f"{found['machine']}; "
        f"load average after a run {median(loads):.1f} in the median, {max(loads):.1f} at most; {versions}. "
        f"Medians of {found['repeats']} interleaved rounds, in brackets the least and the most; every "
        "ratio is taken within a round."
    )
    fit = "Reading, counting and training: with Spark started already, until both matrices are trained."
    heads = (
        "run | whole process, s | reading, counting and training, s | training, s",
        "ratio | measured | goal | met",
    )
    return "\n\n".join([about, table(heads[0], rows), fit, table(heads[1], compared)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny text, once: to see that it works")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds; without it 1 with --quick, 3 else")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next")
    parser.add_argument("--no-mllib", action="store_true", help="leave out MLlib, which takes longest")
    parser.add_argument("--only", metavar="WORD", help="only the ratios that name this word, such as MLlib or local")
    parser.add_argument("--publish", action="store_true", help="renew the table in docs/bench.md")
    options = parser.parse_args()
    if options.publish and (options.quick or options.no_mllib or options.only):
        parser.error("--publish renews the documentation, so it needs all runs: no --quick, --no-mllib or --only")
    return options


def main() -> int:
    options = _options()
    size = QUICK if options.quick else FULL
    goals = [goal for goal in goals_of(size) if not (options.no_mllib and goal.over.system == "mllib")]
    goals = [goal for goal in goals if options.only is None or options.only in goal.about]
    cases = list(dict.fromkeys(case for goal in goals for case in (goal.under, goal.over)))
    name = "cluster-quick" if options.quick else "cluster"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "command": " ".join([COMMAND, *sys.argv[1:]]),
        "size": size._asdict(),
        "repeats": options.repeats or (1 if options.quick else 3),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "pyspark", "scipy")},
        },
        "runs": [],
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory:
        scratch = Path(directory)
        texts = {(c.words, c.vocabulary): scratch / f"text-{c.words}-{c.vocabulary}.txt" for c in cases}
        for (words, vocabulary), path in texts.items():
            write_text(zipf_counts(words, vocabulary), path)
        cluster = Cluster(scratch / "cluster", environment(), CORES, WORKER_MEMORY)
        try:
            for number in range(found["repeats"]):
                turn = number % len(cases)  # nobody is always the first, or always after the same other
                for case in [*cases[turn:], *cases[:turn]]:
                    print(f"bench: round {number + 1}/{found['repeats']}, {case} ...", end=" ", flush=True)
                    text = texts[case.words, case.vocabulary]
                    run = measured(case, cluster.url, text, scratch, options.seed + number)
                    found["runs"].append(run)
                    found["minutes"] = (time.monotonic() - began) / 60
                    (OUTPUT / f"{name}.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
                    print(f"{run['seconds']:.1f} s, training {run['train_seconds']:.1f} s", flush=True)
        finally:
            cluster.stop()
    said = report(found, cases, goals)
    (OUTPUT / f"{name}.md").write_text(said + "\n", encoding="utf-8")
    if options.publish:
        page.renew(DOCUMENT, COMMAND, said)
    print(f"\n{said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
