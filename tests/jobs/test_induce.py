"""jobs/induce.py on a real Spark: words get vectors from a text, in the place of the words that they stand for."""

import errno
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.commands import induce as command
from spark_w2v.errors import StorageError
from spark_w2v.runs import embeddings
from spark_w2v.spark import induction
from tests.support.runs import faults
from tests.support.training_job import GROUPS, ONE, SMALL, planted_corpus, train_here

NEW = {"quince": 0, "lathe": 1, "harp": 2}  # groups of words that the run does not see
TRAIN = [*SMALL, *ONE, "--set", "training.dimensions=4", "--set", "output.report=false"]

Run = Callable[..., int]


@pytest.fixture
def run(job_here: None) -> Run:
    return lambda *arguments: command.main([*map(str, arguments)])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    planted_corpus(path, 1500)
    return path


@pytest.fixture(scope="module")
def output(spark: SparkSession, text: Path) -> Path:
    """A run on the text without the new words."""
    known = text.with_name("known.txt")
    lines = text.read_text().splitlines()
    known.write_text("\n".join(" ".join(word for word in line.split() if word not in NEW) for line in lines) + "\n")
    found = text.with_name("output")
    assert train_here(spark, ["--input", known, "--output", found, *TRAIN]) == 0
    return found


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words").write_text("\n".join([*NEW, "apple", "nowhere"]))
    return tmp_path / "words"


def groups_of(target: Path, output: Path) -> dict[str, int]:
    """The group that each word's vector is nearest to."""
    trained = embeddings.read(output)
    units = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    place = {word: row for row, word in enumerate(trained.words.to_pylist())}
    means = [units[[place[word] for word in group.split() if word in place]].mean(0) for group in GROUPS]
    rows = pq.read_table(target).to_pylist()
    return {row["word"]: int(np.argmax(np.array(means) @ row["vector"])) for row in rows}


def test_words_get_vectors_next_to_the_words_of_their_group(
    run: Run, output: Path, text: Path, words: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    assert run(output, "--input", text, "--words", words, "--to", tmp_path / "to") == 0
    assert groups_of(tmp_path / "to", output) == NEW
    table = pq.read_table(tmp_path / "to")
    assert table.schema.names == ["word", "count", "vector"]
    tokens = text.read_text().split()
    assert {row["word"]: row["count"] for row in table.to_pylist()} == {word: tokens.count(word) for word in NEW}
    assert all(len(vector) == 4 for vector in table["vector"].to_pylist())
    assert "1 of 5 words left out, as they have vectors" in caplog.text
    assert "1 word without a vector, as the text has them nowhere, or next to no word with one: nowhere" in caplog.text
    # The same again only where it may be replaced.
    assert run(output, "--input", text, "--words", words, "--to", tmp_path / "to") == 2
    assert "new words get vectors from their contexts" not in caplog.text
    monkeypatch.setattr(induction, "MANY_PASSES", 1)
    assert run(output, "--input", text, "--words", words, "--to", tmp_path / "to", "--overwrite") == 0
    assert pq.read_table(tmp_path / "to") == table
    # Many words are advised on in terms of the command.
    assert (
        "3 new words get vectors from their contexts, in 1 passes over the text; to have fewer, give fewer words with"
        " --words" in caplog.text
    )


@pytest.mark.slow
def test_a_file_of_another_program_serves_as_well(
    run: Run, output: Path, text: Path, words: Path, tmp_path: Path
) -> None:
    trained = embeddings.read(output)
    rows = zip(trained.words.to_pylist(), trained.vectors.tolist(), strict=True)
    lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in rows]
    (tmp_path / "v.txt").write_text(f"{len(lines)} 4\n" + "\n".join(lines) + "\n")
    assert run(tmp_path / "v.txt", "--input", text, "--words", words, "--to", tmp_path / "to") == 0
    assert groups_of(tmp_path / "to", output) == NEW


@pytest.mark.slow
def test_the_text_is_cut_as_that_of_the_run(
    run: Run, spark: SparkSession, output: Path, text: Path, words: Path, tmp_path: Path
) -> None:
    upper = text.read_text().upper()
    (tmp_path / "upper.txt").write_text(upper)
    assert run(output, "--input", tmp_path / "upper.txt", "--words", words, "--to", tmp_path / "to") == 0
    assert groups_of(tmp_path / "to", output) == NEW
    cased = ["--set", "corpus.lower_case=false", "--overwrite"]
    assert run(output, "--input", tmp_path / "upper.txt", "--words", words, "--to", tmp_path / "to", *cased) == 2


