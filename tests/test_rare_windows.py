"""Nights in which a rare word becomes frequent enough: it is counted and trained on with all of its occurrences."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs import embeddings
from spark_w2v.text.weights import UNITS
from tests.support.training_job import ONE, SMALL, planted_corpus, train_here

SETTINGS = [*SMALL, *ONE, "--set", "training.epochs=1"]
for change in ("output.report=false", "vocabulary.keep_missing=true", "training.held_out_words=0"):
    SETTINGS += ["--set", change]
KEEPS = ["--set", "vocabulary.rare_windows=100"]
KIWIS = ["apple lemon kiwi pear", "plum kiwi", "kiwi cherry the quince"]


def text_of(path: Path, seed: int, *lines: str) -> Path:
    planted_corpus(path, 300, seed)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def corpus_of(output: Path) -> Any:
    return json.loads((output / "run.json").read_text())["corpus"]


def words_of_epoch(output: Path) -> int:
    return int(json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])["words"])


def windows_of(output: Path) -> list[tuple[str, list[str]]]:
    return [(row["word"], row["sentence"]) for row in pq.read_table(output / "rare_windows").to_pylist()]


def counts_of(output: Path) -> dict[str, int]:
    found = embeddings.read(output)
    return dict(zip(found.words.to_pylist(), found.counts.tolist(), strict=True))


def trained_of(output: Path) -> dict[str, int]:
    trained = pq.read_table(output / "context", columns=["trained"])["trained"].to_pylist()
    return dict(zip(embeddings.read(output).words.to_pylist(), trained, strict=True))


def night(session: SparkSession, text: Path, output: Path, earlier: Path | None, *more: str) -> None:
    init: list[str | Path] = [] if earlier is None else ["--init", earlier]
    assert train_here(session, ["--input", text, "--output", output, *init, *SETTINGS, *more]) == 0


@pytest.mark.slow
def test_a_rare_word_waits_until_it_is_frequent(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    night(spark, text_of(tmp_path / "1.txt", 1, *KIWIS), first, None, *KEEPS)
    assert windows_of(first) == [
        ("lemon", ["apple", "lemon", "pear"]),
        ("kiwi", ["apple", "kiwi", "pear"]),
        ("kiwi", ["plum", "kiwi"]),
        ("kiwi", ["kiwi", "cherry", "quince"]),
        ("the", ["cherry", "the", "quince"]),
    ]
    assert "kiwi" not in counts_of(first)
    assert "rare words: 5 windows of 3 words kept for the next run" in caplog.text

    tonight = text_of(tmp_path / "2.txt", 2, "kiwi saw", "kiwi lemon oboe")
    night(spark, tonight, second, first, *KEEPS)
    assert counts_of(second)["kiwi"] == 5
    assert windows_of(second) == [
        ("lemon", ["apple", "lemon", "pear"]),
        ("the", ["cherry", "the", "quince"]),
        ("lemon", ["kiwi", "lemon", "oboe"]),
    ]
    facts = corpus_of(second)
    assert facts["kept_words"] == sum(counts_of(second).values()) - 3, "words of the text alone"
    assert facts["words"] - facts["kept_words"] == 1, "lemon"
    assert {name: facts[name] for name in facts if "rare" in name or "windows" in name} == {
        "earlier_windows": 5, "earlier_rare_words": 3, "trained_windows": 3, "no_longer_rare_words": 1,
        "kept_windows": 3, "kept_rare_words": 2, "dropped_windows": 0,
    }  # fmt: skip
    assert (
        "rare words: 5 windows of 3 words of the earlier run count, too; 1 word now in the vocabulary, trained on 3 "
        "windows more"
    ) in caplog.text

    # Words around a rare one are trained on once more.
    once_more = {
        word: trained_of(second)[word] - (counts_of(first)[word] + count)
        for word, count in counts_of(second).items()
        if word != "kiwi"
    }
    assert {word: more for word, more in once_more.items() if more} == dict.fromkeys(
        ("apple", "pear", "plum", "cherry", "quince"), 1
    )
    assert trained_of(second)["kiwi"] == 5
    # Without the windows, the same night has no kiwi.
    shutil.copytree(first, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "rare_windows")
    night(spark, tonight, tmp_path / "without", tmp_path / "bare")
    assert "kiwi" not in counts_of(tmp_path / "without")
    assert not (tmp_path / "without" / "rare_windows").exists()
    kiwis = 2 + sum(len(sentence) for word, sentence in windows_of(first) if word == "kiwi")
    assert words_of_epoch(second) - words_of_epoch(tmp_path / "without") == kiwis
    digests = [
        json.loads((tmp_path / name / "run.json").read_text())["init"]["digest"] for name in ("second", "without")
    ]
    assert digests[0] != digests[1], "a run is not resumed with other windows"

    # Windows are used also by a run that keeps none.
    night(spark, text_of(tmp_path / "3.txt", 3, "lemon pear"), third, second, "--set", "vocabulary.min_count=3")
    assert counts_of(third)["lemon"] == 3
    assert "the" not in counts_of(third)
    assert not (third / "rare_windows").exists()
    # An output with windows is one of ours, and can be replaced.
    night(spark, tmp_path / "1.txt", first, None, "--overwrite")
    assert not (first / "rare_windows").exists()


@pytest.mark.slow
def test_weights_count_in_windows_as_in_the_text(spark: SparkSession, tmp_path: Path) -> None:
    rows = [json.dumps({"text": line, "w": 1}) for line in text_of(tmp_path / "text", 1).read_text().splitlines()]
    jsonl = ["--set", "corpus.format=jsonl", "--set", "corpus.weight=w"]
    more = [{"text": "kiwi apple", "w": 2.3}, {"text": "lemon pear", "w": 0.25}, {"text": "never pear", "w": 0}]
    for name in "12":
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*rows, *map(json.dumps, more)]))
    night(spark, tmp_path / "1.jsonl", tmp_path / "first", None, *KEEPS, *jsonl)
    windows = pq.read_table(tmp_path / "first" / "rare_windows")
    assert list(zip(*windows.select(["word", "weight"]).to_pydict().values(), strict=True)) == [
        ("kiwi", round(2.3 * UNITS)), ("lemon", UNITS // 4),
    ]  # fmt: skip
    night(spark, tmp_path / "2.jsonl", tmp_path / "second", tmp_path / "first", *KEEPS, *jsonl)
    assert counts_of(tmp_path / "second")["kiwi"] == 5, "4.6, which is rounded once"
    assert windows_of(tmp_path / "second") == [("lemon", ["lemon", "pear"])] * 2


@pytest.mark.slow
def test_a_text_without_words_is_refused_whatever_the_windows(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    night(spark, text_of(tmp_path / "1.txt", 1, *KIWIS), tmp_path / "first", None, *KEEPS)
    (tmp_path / "2.txt").write_text("\n\n")
    second: list[str | Path] = ["--output", tmp_path / "second", "--init", tmp_path / "first", *SETTINGS]
    for more in ("vocabulary.keep_missing=true", "vocabulary.min_count=1"):
        assert train_here(spark, ["--input", tmp_path / "2.txt", *second, "--set", more]) == 2
        assert "the corpus has no words: every line is blank" in capfd.readouterr().err


def test_windows_of_words_that_are_no_numbers_are_refused(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    none = ["--set", "corpus.tokenizer=none", "--set", "corpus.format=parquet", "--set", "corpus.column=w"]
    numbers = [[number % 9, number % 7] for number in range(200)]
    strings = [[*map(str, row), f"x{at}"] for at, row in enumerate(numbers)]
    for name, rows in (("numbers", numbers), ("strings", strings)):
        pq.write_table(pa.table({"w": pa.array(rows)}), tmp_path / f"{name}.parquet")
    night(spark, tmp_path / "strings.parquet", tmp_path / "first", None, *KEEPS, *none)
    second: list[str | Path] = ["--output", tmp_path / "second", "--init", tmp_path / "first", *SETTINGS, *none]
    assert train_here(spark, ["--input", tmp_path / "numbers.parquet", *second]) == 2
    assert re.search(
        r'--init: the rare words of the earlier run have "x\d+", which is not a number of the type bigint, as those of '
        "the column are; remove rare_windows/ of that output, or read the column as strings.",
        capfd.readouterr().err,
    )
