"""Runs with ids, as a scheduler starts them: once, again, otherwise, at the same time, and with Spark dying."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pyspark.sql import SparkSession

from spark_w2v import job, pipeline
from spark_w2v.commands import phrases, publish
from spark_w2v.config import from_dict
from spark_w2v.errors import StorageError
from spark_w2v.run_request import Request
from spark_w2v.runs import ids
from spark_w2v.runs.fingerprint import differences
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.run import Run
from spark_w2v.skipgram import schedule
from spark_w2v.spark import memory
from spark_w2v.spark.training_state import Progress
from tests.support.commands import refused_in_one_sentence
from tests.support.training_job import ONE, SMALL, planted_corpus, state, train_here

ROOT = Path(__file__).resolve().parents[1]
LOCAL = str(ROOT / "conf" / "local.toml")
Train = Callable[..., int]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "planted.txt"
    planted_corpus(path, sentences=300)
    return path


@pytest.fixture
def train(spark: SparkSession, corpus: Path, kept: Path) -> Train:
    """jobs/train.py in this process, in the session of all tests; its exit code."""
    return lambda run_id, *more: run(spark, corpus, kept, run_id, *more)


def run(spark: SparkSession, corpus: Path, kept: Path, run_id: str, *more: str) -> int:
    return train_here(spark, ["--input", corpus, "--output", kept, "--run-id", run_id, *ONE, *SMALL, *more])


@pytest.fixture(scope="module")
def first(spark: SparkSession, corpus: Path) -> Path:
    """A directory in which the run "1" has finished."""
    directory = corpus.parent / "first"
    assert run(spark, corpus, directory, "1") == 0
    return directory


@pytest.fixture
def kept(first: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(first, tmp_path / "kept", symlinks=True))


def test_a_run_goes_to_its_id_and_the_same_one_again_does_nothing(
    train: Train, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert ids.current(str(kept)) == "1"
    assert (kept / "current" / "_SUCCESS").exists()
    before = state(kept)
    assert train("1") == 0
    assert "nothing to do" in caplog.text
    assert state(kept) == before
    assert sorted(os.listdir(kept)) == ["current", "runs"]
    assert os.listdir(kept / "runs") == ["1"], "no lock, marker or working directory is left"


def test_a_finished_id_with_another_configuration_is_refused_and_the_difference_named(
    train: Train, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(kept)
    assert train("1", "--set", "training.epochs=2") == 2
    said = capsys.readouterr().err
    assert "train.py: " in said
    assert "holds the finished output of another run" in said
    assert "training.epochs was 5, is 2" in said
    assert state(kept) == before
    assert train("1", "--set", "training.epochs=2", "--overwrite") == 0
    assert json.loads((kept / "current" / "run.json").read_text())["configuration"]["training"]["epochs"] == 2


def test_a_key_of_the_other_scheme_is_told(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    assert train("2", "--set", "training.scheme=blocks", "--set", "training.syncs_per_epoch=3") == 0
    assert 'training.syncs_per_epoch is not used, as training.scheme is "blocks"' in caplog.messages
    settings = from_dict({"training": {"sweeps_per_epoch": 2}})
    assert pipeline.ResolvedConfig(settings, 2, "replicas").unused_key() == "training.sweeps_per_epoch"
    assert pipeline.ResolvedConfig(settings, 2, "blocks").unused_key() is None


def test_memory_is_checked_for_the_sweeps_that_the_first_epoch_has(
    train: Train, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are more than the configuration says: growing ones, and those that keep buckets small."""
    real, checked = memory.needed, list[int]()

    def needed(*arguments: Any) -> memory.Need:
        checked.append(arguments[9])
        return real(*arguments)

    monkeypatch.setattr(memory, "needed", needed)
    monkeypatch.setattr(schedule, "MOST_PAIRS", 500)
    monkeypatch.setattr(schedule, "LEAST_BUCKET", 50)
    monkeypatch.setattr(schedule, "SMALLEST_BLOCK", 2)
    more = ("training.scheme=blocks", "training.partitions=2", "training.sweeps_per_epoch=2", "training.epochs=2")
    assert train("2", *(word for key in more for word in ("--set", key))) == 0
    metrics = (kept / "runs" / "2" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["sweeps"] for line in metrics)
    assert checked == [first]
    assert first > second > 2


