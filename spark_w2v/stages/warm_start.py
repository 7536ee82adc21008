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
from numpy.typing import NDArray

from spark_w2v.stages import embeddings
from spark_w2v.stages.embeddings import Stored
from spark_w2v.stages.vocabulary import Vocabulary

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

WORDS = 1 << 16  # words that go into the digest at a time


class Earlier(NamedTuple):
    """A finished run.

    Args:
        words: (U,) strings, unique.
        stored: where its vectors are read from, when they are needed.
        digest: of words and vectors.
    """

    words: pa.StringArray
    stored: Stored
    digest: str


class Begun(NamedTuple):
    """What a run begins with.

    Args:
        rows: word ids (n,) of the new run with their center and context vectors (n, D), some at a time; read from the
            earlier run meanwhile.
        change: what became of the earlier run's words, JSON-able.
    """

    rows: Iterator[tuple[Ints, Floats, Floats]]
    change: dict[str, Any]


def read(output: Path, dimensions: int) -> Earlier:
    """The words and vectors of a finished run; all are looked at, some rows of the vectors are held at a time.

    Args:
        dimensions: D of the new run.

    Raises:
        OutputError: it is no finished run, or its vectors have another length.
    """
    stored = embeddings.stored(output)
    if stored.dimensions != dimensions:
        raise embeddings.OutputError(
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
    return Earlier(stored.words, stored, digest.hexdigest()[:16])


def begin(earlier: Earlier, vocabulary: Vocabulary) -> Begun:
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
    return Begun(_known_rows(earlier.stored, ids), change)


def _known_rows(stored: Stored, ids: Ints) -> Iterator[tuple[Ints, Floats, Floats]]:
    start = 0
    for center, context in stored.rows("center", "context"):
        some = ids[start : start + len(center)]
        known = some >= 0
        yield some[known], center[known], context[known]
        start += len(center)


def summary(output: str, change: dict[str, Any]) -> str:
    """What a user wants to know of the change, in one line.

    Args:
        change: of Begun, and held_out_loss: of the new text, with the vectors as they come.
    """
    kept = ", which stay" if change["vanished_but_kept"] else ", which leave" if change["vanished"] else ""
    loss = "" if change["held_out_loss"] is None else f"; held out {change['held_out_loss']:.4f}"
    return (
        f"starting from {output}: {change['known']:,} known words, {change['new']:,} new, "
        f"{change['vanished']:,} vanished{kept}{loss}"
    )
