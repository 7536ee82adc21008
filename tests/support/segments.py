"""The sentences of SEGMENTS."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_w2v.text.weights import UNITS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def unpacked(row: Any) -> tuple[list[str], list[int]]:
    """The words of a row of SEGMENTS, by the names of its columns, and their counts."""
    ends = np.frombuffer(row["ends"], "<i4").tolist()
    words = [bytes(row["words"][begin:end]).decode() for begin, end in pairwise([0, *ends])]
    return words, np.frombuffer(row["counts"], "<i8").tolist()


def weighted_sentences(segments: "DataFrame") -> list[tuple[str, float | None]]:
    """Each sentence with its weight, in the order of the segments; None where there are no weights."""
    found: list[tuple[str, float | None]] = []
    for row in segments.orderBy("file", "start", "segment").collect():
        codes, weights = np.frombuffer(row["codes"], "<i4"), np.frombuffer(row["weights"], "<i4")
        words, at = unpacked(row)[0], 0
        for number, length in enumerate(np.frombuffer(row["lengths"], "<i4").tolist()):
            weight = float(weights[number] / UNITS) if weights.size else None
            found.append((" ".join(words[code] for code in codes[at : at + length]), weight))
            at += length
    return found


def sentences(segments: "DataFrame") -> list[str]:
    """The sentences alone."""
    return [sentence for sentence, _ in weighted_sentences(segments)]
