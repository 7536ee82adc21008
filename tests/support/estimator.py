"""The Estimator on a planted corpus."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from spark_w2v import SkipGramModel
from tests.support.training_job import GROUPS

ROOT = Path(__file__).resolve().parents[2]


OPTIONS: dict[str, Any] = {
    "inputCol": "words", "outputCol": "vector", "vectorSize": 16, "subsample": 0.0, "windowSize": 3, "maxIter": 3,
    "numPartitions": 1,
}  # fmt: skip


def planted_sentences(number: int = 1500, seed: int = 7) -> list[tuple[list[str]]]:
    """Sentences whose words all belong to one group."""
    rng = np.random.default_rng(seed)
    groups = [group.split() for group in GROUPS]
    return [(list(map(str, rng.choice(groups[rng.integers(3)], 8))),) for _ in range(number)]


def vectors_of(model: SkipGramModel) -> dict[str, list[float]]:
    return {row.word: list(row.vector) for row in model.getVectors().collect()}


def speaks_of_the_job(sentence: str) -> list[str]:
    """Return the options, keys and lines of files in a sentence, which a user of the Estimator does not have."""
    return re.findall(r"--\w+|\b(?:corpus|vocabulary|training|exchange|output)\.\w+|\blines?\b", sentence)
