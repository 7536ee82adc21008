"""A small output, written with every kind of word and number."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from spark_w2v.runs import embedding_writer
from spark_w2v.runs.embedding_writer import Facts, write

ROOT = Path(__file__).resolve().parents[2]


STRANGE = ["NULL", "nan", "</s>", '"', "a\tb", "e\u0301", "Straße", "हिन्दी", "🚀", "", " ", "it's", "שלום", "0"]


FACTS: Facts = {"seed": 1, "loss": 2.25, "corpus": "süß"}


class Parameters(NamedTuple):
    words: pa.StringArray
    counts: NDArray[np.int64]
    center: NDArray[np.float32]
    context: NDArray[np.float32]


def parameters(rows: int = 40, dimensions: int = 6, seed: int = 1) -> Parameters:
    """Words that break formats, and every kind of finite float32: zeros of both signs, subnormal, the largest."""
    rng = np.random.default_rng([seed, rows, dimensions])
    words = [*STRANGE, *(f"word{i}" for i in range(rows))][:rows]
    counts = np.sort(rng.integers(1, 2**40, rows))[::-1].copy()
    bits = rng.integers(0, 2**32, (2, rows, dimensions), np.uint32).view(np.float32)
    center, context = np.where(np.isfinite(bits), bits, np.float32(-0.0))
    return Parameters(pa.array(words, pa.string()), counts, center, context)


def finish(output: Path, given: Parameters) -> Path:
    write(output, *given, FACTS)
    (output / "_SUCCESS").touch()
    return output


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 rows of 6 dimensions a row group, 2 row groups a file."""
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 3 * 6 * 4)
    monkeypatch.setattr(embedding_writer, "FILE_BYTES", 2 * 3 * 6 * 4)


def bits(matrix: Any) -> list[list[int]]:
    """Compares floats as what they are stored as: -0.0 differs from 0.0."""
    found: list[list[int]] = np.asarray(matrix, np.float32).view(np.uint32).tolist()
    return found
