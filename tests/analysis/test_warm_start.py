"""Parts of an earlier run that a new one begins with; words that the new text does not have."""

import errno
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_w2v.analysis import warm_start
from spark_w2v.errors import OutputError, RefusedError, StorageError, UserError
from spark_w2v.given.rare_windows import write_windows
from spark_w2v.runs import embedding_writer, embeddings
from spark_w2v.skipgram.sampling import keep_probability, noise_distribution
from spark_w2v.spark import vocabulary
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.training import Training
from spark_w2v.spark.vocabulary import WordLists
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.rare_windows import WINDOWS
from spark_w2v.types import Int64Array
from tests.support.planted import SETTINGS, WORDS, counts_of, rows_of_text, segments_of
from tests.support.runs import faults

EARLIER = ["the", "é", "gone", "cat"]


def finished(directory: Path, words: list[str], seed: int = 1, trained: Int64Array | None = None) -> Path:
    rng = np.random.default_rng(seed)
    center, context = rng.normal(size=(2, len(words), 3)).astype(np.float32)
    counts = np.arange(len(words), 0, -1)
    embedding_writer.write(directory, pa.array(words), counts, center, context, {"epochs": 1}, trained=trained)
    (directory / "_SUCCESS").touch()
    return directory


def counted(words: dict[str, int]) -> Vocabulary:
    return Vocabulary(pa.array(list(words), pa.large_string()), np.array(list(words.values())), 99, 9)


