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
import py4j  # type: ignore[import-untyped]
import pyarrow as pa
import pyspark
import pytest
from pyspark.sql import SparkSession

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


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


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
        while is_alive(worker):
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


def test_workers_take_pyspark_from_where_it_has_bytecode(spark: SparkSession) -> None:
    def place(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import py4j
        import pyspark

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"place": [pyspark.__file__, py4j.__file__]})

    rows = spark.range(1, numPartitions=1).mapInArrow(place, "place string").collect()
    assert [row["place"] for row in rows] == [pyspark.__file__, py4j.__file__]
    assert ".zip" not in pyspark.__file__


def path_without_archives(monkeypatch: pytest.MonkeyPatch, home: Path, path: list[str]) -> list[str]:
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setattr(sys, "path", path)
    workers.leave_out_archives()
    return sys.path


def test_archives_are_left_out_where_pip_installed_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "pyspark"
    archives = [str(home / "python" / "lib" / name) for name in ("pyspark.zip", "py4j-0.1-src.zip")]
    (tmp_path / "py4j").mkdir()
    assert path_without_archives(monkeypatch, home, [*archives, "mine", str(tmp_path)]) == ["mine", str(tmp_path)]


@pytest.mark.parametrize("has_py4j", [True, False])
def test_archives_stay_where_spark_is_not_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_py4j: bool
) -> None:
    """Another version may be installed; or PySpark alone, without what it needs."""
    home = tmp_path / ("spark" if has_py4j else "pyspark")
    archive = str(home / "python" / "lib" / "pyspark.zip")
    if has_py4j:
        (tmp_path / "py4j").mkdir()
    assert path_without_archives(monkeypatch, home, [archive, str(tmp_path)]) == [archive, str(tmp_path)]


def test_the_job_takes_pyspark_from_where_it_has_bytecode() -> None:
    """As spark-submit starts it, with Spark's archives first on the path."""
    home = Path(pyspark.__file__).parent
    archives = [str(path) for path in (home / "python" / "lib").glob("*.zip")]
    assert archives
    program = (
        "import runpy, sys\nsys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('jobs/train.py', run_name='__main__')\n"
        "except SystemExit: print(sys.modules['pyspark'].__file__)"
    )
    environment = {**os.environ, "SPARK_HOME": str(home), "PYTHONPATH": os.pathsep.join(archives)}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == pyspark.__file__
