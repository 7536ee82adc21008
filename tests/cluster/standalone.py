"""A standalone Spark cluster of real processes on loopback, from the PySpark that pip installed."""

import contextlib
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
PATIENCE = 900.0  # seconds; a very busy machine needed 120 to start Spark
# Compiling less makes small jobs start sooner, and so does taking Spark's classes from an archive: a session that
# counts 1,000 rows takes 5.1 s of processor with it and 9.8 s without. Java ignores an archive that is not there, or
# that is of another Java or Spark.
ARCHIVE = ROOT / "build" / f"classes-of-spark-{version('pyspark')}.jsa"
PLAIN_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
QUICK_JVM = f"{PLAIN_JVM} -XX:SharedArchiveFile={ARCHIVE}"


def wait_until(is_so: Callable[[], object], what: str, patience: float = PATIENCE, pause: float = 0.1) -> None:
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(pause)


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would lead a child to our checkout or to another Spark."""
    dropped = {"PYTHONPATH", "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_LOCAL_IP"}
    # With these the programs of PySpark find the jars that belong to it.
    pythons = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return {name: value for name, value in os.environ.items() if name not in dropped} | pythons | more


def bare_python(directory: Path) -> Path:
    """A Python with all that this one has installed, except the checkout."""
    venv.create(directory, symlinks=True)
    here, there = (
        subprocess.run(
            [python, "-c", "import site; print(site.getsitepackages()[0])"],
            stdout=subprocess.PIPE, text=True, check=True, env=environment(),
        ).stdout.strip()
        for python in (sys.executable, directory / "bin" / "python")
    )  # fmt: skip
    # A directory that a .pth file names is put on the path; the .pth files in there, as the one that names the
    # checkout, are not read.
    Path(there, "installed.pth").write_text(f"{here}\n")
    return directory / "bin" / "python"


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

    def __init__(self, kind: str, directory: Path, host: str, *arguments: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / f"{kind.lower()}.log"
        command = [
            PROGRAMS / "spark-class", f"org.apache.spark.deploy.{kind.lower()}.{kind}",
            "--host", host, "--port", "0", "--webui-port", "0", *arguments,
        ]  # fmt: skip
        variables = environment(
            SPARK_LOCAL_IP=host,
            SPARK_LOCAL_DIRS=str(directory / "local"),
            SPARK_DAEMON_MEMORY="256m",
            SPARK_DAEMON_JAVA_OPTS=QUICK_JVM,
        )
        with open(self.log, "wb") as log:
            self._popen = subprocess.Popen(
                list(map(str, command)), cwd=directory, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
        self.process = psutil.Process(self._popen.pid)

    def wait_for(self, pattern: str) -> str:
        """What its log says."""
        found: list[str] = []

        def says() -> bool:
            text = self.log.read_text(errors="replace")
            assert self._popen.poll() is None, text
            found[:] = re.findall(pattern, text)
            return bool(found)

        wait_until(says, f"{self.log.name} says {pattern}")
        return found[0]

    def stop(self) -> None:
        end(with_descendants(self.process))
        self._popen.wait()


class Cluster:
    """A master and its workers, each of one core; everything that it starts ends with stop().

    Each worker has an address of its own where loopback has several: Spark starts no speculative copy of a task on a
    host where the task runs already.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.workers: list[Daemon] = []
        self._master = Daemon("Master", directory / "master", "127.0.0.1")
        try:
            self.url = self._master.wait_for(r"Starting Spark master at (spark://\S+)")
            self._master.wait_for("I have been elected leader")
            for _ in range(3):
                self.start_worker(wait=False)
            self.wait_for_workers(3)
        except BaseException:
            self.stop()
            raise

    def start_worker(self, wait: bool = True) -> None:
        number = len(list(self._directory.glob("worker-*"))) + 1
        directory = self._directory / f"worker-{number}"
        host = f"127.0.0.{number}" if sys.platform == "linux" else "127.0.0.1"
        self.workers.append(
            Daemon("Worker", directory, host, "--cores", "1", "--memory", "1g", "--work-dir", str(directory), self.url)
        )
        if wait:
            self.workers[-1].wait_for("Successfully registered with master")

    def stop_worker(self) -> None:
        """The newest one."""
        self.workers.pop().stop()

    def wait_for_workers(self, count: int) -> None:
        assert len(self.workers) == count
        for worker in self.workers:
            worker.wait_for("Successfully registered with master")

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
