"""Large arrays are broadcast with Spark's encryption too."""

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.spark.broadcasts import send

ROOT = Path(__file__).resolve().parents[2]


class Stream:
    """Takes bytes, as that of PySpark with encryption does."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, piece: Any) -> None:
        assert len(piece) >= 0
        self.content += piece


def test_with_encryption_a_value_is_written_as_bytes_and_read_as_it_was() -> None:
    value = (np.arange(100_000), pa.array([f"word{n}" for n in range(20_000)]))
    with pytest.raises(TypeError, match="len"):
        pickle.dump(value, Stream(), protocol=5)
    sent: list[Any] = []
    context: Any = SimpleNamespace(_encryption_enabled=True, broadcast=sent.append)
    send(context, value)
    stream = Stream()
    pickle.dump(sent[0], stream, protocol=5)
    array, words = pickle.loads(stream.content)
    assert np.array_equal(array, value[0])
    assert words.equals(value[1])
    plain: Any = SimpleNamespace(_encryption_enabled=False, broadcast=sent.append)
    send(plain, value)
    assert sent[1] is value


@pytest.mark.slow
def test_a_vocabulary_of_many_words_is_trained_on_with_encryption(tmp_path: Path) -> None:
    program = """
import sys
from pyspark.sql import SparkSession
import spark_w2v
session = SparkSession.builder.master("local[2]").config("spark.io.encryption.enabled", "true").getOrCreate()
rows = session.range(60_000).selectExpr("array(cast(id % 20011 as string), cast(id % 20021 as string)) as text")
for scheme in ("blocks", "replicas"):
    config = {"corpus": {"tokenizer": "none"}, "vocabulary": {"min_count": 1}, "exchange": {"plain": True},
              "training": {"epochs": 1, "dimensions": 8, "scheme": scheme, "partitions": 2}}
    spark_w2v.train(rows, f"{sys.argv[1]}/{scheme}", config=config)
from spark_w2v.commands.all_neighbors import main
sys.exit(main([f"{sys.argv[1]}/blocks", "--to", f"{sys.argv[1]}/near", "--top", "3"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "near" / "_SUCCESS").exists()
