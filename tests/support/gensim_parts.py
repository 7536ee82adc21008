"""Readers and data of gensim. What needs them is skipped where it has no wheel, as for Python 3.14."""

from pathlib import Path
from typing import Any

import pytest


def keyed_vectors() -> Any:
    """Return the class of its vectors."""
    return pytest.importorskip("gensim.models").KeyedVectors


def data(name: str) -> Path:
    """Return the path of a file of its test data."""
    return Path(pytest.importorskip("gensim.test.utils").datapath(name))
