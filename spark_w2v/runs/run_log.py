"""A run seen from outside while it lives: JSON log lines for a log collector, curves for TensorBoard."""

import datetime
import importlib.util
import json
import logging
import os
import time
from collections.abc import Mapping
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


def check_tensorboard(directory: str) -> Path:
    """Where TensorBoard's curves go; refused before Spark starts. Writes nothing.

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
