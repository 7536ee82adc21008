"""The results of `make package` are all that a cluster needs besides Python, Java and Spark."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spark_w2v.runs.embeddings import read
from tests.cluster.standalone import QUICK_JVM, Cluster, wait_until
from tests.cluster.submission import Submission, planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SETTINGS = [
    "--set", "training.partitions=2", "--set", "training.dimensions=20", "--set", "training.epochs=1",
    "--set", "vocabulary.subsample=0", "--set", "output.checkpoint=none",
]  # fmt: skip


@pytest.fixture(scope="module")
def nothing_but_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PATH with a Python as a new machine has it: no package at all."""
    directory = tmp_path_factory.mktemp("nothing")
    venv.create(directory, symlinks=True)
    return directory / "bin"


@pytest.fixture
def submit(
    cluster: Cluster, package: Path, nothing_but_python: Path, python_without_checkout: Path, tmp_path: Path
) -> Iterator[Callable[..., Submission]]:
    """Submits with these Pythons of driver and executors; the executors' PATH has nothing but Python."""
    corpus = planted_corpus(tmp_path / "corpus", files=2, sentences=200)

    def start(driver: Path, executors: str, *options: str) -> Submission:
        return Submission(
            cluster.url, tmp_path / "run", ["--input", corpus, "--output", tmp_path / "out", *SETTINGS],
            [
                "--conf", f"spark.pyspark.driver.python={driver}", "--conf", f"spark.pyspark.python={executors}",
                "--py-files", package, "--executor-memory", "512m", "--conf", "spark.cores.max=2",
                "--conf", f"spark.executor.extraJavaOptions={QUICK_JVM}",
                "--conf", f"spark.executorEnv.PATH={nothing_but_python}:/usr/bin:/bin",
                "--conf", f"spark.executorEnv.PEX_ROOT={tmp_path / 'pex'}", *options,
            ],
            python_without_checkout,  # with which spark-submit looks for Spark
        )  # fmt: skip

    yield start
    wait_until(lambda: not cluster.executors(), "the executors end with their application")


def test_without_the_environment_executors_miss_numpy(
    submit: Callable[..., Submission],
    python_without_checkout: Path,
    nothing_but_python: Path,
) -> None:
    run = submit(python_without_checkout, str(nothing_but_python / "python3"))
    assert run.finish() == 2, run.printed
    assert "train.py: the Python of Spark's workers has no numpy" in run.printed


def test_with_the_environment_driver_and_executors_need_nothing_else(
    submit: Callable[..., Submission],
    environment_archive: Path,
    nothing_but_python: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PEX_ROOT", str(tmp_path / "pex"))
    bare = subprocess.run([nothing_but_python / "python3", "-c", "import numpy"], capture_output=True, check=False)
    assert bare.returncode == 1
    run = submit(environment_archive, "./environment.pex", "--files", str(environment_archive))
    assert run.finish() == 0, run.printed
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["corpus"]["lines"] == 400
    assert len(read(tmp_path / "out").words) == facts["corpus"]["vocabulary"] > 500
    assert facts["versions"]["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
