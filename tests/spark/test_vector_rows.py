"""The vectors of a run as rows of Spark."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_w2v.spark import vector_rows
from spark_w2v.spark.broadcasts import values
from spark_w2v.text.encoding import Vocabulary

WORDS = 1000


def vocabulary() -> Vocabulary:
    words = pa.array([f"{'word' * 10}{number}" for number in range(WORDS)])
    return Vocabulary(words, np.arange(WORDS, 0, -1), 1, WORDS, None)


def test_a_chunk_is_sent_with_its_own_words_alone() -> None:
    chunks = list(vector_rows._chunks(vocabulary(), np.zeros((WORDS, 2), np.float32), 10))
    assert len(chunks) == 100
    assert max(len(pickle.dumps(chunk, protocol=5)) for chunk in chunks) < 2000
    words, counts, vectors = chunks[3]
    assert words.equals(vocabulary().words[30:40])
    assert counts.tolist() == list(range(970, 960, -1))
    assert vectors.shape == (10, 2)


def test_rows_of_several_chunks_are_those_of_the_vectors(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_rows, "CHUNK_BYTES", 8 * 300)
    vectors = np.random.default_rng(2).normal(size=(WORDS, 2)).astype(np.float32)
    with vector_rows.vector_rows(spark, vocabulary(), vectors) as rows:
        found = rows.toArrow()
    assert found["word"].combine_chunks().equals(vocabulary().words)
    assert found["word_id"].to_pylist() == list(range(WORDS))
    assert found["count"].to_pylist() == list(range(WORDS, 0, -1))
    assert np.array_equal(np.array(found["vector"].to_pylist(), np.float32), vectors)


class Sent:
    """A broadcast on a worker, which keeps what it unpacked."""

    def __init__(self, path: str | None) -> None:
        self._value = [1]
        if path is not None:
            self._path = path

    @property
    def value(self) -> list[int]:
        return self._value


def test_a_worker_keeps_no_value_that_it_can_unpack_again() -> None:
    in_file, in_memory = Sent("file"), Sent(None)
    assert list(values([in_file, in_memory])) == [[1], [1]]  # type: ignore[arg-type]
    assert not hasattr(in_file, "_value")
    assert in_memory.value == [1]
