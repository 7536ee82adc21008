"""The runs → a picture of time against quality."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

QUALITIES = (("wordsim353", "WordSim-353"), ("simlex999", "SimLex-999"), ("analogies", "analogies, %"))
COLORS = {"ours": "#0b6e4f", "gensim": "#b5541c", "mllib": "#5b5b8c"}


def draw(runs: Sequence[Mapping[str, Any]], order: Sequence[str], path: Path) -> None:
    """One panel a test: seconds from raw text to saved vectors, against the score; lines from the least to the most."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(QUALITIES))
    for panel, (key, title) in zip(panels, QUALITIES, strict=True):
        for number, label in enumerate(order):
            mine = [run for run in runs if run["label"] == label and run[key] is not None]
            if not mine:
                continue
            color = COLORS[label.split("-")[0]]
            seconds, scores = [run["seconds"] for run in mine], [run[key] for run in mine]
            at = median(seconds), median(scores)
            panel.plot([min(seconds), max(seconds)], [at[1]] * 2, color=color, linewidth=1)
            panel.plot([at[0]] * 2, [min(scores), max(scores)], color=color, linewidth=1)
            panel.plot(*at, "o", color=color, markersize=5)
            panel.annotate(label, at, xytext=(5, -12 if number % 2 else 4), textcoords="offset points", color=color)
        panel.set_title(title)
        panel.set_xlabel("seconds, raw text to vectors")
        panel.set_xlim(left=0)
        panel.margins(x=0.2, y=0.2)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, facecolor="white", metadata={"Date": None})
