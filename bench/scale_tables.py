"""The tables and the picture of docs/scale.md."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.costs import (
    ABOUT,
    CORES_PER_MACHINE,
    DISK,
    KERNEL,
    MEMORY,
    NETWORK,
    PARTS,
    Cluster,
    KernelTerm,
    Model,
    Term,
    on_cluster,
)
from bench.scale_cases import CORES, QUIET, Case
from bench.scale_fit import Told, ToldSingle, told
from bench.singles import DIMENSIONS, SUBSAMPLE, typical

Clusters = dict[tuple[int, int, int], Cluster]


def table(heading: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    columns = heading.split(" | ")
    lines = [f"| {heading} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _name(case: Case) -> str:
    if not case.synthetic:
        return f"the demo's text, {case.blocks} blocks"
    more = (", two executors" if case.cluster else "") + (", snapshots" if case.snapshots else "")
    more += f", {case.sweeps} sweeps" if case.sweeps else ""
    return f"{case.words / 1e6:g} M words, V {case.vocabulary:,}, D {case.dimensions}, B {case.blocks}{more}"


def _error(predicted: float, found: float) -> str:
    return f"{predicted / found - 1:+.0%}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size < 1e10 else f"{size / 1e9:,.0f}"


def _use(fitted: bool) -> str:
    return "fitted" if fitted else "**checked**"


def constants_table(model: Model) -> str:
    """Table of all costs."""

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
        rows.append(
            [_name(t.case), cell([p / 1e6 for p in pairs], 1), f"{t.of('sweeps') * w.blocks:.0f} ({w.rounds})"]
            + [cell(values, 0) for values in each]
            + [cell([t.parts["start"], t.predicted["start"]], 1)]
            + [cell([t.waits, t.predicted_waits], 1)]
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
        seconds = [abs(t.predicted_waits - t.waits) for t in mine]
        said.append(f"what a task waits there: {median(seconds):.1f} s in the median, {max(seconds):.1f} s at worst")
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
Hours: in all; in the kernels, if all cores always had work, and that divided by all; waiting for the heaviest blocks
and for the bucket that takes longest; drawing pairs, shuffling, spooling and taking them; parameters out of the driver
and back, and blocks as far as training does not hide them; the rest: reading, counting, starting, writing. Parameters
and pairs: what a machine sends in an epoch through its card. Memory is what the job's own check asks for."""

SIZES = [(words, vocabulary) for words in (10**9, 10**11) for vocabulary in (10**5, 10**6, 10**7)]
AMOUNTS = (8, 64, 512)


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
    heading = "run | hours | kernels | kernels / total | waiting | drawing | exchange | others | most of it | sweeps"
    return table(f"{heading} | parameters, GB | pairs, GB | driver, GB | its JVM, GB | a task, GB", rows)


class Goal(NamedTuple):
    """Goal of a run: hours at most, or a share of the kernels at least."""

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
    """Tables of the dependence on the assumed disks and memory."""
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
