"""Vectors → WordSim-353, SimLex-999, analogies, on the files that gensim's wheel carries."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from gensim.models import KeyedVectors
from gensim.test.utils import datapath

from spark_w2v.types import Float32Array

RESTRICT_VOCAB = 30_000

Vectors = tuple[list[str], Float32Array]


class Quality(NamedTuple):
    """In hundredths: Spearman's rank correlation, and the share of the answerable analogies that are right.

    Args:
        questions: analogies whose words all have vectors.
    """

    wordsim353: float | None
    simlex999: float | None
    analogies: float | None
    questions: int


def evaluate(vectors: Vectors, counts: Mapping[str, int]) -> Quality:
    """Evaluate among the most frequent words, the same for each system."""
    words, rows = vectors
    order = sorted(range(len(words)), key=lambda i: (-counts.get(words[i], 0), words[i]))
    keyed = KeyedVectors(rows.shape[1])
    keyed.add_vectors([words[i] for i in order], rows[order])
    _, sections = keyed.evaluate_word_analogies(datapath("questions-words.txt"), restrict_vocab=RESTRICT_VOCAB)
    right, wrong = len(sections[-1]["correct"]), len(sections[-1]["incorrect"])
    return Quality(
        _correlation(keyed, "wordsim353.tsv"),
        _correlation(keyed, "simlex999.txt"),
        100 * right / (right + wrong) if right + wrong else None,
        right + wrong,
    )


def _correlation(keyed: Any, file: str) -> float | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of too few pairs, for which there is a number or None
            _, spearman, _ = keyed.evaluate_word_pairs(datapath(file), restrict_vocab=RESTRICT_VOCAB)
    except ValueError:  # no pair has vectors
        return None
    found = 100 * float(spearman[0])
    return found if math.isfinite(found) else None
