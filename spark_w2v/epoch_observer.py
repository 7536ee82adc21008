"""The observer of a job's epochs, which shows how far the training is and keeps what --resume needs."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spark_w2v.analysis import report
from spark_w2v.callbacks import EpochCallback, EpochCallbacks
from spark_w2v.config import Config
from spark_w2v.progress_text import epoch_line, progress_text
from spark_w2v.runs.run import Run
from spark_w2v.runs.run_log import MlflowWriter, TensorBoardWriter, check_tensorboard
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Progress
from spark_w2v.terminal import StatusLine

log = logging.getLogger("spark_w2v")

SILENCE = 60.0  # seconds without a line, where nothing moves on a screen


class EpochObserver:
    """Progress of the training: shows where it is, and keeps what --resume needs.

    Args:
        line: where the progress is drawn.
        callbacks: of EpochCallbacks.
        tensorboard: where its curves go.
        mlflow: the parameters of a run that is logged to MLflow.
    """

    def __init__(
        self,
        run: Run,
        settings: Config,
        line: StatusLine,
        callbacks: Sequence[EpochCallback],
        tensorboard: str | None,
        mlflow: Mapping[str, Any] | None,
    ) -> None:
        self._run, self._line = run, line
        self._epochs, self._checkpoint = settings.training.epochs, settings.output.checkpoint
        self._tensorboard = tensorboard
        self._curves: TensorBoardWriter | None = None
        self._mlflow = None if mlflow is None else MlflowWriter(mlflow)
        self._callbacks = EpochCallbacks(settings, callbacks)
        self._said = time.monotonic()
        self.last: dict[str, Any] | None = None  # metrics of the last epoch

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its last epoch; None where it did not."""
        ended_early = self.last is not None and self.last["epoch"] < self._epochs
        return self._callbacks.reason if ended_early else None

    def begin(self, epoch: int) -> bool:
        """Begin with this epoch, from 0; return whether the run had ended before it."""
        earlier = [metrics for metrics in self._run.metrics() if metrics["epoch"] <= epoch]
        if earlier:
            self.last = earlier[-1]
        self._said = time.monotonic()
        if self._mlflow is not None and self._mlflow.is_new:
            for metrics in earlier:  # which another run of MLflow's has
                self._mlflow.add(metrics)
        if self._tensorboard is not None:
            self._curves = TensorBoardWriter(check_tensorboard(self._tensorboard))
        return self._callbacks.replay(earlier)

    def on_progress(self, training: Training, progress: Progress) -> bool:
        """Show and keep the progress; return whether the run should end."""
        self._line.progress(progress.done, progress_text(progress, self._epochs))
        if progress.metrics is not None:
            self.last = progress.metrics
            self._run.append_metrics(self.last)
        elif not self._line.is_shown and time.monotonic() - self._said >= SILENCE:
            self._said = time.monotonic()
            log.info("%.0f %% of the training: %s", 100 * progress.done, progress_text(progress, self._epochs))
        wanted = self._checkpoint == "sweep" or (self._checkpoint == "epoch" and progress.metrics is not None)
        if progress.is_saved and wanted:  # of the last epoch, too, as the output may not be written
            self._run.save_checkpoint(training.state.position(), training.state.parameters)
        # After the checkpoint, as a callback is the user's code and may fail.
        return progress.metrics is not None and self._on_epoch(progress, progress.metrics)

    def _on_epoch(self, progress: Progress, metrics: dict[str, Any]) -> bool:
        """Show the metrics of an epoch, and call the callbacks; return whether the run should end."""
        for writer in (self._curves, self._mlflow):
            if writer is not None:
                writer.add(metrics)
        log.info(epoch_line(progress, self._epochs), extra={"fields": metrics})
        self._said = time.monotonic()
        stops = self._callbacks(metrics) and progress.done < 1
        if stops:
            log.info("the training ends %s", self.stopped)
        return stops

    def publish(self, output: Path | None) -> None:
        """Log the report of a finished run.

        Args:
            output: where it is on this host; None in a store.
        """
        if self._mlflow is not None and output is not None:
            self._mlflow.add_report(output / report.NAME)

    def finish(self) -> None:
        """Take note that the output is published, whatever comes after."""
        if self._mlflow is not None:
            self._mlflow.finish()

    def close(self) -> None:
        if self._curves is not None:
            self._curves.close()
        if self._mlflow is not None:
            self._mlflow.close()
