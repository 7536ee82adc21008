"""The job with files that a user gives: words, stop words, phrases, and vectors of other programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs import embeddings
from spark_w2v.spark.induction import Induced
from spark_w2v.spark.training import Training
from spark_w2v.types import BoolArray
from tests.support.gensim_parts import keyed_vectors
from tests.support.training_job import GROUPS, ONE, SMALL, planted_corpus, train_here

SETTINGS = [*SMALL, *ONE, "--set", "output.report=false"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    planted_corpus(path, 1500)
    return path


def facts_of(output: Path) -> Any:
    return json.loads((output / "run.json").read_text())


def bits(output: Path) -> bytes:
    return np.asarray(embeddings.read(output).vectors).tobytes()


def test_given_words_and_no_others_get_vectors(
    spark: SparkSession,
    text: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "words").write_text("apple\npear\nsaw\nApple\nnever\n")
    (tmp_path / "stop").write_text("pear\n")
    lists = ["--set", f"vocabulary.words={tmp_path}/words", "--set", f"vocabulary.stop_words={tmp_path}/stop"]
    kept = ["--output", f"{tmp_path}/kept", "--run-id", "1"]
    arguments = ["--input", str(text), *kept, *SETTINGS, *lists]
    output = tmp_path / "kept" / "runs" / "1"
    assert train_here(spark, arguments) == 0
    assert sorted(embeddings.read(output).words.to_pylist()) == ["apple", "saw"]
    facts = facts_of(output)["corpus"]
    assert (facts["absent_words"], facts["first_absent_words"]) == (3, ["pear", "Apple", "never"])
    assert (
        "3 words of vocabulary.words without a vector, such as pear, Apple, never: not in the text, stop words, or "
        "beyond vocabulary.max_words" in caplog.text
    )
    # Another list is another run.
    before = bits(output)
    (tmp_path / "stop").write_text("apple\n")
    capfd.readouterr()
    assert train_here(spark, arguments) == 2
    assert "vocabulary.stop_words was" in capfd.readouterr().err
    assert bits(output) == before


def test_vectors_of_the_web_are_refused_before_spark_starts(
    text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spark_w2v import job

    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    place = "https://host.invalid/v.bin"
    assert job.train(["--input", str(text), "--output", f"{tmp_path}/out", "--init", place]) == 2
    assert f"{place}: is not read from the web; download it, and give the file." in capfd.readouterr().err


@pytest.mark.parametrize("key", ["vocabulary.words", "vocabulary.stop_words", "phrases.list"])
def test_a_list_that_is_not_there_is_refused_before_spark_starts(
    text: Path, tmp_path: Path, key: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spark_w2v import job

    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    arguments = ["--input", text, "--output", tmp_path / "out", "--set", f"{key}={tmp_path}/none"]
    assert job.train([*map(str, arguments)]) == 2
    assert f"{key} {tmp_path}/none: cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"3 2\na 1 2\n", "ends after 1 words"),
        (b"1 2\na 1 2\n", "its vectors have 2 dimensions and"),
        (b"2 2\na 1 2\nb 900 -900\n", "the vector of word 2, b, has the length 1,272.79"),
        (None, "/v: no such file or directory; give the output of a finished run, or vectors in word2vec's text or"),
    ],
)
def test_vectors_that_are_none_are_refused_before_spark_starts(
    text: Path, tmp_path: Path, content: bytes | None, sentence: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from spark_w2v import job

    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    if content is not None:
        (tmp_path / "v").write_bytes(content)
    assert job.train(["--input", str(text), "--output", f"{tmp_path}/out", "--init", f"{tmp_path}/v"]) == 2
    assert sentence in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_phrases_are_joined_saved_and_used_again(spark: SparkSession, tmp_path: Path) -> None:
    planted_corpus(tmp_path / "text.txt", 1500)
    joint = (tmp_path / "text.txt").read_text().replace("apple", "big apple")
    (tmp_path / "text.txt").write_text(joint)
    find = [part for key in ("passes=2", "threshold=0.9", "score=npmi") for part in ("--set", f"phrases.{key}")]
    assert train_here(spark, ["--input", tmp_path / "text.txt", "--output", tmp_path / "found", *SETTINGS, *find]) == 0
    words = embeddings.read(tmp_path / "found").words.to_pylist()
    assert "big_apple" in words
    assert "big" not in words
    phrases = pq.read_table(tmp_path / "found" / "phrases")
    assert phrases["phrase"].to_pylist() == ["big_apple"]
    assert [one["phrases"] for one in facts_of(tmp_path / "found")["corpus"]["phrases"]] == [1, 0]
    listed = ["--set", f"phrases.list={tmp_path / 'found'}"]
    assert (
        train_here(spark, ["--input", tmp_path / "text.txt", "--output", tmp_path / "again", *SETTINGS, *listed]) == 0
    )
    assert bits(tmp_path / "found") == bits(tmp_path / "again")
    assert pq.read_table(tmp_path / "again" / "phrases")["phrase"].to_pylist() == ["big_apple"]
    # An output with phrases is one of ours, and can be replaced.
    replace = ["--input", f"{tmp_path}/text.txt", "--output", f"{tmp_path}/again", "--overwrite", *SETTINGS]
    assert train_here(spark, replace) == 0
    assert not (tmp_path / "again" / "phrases").exists()


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("is_binary", [True, False])
def test_a_run_begins_with_vectors_that_gensim_wrote(
    spark: SparkSession, text: Path, tmp_path: Path, is_binary: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fruit, tools, _ = (group.split() for group in GROUPS)
    vectors = keyed_vectors()(16)
    rows = np.random.default_rng(1).normal(size=(len(fruit) + len(tools) + 1, 16)).astype(np.float32)
    vectors.add_vectors([*fruit, *tools, "elsewhere"], rows)
    vectors.save_word2vec_format(tmp_path / "v.bin", binary=is_binary)
    changes = ("training.learning_rate=1e-9", "training.epochs=1", "vocabulary.keep_missing=true")
    small = [part for change in changes for part in ("--set", change)]
    arguments = ["--input", str(text), "--output", f"{tmp_path}/out", *SETTINGS, *small, "--init", f"{tmp_path}/v.bin"]
    assert train_here(spark, arguments) == 0
    assert "v.bin does not say what its vectors were trained on, so they are not averaged" in caplog.text
    found = embeddings.read(tmp_path / "out")
    place = {word: row for row, word in enumerate(found.words.to_pylist())}
    assert len(place) == 16
    for word in [*fruit, *tools, "elsewhere"]:
        assert np.allclose(found.vectors[place[word]], vectors[word], atol=1e-6)
    init = facts_of(tmp_path / "out")["init"]
    assert {name: init[name] for name in ("known", "new", "vanished", "vanished_but_kept", "induced")} == {
        "known": 10, "new": 5, "vanished": 1, "vanished_but_kept": 1, "induced": 0,
    }  # fmt: skip
    assert init["held_out_loss"] == pytest.approx(6 * np.log(2)), "context vectors are zeros"


def trained_of(output: Path) -> dict[str, int]:
    ids = {row["word_id"]: row["word"] for row in pq.read_table(output / "vocabulary").to_pylist()}
    table = pq.read_table(output / "context", columns=["word_id", "trained"])
    return {ids[row["word_id"]]: row["trained"] for row in table.to_pylist()}


@pytest.mark.slow
def test_a_run_on_new_text_induces_new_words_and_counts_what_each_word_was_trained_on(
    spark: SparkSession, text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    new = {"quince", "lathe"}
    words = text.read_text().split("\n")
    known = "\n".join(" ".join(word for word in line.split() if word not in new) for line in words)
    (tmp_path / "known.txt").write_text(known)
    settings = [*SETTINGS, "--set", "training.dimensions=4", "--set", "training.held_out_words=0"]
    first = ["--input", f"{tmp_path}/known.txt", "--output", f"{tmp_path}/first", *settings]
    assert train_here(spark, first) == 0
    counts = {word: known.split().count(word) for word in set(known.split())}
    assert trained_of(tmp_path / "first") == {word: 5 * count for word, count in counts.items()}

    second = ["--input", str(text), "--init", f"{tmp_path}/first", *settings, "--set", "training.epochs=1"]
    assert train_here(spark, [*second, "--output", f"{tmp_path}/second"]) == 0
    facts = facts_of(tmp_path / "second")["init"]
    assert (facts["known"], facts["new"], facts["induced"]) == (13, 2, 2)
    assert "2 new (2 of them from their contexts)" in caplog.text
    today = {word: text.read_text().split().count(word) for word in counts.keys() | new}
    expected = {word: 5 * counts.get(word, 0) + count for word, count in today.items()}
    assert trained_of(tmp_path / "second") == expected
    results = {bits(tmp_path / "second")}
    for number, change in enumerate(("vocabulary.induce=false", "training.average_with_init=false")):
        output = tmp_path / f"{number}"
        assert train_here(spark, [*second, "--output", str(output), "--set", change]) == 0
        assert facts_of(output)["init"]["induced"] == (0 if "induce" in change else 2)
        results.add(bits(output))
    assert len(results) == 3
    # A run that is begun again has the same bits.
    assert train_here(spark, [*second, "--output", f"{tmp_path}/again", "--set", "training.partitions=1"]) == 0
    assert bits(tmp_path / "again") == bits(tmp_path / "second")


def test_induced_vectors_that_are_too_long_to_be_trained_are_shortened(
    spark: SparkSession, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "v").write_text("Pear " + "0.1 " * 16 + "\n")

    def long(self: Training, known: BoolArray) -> Iterator[Induced]:
        rows = np.full((1, 16), 1e4, np.float32)
        yield Induced(np.flatnonzero(~known)[:1], rows, rows)

    monkeypatch.setattr(Training, "induce", long)
    small = ["--set", "training.epochs=1", "--set", "training.learning_rate=1e-9"]
    arguments = ["--input", str(text), "--output", f"{tmp_path}/out", *SETTINGS, *small, "--init", f"{tmp_path}/v"]
    assert train_here(spark, arguments) == 0
    assert np.linalg.norm(embeddings.read(tmp_path / "out").vectors, axis=1).max() == pytest.approx(500, rel=0.01)
    assert f"--init {tmp_path}/v: 0 of its 1 word are in the vocabulary of 15; check that" in caplog.text


@pytest.mark.slow
def test_too_few_known_words_leave_new_ones_at_random_with_a_warning(
    spark: SparkSession, text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "known.txt").write_text(text.read_text().replace("quince", "pear"))
    first = ["--input", f"{tmp_path}/known.txt", "--output", f"{tmp_path}/first", *SETTINGS]
    assert train_here(spark, first) == 0
    second = ["--input", str(text), "--output", f"{tmp_path}/second", "--init", f"{tmp_path}/first", *SETTINGS]
    assert train_here(spark, second) == 0
    assert "new words begin with random vectors: 14 known words with 20 occurrences or more" in caplog.text
    assert facts_of(tmp_path / "second")["init"]["induced"] == 0
