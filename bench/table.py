"""The runs → medians, spread, ratios, Markdown."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

BASELINE = "gensim-1"

Run = Mapping[str, Any]
Value = Callable[[Run], float | None]


def kernel_speed(run: Run) -> float | None:
    """Trained words a second and core, while the cores train."""
    return _divided(run["trained_words"], run["busy_seconds"])


def training_speed(run: Run) -> float | None:
    """Trained words a second and core, over all of training: drawing pairs and Spark's scheduling too."""
    return _divided(run["trained_words"], run["train_seconds"] * run["cores"])


def _divided(value: float | None, by: float | None) -> float | None:
    return None if value is None or not by else value / by


# Heading, value of a run, what it is multiplied with, decimals.
COLUMNS: Sequence[tuple[str, Value, float, int]] = (
    ("wall, s", lambda run: run["seconds"], 1, 1),
    ("memory, MB", lambda run: run["peak_bytes"], 1e-6, 0),
    ("a Python worker, MB", lambda run: run["worker_bytes"], 1e-6, 0),
    ("vocabulary, s", lambda run: run["vocabulary_seconds"], 1, 1),
    ("training, s", lambda run: run["train_seconds"], 1, 1),
    ("1000 words/s a core, kernels", kernel_speed, 1e-3, 1),
    ("1000 words/s a core, training", training_speed, 1e-3, 1),
    ("WordSim-353", lambda run: run["wordsim353"], 1, 1),
    ("SimLex-999", lambda run: run["simlex999"], 1, 1),
    ("analogies, %", lambda run: run["analogies"], 1, 1),
)
# Heading, value of a run, whether less is better.
RATIOS: Sequence[tuple[str, Value, bool]] = (
    ("wall: times faster", lambda run: run["seconds"], True),
    ("a core, kernels: times faster", kernel_speed, False),
    ("a core, training: times faster", training_speed, False),
)


# Systems that README.md compares the wall time with.
PEERS = ("gensim-2", "mllib-2")


def short(runs: Sequence[Run], order: Sequence[str]) -> str:
    """The table of README.md: time, memory, quality, and times faster than the peers."""
    found = summary(runs, BASELINE)
    peers = [peer for peer in PEERS if peer in found]
    headings = ["wall, s", "memory, MB", "WordSim-353", "SimLex-999", "analogies, %"]
    decimals = {heading: number for heading, _, _, number in COLUMNS}
    titles = [*headings, *(f"times faster than {peer}" for peer in peers)]
    lines = ["| system | " + " | ".join(titles) + " |", "|---" + "|--:" * len(titles) + "|"]
    for label in (label for label in order if label in found):
        cells = [f"{found[label][h]['median']:,.{decimals[h]}f}" if h in found[label] else "–" for h in headings]
        for peer in peers:
            values = ratios(runs, label, peer, lambda run: run["seconds"], True)
            cells.append(f"{median(values):.1f}" if values else "–")
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def ratios(runs: Sequence[Run], label: str, baseline: str, value: Value, less_is_better: bool) -> list[float]:
    """How many times better than the baseline, each run against the baseline's of the same round."""
    found = []
    of_round = {run["round"]: run for run in runs if run["label"] == baseline}
    for run in runs:
        if run["label"] == label and run["round"] in of_round:
            mine, other = value(run), value(of_round[run["round"]])
            if mine and other:
                found.append(other / mine if less_is_better else mine / other)
    return found


def summary(runs: Sequence[Run], baseline: str) -> dict[str, dict[str, dict[str, float]]]:
    """Median, least and most of every column and ratio, by label."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label in dict.fromkeys(run["label"] for run in runs):
        mine = [run for run in runs if run["label"] == label]
        cells = found[label] = {}
        for heading, value, scale, _ in COLUMNS:
            values = [number * scale for run in mine if (number := value(run)) is not None]
            if values:
                cells[heading] = _spread(values)
        for heading, value, less in RATIOS:
            if values := ratios(runs, label, baseline, value, less):
                cells[f"{heading} than {baseline}"] = _spread(values)
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def markdown(runs: Sequence[Run], order: Sequence[str], baseline: str, preamble: str) -> str:
    """Return the description of what was measured, the table, and how to read it."""
    found = summary(runs, baseline)
    labels = [label for label in order if label in found]
    absolute = [(heading, decimals) for heading, _, _, decimals in COLUMNS]
    relative = [(f"{heading} than {baseline}", 2) for heading, _, _ in RATIOS]
    parts = [preamble, _rows(found, labels, absolute)]
    if baseline in found:
        parts += [f"Against {baseline}, each run with its run of the same round:", _rows(found, labels, relative)]
    for peer in (peer for peer in PEERS if peer in found):
        walls = {
            label: {"wall: times faster": _spread(values)}
            for label in labels
            if (values := ratios(runs, label, peer, lambda run: run["seconds"], True))
        }
        parts += [f"Against {peer}:", _rows(walls, list(walls), [("wall: times faster", 2)])]
    return "\n\n".join([*parts, NOTES]) + "\n"


def _rows(found: Mapping[str, Any], labels: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    lines = ["| system | " + " | ".join(heading for heading, _ in columns) + " |", "|---" + "|--:" * len(columns) + "|"]
    for label in labels:
        cells = [_cell(found[label].get(heading), decimals) for heading, decimals in columns]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def _cell(spread: Mapping[str, float] | None, decimals: int) -> str:
    if spread is None:
        return "–"
    middle, least, most = (f"{spread[name]:,.{decimals}f}" for name in ("median", "least", "most"))
    return middle if least == most else f"{middle} ({least} to {most})"


NOTES = """\
Medians, in brackets the least and the most. The rounds are interleaved, and each has a seed of its own.

- wall, memory: the whole process, from raw text to saved vectors; memory is the peak of all its processes together,
  and of the largest of Spark's Python workers.
- vocabulary: reading, counting and encoding, with Spark started already; MLlib does not tell it apart from training.
- 1000 words/s a core: words of the vocabulary that subsampling left. Kernels: ours by the seconds in the
  kernels, without drawing the pairs and without Spark; gensim by the seconds of train() times its workers. Training:
  both by the seconds of training times the cores. MLlib has no subsampling, so its words do not compare.
- MLlib has hierarchical softmax instead of negative samples.
  Its tasks of one process share one model while they train; on a cluster they do not, and quality is lower."""