def test_no_publish_leaves_current_for_publish_to_move(train: Train, kept: Path) -> None:
    assert train("2", "--no-publish") == 0
    assert ids.current(str(kept)) == "1"
    assert train("2") == 0, "a finished run is not published because it is asked for again: a gate may have held it"
    assert ids.current(str(kept)) == "1"
    assert publish.main([str(kept), "2"]) == 0
    assert train("1") == 0
    assert ids.current(str(kept)) == "2", "doing an earlier day again does not take readers back to it"


def test_what_readers_get_is_not_overwritten_by_a_run_that_is_not_to_be_published(
    train: Train, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(kept)
    assert train("1", "--no-publish", "--overwrite") == 2
    assert "so --overwrite would publish it" in capsys.readouterr().err
    assert state(kept) == before


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("output.table=vectors", "output.table: would be replaced by a run that is not published; leave --no-publish"),
        ("output.keep_runs=3", "output.keep_runs: earlier runs are removed when one is published; with --no-publish"),
    ],
)
def test_a_run_that_is_not_published_changes_nothing_that_readers_get(
    train: Train, kept: Path, capsys: pytest.CaptureFixture[str], option: str, sentence: str
) -> None:
    before = state(kept)
    assert train("2", "--no-publish", "--set", option) == 2
    assert sentence in capsys.readouterr().err
    assert state(kept) == before


def test_runs_without_an_id_cannot_be_kept(
    spark: SparkSession, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(spark, ["--input", corpus, "--output", tmp_path / "out", "--keep-runs", "3"]) == 2
    assert "output.keep_runs: is for runs with a run id" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["text", "./text", "text/", "text//", "a/../text"])
def test_a_path_in_another_spelling_is_the_same_input(path: str) -> None:
    resolved = pipeline.ResolvedConfig(from_dict({}), 1, "blocks")
    assert Request(from_dict({}), [path], "out").fingerprint(resolved, None)["input"] == ["text"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("exchange.tasks", 2, []),
        ("exchange.plain", True, []),
        ("exchange.timeout", 77, []),
        ("output.table", "words", []),
        ("output.keep_runs", 3, []),
        ("output.report", False, ["output.report was true, is false"]),
        ("output.checkpoint", "none", ['output.checkpoint was "epoch", is "none"']),
        ("training.epochs", 3, ["training.epochs was 5, is 3"]),
    ],
)
def test_a_resumed_run_may_have_other_values_only_where_the_output_does_not_depend_on_them(
    key: str, value: object, told: list[str]
) -> None:
    section, _, name = key.partition(".")
    before, now = (
        Request(settings, ["text"], "out").fingerprint(pipeline.ResolvedConfig(settings, 1, "blocks"), None)
        for settings in (from_dict({}), from_dict({section: {name: value}}))
    )
    assert differences(before, now) == told