def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 rows of 3 dimensions at a time."""
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 3 * 3 * 4)


@pytest.mark.parametrize("says_trained", [True, False])
@pytest.mark.parametrize("is_small", [False, True])
def test_known_words_keep_both_vectors_and_new_ones_begin_as_in_any_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_small: bool,
    says_trained: bool,
) -> None:
    if is_small:
        small_row_groups(monkeypatch)
    trained_before = np.arange(1, len(EARLIER) + 1) if says_trained else None
    earlier = warm_start.read(str(finished(tmp_path / "earlier", EARLIER, trained=trained_before)), 3)
    assert (earlier.trained is not None) == says_trained
    rows, change, is_known, trained = warm_start.begin(earlier, counted({"cat": 9, "new": 5, "the": 3, "é": 1}))
    assert is_known.tolist() == [True, False, True, True]
    assert trained.tolist() == ([4, 0, 1, 2] if says_trained else [0, 0, 0, 0])
    matrices = [embeddings.read(tmp_path / "earlier").vectors, embeddings.read_context(tmp_path / "earlier")]
    found: dict[int, list[Any]] = {}
    parts = list(rows)
    assert len(parts) == (2 if is_small else 1)
    for ids, center, context in parts:
        assert not set(found) & set(ids.tolist())
        found |= {word: [a, b] for word, a, b in zip(ids.tolist(), center, context, strict=True)}
    assert sorted(found) == [0, 2, 3]
    for word, old in (("cat", 3), ("the", 0), ("é", 1)):
        for row, matrix in zip(found[["cat", "new", "the", "é"].index(word)], matrices, strict=True):
            assert np.array_equal(row, matrix[old])
    assert change == {"known": 3, "new": 1, "vanished": 1, "vanished_but_kept": 0}


def test_the_vectors_are_of_the_run_that_was_read_whatever_is_published_over_it(tmp_path: Path) -> None:
    earlier = warm_start.read(str(finished(tmp_path / "earlier", EARLIER)), 3)
    before = embeddings.read(tmp_path / "earlier").vectors
    shutil.rmtree(tmp_path / "earlier")
    finished(tmp_path / "earlier", EARLIER, seed=2)
    ((_, center, _),) = warm_start.begin(earlier, counted(dict.fromkeys(EARLIER, 1))).rows
    assert np.array_equal(center, before)


def test_the_change_counts_words_that_stay_without_having_occurred_as_vanished(tmp_path: Path) -> None:
    earlier = warm_start.read(str(finished(tmp_path / "earlier", EARLIER)), 3)
    begun = warm_start.begin(earlier, counted({"cat": 9, "new": 5, "gone": 0, "the": 0, "é": 0}))
    assert begun.change == {"known": 1, "new": 1, "vanished": 3, "vanished_but_kept": 3}
    assert warm_start.summary("old", {**begun.change, "induced": 0, "held_out_loss": 2.5}) == (
        "starting from old: 1 known words, 1 new, 3 vanished, which stay; held out 2.5000"
    )
    assert "1 new (1 of them from their contexts), 3" in warm_start.summary(
        "old", {**begun.change, "induced": 1, "held_out_loss": None}
    )


@pytest.mark.parametrize(
    ("known", "new", "vanished", "is_odd"),
    [
        (0, 50, 1000, True),
        (9, 1000, 1000, True),
        (9, 891, 1000, False),
        (9, 100_000, 0, False),  # a small file, all of whose words are there
        (900, 100, 3_000_000, False),  # a day's text
        (0, 50, 0, False),
    ],
)
def test_vectors_of_words_that_are_hardly_those_of_the_text_are_warned_of(
    known: int, new: int, vanished: int, is_odd: bool
) -> None:
    found = warm_start.warning("old", {"known": known, "new": new, "vanished": vanished})
    assert (found is not None) == is_odd
    if (known, new) == (9, 1000):
        assert found == (
            "--init old: 9 of its 1,009 words are in the vocabulary of 1,009; check that they are spelled as in the "
            "text, so in lower case with corpus.lower_case"
        )


def test_other_dimensions_are_refused_in_one_sentence(tmp_path: Path) -> None:
    finished(tmp_path / "earlier", EARLIER)
    with pytest.raises(OutputError, match=r"have 3 dimensions and training\.dimensions is 4; they must be the same"):
        warm_start.read(str(tmp_path / "earlier"), 4)


@pytest.mark.parametrize("kind", [UserError, RefusedError, StorageError])
def test_what_is_no_run_in_a_store_may_be_a_file_that_has_to_be_copied(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: str) -> Path:
        raise kind(f"{place}: has no finished run; give the output of one.")

    monkeypatch.setattr(warm_start, "directory_of", refuse)
    with pytest.raises(kind) as refused:
        warm_start.locate("s3://bucket/v.bin")
    assert type(refused.value) is kind
    assert str(refused.value) == (
        "s3://bucket/v.bin: has no finished run; give the output of one; if it is a file of vectors, copy it to this "
        "host."
    )


def test_a_run_that_has_diverged_is_no_start_of_another_one(tmp_path: Path) -> None:
    rows = np.array([[1, 2, 3], [900, 900, 0]], np.float32)
    embedding_writer.write(tmp_path, pa.array(["a", "b"]), np.array([2, 1]), rows[::-1] / 2, rows, {"epochs": 1})
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(
        OutputError, match=r"its training diverged, as a vector has the length 1.27e\+03, more than 1,000"
    ):
        warm_start.read(str(tmp_path), 3)
    assert warm_start.read(str(tmp_path)).dimensions == 3, "nothing is trained"


def test_windows_that_a_copy_of_a_run_lacks_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = finished(tmp_path / "run", EARLIER)
    (output / "run.json").write_text('{"corpus": {"kept_windows": 2}}')
    rows = [{"word": "kiwi", "sentence": ["the", "kiwi"], "weight": 1}] * 2
    write_windows(output, pa.Table.from_pylist(rows, schema=WINDOWS))
    found = warm_start.read(str(output), 3, with_windows=True).windows
    assert found is not None
    assert len(found) == 2
    assert not caplog.messages

    with faults(monkeypatch, "run.json", errno.EIO), pytest.raises(StorageError, match=r"run\.json: could not be read"):
        warm_start.read(str(output), 3, with_windows=True)
    shutil.rmtree(output / "rare_windows")
    assert warm_start.read(str(output), 3, with_windows=True).windows is None
    assert caplog.messages == [f"{output}: has no rare_windows/, so 2 windows that the run kept will not count"]
    warm_start.read(str(output), 3)
    assert len(caplog.messages) == 1, "nothing is trained"

    write_windows(output, pa.Table.from_pylist(rows[:1], schema=WINDOWS))
    with pytest.raises(OutputError, match=r"has 1 windows and the run kept 2; copy the output again"):
        warm_start.read(str(output), 3, with_windows=True)


def test_the_digest_tells_vectors_and_spellings_apart(tmp_path: Path) -> None:
    runs = {"a": (EARLIER, 1), "b": (EARLIER, 2), "c": ([*EARLIER[:3], "dog"], 1), "d": (EARLIER, 1)}
    digests = {name: warm_start.read(str(finished(tmp_path / name, *run)), 3).digest for name, run in runs.items()}
    assert len(set(digests.values())) == 3
    assert digests["a"] == digests["d"]
    trained = finished(tmp_path / "e", EARLIER, trained=np.array([4, 3, 2, 1]))
    assert warm_start.read(str(trained), 3).digest not in digests.values()


def test_the_digest_does_not_depend_on_how_the_tables_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = warm_start.read(str(finished(tmp_path / "whole", EARLIER)), 3).digest
    small_row_groups(monkeypatch)
    monkeypatch.setattr(warm_start, "WORDS", 1)
    assert warm_start.read(str(finished(tmp_path / "cut", EARLIER)), 3).digest == whole
    # As earlier versions made it, so that their runs can be begun with and resumed.
    content = embeddings.read(tmp_path / "cut").vectors.tobytes() + embeddings.read_context(tmp_path / "cut").tobytes()
    assert whole == hashlib.sha256(content + "\0".join(EARLIER).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("max_words", "found"),
    [
        pytest.param(0, "cebdaxz", marks=pytest.mark.slow),
        (1, "cbaxz"),
        pytest.param(2, "cebaxz", marks=pytest.mark.slow),
    ],
)
def test_known_words_stay_whatever_their_count(spark: SparkSession, max_words: int, found: str) -> None:
    segments = segments_of(spark, {"e": 4, "d": 3, "c": 9, "b": 3, "a": 2, "f": 1})
    known = pa.array(["z", "a", "c", "b", "x"])
    result = vocabulary.count_words(segments, min_count=3, max_words=max_words, lists=WordLists(known=known))
    assert "".join(result.words.to_pylist()) == found
    counts = {"c": 9, "e": 4, "b": 3, "d": 3, "a": 2, "x": 0, "z": 0}
    assert result.counts.tolist() == [counts[word] for word in found]
    assert result.words.type == pa.large_string()
    assert (result.total_words, result.distinct_words) == (22, 6)


def test_a_text_of_known_words_alone_needs_none_that_is_frequent(spark: SparkSession) -> None:
    result = vocabulary.count_words(
        segments_of(spark, {"a": 2, "f": 1}), min_count=9, lists=WordLists(known=pa.array(["f"]))
    )
    assert result.words.to_pylist() == ["f"]


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.75])
def test_a_word_that_does_not_occur_is_never_noise_and_never_skipped(exponent: float) -> None:
    counts = np.array([5, 3, 0, 0], np.int64)
    noise = noise_distribution(counts, exponent)
    assert noise[2:].tolist() == [0.0, 0.0]
    assert np.allclose(noise[:2], noise_distribution(counts[:2], exponent))
    keep = keep_probability(counts, 8, 1e-1)
    assert np.array_equal(keep[:2], keep_probability(counts[:2], 8, 1e-1))
    assert keep[2:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_training_leaves_the_vectors_of_words_that_do_not_occur_as_they_were(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    rows = rows_of_text()
    counts = np.concatenate([counts_of(rows), np.zeros(30, np.int64)])
    center, context = np.random.default_rng(2).normal(size=(2, WORDS + 30, SETTINGS.dimensions)).astype(np.float32)
    encoded = spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), ENCODED)
    training = Training(encoded, counts, replace(SETTINGS, scheme=scheme), tmp_path)
    training.start_from([(np.arange(len(center)), center, context)])
    before = training.held_out_loss()
    metrics = [progress.metrics for progress in training.run() if progress.metrics]
    ended = [vectors[:] for vectors in training.vectors()]
    assert before is not None
    assert metrics[-1]["held_out_loss"] < before
    for start, end in zip((center, context), ended, strict=True):
        assert np.array_equal(start[WORDS:], end[WORDS:])
        assert not np.array_equal(start[0], end[0])
        assert np.isfinite(end).all()


def test_a_file_of_vectors_gives_known_words_their_vectors_and_contexts_of_zeros(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"5 3\nthe 1 2 3\ncat 4 5 6\nthe 7 8 9\n\xff 1 1 1\ngone 2 2 2\n")
    earlier = warm_start.read(str(tmp_path / "v.txt"), 3)
    assert earlier.known.to_pylist() == ["the", "cat", "gone"]
    begun = warm_start.begin(earlier, counted({"cat": 9, "new": 5, "the": 3}))
    ((ids, center, context),) = begun.rows
    assert ids.tolist() == [2, 0]
    assert center.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not context.any()
    assert begun.change == {"known": 2, "new": 1, "vanished": 1, "vanished_but_kept": 0}
    with pytest.raises(OutputError, match=r"have 3 dimensions and training\.dimensions is 4"):
        warm_start.read(str(tmp_path / "v.txt"), 4)


@pytest.mark.parametrize("is_output", [False, True])
def test_words_are_known_in_the_unicode_form_of_the_text(tmp_path: Path, is_output: bool) -> None:
    decomposed, composed = "cafe\u0301", "caf\u00e9"
    words = [decomposed, "tea", composed]
    place = tmp_path / "v"
    if is_output:
        finished(place, words)
    else:
        place.write_text("\n".join(f"{word} {row}.5 1 2" for row, word in enumerate(words)) + "\n", encoding="utf-8")
    new = counted({"tea": 9, composed: 3})
    as_text = warm_start.read(str(place), 3, is_composed=True)
    assert as_text.known.to_pylist() == [composed, "tea"]
    begun = warm_start.begin(as_text, new)
    ((ids, _, _),) = begun.rows
    assert ids.tolist() == [1, 0]  # of what comes to the same word, the first, which is the most frequent
    assert begun.change == {"known": 2, "new": 0, "vanished": 0, "vanished_but_kept": 0}
    as_they_are = warm_start.read(str(place), 3)
    assert as_they_are.known.to_pylist() == words
    ((ids, _, _),) = warm_start.begin(as_they_are, new).rows
    assert ids.tolist() == [0, 1]
