"""jobs/train.py as users start it, with spark-submit; where it waits to be harmed, and what Spark's event log tells."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow.parquet as pq

from tests.cluster.standalone import PATIENCE, PROGRAMS, QUICK_JVM, ROOT, end, environment, with_descendants


def planted_corpus(directory: Path, files: int, sentences: int, groups: int = 48) -> Path:
    """Files of sentences of 20 words, each sentence of one group of 20 words: with 48 of them enough for 3 blocks."""
    rng = np.random.default_rng(7)
    directory.mkdir()
    for number in range(files):
        drawn, words = rng.integers(groups, size=sentences), rng.integers(20, size=(sentences, 20))
        lines = (" ".join(f"w{g}x{w}" for w in row) for g, row in zip(drawn, words, strict=True))
        (directory / f"{number:02d}.txt").write_text("\n".join(lines) + "\n")
    return directory


def matrices(output: Path) -> list[np.ndarray]:
    """Center and context vectors of a finished output, by word_id."""
    tables = [pq.read_table(output / name).sort_by("word_id") for name in ("embeddings", "context")]
    return [np.stack(table["vector"].to_numpy()) for table in tables]


def assert_same_bits(output: Path, expected: list[np.ndarray]) -> None:
    found = matrices(output)
    assert all(np.abs(matrix).max() > 0.01 for matrix in found), "nothing was trained"
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


# What Spark says that it is doing while tasks wait at such a stop.
JOBS = {
    "reading": "corpus: reading the text",
    "vocabulary": "vocabulary: turning words into ids",
    "pairs": r"epoch \d of \d: \d+ blocks",
    "round": r"epoch \d of \d: (\d+ blocks|sync \d+ of)",
}


# An epoch of `blocks` takes the slots that there are: all executors have to be there when the first job begins.
ALL_EXECUTORS = (
    "--conf", "spark.scheduler.minRegisteredResourcesRatio=1.0",
    "--conf", "spark.scheduler.maxRegisteredResourcesWaitingTime=20s",
)  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """A moment at which a run is to wait: those of held_train.py.

    Args:
        number: which of its kind, from 1; counted anew in each run that is started.
    """

    moment: str
    number: int = 1


@dataclass(frozen=True)
class Held:
    """A process that waits there, by the file that says so: a Python worker in a task, or the driver."""

    file: Path
    moment: str
    number: int
    pid: int
    stage: int = -1
    task: int = -1  # Spark's id of this attempt
    what: str = ""  # the driver is about to do, or "half": in the middle of a file, or "after"
    path: str = ""  # to which


@dataclass(frozen=True)
class Task:
    """One attempt at a task that has ended.

    Args:
        job: what it is for, as the Spark UI shows it.
        reason: Success, ExecutorLostFailure, ExceptionFailure, TaskKilled, ...
    """

    id: int
    job: str
    stage: int
    index: int
    attempt: int
    executor: str
    is_speculative: bool
    reason: str


class Epoch(NamedTuple):
    """An attempt at an epoch of `blocks`, or a sync of `replicas`; epochs and syncs from 0."""

    epoch: int
    tasks: int
    sweeps: int  # that were to be trained
    sync: int


class Submission:
    """A run of jobs/train.py.

    Args:
        directory: for what the run prints and for its event log; made here.
        options: of spark-submit, such as --py-files.
        arguments: of jobs/train.py.
        python: of driver and executors.
        stops: where it waits.
        pause: seconds that a task of `blocks` takes longer for each bucket.
    """

    def __init__(
        self,
        master: str,
        directory: Path,
        arguments: Sequence[str | Path],
        options: Sequence[str | Path],
        python: Path,
        stops: Sequence[Stop] = (),
        pause: float = 0.0,
    ) -> None:
        self._events = directory / "events"
        self._events.mkdir(parents=True)
        self._waiting = directory / "waiting"
        self._waiting.mkdir()
        self._found: list[dict[str, Any]] = []
        self._read = 0
        self.log = directory / "printed"
        program = Path(__file__).with_name("held_train.py") if stops or pause else ROOT / "jobs" / "train.py"
        command = [
            PROGRAMS / "spark-submit", "--master", master, "--driver-memory", "600m",
            "--driver-java-options", QUICK_JVM,
            "--conf", "spark.ui.enabled=false", "--conf", "spark.eventLog.enabled=true",
            "--conf", f"spark.eventLog.dir={self._events.as_uri()}", "--conf", "spark.eventLog.rolling.enabled=false",
            "--conf", "spark.eventLog.compress=false", "--conf", "spark.log.level=WARN",
            "--conf", "spark.sql.shuffle.partitions=3", *options,
            program, ROOT / "conf" / "local.toml", *arguments,
        ]  # fmt: skip
        # Ours imports this checkout, wherever the one is that is installed; another finds only what is shipped.
        checkout = {"PYTHONPATH": str(ROOT)} if str(python) == sys.executable else {}
        variables = environment(
            **checkout,
            SPARK_LOCAL_IP="127.0.0.1",
            SPARK_LOCAL_DIRS=str(directory / "local"),
            PYSPARK_PYTHON=str(python),
            PYSPARK_DRIVER_PYTHON=str(python),
            HELD_AT=json.dumps(
                {"directory": str(self._waiting), "stops": [astuple(stop) for stop in stops], "pause": pause}
            ),
        )
        with open(self.log, "wb") as log:
            self.jvm = psutil.Popen(
                list(map(str, command)), cwd=directory, env=variables, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def is_over(self) -> bool:
        return self.jvm.poll() is not None

    @property
    def secrets(self) -> list[bytes]:
        """Of the attempts at epochs so far; only a run that may wait somewhere tells them."""
        path = self._waiting / "secrets"
        return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace")[-200_000:]

    def wait_for(self, is_so: Callable[[], object], what: str) -> None:
        """Wait while the run goes on; that it ends before is an error."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert not self.is_over, f"over before {what}:\n{self.printed}"
            assert time.monotonic() < deadline, f"in vain: {what}:\n{self.printed}"
            time.sleep(0.02)

    def held(self, stop: Stop) -> list[Held]:
        """Who waits there, or died there."""
        found = sorted(self._waiting.glob(f"{stop.moment}-{stop.number}.*.json"))
        return [Held(file, **json.loads(file.read_text())) for file in found]

    def wait_until_held(self, stop: Stop, count: int = 1) -> list[Held]:
        """As held, once they are so many."""
        self.wait_for(lambda: len(self.held(stop)) >= count, f"{count} wait at {stop}")
        return self.held(stop)

    def let_go(self, stop: Stop) -> None:
        """Who waits there goes on, and who comes there does not wait."""
        (self._waiting / f"{stop.moment}-{stop.number}.over").touch()

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
        """The exit code; negative for the signal that ended it."""
        return int(self.jvm.wait(PATIENCE * 2))

    def kill(self) -> None:
        """SIGKILL to whatever is left of it."""
        if not self.is_over:
            end(self.family())

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

    def job_of_stage(self) -> dict[int, str]:
        """Descriptions of the jobs of the stages, as the Spark UI shows them; in order."""
        found: dict[int, str] = {}
        for event in self.events():
            if event["Event"] == "SparkListenerJobStart":
                for stage in event["Stage IDs"]:
                    found.setdefault(stage, event["Properties"].get("spark.job.description", ""))
        return found

    def epochs(self) -> list[Epoch]:
        """Attempts at an epoch, or syncs, that have begun, in order."""
        pattern = r"epoch (\d+) of \d+: (?:(\d+) blocks?, (\d+) tasks?, (\d+) sweeps?|sync (\d+) of)"
        jobs: dict[tuple[str, ...], None] = {}
        for event in self.events():
            if event["Event"] == "SparkListenerJobStart":
                found = event["Properties"]
                tags = [tag for tag in found.get("spark.job.tags", "").split(",") if tag.startswith("epoch ")]
                jobs[found.get("spark.job.description", ""), *tags] = None
        matches = [match for job, *_ in jobs if (match := re.match(pattern, job))]
        return [
            Epoch(int(m[1]) - 1, 0, 0, int(m[5]) - 1) if m[5] else Epoch(int(m[1]) - 1, int(m[3]), int(m[4]), 0)
            for m in matches
        ]

    def tasks(self) -> dict[int, Task]:
        """Attempts that have ended, by their id."""
        jobs = self.job_of_stage()
        return {
            info["Task ID"]: Task(
                info["Task ID"], jobs[event["Stage ID"]], event["Stage ID"], info["Index"], info["Attempt"],
                info["Executor ID"], info["Speculative"], event["Task End Reason"]["Reason"],
            )
            for event in self.events()
            if event["Event"] == "SparkListenerTaskEnd"
            for info in [event["Task Info"]]
        }  # fmt: skip

    def executors(self) -> set[str]:
        """Those that have come and are not lost."""
        found: set[str] = set()
        for event in self.events():
            if event["Event"] == "SparkListenerExecutorAdded":
                found.add(event["Executor ID"])
            elif event["Event"] == "SparkListenerExecutorRemoved":
                found.discard(event["Executor ID"])
        return found
