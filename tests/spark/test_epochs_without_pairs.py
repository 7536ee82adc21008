"""Epochs in which subsampling leaves no pair of a small vocabulary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import NoPairsError
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.training import Training
from tests.support.planted import SETTINGS

# Of 100 sentences of two words, of which subsampling keeps one in nine: the pairs of each epoch by the seed.
PAIRS = {("blocks", 9): [0, 0], ("blocks", 23): [0, 4, 4, 0], ("replicas", 23): [0, 4, 2, 2]}


def two_words(spark: SparkSession, folder: Path, scheme: str, seed: int) -> Training:
    ids, lengths = np.tile(np.arange(2, dtype=np.int32), 100), np.full(100, 2, np.int32)
    encoded = spark.createDataFrame([(0, 0, 0, ids.tobytes(), lengths.tobytes(), b"")], ENCODED)
    settings = replace(SETTINGS, scheme=scheme, partitions=1, slices=1, window=2, subsample=1e-3, seed=seed)
    settings = replace(settings, epochs=len(PAIRS[scheme, seed]))
    return Training(encoded, np.array([100, 100]), settings, folder)


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_an_epoch_without_pairs_neither_ends_a_run_nor_changes_a_vector(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    training = two_words(spark, tmp_path, scheme, 23)
    before, pairs = np.array(training.state.context), []
    for progress in training.run():
        if progress.metrics is not None:
            pairs.append(progress.metrics["pairs"])
            assert (progress.metrics["loss"] is None) == (pairs[-1] == 0)
            assert np.array_equal(training.state.context, before) == (pairs[-1] == 0)
            before = np.array(training.state.context)
    assert pairs == PAIRS[scheme, 23]
    training.state.check_pairs()


def test_a_resumed_run_knows_that_epochs_before_had_pairs(spark: SparkSession, tmp_path: Path) -> None:
    first, second = two_words(spark, tmp_path / "1", "blocks", 23), two_words(spark, tmp_path / "2", "blocks", 23)
    for progress in first.run():
        if progress.metrics is not None and progress.metrics["epoch"] == 3:
            break
    second.resume(first.state.position(), first.state.parameters)
    assert [progress.metrics["pairs"] for progress in second.run() if progress.metrics] == [0]
    second.state.check_pairs()


def test_a_run_without_a_pair_in_any_epoch_is_refused_at_its_end(spark: SparkSession, tmp_path: Path) -> None:
    training = two_words(spark, tmp_path, "blocks", 9)
    assert [progress.metrics["pairs"] for progress in training.run() if progress.metrics] == [0, 0]
    with pytest.raises(NoPairsError, match=r"left none in 2 epochs\. Set vocabulary\.subsample and training"):
        training.state.check_pairs()
