"""Visible parts of a fit: its bar, its summary, its counts, and what may end it."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml.feature import Word2Vec
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v.errors import UserError
from tests.support.estimator import OPTIONS, planted_sentences


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(planted_sentences(), "words array<string>").persist()


@pytest.fixture(scope="module")
def fitted(frame: DataFrame) -> SkipGramModel:
    """A model of the sentences; to look at only."""
    return SkipGram(**OPTIONS, heldOutWords=500).fit(frame)


def test_a_summary_tells_of_every_epoch_and_is_saved_with_the_model(fitted: SkipGramModel, tmp_path: Path) -> None:
    model = fitted
    summary = model.summary
    assert model.hasSummary
    assert len(summary.losses) == len(summary.heldOutLosses) == summary.totalIterations == 3
    assert summary.losses == summary.objectiveHistory
    first, *_, last = summary.losses
    assert first is not None
    assert last is not None
    assert first > last > 0
    assert all(loss is not None and loss > 0 for loss in summary.heldOutLosses)
    assert summary.words == sum(metrics["words"] for metrics in summary.epochs) > 0
    assert summary.seconds > 0
    assert summary.stopped is None
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = SkipGramModel.load(str(tmp_path / "model"))
    assert loaded.summary.as_dict() == summary.as_dict()
    assert loaded.getVocabulary().collect() == model.getVocabulary().collect()


def test_a_model_of_an_earlier_version_has_no_summary(fitted: SkipGramModel, tmp_path: Path) -> None:
    fitted.write().save(str(tmp_path / "model"))
    (file,) = (tmp_path / "model" / "metadata").glob("part-*")
    metadata = json.loads(file.read_text())
    del metadata["summary"]
    file.write_text(json.dumps(metadata) + "\n")
    for checksum in file.parent.glob(".*.crc"):
        checksum.unlink()
    loaded = SkipGramModel.load(str(tmp_path / "model"))
    assert not loaded.hasSummary
    with pytest.raises(UserError, match="no summary"):
        _ = loaded.summary


def test_the_vocabulary_has_the_counts_of_the_text(frame: DataFrame, fitted: SkipGramModel) -> None:
    model = fitted
    expected: dict[str, int] = {}
    for row in frame.collect():
        for word in row.words:
            expected[word] = expected.get(word, 0) + 1
    found = model.getVocabulary()
    assert found.columns == ["word", "count"]
    assert {row.word: row["count"] for row in found.collect()} == expected
    assert model.getVectors().columns == ["word", "vector"]
    with_counts = model.getVectors(counts=True)
    assert with_counts.columns == ["word", "vector", "count"]
    assert {row.word: row["count"] for row in with_counts.collect()} == expected


@pytest.mark.slow
def test_a_fit_shows_a_bar_and_a_line_per_epoch_on_request(
    frame: DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = SkipGram(**OPTIONS)
    stage.fit(frame)
    assert "training" not in capsys.readouterr().err  # a pipe
    stage.setProgress(True).fit(frame)
    shown = capsys.readouterr().err
    assert shown.count("█") > 3
    assert "counting the words" in shown


def test_a_callback_sees_every_epoch_and_may_end_the_fit(frame: DataFrame) -> None:
    seen: list[int] = []

    def callback(metrics: Mapping[str, Any]) -> bool:
        seen.append(metrics["epoch"])
        return bool(metrics["epoch"] == 2)

    model = SkipGram(**OPTIONS).setCallbacks([callback]).fit(frame)
    assert seen == [1, 2]
    assert model.summary.totalIterations == 2
    assert model.summary.stopped == "after epoch 2: a callback asked for it"


def test_patience_ends_a_fit_on_the_held_out_loss(frame: DataFrame) -> None:
    options = {**OPTIONS, "maxIter": 30, "patience": 1, "minImprovement": 0.2, "heldOutWords": 500}
    model = SkipGram(**options).fit(frame)
    assert 1 < model.summary.totalIterations < 30
    assert str(model.summary.stopped).endswith("no lower held-out loss in 1 epochs (patience)")
    losses = [loss for loss in model.summary.heldOutLosses if loss is not None]
    assert losses[-1] >= 0.8 * min(losses[:-1])
    assert all(later < 0.8 * earlier for earlier, later in itertools.pairwise(losses[:-1]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vectorSize": 0}, "SkipGram.vectorSize: vectorSize = 0 is out of range; it must be at least 1."),
        ({"stepSize": 2.0}, "stepSize = 2.0"),
        ({"scheme": "block"}, 'scheme = "block"'),
        ({"seed": 2**63}, "seed = "),
        ({"patience": -1}, "patience = -1"),
    ],
)
def test_a_param_out_of_its_range_is_refused_when_it_is_given(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        SkipGram(**options)
    assert says in str(refused.value)
    with pytest.raises(UserError):
        SkipGram().setParams(**options)
    ((name, value),) = options.items()
    with pytest.raises(UserError):
        getattr(SkipGram(), f"set{name[0].upper()}{name[1:]}")(value)


def test_the_last_rate_is_compared_with_the_first_one_of_the_same_stage() -> None:
    assert SkipGram(lastStepSize=0.1, stepSize=0.5).settings().training.last_learning_rate == 0.1
    with pytest.raises(UserError, match=r"= 0\.1 is above"):
        SkipGram(lastStepSize=0.1, stepSize=0.05).settings()
    with pytest.raises(UserError, match=r"lastStepSize = -0\.1"):
        SkipGram(lastStepSize=-0.1)


@pytest.mark.slow
def test_an_unknown_word_raises_what_mllibs_does_too(spark: SparkSession, frame: DataFrame) -> None:
    models = Word2Vec(inputCol="words", vectorSize=4, maxIter=1).fit(frame), SkipGram(**OPTIONS).fit(frame)
    for model in models:
        caught = None
        try:
            model.findSynonyms("aple", 1)
        except Exception as error:
            caught = error
        kinds = {kind.__name__ for kind in type(caught).__mro__}
        assert "Py4JJavaError" in kinds
        assert "not in vocabulary" in str(getattr(caught, "java_exception", None) or caught)
