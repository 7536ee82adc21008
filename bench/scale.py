"""Time and memory against words, dimensions, vocabulary and blocks: python -m bench.scale writes docs/scale.md.

The real job runs on synthetic text, whose word counts follow Zipf's law, one quantity varied at a time, and the kernel
runs on single buckets of the sizes that clusters have. A small linear cost model is fitted on the small runs and on
some of the buckets, checked on the others, and asked about clusters that nobody here has: their epochs are simulated.

W words of the corpus, V of the vocabulary, D dimensions, B blocks, T tasks, C cores, P pairs.
"""

import argparse
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import psutil

from bench import measure, page, text
from bench.costs import (
    ABOUT,
    CORES_PER_MACHINE,
    DISK,
    KERNEL,
    MEMORY,
    NETWORK,
    PARTS,
    Cluster,
    Constants,
    KernelTerm,
    Model,
    Parts,
    Sample,
    Term,
    Trained,
    Training,
    fit,
    fit_kernel,
    kernel_seconds,
    on_cluster,
    predict,
    train,
    waiting,
)
from bench.singles import DIMENSIONS, ENOUGH, SUBSAMPLE, Single, measured_single, single_work, typical
from bench.synthetic import write_text, zipf_counts
from bench.work import Work, work_of
from spark_w2v.config import Config
from spark_w2v.spark.memory import Need, needed

OUTPUT = measure.ROOT / "build" / "bench"
DOCUMENT, PICTURE = measure.ROOT / "docs" / "scale.md", measure.ROOT / "docs" / "scale.svg"
CORES = 2
QUIET = 0.2  # cores that others may use while we measure


class Case(NamedTuple):
    """One run.

    Args:
        varied: the panel of the picture that it belongs to; "" for those that vary several things.
        fitted: whether the model is fitted on it, or only checked.
        cluster: on two executors that are processes of their own.
        snapshots: the driver gets the parameters after each sweep.
    """

    varied: str
    fitted: bool
    words: int = 4_000_000
    vocabulary: int = 50_000
    dimensions: int = 100
    blocks: int = 2
    synthetic: bool = True
    cluster: bool = False
    snapshots: bool = False


M = 1_000_000
BASE = Case("base", True)
# Fitted on the small, checked on the large: what the model is for is going on from what was measured.
# The base case three times, apart, shows how far the machine itself changes meanwhile.
FULL = [
    BASE,
    *[Case("words", n < 8 * M, words=n) for n in (1 * M, 8 * M, 16 * M)],
    *[Case("dimensions", n < 400, dimensions=n) for n in (50, 200, 400)],
    BASE,
    *[Case("vocabulary", n < M, vocabulary=n) for n in (10_000, 200_000, M)],
    *[Case("blocks", True, blocks=n) for n in (1, 4, 8)],
    Case("cluster", True, cluster=True),
    Case("cluster", True, words=16 * M, cluster=True),
    Case("cluster", True, vocabulary=200_000, cluster=True),
    Case("cluster", True, blocks=4, cluster=True),
    Case("cluster", True, vocabulary=200_000, blocks=8, cluster=True),
    Case("", False, words=0, vocabulary=0, blocks=4, synthetic=False),
    Case("", False, words=8 * M, vocabulary=200_000, dimensions=200, blocks=4),
    BASE,
    Case("blocks", False, blocks=16),
    Case("blocks", False, blocks=32),
    Case("cluster", False, blocks=16, cluster=True),
    Case("cluster", False, vocabulary=M, cluster=True),
    Case("cluster", False, vocabulary=200_000, blocks=4, cluster=True, snapshots=True),
]
SMALL = Case("base", True, words=200_000, vocabulary=2_000)
QUICK = [
    SMALL,
    SMALL._replace(varied="words", words=100_000),
    SMALL._replace(varied="dimensions", dimensions=200),
    SMALL._replace(varied="vocabulary", vocabulary=20_000),
    SMALL._replace(varied="blocks", blocks=4),
    SMALL._replace(varied="words", words=800_000, fitted=False),
    SMALL._replace(varied="cluster", cluster=True),
]


