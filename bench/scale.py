"""Time and memory against words, dimensions, vocabulary and blocks: python -m bench.scale writes docs/scale.md.

The real job runs on synthetic text, whose word counts follow Zipf's law, one quantity varied at a time. A small linear
cost model is fitted on the small runs, checked on the larger ones, and asked about clusters that nobody here has.

W words of the corpus, V of the vocabulary, D dimensions, B blocks, C cores, P pairs and R rounds of a run, M bytes of
the model.
"""

import argparse
import heapq
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import nnls
from scipy.special import gammainc

from bench import measure, text
from spark_w2v.config import Config, load
from spark_w2v.skipgram.descent import GROUP, frequent_rows
from spark_w2v.skipgram.pairs import enough_sweeps, epoch_edges
from spark_w2v.skipgram.parameters import deal_blocks
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.stages.corpus import SPLIT_BYTES
from spark_w2v.stages.memory import Need, needed
from spark_w2v.stages.training import MOST_PAIRS, expected_pairs, kept_words
from spark_w2v.stages.training_pairs import lot_of

Counts = npt.NDArray[np.int64]

OUTPUT = measure.ROOT / "build" / "bench"
DOCUMENT, PICTURE = measure.ROOT / "docs" / "scale.md", measure.ROOT / "docs" / "scale.svg"
BEGIN, END = "<!-- what python -m bench.scale writes -->\n", "<!-- its end -->\n"
CORES = 2
QUIET = 0.2  # cores that others may use while we measure
LINE = 1000  # words a line: so long that the ends of lines cost few pairs
BYTES_A_WORD = 6  # of text
NETWORK = 1.25e9  # bytes a second and machine, 10 Gbit/s: assumed
DISK = 0.5e9  # bytes a second and machine: assumed
CORES_A_MACHINE = 16  # assumed
MESSAGE = 1 << 31  # bytes that Python can hand to the JVM in one piece


class Case(NamedTuple):
    """One run.

    Args:
        varied: the panel of the picture that it belongs to; "" for those that vary several things.
        fitted: whether the model is fitted on it, or only checked.
        cluster: on two executors that are processes of their own, so that pairs and rows travel through Spark.
    """

    varied: str
    fitted: bool
    words: int = 4_000_000
    vocabulary: int = 50_000
    dimensions: int = 100
    blocks: int = 2
    synthetic: bool = True
    cluster: bool = False


