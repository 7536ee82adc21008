"""A text whose word counts follow Zipf's law, so that words and vocabulary can be chosen."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.types import Int64Array

LINE = 1000  # words a line: so long that the ends of lines cost few pairs


@cache
def zipf_counts(words: int, vocabulary: int) -> Int64Array:
    """(V,) how often each word occurs: in proportion to 1 / rank, once at least, about W in all; falling."""
    rank = np.arange(1, vocabulary + 1)
    least, most = 0.0, float(words)
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if np.maximum(1, middle / rank).sum() < words else (least, middle)
    return np.maximum(1, np.rint(least / rank)).astype(np.int64)


def write_text(counts: Int64Array, path: Path) -> None:
    """Every word as often as its count says, in random order, LINE words a line."""
    ids = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
    np.random.default_rng(1).shuffle(ids)
    spellings = pa.array([f"w{i}" for i in range(counts.size)])
    with path.open("w") as file:
        for start in range(0, ids.size, LINE * 1000):
            found = spellings.take(pa.array(ids[start : start + LINE * 1000]))
            ends = np.minimum(np.arange(0, len(found) + LINE, LINE), len(found)).astype(np.int32)
            lines = pc.binary_join(pa.ListArray.from_arrays(np.unique(ends), found), " ")
            file.write("\n".join(lines.to_pylist()) + "\n")