SINGLES = [
    Single(True, 10**9, 10**6, 64),
    Single(False, 10**9, 10**6, 512),
    Single(False, 10**9, 10**5, 64),
    Single(True, 10**9, 10**5, 390),
    Single(False, 10**9, 10**7, 64),
    Single(True, 10**9, 10**7, 512),
    Single(False, 10**11, 10**6, 64),
    Single(True, 10**11, 10**6, 512),
]
QUICK_SINGLES = [Single(True, 10**8, 10**5, 64), Single(False, 10**8, 10**5, 128)]


# Measuring


def busy(seconds: float) -> float:
    """Cores that are at work, whoever's it is."""
    return float(psutil.cpu_percent(seconds)) / 100 * (os.cpu_count() or 1)


def wait_for_quiet(minutes: float) -> None:
    """Return when others leave the machine alone, or when that takes too long."""
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until and busy(2.0) > QUIET:
        time.sleep(3)


def measured(case: Case, scratch: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run the job once; a dict of what it says of itself, of what Spark says and of the machine."""
    path, output, events = scratch / "text.txt", scratch / "output", scratch / "events"
    for directory in (output, events):
        shutil.rmtree(directory, ignore_errors=True)
    events.mkdir()
    if case.synthetic:
        counts, least = zipf_counts(case.words, case.vocabulary), 1
        write_text(counts, path)
    else:
        least = Config().vocabulary.min_count
        found = text.write(text.default_corpus(), "", None, path).counts
        counts = -np.sort(-np.array([n for n in found.values() if n >= least], np.int64))
    settings = {
        "vocabulary.min_count": least,
        "training.scheme": "blocks",
        "training.partitions": case.blocks,
        "training.dimensions": case.dimensions,
        "training.epochs": 1,
        "output.checkpoint": "sweep" if case.snapshots else "none",
    }
    submit = [str(Path(sys.executable).with_name("spark-submit")), "--properties-file", "conf/spark-defaults.conf"]
    submit += ["--master", f"local-cluster[{CORES},1,2048]" if case.cluster else f"local[{CORES}]"]
    for key, value in {
        "eventLog.enabled": "true",
        "eventLog.dir": events.as_uri(),
        "eventLog.rolling.enabled": "false",
        "eventLog.compress": "false",
        "executor.memory": "2g",  # of local-cluster alone
    }.items():
        submit += ["--conf", f"spark.{key}={value}"]
    variables = {**variables, "SPARK_WORKER_DIR": str(scratch / "executors")}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [*submit, "jobs/train.py", "conf/local.toml", "--input", str(path), "--output", str(output), *sets]
    others = busy(2.0)
    ran = measure.run(command, variables, scratch / "log.txt")
    if ran.code:
        raise RuntimeError((scratch / "log.txt").read_text(errors="replace")[-3000:])
    numbers, often = np.unique(counts, return_counts=True)
    epoch = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "case": case._asdict(),
        "counts": None if case.synthetic else [numbers.tolist(), often.tolist()],
        "epoch": epoch,
        "epoch_seconds": epoch["seconds"],
        "prepare_seconds": json.loads((output / "run.json").read_text())["prepare_seconds"],
        "seconds": ran.seconds,
        "peak_bytes": ran.peak_bytes,
        "others": others,
        "load": os.getloadavg()[0],
        **of_events(next(events.iterdir()).read_text().splitlines()),
    }


def of_events(lines: Iterable[str]) -> dict[str, float]:
    """What Spark's event log says of the epochs: core-seconds of drawing, bytes of the shuffle."""
    stages: set[int] = set()
    milliseconds, size = 0, 0
    for line in lines:
        event = json.loads(line)
        match event["Event"]:
            case "SparkListenerJobStart":
                if re.match(r"epoch \d+ of", event["Properties"].get("spark.job.description", "")):
                    stages.update(event["Stage IDs"])
            case "SparkListenerTaskEnd" if event["Stage ID"] in stages and event["Task Type"] == "ShuffleMapTask":
                milliseconds += event["Task Metrics"]["Executor Run Time"]
                size += event["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    return {"drawing_seconds": milliseconds / 1000, "shuffled_bytes": size}


# Telling


class Told(NamedTuple):
    """A run, or those of one case, next to what the model says of it; each measured value is a median."""

    case: Case
    work: Work
    runs: list[dict[str, Any]]
    parts: Parts
    predicted: Parts
    training: Training

    def of(self, name: str) -> float:
        """A field of the runs, or of their epoch."""
        return float(median(run[name] if name in run else run["epoch"][name] for run in self.runs))

    @property
    def whole(self) -> float:
        """Seconds of the run that are predicted."""
        return self.predicted["prepare"] + self.training.seconds + self.predicted["rest"]

    @property
    def need(self) -> Need:
        """What the memory check of the job asks for."""
        w = self.work
        return needed(w.vocabulary, w.dimensions, w.blocks, "blocks", w.pairs, w.tasks, w.snapshots)


class ToldSingle(NamedTuple):
    """Buckets of one kind, measured and predicted.

    Args:
        seconds: of one, in the mean of all cores.
        spread: standard deviation of a bucket's seconds, as a share of them, in the mean of the cores.
        predicted: seconds of one.
    """

    single: Single
    work: Work
    seconds: float
    spread: float
    predicted: float


def work_of_case(case: Case, counts: list[list[int]] | None) -> Work:
    """What a run here has to do."""
    known = (
        zipf_counts(case.words, case.vocabulary) if counts is None else np.repeat(np.array(counts[0]), counts[1])[::-1]
    )
    return work_of(known, case.dimensions, case.blocks, CORES, snapshots=case.snapshots)


def parts_of(run: dict[str, Any], work: Work, constants: Constants | None = None) -> Parts:
    """What a run says of its parts.

    Args:
        constants: of the kernel and of taking pairs; without them, what tasks wait is not divided.
    """
    epoch = run["epoch"]
    take = epoch["pair_seconds"] - epoch["draw_seconds"]
    tasks = epoch["tasks"]
    waits = epoch["wait_seconds"] / tasks
    if constants is not None:
        waits -= waiting(work, constants, CORES)
    return {
        "kernel": epoch["kernel_seconds"],
        "take": take,
        "draw": run["drawing_seconds"],
        "start": epoch["seconds"]
        - run["drawing_seconds"] * work.draw_span
        - (epoch["kernel_seconds"] + take + epoch["wait_seconds"]) / tasks,
        "exchange": waits,
        "prepare": run["prepare_seconds"],
        "rest": run["seconds"] - run["prepare_seconds"] - epoch["seconds"],
        "shuffled": run["shuffled_bytes"],
    }


def told(found: dict[str, Any]) -> tuple[list[Told], list[ToldSingle], Model]:
    """The runs by case, the single buckets, and the constants of those that are fitted."""
    cases = list(dict.fromkeys(Case(**run["case"]) for run in found["runs"]))
    mine = [[run for run in found["runs"] if Case(**run["case"]) == case] for case in cases]
    works = [work_of_case(case, some[0]["counts"]) for case, some in zip(cases, mine, strict=True)]
    singles = [
        (Single(**one["single"]), np.array(one["buckets"][0] + one["buckets"][1]), one) for one in found["singles"]
    ]
    of_singles = [typical(single_work(single)) for single, _, _ in singles]
    # The kernels do the same work on a cluster, of which the runs on one machine tell more; all else differs.
    alone: list[tuple[Trained, float]] = [
        (work, float(median(run["epoch"]["kernel_seconds"] for run in some)))
        for case, work, some in zip(cases, works, mine, strict=True)
        if case.fitted and not case.cluster
    ]
    alone += [
        (Sample(each, DIMENSIONS), float(values[:, 1].mean()))
        for (single, values, _), each in zip(singles, of_singles, strict=True)
        if single.fitted
    ]
    kernel = fit_kernel(alone)
    constants = []
    for cluster in (False, True):
        some = [(c, w, r) for c, w, r in zip(cases, works, mine, strict=True) if c.fitted and c.cluster is cluster]
        # What a task waits for others follows from the other parts, so it is fitted last.
        record = found["record_seconds"] if cluster else 0.0  # in local mode pairs do not go through the shuffle
        first = fit([(work, _median(runs, work)) for _, work, runs in some], record)
        first["kernel"] = kernel
        again = fit([(work, _median(runs, work, first)) for _, work, runs in some], record)
        constants.append(again | {"kernel": kernel})
    told_singles = [
        ToldSingle(
            single, single_work(single), float(values[:, 1].mean()),
            mean(float(np.std(core, axis=0)[1] / np.mean(core, axis=0)[1]) for core in one["buckets"]),
            kernel_seconds(Sample(each, DIMENSIONS), kernel),
        )
        for (single, values, one), each in zip(singles, of_singles, strict=True)
    ]  # fmt: skip
    model = Model(constants[0], constants[1], sorted((one.seconds, one.spread) for one in told_singles))
    all_told = []
    for case, work, runs in zip(cases, works, mine, strict=True):
        own = model.cluster if case.cluster else model.machine
        trained = train(work, own, model.spread(work), CORES, 0.0)
        all_told.append(Told(case, work, runs, _median(runs, work, own), predict(work, own), trained))
    return all_told, told_singles, model


def _median(runs: Sequence[dict[str, Any]], work: Work, constants: Constants | None = None) -> Parts:
    parts = [parts_of(run, work, constants) for run in runs]
    return {part: float(median(one[part] for one in parts)) for part in parts[0]}


def table(heading: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    columns = heading.split(" | ")
    lines = [f"| {heading} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _name(case: Case) -> str:
    if not case.synthetic:
        return f"the demo's text, {case.blocks} blocks"
    more = (", two executors" if case.cluster else "") + (", snapshots" if case.snapshots else "")
    return f"{case.words / 1e6:g} M words, V {case.vocabulary:,}, D {case.dimensions}, B {case.blocks}{more}"


def _error(predicted: float, found: float) -> str:
    return f"{predicted / found - 1:+.0%}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size < 1e10 else f"{size / 1e9:,.0f}"


def _use(fitted: bool) -> str:
    return "fitted" if fitted else "**checked**"


def constants_table(model: Model) -> str:
    """What everything costs."""

    def row(part: str, term: Term | KernelTerm, value: float, other: str) -> Sequence[str]:
        return f"{ABOUT[part]}: {term.of}", f"{value * term.scale:,.3g} {term.unit}", other

    rows = [row("kernel", term, value, "the same") for term, value in zip(KERNEL, model.machine["kernel"], strict=True)]
    rows += [
        row(part, term, value, f"{other * term.scale:,.3g} {term.unit}")
        for part, terms in PARTS.items()
        for term, value, other in zip(terms, model.machine[part], model.cluster[part], strict=True)
    ]
    return table("constant | one machine | two executors", rows)


def times_table(all_told: Sequence[Told]) -> str:
    """Predicted against measured, seconds."""
    rows = []
    for t in all_told:
        found, all_found = t.of("epoch_seconds"), t.of("seconds")
        others = max(run["others"] for run in t.runs)
        trains = t.training.seconds
        cells = [f"{all_found:.1f}", f"{t.whole:.1f}", _error(t.whole, all_found), f"{others:.1f}"]
        rows.append(
            [_name(t.case), _use(t.case.fitted), f"{found:.1f}", f"{trains:.1f}", _error(trains, found), *cells]
        )
    return table("run | | training, s | predicted | error | whole, s | predicted | error | others' cores", rows)


def parts_table(all_told: Sequence[Told]) -> str:
    """The parts of training, measured and, in brackets, predicted."""
    rows = []
    for t in all_told:
        w, pairs = t.work, (t.of("pairs"), t.work.pairs)

        def cell(values: Sequence[float], decimals: int) -> str:
            return "{:,.{d}f} ({:,.{d}f})".format(*values, d=decimals)

        memory = t.need.driver + w.tasks * t.need.task + t.need.heap
        each = [[parts[part] / p * 1e9 for parts, p in zip((t.parts, t.predicted), pairs, strict=True)]
                for part in ("kernel", "take", "draw")]  # fmt: skip
        waits = t.of("wait_seconds") / t.of("tasks")
        rows.append(
            [_name(t.case), cell([p / 1e6 for p in pairs], 1), f"{t.of('sweeps') * w.blocks:.0f} ({w.rounds})"]
            + [cell(values, 0) for values in each]
            + [cell([t.parts["start"], t.predicted["start"]], 1)]
            + [cell([waits, t.training.exchange + t.training.waiting], 1)]
            + [cell([t.of("driver_bytes") / 1e6, w.driver_bytes / 1e6], 0)]
            + [cell([t.of("task_bytes") / 1e6, w.task_bytes / 1e6], 0)]
            + [f"{_gb(t.of('peak_bytes'))} ({_gb(memory)})"]
        )
    heading = "run | pairs, M | rounds | kernel, ns per pair | take, ns per pair | draw, ns per pair | starting, s"
    return table(f"{heading} | a task waits, s | driver, MB | between tasks, MB | memory, GB", rows)


def singles_table(singles: Sequence[ToldSingle]) -> str:
    """The kernel alone, on buckets as clusters have them."""
    rows = []
    for one in singles:
        name = f"{one.single.words / 1e9:g} G words, V {one.single.vocabulary / 1e6:g} M, B {one.single.blocks}"
        pairs = typical(one.work).pairs
        each = [f"{seconds / pairs * 1e9:,.0f}" for seconds in (one.seconds, one.predicted)]
        sizes = [f"{pairs:,.0f}", f"{one.work.rows.mean():,.0f}"]
        off = [_error(one.predicted, one.seconds), f"{one.spread:.1%}"]
        rows.append([name, _use(one.single.fitted), *sizes, *each, *off])
    return table("bucket of | | pairs | rows of a block | ns per pair | predicted | error | differ by", rows)


def errors(all_told: Sequence[Told], singles: Sequence[ToldSingle]) -> str:
    """How far off the model is."""
    said = []
    for name, fitted in (("fitted", True), ("checked", False)):
        mine = [t for t in all_told if t.case.fitted is fitted]
        of = {
            f"training of the {len(mine)} {name} runs": [t.training.seconds / t.of("epoch_seconds") for t in mine],
            f"the {len(mine)} {name} runs as a whole": [t.whole / t.of("seconds") for t in mine],
        }
        some = [one for one in singles if one.single.fitted is fitted]
        of[f"the kernel on the {len(some)} {name} single buckets"] = [one.predicted / one.seconds for one in some]
        for what, ratios in of.items():
            if ratios:
                off = [abs(ratio - 1) for ratio in ratios]
                said.append(f"{what}: {median(off):.0%} in the median, {max(off):.0%} at worst")
    return "Off by: " + "; ".join(said) + "."


def growth(all_told: Sequence[Told]) -> str:
    """How each quantity bends training: measured seconds of the most against those of the least."""
    rows = []
    for varied in ("words", "dimensions", "vocabulary", "blocks"):
        mine = sorted(
            (t for t in all_told if t.case.varied in (varied, "base")), key=lambda t: float(getattr(t.case, varied))
        )
        least, most = mine[0], mine[-1]
        more = getattr(most.case, varied) / getattr(least.case, varied)
        kernel = (most.parts["kernel"] / most.of("pairs")) / (least.parts["kernel"] / least.of("pairs"))
        ratio = most.of("epoch_seconds") / least.of("epoch_seconds")
        ends = f"{getattr(least.case, varied):,} to {getattr(most.case, varied):,}"
        rows.append((f"{varied}, {ends}", f"{more:.0f}", f"{ratio:.2f}", f"{ratio / more:.2f}", f"{kernel:.2f}"))
    return table("varied | times more | training takes times | of which a straight line | kernel per pair, times", rows)


CLUSTERS = f"""\
Predicted, as conf/cluster.toml trains: D 300, 3 epochs, subsample 1e-4, parameters back after each sweep, here with a
block for each core. Cores as fast as the ones measured. Assumed, not measured: machines of {CORES_PER_MACHINE} cores
with {MEMORY / 1e9:g} GB, disks of {DISK / 1e9:g} GB/s, network cards of {NETWORK * 8e-9:g} Gbit/s, in the driver too.
Hours: in all; in the kernels, if all cores always had work, and that as a share of all; waiting for the heaviest blocks
and for the bucket that takes longest; drawing pairs, shuffling, spooling and taking them; parameters out of the driver
and back, and blocks as far as training does not hide them; the rest: reading, counting, starting, writing. Parameters
and pairs: what a machine sends in an epoch through its card. Memory is what the job's own check asks for."""

SIZES = [(words, vocabulary) for words in (10**9, 10**11) for vocabulary in (10**5, 10**6, 10**7)]
AMOUNTS = (8, 64, 512)
Clusters = dict[tuple[int, int, int], Cluster]


def _name_of(words: int, vocabulary: int, cores: int) -> str:
    return f"{words / 1e9:g} G words, V {vocabulary / 1e6:g} M, {cores} cores"


def clusters_table(clusters: Clusters) -> str:
    """The predictions."""
    rows = []
    for key, c in clusters.items():
        blocks = "" if c.work.blocks == key[2] else f", {c.work.blocks} blocks"
        rows.append(
            [_name_of(*key) + blocks, f"{c.hours:,.3f}", f"{c.kernels:,.3f}", f"{c.efficiency:.0%}"]
            + [f"{h:,.3f}" for h in (c.waiting, c.drawing, c.exchange, c.others)]
            + [c.most(), f"{(c.work.edges[-1].size - 1)}"]
            + [_gb(size) for size in (c.sent, c.shuffled, c.need.driver, c.need.heap, c.need.task)]
        )
    heading = "run | hours | kernels | of all | waiting | drawing | exchange | others | most of it | sweeps"
    return table(f"{heading} | parameters, GB | pairs, GB | driver, GB | its JVM, GB | a task, GB", rows)


class Goal(NamedTuple):
    """What a run should come to: hours at most, or a share of the kernels at least."""

    words: int
    vocabulary: int
    cores: int
    hours: float | None = None
    efficiency: float | None = None


GOALS = [
    Goal(10**9, 10**6, 64, hours=0.1),
    Goal(10**9, 10**6, 512, hours=0.05),
    Goal(10**9, 10**6, 64, efficiency=0.6),
    Goal(10**11, 10**6, 64, efficiency=0.85),
    Goal(10**11, 10**6, 512, efficiency=0.75),
]


def goals_table(clusters: Clusters) -> str:
    """The goals, and what stands in the way of those that are missed."""
    rows = []
    for goal in GOALS:
        c = clusters[goal.words, goal.vocabulary, goal.cores]
        if goal.hours is not None:
            wanted, found, met = f"at most {goal.hours:g} h", f"{c.hours:.3f} h", c.hours <= goal.hours
        else:
            assert goal.efficiency is not None
            wanted, found = f"kernels at least {goal.efficiency:.0%}", f"{c.efficiency:.1%}"
            met = c.efficiency >= goal.efficiency
        names = ("waiting", "drawing", "exchange", "others")
        most = c.most(names if goal.hours is None else ("kernels", *names))
        why = "" if met else f"{most}, {getattr(c, most) / c.hours:.0%} of all"
        rows.append([_name_of(*goal[:3]), wanted, found, "met" if met else "**missed**", why])
    return table("run | goal | predicted | | most in the way", rows)


def blocks_table(clusters: Clusters, model: Model) -> str:
    """Hours with fewer blocks than cores, as many, and more."""
    rows = []
    for words, vocabulary in ((10**9, 10**6), (10**11, 10**6)):
        for cores in (64, 512):
            found = {
                times: on_cluster(words, vocabulary, cores, model, round(cores * times))
                for times in (0.5, 0.75, 1.5, 2)
            } | {1: clusters[words, vocabulary, cores]}
            best = min(found, key=lambda times: found[times].hours)
            rows.append(
                [_name_of(words, vocabulary, cores)]
                + [f"{found[times].hours:,.3f}" for times in sorted(found)]
                + [f"{found[best].work.blocks}"]
            )
    return table("run | B = C / 2 | 3/4 C | C | 3/2 C | 2 C | best B", rows)


def disks_table(clusters: Clusters, model: Model) -> str:
    """What hangs on the assumed disks and memory."""
    rows = []
    for words, vocabulary in ((10**9, 10**6), (10**11, 10**6)):
        for cores in (64, 512):
            key = words, vocabulary, cores
            some = [
                on_cluster(*key, model, memory=0.0),
                clusters[key],
                on_cluster(*key, model, disk=4 * DISK),
                on_cluster(*key, model, disk=math.inf),
            ]
            rows.append([_name_of(*key), *(f"{c.hours:,.3f} ({c.efficiency:.0%})" for c in some)])
    fast = f"{4 * DISK / 1e9:g} GB/s"
    return table(f"run | all through the disk | as above | disks of {fast} | free disks", rows)


def report(found: dict[str, Any]) -> str:
    """All that is measured and computed, as Markdown."""
    all_told, singles, model = told(found)
    clusters = {
        (words, vocabulary, cores): on_cluster(words, vocabulary, cores, model)
        for words, vocabulary in SIZES
        for cores in AMOUNTS
    }
    base = next(t for t in all_told if t.case.varied == "base")
    spread = sorted(run["epoch_seconds"] for run in base.runs)
    others, load = ([run[name] for run in found["runs"]] for name in ("others", "load"))
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    loaded = "**Provisional: the machine was busy with other work, so all times are too long.** "
    return "\n\n".join(
        [
            (loaded if median(others) > QUIET else "")
            + f"Made by `{found['command']}` in {found['minutes']:.0f} minutes; {CORES} cores of {found['machine']}; "
            f"{versions}. Other processes used {median(others):.1f} cores just before a run in the median, "
            f"{max(others):.1f} at most; the load average after it was {median(load):.1f} in the median. The base "
            f"case, measured {len(spread)} times, trained in {', '.join(f'{s:.1f}' for s in spread)} s.",
            "### Goals",
            goals_table(clusters),
            "### Clusters",
            CLUSTERS,
            clusters_table(clusters),
            "### Blocks and cores",
            "Hours in all.",
            blocks_table(clusters, model),
            "### Disks",
            "Hours in all, and how much of it the kernels take, with other disks and memory than assumed.",
            disks_table(clusters, model),
            "### Predicted against measured",
            times_table(all_told),
            errors(all_told, singles),
            parts_table(all_told),
            "In brackets: predicted; of memory, what the check before training asks for.",
            "### The kernel on buckets of clusters",
            f"D {DIMENSIONS}, subsample {SUBSAMPLE:g}, in {CORES} processes at the same time. Differ by: the standard "
            "deviation of buckets that are alike, which the simulation gives to buckets that take as long.",
            singles_table(singles),
            "### Growth",
            growth(all_told),
            "### Constants",
            constants_table(model),
        ]
    )


def draw(all_told: Sequence[Told], path: Path) -> None:
    """Training time against each quantity: dots are measured, lines the model's."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 9})
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, varied in zip(figure.subplots(2, 2).flat, ("words", "dimensions", "vocabulary", "blocks"), strict=True):
        mine = [t for t in all_told if t.case.varied in (varied, "base")]
        mine.sort(key=lambda t: float(getattr(t.case, varied)))
        at = [getattr(t.case, varied) for t in mine]
        axes.plot(at, [t.training.seconds for t in mine], color="0.5", label="predicted")
        for fitted, color in ((True, "tab:blue"), (False, "tab:orange")):
            some = [t for t in mine if t.case.fitted is fitted]
            seconds = [t.of("epoch_seconds") for t in some]
            label = f"measured, {'fitted' if fitted else 'checked'}"
            axes.plot([getattr(t.case, varied) for t in some], seconds, "o", color=color, label=label)
        axes.set(xscale="log", yscale="log", xlabel=varied, ylabel="training, s")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few small runs, and docs/ is left alone")
    parser.add_argument(
        "--report", action="store_true", help="only the tables, from the runs of build/bench/scale.json"
    )
    parser.add_argument("--resume", action="store_true", help="go on after the runs that build/bench/scale.json has")
    parser.add_argument("--wait", type=float, default=0, metavar="MINUTES", help="at most, for quiet before each run")
    return parser.parse_args()


def measure_all(found: dict[str, Any], path: Path, quick: bool, wait: float) -> None:
    """Do what is not done yet; each run is written as soon as it has ended."""

    def keep(name: str, one: dict[str, Any], started: float) -> None:
        found[name].append(one)
        found["minutes"] += (time.monotonic() - started) / 60
        path.write_text(json.dumps(found, allow_nan=False) + "\n")

    for single in (QUICK_SINGLES if quick else SINGLES)[len(found["singles"]) :]:
        wait_for_quiet(wait)
        print(f"{single} ...", end=" ", flush=True)
        started = time.monotonic()
        keep("singles", measured_single(single, CORES, 0.2 if quick else ENOUGH), started)
        print(f"{time.monotonic() - started:.1f} s", flush=True)
    variables = measure.environment()
    if "record_seconds" not in found:
        command = [sys.executable, "-m", "bench.records"]
        ran = subprocess.run(
            command, cwd=measure.ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        found |= json.loads(ran.stdout.splitlines()[-1])
        print(f"a record of the shuffle: {found['record_seconds'] * 1e6:.0f} µs", flush=True)
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        for case in (QUICK if quick else FULL)[len(found["runs"]) :]:
            wait_for_quiet(wait)
            print(f"{_name(case)} ...", end=" ", flush=True)
            started = time.monotonic()
            keep("runs", measured(case, Path(scratch), variables), started)
            run = found["runs"][-1]
            print(f"{run['seconds']:.1f} s, training {run['epoch_seconds']:.1f} s", flush=True)


def main() -> int:
    options = options_of()
    name = "scale-quick" if options.quick else "scale"
    path = OUTPUT / f"{name}.json"
    if options.report or options.resume:
        found = json.loads(path.read_text())
    else:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        found = {
            "command": "python -m bench.scale" + (" --quick" if options.quick else ""),
            "machine": platform.machine(),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("numpy", "pyspark", "scipy")},
            },
            "minutes": 0.0,
            "singles": [],
            "runs": [],
        }
    if not options.report:
        measure_all(found, path, options.quick, options.wait)
    said = report(found)
    (OUTPUT / f"{name}.md").write_text(said + "\n")
    if options.quick:
        print(said)
        return 0
    picture = f"![Training time against words, dimensions, vocabulary and blocks]({PICTURE.name})"
    page.renew(DOCUMENT, "python -m bench.scale", f"{picture}\n\n{said}")
    draw(told(found)[0], PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
