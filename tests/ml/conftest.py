"""A DataFrame of sentences, and a model that is fitted to it once per file."""

from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from tests.support.estimator import OPTIONS, planted_sentences


@pytest.fixture(scope="module")
def sentences(spark: SparkSession) -> Iterator[DataFrame]:
    frame = spark.createDataFrame(planted_sentences(), "words array<string>").coalesce(1).persist()
    frame.count()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def model(sentences: DataFrame) -> SkipGramModel:
    return SkipGram(**OPTIONS).fit(sentences)
