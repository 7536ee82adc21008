"""The exchange of `blocks` on real Spark: same bits on any cluster, whichever of its processes dies or stands still."""

import contextlib
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.cluster.standalone import QUICK_JVM, ROOT, Cluster, end, environment, wait_until, with_descendants
from tests.cluster.submission import ALL_EXECUTORS, Held, Stop, Submission, assert_same_bits, matrices, planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# The first epoch has growing sweeps before its two equal ones.
BLOCKS, EPOCHS, SWEEPS, FIRST_SWEEPS = 8, 2, 2, 4
LAST = Stop("round", BLOCKS * (FIRST_SWEEPS + SWEEPS))
SETTINGS = [
    "--set", f"training.partitions={BLOCKS}", "--set", "training.dimensions=24", "--set", f"training.epochs={EPOCHS}",
    "--set", f"training.sweeps_per_epoch={SWEEPS}", "--set", "vocabulary.subsample=0", "--set", "output.report=false",
]  # fmt: skip
# Who is silent is given up in seconds, by the exchange first.
PATIENCE = ["--set", "exchange.timeout=5"]
SPARKS_PATIENCE = [
    "--conf", "spark.network.timeout=12s", "--conf", "spark.executor.heartbeatInterval=2s",
    "--conf", "spark.network.timeoutInterval=3s",
]  # fmt: skip
# Who wants a block of an executor that stands still computes it again, long before Spark gives the executor up.
BLOCK_PATIENCE = ["--conf", "spark.shuffle.io.connectionTimeout=5s", "--conf", "spark.shuffle.io.maxRetries=0"]
KILLS = 10
Submit = Callable[..., Submission]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,200 words: enough for 8 blocks."""
    return planted_corpus(tmp_path_factory.mktemp("exchange") / "corpus", files=6, sentences=500, groups=110)


@pytest.fixture
def submit(
    corpus: Path, package: Path, python_without_checkout: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Submit]:
    """Starts a run of `blocks`; on a cluster as users do. Kills what is still running when the test is over."""
    runs: list[Submission] = []

    def start(
        master: str, settings: list[str], *options: str, stops: tuple[Stop, ...] = (), pause: float = 0.0,
        executors: int = 3,
    ) -> Submission:  # fmt: skip
        run = Submission(
            master, tmp_path / "run",
            ["--input", corpus, "--output", tmp_path / "out", *SETTINGS, *settings],
            [
                "--py-files", package, "--executor-memory", "512m", "--conf", f"spark.cores.max={executors}",
                "--conf", f"spark.executor.extraJavaOptions={QUICK_JVM}",
                *ALL_EXECUTORS, *options,
            ],
            python_without_checkout, stops, pause,
        )  # fmt: skip
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()
    if "cluster" in request.fixturenames:
        cluster = request.getfixturevalue("cluster")
        wait_until(lambda: not cluster.executors(), "the executors end with their application")


@pytest.fixture(scope="module")
def undisturbed(java_home: str, corpus: Path, package: Path, python_without_checkout: Path) -> list[np.ndarray]:
    """Both matrices of a run in one process."""
    directory = corpus.parent / "undisturbed"
    run = Submission(
        "local[2]", directory, ["--input", corpus, "--output", directory / "out", *SETTINGS],
        ["--py-files", package], python_without_checkout,
    )  # fmt: skip
    assert run.finish() == 0, run.printed
    assert [(epoch.tasks, epoch.sweeps) for epoch in run.epochs()] == [(2, FIRST_SWEEPS), (2, SWEEPS)]
    return matrices(directory / "out")


def said(run: Submission, pattern: str) -> list[str]:
    """Lines that it has printed with this in them."""
    return [line for line in run.log.read_text(errors="replace").splitlines() if re.search(pattern, line)]


def complaint(run: Submission) -> str:
    """The one sentence that it ended with."""
    (line,) = said(run, "^train.py: ")
    assert not said(run, "Traceback")
    return line


# Same bits


@pytest.mark.parametrize("slots", [1, 2])
def test_the_bits_are_the_same_with_one_task_and_with_two(
    slots: int, submit: Submit, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    run = submit(f"local[{slots}]", [])
    assert run.finish() == 0, run.printed
    assert [epoch.tasks for epoch in run.epochs()] == [slots] * EPOCHS
    assert_same_bits(tmp_path / "out", undisturbed)


@pytest.mark.parametrize("executors", [1, 2, 3])
def test_the_bits_are_the_same_on_clusters(
    executors: int, cluster: Cluster, submit: Submit, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    run = submit(cluster.url, ["--set", f"exchange.tasks={executors}"], executors=executors)
    assert run.finish() == 0, run.printed
    assert [epoch.tasks for epoch in run.epochs()] == [executors] * EPOCHS
    assert len({task.executor for task in run.tasks().values()}) == executors
    (environment,) = [event for event in run.events() if event["Event"] == "SparkListenerEnvironmentUpdate"]
    assert environment["Spark Properties"]["spark.locality.wait"] == "0s"
    assert_same_bits(tmp_path / "out", undisturbed)


# Harm


def trainers(run: Submission, cluster: Cluster) -> list[psutil.Process]:
    """Python workers that are connected to the driver in the attempt that goes on."""
    driver = run.driver()
    ports = set() if driver is None else set(listened(driver))
    workers = [process for executor in cluster.executors().values() for process in with_descendants(executor)]
    return [worker for worker in workers if ports & {one.raddr.port for one in connections(worker) if one.raddr}]


def connections(process: psutil.Process) -> list[Any]:
    """TCP sockets of a Python process; none if it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.name().startswith("python"):
            return list(process.net_connections("tcp"))
    return []


