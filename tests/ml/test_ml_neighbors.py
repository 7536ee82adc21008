"""The nearest words of all words of a model, as jobs/all_neighbors.py finds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_w2v import SkipGramModel
from spark_w2v.errors import NotEnoughMemoryError, UserError
from spark_w2v.runs.embedding_writer import write
from spark_w2v.spark import all_neighbors
from spark_w2v.spark.memory import Given

WORDS, DIMENSIONS = 300, 12


def made(output: Path, ids: pa.Array | None = None) -> SkipGramModel:
    """A model of random vectors."""
    vectors = np.random.default_rng(3).normal(size=(WORDS, DIMENSIONS)).astype(np.float32)
    words = pa.array([f"w{n}" for n in range(WORDS)] if ids is None else [str(n) for n in ids.to_pylist()], pa.string())
    write(output, words, np.arange(WORDS, 0, -1).astype(np.int64), vectors, vectors, {}, ids)
    (output / "_SUCCESS").touch()
    return SkipGramModel.of_output(output)


@pytest.fixture(scope="module")
def model(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SkipGramModel:
    return made(tmp_path_factory.mktemp("run") / "out")


def test_every_word_has_the_neighbors_that_are_found_for_it_alone(model: SkipGramModel) -> None:
    found = model.findAllSynonyms(4)
    assert [f"{name} {kind}" for name, kind in found.dtypes] == [
        "word string", "neighbor string", "rank int", "cosine float",
    ]  # fmt: skip
    rows = found.collect()
    words = [f"w{n}" for n in range(WORDS)]
    assert [(row.word, row.rank) for row in rows] == [(word, rank) for word in words for rank in (1, 2, 3, 4)]
    expected = [pair for word in words for pair in model.findSynonymsArray(word, 4)]
    assert [row.neighbor for row in rows] == [neighbor for neighbor, _ in expected]
    assert np.allclose([row.cosine for row in rows], [cosine for _, cosine in expected], atol=1e-6)


def test_of_a_list_those_that_have_a_vector_are_found(model: SkipGramModel, caplog: pytest.LogCaptureFixture) -> None:
    two: Any = np.int64(2)
    rows = model.findAllSynonyms(two, np.array(["w9", "nowhere", "w3", "w9", "\ud800"])).collect()
    assert [(row.word, row.rank) for row in rows] == [("w3", 1), ("w3", 2), ("w9", 1), ("w9", 2)]
    assert caplog.messages == ["2 words without a vector: nowhere, \\ud800"]
    assert model.findAllSynonyms(2, []).collect() == []
    assert model.findAllSynonyms(5000, ["w3"]).count() == WORDS - 1


def test_words_that_are_numbers_are_asked_for_and_found_as_numbers(spark: SparkSession, tmp_path: Path) -> None:
    ids = [n * 1_000_003 for n in range(WORDS)]
    model = made(tmp_path / "out", pa.array(ids, pa.int64()))
    found = model.findAllSynonyms(2)
    assert [f"{name} {kind}" for name, kind in found.dtypes] == [
        "word string", "id bigint", "neighbor string", "neighbor_id bigint", "rank int", "cosine float",
    ]  # fmt: skip
    rows = found.collect()
    assert [row.id for row in rows] == [n for n in ids for _ in range(2)]
    assert {row.neighbor_id for row in rows} <= set(ids)
    near = [row.neighbor_id for row in rows if row.id == 1_000_003]
    for asked in (1_000_003, np.int64(1_000_003), "1000003"):
        assert [row.neighbor_id for row in model.findAllSynonyms(2, [asked]).collect()] == near


def test_the_vectors_are_sent_once_however_often_they_are_asked_for(model: SkipGramModel) -> None:
    model.findAllSynonyms(1, ["w1"]).collect()
    sent = model._derived.sent_units
    assert sent is not None
    copied: Any = model.copy()
    copied.findAllSynonyms(3).collect()
    assert model._derived.sent_units is sent


@pytest.mark.parametrize(
    ("num", "words", "error", "says"),
    [
        (0, None, UserError, "num is 0; it must be a whole number of at least 1."),
        (2, ["nowhere"], KeyError, "none of 1 word has a vector, such as nowhere; check the list of words."),
        (2, "w1", TypeError, "words is a str; give a list of words."),
        (2, ["w1", 7], TypeError, "7 is of type int; a word is a str."),
        (2, [None], TypeError, "None is of type NoneType; a word is a str."),
    ],
)
def test_a_mistake_is_said_before_anything_is_sent(
    spark: SparkSession, tmp_path: Path, num: int, words: Any, error: type[Exception], says: str
) -> None:
    model = made(tmp_path / "out")
    with pytest.raises(error) as refused:
        model.findAllSynonyms(num, words)
    assert str(refused.value) == says
    assert model._derived.sent_units is None


def test_what_does_not_fit_in_memory_is_refused(model: SkipGramModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_neighbors, "given_by", lambda context: Given(1, 10**6, 2))
    with pytest.raises(NotEnoughMemoryError, match="2 run at a time, and the machine has 1 MB left"):
        model.findAllSynonyms(2)
