"""The observer of a job's epochs, which shows how far the training is and keeps what --resume needs."""

import argparse
import logging
from typing import Any, TextIO

from tqdm import tqdm

from spark_w2v import pipeline
from spark_w2v.config import Config
from spark_w2v.runs.run import Run
from spark_w2v.runs.run_log import TensorBoardWriter, check_tensorboard
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Progress

log = logging.getLogger("spark_w2v")


class EpochObserver:
    """Progress of the training: shows where it is, and keeps what --resume needs.

    Args:
        screen: where the progress bar is drawn, if it is a terminal.
    """

    def __init__(self, run: Run, settings: Config, options: argparse.Namespace, screen: TextIO) -> None:
        self._run, self._screen = run, screen
        self._epochs, self._checkpoint = settings.training.epochs, settings.output.checkpoint
        self._tensorboard: str | None = options.tensorboard
        self._has_bar = options.log_format != "json" and screen.isatty()
        self._curves: TensorBoardWriter | None = None
        self._bar: tqdm | None = None
        self.last: dict[str, Any] | None = None  # metrics of the last epoch

    def begin(self, resumed: float) -> None:
        """Draw the bar, which begins at the share of the run that is done already."""
        self._bar = tqdm(
            total=1.0, initial=resumed, disable=not self._has_bar, file=self._screen, leave=False,
            bar_format="{percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left{postfix}",
        )  # fmt: skip
        if self._tensorboard is not None:
            self._curves = TensorBoardWriter(check_tensorboard(self._tensorboard))

    def on_progress(self, training: Training, progress: Progress, line: str | None) -> None:
        assert self._bar is not None
        doing = "drawing pairs" if progress.is_drawing else f"loss {pipeline.shown_loss(progress.loss)}"
        self._bar.set_postfix_str(f" epoch {progress.epoch + 1}/{self._epochs}, {doing}", refresh=False)
        self._bar.update(progress.done - self._bar.n)
        ended = progress.metrics is not None
        if progress.metrics is not None:
            self.last = progress.metrics
            self._run.append_metrics(self.last)
            if self._curves is not None:
                self._curves.add(self.last)
            with tqdm.external_write_mode(file=self._screen):
                log.info(line, extra={"fields": self.last})
        wanted = self._checkpoint == "sweep" or (self._checkpoint == "epoch" and ended)
        if progress.is_saved and progress.done < 1 and wanted:
            self._run.save_checkpoint(training.state.position(), training.state.parameters)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._curves is not None:
            self._curves.close()
