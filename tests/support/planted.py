"""A small corpus in word ids, and its training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from spark_w2v.spark.tables import ENCODED, SEGMENTS
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Settings
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.spellings import packed_words

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


SETTINGS = Settings(
    scheme="blocks",
    partitions=2,
    dimensions=8,
    window=3,
    negatives=2,
    epochs=2,
    learning_rate=0.05,
    slices=1,
    subsample=1e-2,
    noise_exponent=0.75,
    damping=0.1,
    seed=5,
    held_out_words=200,
)

WORDS = 250


def rows_of_text(segments: int = 5, sentences: int = 60) -> list[tuple[Any, ...]]:
    """Rows of ENCODED with words of a Zipf distribution."""
    rng = np.random.default_rng(3)
    share = 1 / np.arange(1, WORDS + 1)
    rows = []
    for segment in range(segments):
        lengths = rng.integers(1, 20, sentences).astype(np.int32)
        ids = rng.choice(WORDS, int(lengths.sum()), p=share / share.sum()).astype(np.int32)
        rows.append((0, 0, segment, ids.tobytes(), lengths.tobytes(), b""))
    return rows


def counts_of(rows: list[tuple[Any, ...]]) -> Any:
    counts = sum(np.bincount(np.frombuffer(row[3], np.int32), minlength=WORDS) for row in rows)
    return np.maximum(counts, 1).astype(np.int64)


def made(
    spark: SparkSession,
    folder: Path,
    settings: Settings,
    slices: int = 2,
    rows: list[tuple[Any, ...]] | None = None,
    **options: Any,
) -> Training:
    rows = rows_of_text() if rows is None else rows
    encoded = spark.createDataFrame(spark.sparkContext.parallelize(rows, slices), ENCODED)
    return Training(encoded, counts_of(rows), settings, folder, **options)


def segments_of(spark: "SparkSession", *counted: dict[str, int]) -> "DataFrame":
    """SEGMENTS that claim to have words this often."""
    rows: list[tuple[Any, ...]] = [
        (
            0,
            0,
            number,
            *packed_words(pa.array(list(counts), pa.string())),
            np.array([*counts.values()], "<i8").tobytes(),
            b"",
            b"",
            b"",
            [number + 1, *[0] * (len(COUNTERS) - 1)],
            [],
        )
        for number, counts in enumerate(counted)
    ]
    return spark.createDataFrame(rows, SEGMENTS)
