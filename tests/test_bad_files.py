"""The training job on bad files: one sentence, or vectors of finite numbers with true counts.

Files that are refused before they are read are in tests/spark/test_bad_input.py.
"""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.embeddings import read
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.summary import summary, warnings
from tests.support.outcomes import GOOD, QUICK, Outcome, job_of
from tests.support.training_job import submit

HALF_GZIP = gzip.compress(GOOD, mtime=0)[:-20]  # without the time, which would name tests differently in each process


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return job_of(spark, tmp_path, capsys)


@pytest.mark.fast_cases(5)
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


def test_given_words_whose_weights_come_to_nothing_are_told_so() -> None:
    facts = {
        "lines": 1, "words": 2, "distinct_words": 2, "vocabulary": 1, "kept_words": 1, "first_bad_lines": {},
        **dict.fromkeys(COUNTERS[4:], 0), "absent_words": 1, "first_absent_words": ["x"],
    }  # fmt: skip
    of_weights = "of weights that add up to less than a half, "
    assert of_weights not in summary(facts)[-1]
    assert of_weights in summary({**facts, "weighted_words": 2})[-1]


def test_events_without_a_word_are_a_warning_where_they_are_many() -> None:
    facts = {"null_words": 3, "words": 17, "unspaced_lines": 0, "lines_with_words": 4, "wordless_lines": 0}
    (warning,) = warnings(facts, is_of_events=True)
    assert warning.startswith("3 of 20 rows (15.0%) have no word, and were skipped: corpus.column is empty")
    assert not warnings(facts, is_of_events=False)
    assert not warnings({**facts, "null_words": 1}, is_of_events=True)


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
