"""The training job on bad files: one sentence, or vectors of finite numbers with true counts.

Files that are refused before they are read are in tests/spark/test_bad_input.py.
"""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.embeddings import read
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.summary import summary, warnings
from tests.support.outcomes import GOOD, QUICK, Outcome, job_of
from tests.support.training_job import submit


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return job_of(spark, tmp_path, capsys)


def test_a_bad_file_among_good_ones_ends_the_run_with_one_sentence(run: Callable[..., Outcome], tmp_path: Path) -> None:
    """What the sentence is for other files is in tests/spark/test_bad_input.py and test_bad_lines.py."""
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    (tmp_path / "in" / "good.txt.gz").write_bytes(gzip.compress(GOOD))
    (tmp_path / "in" / "good.txt.bz2").write_bytes(bz2.compress(GOOD))
    (tmp_path / "in" / "half.gz").write_bytes(gzip.compress(GOOD)[:-20])
    outcome = run()
    assert outcome.code == 2
    assert "half.gz: cannot be read to its end (it ends too early: truncated?)" in outcome.said[0]


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_huge_lines_and_many_lines_are_read_and_counted(java_home: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    words = b" ".join(b"word%016d" % i for i in range(1000))
    (tmp_path / "in" / "a line of 210 MB.txt").write_bytes(b" ".join([words] * 10_000) + b"\n")
    (tmp_path / "in" / "a word of 200 MB.txt").write_bytes(b"a" * 200_000_000 + b"\n")
    (tmp_path / "in" / "10 million lines of one word.txt").write_bytes(b"apple\n" * 10_000_000)
    keys = QUICK | {"training.window": 1}
    sets = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    done = submit(["--input", tmp_path / "in", "--output", tmp_path / "out", *sets], master="local[1]")
    assert done.returncode == 0, done.stdout
    corpus = json.loads((tmp_path / "out" / "run.json").read_text())["corpus"]
    assert corpus["lines"] == 600 + 1 + 1 + 10_000_000
    assert corpus["words"] == 2400 + 10_000_000 + 10_000_000
    assert corpus["sentences"] == 600 + 10_000 + 10_000_000
    assert (corpus["wordless_lines"], corpus["long_words"], corpus["distinct_words"]) == (1, 1, 1008)
    assert np.isfinite(read(tmp_path / "out").vectors).all()
