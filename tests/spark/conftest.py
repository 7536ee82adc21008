"""Fixtures of the tests of reading."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from spark_w2v.spark import corpus, session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the input is."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that read have a time zone where 02:00 to 03:00 of 2024-03-31 is missing."""

    def made(caller: SparkSession) -> SparkSession:
        own = reading_session(caller)
        own.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
        return own

    reading_session = session.reading_session
    monkeypatch.setattr(corpus, "reading_session", made)
