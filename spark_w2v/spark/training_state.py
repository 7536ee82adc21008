"""Settings, state and progress of a training."""

import logging
import math
import sys
from dataclasses import dataclass
from typing import Any

from spark_w2v.errors import DivergedError, NoPairsError
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.schedule import window_contexts
from spark_w2v.types import Float32Array

log = logging.getLogger("spark_w2v")

# Largest loss of an epoch, in multiples of the loss of an untrained model. Texts of some dozen words that teach nothing
# came to 1.005 at the default rate; runs that diverged to 1.3 and more in their first or second epoch.
MOST_LOSS = 1.05
# The same for the held-out loss, measured after the last step, unless the loss is below LEARNED_LOSS, in the same
# multiples: of a text that is learned by heart the held-out loss has no bound.
MOST_HELD_OUT_LOSS, LEARNED_LOSS = 2.0, 0.5
# The same for given vectors that are worse for this text than untrained ones, in multiples of the held-out loss that
# they begin with, or of the loss of an untrained model where nothing is held out.
MOST_GIVEN_LOSS, MOST_UNKNOWN_LOSS = 2.0, 10.0
ROUNDING = 1e-6  # of a loss: that of vectors whose contexts are zeros is that of an untrained model, up to this share


@dataclass(frozen=True)
class Settings:
    """Settings of a training, resolved: no "auto" is left."""

    scheme: str
    partitions: int
    dimensions: int
    window: int
    negatives: int
    epochs: int
    learning_rate: float
    slices: int  # sweeps_per_epoch of blocks, syncs_per_epoch of replicas
    subsample: float
    noise_exponent: float
    damping: float
    seed: int
    held_out_words: int
    max_contexts: int = 0  # of a center, from its whole sentence; 0 for those of a window
    contexts: float | None = None  # of a center, expected; None for those of a window
    shrinks: bool = True  # whether the reach of a center is drawn, and not always the window
    last_learning_rate: float = 0.0

    @property
    def rates(self) -> tuple[float, float]:
        """The first and the last learning rate of the run."""
        return self.learning_rate, self.last_learning_rate

    @property
    def expected_contexts(self) -> float:
        return window_contexts(self.window, self.shrinks) if self.contexts is None else self.contexts


@dataclass
class State:
    """State of a run: all that resuming needs.

    Args:
        parameters: complete; never written to again once training has begun.
        epoch, sweep: epoch and sweep to train next; with `replicas`, sweeps are syncs.
        loss, loss_pairs, pairs, words: of the epoch so far.
        seconds: of the epoch so far.
        draw_seconds, take_seconds, kernel_seconds, wait_seconds: core-seconds of all tasks: drawing pairs, taking them
            to where they are trained, in kernels, waiting for blocks.
        driver_bytes, task_bytes: bytes of parameters sent through the driver and between tasks.
        has_trained: whether an epoch before had pairs.
    """

    parameters: ParameterFiles
    epoch: int = 0
    sweep: int = 0
    loss: float = 0.0
    loss_pairs: int = 0
    pairs: int = 0
    words: int = 0
    seconds: float = 0.0
    draw_seconds: float = 0.0
    take_seconds: float = 0.0
    kernel_seconds: float = 0.0
    wait_seconds: float = 0.0
    driver_bytes: int = 0
    task_bytes: int = 0
    has_trained: bool = False

    @property
    def center(self) -> Float32Array:
        """(V, D) in block order, mapped."""
        return self.parameters.center

    @property
    def context(self) -> Float32Array:
        """(V, D) in block order, mapped."""
        return self.parameters.context

    def position(self) -> dict[str, Any]:
        """Return all but the parameters, as JSON-able values."""
        return {name: value for name, value in vars(self).items() if name != "parameters"}

    @classmethod
    def at(cls, position: dict[str, Any], parameters: ParameterFiles) -> "State":
        """Return the state at a position, as `position` returns it."""
        return cls(parameters, **position)

    def check_pairs(self) -> None:
        """Refuse a training that has ended without a pair in any of its epochs.

        Raises:
            NoPairsError: one sentence.
        """
        if not self.has_trained:
            raise NoPairsError(len(self.center), self.epoch)


@dataclass(frozen=True)
class Progress:
    """Report on a training that goes on.

    Args:
        done: share of the run, 0 to 1.
        epoch: epoch that is trained, from 0.
        learning_rate: learning rate that is reached.
        loss: of the epoch so far; None before there is one.
        is_drawing: whether pairs are being drawn, and nothing is trained.
        is_saved: whether there is a new state, which can be saved.
        metrics: metrics of the epoch if it has ended; else None.
        left: seconds that the run has left; None while unknown.
    """

    done: float
    epoch: int
    learning_rate: float
    loss: float | None
    is_drawing: bool = False
    is_saved: bool = False
    metrics: dict[str, Any] | None = None
    left: float | None = None


def about_tasks(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return metrics on tasks: the most and the least pairs of one, and the host of the slowest."""
    pairs = [task.get("pairs", 0) for task in tasks]
    busy = [task.get("take_seconds", 0.0) + task.get("kernel_seconds", 0.0) for task in tasks]
    slowest = tasks[busy.index(max(busy))]
    return {
        "tasks": len(tasks),
        "most_task_pairs": max(pairs),
        "least_task_pairs": min(pairs),
        "slowest_host": slowest.get("host"),
    }


class LossLimit:
    """Largest loss that an epoch may end with."""

    def __init__(self, negatives: int) -> None:
        self._untrained = (1 + negatives) * math.log(2)  # the context rows of an untrained model are zeros
        self._given = 0.0
        self._has_warned = False

    def begin_with(self, held_out: float | None) -> None:
        """Note that the run begins with given vectors; the last call counts.

        Args:
            held_out: the held-out loss of these; None where nothing is held out.
        """
        if held_out is None:
            self._given = MOST_UNKNOWN_LOSS * self._untrained
        else:
            is_worse = held_out > self._untrained * (1 + ROUNDING)
            self._given = MOST_GIVEN_LOSS * held_out if is_worse else 0.0

    def check(self, loss: float | None, held_out: float | None) -> None:
        """Refuse the losses of an epoch, and warn once of a held-out loss above that of an untrained model.

        Raises:
            DivergedError: one is too large.
        """
        has_learned = loss is not None and loss < LEARNED_LOSS * self._untrained
        most_held_out = sys.float_info.max if has_learned else MOST_HELD_OUT_LOSS * self._untrained
        for name, value, most in (
            ("loss", loss, MOST_LOSS * self._untrained), ("held-out loss", held_out, most_held_out),
        ):  # fmt: skip
            if value is not None and value > max(most, self._given):
                raise DivergedError(
                    f"its {name} is {value:.4g} per pair, and that of an untrained model {self._untrained:.4g}"
                )
        if held_out is not None and held_out > max(self._untrained, self._given) and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the held-out loss is %.4g per pair, and that of an untrained model %.4g: the vectors fit the text "
                "they are trained on and nothing else; give more text, fewer epochs, or training.patience",
                held_out, self._untrained,
            )  # fmt: skip
