"""A command → its wall time and the peak memory of all its processes."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
EVERY = 0.5  # seconds between two looks at the memory
# Another Spark must not stand in for the pinned one; a BLAS held back would hold back one system more than another.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "SPARK_HOME", "SPARK_CONF_DIR", "PYTHONPATH")
# PSS counts a page that forked workers share once, RSS once for each of them; only Linux has PSS.
MEMORY = "PSS" if sys.platform == "linux" else "RSS"


class Measured(NamedTuple):
    """One run of a command.

    Args:
        peak_bytes: most that all its processes had together.
        worker_bytes: most that one of Spark's Python workers had; 0 without them.
    """

    code: int
    seconds: float
    peak_bytes: int
    worker_bytes: int


def environment() -> dict[str, str]:
    """Return the environment that `make` would set, also when started by hand."""
    variables = {name: value for name, value in os.environ.items() if name not in UNSET}
    variables |= {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    variables["SPARK_LOCAL_IP"] = "127.0.0.1"
    found = subprocess.run([ROOT / "scripts" / "java_home"], stdout=subprocess.PIPE, text=True, check=True)
    variables["JAVA_HOME"] = found.stdout.strip()
    return variables


def blas_kernels() -> str:
    """The processor that NumPy's OpenBLAS takes this one for: Haswell has AVX2, SkylakeX AVX-512, too."""
    program = "import numpy, threadpoolctl; print(threadpoolctl.threadpool_info()[0]['architecture'])"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return found.stdout.strip()


def adopt_environment() -> None:
    """Have this process, and what it starts, run as `environment` says: start again where something has to be unset."""
    variables = environment()
    if not os.environ.keys().isdisjoint(UNSET):  # a BLAS reads it when NumPy is imported
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)
    os.environ.update(variables)


def run(
    command: Sequence[str],
    variables: dict[str, str],
    log: Path,
    look: Callable[[psutil.Process], object] = lambda root: None,
) -> Measured:
    """Run a command to its end, what it prints in a file; whatever it started ends with it.

    Args:
        look: called with the command's process every EVERY seconds.
    """
    peak = worker = 0
    over = threading.Event()

    def watch(root: psutil.Process) -> None:
        nonlocal peak, worker
        while True:
            together, largest = _memory(root)
            peak, worker = max(peak, together), max(worker, largest)
            look(root)
            if over.wait(EVERY):
                return

    with log.open("wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid),), daemon=True)
        watcher.start()
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            seconds = time.monotonic() - started
            over.set()
            watcher.join()
    return Measured(code, seconds, peak, worker)


def _memory(root: psutil.Process) -> tuple[int, int]:
    """Bytes of all processes together, and of the largest Python worker."""
    total = largest = 0
    with contextlib.suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                size = process.memory_full_info().pss if MEMORY == "PSS" else process.memory_info().rss
                total += size
                if "pyspark.worker" in process.cmdline():  # what Spark gives every daemon of Python workers
                    largest = max(largest, size)
    return total, largest


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it started."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    for child in family:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
        return
    process.kill()
    process.wait()
