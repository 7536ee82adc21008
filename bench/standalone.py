"""A standalone Spark cluster of real processes, from the PySpark that pip installed."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from bench import measure

PROGRAMS = Path(sys.executable).parent
PATIENCE = 900.0  # seconds; a very busy machine needed 120 to start Spark


class Host(NamedTuple):
    """Where a master or a worker runs: its address, and what its command is preceded by."""

    address: str
    prefix: tuple[str, ...] = ()


def loopback(number: int) -> Host:
    """Host 0 is the master's.

    Each worker has an address of its own where loopback has several: Spark starts no speculative copy of a task on a
    host where the task runs already.
    """
    return Host(f"127.0.0.{max(1, number)}" if sys.platform == "linux" else "127.0.0.1")


def environment() -> dict[str, str]:
    """For a cluster and for who submits to it: as `make` would set it, with the package of this checkout.

    Executors have no other way to it, unless an archive is submitted with the job.
    """
    return measure.environment() | {"PYTHONPATH": str(measure.ROOT)}


def wait_until(is_so: Callable[[], object], what: str, patience: float = PATIENCE, pause: float = 0.1) -> None:
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"in vain: {what}")
        time.sleep(pause)


def end(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone; those that are gone already are no error."""
    doomed = list(processes)
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, left = psutil.wait_procs(doomed, timeout=20)
    assert not left, f"survived SIGKILL: {left}"


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


class Daemon:
    """A master or a worker, started."""

    def __init__(
        self, kind: str, directory: Path, host: Host, variables: Mapping[str, str], arguments: Sequence[str] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / f"{kind.lower()}.log"
        command = [
            *host.prefix, PROGRAMS / "spark-class", f"org.apache.spark.deploy.{kind.lower()}.{kind}",
            "--host", host.address, "--port", "0", "--webui-port", "0", *arguments,
        ]  # fmt: skip
        own = {"SPARK_LOCAL_IP": host.address, "SPARK_LOCAL_DIRS": str(directory / "local")}
        with open(self.log, "wb") as log:
            self._popen = subprocess.Popen(
                list(map(str, command)),
                cwd=directory,
                env={"SPARK_DAEMON_MEMORY": "256m", **variables, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.process = psutil.Process(self._popen.pid)

    def wait_for(self, pattern: str) -> str:
        """Return the content of its log."""
        found: list[str] = []

        def says() -> bool:
            text = self.log.read_text(errors="replace")
            if self._popen.poll() is not None:
                raise RuntimeError(text)
            found[:] = re.findall(pattern, text)
            return bool(found)

        wait_until(says, f"{self.log.name} says {pattern}")
        return found[0]

    def stop(self) -> None:
        end(with_descendants(self.process))
        self._popen.wait()


class Cluster:
    """A master and its workers, each of one core; everything that it starts ends with stop().

    Args:
        variables: environment of the master, of the workers and of the executors that they start.
        workers: how many to start with.
        memory: that a worker offers, as Spark writes it.
        hosts: where the master (0) and the n-th worker run.
    """

    def __init__(
        self,
        directory: Path,
        variables: Mapping[str, str],
        workers: int,
        memory: str,
        hosts: Callable[[int], Host] = loopback,
    ) -> None:
        self._directory, self._variables, self._memory, self._hosts = directory, variables, memory, hosts
        self.workers: list[Daemon] = []
        self._master = Daemon("Master", directory / "master", hosts(0), variables)
        try:
            self.url = self._master.wait_for(r"Starting Spark master at (spark://\S+)")
            self._master.wait_for("I have been elected leader")
            for _ in range(workers):
                self.start_worker(wait=False)
            self.wait_for_workers(workers)
        except BaseException:
            self.stop()
            raise

    def start_worker(self, wait: bool = True) -> None:
        number = len(list(self._directory.glob("worker-*"))) + 1
        directory = self._directory / f"worker-{number}"
        arguments = ["--cores", "1", "--memory", self._memory, "--work-dir", str(directory), self.url]
        self.workers.append(Daemon("Worker", directory, self._hosts(number), self._variables, arguments))
        if wait:
            self.workers[-1].wait_for("Successfully registered with master")

    def stop_worker(self) -> None:
        """The newest one."""
        self.workers.pop().stop()

    def wait_for_workers(self, count: int) -> None:
        assert len(self.workers) == count
        for worker in self.workers:
            worker.wait_for("Successfully registered with master")

    def local_files(self, pattern: str) -> list[Path]:
        """Return the files of this name on the local disks of the workers."""
        return list(self._directory.glob(f"worker-*/local/**/{pattern}"))

    def executors(self) -> dict[str, psutil.Process]:
        """The executors' JVMs by their numbers."""
        found = {}
        for child in (child for worker in self.workers for child in worker.process.children()):
            with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie
                command = child.cmdline()
                if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in command:
                    found[command[command.index("--executor-id") + 1]] = child
        return found

    def stop(self) -> None:
        for daemon in [*self.workers, self._master]:
            daemon.stop()
        self.workers = []
