"""A driver killed at any moment of a run: --resume ends with the bits of a run that nobody disturbed."""

import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spark_w2v.stages.publication import newest_checkpoint
from tests.cluster.standalone import end, wait_until
from tests.cluster.submission import ROOT, Submission, matrices, planted_corpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS = [
    "--set", "training.partitions=2", "--set", "training.dimensions=300", "--set", "training.sweeps_per_epoch=1",
    "--set", "training.syncs_per_epoch=2", "--set", "vocabulary.subsample=0",
]  # fmt: skip
# What is going on while Spark runs a job that is called so.
PHASES = {
    "reading": r"corpus\.py|first at .*vocabulary\.py",
    "vocabulary": r"toArrow at .*vocabulary\.py|count at .*job\.py",
    "pairs": "drawing the pairs",
    "round": r"(round|sync) \d+ of",
}
# How often to kill in each; publication comes last, the others in any order. Together more than 20.
KILLS = {
    "blocks": {"reading": 2, "vocabulary": 2, "pairs": 2, "round": 5, "checkpoint": 3, "publication": 2},
    "replicas": {"reading": 1, "vocabulary": 1, "round": 2, "checkpoint": 1, "publication": 1},
}
CHECKPOINT = {"blocks": "round", "replicas": "epoch"}
OF_THE_CLOCK = {"seconds", "pair_seconds", "kernel_seconds", "words_per_second", "words_per_second_per_core"}


@pytest.fixture(scope="module")
def corpus(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_corpus(tmp_path_factory.mktemp("driver") / "corpus", files=4, sentences=400)


class Runs:
    """One logical run, started as often as it is killed.

    Attributes:
        output: of all of them.
        deaths: what was going on at each kill, by what was left behind.
    """

    def __init__(self, directory: Path, corpus: Path, *settings: str) -> None:
        self.directory, self.corpus = directory, corpus
        self.output = directory / "out"
        self.working = directory / ".out.working"
        self.deaths: list[str] = []
        self._settings = settings
        self._started: list[Submission] = []

    def start(self, *more: str) -> Submission:
        run = Submission(
            "local[2]", self.directory / f"run-{len(self._started)}",
            ["--input", self.corpus, "--output", self.output, "--resume", *SETTINGS, *self._settings, *more],
            ["--conf", "spark.default.parallelism=2", "--driver-class-path", str(ROOT / "conf")], Path(sys.executable),
        )  # fmt: skip
        self._started.append(run)
        return run

    def end(self) -> None:
        for run in self._started:
            run.kill()

    def position(self) -> tuple[int, int]:
        """(epoch, round) of the newest complete checkpoint."""
        found = newest_checkpoint(self.working / "checkpoints")
        return (found.position["epoch"], found.position["round"]) if found else (0, 0)

    def what_was_going_on(self, run: Submission) -> str:
        if list((self.working / "checkpoints").glob(".*.unfinished")):
            return "checkpoint"
        if (self.working / "staged").exists() and not self.output.exists():
            return "publication"
        jobs = run.jobs()
        phase = next((name for name in PHASES if jobs and re.search(PHASES[name], jobs[-1].what)), "start")
        return phase if phase != "round" or run.is_job_running() else "between rounds"


@pytest.fixture
def runs_of(tmp_path: Path, corpus: Path) -> Iterator[Any]:
    started: list[Runs] = []

    def make(name: str, *settings: str) -> Runs:
        directory = tmp_path / name
        directory.mkdir()
        started.append(Runs(directory, corpus, *settings))
        return started[-1]

    yield make
    for runs in started:
        runs.end()


def strike(run: Submission, runs: Runs, phase: str, chance: random.Random) -> None:
    """Kill a run at a random moment of a phase: its Python, its JVM, or both; what is left ends by itself."""
    found: list[psutil.Process] = []

    def is_driver_there() -> bool:
        found[:] = [driver for driver in [run.driver()] if driver is not None]
        return bool(found)

    run.wait_for(is_driver_there, "the driver is there")
    (driver,) = found
    doomed = [driver, run.jvm]
    if phase == "checkpoint":
        wanted = chance.randint(1, 2)
        seen: set[str] = set()

        def is_writing() -> bool:
            try:
                names = os.listdir(runs.working / "checkpoints")
            except FileNotFoundError:
                return False
            seen.update(name for name in names if name.endswith(".unfinished"))
            return len(seen) >= wanted and any(name.endswith(".unfinished") for name in names)

        run.wait_for(is_writing, "a checkpoint is being written", pause=0.0002)
    elif phase == "publication":
        run.wait_for((runs.working / "staged").exists, "the output is being written", pause=0.0002)
    else:
        doomed = chance.choice([[driver], [run.jvm], doomed])
        wanted = chance.randint(1, 2) if phase == "round" else 1

        def is_there() -> bool:
            return len([job for job in run.jobs() if re.search(PHASES[phase], job.what)]) >= wanted

        run.wait_for(is_there, phase, pause=0.005)
        time.sleep(chance.uniform(0, 0.15))
    for process in doomed:
        process.suspend()  # at once: to look for the whole family takes longer than to write a checkpoint
    family = run.family()
    end(doomed)
    gone = psutil.wait_procs(family, timeout=60)[1] == []
    assert gone, "a process outlived its driver"


def check_what_is_left(run: Submission, runs: Runs, checkpoint: str) -> None:
    """Nothing but the round, or the epoch, that was going on is lost."""
    rounds = [found for job in run.jobs() if (found := re.search(r"epoch (\d+) of \d+: \w+ (\d+) of", job.what))]
    if runs.output.exists() or not rounds:
        return
    epoch, number = (int(part) - 1 for part in rounds[-1].groups())
    kept = runs.position()
    assert kept >= ((epoch, number) if checkpoint == "round" else (epoch, 0))


def check_where_it_went_on(run: Submission, kept: tuple[int, int]) -> None:
    """From the newest complete checkpoint, and no other was even looked at."""
    assert "damaged" not in run.printed
    rounds = [found for job in run.jobs() if (found := re.search(r"epoch (\d+) of \d+: \w+ (\d+) of", job.what))]
    if rounds:
        assert tuple(int(part) - 1 for part in rounds[0].groups()) == kept
    if kept != (0, 0) and rounds:
        assert f"resumed after epoch {kept[0]}, round {kept[1]}" in run.printed


def metrics(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in OF_THE_CLOCK} for line in lines]


