"""The sentences of SEGMENTS."""

from typing import TYPE_CHECKING

import numpy as np

from spark_w2v.text.weights import UNITS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def weighted_sentences(segments: "DataFrame") -> list[tuple[str, float | None]]:
    """Each sentence with its weight, in the order of the segments; None where there are no weights."""
    found: list[tuple[str, float | None]] = []
    for row in segments.orderBy("file", "start", "segment").collect():
        codes, weights = np.frombuffer(row["codes"], "<i4"), np.frombuffer(row["weights"], "<i4")
        at = 0
        for number, length in enumerate(np.frombuffer(row["lengths"], "<i4").tolist()):
            weight = float(weights[number] / UNITS) if weights.size else None
            found.append((" ".join(row["words"][code] for code in codes[at : at + length]), weight))
            at += length
    return found


def sentences(segments: "DataFrame") -> list[str]:
    """The sentences alone."""
    return [sentence for sentence, _ in weighted_sentences(segments)]
