"""The training job against bad input and bad numbers: a sentence, or a sound result whose counts are the truth."""

import bz2
import gzip
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.checkpoints import newest_checkpoint
from spark_w2v.runs.embeddings import read, read_context
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.spark import block_epochs, memory
from spark_w2v.spark.training import MOST_LOSS
from tests.support.training_job import planted_corpus, submit, train_here

NOT_COUNTED = ("vocabulary_digest", "first_bad_lines")
QUICK = {
    "training.dimensions": 8, "training.epochs": 1, "training.partitions": 1, "training.window": 2,
    "vocabulary.subsample": 0, "vocabulary.min_count": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a run.

    Args:
        code: the exit code.
        said: what it complained of, one line each.
        corpus: of run.json, without what is 0; empty where nothing was published.
        words: of the output.
    """

    code: int
    said: list[str]
    corpus: dict[str, Any]
    words: list[str]


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the job on what is in tmp_path/in, in the session of all tests; checks what must hold whatever that is."""

    def train(*options: str, **keys: Any) -> Outcome:
        named = {key.replace("__", "."): value for key, value in keys.items()}
        sets = [part for key, value in (QUICK | named).items() for part in ("--set", f"{key}={value}")]
        output = tmp_path / "out"
        code = train_here(spark, ["--input", tmp_path / "in", "--output", output, *sets, *options])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert "Warning" not in printed.err
        said = [line for line in printed.err.splitlines() if line.startswith("train.py: ")]
        if code:
            assert len(said) == 1, printed.err
            assert not output.exists() or "--overwrite" in options
            return Outcome(code, said, {}, [])
        assert said == []
        found = read(output)
        assert np.isfinite(found.vectors).all()
        assert np.isfinite(read_context(output)).all()
        assert np.abs(found.vectors).max() > 0
        # As a consumer reads it: no word is taken for a missing value.
        frame = pd.read_parquet(output / "embeddings")
        assert frame["word"].notna().all()
        assert frame["word"].tolist() == found.words.to_pylist()
        facts = json.loads((output / "run.json").read_text())
        assert facts["corpus"]["vocabulary"] == len(frame)
        corpus = {name: value for name, value in facts["corpus"].items() if value and name not in NOT_COUNTED}
        return Outcome(code, said, corpus, found.words.to_pylist())

    (tmp_path / "in").mkdir()
    return train


GOOD = b"apple pear plum cherry\nsaw hammer chisel plane\n" * 300
HALF_GZIP = gzip.compress(GOOD, mtime=0)[:-20]  # without the time, which would name tests differently in each process


# Bad input. What is refused on sight is in tests/spark/test_bad_input.py; here are files that begin to be read.


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("blank.txt", b"\n \n\t\n\n", "the corpus has no words"),
        ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + np.random.default_rng(1).bytes(50_000), "lines are bad ("),
        ("utf16.txt", GOOD.decode().encode("utf-16"), "601 of 601 lines are bad (601 binary lines), 100.0%"),
        ("half.gz", HALF_GZIP, "half.gz: cannot be read to its end (it ends too early: truncated?)"),
        ("text.gz", GOOD, "text.gz: cannot be read to its end (it is not gzip)"),
        ("half.bz2", bz2.compress(GOOD)[:-20], "half.bz2: cannot be read to its end (it ends too early: truncated?)"),
        ("text.bz2", GOOD, "text.bz2: cannot be read to its end (it is not bzip2)"),
        ("text.lz4", GOOD, "text.lz4: cannot be read to its end (it is not in Hadoop's format"),
        (
            "command.lz4",
            b"\x04\x22\x4d\x18d@" + GOOD,
            "command.lz4: cannot be read to its end (it is not in Hadoop's format",
        ),
        ("text.snappy", GOOD, "text.snappy: cannot be read to its end (it is not in Hadoop's format"),
    ],
)
def test_a_bad_file_among_good_ones_ends_the_run_with_one_sentence(
    run: Callable[..., Outcome], tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    if says.startswith(f"{name}:"):
        (tmp_path / "in" / "good.txt").write_bytes(GOOD)
        (tmp_path / "in" / "good.txt.gz").write_bytes(gzip.compress(GOOD))
        (tmp_path / "in" / "good.txt.bz2").write_bytes(bz2.compress(GOOD))
    (tmp_path / "in" / name).write_bytes(content)
    outcome = run()
    assert outcome.code == 2
    assert says in outcome.said[0]


def test_a_bzip2_whose_first_block_is_damaged_is_not_read_as_no_lines(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    damaged = bytearray(bz2.compress(GOOD))
    damaged[4] ^= 0xFF
    (tmp_path / "in" / "bad.bz2").write_bytes(damaged)
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    outcome = run()
    assert outcome.code == 2
    assert "bad.bz2: cannot be read to its end (it is damaged: not all of its blocks are there)" in outcome.said[0]


def test_files_of_many_kinds_are_counted_to_the_line(run: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "in" / "a.txt").write_bytes(GOOD)
    (tmp_path / "in" / "b.txt.gz").write_bytes(gzip.compress(GOOD))
    (tmp_path / "in" / "c.txt.bz2").write_bytes(bz2.compress(GOOD))
    (tmp_path / "in" / "deep").mkdir()
    (tmp_path / "in" / "deep" / "empty.txt").touch()
    (tmp_path / "in" / "nothing.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "in" / "nothing.bz2").write_bytes(bz2.compress(b""))
    (tmp_path / "in" / "bom.txt").write_bytes(b"\xef\xbb\xbfapple pear\r\nplum cherry\rsaw")
    (tmp_path / "in" / "latin1.txt").write_bytes("caf\xe9 noir\n".encode("latin-1") * 3)
    outcome = run()
    assert outcome.corpus == {
        "lines": 1806, "words": 7200 + 5 + 6, "sentences": 1806, "lines_with_words": 1806, "invalid_utf8_lines": 3,
        "distinct_words": 10, "vocabulary": 10, "kept_words": 7211,
    }  # fmt: skip
    assert {"apple", "saw", "caf", "noir"} <= set(outcome.words)


CONTROLS = "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), 127]))
ODD_LINES = [
    "NULL null nan NaN None inf -inf N/A true 1e5 0",
    "</s> <s> <unk> \"quoted\" 'single' back\\slash tab\ttab a,b;c",
    "<script>alert(1)</script> &amp; %s {} $HOME `id`",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c \u2066xyz\u2069",
    "😀 😀😀 👩\u200d👩\u200d👧 zero\u200bwidth join\u200dher \ufeffmark",
    f"control{CONTROLS}led",
    "x" * 10_000 + " between " + "é" * 10_000,
    "",
    "-- ... !!!",
]


def test_odd_words_are_kept_as_they_are(run: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "in" / "odd.txt").write_text("\n".join(ODD_LINES * 10), encoding="utf-8")
    outcome = run(corpus__tokenizer="whitespace", corpus__lower_case="false")
    words = set(outcome.words)
    kept = [word for line in ODD_LINES[:4] for word in line.split()]
    shown = {word.strip("\u202e\u202c\u2066\u2069") for word in kept}  # marks of direction belong to no word
    assert words >= shown | {"😀", "😀😀", "👩\u200d👩\u200d👧", "zero", "width", "join\u200dher", "mark", "between"}
    assert not [word for word in words if len(word) > 100 or any(c in word for c in CONTROLS + "\u200b\ufeff")]
    assert outcome.corpus["lines"] == 90
    assert outcome.corpus["blank_lines"] == 10
    assert outcome.corpus["long_words"] == 20
    assert outcome.corpus["lines_with_words"] == 80


def test_odd_words_are_cut_to_letters_by_default(run: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "in" / "odd.txt").write_text("\n".join(ODD_LINES * 10), encoding="utf-8")
    outcome = run()
    assert {"null", "nan", "none", "s", "quoted", "שלום", "بالعالم", "abc", "xyz", "between"} <= set(outcome.words)
    assert all(word.isprintable() or "\u200d" in word for word in outcome.words)
    assert outcome.corpus["lines"] == 90
    assert (outcome.corpus["blank_lines"], outcome.corpus["wordless_lines"]) == (10, 10)
    assert outcome.corpus["long_words"] == 20


def test_json_lines_are_skipped_by_reason_and_the_rest_is_trained(run: Callable[..., Outcome], tmp_path: Path) -> None:
    good = [json.dumps({"text": line}) for line in GOOD.decode().splitlines()]
    bad = ['{"text": 5}', '{"text": null}', "{}", "{broken", '{"text": ["a"]}', "[" * 10_000]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(good + bad))
    outcome = run(corpus__format="jsonl")
    assert outcome.corpus == {
        "lines": 606, "words": 2400, "sentences": 600, "lines_with_words": 600, "missing_lines": 2,
        "wrong_type_lines": 2, "malformed_lines": 2, "distinct_words": 8, "vocabulary": 8, "kept_words": 2400,
    }  # fmt: skip


def test_nulls_in_an_array_column_are_counted_and_the_rest_is_trained(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    rows = [*([*line.split(), None] for line in GOOD.decode().splitlines()), None, [], [None]]
    pq.write_table(pa.table({"items": rows}), tmp_path / "in" / "a.parquet")
    outcome = run(corpus__format="parquet", corpus__column="items", corpus__tokenizer="none")
    assert outcome.corpus == {
        "lines": 603, "words": 2400, "sentences": 600, "lines_with_words": 600, "missing_lines": 1,
        "wordless_lines": 2, "null_words": 601, "distinct_words": 8, "vocabulary": 8, "kept_words": 2400,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"body": GOOD.decode().splitlines()}, "600 of 1,200 lines are bad (600 missing lines), 50.0%"),
        ({"text": list(range(9))}, "b.parquet: its column text is INT64, in other files it is string; convert it"),
    ],
)
def test_parquet_files_that_differ_are_told(
    run: Callable[..., Outcome], tmp_path: Path, other: dict[str, Any], says: str
) -> None:
    pq.write_table(pa.table({"text": GOOD.decode().splitlines()}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table(other), tmp_path / "in" / "b.parquet")
    outcome = run(corpus__format="parquet")
    assert outcome.code == 2
    assert says in outcome.said[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_huge_lines_and_many_lines_are_read_and_counted(java_home: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    words = b" ".join(b"word%016d" % i for i in range(1000))
    (tmp_path / "in" / "a line of 210 MB.txt").write_bytes(b" ".join([words] * 10_000) + b"\n")
    (tmp_path / "in" / "a word of 200 MB.txt").write_bytes(b"a" * 200_000_000 + b"\n")
    (tmp_path / "in" / "10 million lines of one word.txt").write_bytes(b"apple\n" * 10_000_000)
    sets = [part for key, value in (QUICK | {"training.window": 1}).items() for part in ("--set", f"{key}={value}")]
    done = submit(["--input", tmp_path / "in", "--output", tmp_path / "out", *sets], master="local[1]")
    assert done.returncode == 0, done.stdout
    corpus = json.loads((tmp_path / "out" / "run.json").read_text())["corpus"]
    assert corpus["lines"] == 600 + 1 + 1 + 10_000_000
    assert corpus["words"] == 2400 + 10_000_000 + 10_000_000
    assert corpus["sentences"] == 600 + 10_000 + 10_000_000
    assert (corpus["wordless_lines"], corpus["long_words"], corpus["distinct_words"]) == (1, 1, 1008)
    assert np.isfinite(read(tmp_path / "out").vectors).all()


# Numbers that go wrong


@pytest.mark.parametrize(
    "keys",
    [
        {"training.dimensions": 1},
        {"training.window": 1000},
        {"training.negatives": 1000},
        {"vocabulary.max_words": 2},
        {"vocabulary.max_words": 2, "training.scheme": "replicas"},
        pytest.param({"training.partitions": 4096}, marks=pytest.mark.slow),
        pytest.param({"training.noise_exponent": -5}, marks=pytest.mark.slow),
        pytest.param({"training.noise_exponent": 5}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_extreme_numbers_give_sound_vectors(run: Callable[..., Outcome], tmp_path: Path, keys: dict[str, Any]) -> None:
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    outcome = run(**{key.replace(".", "__"): value for key, value in keys.items()})
    assert outcome.code == 0
    assert outcome.corpus["lines"] == 600
    assert len(outcome.words) == keys.get("vocabulary.max_words", 8)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("training.learning_rate", 10, "10 is out of range; it must be at most 1"),
        ("training.negatives", 0, "0 is out of range; it must be at least 1: without noise words"),
        ("training.dimensions", 0, "0 is out of range; it must be at least 1"),
        ("training.learning_rate", "nan", "is not a finite number"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(run: Callable[..., Outcome], key: str, value: Any, says: str) -> None:
    outcome = run(**{key.replace(".", "__"): value})
    assert outcome.code == 2
    assert says in outcome.said[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three four five", 5),
        ("yes no\n" * 200, 2),
        ("same same same same\n" * 200, 1),
        ("\n".join(GOOD.decode().split()), "no pair to train on: every sentence has fewer than two words"),
        ("hello", "no pair to train on: every sentence has fewer than two words of the vocabulary, which is one word"),
    ],
    ids=["one sentence", "two words", "one word again and again", "sentences of one word", "one word"],
)
@pytest.mark.parametrize("scheme", ["blocks", pytest.param("replicas", marks=pytest.mark.slow)])
def test_tiny_corpora_give_sound_vectors_or_one_sentence(
    run: Callable[..., Outcome], tmp_path: Path, scheme: str, text: str, words: int | str
) -> None:
    (tmp_path / "in" / "tiny.txt").write_text(text)
    outcome = run(training__scheme=scheme)
    if isinstance(words, int):
        assert (outcome.code, len(outcome.words)) == (0, words)
    else:
        assert outcome.code == 2
        assert words in outcome.said[0]


def test_a_run_without_a_pair_leaves_nothing_that_no_run_could_go_on_from(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "in" / "tiny.txt").write_text("\n".join(GOOD.decode().split()))
    outcome = run(training__sweeps_per_epoch=2, training__scheme="blocks", output__checkpoint="sweep")
    assert outcome.code == 2
    assert not (tmp_path / ".out.working").exists()


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_a_rate_that_is_too_high_gives_sound_vectors_or_one_sentence(
    run: Callable[..., Outcome], tmp_path: Path, scheme: str
) -> None:
    planted_corpus(tmp_path / "in" / "a.txt", sentences=2000)
    outcome = run(training__scheme=scheme, training__learning_rate=1, training__dimensions=16, training__epochs=3)
    if outcome.code:
        assert outcome.code == 1
        assert "Lower training.learning_rate (1) or raise training.damping (0.1)" in outcome.said[0]
    else:
        losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
        assert max(losses) < MOST_LOSS * 6 * np.log(2)


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_a_run_whose_loss_rises_above_that_of_an_untrained_model_fails(
    run: Callable[..., Outcome], tmp_path: Path, scheme: str
) -> None:
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, 1001)
    words = [f"w{word}" for word in rng.choice(1000, 20_000, p=share / share.sum())]
    (tmp_path / "in" / "a.txt").write_text("\n".join(" ".join(words[at : at + 20]) for at in range(0, 20_000, 20)))
    outcome = run(
        training__scheme=scheme, training__learning_rate=1, training__partitions=2, training__dimensions=16,
        training__epochs=2,
    )  # fmt: skip
    assert outcome.code == 1
    assert "training diverged in epoch 1: " in outcome.said[0]
    assert "Lower training.learning_rate (1) or raise training.damping (0.1)" in outcome.said[0]


def test_training_that_diverges_stops_at_that_sweep_and_keeps_the_last_checkpoint(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"training__epochs": 3, "training__sweeps_per_epoch": 2, "training__scheme": "blocks"}
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    assert run(**settings).code == 0
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    check, seen = block_epochs._refuse_diverged, list[ParameterFiles]()

    def spoil(parameters: ParameterFiles) -> None:
        seen.append(parameters)
        if len(seen) == 2:
            parameters.context[-1, -1] = np.inf
        check(parameters)

    with monkeypatch.context() as patched:
        patched.setattr(block_epochs, "_refuse_diverged", spoil)
        outcome = run(**settings)
    assert outcome.code == 1
    assert "training diverged in epoch 2: a parameter is not finite. Lower" in outcome.said[0]
    kept = newest_checkpoint(tmp_path / ".out.working" / "checkpoints")
    assert kept is not None
    assert (kept.position["epoch"], kept.position["sweep"]) == (1, 0)
    assert all(np.isfinite(matrix).all() for matrix in (kept.parameters.center, kept.parameters.context))
    assert run("--resume", **settings).code == 0
    assert np.array_equal(read(tmp_path / "out").vectors, read(tmp_path / "undisturbed").vectors)


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


# Secrets


def test_a_path_with_a_password_is_refused_and_not_repeated(run: Callable[..., Outcome]) -> None:
    outcome = run("--input", "s3a://key:hush@bucket/text")
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


@pytest.mark.slow
def test_nobody_prints_a_stack_trace_of_a_bad_file(java_home: str, tmp_path: Path) -> None:
    (tmp_path / "half.gz").write_bytes(gzip.compress(GOOD)[:-20])
    done = submit(["--input", tmp_path / "half.gz", "--output", tmp_path / "out"])
    assert done.returncode == 2, done.stdout
    assert "half.gz: cannot be read to its end (it ends too early: truncated?)" in done.stdout
    for trace in ("Exception", "Traceback", "\n\tat "):
        assert trace not in done.stdout
