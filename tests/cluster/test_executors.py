"""Same bits on any number of executors, whatever happens to them: on a cluster of real processes, harmed for real."""

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.cluster.standalone import QUICK_JVM, Cluster, end, wait_until
from tests.cluster.submission import (
    ALL_EXECUTORS,
    JOBS,
    Held,
    Stop,
    Submission,
    assert_same_bits,
    matrices,
    planted_corpus,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

# Three blocks, or three replicas: three tasks a round.
SETTINGS = [
    "--set", "training.partitions=3", "--set", "training.dimensions=50", "--set", "training.epochs=2",
    "--set", "training.sweeps_per_epoch=1", "--set", "training.syncs_per_epoch=3", "--set", "vocabulary.subsample=0",
    "--set", "output.checkpoint=none",
]  # fmt: skip
SCHEMES = ("blocks", "replicas")
# The first epoch of three blocks begins with small sweeps: it has seven.
LAST = {"blocks": Stop("round", 24), "replicas": Stop("round", 6)}
# Where workers and executors are killed at drawn moments, in the order of a run.
MOMENTS = {
    "blocks": [Stop("reading"), Stop("vocabulary"), Stop("pairs"), *(Stop("round", k) for k in (1, 4, 20)),
               Stop("pairs", 2), Stop("round", 23)],
    "replicas": [Stop("reading"), Stop("vocabulary"), *(Stop("round", k) for k in (1, 2, 3, 4, 5))],
}  # fmt: skip
Undisturbed = Callable[[str], list[np.ndarray]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """640 files, which Spark reads in three tasks: every executor holds a part of what the others need."""
    return planted_corpus(tmp_path_factory.mktemp("executors") / "corpus", files=640, sentences=5)


@pytest.fixture(scope="module")
def undisturbed(java_home: str, corpus: Path, package: Path, python_without_checkout: Path) -> Undisturbed:
    """Both matrices of a run in one process."""
    known: dict[str, list[np.ndarray]] = {}

    def bits(scheme: str) -> list[np.ndarray]:
        if scheme not in known:
            directory = corpus.parent / scheme
            run = Submission(
                "local[2]", directory,
                [
                    "--input", corpus, "--output", directory / "out", *SETTINGS, "--set", f"training.scheme={scheme}",
                ],
                ["--py-files", package], python_without_checkout,
            )  # fmt: skip
            assert run.finish() == 0, run.printed
            epochs = run.epochs()
            assert (sum(3 * epoch.sweeps for epoch in epochs) or len(epochs)) == LAST[scheme].number
            known[scheme] = matrices(directory / "out")
        return known[scheme]

    return bits


@pytest.fixture
def submit(
    cluster: Cluster, corpus: Path, package: Path, python_without_checkout: Path, tmp_path: Path
) -> Iterator[Callable[..., Submission]]:
    """Submits to the cluster as users do; kills what is still running when the test is over."""
    runs: list[Submission] = []

    def start(
        scheme: str, stops: list[Stop], *options: str, executors: int = 3, ships_package: bool = True
    ) -> Submission:
        py_files = ["--py-files", str(package)] if ships_package else []
        run = Submission(
            cluster.url, tmp_path / "run",
            ["--input", corpus, "--output", tmp_path / "out", *SETTINGS, "--set", f"training.scheme={scheme}"],
            [
                *py_files, "--executor-memory", "512m", "--conf", f"spark.cores.max={executors}",
                "--conf", f"spark.executor.extraJavaOptions={QUICK_JVM}",
                # Spark prefers hosts that hold a shuffle's files, and would wait 3 s for one that is gone.
                "--conf", "spark.locality.wait=0", *ALL_EXECUTORS, *options,
            ],
            python_without_checkout, stops,
        )  # fmt: skip
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()
    wait_until(lambda: not cluster.executors(), "the executors end with their application")


def test_executors_do_not_find_the_package_unless_it_is_shipped(submit: Callable[..., Submission]) -> None:
    run = submit("blocks", [], executors=1, ships_package=False)
    assert run.finish() == 2, run.printed
    assert "train.py: the Python of Spark's workers has no spark_w2v" in run.printed
    assert "ship the packages to the executors" in run.printed


def test_the_pairs_of_an_epoch_leave_the_disks_when_it_has_ended(
    cluster: Cluster, submit: Callable[..., Submission]
) -> None:
    def shuffles() -> set[int]:
        return {int(path.name.split("_")[1]) for path in cluster.local_files("shuffle_*.data")}

    first, second = Stop("round", 1), Stop("round", 22)
    run = submit("blocks", [first, second])
    run.wait_until_held(first, 3)
    of_first = max(shuffles())
    run.let_go(first)
    run.wait_until_held(second, 3)
    assert max(shuffles()) > of_first
    assert of_first not in shuffles()
    run.let_go(second)
    assert run.finish() == 0, run.printed


# Harm. Each function waits for a stop, with all executors in the middle of a task, does its harm there, and returns
# what the event log must show once the run is over.

Evidence = Callable[[], None]


def executor_of(held: Held) -> psutil.Process:
    """The JVM that started the daemon that forked this Python worker."""
    daemon = psutil.Process(held.pid).parent()
    executor = None if daemon is None else daemon.parent()
    assert executor is not None, "the worker has lost its executor"
    return executor


def ended(run: Submission, held: list[Held], reason: str) -> Evidence:
    """That these attempts, which waited where Spark says that they did, ended so.

    Of an epoch of `blocks` the driver may have given up, and Spark have killed its tasks, before Spark sees what
    happened to one of them.
    """

    def evidence() -> None:
        tasks = run.tasks()
        for one in held:
            assert re.match(JOBS[one.moment], tasks[one.task].job)
            is_in_exchange = one.moment == "round" and "blocks" in tasks[one.task].job
            assert tasks[one.task].reason in ({reason, "TaskKilled"} if is_in_exchange else {reason})

    return evidence


def kill_python_worker(run: Submission, stop: Stop, executors: int = 3) -> Evidence:
    held = run.wait_until_held(stop, executors)
    end([psutil.Process(held[0].pid)])
    run.let_go(stop)
    return ended(run, held[:1], "ExceptionFailure")


def kill_executors(count: int, run: Submission, stop: Stop, executors: int = 3) -> Evidence:
    def alive() -> list[Held]:
        """Those of an attempt that was given up have waited there too."""
        return [one for one in run.held(stop) if psutil.pid_exists(one.pid)]

    run.wait_for(lambda: len(alive()) >= executors, f"{executors} live at {stop}")
    held = alive()[:count]
    doomed = [executor_of(one) for one in held]
    end(doomed)
    run.let_go(stop)
    lost = ended(run, held, "ExecutorLostFailure")

    def evidence() -> None:
        lost()
        assert len({run.tasks()[one.task].executor for one in held}) == len(set(doomed)) == count

    return evidence


def fail_a_task_three_times(run: Submission, stop: Stop) -> Evidence:
    held = run.wait_until_held(stop, 3)
    others, victims = held[1:], held[:1]
    for again in (True, True, False):
        end([psutil.Process(victims[-1].pid)])
        victims[-1].file.unlink()
        if again:
            victims += [one for one in run.wait_until_held(stop, 3) if one not in others]
    run.let_go(stop)
    failed = ended(run, victims, "ExceptionFailure")

    def evidence() -> None:
        failed()
        tasks = run.tasks()
        assert [tasks[one.task].attempt for one in victims] == [0, 1, 2]
        (index,) = {tasks[one.task].index for one in victims}
        stage = victims[0].stage
        assert (stage, index, 3, "Success") in {(t.stage, t.index, t.attempt, t.reason) for t in tasks.values()}

    return evidence


def fail_an_epoch_three_times(run: Submission, stop: Stop) -> Evidence:
    """Each time by the death of one of its tasks' workers."""
    seen: list[Held] = []
    victims: list[Held] = []
    for again in (True, True, False):
        held = [one for one in run.wait_until_held(stop, len(seen) + 3) if one not in seen]
        seen += held
        victims += held[:1]
        end([psutil.Process(held[0].pid)])
        if not again:
            run.let_go(stop)
    failed = ended(run, victims, "ExceptionFailure")

    def evidence() -> None:
        failed()
        assert len({one.stage for one in victims}) == 3
        for number, victim in enumerate(victims, 1):
            epoch, lost = run.tasks()[victim.task].job.split()[1], r"(lost|stopped|exited|has not been heard)"
            assert re.search(rf"epoch {epoch}: attempt {number} of 4 failed: .*{lost}", run.printed)

    return evidence


def let_a_task_stand_still(run: Submission, stop: Stop) -> Evidence:
    """Until Spark starts a second copy of it elsewhere."""
    held = run.wait_until_held(stop, 3)
    for one in held[1:]:
        one.file.unlink()

    def copies() -> list[Held]:
        return [one for one in run.held(stop) if one not in held]

    run.wait_for(copies, "there is a copy")
    (copy,) = copies()
    copy.file.unlink()

    def evidence() -> None:
        tasks = run.tasks()
        assert tasks[copy.task].is_speculative
        assert tasks[copy.task].reason == "Success"
        original = tasks.get(held[0].task)
        assert original is None or (original.index == tasks[copy.task].index and original.reason != "Success")

    return evidence


def let_an_executor_join_between_epochs(run: Submission, stop: Stop, cluster: Cluster) -> Evidence:
    """It has no part in the epoch that goes on, and one in the next."""
    before = run.wait_until_held(stop, 2)
    cluster.start_worker()
    run.wait_for(lambda: len(run.executors()) == 3, "there is another executor")
    assert len(run.held(stop)) == 2
    run.let_go(stop)
    worked = ended(run, before, "Success")

    def evidence() -> None:
        worked()
        assert [epoch.tasks for epoch in run.epochs()][:2] == [2, 3]

    return evidence


def let_an_executor_join(run: Submission, stop: Stop, cluster: Cluster) -> Evidence:
    before = run.wait_until_held(stop, 2)
    assert len(cluster.executors()) == 2
    cluster.start_worker()
    (late,) = [one for one in run.wait_until_held(stop, 3) if one not in before]
    run.let_go(stop)
    worked = ended(run, [*before, late], "Success")

    def evidence() -> None:
        worked()
        tasks = run.tasks()
        assert tasks[late.task].executor not in {tasks[one.task].executor for one in before}

    return evidence


def kill_an_executor_at_any_time(run: Submission, last: Stop, cluster: Cluster, chance: random.Random) -> None:
    """At whatever it is doing, or about to do, when its time has come; the run cannot end before."""
    time.sleep(chance.uniform(0, 3))
    run.wait_for(run.executors, "there is an executor")
    number = chance.choice(sorted(run.executors()))
    end([cluster.executors()[number]])
    run.wait_for(lambda: number not in run.executors(), "Spark has noticed")
    run.let_go(last)


# With the defaults of Spark 4.3 nine of ten tasks have to be through before a copy is started, and there are three.
SPECULATION = (
    "--conf", "spark.speculation=true", "--conf", "spark.speculation.quantile=0.5",
    "--conf", "spark.speculation.multiplier=1.5", "--conf", "spark.speculation.minTaskRuntime=1s",
)  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_killed_workers_failing_tasks_and_two_lost_executors_change_no_bit(
    scheme: str, submit: Callable[..., Submission], tmp_path: Path, undisturbed: Undisturbed
) -> None:
    # Of `blocks` the last two are in the second epoch: an epoch fails four times at most.
    fail_three_times = fail_an_epoch_three_times if scheme == "blocks" else fail_a_task_three_times
    stops = [Stop("round", number) for number in ((2, 22, 23) if scheme == "blocks" else (2, 3, 5))]
    run = submit(scheme, stops)
    evidence = [fail_three_times(run, stops[0]), kill_python_worker(run, stops[1]), kill_executors(2, run, stops[2])]
    assert run.finish() == 0, run.printed
    for shows in evidence:
        shows()
    assert_same_bits(tmp_path / "out", undisturbed(scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_late_executor_speculative_copies_and_a_lost_executor_change_no_bit(
    scheme: str, cluster: Cluster, submit: Callable[..., Submission], tmp_path: Path, undisturbed: Undisturbed
) -> None:
    cluster.stop_worker()
    # Spark starts no copies of tasks that train together, as those of `blocks`; of those that draw their pairs it does.
    stops = [Stop("round"), Stop("pairs", 2), Stop("round", 22)]
    join = let_an_executor_join_between_epochs
    if scheme == "replicas":
        stops, join = [Stop("round", number) for number in (1, 3, 4)], let_an_executor_join
    run = submit(scheme, stops, *SPECULATION)
    evidence = [
        join(run, stops[0], cluster),
        let_a_task_stand_still(run, stops[1]),
        kill_executors(1, run, stops[2]),
    ]
    assert run.finish() == 0, run.printed
    for shows in evidence:
        shows()
    assert_same_bits(tmp_path / "out", undisturbed(scheme))


@pytest.mark.parametrize(("scheme", "executors"), [(scheme, count) for scheme in SCHEMES for count in (1, 2, 3)])
def test_on_any_number_of_executors_kills_at_drawn_moments_change_no_bit(
    scheme: str,
    executors: int,
    cluster: Cluster,
    submit: Callable[..., Submission],
    tmp_path: Path,
    undisturbed: Undisturbed,
) -> None:
    chance = random.Random(f"{scheme} {executors}")
    stops = [MOMENTS[scheme][place] for place in sorted(chance.sample(range(len(MOMENTS[scheme])), 2))]
    run = submit(scheme, [*stops, LAST[scheme]], executors=executors)
    evidence = []
    for stop in stops:
        doomed = chance.randint(0, executors)  # executors; or a Python worker
        print(f"{scheme} on {executors}: {doomed or 'no'} executors in {stop}")
        evidence.append(
            kill_executors(doomed, run, stop, executors) if doomed else kill_python_worker(run, stop, executors)
        )
    kill_an_executor_at_any_time(run, LAST[scheme], cluster, chance)
    assert run.finish() == 0, run.printed
    for shows in evidence:
        shows()
    assert_same_bits(tmp_path / "out", undisturbed(scheme))