@pytest.mark.parametrize("scheme", list(KILLS))
def test_a_driver_killed_again_and_again_ends_with_the_same_bits(scheme: str, runs_of: Any) -> None:
    settings = [
        "--set", f"training.scheme={scheme}", "--set", f"output.checkpoint={CHECKPOINT[scheme]}",
        "--set", "training.epochs=3",
    ]  # fmt: skip
    undisturbed = runs_of("undisturbed", *settings)
    run = undisturbed.start()
    assert run.finish() == 0, run.printed
    killed = runs_of("killed", *settings)
    chance = random.Random(11)
    plan = [phase for phase, times in KILLS[scheme].items() if phase != "publication" for _ in range(times)]
    chance.shuffle(plan)
    for phase in [*plan, *["publication"] * KILLS[scheme]["publication"]]:
        kept = killed.position()
        run = killed.start()
        strike(run, killed, phase, chance)
        killed.deaths.append(killed.what_was_going_on(run))
        print(f"{scheme}: aimed at {phase}, hit {killed.deaths[-1]}, {kept} to {killed.position()}")
        check_where_it_went_on(run, kept)
        check_what_is_left(run, killed, CHECKPOINT[scheme])
        assert not killed.output.exists(), "it ended before it was killed"
    kept = killed.position()
    run = killed.start()
    assert run.finish() == 0, run.printed
    check_where_it_went_on(run, kept)
    assert set(killed.deaths) >= set(KILLS[scheme]), f"some phase was never hit: {killed.deaths}"
    for one, other in zip(matrices(undisturbed.output), matrices(killed.output), strict=True):
        assert np.abs(one).max() > 0.01
        assert np.array_equal(one, other)
    assert metrics(killed.output) == metrics(undisturbed.output)
    assert not killed.working.exists()


def test_there_are_enough_kills() -> None:
    assert sum(sum(times.values()) for times in KILLS.values()) >= 20


@pytest.mark.parametrize("whom", ["spark-submit", "python", "both"])
def test_sigterm_ends_a_run_in_10_seconds_and_it_can_be_resumed(whom: str, runs_of: Any) -> None:
    runs = runs_of("terminated", "--set", "output.checkpoint=round", "--set", "training.epochs=4")
    run = runs.start()
    run.wait_for(lambda: runs.position() > (0, 1), "a checkpoint", pause=0.1)
    run.wait_for(lambda: re.search(PHASES["round"], run.jobs()[-1].what), "a round")
    family, driver = run.family(), run.driver()
    assert driver is not None
    told = {"spark-submit": [run.jvm], "python": [driver], "both": [run.jvm, driver]}[whom]
    for process in told:
        process.terminate()
    began = time.monotonic()
    assert run.finish() != 0
    assert psutil.wait_procs(family, timeout=60)[1] == [], "a process outlived its driver"
    assert time.monotonic() - began < 10
    if whom == "python":  # or the JVM, through which it would be printed, is gone first
        assert "train.py: stopped; --resume goes on from the last checkpoint." in run.printed
    assert "Traceback" not in run.printed
    assert os.listdir(runs.working) == ["checkpoints"]  # neither a lock nor half an output
    kept = runs.position()
    run = runs.start()
    assert run.finish() == 0, run.printed
    check_where_it_went_on(run, kept)


def test_another_configuration_or_another_corpus_is_not_resumed(corpus: Path, runs_of: Any) -> None:
    runs = runs_of("changed", "--set", "output.checkpoint=round")
    chance = random.Random(3)
    strike(runs.start(), runs, "round", chance)
    strike(runs.start(), runs, "checkpoint", chance)
    kept = runs.position()
    assert kept != (0, 0)
    file = corpus / "01.txt"
    stat, text = file.stat(), file.read_text()

    def refused(*more: str) -> str:
        run = runs.start(*more)
        assert run.finish() == 2, run.printed
        assert runs.position() == kept
        (complaint,) = [line for line in run.printed.splitlines() if line.startswith("train.py: ")]
        return str(complaint)

    try:
        assert "training.learning_rate was 0.05, is 0.04" in refused("--set", "training.learning_rate=0.04")
        os.utime(file, (stat.st_atime, stat.st_mtime + 5))
        complaint = refused()
        assert re.search(rf"files\.\S*/01\.txt was \"{stat.st_size} bytes of \S+\", is \"{stat.st_size} ", complaint)
        with open(file, "a") as opened:
            opened.write("w1x1 w1x2\n")
        assert f'is "{stat.st_size + 10} bytes of' in refused()
        (corpus / "99.txt").write_text("w1x1 w1x2\n")
        file.write_text(text)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert re.search(r"files\.\S*/99\.txt was not set", refused())
    finally:
        (corpus / "99.txt").unlink(missing_ok=True)
        file.write_text(text)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    wait_until(lambda: not (runs.working / "lock").exists(), "the lock is released")
