"""A driver killed at any moment of a run: --resume ends with the bits of a run that nobody disturbed."""

import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.runs.checkpoints import newest_checkpoint
from tests.cluster.standalone import QUICK_JVM, ROOT, end, wait_until
from tests.cluster.submission import JOBS, Held, Stop, Submission, assert_same_bits, matrices, planted_corpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS = [
    "--set", "training.partitions=2", "--set", "training.dimensions=50", "--set", "training.epochs=3",
    "--set", "training.sweeps_per_epoch=2", "--set", "training.syncs_per_epoch=2", "--set", "vocabulary.subsample=0",
]  # fmt: skip
# As the README's runs log: no stack trace where one sentence will do.
QUIET = ["--driver-java-options", f"{QUICK_JVM} -Dlog4j2.configurationFile={ROOT}/conf/log4j2.properties"]
# How often to kill in each. Those before "anywhere" come in any order.
KILLS = {
    "blocks": {
        "reading": 1, "vocabulary": 1, "pairs": 1, "round": 2, "rows": 1, "sweep": 2, "checkpoint": 2,
        "anywhere": 2, "publication": 1, "published": 1,
    },
    "replicas": {"reading": 1, "vocabulary": 1, "round": 1, "checkpoint": 1, "anywhere": 1, "publication": 1},
}  # fmt: skip
CHECKPOINT = {"blocks": "sweep", "replicas": "epoch"}
# Rounds, of which a sweep of two blocks has two; blocks of parameters, of which a sweep ends with four. Which changes
# of files, from the first that a run makes: of a checkpoint the manifest, its directory's name, and the removal of the
# checkpoint before; those of its publication, from the first table on.
STEPS = {"round": (1, 3), "rows": (2, 7), "sweep": (1, 2), "checkpoint": (1, 5), "publication": (4, 13)}
# What differs from run to run: seconds, and what has passed through an epoch that was begun again.
OF_THE_CLOCK = {
    "seconds", "draw_seconds", "pair_seconds", "kernel_seconds", "wait_seconds", "words_per_second",
    "words_per_second_per_core", "driver_bytes", "task_bytes", "slowest_host", "most_task_pairs", "least_task_pairs",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_corpus(tmp_path_factory.mktemp("driver") / "corpus", files=4, sentences=600)


class Runs:
    """One logical run, started as often as it is killed."""

    def __init__(self, directory: Path, corpus: Path, scheme: str) -> None:
        self.directory, self.corpus = directory, corpus
        self.output = directory / "out"
        self.working = directory / ".out.working"
        self.checkpoint = CHECKPOINT[scheme]
        self._scheme = scheme
        self._started: list[Submission] = []

    def start(self, *stops: Stop, settings: tuple[str, ...] = ()) -> Submission:
        run = Submission(
            "local[2]", self.directory / f"run-{len(self._started)}",
            [
                "--input", self.corpus, "--output", self.output, "--resume", *SETTINGS,
                "--set", f"training.scheme={self._scheme}", "--set", f"output.checkpoint={self.checkpoint}", *settings,
            ],
            ["--conf", "spark.default.parallelism=2", *QUIET],
            Path(sys.executable), stops,
        )  # fmt: skip
        self._started.append(run)
        return run

    def end(self) -> None:
        for run in self._started:
            run.kill()

    def position(self) -> tuple[int, int]:
        """(epoch, sweep) of the newest complete checkpoint."""
        found = newest_checkpoint(self.working / "checkpoints")
        return (found.position["epoch"], found.position["sweep"]) if found else (0, 0)


@pytest.fixture
def runs_of(tmp_path: Path, corpus: Path) -> Iterator[Callable[[str], Runs]]:
    started: list[Runs] = []

    def make(scheme: str) -> Runs:
        started.append(Runs(tmp_path, corpus, scheme))
        return started[-1]

    yield make
    for runs in started:
        runs.end()


class Undisturbed:
    """A run that nobody disturbed.

    Attributes:
        seconds: that it took.
    """

    def __init__(self, runs: Runs) -> None:
        began = time.monotonic()
        run = runs.start()
        try:
            assert run.finish() == 0, run.printed
        finally:
            runs.end()
        self.seconds = time.monotonic() - began
        self.matrices = matrices(runs.output)
        self.metrics = metrics(runs.output)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Undisturbed]:
    known: dict[str, Undisturbed] = {}

    def run(scheme: str) -> Undisturbed:
        if scheme not in known:
            known[scheme] = Undisturbed(Runs(tmp_path_factory.mktemp(scheme), corpus, scheme))
        return known[scheme]

    return run


def metrics(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in OF_THE_CLOCK} for line in lines]


def driver_of(run: Submission) -> psutil.Process:
    driver = run.driver()
    assert driver is not None, "there is no driver"
    return driver


