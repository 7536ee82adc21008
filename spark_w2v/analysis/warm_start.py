"""A previous run's output → the initial vectors of a run on new text.

V words of the new run, U of the previous one, D dimensions.
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
from spark_w2v.runs.embeddings import StoredEmbeddings
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.types import Float32Array, Int32Array

WORDS = 1 << 16  # words that go into the digest at a time


class PreviousModel(NamedTuple):
    """A finished run.

    Args:
        words: (U,) strings, unique.
        embeddings: its vectors, read when they are needed.
        digest: of words and vectors.
    """

    words: pa.StringArray
    embeddings: StoredEmbeddings
    digest: str


class InitialVectors(NamedTuple):
    """The vectors that a run begins with.

    Args:
        rows: word ids (n,) of the new run with their center and context vectors (n, D) at a time; read from the
            previous run meanwhile.
        change: how many words are known, new and gone; JSON-able.
    """

    rows: Iterator[tuple[Int32Array, Float32Array, Float32Array]]
    change: dict[str, Any]


def read(output: Path, dimensions: int) -> PreviousModel:
    """Read a finished run: all its words, and its vectors once, a batch at a time, for the digest.

    Args:
        dimensions: D of the new run.

    Raises:
        OutputError: it is not a finished run, or its vectors have another length.
    """
    found = embeddings.open_embeddings(output)
    if found.dimensions != dimensions:
        raise OutputError(
            f"--init {output}: its vectors have {found.dimensions} dimensions and training.dimensions is "
            f"{dimensions}; they must be the same."
        )
    digest = hashlib.sha256()
    for name in ("center", "context"):
        for (rows,) in found.chunks(name):
            digest.update(np.ascontiguousarray(rows).data)
    for start in range(0, len(found.words), WORDS):
        some = "\0".join(found.words[start : start + WORDS].to_pylist())
        digest.update(f"\0{some}".encode() if start else some.encode())
    return PreviousModel(found.words, found, digest.hexdigest()[:16])


def begin(previous: PreviousModel, vocabulary: Vocabulary) -> InitialVectors:
    """Return the vectors of known words, matched by spelling; new words start as in any run."""
    words = previous.words.cast(vocabulary.words.type)
    ids = pc.fill_null(pc.index_in(words, value_set=vocabulary.words), -1).to_numpy()
    known = np.zeros(len(vocabulary), np.bool_)
    known[ids[ids >= 0]] = True
    # A word that is kept without an occurrence has vanished from the text, too.
    absent = vocabulary.counts == 0
    known_words = int((known & ~absent).sum())
    change = {
        "known": known_words,
        "new": int((~known).sum()),
        "vanished": len(words) - known_words,
        "vanished_but_kept": int((known & absent).sum()),
    }
    return InitialVectors(_known_rows(previous.embeddings, ids), change)


def _known_rows(stored: StoredEmbeddings, ids: Int32Array) -> Iterator[tuple[Int32Array, Float32Array, Float32Array]]:
    start = 0
    for center, context in stored.chunks("center", "context"):
        some = ids[start : start + len(center)]
        known = some >= 0
        yield some[known], center[known], context[known]
        start += len(center)


def summary(output: str, change: dict[str, Any]) -> str:
    """Describe the change in one line for the log.

    Args:
        change: of InitialVectors, and held_out_loss: of the new text, with the vectors as they come.
    """
    kept = ", which stay" if change["vanished_but_kept"] else ", which leave" if change["vanished"] else ""
    loss = "" if change["held_out_loss"] is None else f"; held out {change['held_out_loss']:.4f}"
    return (
        f"starting from {output}: {change['known']:,} known words, {change['new']:,} new, "
        f"{change['vanished']:,} vanished{kept}{loss}"
    )
