"""The summary of a training, which a fitted model keeps."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spark_w2v.runs import metrics


class TrainingSummary:
    """Losses, words and seconds of a training, also of a model that was saved and loaded.

    Args:
        epochs: metrics of each epoch, as metrics.jsonl has them.
        seconds: of the whole run, reading and counting included.
        stopped: why it ended before its last epoch; None where it did not.
    """

    def __init__(self, epochs: Sequence[Mapping[str, Any]], seconds: float, stopped: str | None = None) -> None:
        self.epochs = [dict(metrics) for metrics in epochs]
        self.seconds = seconds
        self.stopped = stopped

    @property
    def losses(self) -> list[float | None]:
        """Loss per pair of each epoch, in nats; None of an epoch that drew no pair."""
        return list(self._of_epochs("loss"))

    @property
    def heldOutLosses(self) -> list[float | None]:
        """Loss per pair of the held-out sentences after each epoch, in nats; None where nothing was held out."""
        return list(self._of_epochs("held_out_loss"))

    @property
    def objectiveHistory(self) -> list[float | None]:
        """The same as `losses`, by the name that MLlib's summaries have for it."""
        return self.losses

    @property
    def totalIterations(self) -> int:
        """Epochs that were trained."""
        return len(self.epochs)

    @property
    def words(self) -> int:
        """Words that were trained on, all epochs together."""
        return sum(self._of_epochs("words"))

    def _of_epochs(self, name: str) -> Iterator[Any]:
        return (metrics.get(name) for metrics in self.epochs)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-able."""
        return {"epochs": self.epochs, "seconds": self.seconds, "stopped": self.stopped}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any] | None) -> "TrainingSummary | None":
        """Return what `as_dict` returned; None of nothing.

        Raises:
            ValueError: it is something else.
        """
        try:
            return None if found is None else cls(found["epochs"], found["seconds"], found.get("stopped"))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError("the summary of the training is not one") from None

    @classmethod
    def of_output(cls, output: Path) -> "TrainingSummary | None":
        """Return that of a finished output; None where its files do not tell."""
        try:
            run = json.loads((output / "run.json").read_text(encoding="utf-8"))
            epochs = [json.loads(line) for line in metrics.lines(output / "metrics.jsonl")]
            return cls(epochs, run["seconds"], run.get("stopped_early"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def __repr__(self) -> str:
        last = self.losses[-1] if self.epochs else None
        return f"TrainingSummary: epochs={len(self.epochs)}, loss={last}, seconds={self.seconds}"