def listened(process: psutil.Process) -> list[int]:
    """Ports that a Python process listens on."""
    return [one.laddr.port for one in connections(process) if one.status == "LISTEN"]


def test_a_task_killed_ten_times_at_random_moments_changes_no_bit(
    cluster: Cluster, submit: Submit, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    chance = random.Random(5)
    run = submit(
        cluster.url, ["--set", "output.checkpoint=sweep"], "--conf", f"spark.task.maxFailures={KILLS + 1}",
        stops=(LAST,), pause=0.08,
    )  # fmt: skip

    def failures() -> int:
        return len(said(run, r"epoch \d: attempt \d+ of \d+ failed: .*; it goes on from sweep"))

    while (count := failures()) < KILLS:
        run.wait_for(lambda: trainers(run, cluster), "tasks train")
        time.sleep(chance.uniform(0, 4))
        epochs = len(run.epochs())
        if not (found := trainers(run, cluster)):
            continue  # the epoch has ended meanwhile
        doomed = chance.choice(found)
        doomed.suspend()
        if doomed not in trainers(run, cluster):
            doomed.resume()
            continue
        end([doomed])
        # Or this process had no more to do, and the epoch was over.
        run.wait_for(lambda c=count, e=epochs: failures() > c or len(run.epochs()) > e, "it is noticed")  # type: ignore[misc]
    run.let_go(LAST)
    assert run.finish() == 0, run.printed
    assert failures() == KILLS
    assert len(run.epochs()) == KILLS + EPOCHS
    assert_same_bits(tmp_path / "out", undisturbed)


def executor_of(held: Held) -> psutil.Process:
    """The JVM that started the daemon that forked this Python worker."""
    daemon = psutil.Process(held.pid).parent()
    executor = None if daemon is None else daemon.parent()
    assert executor is not None, "the worker has lost its executor"
    return executor


@pytest.fixture
def stopped() -> Iterator[list[psutil.Process]]:
    """Processes that a test stopped; they end with it."""
    found: list[psutil.Process] = []
    yield found
    end(found)


# Its neighbours may miss it first, and say so.
MISSED = r"(task \d \(127\.0\.0\.\d:\d+\) stopped: )?task \d \(127\.0\.0\.\d:\d+\) has not been heard of for 5 s"
SILENT = rf"epoch 1: attempt 1 of 4 failed: {MISSED}; it goes on from sweep"


@pytest.mark.parametrize("whole", [True, False], ids=["executor", "worker"])
def test_who_stands_still_is_given_up_and_the_epoch_repeated(
    whole: bool,
    cluster: Cluster,
    submit: Submit,
    stopped: list[psutil.Process],
    tmp_path: Path,
    undisturbed: list[np.ndarray],
) -> None:
    stop = Stop("round", 5)
    run = submit(cluster.url, PATIENCE, *SPARKS_PATIENCE, stops=(stop,))
    held = run.wait_until_held(stop, 3)[0]
    stopped += with_descendants(executor_of(held)) if whole else [psutil.Process(held.pid)]
    for process in stopped:
        process.suspend()
    run.let_go(stop)
    began = time.monotonic()
    run.wait_for(lambda: said(run, SILENT), "it is missed")
    assert time.monotonic() - began < 60
    assert run.finish() == 0, run.printed
    assert run.tasks()[held.task].reason != "Success"
    assert_same_bits(tmp_path / "out", undisturbed)


def test_a_driver_that_stands_still_is_given_up_and_repeats_the_epoch_when_it_wakes_up(
    cluster: Cluster, submit: Submit, stopped: list[psutil.Process], tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    stop = Stop("round", 5)
    run = submit(cluster.url, PATIENCE, stops=(stop,))
    workers = [psutil.Process(held.pid) for held in run.wait_until_held(stop, 3)]
    driver = run.driver()
    assert driver is not None
    stopped += [driver, psutil.Process(run.jvm.pid)]
    for process in stopped:
        process.suspend()
    run.let_go(stop)
    began = time.monotonic()
    run.wait_for(lambda: not any(listened(worker) for worker in workers), "the tasks give it up")
    assert time.monotonic() - began < 60
    for process in stopped:
        process.resume()
    assert run.finish() == 0, run.printed
    assert said(run, r"epoch 1: attempt 1 of 4 failed: .* has not been heard of for 5 s; it goes on from sweep")
    assert len(run.epochs()) == EPOCHS + 1
    assert_same_bits(tmp_path / "out", undisturbed)


def test_a_task_of_an_earlier_attempt_that_wakes_up_changes_no_bit(
    cluster: Cluster, submit: Submit, stopped: list[psutil.Process], tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    first, second = Stop("round", 5), Stop("round", 9)
    # Spark does not notice: what has stood still still has its task when it goes on.
    run = submit(cluster.url, PATIENCE, *BLOCK_PATIENCE, stops=(first, second))
    held = run.wait_until_held(first, 3)[0]
    stopped += with_descendants(executor_of(held))
    for process in stopped:
        process.suspend()
    run.let_go(first)
    run.wait_for(lambda: said(run, SILENT), "it is missed")
    others = run.wait_until_held(second, 1)
    assert held.pid not in {other.pid for other in others}
    worker = psutil.Process(held.pid)
    assert listened(worker)
    for process in stopped:
        process.resume()
    run.wait_for(lambda: not listened(worker), "it gives up")
    run.let_go(second)
    assert run.finish() == 0, run.printed
    assert len(run.epochs()) == EPOCHS + 1
    assert run.tasks()[held.task].reason != "Success"
    assert_same_bits(tmp_path / "out", undisturbed)


def test_an_epoch_that_fails_at_every_attempt_ends_with_75_and_the_first_reason(
    cluster: Cluster, submit: Submit
) -> None:
    stops = (Stop("round"), Stop("round", 2))
    run = submit(cluster.url, PATIENCE, "--conf", "spark.task.maxFailures=2", stops=stops)
    first = run.wait_until_held(stops[0], 3)[0]
    psutil.Process(first.pid).suspend()
    run.let_go(stops[0])
    run.wait_for(lambda: said(run, "attempt 1 of 2 failed"), "it is missed")
    before = run.held(stops[1])  # by its neighbours, in the first attempt
    again = [held for held in run.wait_until_held(stops[1], len(before) + 1) if held not in before]
    end([psutil.Process(again[0].pid)])
    assert run.finish() == 75, run.printed
    assert re.fullmatch(
        rf"train\.py: epoch 1 failed 2 times \(spark\.task\.maxFailures\); the first time: {MISSED}; try again, with "
        r"--resume to go on from the last checkpoint\.",
        complaint(run),
    )


# What is refused before training


def test_the_job_switches_dynamic_allocation_off(cluster: Cluster, submit: Submit, tmp_path: Path) -> None:
    run = submit(
        cluster.url, ["--set", "training.epochs=1"], "--conf", "spark.dynamicAllocation.enabled=true",
        "--conf", "spark.dynamicAllocation.shuffleTracking.enabled=true",
    )  # fmt: skip
    assert run.finish() == 0, run.printed
    (line,) = said(run, r"spark\.dynamicAllocation\.enabled is switched off")
    assert "spark.cores.max (3)" in line
    assert (tmp_path / "out" / "_SUCCESS").exists()


ESTIMATOR = """
from pyspark.sql import SparkSession
from spark_w2v.config import UserError
from spark_w2v.ml import SkipGram

spark = SparkSession.builder.getOrCreate()
frame = spark.createDataFrame([(["one", "two", "three"],)] * 20, ["words"])
try:
    SkipGram(inputCol="words", outputCol="vectors", numPartitions=2, scheme="blocks").fit(frame)
except UserError as error:
    print(f"refused: {error}")
"""


def test_the_estimator_refuses_dynamic_allocation(java_home: str, tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text(ESTIMATOR)
    command = [
        ROOT / ".venv" / "bin" / "spark-submit", "--master", "local[2]", "--driver-java-options", QUICK_JVM,
        "--conf", "spark.ui.enabled=false", "--conf", "spark.dynamicAllocation.enabled=true",
        "--conf", "spark.log.level=ERROR", tmp_path / "fit.py",
    ]  # fmt: skip
    run = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False,
        env=environment(SPARK_LOCAL_IP="127.0.0.1", PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("refused: ")]
    assert line.startswith("refused: spark.dynamicAllocation.enabled is true, which Spark refuses together with the ")


def test_plain_blocks_are_sent_where_spark_encrypts_and_they_are_allowed(
    submit: Submit, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    run = submit(
        "local[2]", ["--set", "exchange.plain=true"],
        "--conf", "spark.authenticate=true", "--conf", "spark.network.crypto.enabled=true",
    )  # fmt: skip
    assert run.finish() == 0, run.printed
    assert_same_bits(tmp_path / "out", undisturbed)
