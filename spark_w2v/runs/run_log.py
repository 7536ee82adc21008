"""A run seen from outside while it lives: JSON log lines, curves for TensorBoard, parameters and metrics for MLflow."""

import contextlib
import datetime
import importlib.util
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spark_w2v.errors import UserError
from spark_w2v.runs.places import is_local, local_path

log = logging.getLogger(__name__)

# What TensorBoard shows, by what metrics.jsonl calls it; the part before the slash becomes a group of charts.
CURVES = {
    "loss": "loss/training",
    "held_out_loss": "loss/held_out",
    "learning_rate": "training/learning_rate",
    "words_per_second": "training/words_per_second",
}


MLFLOW_TEXT = 6000  # characters of a parameter that it takes
URL_USER = re.compile(r"//[^\s]*@")  # with the password, where MLFLOW_TRACKING_URI has them


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and whatever a record carries as `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def check_tensorboard(directory: str, output: str | None = None) -> Path:
    """Where TensorBoard's curves go; refused before Spark starts. Writes nothing.

    Args:
        output: of the run; None where it is on no file system of this host for certain.

    Raises:
        UserError: tensorboardX is not installed, or there can be no such directory.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError("--tensorboard: needs the package tensorboardX, which is not installed; install it.")
    if not is_local(directory):
        raise UserError(f"--tensorboard {directory}: is not on this host; give a directory of the driver.")
    target = local_path(directory)
    there = next(path for path in (target, *target.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--tensorboard {directory}: cannot be written to, as {there} cannot; give another directory.")
    if output is not None and is_local(output) and local_path(output) in (target, *target.parents):
        raise UserError(
            f"--tensorboard {directory}: is inside of the output {output}, which holds a run and nothing else; give "
            "another directory."
        )
    return target


class TensorBoardWriter:
    """TensorBoard's curves of one run. What the disk refuses costs the curves, not the run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: Any = None
        self._broken = False

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add the metrics of one epoch; whoever reads the file has them when this returns."""
        if self._broken:
            return
        # Not SummaryWriter, which leaves writing to a thread: its flush does not wait for that, and what the disk
        # refuses is then a traceback of the thread's.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        epoch = metrics["epoch"]
        try:
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._file = EventsWriter(str(self._directory / "events"), f".{os.getpid()}")
                # A resumed run trains epochs again that the stopped one had shown already: they are dropped.
                start = SessionLog(status=SessionLog.START)
                self._file.write_event(Event(wall_time=time.time(), step=epoch, session_log=start))
            for name, tag in CURVES.items():
                if (value := metrics.get(name)) is not None:
                    summary = scalar(tag, value)
                    self._file.write_event(Event(wall_time=time.time(), step=epoch, summary=summary))
            self._file.flush()
        except OSError as error:
            self._broken = True
            log.warning("%s: no more curves are written there (%s)", self._directory, error.strerror or error)

    def close(self) -> None:
        if self._file is not None and not self._broken:
            self._file.close()


def check_mlflow() -> None:
    """Refuse --mlflow before Spark starts, where it is not installed.

    Raises:
        UserError: one sentence.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("--mlflow: needs the package mlflow, or mlflow-skinny, which is not installed; install it.")


class MlflowWriter:
    """A run of MLflow, in its active run where there is one. What the server refuses costs the log, not the run.

    Where it is, and which experiment it belongs to, MLflow takes from its environment: MLFLOW_TRACKING_URI,
    MLFLOW_EXPERIMENT_NAME. How long it waits for a server, from MLFLOW_HTTP_REQUEST_TIMEOUT and _MAX_RETRIES.

    Args:
        parameters: logged at once.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow, self._broken = mlflow, False
        self._is_ours = mlflow.active_run() is None
        # Not one that the environment names, which may have the epochs of the attempt before.
        self.is_new = self._is_ours and not os.environ.get("MLFLOW_RUN_ID")
        self._status = "FAILED"
        try:
            with self._kept():
                if self._is_ours:
                    mlflow.start_run()
                mlflow.log_params({name: str(value)[:MLFLOW_TEXT] for name, value in parameters.items()})
        except BaseException:  # such as an interruption, of a run that nobody knows of yet
            self.close()
            raise

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a server, a disk, or a file of another version
            reason = URL_USER.sub("//", str(error)).strip().partition("\n")[0][:300] or type(error).__name__
            if not self._broken:
                log.warning("MLflow: no more is logged there (%s)", reason)
            self._broken = True

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Log the metrics of one epoch."""
        if self._broken:
            return
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
        with self._kept():
            self._mlflow.log_metrics(numbers, step=metrics["epoch"])

    def finish(self) -> None:
        """Let close tell MLflow that the run is finished."""
        self._status = "FINISHED"

    def add_report(self, report: Path) -> None:
        """Log the report of a run, where it has one."""
        if self._broken or not report.exists():
            return
        with self._kept():
            self._mlflow.log_artifact(str(report))

    def close(self) -> None:
        """End MLflow's run, if it is ours."""
        if self._is_ours and self._mlflow.active_run() is not None:
            with self._kept():
                self._mlflow.end_run(self._status)
