"""Same bits on any number of executors, whatever happens to them: on a cluster of real processes, harmed for real."""

import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.cluster.standalone import (
    QUICK_JVM,
    Cluster,
    end,
    python_workers,
    seconds_worked,
    wait_until,
)
from tests.cluster.submission import Submission, Task, matrices, planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

# Three blocks, or three replicas: three tasks a round. Few words and many numbers make rounds long enough to be hit,
# and all else short.
SETTINGS = [
    "--set", "training.partitions=3", "--set", "training.dimensions=300", "--set", "training.sweeps_per_epoch=1",
    "--set", "training.syncs_per_epoch=3", "--set", "vocabulary.subsample=0", "--set", "output.checkpoint=none",
]  # fmt: skip
SHORT = ["--set", "training.epochs=1", "--set", "training.negatives=2"]
LONG = ["--set", "training.epochs=4", "--set", "training.dimensions=1500"]
SCHEMES = ("blocks", "replicas")
Undisturbed = Callable[[str, list[str]], list[np.ndarray]]
WORKING = 0.1  # seconds of processor after which a Python worker is in the middle of a task


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 files, which Spark reads in three tasks: every executor holds a part of what the others need."""
    return planted_corpus(tmp_path_factory.mktemp("executors") / "corpus", files=24, sentences=500)


@pytest.fixture(scope="module")
def undisturbed(java_home: str, corpus: Path, package: Path, python_without_checkout: Path) -> Undisturbed:
    """Both matrices of a run in one process, short ones with one core."""
    known: dict[str, list[np.ndarray]] = {}

    def bits(scheme: str, length: list[str]) -> list[np.ndarray]:
        name = f"{scheme}-{'short' if length is SHORT else 'long'}"
        if name not in known:
            directory = corpus.parent / name
            run = Submission(
                "local[1]" if length is SHORT else "local[2]", directory,
                [
                    "--input", corpus, "--output", directory / "out", *SETTINGS, *length,
                    "--set", f"training.scheme={scheme}",
                ],
                ["--py-files", package], python_without_checkout,
            )  # fmt: skip
            assert run.finish() == 0, run.printed
            known[name] = matrices(directory / "out")
        return known[name]

    return bits


@pytest.fixture
def submit(
    cluster: Cluster, corpus: Path, package: Path, python_without_checkout: Path, tmp_path: Path
) -> Iterator[Callable[..., Submission]]:
    """Submits to the cluster as users do; kills what is still running when the test is over."""
    runs: list[Submission] = []

    def start(
        scheme: str, length: list[str], executors: int = 3, *options: str, ships_package: bool = True
    ) -> Submission:
        py_files = ["--py-files", str(package)] if ships_package else []
        run = Submission(
            cluster.url, tmp_path / "run",
            [
                "--input", corpus, "--output", tmp_path / "out", *SETTINGS, *length,
                "--set", f"training.scheme={scheme}",
            ],
            [
                *py_files, "--executor-memory", "512m", "--conf", f"spark.cores.max={executors}",
                "--conf", f"spark.executor.extraJavaOptions={QUICK_JVM}", *options,
            ],
            python_without_checkout,
        )  # fmt: skip
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()
    wait_until(lambda: not cluster.executors(), "the executors end with their application")


def test_executors_do_not_find_the_package_unless_it_is_shipped(submit: Callable[..., Submission]) -> None:
    run = submit("blocks", SHORT, 1, ships_package=False)
    assert run.finish() == 1, run.printed
    assert "ModuleNotFoundError: No module named 'spark_w2v'" in run.printed


@pytest.mark.parametrize(
    ("scheme", "executors"), [("blocks", 1), ("blocks", 2), ("blocks", 3), ("replicas", 1), ("replicas", 3)]
)
def test_the_bits_are_those_of_one_process(
    scheme: str,
    executors: int,
    submit: Callable[..., Submission],
    tmp_path: Path,
    undisturbed: Undisturbed,
) -> None:
    run = submit(scheme, SHORT, executors)
    assert run.finish() == 0, run.printed
    assert len({task.executor for task in run.tasks("round|sync")}) == executors
    assert_same_bits(tmp_path / "out", undisturbed(scheme, SHORT))


def assert_same_bits(output: Path, expected: list[np.ndarray]) -> None:
    found = matrices(output)
    assert all(np.abs(matrix).max() > 0.01 for matrix in found), "nothing was trained"
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


# Harm. Each function waits for a round, does its harm in the middle of it, and returns what the event log must show
# once the run is over.

Evidence = Callable[[], None]


class Round:
    """The next round of some epochs to start, and what its Python workers have done in it."""

    def __init__(self, run: Submission, cluster: Cluster, epochs: str) -> None:
        self.run, self.cluster = run, cluster
        run.wait_for(lambda: len(cluster.executors()) >= len(cluster.workers), "an executor on each worker")
        self.executors = cluster.executors()
        known = len(run.jobs())
        pattern = rf"epoch {epochs} of \d+: (round|sync) "

        def has_begun() -> bool:
            return len(run.jobs()) > known and bool(re.search(pattern, run.jobs()[-1].what))

        run.wait_for(has_begun, f"a round of epoch {epochs}")
        self.before = self.last = self.worked()
        self.what = f"^{run.jobs()[-1].what}$"

    def worked(self) -> dict[psutil.Process, float]:
        return {worker: seconds_worked(worker) for worker in python_workers(self.executors)}

    def in_the_middle(self) -> list[psutil.Process]:
        """Python workers that are at a task now: they have worked, and still did since the last look."""
        last, self.last = self.last, self.worked()
        return [
            worker
            for worker, seconds in self.last.items()
            if seconds - self.before.get(worker, 0.0) > WORKING and seconds > last.get(worker, 0.0)
        ]

    def wait_until_all_work(self, count: int = 3) -> list[psutil.Process]:
        found: list[psutil.Process] = []

        def all_work() -> bool:
            found[:] = self.in_the_middle()
            return len(found) >= count

        self.run.wait_for(all_work, f"{count} workers are in the middle of {self.what}", pause=0.03)
        return found

    def tasks(self) -> list[Task]:
        return self.run.tasks(self.what)


def kill_executors(count: int, current: Round) -> Evidence:
    current.wait_until_all_work()
    doomed = current.executors[:count]
    numbers = {re.findall(r"--executor-id (\d+)", " ".join(executor.cmdline()))[0] for executor in doomed}
    end(doomed)

    def evidence() -> None:
        assert {task.executor for task in current.tasks() if task.reason == "ExecutorLostFailure"} == numbers
        assert len(numbers) == count

    return evidence


def kill_python_worker(current: Round) -> Evidence:
    end(current.wait_until_all_work()[:1])

    def evidence() -> None:
        (failed,) = [task for task in current.tasks() if task.reason == "ExceptionFailure"]
        assert failed.attempt == 0

    return evidence


def fail_a_task_three_times(current: Round) -> Evidence:
    # One of the three stands still until the others are through: then whoever works after that works on this task.
    victim = current.wait_until_all_work()[0]
    victim.suspend()
    wait_until_idle(current)
    for again in (True, True, False):
        current.before = current.worked()
        end([victim])
        if again:
            (victim,) = current.wait_until_all_work(1)

    def evidence() -> None:
        failed = [task for task in current.tasks() if task.reason == "ExceptionFailure"]
        assert sorted(task.attempt for task in failed) == [0, 1, 2]
        (index,) = {task.index for task in failed}
        assert (index, 3, "Success") in {(task.index, task.attempt, task.reason) for task in current.tasks()}

    return evidence


def wait_until_idle(current: Round) -> None:
    """Until no Python worker has done anything for a second."""
    last = current.worked()

    def is_idle() -> bool:
        nonlocal last
        time.sleep(1)
        before, last = last, current.worked()
        return before == last

    current.run.wait_for(is_idle, "the workers stand still", pause=0)


def let_a_worker_stand_still(current: Round) -> Evidence:
    """Until Spark starts a second copy of its task elsewhere."""
    current.wait_until_all_work()[0].send_signal(signal.SIGSTOP)

    def evidence() -> None:
        (copy,) = [task for task in current.tasks() if task.is_speculative and task.reason == "Success"]
        originals = [task for task in current.tasks() if task.index == copy.index and not task.is_speculative]
        assert "Success" not in {task.reason for task in originals if task.stage == copy.stage}

    return evidence


def let_an_executor_join(current: Round) -> Evidence:
    current.cluster.start_worker()
    run = current.run

    def joined() -> bool:
        return len(run.executors_added()) == 3

    run.wait_for(joined, "the third executor is there")

    def evidence() -> None:
        (number,) = {number for number, time in run.executors_added() if time > first_round(run)}
        assert number in {task.executor for task in run.tasks("round|sync") if task.reason == "Success"}

    return evidence


def first_round(run: Submission) -> int:
    return min(job.started for job in run.jobs() if re.search("round|sync", job.what))


# With the defaults of Spark 4.3 nine of ten tasks have to be through before a copy is started, and there are three.
SPECULATION = (
    "--conf", "spark.speculation=true", "--conf", "spark.speculation.quantile=0.5",
    "--conf", "spark.speculation.multiplier=1.5", "--conf", "spark.speculation.minTaskRuntime=3s",
)  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_killed_workers_failing_tasks_and_two_lost_executors_change_no_bit(
    scheme: str,
    cluster: Cluster,
    submit: Callable[..., Submission],
    tmp_path: Path,
    undisturbed: Undisturbed,
) -> None:
    run = submit(scheme, LONG)
    evidence = [
        kill_python_worker(Round(run, cluster, "[2-4]")),
        fail_a_task_three_times(Round(run, cluster, "[2-4]")),
        kill_executors(2, Round(run, cluster, "[2-4]")),
    ]
    assert run.finish() == 0, run.printed
    for shows in evidence:
        shows()
    assert_same_bits(tmp_path / "out", undisturbed(scheme, LONG))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_late_executor_speculative_copies_and_a_lost_executor_change_no_bit(
    scheme: str,
    cluster: Cluster,
    submit: Callable[..., Submission],
    tmp_path: Path,
    undisturbed: Undisturbed,
) -> None:
    cluster.stop_worker()
    # Spark prefers the hosts that hold the shuffle's files, and would leave the newcomer idle for 3 s a round.
    run = submit(scheme, LONG, 3, *SPECULATION, "--conf", "spark.locality.wait=0")
    evidence = [
        let_an_executor_join(Round(run, cluster, "1")),
        let_a_worker_stand_still(Round(run, cluster, "[2-4]")),
        kill_executors(1, Round(run, cluster, "[2-4]")),
    ]
    assert run.finish() == 0, run.printed
    for shows in evidence:
        shows()
    assert_same_bits(tmp_path / "out", undisturbed(scheme, LONG))


@pytest.mark.parametrize(("scheme", "seed"), [(scheme, seed) for scheme in SCHEMES for seed in range(3)])
def test_kills_at_random_moments_change_no_bit(
    scheme: str,
    seed: int,
    cluster: Cluster,
    submit: Callable[..., Submission],
    tmp_path: Path,
    undisturbed: Undisturbed,
) -> None:
    chance = random.Random(f"{scheme} {seed}")
    run = submit(scheme, LONG)
    for epochs in ("[1-2]", "[2-4]"):
        current = Round(run, cluster, epochs)
        harms: list[Callable[[Round], Evidence]] = [
            kill_python_worker, partial(kill_executors, 1), partial(kill_executors, 2),
        ]  # fmt: skip
        harm = chance.choice(harms)
        harm(current)  # which may come a moment too late for the task that it was aimed at: random is random
        time.sleep(chance.uniform(0, 1))
    assert run.finish() == 0, run.printed
    assert_same_bits(tmp_path / "out", undisturbed(scheme, LONG))
