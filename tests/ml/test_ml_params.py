"""Params as users of a stage meet them, and what the stages that follow know of its vectors."""

import re
from typing import Any

import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v.config import KEYS
from spark_w2v.spark.stage_params import KEY_OF
from tests.support.estimator import OPTIONS, speaks_of_the_job


def test_params_are_described_as_a_user_of_the_stage_knows_them() -> None:
    said = SkipGram().explainParams()
    assert not speaks_of_the_job(said)
    bare = {path.partition(".")[2] for path in KEYS} - {"mlflow", "text"}
    assert not [name for name in bare if "_" in name and re.search(rf"\b{name}\b", said)]
    assert not re.findall(r"\bwindow(?= words| = )", said)
    assert ">= 0" not in said  # as Spark says of maxIter and stepSize, which may not be 0


@pytest.mark.parametrize(
    "options",
    [{"patience": 2, "heldOutWords": 0}, {"minImprovement": 0.1}, {"maxContexts": 7, "windowSize": 3}],
    ids=str,
)
def test_a_param_that_does_nothing_without_another_is_accepted_as_a_grid_may_have_it(options: dict[str, Any]) -> None:
    """The job refuses the same keys."""
    settings: Any = SkipGram(**options).settings()
    for name, value in options.items():
        section, _, key = KEY_OF[name].partition(".")
        assert getattr(getattr(settings, section), key) == value


@pytest.mark.parametrize("handle", ["error", "keep"])
def test_a_stage_that_follows_knows_the_size_without_a_row(
    handle: str, spark: SparkSession, model: SkipGramModel
) -> None:
    rows = spark.createDataFrame([(None, 1.0), (["apple"], 2.0)], "words array<string>, price double")
    found = model.transform(rows)
    assert found.columns == ["words", "price", "vector"]
    joined = VectorAssembler(inputCols=["vector", "price"], outputCol="joined", handleInvalid=handle)
    assert joined.transform(found.limit(0)).count() == 0
    if handle == "keep":
        assert [len(row.joined) for row in joined.transform(found).collect()] == [17, 17]


def test_a_setting_of_the_other_scheme_is_named(sentences: DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    skipgram = SkipGram(**{**OPTIONS, "maxIter": 1, "scheme": "blocks", "syncsPerEpoch": 4})
    skipgram.fit(sentences)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f'{skipgram.uid}: syncsPerEpoch is not used, as scheme is "blocks"' in said
