"""Induced vectors on a real Spark are those of one process, whatever the partitioning and however many passes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from spark_w2v import config
from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.skipgram.induction import ContextVectors, context_sums, fit_map, means_of, turn_rows
from spark_w2v.skipgram.nearest_rows import unit_rows
from spark_w2v.spark import corpus, induction
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.memory import Given
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.vocabulary import count_words, encode
from spark_w2v.text.encoding import Vocabulary, segment_of, segments_of
from spark_w2v.types import BoolArray, Float32Array, Int32Array, Int64Array
from tests.support.planted import SETTINGS, WORDS, made

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DIMENSIONS, WINDOW = 4, 3
Model = tuple[BoolArray, Float32Array, Float32Array, Float32Array]
Vectors = dict[str, tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def encoded(
    spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[tuple[DataFrame, Vocabulary]]":
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(3)
    for number in range(3):
        lines = [" ".join(f"w{n}" for n in np.minimum(rng.zipf(1.3, 11), 80)) for _ in range(200)]
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")
    segments = corpus.read(spark, [str(folder)], config.Corpus(tokenizer="whitespace")).persist()
    vocabulary = count_words(segments, 1)
    words = send(spark.sparkContext, vocabulary.words)
    yield encode(segments, words).persist(), vocabulary
    words.destroy()


@pytest.fixture(scope="module")
def model(encoded: "tuple[DataFrame, Vocabulary]") -> Model:
    """Known words, center and context vectors, and keep probabilities."""
    words = len(encoded[1])
    rng = np.random.default_rng(4)
    center, context = rng.normal(size=(2, words, DIMENSIONS)).astype(np.float32)
    known = rng.random(words) < 0.7
    return known, center, context, rng.random(words).astype(np.float32)


def induced(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model, partitions: int = 3, window: int = WINDOW, **more: Any
) -> Vectors:
    rows, vocabulary = encoded
    known, center, context, keep = model
    found: Vectors = {}
    for part in induction.induce(
        rows.repartition(partitions), vocabulary.counts, known, (center, context), keep, window, True, 1, **more
    ):
        for row, word in enumerate(part.words.tolist()):
            assert str(word) not in found
            found[str(word)] = part.center[row].tobytes(), part.context[row].tobytes()
    return found


def test_they_are_those_of_one_process_with_the_whole_text(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model
) -> None:
    known, center, context, keep = model
    counts = encoded[1].counts
    segments = [segment_of(row) for row in segments_of(encoded[0].toArrow().to_batches())]
    ids: Int32Array = np.concatenate([segment.ids for segment in segments])
    lengths: Int32Array = np.concatenate([segment.lengths for segment in segments])
    every = np.arange(counts.size, dtype=np.int32)
    of_contexts = ContextVectors.of(context, np.where(known, keep, np.float32(0)))
    (found,) = context_sums(ids, lengths, every, of_contexts, WINDOW)
    means = means_of(found.sums)
    assert found.slots.tolist() == every.tolist()
    fit = np.flatnonzero(known & (counts >= induction.LEAST_FIT_COUNT))
    assert 2 * DIMENSIONS <= fit.size < known.sum(), "rare words are left out of the fit"
    matrix = fit_map(means[fit], np.concatenate([center, context], 1)[fit].astype(np.float64), counts[fit])
    result = induced(encoded, model)
    assert sorted(map(int, result)) == np.flatnonzero(~known).tolist()
    for word, (of_center, of_context) in result.items():
        count = counts[int(word)]
        expected = means[int(word)] @ matrix * count / (count + induction.SHRUNK_TO_HALF)
        both = np.concatenate([np.frombuffer(of_center, np.float32), np.frombuffer(of_context, np.float32)])
        assert np.allclose(both, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_they_are_the_same_for_any_partitioning_and_any_number_of_passes(
    encoded: "tuple[DataFrame, Vocabulary]",
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = induced(encoded, model)
    assert induced(encoded, model, partitions=1) == one
    assert induced(encoded, model, partitions=7) == one
    monkeypatch.setattr(induction, "RECORD_BYTES", 100)
    assert induced(encoded, model) == one
    for size in (1, 40):
        monkeypatch.setattr(induction, "chunk_words", lambda dimensions, size=size: size)
        assert induced(encoded, model) == one
    fitted = int((model[0] & (encoded[1].counts >= induction.LEAST_FIT_COUNT)).sum())
    calls: list[int] = []
    sums = induction._sums

    def counting(*given: Any) -> Int64Array:
        calls.append(1)
        return sums(*given)

    monkeypatch.setattr(induction, "_sums", counting)
    monkeypatch.setattr(induction, "SUMS_BYTES", 8 * (DIMENSIONS + 1) * (fitted - 3))
    passes = induced(encoded, model)
    assert len(calls) > 2
    assert passes.keys() == one.keys()
    for word, vectors in passes.items():  # BLAS multiplies matrices of other shapes in another order
        assert np.allclose(np.frombuffer(vectors[0], np.float32), np.frombuffer(one[word][0], np.float32), atol=1e-5)


def test_vectors_without_those_of_contexts_serve_as_contexts(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model
) -> None:
    known, center, context, keep = model
    alone = induced(encoded, (known, center, np.zeros_like(context), keep))
    both = induced(encoded, (known, center, center, keep))
    assert {word: vectors[0] for word, vectors in alone.items()} == {word: vectors[0] for word, vectors in both.items()}
    assert all(vectors[1] == bytes(4 * DIMENSIONS) for vectors in alone.values())


def test_the_map_is_fitted_on_a_draw_of_the_known_words(
    encoded: "tuple[DataFrame, Vocabulary]",
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = induced(encoded, model)
    monkeypatch.setattr(induction, "FIT_WORDS", 2 * DIMENSIONS)
    few = induced(encoded, model)
    assert few.keys() == every.keys()
    assert few != every
    assert induced(encoded, model, partitions=2) == few


def test_sentences_of_small_weights_count(encoded: "tuple[DataFrame, Vocabulary]", model: Model) -> None:
    rows, vocabulary = encoded
    light = [(*row[:5], np.full(len(row.lengths) // 4, 66, "<i4").tobytes()) for row in rows.collect()]  # 0.001
    found = induced((rows.sparkSession.createDataFrame(light, ENCODED), vocabulary), model)
    whole = induced(encoded, model)
    assert found.keys() == whole.keys()
    for word, vectors in found.items():
        for one, other in zip(vectors, whole[word], strict=True):
            assert np.allclose(np.frombuffer(one, np.float32), np.frombuffer(other, np.float32), atol=1e-5)


def test_too_few_known_words_give_no_vectors_and_a_reason(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model
) -> None:
    known = model[0].copy()
    known[np.flatnonzero(known)[2 * DIMENSIONS - 1 :]] = False
    sentence = "7 known words with 20 occurrences or more in this text, and 8 are needed"
    assert sentence in str(induction.why_none(encoded[1].counts, known, DIMENSIONS))
    said: list[str] = []
    assert not induced(encoded, (known, *model[1:]), too_few=said.append)
    assert [sentence in reason for reason in said] == [True]


def test_words_that_do_not_occur_get_no_vectors(encoded: "tuple[DataFrame, Vocabulary]", model: Model) -> None:
    rows, vocabulary = encoded
    known, center, context, keep = (np.concatenate([one, one[:1]]) for one in model)
    known[-1] = False
    counts = np.append(vocabulary.counts, 0)
    parts = induction.induce(rows, counts, known, (center, context), keep, WINDOW, True, 1)
    assert counts.size - 1 not in np.concatenate([part.words for part in parts])


def test_words_too_frequent_for_exact_sums_are_left_out_and_counted(
    encoded: "tuple[DataFrame, Vocabulary]",
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts, new = encoded[1].counts, np.flatnonzero(~model[0])
    *_, most, largest = np.unique(counts[new]).tolist()
    monkeypatch.setattr(ContextVectors, "most_occurrences", lambda self, *given: most)
    found = induced(encoded, model)
    assert sorted(map(int, found)) == new[counts[new] <= most].tolist()
    left_out = int((counts[new] == largest).sum())
    assert f"{left_out} new word" in caplog.text
    assert "too often for a sum in 64 bits" in caplog.text


def test_a_window_wider_than_the_sentences_leaves_no_word_out(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    found = induced(encoded, model, window=100_000)
    assert sorted(map(int, found)) == np.flatnonzero(~model[0]).tolist()
    assert "too often" not in caplog.text


def test_too_few_words_with_exact_sums_are_told_and_no_map_is_fitted_on_them(
    encoded: "tuple[DataFrame, Vocabulary]",
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(induction, "_sums", lambda *given: pytest.fail("contexts were summed"))
    told: list[str] = []
    assert induced(encoded, model, window=2**31 - 1, too_few=told.append) == {}
    [sentence] = told
    assert sentence.startswith("0 known words with 20 occurrences or more in this text, and 8 are needed")
    assert sentence.endswith("in 64 bits, so lower training.window (2,147,483,647)")
    assert induced(encoded, model, window=2**31 - 1) == {}
    assert f"new words begin with random vectors: {sentence}" in caplog.text


def test_the_map_is_fitted_with_one_thread_of_the_blas(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def watched(*given: Any) -> Any:
        threads.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return fit_map(*given)

    monkeypatch.setattr(induction, "fit_map", watched)
    with threadpool_limits(2, "blas"):
        induced(encoded, model)
    assert threads == {1}


def test_tasks_that_do_not_fit_are_refused_before_anything_is_summed(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(induction, "given_by", lambda context: Given(1 << 40, executor=1 << 20, key="some.memory"))
    monkeypatch.setattr(induction, "_sums", lambda *given: pytest.fail("contexts were summed"))
    with pytest.raises(
        NotEnoughMemoryError,
        match=r"a task needs \d+ MB in Python, 1 run .* is 1 MB; raise it to .* MB, or leave new words",
    ):
        induced(encoded, model)


def test_what_is_turned_after_the_training_is_checked_before_it(
    encoded: "tuple[DataFrame, Vocabulary]", model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then, workers that the run has itself started take memory."""
    reasons = {False: "too few", True: None}
    monkeypatch.setattr(induction, "given_by", lambda context: Given(1 << 40, executor=1 << 20, key="some.memory"))
    monkeypatch.setattr(induction, "why_none", lambda *given, rare=False: reasons[rare])
    with pytest.raises(NotEnoughMemoryError):
        induced(encoded, model)
    reasons[True] = "too few"
    assert not induced(encoded, model)
    reasons[True] = None
    monkeypatch.setattr(induction, "check_task", lambda *given: pytest.fail("checked again"))
    rows, found = encoded
    known, center, context, keep = model
    list(induction.induce(rows, found.counts, known, (center, context), keep, WINDOW, True, 1, rare=True))


