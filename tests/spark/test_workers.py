"""The processes that run Python for Spark's tasks, started as the JVM starts them, and let go as it lets them go."""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from spark_w2v.spark import workers

ROOT = Path(__file__).resolve().parents[2]


def number(stream: IO[bytes]) -> int:
    (found,) = struct.unpack("!i", stream.read(4))
    return int(found)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, because the path of a Unix domain socket has 107 bytes at most, and pytest's may not leave enough."""
    with tempfile.TemporaryDirectory(prefix="w2v-") as name:
        yield Path(name)


def last_words(daemon: str, directory: Path, look: Callable[[psutil.Process], object] = lambda worker: None) -> str:
    """Return what an idle worker of a daemon writes to stderr when the JVM closes its socket.

    Args:
        look: called while the worker waits.
    """
    environment = {
        **os.environ,
        "PYTHON_UNIX_DOMAIN_ENABLED": "true",
        "PYTHON_WORKER_FACTORY_SOCK_DIR": str(directory),
        "PYTHON_DAEMON_KILL_WORKER_ON_FLUSH_FAILURE": "1",
        "SPARK_REUSE_WORKER": "1",
    }
    started = subprocess.Popen(
        [sys.executable, "-m", daemon, "pyspark.worker"], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        address = started.stdout.read(number(started.stdout))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            with connection.makefile("rb") as stream:
                worker = psutil.Process(number(stream))
                look(worker)
        deadline = time.monotonic() + 60
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        said = started.communicate()[1]  # closes stdin, which is how the JVM ends the daemon
    return said.decode()


def test_an_idle_worker_that_the_jvm_lets_go_of_says_nothing(directory: Path) -> None:
    assert last_words(workers.__name__, directory) == ""


def test_a_worker_of_spark_itself_prints_a_traceback(directory: Path) -> None:
    """Once it does not, spark_w2v/spark/workers.py has no reason left."""
    assert "BrokenPipeError" in last_words("pyspark.daemon", directory)


def test_workers_are_forked_with_our_modules_loaded(directory: Path) -> None:
    loaded: list[str] = []
    last_words(workers.__name__, directory, lambda worker: loaded.extend(file.path for file in worker.memory_maps()))
    assert any("_sparsetools" in path for path in loaded)
