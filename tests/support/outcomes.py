"""The job on given files, and the result that a user sees."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.embeddings import read, read_context
from tests.support.training_job import train_here

GOOD = b"apple pear plum cherry\nsaw hammer chisel plane\n" * 300
NOT_COUNTED = ("vocabulary_digest", "first_bad_lines")
QUICK = {
    "training.dimensions": 8, "training.epochs": 1, "training.partitions": 1, "training.window": 2,
    "vocabulary.subsample": 0, "vocabulary.min_count": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The visible result of a run.

    Args:
        code: the exit code.
        said: errors that were printed, one line each.
        corpus: of run.json, without what is 0; empty where nothing was published.
        words: of the output.
    """

    code: int
    said: list[str]
    corpus: dict[str, Any]
    words: list[str]


def job_of(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs the job on the files of tmp_path/in, in the session of all tests.

    It checks what must hold whatever these files are.
    """

    def train(*options: str, **keys: Any) -> Outcome:
        named = {key.replace("__", "."): value for key, value in keys.items()}
        sets = [part for key, value in (QUICK | named).items() for part in ("--set", f"{key}={value}")]
        output = tmp_path / "out"
        code = train_here(spark, ["--input", tmp_path / "in", "--output", output, *sets, *options])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert "Warning" not in printed.err
        said = [line for line in printed.err.splitlines() if line.startswith("train.py: ")]
        if code:
            assert len(said) == 1, printed.err
            assert not output.exists() or "--overwrite" in options
            return Outcome(code, said, {}, [])
        assert said == []
        found = read(output)
        assert np.isfinite(found.vectors).all()
        assert np.isfinite(read_context(output)).all()
        assert np.abs(found.vectors).max() > 0
        # As a consumer reads it: no word is taken for a missing value.
        frame = pd.read_parquet(output / "embeddings")
        assert frame["word"].notna().all()
        assert frame["word"].tolist() == found.words.to_pylist()
        facts = json.loads((output / "run.json").read_text())
        assert facts["corpus"]["vocabulary"] == len(frame)
        corpus = {name: value for name, value in facts["corpus"].items() if value and name not in NOT_COUNTED}
        return Outcome(code, said, corpus, found.words.to_pylist())

    (tmp_path / "in").mkdir()
    return train