@pytest.mark.slow
def test_rows_that_the_run_left_out_are_read(
    run: Run, spark: SparkSession, output: Path, text: Path, words: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The text of induce.py is another one, of other days."""
    shutil.copytree(output, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    found["configuration"]["corpus"] |= {"format": "parquet", "where": "day = 1"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(found))
    lines = text.read_text().splitlines()
    pq.write_table(pa.table({"text": lines, "day": [2] * len(lines)}), tmp_path / "days.parquet")
    rest = ["--words", words, "--to", tmp_path / "to"]
    with caplog.at_level(logging.WARNING):
        assert run(tmp_path / "run", "--input", tmp_path / "days.parquet", *rest) == 0
    assert "corpus.where of the run (day = 1) is not applied; --set corpus.where=... applies one" in caplog.text
    assert groups_of(tmp_path / "to", output) == NEW
    caplog.clear()
    assert run(tmp_path / "run", "--input", tmp_path / "days.parquet", *rest, "--set", "corpus.where = day = 1") == 2
    assert "is not applied" not in caplog.text


@pytest.mark.slow
def test_phrases_of_the_run_are_joined(run: Run, spark: SparkSession, text: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text.read_text().replace("quince", "red quince"))
    (tmp_path / "words").write_text("red_quince\nquince\n")
    keys = ("passes=1", "score=npmi", "threshold=0.9")
    find = [part for key in keys for part in ("--set", f"phrases.{key}")]
    without = ["--set", f"vocabulary.stop_words={tmp_path}/words"]
    assert (
        train_here(spark, ["--input", f"{tmp_path}/text.txt", "--output", f"{tmp_path}/out", *TRAIN, *find, *without])
        == 0
    )
    words = ["--words", tmp_path / "words", "--to", tmp_path / "to"]
    assert run(tmp_path / "out", "--input", tmp_path / "text.txt", *words) == 0
    assert groups_of(tmp_path / "to", tmp_path / "out") == {"red_quince": 0}


def test_phrases_that_are_not_there_are_asked_for(
    run: Run, output: Path, text: Path, words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(output, tmp_path / "copy")
    about = json.loads((tmp_path / "copy" / "run.json").read_text())
    given = [tmp_path / "copy", "--input", text, "--words", words, "--to", tmp_path / "to"]
    for key, value in (("passes", 1), ("list", "some.parquet")):
        about["configuration"]["phrases"] = {"passes": 0, "list": ""} | {key: value}
        (tmp_path / "copy" / "run.json").write_text(json.dumps(about))
        assert run(*given) == 2
        assert "its run joined phrases, and its phrases/ is not there" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("all known", "has vectors of all its words, such as apple, pear; give words that it has none of"),
        ("none occurs", "none of 2 words occurs in the text next to a word with a vector, such as nil, nought"),
        ("other text", "output and --words occurs in the text, such as "),
        ("short text", "0 known words with 20 occurrences or more in this text, and 8 are needed to tell vectors from"),
        ("no output", "none: no such file or directory; give the output of a finished run, or vectors in"),
        ("no configuration", "does not say how the text was cut; give the output of a run"),
        ("no words", "cannot be read"),
        ("bad key", "unknown key training.epoch"),
        ("other key", "output.table: has no effect on the vectors of words; leave it out"),
        ("own words", "vocabulary.min_count: the words are those of --words; leave it out"),
        ("new phrases", "phrases.passes: phrases are those of the run, or of phrases.list; leave it out"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, output: Path, text: Path, words: Path, tmp_path: Path, change: str, sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments: dict[str, Any] = {"output": output, "input": text, "words": words}
    more: list[str] = []
    match change:
        case "all known":
            words.write_text("apple\npear\n")
        case "none occurs":
            words.write_text("nil\nnought\n")
        case "short text":
            (tmp_path / "short.txt").write_text("apple quince pear\n")
            arguments["input"] = tmp_path / "short.txt"
        case "other text":
            (tmp_path / "other.txt").write_text("nobody never anything\n")
            arguments["input"] = tmp_path / "other.txt"
        case "no output":
            arguments["output"] = tmp_path / "none"
        case "no configuration":
            (tmp_path / "copy").mkdir()
            for part in ("embeddings", "context", "vocabulary", "_SUCCESS"):
                (tmp_path / "copy" / part).symlink_to(output / part)
            (tmp_path / "copy" / "run.json").write_text(json.dumps({}))
            arguments["output"] = tmp_path / "copy"
        case "no words":
            arguments["words"] = tmp_path / "none"
        case "bad key":
            more = ["--set", "training.epoch=3"]
        case "other key":
            more = ["--set", "output.table=db.vectors"]
        case "own words":
            more = ["--set", "vocabulary.min_count=3"]
        case "new phrases":
            more = ["--set", "phrases.passes=1"]
    given = [arguments["output"], "--input", arguments["input"], "--words", arguments["words"], "--to", tmp_path / "to"]
    assert run(*given, *more) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_configuration_that_cannot_be_read_now_may_be_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text("{}")
    with faults(monkeypatch, "run.json", errno.EMFILE), pytest.raises(StorageError, match="Too many open files"):
        command._settings(tmp_path, [])
