"""What a model answers and writes without Spark, and what it takes back."""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v.errors import UserError
from spark_w2v.runs.export_formats import FILES
from spark_w2v.runs.index_formats import LIBRARIES
from spark_w2v.spark.java_errors import UnknownWordError
from tests.support.estimator import OPTIONS, speaks_of_the_job
from tests.support.exports import WORDS, equal_bits, export_to, finish, load, matrices, stored


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))


@pytest.fixture
def without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_session() -> SparkSession:
        raise AssertionError("asked for a session")

    monkeypatch.setattr(SparkSession, "active", no_session)


@pytest.fixture(scope="module")
def of_numbers(spark: SparkSession) -> SkipGramModel:
    rows = [(np.random.default_rng(n).integers(-5, 20, 8).tolist(),) for n in range(200)]
    return SkipGram(**OPTIONS).fit(spark.createDataFrame(rows, "words array<int>"))


def test_a_vector_is_that_of_getvectors_and_a_copy(model: SkipGramModel, without_spark: None) -> None:
    table = model.toArrow()
    assert len(model) == len(table) > 10
    for word, vector in zip(table["word"].to_pylist(), table["vector"].to_pylist(), strict=True):
        assert word in model
        assert equal_bits(model.getVector(word), np.array(vector, np.float32))
    assert "Apple" not in model
    assert None not in model
    word = table["word"][0].as_py()
    model.getVector(word)[:] = 0
    assert model.getVector(word).any()


def test_what_has_no_vector_is_refused(model: SkipGramModel) -> None:
    word = model.toArrow()["word"][0].as_py()
    with pytest.raises(UnknownWordError, match=f'"{word}x" is not in vocabulary: it has no vector; near are {word}'):
        model.getVector(f"{word}x")
    with pytest.raises(TypeError, match=r"7 is of type int; a word is a str\."):
        model.getVector(7)


def test_numbers_are_asked_for_as_numbers_or_as_strings(of_numbers: SkipGramModel, without_spark: None) -> None:
    assert 3 in of_numbers
    assert np.int64(-5) in of_numbers
    assert "3" in of_numbers
    assert 99 not in of_numbers
    assert equal_bits(of_numbers.getVector(3), of_numbers.getVector("3"))


@pytest.mark.parametrize("counts", [False, True])
def test_a_table_of_arrow_has_what_getvectors_has(
    model: SkipGramModel, of_numbers: SkipGramModel, counts: bool
) -> None:
    for one, ids in ((model, []), (of_numbers, [pa.field("id", pa.int32())])):
        table, frame = one.toArrow(counts), one.getVectors(counts)
        last = [pa.field("count", pa.int64())] if counts else []
        expected = [pa.field("word", pa.string()), *ids, pa.field("vector", pa.list_(pa.float32())), *last]
        assert table.schema == pa.schema(expected)
        rows = [row.asDict() for row in frame.collect()]
        assert table.to_pylist() == [row | {"vector": row["vector"].toArray().tolist()} for row in rows]