M = 1_000_000
BASE = Case("base", True)
# Fitted on the small, checked on the large: what the model is for is going on from what was measured.
# The base case three times, apart, shows how far the machine itself changes meanwhile.
FULL = [
    BASE,
    *[Case("words", n < 8 * M, words=n) for n in (1 * M, 2 * M, 8 * M, 16 * M)],
    *[Case("dimensions", n < 400, dimensions=n) for n in (50, 200, 400)],
    BASE,
    *[Case("vocabulary", n < M, vocabulary=n) for n in (10_000, 200_000, M)],
    *[Case("blocks", True, blocks=n) for n in (1, 4, 8)],
    Case("cluster", True, cluster=True),
    Case("cluster", True, words=16 * M, cluster=True),
    Case("cluster", True, vocabulary=200_000, cluster=True),
    Case("cluster", True, blocks=4, cluster=True),
    Case("cluster", True, dimensions=400, cluster=True),
    Case("", False, words=0, vocabulary=0, blocks=4, synthetic=False),
    Case("", False, words=8 * M, vocabulary=200_000, dimensions=200, blocks=4),
    BASE,
    Case("blocks", False, blocks=16),
    Case("cluster", True, blocks=8, cluster=True),
    Case("blocks", False, blocks=32),
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


@cache
def zipf_counts(words: int, vocabulary: int) -> Counts:
    """(V,) how often each word occurs: in proportion to 1 / rank, once at least, about W in all; falling."""
    rank = np.arange(1, vocabulary + 1)
    least, most = 0.0, float(words)
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if np.maximum(1, middle / rank).sum() < words else (least, middle)
    return np.maximum(1, np.rint(least / rank)).astype(np.int64)


def write_text(counts: Counts, path: Path) -> None:
    """Every word as often as its count says, in random order, LINE words a line."""
    ids = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
    np.random.default_rng(1).shuffle(ids)
    spellings = pa.array([f"w{i}" for i in range(counts.size)])
    with path.open("w") as file:
        for start in range(0, ids.size, LINE * 1000):
            found = spellings.take(pa.array(ids[start : start + LINE * 1000]))
            ends = np.minimum(np.arange(0, len(found) + LINE, LINE), len(found)).astype(np.int32)
            lines = pc.binary_join(pa.ListArray.from_arrays(np.unique(ends), found), " ")
            file.write("\n".join(lines.to_pylist()) + "\n")


class Work(NamedTuple):
    """What a run has to do, from its configuration and the counts of its words; sums over its epochs.

    Args:
        pairs, groups: that the kernels train.
        rounds, tasks: of training, all epochs; buckets: of the largest epoch.
        records: of the shuffle: a bucket's pairs of one lot; lots are what a task draws and sorts at a time.
        width: bytes of a pair.
        span: seconds of a round's slowest core for each core-second of its work; 1 / C at best.
        draw_span: the same of reading and drawing, which have a task for each SPLIT_BYTES of text.
    """

    words: float
    vocabulary: float
    dimensions: float
    model: float
    epochs: float
    pairs: float
    groups: float
    rounds: float
    tasks: float
    buckets: float
    records: float
    width: float
    span: float
    draw_span: float
    cores: float

    @property
    def doublings(self) -> float:
        """How often a block of one matrix doubles above 1 MB: its rows are then farther away than the nearest cache."""
        blocks = self.tasks / self.rounds
        return math.log2(1 + self.model / 2 / blocks / (1 << 20))


def expected_groups(pairs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Groups that the kernel cuts of a center's pairs, in the mean, where they are Poisson with this mean.

    The mean of ceil(n / GROUP) is the sum over j of the probability of n > j GROUP; far out, n / GROUP and the half
    that rounding up adds.
    """
    many = pairs / GROUP + (GROUP - 1) / (2 * GROUP)
    few = sum(gammainc(j * GROUP + 1, pairs) for j in range(16))
    return np.where(pairs > 8 * GROUP, many, few)


def span_of(load: npt.NDArray[Any], cores: int) -> float:
    """Time until the last of some tasks ends, started in their order, as a share of their load."""
    free = [0.0] * cores
    for task in load:
        heapq.heappush(free, heapq.heappop(free) + float(task))
    return max(free) / float(load.sum())


def work_of(
    counts: Counts, dimensions: int, blocks: int, cores: int, epochs: int = 1, subsample: float | None = None
) -> Work:
    """What a run of scheme blocks has to do, with the defaults for all that is not said."""
    c = Config()
    load = kept_words(counts, c.vocabulary.subsample if subsample is None else subsample)
    pairs = expected_pairs(float(load.sum()), c.training.window)
    slices = max(enough_sweeps(blocks), math.ceil(pairs / blocks**2 / MOST_PAIRS))
    edges = [epoch_edges(epoch, blocks, slices) for epoch in range(min(epochs, 2))]
    repeats = [1, epochs - 1][: len(edges)]
    # Frequent words one by one, rare ones by the thousand: there may be ten million.
    load = -np.sort(-load)
    first = np.unique(np.geomspace(1, load.size, 2000).astype(np.int64)) - 1
    stands_for = np.diff(np.append(first, load.size))
    of_center = load[first] * pairs / load.sum()
    # A block is much like every B-th word. Its pairs are trained in two parts, by context, each in groups of its own.
    noise = noise_distribution(-np.sort(-counts), c.training.noise_exponent)[::blocks]
    frequent = load[::blocks][: frequent_rows(noise, dimensions)].sum() / load[::blocks].sum()
    parts = [part for part in (frequent, 1 - frequent) if part]
    groups, rounds, records = 0.0, 0, 0.0
    draws = math.ceil(counts.sum() * BYTES_A_WORD / SPLIT_BYTES)
    for edge, times in zip(edges, repeats, strict=True):
        for share, alike in zip(*np.unique(np.diff(edge).round(9), return_counts=True), strict=True):
            of_part = [expected_groups(of_center * share / blocks * part) for part in parts]
            groups += times * alike * blocks * float(stands_for @ sum(of_part))
        rounds += times * (edge.size - 1) * blocks
        lots = max(draws, pairs / lot_of((edge.size - 1) * blocks**2))
        records += times * min(pairs, lots * (edge.size - 1) * blocks**2)
    dealt = deal_blocks(load, blocks)
    width = 4 if dealt.bits <= 16 else 8
    # Any round: each center block meets some context block, and those differ little beside the heaviest center.
    of_block = np.bincount(dealt.block, load, blocks)
    return Work(
        float(counts.sum()), counts.size, dimensions, 8.0 * counts.size * dimensions, epochs, epochs * pairs, groups,
        rounds, rounds * blocks, max(edge.size - 1 for edge in edges) * blocks**2, records, width,
        span_of(of_block, cores), math.ceil(draws / cores) / draws, cores,
    )  # fmt: skip


class Term(NamedTuple):
    """A constant of the model: what it is a price of, its unit, and how often it is paid."""

    of: str
    unit: str
    scale: float
    times: Callable[[Work], float]


NS, US, MS, S, GB, B = ("ns", 1e9), ("µs", 1e6), ("ms", 1e3), ("s", 1.0), ("s a GB", 1e9), ("bytes", 1.0)
# Core-seconds of kernel, take and draw, which the cores share; seconds of the others, which they do not; bytes.
PARTS: dict[str, list[Term]] = {
    "kernel": [
        Term("a pair", *NS, lambda w: w.pairs),
        Term("a pair and dimension", *NS, lambda w: w.pairs * w.dimensions),
        Term("a group", *NS, lambda w: w.groups),
        Term("a group and dimension", *NS, lambda w: w.groups * w.dimensions),
        Term("the same for each doubling of a block above 1 MB", *NS, lambda w: w.groups * w.dimensions * w.doublings),
        Term("a task", *MS, lambda w: w.tasks),
    ],
    "take": [
        Term("a pair", *NS, lambda w: w.pairs),
        Term("a task", *MS, lambda w: w.tasks),
        Term("the model, a round", *GB, lambda w: w.rounds * w.model),
    ],
    "draw": [
        Term("an epoch", *S, lambda w: w.epochs),
        Term("a pair", *NS, lambda w: w.pairs),
        Term("a record", *US, lambda w: w.records),
    ],
    "rounds": [
        Term("a round", *MS, lambda w: w.rounds),
        Term("a task", *MS, lambda w: w.tasks),
        Term("the model, a round", *GB, lambda w: w.rounds * w.model),
    ],
    "prepare": [
        Term("a run", *S, lambda w: 1),
        Term("a word", *NS, lambda w: w.words * w.draw_span),
        Term("a word of the vocabulary", *US, lambda w: w.vocabulary),
    ],
    "rest": [Term("a run", *S, lambda w: 1), Term("the model", *GB, lambda w: w.model)],
    "shuffled": [Term("a byte of a pair", *B, lambda w: w.pairs * w.width)],
}
ABOUT = {
    "kernel": "core-seconds in the kernels",
    "take": "core-seconds of a task before its kernel: its pairs read and sorted, its rows unpacked",
    "draw": "core-seconds of drawing the pairs, and of writing or shuffling them",
    "rounds": "seconds that rounds take beyond the work of their slowest core",
    "prepare": "seconds of reading, counting and encoding",
    "rest": "seconds of starting, the held-out loss, writing and stopping",
    "shuffled": "bytes of the shuffle",
}
Constants = dict[str, list[float]]
Parts = dict[str, float]


def fit(runs: Sequence[tuple[Work, Parts]]) -> Constants:
    """The constants, none negative, that make the sum of squared relative errors of each part least."""
    found = {}
    for part, terms in PARTS.items():
        values = np.array([max(parts[part], 0.0) for _, parts in runs])
        # A part may be next to nothing in one run, and its relative error there is noise.
        size = np.maximum(values, max(0.1 * float(np.median(values)), 1e-9))
        a = np.array([[term.times(work) for term in terms] for work, _ in runs]) / size[:, None]
        each = np.maximum(a.max(axis=0), 1e-300)
        found[part] = (nnls(a / each, values / size)[0] / each).tolist()
    return found


def predict(work: Work, constants: Constants) -> Parts:
    """Every part, in the unit of ABOUT."""
    return {
        part: sum(each * term.times(work) for each, term in zip(constants[part], terms, strict=True))
        for part, terms in PARTS.items()
    }


def training(work: Work, parts: Parts) -> float:
    """Seconds of training on so many cores."""
    return parts["draw"] * work.draw_span + (parts["kernel"] + parts["take"]) * work.span + parts["rounds"]


def whole(work: Work, parts: Parts) -> float:
    """Seconds of the run, from text to vectors."""
    return parts["prepare"] + training(work, parts) + parts["rest"]


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
        "output.checkpoint": "none",
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
    run = json.loads((output / "run.json").read_text())
    epoch = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    work = work_of(counts, case.dimensions, case.blocks, CORES)
    spark = of_events(next(events.iterdir()).read_text().splitlines())
    parts = {
        "kernel": epoch["kernel_seconds"],
        "take": epoch["pair_seconds"] - spark["draw_seconds"],
        "draw": spark["draw_seconds"] / work.draw_span,
        "rounds": 0.0,
        "prepare": run["prepare_seconds"],
        "rest": ran.seconds - run["prepare_seconds"] - epoch["seconds"],
    }
    parts["shuffled"] = spark.pop("shuffled_bytes")
    parts["rounds"] = epoch["seconds"] - training(work, parts)
    return {
        "case": case._asdict(),
        "work": work._asdict(),
        "parts": parts,
        "seconds": ran.seconds,
        "training_seconds": epoch["seconds"],
        "pairs": epoch["pairs"],
        "kept": epoch["words"],
        "rounds": epoch["rounds"],
        "peak_bytes": ran.peak_bytes,
        "others": others,
        "load": os.getloadavg()[0],
        **spark,
    }


def of_events(lines: Iterable[str]) -> dict[str, float]:
    """What Spark's event log says: seconds of drawing, bytes of the shuffle."""
    jobs: dict[int, int] = {}
    stages: set[int] = set()
    seconds, size = 0.0, 0
    for line in lines:
        event = json.loads(line)
        match event["Event"]:
            case "SparkListenerJobStart":
                if event["Properties"].get("spark.job.description", "").endswith("drawing the pairs"):
                    jobs[event["Job ID"]] = event["Submission Time"]
                    stages.update(event["Stage IDs"])
            case "SparkListenerJobEnd" if event["Job ID"] in jobs:
                seconds += (event["Completion Time"] - jobs[event["Job ID"]]) / 1000
            case "SparkListenerTaskEnd" if event["Stage ID"] in stages and "Task Metrics" in event:
                size += event["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    return {"draw_seconds": seconds, "shuffled_bytes": size}


# Telling


class Told(NamedTuple):
    """A run, or the median of those of one case, beside what the model says of it."""

    case: Case
    work: Work
    runs: list[dict[str, Any]]
    parts: Parts
    predicted: Parts

    def of(self, name: str) -> float:
        """The median of a field of the runs."""
        return float(median(run[name] for run in self.runs))

    @property
    def need(self) -> Need:
        """What the memory check of the job asks for."""
        w = self.work
        alone = not self.case.cluster
        return needed(int(w.vocabulary), int(w.dimensions), self.case.blocks, "blocks", w.pairs, one_machine=alone)


def told(runs: Sequence[dict[str, Any]]) -> tuple[list[Told], Constants, Constants]:
    """The runs by case; the constants of those that are fitted, of one machine and of a cluster."""
    cases = list(dict.fromkeys(Case(**run["case"]) for run in runs))
    mine = [[run for run in runs if Case(**run["case"]) == case] for case in cases]
    works = [Work(**some[0]["work"]) for some in mine]
    parts = [{part: float(median(run["parts"][part] for run in some)) for part in PARTS} for some in mine]
    of_machine, of_cluster = (
        fit([(w, p) for case, w, p in zip(cases, works, parts, strict=True) if case.fitted and case.cluster is cluster])
        for cluster in (False, True)
    )
    # The kernels do the same work, of which the runs on one machine tell more; all else differs.
    of_cluster = {**of_cluster, "kernel": of_machine["kernel"]}
    all_told = [
        Told(case, work, found, part, predict(work, of_cluster if case.cluster else of_machine))
        for case, work, found, part in zip(cases, works, mine, parts, strict=True)
    ]
    return all_told, of_machine, of_cluster


def table(heading: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    columns = heading.split(" | ")
    lines = [f"| {heading} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _name(case: Case) -> str:
    if not case.synthetic:
        return f"the demo's text, {case.blocks} blocks"
    through = ", through Spark" if case.cluster else ""
    return f"{case.words / 1e6:g} M words, V {case.vocabulary:,}, D {case.dimensions}, B {case.blocks}{through}"


def _error(predicted: float, found: float) -> str:
    return f"{predicted / found - 1:+.0%}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size < 1e10 else f"{size / 1e9:,.0f}"


def constants_table(of_machine: Constants, of_cluster: Constants) -> str:
    """What everything costs."""
    return table(
        "constant | one machine | through Spark",
        [
            (
                f"{ABOUT[part]}: {term.of}",
                f"{value * term.scale:,.3g} {term.unit}",
                "the same" if value == other else f"{other * term.scale:,.3g} {term.unit}",
            )
            for part, terms in PARTS.items()
            for term, value, other in zip(terms, of_machine[part], of_cluster[part], strict=True)
        ],
    )


def times_table(all_told: Sequence[Told]) -> str:
    """Predicted against measured, seconds."""
    rows = []
    for t in all_told:
        trains, takes = training(t.work, t.predicted), whole(t.work, t.predicted)
        found, all_found = t.of("training_seconds"), t.of("seconds")
        use = "fitted" if t.case.fitted else "**checked**"
        others = max(run["others"] for run in t.runs)
        cells = [f"{all_found:.1f}", f"{takes:.1f}", _error(takes, all_found), f"{others:.1f}"]
        rows.append([_name(t.case), use, f"{found:.1f}", f"{trains:.1f}", _error(trains, found), *cells])
    return table("run | | training, s | predicted | error | whole, s | predicted | error | others' cores", rows)


def parts_table(all_told: Sequence[Told]) -> str:
    """The parts of training, measured and, in brackets, predicted."""
    rows = []
    for t in all_told:
        w, both = t.work, (t.parts, t.predicted)
        pairs = (t.of("pairs"), w.pairs)
        cells = [
            [parts["kernel"] / p * 1e9 for parts, p in zip(both, pairs, strict=True)],
            [parts["take"] / p * 1e9 for parts, p in zip(both, pairs, strict=True)],
            [parts["draw"] / p * 1e9 for parts, p in zip(both, pairs, strict=True)],
            [parts["shuffled"] / p for parts, p in zip(both, pairs, strict=True)],
            [parts["rounds"] / w.rounds * 1e3 for parts in both],
        ]
        memory = t.need.driver + CORES * t.need.task + t.need.heap
        rows.append(
            [_name(t.case), f"{pairs[0] / 1e6:.1f} ({pairs[1] / 1e6:.1f})", f"{w.rounds:.0f}"]
            + [f"{a:,.{d}f} ({b:,.{d}f})" for (a, b), d in zip(cells, (0, 0, 0, 1, 0), strict=True)]
            + [f"{_gb(t.of('peak_bytes'))} ({_gb(memory)})"]
        )
    heading = "run | pairs, M | rounds | kernel, ns a pair | take, ns a pair | draw, ns a pair | shuffle, bytes a pair"
    return table(f"{heading} | a round beyond the work, ms | memory, GB", rows)


def errors(all_told: Sequence[Told]) -> str:
    """How far off the model is."""
    said = []
    for name, fitted in (("fitted", True), ("checked", False)):
        mine = [t for t in all_told if t.case.fitted is fitted]
        for what, field, total in (("training", "training_seconds", training), ("the whole run", "seconds", whole)):
            if not mine:
                continue
            off = [abs(total(t.work, t.predicted) / t.of(field) - 1) for t in mine]
            said.append(
                f"{what} of the {len(mine)} {name} cases: {median(off):.0%} in the median, {max(off):.0%} at worst"
            )
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
        time_ratio = most.of("training_seconds") / least.of("training_seconds")
        ends = f"{getattr(least.case, varied):,} to {getattr(most.case, varied):,}"
        rows.append(
            (f"{varied}, {ends}", f"{more:.0f}", f"{time_ratio:.2f}", f"{time_ratio / more:.2f}", f"{kernel:.2f}")
        )
    return table("varied | times more | training takes times | of which a straight line | kernel a pair, times", rows)


class Cluster(NamedTuple):
    """A run that nobody here can do: hours, bytes."""

    work: Work
    hours: float
    kernels: float
    waiting: float
    drawing: float
    scheduling: float
    traffic: float
    need: Need
    shuffled: float  # in the largest epoch

    @property
    def bound(self) -> str:
        """What takes most of the time; or what forbids the run."""
        if self.work.model / self.work.cores > MESSAGE:
            return "fails"
        named = ("kernels", "waiting", "drawing", "scheduling", "traffic")
        return max(named, key=lambda name: float(getattr(self, name)))


def on_cluster(words: int, vocabulary: int, cores: int, constants: Constants) -> Cluster:
    """As conf/cluster.toml trains, with a block for each core."""
    settings = load(str(measure.ROOT / "conf" / "cluster.toml"), [])
    t, subsample = settings.training, settings.vocabulary.subsample
    w = work_of(zipf_counts(words, vocabulary), t.dimensions, cores, cores, t.epochs, subsample)
    parts = predict(w, constants)
    machines = -(-cores // CORES_A_MACHINE)
    # Written to disk and read again; all but what stays on its machine crosses the network.
    wire = parts["shuffled"] / machines * (2 / DISK + (1 - 1 / machines) / NETWORK)
    # The model leaves the driver and comes back in every round, through one network card.
    traffic = constants["rounds"][2] * w.rounds * w.model + 2 * w.rounds * w.model / NETWORK
    even = (parts["kernel"] + parts["take"]) / cores
    need = needed(vocabulary, t.dimensions, cores, "blocks", w.pairs / w.epochs)
    scheduling = parts["rounds"] - constants["rounds"][2] * w.rounds * w.model
    pieces = [even, even * (w.span * cores - 1), parts["draw"] * w.draw_span + wire, scheduling, traffic]
    seconds = sum(pieces) + parts["prepare"] + parts["rest"]
    kernels, waiting, drawing, planning, moving = (s / 3600 for s in pieces)
    shuffled = parts["shuffled"] / w.epochs
    return Cluster(w, seconds / 3600, kernels, waiting, drawing, planning, moving, need, shuffled)


CLUSTERS = f"""\
Predicted, as conf/cluster.toml trains: D 300, 3 epochs, subsample 1e-4, here with a block for each core. Cores as fast
as the ones measured. Assumed, not measured: {CORES_A_MACHINE} cores a machine, a network of {NETWORK * 8e-9:g} Gbit/s,
disks of {DISK / 1e9:g} GB/s. Hours: in all; in the kernels, if all cores always had work; waiting for the heaviest
block; drawing and shuffling; starting rounds and tasks; the model on its way between driver and tasks. Memory is what
the job's own check asks for. "Fails": the rows of a task are more than the {MESSAGE >> 30} GB of one message."""


def clusters_table(constants: Constants) -> str:
    """The predictions."""
    rows = []
    for words in (10**9, 10**11):
        for vocabulary in (10**5, 10**6, 10**7):
            for cores in (8, 64, 512):
                c = on_cluster(words, vocabulary, cores, constants)
                hours = (c.hours, c.kernels, c.waiting, c.drawing, c.scheduling, c.traffic)
                rows.append(
                    [f"{words / 1e9:g} G words, V {vocabulary / 1e6:g} M, {cores} cores"]
                    + [f"{h:,.1f}" for h in hours]
                    + [c.bound, f"{c.work.rounds:,.0f}", f"{c.work.buckets:,.0f}", f"{c.shuffled / 1e12:,.2f}"]
                    + [_gb(c.need.driver), _gb(c.need.heap), _gb(c.need.task)]
                )
    heading = "run | hours | kernels | waiting | drawing | scheduling | traffic | most of it | rounds | buckets"
    return table(f"{heading} | shuffle an epoch, TB | driver, GB | its JVM, GB | a task, GB", rows)


def report(found: dict[str, Any]) -> str:
    """All that is measured and computed, as Markdown."""
    all_told, of_machine, of_cluster = told(found["runs"])
    base = next(t for t in all_told if t.case.varied == "base")
    spread = sorted(run["training_seconds"] for run in base.runs)
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
            "### Predicted against measured",
            times_table(all_told),
            errors(all_told),
            parts_table(all_told),
            "In brackets: predicted; of memory, what the check before training asks for.",
            "### Growth",
            growth(all_told),
            "### Constants",
            constants_table(of_machine, of_cluster),
            "### Clusters",
            CLUSTERS,
            clusters_table(of_cluster),
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
        axes.plot(at, [training(t.work, t.predicted) for t in mine], color="0.5", label="predicted")
        for fitted, color in ((True, "tab:blue"), (False, "tab:orange")):
            some = [t for t in mine if t.case.fitted is fitted]
            seconds = [t.of("training_seconds") for t in some]
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
    parser.add_argument("--wait", type=float, default=0, metavar="MINUTES", help="at most, for quiet before each run")
    return parser.parse_args()


def main() -> int:
    options = options_of()
    name = "scale-quick" if options.quick else "scale"
    path = OUTPUT / f"{name}.json"
    if options.report:
        found = json.loads(path.read_text())
    else:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        variables = measure.environment()
        found = {
            "command": "python -m bench.scale" + (" --quick" if options.quick else ""),
            "machine": platform.machine(),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("numpy", "pyspark", "scipy")},
            },
            "runs": [],
        }
        seconds = 0.0
        with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
            for case in QUICK if options.quick else FULL:
                wait_for_quiet(options.wait)
                print(f"{_name(case)} ...", end=" ", flush=True)
                started = time.monotonic()
                found["runs"].append(measured(case, Path(scratch), variables))
                seconds += time.monotonic() - started
                found["minutes"] = seconds / 60
                path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
                run = found["runs"][-1]
                print(f"{run['seconds']:.1f} s, training {run['training_seconds']:.1f} s", flush=True)
    said = report(found)
    (OUTPUT / f"{name}.md").write_text(said + "\n")
    if options.quick:
        print(said)
        return 0
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    picture = f"![Training time against words, dimensions, vocabulary and blocks]({PICTURE.name})"
    DOCUMENT.write_text(f"{before}{BEGIN}\n{picture}\n\n{said}\n\n{END}{after}")
    draw(told(found["runs"])[0], PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