@pytest.mark.parametrize("sweep", [0, 3])
def test_the_time_that_is_left_counts_from_where_a_run_goes_on(
    sweep: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a run of one epoch that begins, or is resumed after three of four sweeps."""
    clock = iter([0.0, 3600.0, 7200.0])
    reports = [Progress(done, 0, 0.1, None) for done in ((0.75, 0.875) if sweep else (0.25, 0.5))]
    state = SimpleNamespace(epoch=0, sweep=sweep, check_pairs=lambda: None)
    training: Any = SimpleNamespace(state=state, run=lambda: (one for one in reports))
    text: Any = SimpleNamespace(facts={})
    monkeypatch.setattr(pipeline, "prepare", lambda *_: text)
    monkeypatch.setattr(pipeline, "build_training", lambda *_: training)
    for name in ("summary", "warnings"):
        monkeypatch.setattr(pipeline, name, lambda facts, **_: [])
    monkeypatch.setattr("spark_w2v.pipeline.time", SimpleNamespace(monotonic=lambda: next(clock)))
    left: list[float | None] = []

    def on_progress(training: Any, progress: Progress) -> bool:
        left.append(progress.left)
        return False

    resolved = pipeline.ResolvedConfig(from_dict({"training": {"epochs": 1}}), 1, "blocks")
    segments: Any = SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=SimpleNamespace(master="local[2]")))
    pipeline.train(segments, resolved, tmp_path, on_corpus=lambda text: None, on_progress=on_progress)
    assert left == ([None, 7200.0] if sweep else [10800.0, 7200.0])


def test_a_run_that_died_between_its_output_and_current_is_made_up_for(
    train: Train, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> str:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(ids, "move_current", dies)
        assert train("2") == 75
    assert ids.current(str(kept)) == "1"
    assert ids.is_finished(str(kept / "runs" / "2"))
    assert train("2") == 0
    assert ids.current(str(kept)) == "2"
    assert sorted(os.listdir(kept / "runs")) == ["1", "2"]


def test_an_id_at_which_another_run_is_at_work_is_to_be_tried_again(
    train: Train, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run(output_of(str(kept / "runs" / "2")), overwrite=False, resume=False, fingerprint={}):
        assert train("2") == 75
        assert "another run is at work on it" in capsys.readouterr().err
        assert train("1") == 0, "other ids are nobody's business"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run-id", "../up"], "run id '../up': may have letters"),
        (["--run-id", ""], "run id '': may have letters"),
        (["--output", "s3://bucket/out", "--run-id", "../up"], "run id '../up': may have letters"),
        (["--no-publish"], "--no-publish is for runs with --run-id"),
        (["--tolerate-changes"], "--tolerate-changes is for runs with --resume or --run-id"),
    ],
)
def test_a_mistake_with_ids_costs_one_sentence_and_no_spark(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = tmp_path / "kept"
    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    given = [LOCAL, "--input", "x", "--output", str(kept), *arguments]
    assert sentence in refused_in_one_sentence(job.train, given, capsys)
    assert not kept.exists()


def test_a_configuration_after_the_input_is_not_read_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    given = ["--input", "x", LOCAL, "--output", str(tmp_path / "kept")]
    sentence = "is after --input, so it would be read as text; give the configuration before --input"
    assert sentence in refused_in_one_sentence(job.train, given, capsys)
    given = ["--input", "x", LOCAL, "--to", str(tmp_path / "kept")]
    assert sentence in refused_in_one_sentence(phrases.main, given, capsys)


def test_an_input_that_is_given_again_is_read_too() -> None:
    found = job._options(["--input", "a", "b", "--output", "out", "--input", "c"], "train.py")
    assert found.input == ["a", "b", "c"]


@pytest.mark.slow
def test_spark_that_is_gone_is_a_reason_to_try_again(java_home: str, tmp_path: Path) -> None:
    corpus = tmp_path / "planted.txt"
    planted_corpus(corpus)
    command = [
        sys.executable, ROOT / "jobs" / "train.py", LOCAL, "--input", corpus, "--output", tmp_path / "kept", "--run-id",
        "1", *SMALL, "--set", "training.partitions=1", "--set", "training.epochs=100000",
    ]  # fmt: skip
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PYSPARK_SUBMIT_ARGS": "--master local[1] --conf spark.sql.shuffle.partitions=2 pyspark-shell",
    }
    with open(log, "wb") as file:
        started = subprocess.Popen(list(map(str, command)), env=environment, cwd=ROOT, stderr=file, stdout=file)
    try:
        deadline = time.monotonic() + 240
        while "epoch 2/" not in log.read_text():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        jvms = [child for child in psutil.Process(started.pid).children() if child.name() == "java"]
        assert len(jvms) == 1
        jvms[0].kill()
        status = started.wait(120)
    finally:
        started.kill()
        started.wait()
    assert status == 75, log.read_text()
    assert "train.py: " in log.read_text()
    assert "; try again, with --resume" in log.read_text()
    # PySpark's own server for accumulators may tell of its broken connection with a traceback; we do not.
    assert "/spark_w2v/job.py" not in log.read_text()
