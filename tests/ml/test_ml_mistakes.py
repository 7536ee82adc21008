"""Mistakes are said in the names of the Params."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from py4j.protocol import Py4JNetworkError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from spark_w2v import SkipGram, SkipGramModel, pipeline, train
from spark_w2v import model as of_model
from spark_w2v.analysis import neighbors
from spark_w2v.errors import (
    DivergedError,
    NoPairsError,
    NotEnoughMemoryError,
    OutputError,
    SparkLostError,
    StorageError,
    UserError,
)
from spark_w2v.spark import memory
from spark_w2v.spark.java_errors import UnknownWordError, lost_error
from spark_w2v.spark.stage_params import KEY_OF
from tests.support.estimator import OPTIONS, planted_sentences, speaks_of_the_job
from tests.support.training_job import counted_needs


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inputCol": "wrods"}, "did you mean words"),
        ({"inputCol": "id"}, "words are array<string>"),
        ({"outputCol": "id"}, "give another outputCol"),
        ({"vectorSize": 0}, "SkipGram.vectorSize: vectorSize = 0 is out of range"),
        ({"stepSize": 2.0}, "stepSize"),
        ({"scheme": "block"}, 'it must be "auto"'),
        ({"unknownWords": "drop"}, 'it must be "count" or "skip"'),
        ({"minCount": 1_000_000}, "lower minCount"),
    ],
)
def test_a_mistake_is_one_sentence_in_the_names_of_the_params(
    spark: SparkSession, options: dict[str, Any], says: str
) -> None:
    frame = spark.createDataFrame([(1, ["a", "b"])], "id int, words array<string>")
    with pytest.raises(UserError) as refused:
        SkipGram(**{**OPTIONS, **options}).fit(frame)
    assert says in str(refused.value)
    assert "training." not in str(refused.value)


def test_an_unknown_word_is_shown_without_its_control_characters() -> None:
    words, counts, vectors = pa.array(["a", "b"]), np.array([1, 1]), np.ones((2, 2), np.float32)
    with pytest.raises(UnknownWordError) as refused:
        SkipGramModel()._with(words, counts, vectors, None).findSynonymsArray("x\n\x1b[31m", 1)
    assert str(refused.value) == r'"x\n\x1b[31m" is not in vocabulary: it has no vector.'
    assert refused.value.errmsg == str(refused.value)


def test_a_stream_and_a_session_that_was_stopped_are_refused(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = spark.createDataFrame([(["a", "b"],)], "words array<string>")
    rows.write.parquet(str(tmp_path / "rows"))
    stream = spark.readStream.schema(rows.schema).parquet(str(tmp_path / "rows"))
    skipgram, output = SkipGram(**OPTIONS), tmp_path / "out"
    uses: list[Callable[[], object]] = [lambda: skipgram.fit(stream), lambda: train(stream, output)]
    for use in uses:
        with pytest.raises(UserError, match="is a stream, which has no end; give a DataFrame of spark"):
            use()
    monkeypatch.setattr(spark.sparkContext, "_jsc", None)
    uses = [lambda: skipgram.fit(rows), lambda: train(rows, output), lambda: train("a", output, spark=spark)]
    for use in uses:
        with pytest.raises(UserError, match=r"a session that was stopped; give one that runs\."):
            use()
    assert not output.exists()


@pytest.mark.parametrize("name", ["inputCol", "outputCol"])
def test_a_column_that_was_unset_is_asked_for(spark: SparkSession, name: str) -> None:
    skipgram = SkipGram(**OPTIONS)
    skipgram._set(**{name: None})
    with pytest.raises(UserError, match=rf"{name}.*; give the column"):
        skipgram.fit(spark.createDataFrame([(["a", "b"],)], "words array<string>"))


def test_callbacks_that_are_none_are_refused_at_once() -> None:
    for given in ([3], print, None):
        with pytest.raises(UserError, match=r"^callbacks: is not a list of functions"):
            SkipGram().setCallbacks(cast(Any, given))


def test_the_number_of_partitions_is_asked_for_as_the_param_takes_it() -> None:
    with pytest.raises(UserError, match=r"numPartitions = -1 .* at least 1, or 0 for all slots\.$"):
        SkipGram().setNumPartitions(-1)


def test_a_value_that_is_refused_is_not_kept() -> None:
    skipgram = SkipGram(vectorSize=50)
    for options, error in (
        ({"vectorSize": 0}, UserError), ({"maxIter": 7, "stepSize": 5.0}, UserError),
        ({"maxIter": 7, "stepSize": "fast"}, TypeError), ({"maxIter": 7, "unknownWords": "drop"}, UserError),
    ):  # fmt: skip
        before = dict(skipgram._paramMap)
        with pytest.raises(error):
            skipgram.setParams(**options)
        assert skipgram._paramMap == before
        (name, value), capital = list(options.items())[-1], list(options)[-1][0].upper()
        with pytest.raises(error):
            getattr(skipgram, f"set{capital}{name[1:]}")(value)
        assert skipgram._paramMap == before
    assert skipgram.setMaxIter(3).setUnknownWords("skip").getMaxIter() == 3
    assert skipgram.getVectorSize() == 50


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"stepSize": 0.01, "lastStepSize": 0.05},
            "SkipGram: lastStepSize = 0.05 is above stepSize = 0.01, and the rate falls; give at most that.",
        ),
        (
            {"exchangeFirstPort": 41_063, "exchangeLastPort": 41_000},
            "SkipGram: exchangeFirstPort = 41063 and exchangeLastPort = 41000 are not a range of ports; give both, the "
            "first not above the last, or neither.",
        ),
        (
            {"exchangeFirstPort": 70_000, "exchangeLastPort": 70_001},
            "SkipGram: exchangeFirstPort = 70000 is out of range; it must be at most 65535.",
        ),
        ({"maxWords": 1}, "SkipGram.maxWords: maxWords = 1 leaves one word"),
    ],
)
def test_params_that_do_not_go_together_are_named(spark: SparkSession, options: dict[str, Any], says: str) -> None:
    frame = spark.createDataFrame([(["a", "b"],)], "words array<string>")
    with pytest.raises(UserError) as refused:
        SkipGram(**OPTIONS, **options).fit(frame)
    assert str(refused.value).startswith(says)
    assert speaks_of_the_job(str(refused.value)) == []


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("rows", [[], [(None,)], [([],), ([None, ""],)]])
def test_a_dataframe_without_words_is_named_as_one(spark: SparkSession, rows: list[Any]) -> None:
    frame = spark.createDataFrame(rows, "words array<string>")
    with pytest.raises(UserError) as refused:
        SkipGram(**OPTIONS, minCount=1).fit(frame)
    assert 'no row of the DataFrame has a word in "words" (inputCol)' in str(refused.value)
    assert speaks_of_the_job(str(refused.value)) == []


def test_rows_of_one_word_are_named_as_rows(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(["a"],), (["b"],)] * 5, "words array<string>")
    with pytest.raises(NoPairsError) as refused:
        SkipGram(**OPTIONS, minCount=1).fit(frame)
    assert "no row of the DataFrame has two words" in str(refused.value)
    assert "minCount (1)" in str(refused.value)
    assert speaks_of_the_job(str(refused.value)) == []


def test_pairs_that_subsampling_leaves_none_of_are_named_as_such(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(["a", "b"],)] * 100, "words array<string>")
    options = {**OPTIONS, "minCount": 1, "subsample": 1e-3, "maxIter": 1, "scheme": "blocks", "seed": 9}
    with pytest.raises(NoPairsError) as refused:
        SkipGram(**options).fit(frame)
    assert "left none in 1 epoch. Set subsample and heldOutWords to 0" in str(refused.value)
    assert speaks_of_the_job(str(refused.value)) == []


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(
    "given",
    [
        memory.Given(1, 10**12),
        memory.Given(10**12, 1, 2),
        memory.Given(10**12, 10**12, 0, 1, "spark.executor.memoryOverhead", 2),
        memory.Given(10**12, 10**12, results=1),
    ],
)
def test_what_is_said_of_memory_is_said_in_params(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, given: memory.Given
) -> None:
    monkeypatch.setattr(memory, "given_by", lambda context: given)
    scheme = "blocks" if given.results is None else "replicas"
    with pytest.raises(NotEnoughMemoryError) as refused:
        SkipGram(**OPTIONS, scheme=scheme).fit(spark.createDataFrame(planted_sentences(20), "words array<string>"))
    assert re.search("vectorSize|minCount", str(refused.value))
    assert speaks_of_the_job(str(refused.value)) == []


def test_a_model_that_does_not_fit_a_task_is_refused_before_it_is_sent(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = spark.createDataFrame(planted_sentences(20), "words array<string>")
    model = SkipGram(**OPTIONS).fit(frame)
    given = memory.Given(10**12, None, 0, 1000, "spark.executor.memoryOverhead", 2)
    monkeypatch.setattr(of_model, "given_by", lambda context: given)
    with pytest.raises(NotEnoughMemoryError, match=r"2 run on an executor at a time, .* take fewer tasks") as refused:
        model.transform(frame)
    # Of two workers with Python and a segment, and what is outside of the JVM's heap.
    assert "raise it to 872 MB, or" in str(refused.value)
    given = memory.Given(10**12, None, 0, 100_000, "spark.executor.memoryOverhead", 2)  # a small model fits anywhere
    model.transform(frame).count()
    given = memory.Given(10**12, None, 0, 1000, "spark.executor.memoryOverhead", 2)
    model.transform(frame).count()  # it is there already


def test_the_vectors_of_the_model_are_part_of_the_memory_that_is_checked(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = counted_needs(monkeypatch)
    frame = spark.createDataFrame(planted_sentences(20), "words array<string>")
    with pytest.raises(NotEnoughMemoryError):
        SkipGram(**OPTIONS, scheme="blocks").fit(frame)
    ((need, without),) = counted
    assert need.driver - without.driver == need.model // 2


def test_a_lost_spark_is_an_error_of_its_own(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(*arguments: Any) -> Any:
        raise Py4JNetworkError("Answer from Java side is empty")

    monkeypatch.setattr(pipeline, "prepare", gone)
    # As where the JVM is gone.
    monkeypatch.setattr(spark.sparkContext, "setLocalProperty", gone)
    frame = spark.createDataFrame([(["a", "b"],)], "text array<string>")
    with pytest.raises(SparkLostError, match="Spark is gone"):
        SkipGram(**{**OPTIONS, "inputCol": "text"}).fit(frame)
    with pytest.raises(SparkLostError, match="Spark is gone"):
        train(frame, tmp_path / "out", config={"corpus": {"tokenizer": "none"}})


def test_a_connection_of_a_callback_is_not_sparks() -> None:
    assert lost_error(ConnectionRefusedError("no such server")) is None


def test_every_error_of_training_is_said_in_params(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = spark.createDataFrame([(["a", "b"],)], "words array<string>")
    for kind in (UserError, DivergedError, StorageError, SparkLostError):

        def broken(*arguments: Any, kind: Any = kind) -> Any:
            raise kind("; ".join(path for path in KEY_OF.values()))

        monkeypatch.setattr(pipeline, "prepare", broken)
        with pytest.raises(kind) as refused:
            SkipGram(**OPTIONS, minCount=1).fit(frame)
        assert str(refused.value) == "; ".join(KEY_OF)


class StopError(Exception):
    """As those by which a tuner prunes a trial."""


@pytest.mark.parametrize("train_it", [True, False])
def test_what_a_callback_raises_arrives_as_it_is(spark: SparkSession, tmp_path: Path, train_it: bool) -> None:
    frame = spark.createDataFrame(planted_sentences(50), "words array<string>")
    config: dict[str, dict[str, Any]] = {
        "corpus": {"column": "words", "tokenizer": "none"},
        "training": {"dimensions": 4, "epochs": 1},
    }
    raised: Exception

    def fail(metrics: Mapping[str, Any]) -> None:
        raise raised

    def run() -> None:
        if train_it:
            train(frame, tmp_path / "out", config=config, callbacks=[fail])
        else:
            SkipGram(**{**OPTIONS, "maxIter": 1}).setCallbacks([fail]).fit(frame)

    # Which of Spark would be a file that cannot be read; and those of a training within the callback.
    errors = (StopError("AccessControlException: quota"), UserError("training.epochs = 0"), NoPairsError(7))
    for raised in errors:
        message = str(raised)
        with pytest.raises(type(raised)) as caught:
            run()
        assert caught.value is raised
        assert str(raised) == message

    def read(metrics: Mapping[str, Any]) -> None:
        spark.read.parquet(str(tmp_path / "nothing"))

    with pytest.raises(AnalysisException, match="PATH_NOT_FOUND"):
        SkipGram(**{**OPTIONS, "maxIter": 1}).setCallbacks([read]).fit(frame)


def test_what_is_no_dataframe_of_spark_is_named(model: SkipGramModel) -> None:
    says = r": the DataFrame: is a pandas\.\S*DataFrame, not a DataFrame of Spark; spark\.createDataFrame makes one"
    for use in (SkipGram(**OPTIONS).fit, model.transform):
        with pytest.raises(UserError, match=says):
            use(pd.DataFrame({"words": [["a"]]}))


@pytest.mark.parametrize("num", [0, -(10**400), 2.5, "3", None, float("nan"), np.float32(1.5)])
def test_a_number_of_synonyms_is_a_whole_one(model: SkipGramModel, num: Any) -> None:
    for find in (model.findSynonymsArray, lambda word, num: model.findAllSynonyms(num)):
        with pytest.raises(UserError, match=r"num is .*; it must be a whole number of at least 1"):
            find(model._words[0].as_py(), num)
    assert len(model.findSynonymsArray(model._words[0].as_py(), 2.0)) == 2  # type: ignore[arg-type]
    assert len(model.findSynonymsArray(model._words[0].as_py(), 10**400)) == len(model._words) - 1


def test_a_vector_of_two_dimensions_is_named_by_its_shape(model: SkipGramModel) -> None:
    size = model._vectors.shape[1]
    with pytest.raises(
        UserError, match=rf"the vector has the shape \(1, {size}\); it must have {size} numbers, in one"
    ):
        model.findSynonymsArray(np.ones((1, size)), 2)
    with pytest.raises(UserError, match=r"the vector has values of type <U1; it must have numbers\."):
        model.findSynonymsArray(np.array(["x"] * size), 2)
    vector = np.arange(size) - 0.5
    for kind in (object, np.float16, str):  # of which pandas may make one
        assert model.findSynonymsArray(vector.astype(kind), 3) == model.findSynonymsArray(vector, 3)


def test_words_like_an_unknown_one_are_looked_for_when_somebody_asks(
    model: SkipGramModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def closest(words: pa.StringArray, word: str) -> list[str]:
        asked.append(word)
        return ["near"]

    monkeypatch.setattr(neighbors, "closest_spellings", closest)
    with pytest.raises(KeyError) as caught:
        model.findSynonymsArray("nowhere", 1)
    assert not asked
    message = '"nowhere" is not in vocabulary: it has no vector; near are near.'
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value) == message
    assert asked == ["nowhere"]


def test_a_file_that_cannot_be_read_is_one_of_the_dataframe(spark: SparkSession, tmp_path: Path) -> None:
    spark.createDataFrame(planted_sentences(50), "words array<string>").coalesce(1).write.parquet(str(tmp_path / "in"))
    frame = spark.read.parquet(str(tmp_path / "in"))
    (part,) = (tmp_path / "in").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:200])
    (tmp_path / "in" / f".{part.name}.crc").unlink()
    with pytest.raises(UserError) as refused:
        SkipGram(**OPTIONS).fit(frame)
    assert "leave it out of the DataFrame" in str(refused.value)
    assert not speaks_of_the_job(str(refused.value))


def test_a_saved_model_is_no_output_of_a_run(model: SkipGramModel, tmp_path: Path) -> None:
    model.save(str(tmp_path / "model"))
    with pytest.raises(
        OutputError, match=r"model: is a saved model, not the output of a run; SkipGramModel\.load takes it"
    ):
        SkipGramModel.of_output(tmp_path / "model")


def test_a_path_may_be_a_path(model: SkipGramModel, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")  # type: ignore[arg-type]
    model.write().overwrite().save(tmp_path / "model")  # type: ignore[arg-type]
    assert SkipGramModel.load(tmp_path / "model")._words.equals(model._words)  # type: ignore[arg-type]
    SkipGram(**OPTIONS).save(str(tmp_path / "stage"))
    assert SkipGram.load(tmp_path / "stage").getMaxIter() == OPTIONS["maxIter"]  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["true", "True", " TRUE "])
def test_a_column_in_other_letters_may_be_added_where_spark_tells_them_apart(
    spark: SparkSession, model: SkipGramModel, value: str
) -> None:
    frame = spark.createDataFrame([(["a"], 1)], "words array<string>, VECTOR int")
    spark.conf.set("spark.sql.caseSensitive", value)
    try:
        assert model.copy({model.outputCol: "vector"}).transform(frame).columns == ["words", "VECTOR", "vector"]
    finally:
        spark.conf.unset("spark.sql.caseSensitive")
