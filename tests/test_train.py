"""The training job with real files: started by spark-submit, and, for what that changes nothing of, in a session."""

import errno
import gzip
import json
import logging
import os
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.embeddings import read
from spark_w2v.runs.local import LocalOutput
from tests.support.outcomes import GOOD
from tests.support.training_job import GROUPS, ONE, SMALL, planted_corpus, submit, train_here


@pytest.fixture(scope="module")
def corpus(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "planted.txt"
    planted_corpus(path)
    return path


@pytest.fixture(scope="module")
def output(corpus: Path) -> Path:
    """The output of one partition, on one core."""
    target = corpus.parent / "one"
    done = submit(["--input", corpus, "--output", target, *ONE, *SMALL], master="local[1]")
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return target


def test_planted_groups_come_out_nearer_within_than_across(output: Path) -> None:
    found = read(output)
    units = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    group = {word: number for number, words in enumerate(GROUPS) for word in words.split()}
    numbers = np.array([group[word] for word in found.words.to_pylist()])
    cosines = units @ units.T
    same = numbers[:, None] == numbers
    np.fill_diagonal(same, False)
    across = numbers[:, None] != numbers
    assert cosines[same].min() > cosines[across].max()


def test_the_output_is_whole(output: Path) -> None:
    names = {path.name for path in output.iterdir()}
    assert names >= {"embeddings", "context", "vocabulary", "metrics.jsonl", "report.html", "run.json", "_SUCCESS"}
    run = json.loads((output / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["corpus"]["lines"] == 3000
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == [1, 2, 3, 4, 5]
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    # Vectors that know nothing have 6 log 2 = 4.16. Three groups of five words at their best have about 1.65, which the
    # first epoch comes near to: later ones go up and down there.
    assert all(m["held_out_loss"] < 1.75 for m in metrics)
    rates = [m["learning_rate"] for m in metrics]
    assert rates == sorted(rates, reverse=True)


def test_spark_pandas_and_duckdb_read_the_embeddings(output: Path, spark: SparkSession) -> None:
    table = pq.read_table(output / "embeddings")
    vectors = read(output).vectors
    assert np.isfinite(vectors).all()
    frame = pd.read_parquet(output / "embeddings")
    assert frame["word_id"].tolist() == list(range(15))
    assert frame["word"].is_unique
    assert np.array_equal(np.stack(frame["vector"].to_list()), vectors)
    rows = spark.read.parquet(str(output / "embeddings")).orderBy("word_id").collect()
    assert np.array_equal(np.array([row["vector"] for row in rows], np.float32), vectors)
    duck = duckdb.sql(f"select word_id, vector from '{output}/embeddings/*.parquet' order by word_id")
    assert duck is not None
    assert np.array_equal(np.array([row[1] for row in duck.fetchall()], np.float32), vectors)
    assert table.num_rows == pq.read_table(output / "vocabulary").num_rows


def test_the_same_run_twice_gives_the_same_bits_on_other_cores_too(
    output: Path, corpus: Path, spark: SparkSession, tmp_path: Path
) -> None:
    assert spark.sparkContext.master == "local[2]"
    assert train_here(spark, ["--input", corpus, "--output", tmp_path / "again", *ONE, *SMALL]) == 0
    assert np.array_equal(read(output).vectors, read(tmp_path / "again").vectors)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--set", "training.epochs=0"], "training.epochs"),
        (["--set", "training.epocs=3"], "did you mean training.epochs?"),
        (["--input", os.devnull], "null"),
        (["--set", "vocabulary.min_count=100000000"], "vocabulary.min_count"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    change: list[str],
    says: str,
    corpus: Path,
    spark: SparkSession,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[str | Path] = [] if "--input" in change else ["--input", corpus]
    assert train_here(spark, [*given, "--output", tmp_path / "out", *change]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert complaint.startswith("train.py: ")
    assert says in complaint
    assert list(tmp_path.iterdir()) == []


def test_spark_submit_ends_with_the_same_code_and_no_stack_trace(java_home: str, tmp_path: Path) -> None:
    half = tmp_path / "half.gz"  # the error comes from a task, with traces of Java and of Python
    half.write_bytes(gzip.compress(GOOD)[:-20])
    done = submit(["--input", half, "--output", tmp_path / "out"])
    assert done.returncode == 2, done.stdout
    complaints = [line for line in done.stdout.splitlines() if line.startswith("train.py: ")]
    assert complaints == [
        f"train.py: {half}: cannot be read to its end (it ends too early: truncated?); replace it, or leave it out of "
        "--input."
    ]
    for trace in ("Exception", "Traceback", "\n\tat "):
        assert trace not in done.stdout
    assert list(tmp_path.iterdir()) == [half]


def test_a_finished_output_is_refused_and_left_as_it_was(
    output: Path, corpus: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (output / "run.json").read_bytes()
    assert train_here(spark, ["--input", corpus, "--output", output, *SMALL]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "run.json").read_bytes() == before


def test_resuming_a_finished_run_has_nothing_to_do(
    output: Path, corpus: Path, spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = (output / "run.json").read_bytes()
    assert train_here(spark, ["--input", corpus, "--output", output, "--resume", *ONE, *SMALL]) == 0
    assert "nothing to do" in caplog.text
    assert (output / "run.json").read_bytes() == before


# Beginning with an earlier run


NEW_WORDS = ("kiwi", "anvil", "tuba")


@pytest.fixture(scope="module")
def today(output: Path, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on new text that begins with `output`: each group has one word more, and one that is gone."""
    directory = tmp_path_factory.mktemp("today")
    planted_corpus(directory / "yesterday.txt", 1000, seed=8)
    text = (directory / "yesterday.txt").read_text()
    for group, new in zip(GROUPS, NEW_WORDS, strict=True):
        text = text.replace(group.split()[0], new)
    (directory / "today.txt").write_text(text)
    paths = ["--input", str(directory / "today.txt"), "--output", str(directory / "out"), "--init", str(output)]
    assert train_here(spark, [*paths, *ONE, *SMALL, "--set", "vocabulary.keep_missing=true"]) == 0
    return directory / "out"


def test_a_run_that_begins_with_another_says_what_changed(output: Path, today: Path) -> None:
    init = json.loads((today / "run.json").read_text())["init"]
    assert (init["path"], init["known"], init["new"], init["vanished_but_kept"]) == (str(output), 12, 3, 3)
    metrics = [json.loads(line) for line in (today / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["held_out_loss"] < init["held_out_loss"]


def test_new_words_find_their_group_and_vanished_ones_keep_their_vectors(output: Path, today: Path) -> None:
    before, after = read(output), read(today)
    words = after.words.to_pylist()
    units = after.vectors / np.linalg.norm(after.vectors, axis=1, keepdims=True)
    for group, new in zip(GROUPS, NEW_WORDS, strict=True):
        gone, *known = group.split()
        others = [word for other in GROUPS if other != group for word in other.split()[1:]]
        cosines = units @ units[words.index(new)]
        nearest_other = max(cosines[words.index(word)] for word in others)
        assert min(cosines[words.index(word)] for word in known) > nearest_other
        assert after.counts[words.index(gone)] == 0
        old = before.vectors[before.words.to_pylist().index(gone)]
        assert np.array_equal(after.vectors[words.index(gone)], old)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--resume"], "init.digest was"),
        (["--overwrite", "--init", "no/such/output"], "no/such/output: no such file or directory"),
        (["--overwrite", "--init", "hdfs://host.invalid/output"], "; if it is a file of vectors, copy it to"),
        (["--overwrite", "--init", "TODAY", "--set", "training.dimensions=17"], "training.dimensions is 17"),
    ],
)
def test_a_mistake_about_the_earlier_run_is_one_sentence(
    today: Path, change: list[str], says: str, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (today / "run.json").read_bytes()
    same = [*ONE, *SMALL, "--set", "vocabulary.keep_missing=true"]
    change = [str(today) if part == "TODAY" else part for part in change]
    paths = ["--input", str(today.parent / "today.txt"), "--output", str(today)]
    assert train_here(spark, [*paths, *same, *change]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert complaint.startswith("train.py: ")
    assert says in complaint
    assert (today / "run.json").read_bytes() == before


@pytest.mark.parametrize("checkpoint", ["epoch", "sweep", "none"])
def test_an_output_that_cannot_be_written_costs_no_epoch(
    spark: SparkSession, corpus: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "spark_w2v")
    settings = ["training.epochs=1", f"output.checkpoint={checkpoint}", "output.report=false"]
    arguments: list[str | Path] = [
        "--input",
        corpus,
        "--output",
        tmp_path / "out",
        *ONE,
        *SMALL,
        *(f"--set={one}" for one in settings),
    ]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LocalOutput, "publish", full)
        assert train_here(spark, arguments) == 75
    caplog.clear()
    assert train_here(spark, [*arguments, "--resume"]) == 0
    is_trained_again = checkpoint == "none"
    assert ("resumed after epoch 1, sweep 0" in caplog.text) != is_trained_again
    assert ("epoch 1/1" in caplog.text) == is_trained_again
    assert len(read(tmp_path / "out").words) > 10
