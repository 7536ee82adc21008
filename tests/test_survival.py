"""The training job on a full disk, with a checkpoint of an earlier run and with secrets: one sentence, and no harm."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import StorageError
from spark_w2v.runs.run import Run
from spark_w2v.spark import memory
from spark_w2v.spark.training import Training
from tests.support.outcomes import GOOD, Outcome, job_of
from tests.support.training_job import planted_corpus, submit


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return job_of(spark, tmp_path, capsys)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], stderr=subprocess.PIPE)
    if mounted.returncode:
        pytest.skip(f"no tmpfs for this user: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_sentence_and_harms_nothing_that_was_there(
    run: Callable[..., Outcome], tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "words.txt").write_text("".join(f"w{i} w{i + 1}\n" for i in range(400)))
    (tmp_path / "out").symlink_to(small_disk / "out")
    assert run().code == 0
    before = {path: path.read_bytes() for path in (small_disk / "out").rglob("*") if path.is_file()}
    output = str(small_disk / "out")
    for checkpoint, is_checked in (("epoch", True), ("none", True), ("epoch", False)):
        if not is_checked:  # somebody else fills the disk meanwhile
            monkeypatch.setattr(memory, "check_disk", lambda *_: None)
        outcome = run("--overwrite", "--output", output, training__dimensions=2000, output__checkpoint=checkpoint)
        assert outcome.code == 75
        said = "of which this disk must have room for" if is_checked else "could not be written: the disk is full."
        assert said in outcome.said[0]
        assert {path: path.read_bytes() for path in (small_disk / "out").rglob("*") if path.is_file()} == before
        assert [path.name for path in small_disk.iterdir()] == ["out"]


# A checkpoint of an earlier run


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_the_checkpoint_of_the_one_before(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "words.txt").write_bytes(GOOD)

    def refuse(*_: object) -> NoReturn:
        raise StorageError("the disk is full")

    def checkpoint() -> dict[Path, bytes]:
        folder = tmp_path / ".out.working" / "checkpoints"
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with monkeypatch.context() as patched:
        patched.setattr(Run, "publish", refuse)
        assert run(training__epochs=2).code == 75
    before = checkpoint()
    assert len(before) == 3
    with monkeypatch.context() as patched:
        patched.setattr(memory, "given_by", lambda context: memory.Given(1))
        assert run(training__epochs=2).code == 2
    assert checkpoint() == before
    with monkeypatch.context() as patched:
        patched.setattr(memory, "check_disk", refuse)
        assert run(training__epochs=2).code == 75
    assert checkpoint() == before
    seen: list[dict[Path, bytes]] = []

    def look(_: Training) -> None:
        seen.append(checkpoint())
        refuse()

    with monkeypatch.context() as patched:
        patched.setattr(Training, "__post_init__", look)
        assert run(training__epochs=2).code == 75
    assert seen == [{}], "it would count as free disk, and be there still"
    assert run(training__epochs=2).code == 0


# Secrets


@pytest.mark.parametrize(
    "given",
    [
        {"input": ""},
        {"vocabulary__words": ""},
        {"vocabulary__stop_words": ""},
        {"phrases__list": ""},
    ],
)
def test_a_path_with_a_password_is_refused_and_not_repeated(run: Callable[..., Outcome], given: dict[str, Any]) -> None:
    keys = {key: value or "s3a://key:hush@bucket/text" for key, value in given.items()}
    outcome = run("--input", keys["input"]) if "input" in keys else run(**keys)
    assert outcome.code == 2
    assert "has a password in it" in outcome.said[0]
    assert "hush" not in outcome.said[0]


def test_vectors_at_a_path_with_a_password_are_refused(run: Callable[..., Outcome]) -> None:
    outcome = run("--init", "s3a://key:hush@bucket/run")
    assert outcome.code == 2
    assert "has a password in it" in outcome.said[0]
    assert "hush" not in outcome.said[0]


@pytest.mark.slow
def test_no_secret_of_sparks_configuration_is_printed_or_published(java_home: str, tmp_path: Path) -> None:
    planted_corpus(tmp_path / "a.txt", sentences=300)
    keys = ["spark.hadoop.fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "spark.w2v.password"]
    done = submit(
        ["--input", tmp_path / "a.txt", "--output", tmp_path / "out", "--set", "training.epochs=1"],
        spark=[part for key in keys for part in ("--conf", f"{key}=hush")],
    )
    assert done.returncode == 0, done.stdout
    assert "hush" not in done.stdout
    published = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(published) > 5
    assert not any(b"hush" in content for content in published)