def kill(run: Submission, doomed: list[psutil.Process]) -> None:
    """SIGKILL to the driver's Python, its JVM, or both; what is left ends by itself."""
    for process in doomed:
        process.suspend()
    family = run.family()
    end(doomed)
    assert psutil.wait_procs(family, timeout=60)[1] == [], "a process outlived its driver"
    assert run.finish() == (-9 if run.jvm in doomed else 128 + 9), "it ended by itself, before it was killed"


def kill_in(phase: str, runs: Runs, chance: random.Random) -> Submission:
    """Kill a run in a phase, at a moment drawn at random, and prove that it was there."""
    number, kept = chance.randint(*STEPS.get(phase, (1, 1))), runs.position()
    if phase == "checkpoint" and runs.checkpoint == "epoch" and kept != (0, 0):
        number = min(number, 4)  # there is only one to come
    stop = Stop(phase, number)
    run = runs.start(stop)
    held = run.wait_until_held(stop)
    driver = driver_of(run)
    if phase in JOBS:
        run.wait_for(lambda: held[0].stage in run.job_of_stage(), "Spark's event log has the job")
        assert re.match(JOBS[phase], run.job_of_stage()[held[0].stage])
        kill(run, chance.choice([[driver], [run.jvm], [driver, run.jvm]]))
        assert [task for task in run.tasks().values() if task.id == held[0].task and task.reason == "Success"] == []
    else:
        assert held[0].pid == driver.pid
        kill(run, chance.choice([[driver], [driver, run.jvm]]))  # the JVM alone would not be noticed while it waits
        check_files(phase, held[0], runs, number, kept)
    assert held[0] in run.held(stop), "it was let go"
    print(f"killed in {phase} {number} {held[0].what} {held[0].path.rpartition('.working/')[2]}")
    return run


def check_files(phase: str, held: Held, runs: Runs, number: int, kept: tuple[int, int]) -> None:
    """Check that the files left are those of a driver killed before, or in the middle of, its last step."""
    checkpoints = runs.working / "checkpoints"
    unfinished, complete = sorted(checkpoints.glob(".*.unfinished")), sorted(checkpoints.glob("[0-9]*"))
    if phase == "rows":
        # Of a sweep that came back in part there are files, and of one that came back in whole, or a checkpoint.
        assert unfinished or kept < runs.position()
        return
    if phase == "sweep":
        # Of those before it at most the last is no checkpoint yet.
        assert len(unfinished) >= 1
        assert kept < runs.position() if number > 1 else kept == runs.position()
        return
    path = Path(held.path)
    is_there = held.what in {"half", "os.rename", "os.rmdir", "os.remove"}
    assert path.exists() == is_there or phase == "published"
    if phase == "checkpoint":
        assert path.is_relative_to(checkpoints)
        assert unfinished or len(complete) == 2
    elif phase == "publication":
        assert path.relative_to(runs.working).parts[0].startswith("staged.")
        assert not runs.output.exists()
    else:
        assert (runs.output / "_SUCCESS").exists()
    if held.what == "half" and path.suffix == ".parquet":
        assert path.stat().st_size > 1000
        with pytest.raises(pa.ArrowInvalid, match="magic bytes"):
            pq.ParquetFile(path)


def kill_anywhere(runs: Runs, chance: random.Random, seconds: float) -> Submission:
    """Kill a run at a random time, but before it publishes: that it cannot do before it is killed."""
    stop = Stop("publication")
    run = runs.start(stop)
    began, after = time.monotonic(), chance.uniform(0, 1) * seconds
    run.wait_for(lambda: time.monotonic() > began + after or run.held(stop), "its time has come")
    driver = run.driver()
    if driver is None:
        kill(run, [run.jvm])
    else:
        choices = [[driver], [run.jvm], [driver, run.jvm]]
        kill(run, chance.choice([choices[0], choices[2]] if run.held(stop) else choices))
    print(f"killed after {after:.1f} of {seconds:.1f} s, while it did {list(run.job_of_stage().values())[-1:]}")
    return run


def check_what_is_left(run: Submission, runs: Runs) -> None:
    """Nothing but what was going on is lost: of the epochs before it everything."""
    if (epochs := run.epochs()) and not runs.output.exists():
        assert runs.position() >= (epochs[-1].epoch, 0)


def check_where_it_went_on(run: Submission, kept: tuple[int, int], sweeps: list[int]) -> None:
    """From the newest complete checkpoint, and no other was even looked at.

    Args:
        sweeps: or syncs, of each epoch.
    """
    assert "damaged" not in run.printed
    if epochs := run.epochs():
        first = epochs[0]
        begun = sweeps[first.epoch] - first.sweeps if first.sweeps else first.sync
        assert (first.epoch, begun) == kept
        assert (f"resumed after epoch {kept[0]}, sweep {kept[1]}" in run.printed) == (kept != (0, 0))


