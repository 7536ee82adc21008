"""Callbacks after each epoch, which may end a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spark_w2v.config import Config
from spark_w2v.errors import UserError, passed_on

log = logging.getLogger("spark_w2v")

# Gets the metrics of an epoch, as metrics.jsonl has them; the run ends after an epoch for which it returns true.
EpochCallback = Callable[[Mapping[str, Any]], object]


def check_callbacks(callbacks: Any) -> None:
    """Refuse what is not a list of functions.

    Raises:
        UserError: one sentence.
    """
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise UserError("callbacks: is not a list of functions; give one, also of a single function.")


class EarlyStopping:
    """A callback that ends a run once the held-out loss no longer falls.

    Args:
        patience: epochs in a row without an improvement after which the run ends; 0 never ends it.
        min_improvement: share of the held-out loss of the last epoch that counted as an improvement, by which an epoch
            has to be below it to count. Several small improvements may be one together.
    """

    def __init__(self, patience: int, min_improvement: float = 0.0) -> None:
        self.patience, self.min_improvement = patience, min_improvement
        self.best: float | None = None
        self.without = 0  # epochs in a row

    def __call__(self, metrics: Mapping[str, Any]) -> bool:
        """Take note of an epoch; return whether the run should end."""
        if metrics.get("epoch") == 1:  # of a training that begins
            self.best, self.without = None, 0
        loss = metrics.get("held_out_loss")
        if loss is None or not self.patience:
            return False
        if self.best is None or loss < self.best * (1 - self.min_improvement):
            self.best, self.without = loss, 0
        else:
            self.without += 1
        return self.without >= self.patience


class EpochCallbacks:
    """All callbacks of a run, with early stopping.

    Args:
        callbacks: get the metrics of the epoch; the run ends after an epoch for which one returns true.
    """

    def __init__(self, settings: Config, callbacks: Sequence[EpochCallback]) -> None:
        t = settings.training
        self._early, self._callbacks = EarlyStopping(t.patience, t.min_improvement), list(callbacks)
        self._has_warned = False
        self.reason: str | None = None  # why the run ended before its last epoch

    def replay(self, earlier: Sequence[Mapping[str, Any]]) -> bool:
        """Take note of the epochs before a run was resumed; return whether it ended with the last of them."""
        for metrics in earlier:
            self._stop_early(metrics)
        return self.reason is not None

    def _stop_early(self, metrics: Mapping[str, Any]) -> None:
        if self._early(metrics) and self.reason is None:
            without = f"no lower held-out loss in {self._early.without} epochs (training.patience)"
            self.reason = f"after epoch {metrics['epoch']}: {without}"

    def __call__(self, metrics: Mapping[str, Any]) -> bool:
        """Call them all; return whether the run should end."""
        where = f"after epoch {metrics['epoch']}"
        if self._early.patience and metrics.get("held_out_loss") is None and not self._has_warned:
            self._has_warned = True
            log.warning("patience ends no training here, as no sentence was held out: there are too few of them")
        self._stop_early(metrics)
        for callback in self._callbacks:
            # A copy: the metrics go to run.json and to the summary, whatever a callback does to its own.
            with passed_on():
                stops = callback(dict(metrics))
            if stops and self.reason is None:
                self.reason = f"{where}: a callback asked for it"
        return self.reason is not None
