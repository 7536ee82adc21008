"""Weights, whole sentences and ids of the Estimator and its model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v.errors import UserError
from tests.support.estimator import OPTIONS, planted_sentences, vectors_of
from tests.support.training_job import GROUPS


def fitted(frame: DataFrame, **options: Any) -> SkipGramModel:
    model = SkipGram(**{**OPTIONS, "minCount": 1, "maxIter": 1, **options}).fit(frame)
    assert isinstance(model, SkipGramModel)
    return model


@pytest.mark.slow
def test_counts_follow_the_weights(spark: SparkSession) -> None:
    rows = [(["a", "b"], 3.0), (["b", "c"], 0.5), (["c", "d"], 0.5), (["e", "e"], 0.0)]
    frame = spark.createDataFrame(rows, "words array<string>, w double")
    model = fitted(frame, weightCol="w")
    assert {row.word: row["count"] for row in model.getVocabulary().collect()} == {"a": 3, "b": 4, "c": 1, "d": 1}
    assert {row["count"] for row in fitted(frame).getVocabulary().collect()} == {1, 2}


@pytest.mark.slow
def test_a_sentence_of_weight_zero_teaches_nothing(spark: SparkSession) -> None:
    sentences = [(words, 1.0) for (words,) in planted_sentences(300)]
    noise = [(["apple", "saw", "oboe"], 0.0)] * 300
    schema = "words array<string>, w double"
    with_noise = fitted(spark.createDataFrame(sentences + noise, schema), weightCol="w", heldOutWords=0, maxIter=3)
    without = {row.word: row["count"] for row in with_noise.getVocabulary().collect()}
    alone = fitted(spark.createDataFrame(sentences, schema), weightCol="w", heldOutWords=0)
    assert without == {row.word: row["count"] for row in alone.getVocabulary().collect()}
    near = [row.word for row in with_noise.findSynonyms("apple", 4).collect()]
    assert set(near) == {"pear", "plum", "cherry", "quince"}


@pytest.mark.parametrize(
    ("weight", "says"),
    [("ww", 'weightCol: the DataFrame has no column "ww"; did you mean w?'), ("words", 'weightCol: "words" is array')],
)
def test_a_column_of_weights_that_cannot_be_is_refused(spark: SparkSession, weight: str, says: str) -> None:
    frame = spark.createDataFrame([(["a", "b"], 1.0)], "words array<string>, w double")
    with pytest.raises(UserError) as refused:
        fitted(frame, weightCol=weight)
    assert str(refused.value).startswith(says)


@pytest.mark.slow
def test_a_weight_may_be_a_field(spark: SparkSession) -> None:
    rows = [(["a", "b"], {"w": 3.0}), (["b", "c"], {"w": 1.0})]
    model = fitted(spark.createDataFrame(rows, "words array<string>, meta struct<w: double>"), weightCol="meta.w")
    assert {row.word: row["count"] for row in model.getVocabulary().collect()} == {"a": 3, "b": 4, "c": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "nest"),
    [
        ("doc struct<items: array<string>>", lambda words: {"items": words}),
        ("doc array<struct<at: int, items: string>>", lambda words: [{"at": 1, "items": word} for word in words]),
    ],
)
def test_the_words_may_be_a_field(spark: SparkSession, schema: str, nest: Any) -> None:
    rows = [words for (words,) in planted_sentences(100)]
    flat = fitted(spark.createDataFrame([(words,) for words in rows], "words array<string>"), maxIter=1)
    frame = spark.createDataFrame([(nest(words),) for words in rows], schema)
    model = fitted(frame, maxIter=1, inputCol="doc.items")
    assert vectors_of(model) == vectors_of(flat)
    assert model.transform(frame).columns == ["doc", "vector"]
    expected = flat.transform(frame.selectExpr("doc.items as words")).select("vector").collect()
    assert model.transform(frame).select("vector").collect() == expected


@pytest.mark.slow
def test_numbers_in_a_field_come_back_as_numbers(spark: SparkSession) -> None:
    frame = spark.createDataFrame([({"items": [1, 2, 3]},)] * 3, "doc struct<items: array<int>>")
    assert dict(fitted(frame, inputCol="doc.items").getVocabulary().dtypes)["id"] == "int"


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("doc.itmes", 'the DataFrame has no column "doc.itmes" (inputCol); did you mean doc.items?'),
        ("doc.n", '"doc.n" (inputCol) is int, words are array<string>'),
        ("doc", '"doc" (inputCol) is struct<items:array<string>,n:int>, words are array<string>'),
    ],
)
def test_a_field_that_cannot_be_the_words_is_refused(spark: SparkSession, column: str, says: str) -> None:
    frame = spark.createDataFrame([({"items": ["a", "b"], "n": 1},)], "doc struct<items: array<string>, n: int>")
    with pytest.raises(UserError) as refused:
        fitted(frame, inputCol=column)
    assert says in str(refused.value)


def test_a_column_with_a_dot_in_its_name_comes_before_a_field(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [({"items": ["a", "b"]}, ["c", "d"])], "doc struct<items: array<string>>, `doc.items` array<string>"
    )
    assert sorted(vectors_of(fitted(frame, inputCol="doc.items"))) == ["c", "d"]


def test_no_column_is_replaced_whose_name_is_the_same_to_spark(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(["a", "b"], 1)], "words array<string>, Vector int")
    with pytest.raises(UserError, match='has a column "Vector" already; give another outputCol'):
        fitted(frame)
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        assert fitted(frame).transform(frame).columns == ["words", "Vector", "vector"]
    finally:
        spark.conf.unset("spark.sql.caseSensitive")


@pytest.mark.parametrize("good", [97, 0])
def test_bad_weights_are_refused_where_they_are_many(spark: SparkSession, good: int) -> None:
    rows = [(["a", "b"], 1.0)] * good + [(["a", "c"], weight) for weight in (-1.0, None, 1000.5)]
    with pytest.raises(UserError) as refused:
        fitted(spark.createDataFrame(rows, "words array<string>, w double"), weightCol="w")
    assert str(refused.value).partition(": ")[2] == (
        f'3 of {good + 3} rows have a bad weight in "w" (weightCol), {3 / (good + 3):.1%}; a weight is a number from 0 '
        "to 1,000: give them one, or leave them out."
    )


@pytest.mark.slow
def test_a_few_bad_weights_and_many_rows_without_words_are_skipped(spark: SparkSession) -> None:
    rows = [(["a", "b"], 1.0)] * 100 + [(["a", "c"], -1.0)] + [(None, None)] * 50
    model = fitted(spark.createDataFrame(rows, "words array<string>, w double"), weightCol="w")
    assert {row.word: row["count"] for row in model.getVocabulary().collect()} == {"a": 100, "b": 100}


def test_weights_of_which_none_counts_are_named(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(["a", "b"], 0.0)] * 3, "words array<string>, w double")
    with pytest.raises(UserError, match=r'the weights in "w" \(weightCol\) come to less than a half'):
        fitted(frame, weightCol="w")


@pytest.mark.slow
def test_whole_sentences_know_no_order(spark: SparkSession, tmp_path: Path) -> None:
    # Words of a group are six words apart: a window of 2 does not see that they belong together.
    rng, rows = np.random.default_rng(1), list[tuple[list[str]]]()
    for _ in range(1000):
        group = rng.choice(GROUPS[rng.integers(3)].split(), 4)
        rows.append(([word for one in group for word in (str(one), *(f"x{n}" for n in rng.integers(0, 100, 5)))],))
    frame = spark.createDataFrame(rows, "words array<string>")
    estimator = SkipGram(**{**OPTIONS, "windowSize": "sentence"}).setMaxContexts(30)
    estimator.save(str(tmp_path / "stage"))
    assert SkipGram.load(str(tmp_path / "stage")).getWindowSize() == "sentence"
    model = estimator.fit(frame)
    assert isinstance(model, SkipGramModel)
    assert model.getWindowSize() == "sentence"
    assert _share_of_groups(model) > 0.9
    assert _share_of_groups(fitted(frame, windowSize=2, maxIter=3)) < 0.5


def _share_of_groups(model: SkipGramModel) -> float:
    """The share of the four nearest words that are of the same group."""
    groups = [group.split() for group in GROUPS]
    near = [(group, [found for found, _ in model.findSynonymsArray(word, 4)]) for group in groups for word in group]
    return float(np.mean([word in group for group, words in near for word in words]))


def test_a_window_is_a_number_or_the_sentence() -> None:
    with pytest.raises(UserError, match='windowSize = "sentences" is not one of its values') as refused:
        SkipGram(windowSize="sentences")
    assert "training." not in str(refused.value)
    assert SkipGram().setWindowSize(7).getWindowSize() == 7


def test_numbers_as_words_come_back_as_numbers(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(np.random.default_rng(n).integers(-5, 20, 8).tolist(),) for n in range(200)]
    model = fitted(spark.createDataFrame(rows, "words array<bigint>"))
    for one in (model, _loaded(model, tmp_path / "model")):
        vectors = one.getVectors(counts=True)
        assert [f"{name} {kind}" for name, kind in vectors.dtypes] == [
            "word string", "id bigint", "vector vector", "count bigint",
        ]  # fmt: skip
        assert all(str(row.id) == row.word for row in vectors.collect())
        assert one.findSynonyms("3", 2).schema.names == ["word", "id", "similarity"]
        assert one.findSynonymsArray(3, 2) == one.findSynonymsArray(np.int64(3), 2) == one.findSynonymsArray("3", 2)
        assert one.getVocabulary().schema.names == ["word", "id", "count"]
    # A join back needs no cast.
    catalogue = spark.createDataFrame([(n, f"item {n}") for n in range(20)], "id bigint, name string")
    assert catalogue.join(model.getVectors(), "id").count() == 20
    texts = fitted(spark.createDataFrame([([str(n) for n in row[0]],) for row in rows], "words array<string>"))
    assert texts.getVectors().schema.names == ["word", "vector"]
    assert vectors_of(texts) == vectors_of(model)


@pytest.mark.slow
def test_decimal_numbers_are_words_without_ids(spark: SparkSession) -> None:
    frame = spark.createDataFrame([([1, 2, 3],)] * 3, "words array<int>").selectExpr(
        "cast(words as array<decimal(20,0)>) as words"
    )
    model = fitted(frame)
    assert model.getVocabulary().columns == ["word", "count"]
    assert model.findSynonyms("3", 2).columns == ["word", "similarity"]
    with pytest.raises(TypeError, match="Cannot convert type"):
        model.findSynonyms(3, 2)


def _loaded(model: SkipGramModel, path: Path) -> SkipGramModel:
    model.save(str(path))
    loaded = SkipGramModel.load(str(path))
    assert isinstance(loaded, SkipGramModel)
    return loaded


def test_an_expression_that_fails_is_looked_for_in_the_dataframe(spark: SparkSession) -> None:
    frame = spark.range(9).selectExpr("array(string(1 / (id - 5)), 'b') as words")
    with pytest.raises(UserError, match=r"^SkipGram_\w+: Spark cannot compute a value \(Division by zero.*\); in the "
                       r"DataFrame, change the expression\.$"):  # fmt: skip
        fitted(frame)