@pytest.mark.parametrize("scheme", list(KILLS))
def test_a_driver_killed_again_and_again_ends_with_the_same_bits(
    scheme: str, runs_of: Callable[[str], Runs], undisturbed: Callable[[str], Undisturbed]
) -> None:
    expected = undisturbed(scheme)
    sweeps = [line["sweeps"] for line in expected.metrics]
    runs = runs_of(scheme)
    chance = random.Random(11)
    phases = [phase for phase, times in KILLS[scheme].items() for _ in range(times)]
    anywhere = phases.index("anywhere")
    early = phases[:anywhere]
    chance.shuffle(early)
    for phase in [*early, *phases[anywhere:]]:
        kept = runs.position()
        run = kill_anywhere(runs, chance, expected.seconds) if phase == "anywhere" else kill_in(phase, runs, chance)
        check_where_it_went_on(run, kept, sweeps)
        check_what_is_left(run, runs)
        assert runs.output.exists() == (phase == "published")
    kept = runs.position()
    run = runs.start()
    assert run.finish() == 0, run.printed
    check_where_it_went_on(run, kept, sweeps)
    assert_same_bits(runs.output, expected.matrices)
    assert metrics(runs.output) == expected.metrics
    assert not runs.working.exists()


def test_there_are_enough_kills() -> None:
    assert sum(sum(times.values()) for times in KILLS.values()) >= 20


def held_after_a_sweep(runs: Runs) -> Submission:
    """A run whose tasks wait in the second sweep that it trains; the first is a checkpoint."""
    (epoch, sweep), stop = runs.position(), Stop("round", 3)
    run = runs.start(stop)
    run.wait_until_held(stop, 2)
    run.wait_for(lambda: runs.position() == (epoch, sweep + 1), "the sweep is a checkpoint")
    return run


def test_sigterm_ends_a_run_in_10_seconds_and_it_can_be_resumed(
    runs_of: Callable[[str], Runs], undisturbed: Callable[[str], Undisturbed]
) -> None:
    expected = undisturbed("blocks")
    sweeps = [line["sweeps"] for line in expected.metrics]
    runs = runs_of("blocks")
    for whom in ("spark-submit", "python", "both"):
        kept = runs.position()
        run = held_after_a_sweep(runs)
        family, driver = run.family(), driver_of(run)
        began = time.monotonic()
        for process in {"spark-submit": [run.jvm], "python": [driver], "both": [run.jvm, driver]}[whom]:
            process.terminate()
        assert run.finish() != 0
        assert psutil.wait_procs(family, timeout=60)[1] == [], "a process outlived its driver"
        assert time.monotonic() - began < 10
        if whom == "python":  # or the JVM, through which it would be printed, is gone first
            assert "train.py: stopped; --resume goes on from the last checkpoint." in run.printed
        assert "Traceback" not in run.printed
        assert os.listdir(runs.working) == ["checkpoints"]  # neither a lock nor half an output
        assert runs.position() == (0, kept[1] + 1)
        check_where_it_went_on(run, kept, sweeps)
    run = runs.start()
    assert run.finish() == 0, run.printed
    assert_same_bits(runs.output, expected.matrices)


def test_another_configuration_or_another_corpus_is_not_resumed(corpus: Path, runs_of: Callable[[str], Runs]) -> None:
    runs = runs_of("blocks")
    run = held_after_a_sweep(runs)
    kill(run, [driver_of(run)])
    kept = runs.position()
    assert kept == (0, 1)
    files = [corpus / "01.txt", corpus / "02.txt"]
    before = [(file.stat(), file.read_text()) for file in files]

    def refused(*settings: str) -> str:
        run = runs.start(settings=settings)
        assert run.finish() == 2, run.printed
        assert runs.position() == kept
        (complaint,) = [line for line in run.printed.splitlines() if line.startswith("train.py: ")]
        return str(complaint)

    try:
        assert "training.learning_rate was 0.05, is 0.04" in refused("--set", "training.learning_rate=0.04")
        sizes = [stat.st_size for stat, _ in before]
        os.utime(files[0], (before[0][0].st_atime, before[0][0].st_mtime + 5))
        with open(files[1], "a") as opened:
            opened.write("w1x1 w1x2\n")
        (corpus / "99.txt").write_text("w1x1 w1x2\n")
        complaint = refused()
        assert re.search(rf"files\.\S*/01\.txt was \"{sizes[0]} bytes of \S+\", is \"{sizes[0]} bytes of", complaint)
        assert re.search(rf"files\.\S*/02\.txt was \"{sizes[1]} bytes of \S+\", is \"{sizes[1] + 10} bytes", complaint)
        assert re.search(r"files\.\S*/99\.txt was not set", complaint)
    finally:
        (corpus / "99.txt").unlink(missing_ok=True)
        for file, (stat, text) in zip(files, before, strict=True):
            file.write_text(text)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    wait_until(lambda: not (runs.working / "lock").exists(), "the lock is released")