@pytest.mark.parametrize("form", FILES)
def test_a_model_is_exported_as_its_output_is(output: Path, tmp_path: Path, form: str, without_spark: None) -> None:
    SkipGramModel.of_output(output).export(tmp_path / "to", form)
    words, found = load(form, tmp_path / "to")
    assert words == WORDS
    assert equal_bits(found, stored(form, matrices(len(WORDS))[0]))
    assert export_to(output, form, tmp_path / "same") == 0
    for name in FILES[form] or ("",):
        if name not in ("ids.npy", "metadata/part-00000"):  # which has the time and an identifier
            assert (tmp_path / "to" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


@pytest.mark.parametrize("form", sorted(LIBRARIES))
def test_an_index_of_numbers_has_them(of_numbers: SkipGramModel, tmp_path: Path, form: str) -> None:
    of_numbers.export(tmp_path / "to", form)
    ids = np.load(tmp_path / "to" / "ids.npy")
    assert ids.dtype == np.int32
    assert ids.tolist() == of_numbers.toArrow()["id"].to_pylist()


def test_what_an_export_replaces_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["new york", "b"]
    model = SkipGramModel.of_output(finish(tmp_path / "out", words, *matrices(2)))
    monkeypatch.setenv("HOME", str(tmp_path))
    model.export("~/v.txt", "word2vec-text", replaceWhiteSpace=True, counts="~/c.txt")
    assert load("word2vec-text", tmp_path / "v.txt")[0] == ["new_york", "b"]
    assert [line.split()[0] for line in (tmp_path / "c.txt").read_text().splitlines()] == ["new_york", "b"]
    assert "words with _ in place of white space: 1" in caplog.text
    model.export(os.fspath(tmp_path / "v.txt"), "word2vec-text", replaceWhiteSpace=True, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "there", "format": "npz"}, r"there is no format 'npz'; did you mean npy\?"),
        ({"path": "there", "format": None}, "there is no format None; it has "),
        ({"path": "s3://b/v", "format": "npy"}, "s3://b/v: is not on this host; export to a path of this host"),
        ({"path": "", "format": "npy"}, "'' is not a path; give one."),
        ({"path": "here", "format": "word2vec-text"}, "exists already; give overwrite=True to replace it"),
        ({"path": "here", "format": "word2vec-text", "overwrite": True}, "it is not touched, even with overwrite=True"),
        ({"path": "there", "format": "word2vec-text"}, "give replaceWhiteSpace=True to write _ instead"),
        ({"path": "there", "format": "npy", "counts": "c"}, "^counts: is for the formats of word2vec"),
        ({"path": "there", "format": "word2vec-text", "counts": "there"}, "there: is path and counts; give two files"),
        ({"path": "out/embeddings/v", "format": "npy"}, "is inside of .*, which holds a run and nothing else"),
    ],
)  # fmt: skip
def test_a_mistake_at_an_export_is_one_sentence_that_names_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    model = SkipGramModel.of_output(finish(tmp_path / "out", ["new york", "b"], *matrices(2)))
    (tmp_path / "out" / "run.json").write_text("{}")
    (tmp_path / "here").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        model.export(**arguments)
    assert not speaks_of_the_job(str(refused.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "out"]
    assert (tmp_path / "here").read_text() == "mine"


def test_a_file_that_is_named_like_an_option_keeps_its_name(tmp_path: Path) -> None:
    model = SkipGramModel.of_output(finish(tmp_path / "out", ["a", "b"], *matrices(2)))
    (tmp_path / "a--to").touch()
    with pytest.raises(UserError, match=r"/a--to: exists already; give overwrite=True to replace it"):
        model.export(tmp_path / "a--to", "word2vec-text")


def test_what_was_sent_is_taken_back_and_sent_again(spark: SparkSession, sentences: DataFrame) -> None:
    model = SkipGram(**OPTIONS).fit(sentences)

    def sent() -> set[str]:
        return set(os.listdir(spark.sparkContext._temp_dir))

    few = sentences.limit(3)
    before, means = sent(), model.transform(few).select("vector").collect()
    neighbors = model.findAllSynonyms(2).collect()
    assert len(sent() - before) >= 3  # the words and vectors; the words, and vectors of length 1
    model.copy().unpersist()  # a copy has the same
    assert sent() == before
    model.unpersist()
    assert model.transform(few).select("vector").collect() == means
    assert model.findAllSynonyms(2).collect() == neighbors
    model.unpersist()


def test_vectors_are_those_of_before_once_taken_back(model: SkipGramModel) -> None:
    word = model.toArrow()["word"][0].as_py()
    found = model.findSynonymsArray(word, 3)
    model.unpersist()
    assert model.findSynonymsArray(word, 3) == found


def test_a_model_of_nothing_is_shown() -> None:
    assert repr(SkipGramModel()).endswith("numWords=0, vectorSize=0")
    assert len(SkipGramModel()) == 0
    assert "word" not in SkipGramModel()


def test_a_model_is_saved_under_the_name_of_earlier_versions_and_shows_its_source(
    model: SkipGramModel, tmp_path: Path
) -> None:
    model.save(str(tmp_path / "model"))
    (metadata,) = (tmp_path / "model" / "metadata").glob("part-*")
    assert json.loads(metadata.read_text())["class"] == "spark_w2v.ml.SkipGramModel"
    assert inspect.getsource(SkipGramModel).startswith("class SkipGramModel(")


@pytest.mark.parametrize("method", [SkipGram, SkipGram().setParams])
def test_the_signature_has_each_param_with_its_default(method: Any) -> None:
    stage, shown = SkipGram(), inspect.signature(method).parameters
    assert set(shown) == {param.name for param in stage.params}
    without = {"inputCol", "outputCol", "weightCol"}
    assert {name: one.default for name, one in shown.items()} == {
        name: None if name in without else stage.getOrDefault(name) for name in shown
    }
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in shown.values())


def test_the_signature_of_of_output_has_the_params_of_a_model() -> None:
    shown = inspect.signature(SkipGramModel.of_output).parameters
    assert list(shown) == ["output", "inputCol", "outputCol", "unknownWords"]


def test_a_mistake_in_a_param_is_found_before_an_output_is_read() -> None:
    with pytest.raises(UserError, match='unknownWords = "no" is not one of its values'):
        SkipGramModel.of_output("no such output", unknownWords="no")
