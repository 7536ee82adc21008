"""Fixtures of the tests of reading."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the input is."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"
