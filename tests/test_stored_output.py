"""The training job with its output in a store: the same bits, found again from any host.

HOST_KILLS in the environment sets how often the slow test kills a driver (3).
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v import SkipGramModel, job
from spark_w2v.commands import export, neighbors, publish
from spark_w2v.commands import report as report_job
from spark_w2v.runs import embeddings, ids
from spark_w2v.storage.objects import ObjectStore
from tests.support.faulty_proxy import Proxy, left_of_runs, separate_host
from tests.support.training_job import FAST_JVM, ONE, ROOT, SMALL, planted_corpus, train_here

KILLS = int(os.environ.get("HOST_KILLS", "3"))
LOCAL = str(ROOT / "conf" / "local.toml")
TWO = ["--set", "training.partitions=2", "--set", "output.checkpoint=sweep", "--set", "output.report=false"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "planted.txt"
    planted_corpus(path, sentences=300)
    return path


@pytest.fixture
def output(bucket: str, tmp_path: Path) -> str:
    return f"{bucket}/{tmp_path.name}"


def bits(output: str | Path) -> list[np.ndarray]:
    """Both matrices that a reader gets now."""
    directory = ids.directory_of(str(output))
    return [embeddings.read(directory).vectors, embeddings.read_context(directory)]


def test_a_run_in_a_store_has_the_bits_of_one_on_a_disk_and_all_commands_read_it(
    spark: SparkSession, corpus: Path, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same: list[str | Path] = ["--input", corpus, *ONE, *SMALL]
    assert train_here(spark, [*same, "--output", tmp_path / "out"]) == 0
    assert train_here(spark, [*same, "--output", output, "--run-id", "1"]) == 0
    assert train_here(spark, [*same, "--output", output, "--run-id", "1"]) == 0, "it is done already"
    expected = bits(tmp_path / "out")
    for found, right in zip(bits(output), expected, strict=True):
        assert found.tobytes() == right.tobytes()
    word = embeddings.read(tmp_path / "out").words[0].as_py()
    assert neighbors.main([output, word]) == 0
    assert export.main([output, "--format", "npy", "--to", str(tmp_path / "npy")]) == 0
    assert report_job.main([output]) == 0
    assert ObjectStore(output).read("runs/1/report.html")
    assert SkipGramModel.of_output(output).getVectors().count() == len(expected[0])
    assert train_here(spark, [*same, "--output", output, "--run-id", "2", "--init", f"{output}/runs/1"]) == 0
    assert ids.current(output) == "2"
    assert publish.main([output, "1"]) == 0
    assert ids.current(output) == "1"
    assert left_of_runs(output) == []
    capsys.readouterr()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("s3://no-such-bucket/out", "there is no such bucket"),
        ("s3://bucket/out?endpoint_override=x", "takes no options after a question mark"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_place_that_cannot_be_written_to_is_refused_before_spark_starts(
    output: str, sentence: str, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert job.train([LOCAL, "--input", str(corpus), "--output", output]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_a_store_that_forbids_writing_is_refused_before_spark_starts(
    output: str, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"], lambda number, method, path: "403" if method == "PUT" else None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert job.train([LOCAL, "--input", str(corpus), "--output", output]) == 2
    assert "the store does not let us write" in capsys.readouterr().err
    proxy.close()


@pytest.fixture
def proxy(bucket: str) -> Iterator[Proxy]:
    del bucket
    made = Proxy(os.environ["AWS_ENDPOINT_URL"])
    yield made
    made.close()


class Host:
    """A host on which the job finds nothing that another host has."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.environment = separate_host(directory, url) | FAST_JVM

    def start(self, corpus: Path, output: str, *options: str) -> "subprocess.Popen[bytes]":
        """Start jobs/train.py, in a process group of its own."""
        command = [
            Path(sys.executable).parent / "spark-submit", "--master", "local[2]", "--properties-file",
            ROOT / "conf" / "spark-defaults.conf", ROOT / "jobs" / "train.py", LOCAL, "--input", corpus,
            "--output", output, *TWO, *SMALL, *options,
        ]  # fmt: skip
        with open(self.directory / "log", "wb") as log:
            return subprocess.Popen(
                list(map(str, command)), cwd=self.directory / "work", env=self.environment, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return (self.directory / "log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300 + 150 * KILLS)
def test_a_driver_that_was_killed_on_one_host_is_resumed_on_another(
    corpus: Path, output: str, proxy: Proxy, tmp_path: Path, java_home: str
) -> None:
    """Kill it in turn after a time that is drawn and at a request that is drawn: uploads, publication, CURRENT.

    The first time it is killed when it has uploaded a checkpoint, so that there is one to go on from.
    """
    del java_home
    calm = Host(tmp_path / "calm", os.environ["AWS_ENDPOINT_URL"])
    begun = time.monotonic()
    assert calm.start(corpus, f"{output}-calm").wait(300) == 0, calm.said()
    seconds = time.monotonic() - begun
    expected = bits(f"{output}-calm")
    chance = random.Random(7)
    counted: int | None = None
    for number in range(1 + KILLS):
        place = f"{output}-{number}"
        first = Host(tmp_path / f"a{number}", proxy.url)
        before = proxy.requests
        process = first.start(corpus, place)

        def kill() -> None:
            os.killpg(process.pid, signal.SIGKILL)  # noqa: B023

        if number % 2 == 0 or counted is None:
            if number:
                time.sleep(chance.uniform(0.4, 1.0) * seconds)
                kill()
            else:
                assert process.wait(300) == 0, first.said()
                counted = proxy.requests - before
        else:
            moment, uploaded = before + chance.randrange(counted // 3, counted), threading.Event()

            def fault(request: int, method: str, path: str) -> None:
                if uploaded.is_set() if number == 1 else request == moment:  # noqa: B023
                    kill()
                elif method == "PUT" and path.endswith("/manifest.json"):  # the last file of a checkpoint
                    uploaded.set()  # noqa: B023

            proxy.fault = fault
        process.wait(300)
        proxy.fault = lambda *_: None
        second = Host(tmp_path / f"b{number}", os.environ["AWS_ENDPOINT_URL"])
        assert second.start(corpus, place, "--resume").wait(300) == 0, second.said()
        assert number != 1 or "resumed after epoch" in second.said(), "it was trained from the start"
        for found, right in zip(bits(place), expected, strict=True):
            assert found.tobytes() == right.tobytes()
        assert left_of_runs(place) == []
        assert [path for path in (second.directory / "tmp").iterdir() if path.name.startswith("spark_w2v")] == []
