"""The Spark job of an epoch, on its own thread, and why it ended."""

import contextlib
import json
import re
import threading
from typing import TYPE_CHECKING

from pyspark import InheritableThread, SparkContext

from spark_w2v.spark.java_errors import CANCELLED, lost
from spark_w2v.spark.session import run_shuffles_watched

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Killed, or with what faulthandler says of a crash; and without Spark's advice to switch that on.
WORKER_EXITED = re.compile(r"Python worker exited unexpectedly[^.:]*(?::.*)?")

OURS = re.compile(r"^spark_w2v\.exchange\.\w+\.\w+: ")  # the name of an error of the exchange
CANCELS = 30  # times that a job is cancelled, once a second
REASON = 3.0  # seconds that Spark is given to say why a task was lost


class EpochJob:
    """The Spark job of an attempt, on its own thread.

    Args:
        frame: its shuffle draws pairs, what follows trains on them.
        tag: of no other job of the session, so that ending this one ends no other training. The group is that of the
            caller, who can cancel it.
        timeout: seconds after which a worker that draws pairs and stands still is ended.
    """

    def __init__(self, context: SparkContext, frame: "DataFrame", tag: str, description: str, timeout: float) -> None:
        self._context, self._frame, self._timeout = context, frame, timeout
        self._tag, self._description = tag, description
        self._error: BaseException | None = None
        self._failures: list[str] = []
        self.has_shuffled = False  # what comes next are the tasks of the exchange
        self._thread: threading.Thread = InheritableThread(target=self._run, name="epoch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._context.addJobTag(self._tag)
            self._context.setJobDescription(self._description)
            # A worker that trains gives nothing before its end, and the exchange watches it.
            run_shuffles_watched(self._frame, self._timeout)
            self.has_shuffled = True
            for row in self._frame.collect():
                if (failure := json.loads(row["result"])["failure"]) is not None:
                    self._failures.append(failure)
        except BaseException as error:
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    @property
    def failed(self) -> bool:
        return self.ended and self._error is not None

    @property
    def was_cancelled(self) -> bool:
        """Whether it was cancelled by somebody else: `end` comes after all else."""
        return self.ended and self._error is not None and lost(self._error) == CANCELLED

    @property
    def failures(self) -> list[str]:
        """What its tasks said, if it ended by itself."""
        return list(self._failures)

    def reason(self) -> str:
        """Return why it ended, in one line."""
        if self._error is not None:
            return _reason(self._error)
        return self._failures[0] if self._failures else "the tasks ended before all rows had come back"

    def reason_behind(self, failure: str) -> str:
        """Return why the exchange failed: where it lost a task, as one of its neighbors may say, Spark may know why.

        Or the task itself, whose exchange broke.
        """
        if "lost task" not in failure:
            return failure
        self.wait(REASON)
        if self.failed:
            return self.reason()
        return next((said for said in self._failures if "lost " not in said), failure)

    def wait(self, timeout: float) -> None:
        """Wait until it ends by itself, at most `timeout` seconds: its tasks have been told to end."""
        self._thread.join(timeout)

    def end(self) -> None:
        """Cancel the job if it still runs, or has yet to be started by its thread."""
        if self._thread.is_alive():
            for _ in range(CANCELS):  # Spark starts a shuffle that comes after it was cancelled
                with contextlib.suppress(Exception):  # the JVM may be gone
                    self._context.cancelJobsWithTag(self._tag)
                self._thread.join(1.0)
                if self.ended:
                    break


def _reason(error: BaseException) -> str:
    """Return the message of a failed job, without the stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        # What that is caused by, the end of a stream, says nothing.
        if (exited := WORKER_EXITED.search(line)) is not None:
            return exited[0].rstrip(": ")[:500]
    for line in lines:
        for beginning in ("ExecutorLostFailure", "Reason:", "Caused by:", "[BARRIER", "Barrier"):
            if beginning in line:
                return line[:500]
    named = [line for line in lines if ("Error" in line or "Exception" in line) and not line.startswith("at ")]
    said = named[-1] if named else lines[0] if lines else type(error).__name__
    return OURS.sub("", said)[:500]
