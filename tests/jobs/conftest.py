"""A small finished output, and files of pairs and questions about its words."""

import signal
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v import job
from tests.support.evaluation import finish


@pytest.fixture
def job_here(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that start Spark run in this process, and in a session that goes on afterwards."""
    monkeypatch.setattr(job, "start_session", lambda: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    words = ["king", "queen", "man", "woman", "\x1b[31m", "日本"]
    vectors = [[5, 1, 0], [5, 9, 0], [1, 1, 0], [1, 9, 0], [0, 0, 1], [0, 1, 9]]
    return finish(tmp_path / "out", words, np.array(vectors, np.float32))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t7\nman\twoman\t8\nking\twoman\t2\nking\tx\t1\nnonsense\n")
    (tmp_path / "questions.txt").write_text(": fam\x1b[2Jily\nman woman king queen\nman woman king x\n")
    return str(tmp_path / "pairs.tsv"), str(tmp_path / "questions.txt")
