"""Other readers find the same words and bits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from spark_w2v.errors import OutputError, StorageError
from spark_w2v.runs import embedding_files, embeddings
from spark_w2v.runs.embeddings import read
from tests.support.embeddings import STRANGE, bits, finish, parameters, small_pieces
from tests.support.gensim_parts import keyed_vectors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_spark_reads_the_same_bits_in_order(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    finish(tmp_path, given)
    frame = spark.read.parquet(str(tmp_path / "embeddings"))
    assert frame.dtypes == [("word", "string"), ("word_id", "int"), ("count", "bigint"), ("vector", "array<float>")]
    rows = frame.orderBy("word_id").collect()
    assert [row.word for row in rows] == given.words.to_pylist()
    assert [row["count"] for row in rows] == given.counts.tolist()
    assert bits([row.vector for row in rows]) == bits(given.center)
    (path, *_) = sorted((tmp_path / "embeddings").iterdir())
    assert [row.word_id for row in spark.read.parquet(str(path)).collect()] == list(range(6))


def test_mllib_finds_the_synonyms_that_numpy_finds(spark: "SparkSession", tmp_path: Path) -> None:
    from pyspark.ml.feature import Word2VecModel

    given = parameters(30, 6)
    given = given._replace(center=np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32))
    finish(tmp_path / "out", given)
    (tmp_path / "model" / "metadata").mkdir(parents=True)
    (tmp_path / "out" / "embeddings").rename(tmp_path / "model" / "data")
    defaults = {
        "maxIter": 1, "maxSentenceLength": 1000, "minCount": 5, "numPartitions": 1, "outputCol": "o", "seed": 1,
        "stepSize": 0.025, "vectorSize": 100, "windowSize": 5,
    }  # fmt: skip
    metadata = {
        "class": "org.apache.spark.ml.feature.Word2VecModel", "timestamp": 1, "sparkVersion": "4.3.0",
        "uid": "Word2Vec_1", "paramMap": {"vectorSize": 6, "inputCol": "words"}, "defaultParamMap": defaults,
    }  # fmt: skip
    (tmp_path / "model" / "metadata" / "part-00000").write_text(json.dumps(metadata) + "\n")
    (tmp_path / "model" / "metadata" / "_SUCCESS").touch()
    synonyms = Word2VecModel.load(str(tmp_path / "model")).findSynonymsArray("Straße", 3)
    units = given.center / np.linalg.norm(given.center, axis=1, keepdims=True)
    cosines = units @ units[STRANGE.index("Straße")]
    expected = [i for i in np.argsort(-cosines) if i != STRANGE.index("Straße")][:3]
    assert [word for word, _ in synonyms] == [given.words[int(i)].as_py() for i in expected]
    assert [cosine for _, cosine in synonyms] == pytest.approx([cosines[i] for i in expected], abs=1e-5)


def test_pandas_reads_the_same_bits_in_order(tmp_path: Path) -> None:
    given = parameters()
    frame = pd.read_parquet(finish(tmp_path, given) / "embeddings")
    assert list(frame.columns) == ["word", "word_id", "count", "vector"]
    assert frame["word"].tolist() == given.words.to_pylist()
    assert frame["word_id"].tolist() == list(range(40))
    assert frame["vector"][0].dtype == np.float32
    assert bits(np.stack(frame["vector"].tolist())) == bits(given.center)


def test_duckdb_reads_the_same_bits_in_order(tmp_path: Path) -> None:
    import duckdb

    given = parameters()
    finish(tmp_path, given)
    query = f"select word, word_id, count, vector, typeof(vector) from '{tmp_path}/embeddings/*.parquet'"
    rows = duckdb.connect().execute(query).fetchall()
    assert [row[:3] for row in rows] == list(
        zip(given.words.to_pylist(), range(40), given.counts.tolist(), strict=True)
    )
    assert {row[4] for row in rows} == {"FLOAT[]"}
    assert bits([row[3] for row in rows]) == bits(given.center)


def test_a_run_that_is_removed_while_it_is_read_may_be_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --keep-runs does to a reader that asked what the current run is just before."""
    output = finish(tmp_path / "1", parameters())

    def remove(output: Path, *given: Any) -> Any:
        if output.exists():
            output.rename(tmp_path / ".1.removed")
        return embedding_files.open_table(output, *given)

    monkeypatch.setattr(embeddings, "open_table", remove)
    with pytest.raises(StorageError, match=r"/1: was removed meanwhile; try again\.$"):
        read(output)
    with pytest.raises(OutputError, match="no such directory"):
        read(output)


def test_gensim_takes_words_and_vectors_as_they_are(tmp_path: Path) -> None:
    given = parameters()._replace(center=np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32))
    found = read(finish(tmp_path, given))
    vectors = keyed_vectors()(vector_size=6)
    vectors.add_vectors(found.words.to_pylist(), found.vectors)
    assert bits(vectors["Straße"]) == bits(given.center[STRANGE.index("Straße")])
    assert len(vectors) == 40
