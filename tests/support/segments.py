"""The sentences of SEGMENTS."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.weights import UNITS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def unpacked(row: Any) -> tuple[list[str], list[int]]:
    """The words of a row of SEGMENTS, by the names of its columns, and their counts."""
    ends = np.frombuffer(row["ends"], "<i4").tolist()
    words = [bytes(row["words"][begin:end]).decode() for begin, end in pairwise([0, *ends])]
    return words, np.frombuffer(row["counts"], "<i8").tolist()


OF_GOOD_LINES = ("lines", "words", "sentences", "lines_with_words", "cut_lines")


def rows_of(segments: "DataFrame") -> list[Any]:
    """The rows of SEGMENTS in their order. To sort them Spark would compute them twice, as it draws a sample first."""
    return sorted(segments.collect(), key=lambda row: (row["file"], row["start"], row["segment"]))


def weighted_sentences(segments: "DataFrame") -> list[tuple[str, float | None]]:
    """Each sentence with its weight, in the order of the segments; None where there are no weights."""
    return _sentences_of(rows_of(segments))


def _sentences_of(rows: list[Any]) -> list[tuple[str, float | None]]:
    found: list[tuple[str, float | None]] = []
    for row in rows:
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


def sentences_and_counters(segments: "DataFrame") -> tuple[list[str], dict[str, int]]:
    """The sentences, and the counters of what was skipped or changed that are not 0, of one reading."""
    rows = rows_of(segments)
    sums = np.array([row["counters"] for row in rows], np.int64).reshape(-1, len(COUNTERS)).sum(axis=0).tolist()
    counters = {name: n for name, n in zip(COUNTERS, sums, strict=True) if n and name not in OF_GOOD_LINES}
    return [sentence for sentence, _ in _sentences_of(rows)], counters