def test_what_a_task_holds_is_bounded_for_any_number_of_words() -> None:
    # What YARN and Kubernetes give a small executor beside its heap is 384 MB.
    assert induction.task_bytes(10**6, 100) < 384 << 20
    assert induction.task_bytes(10**9, 1000) - 4 * 10**9 < 384 << 20


def test_sentences_are_cut_in_chunks_between_them() -> None:
    lengths = np.array([4, 4, 4, 30, 1, 2], np.int32)
    found = list(induction.sentence_chunks(lengths, 10))
    assert [(some.start, some.stop) for _, some in found] == [(0, 2), (2, 3), (3, 6)]
    assert [(words.start, words.stop) for words, _ in found] == [(0, 8), (8, 12), (12, 45)]
    assert list(induction.sentence_chunks(lengths[:0], 10)) == []


def test_new_words_turn_to_their_contexts_after_the_average_and_known_ones_stay(
    spark: "SparkSession", tmp_path: Path
) -> None:
    training = made(spark, tmp_path, replace(SETTINGS, dimensions=2), averages=True)
    known = np.arange(WORDS) % 3 > 0
    training.count_before(np.where(known, 1000, 0), known)
    for _ in training.run():
        pass
    training.average()
    before, context = (rows[:] for rows in training.vectors())
    (part,) = training.induce(known, rare=True)
    assert part.words.size > 50
    assert not known[part.words].any()
    counts = training.counts
    rare = known & (counts >= 5) & (counts < 20)
    own = context[part.words] @ fit_map(context[rare].astype(np.float64), before[rare].astype(np.float64), counts[rare])
    of_contexts = part.center - unit_rows(own)
    assert np.allclose(np.linalg.norm(of_contexts, axis=1), 1)
    training.turn_new_words()
    after = training.vectors()[0][:]
    assert np.array_equal(after[known], before[known])
    assert np.array_equal(after[part.words], turn_rows(before[part.words], part.center))
    assert not np.array_equal(after[part.words], before[part.words])


def test_words_are_turned_where_ten_known_ones_for_each_dimension_fit_the_maps() -> None:
    counts = np.array([4, 20] + 40 * [5])
    known = np.ones(42, bool)
    assert induction.why_none(counts, known, 4, rare=True) is None
    known[-1] = False
    said = "39 known words with 5 to 19 occurrences in this text, and 40 are needed to tell vectors from contexts"
    assert induction.why_none(counts, known, 4, rare=True) == said
