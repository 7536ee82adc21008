"""jobs/train.py as users start it, with spark-submit, and what Spark's event log tells of it while it runs."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from tests.cluster.standalone import PATIENCE, PROGRAMS, QUICK_JVM, end, environment, with_descendants

STARTED, ENDED = "SparkListenerJobStart", "SparkListenerJobEnd"
ROOT = Path(__file__).resolve().parents[2]


def planted_corpus(directory: Path, files: int, sentences: int) -> Path:
    """Files of sentences of 20 words, each sentence of one of 48 groups of 20 words: 960 words, enough for 3 blocks."""
    rng = np.random.default_rng(7)
    directory.mkdir()
    for number in range(files):
        groups, words = rng.integers(48, size=sentences), rng.integers(20, size=(sentences, 20))
        lines = (" ".join(f"w{g}x{w}" for w in row) for g, row in zip(groups, words, strict=True))
        (directory / f"{number:02d}.txt").write_text("\n".join(lines) + "\n")
    return directory


def matrices(output: Path) -> list[np.ndarray]:
    """Center and context vectors of a finished output, by word_id."""
    tables = [pq.read_table(output / name).sort_by("word_id") for name in ("embeddings", "context")]
    return [np.stack(table["vector"].to_numpy()) for table in tables]


@dataclass(frozen=True)
class Job:
    """One of Spark's: what it is for, as the Spark UI shows it, or the line of our code that asked for it."""

    what: str
    stages: tuple[int, ...]
    started: int  # ms


@dataclass(frozen=True)
class Task:
    """One attempt at a task that has ended."""

    job: Job
    stage: int
    index: int
    attempt: int
    executor: str
    is_speculative: bool
    reason: str  # Success, ExecutorLostFailure, ExceptionFailure, TaskKilled, ...


class Submission:
    """A run of jobs/train.py.

    Args:
        directory: for what the run prints and for its event log; made here.
        options: of spark-submit, such as --py-files.
        arguments: of jobs/train.py.
        python: of driver and executors.
    """

    def __init__(
        self, master: str, directory: Path, arguments: Sequence[str | Path], options: Sequence[str | Path], python: Path
    ) -> None:
        self._events = directory / "events"
        self._events.mkdir(parents=True)
        self._found: list[dict[str, Any]] = []
        self._read = 0
        self.log = directory / "printed"
        command = [
            PROGRAMS / "spark-submit", "--master", master, "--driver-memory", "600m",
            "--driver-java-options", QUICK_JVM,
            "--conf", "spark.ui.enabled=false", "--conf", "spark.eventLog.enabled=true",
            "--conf", f"spark.eventLog.dir={self._events.as_uri()}", "--conf", "spark.eventLog.rolling.enabled=false",
            "--conf", "spark.eventLog.compress=false", "--conf", "spark.log.level=WARN",
            "--conf", "spark.sql.shuffle.partitions=3", *options,
            ROOT / "jobs" / "train.py", ROOT / "conf" / "local.toml", *arguments,
        ]  # fmt: skip
        variables = environment(
            SPARK_LOCAL_IP="127.0.0.1",
            SPARK_LOCAL_DIRS=str(directory / "local"),
            PYSPARK_PYTHON=str(python),
            PYSPARK_DRIVER_PYTHON=str(python),
        )
        with open(self.log, "wb") as log:
            self._popen = subprocess.Popen(
                list(map(str, command)), cwd=directory, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
        self.jvm = psutil.Process(self._popen.pid)

    @property
    def is_over(self) -> bool:
        return self._popen.poll() is not None

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:]

    def wait_for(self, is_so: Callable[[], object], what: str, pause: float = 0.02) -> None:
        """Wait while the run goes on; that it ends before is an error."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert not self.is_over, f"over before {what}:\n{self.printed}"
            assert time.monotonic() < deadline, f"in vain: {what}:\n{self.printed}"
            time.sleep(pause)

    def family(self) -> list[psutil.Process]:
        """The JVM and all that it started."""
        return with_descendants(self.jvm)

    def driver(self) -> psutil.Process | None:
        """The Python process of jobs/train.py, which the JVM starts."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self.jvm.children():
                # Before there is this JVM, its shell script starts other programs with the same arguments.
                if child.name().startswith("python") and "train.py" in " ".join(child.cmdline()):
                    return child
        return None

    def finish(self) -> int:
        """The exit code."""
        return self._popen.wait(PATIENCE * 2)

    def kill(self) -> None:
        """SIGKILL to whatever is left of it."""
        if not self.is_over:
            end(self.family())
            self._popen.wait()

    def events(self) -> list[dict[str, Any]]:
        """Of Spark's event log, as far as it is written; every line is parsed once."""
        for path in self._events.glob("[!.]*"):
            with open(path, "rb") as file:
                file.seek(self._read)
                complete = file.read().rpartition(b"\n")[0]
            if complete:
                self._read += len(complete) + 1
                self._found += [json.loads(line) for line in complete.split(b"\n") if b'"SparkListener' in line[:30]]
        return self._found

    def jobs(self) -> list[Job]:
        return [_job(event) for event in self.events() if event["Event"] == STARTED]

    def is_job_running(self) -> bool:
        """Whether the job that was started last has not ended."""
        last = [event["Event"] for event in self.events() if event["Event"] in (STARTED, ENDED)][-1:]
        return last == [STARTED]

    def tasks(self, pattern: str = "") -> list[Task]:
        """Attempts that have ended, of jobs described so."""
        events = self.events()
        job_of: dict[int, Job] = {}
        found = []
        for event in events:
            if event["Event"] == STARTED:
                job = _job(event)
                job_of |= dict.fromkeys(job.stages, job)
            elif event["Event"] == "SparkListenerTaskEnd":
                info = event["Task Info"]
                task = Task(
                    job_of[event["Stage ID"]], event["Stage ID"], info["Index"], info["Attempt"], info["Executor ID"],
                    info["Speculative"], event["Task End Reason"]["Reason"],
                )  # fmt: skip
                if re.search(pattern, task.job.what):
                    found.append(task)
        return found

    def executors_added(self) -> list[tuple[str, int]]:
        """Executors and when they came, in ms."""
        return [
            (event["Executor ID"], event["Timestamp"])
            for event in self.events()
            if event["Event"] == "SparkListenerExecutorAdded"
        ]


def _job(event: dict[str, Any]) -> Job:
    properties = event["Properties"]
    what = properties.get("spark.job.description") or properties.get("callSite.short", "")
    return Job(what, tuple(event["Stage IDs"]), event["Submission Time"])
