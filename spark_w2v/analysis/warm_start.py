"""An earlier run's output → the vectors that a run on new text begins with.

V words of the new run, U of the earlier one, D dimensions.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.errors import OutputError
from spark_w2v.runs import embeddings
from spark_w2v.runs.embeddings import Stored
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.types import Float32Array, Int32Array

WORDS = 1 << 16  # words that go into the digest at a time


class PreviousModel(NamedTuple):
    """A finished run.

    Args:
        words: (U,) strings, unique.
        stored: where its vectors are read from, when they are needed.
        digest: of words and vectors.
    """

    words: pa.StringArray
    stored: Stored
    digest: str


class InitialVectors(NamedTuple):
    """What a run begins with.

    Args:
        rows: word ids (n,) of the new run with their center and context vectors (n, D), some at a time; read from the
            earlier run meanwhile.
        change: what became of the earlier run's words, JSON-able.
    """

    rows: Iterator[tuple[Int32Array, Float32Array, Float32Array]]
    change: dict[str, Any]


def read(output: Path, dimensions: int) -> PreviousModel:
    """The words and vectors of a finished run; all are looked at, some rows of the vectors are held at a time.

    Args:
        dimensions: D of the new run.

    Raises:
        OutputError: it is no finished run, or its vectors have another length.
    """
    stored = embeddings.stored(output)
    if stored.dimensions != dimensions:
        raise OutputError(
            f"--init {output}: its vectors have {stored.dimensions} dimensions and training.dimensions is "
            f"{dimensions}; they must be the same."
        )
    digest = hashlib.sha256()
    for name in ("center", "context"):
        for (rows,) in stored.rows(name):
            digest.update(np.ascontiguousarray(rows).data)
    for start in range(0, len(stored.words), WORDS):
        some = "\0".join(stored.words[start : start + WORDS].to_pylist())
        digest.update(f"\0{some}".encode() if start else some.encode())
    return PreviousModel(stored.words, stored, digest.hexdigest()[:16])


def begin(earlier: PreviousModel, vocabulary: Vocabulary) -> InitialVectors:
    """The vectors of known words as they were, matched by spelling; new ones are left as they begin in any run."""
    words = earlier.words.cast(vocabulary.words.type)
    ids = pc.fill_null(pc.index_in(words, value_set=vocabulary.words), -1).to_numpy()
    known = np.zeros(len(vocabulary), np.bool_)
    known[ids[ids >= 0]] = True
    # A word that is kept without having occurred has vanished from the text all the same.
    absent = vocabulary.counts == 0
    there = int((known & ~absent).sum())
    change = {
        "known": there,
        "new": int((~known).sum()),
        "vanished": len(words) - there,
        "vanished_but_kept": int((known & absent).sum()),
    }
    return InitialVectors(_known_rows(earlier.stored, ids), change)


def _known_rows(stored: Stored, ids: Int32Array) -> Iterator[tuple[Int32Array, Float32Array, Float32Array]]:
    start = 0
    for center, context in stored.rows("center", "context"):
        some = ids[start : start + len(center)]
        known = some >= 0
        yield some[known], center[known], context[known]
        start += len(center)


def summary(output: str, change: dict[str, Any]) -> str:
    """What a user wants to know of the change, in one line.

    Args:
        change: of InitialVectors, and held_out_loss: of the new text, with the vectors as they come.
    """
    kept = ", which stay" if change["vanished_but_kept"] else ", which leave" if change["vanished"] else ""
    loss = "" if change["held_out_loss"] is None else f"; held out {change['held_out_loss']:.4f}"
    return (
        f"starting from {output}: {change['known']:,} known words, {change['new']:,} new, "
        f"{change['vanished']:,} vanished{kept}{loss}"
    )
