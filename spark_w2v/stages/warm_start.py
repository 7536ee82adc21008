"""An earlier run's output → the vectors that a run on new text begins with.

V words of the new run, U of the earlier one, D dimensions.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_w2v.skipgram.parameters import initialise
from spark_w2v.stages import embeddings
from spark_w2v.stages.vocabulary import Vocabulary

Floats = NDArray[np.float32]


class Earlier(NamedTuple):
    """A finished run.

    Args:
        words: (U,) strings, unique.
        center, context: (U, D).
        digest: of all three.
    """

    words: pa.StringArray
    center: Floats
    context: Floats
    digest: str


class Begun(NamedTuple):
    """What a run begins with: (V, D) by word id each, and what became of the earlier run's words, JSON-able."""

    center: Floats
    context: Floats
    change: dict[str, Any]


def read(output: Path, dimensions: int) -> Earlier:
    """The words and vectors of a finished run.

    Args:
        dimensions: D of the new run.

    Raises:
        OutputError: it is no finished run, or its vectors have another length.
    """
    found, context = embeddings.read_both(output)
    if context.shape[1] != dimensions:
        raise embeddings.OutputError(
            f"--init {output}: its vectors have {context.shape[1]} dimensions and training.dimensions is {dimensions}; "
            "they must be the same."
        )
    digest = hashlib.sha256(found.vectors.tobytes())
    digest.update(context.tobytes())
    digest.update("\0".join(found.words.to_pylist()).encode())
    return Earlier(found.words, found.vectors, context, digest.hexdigest()[:16])


def begin(earlier: Earlier, vocabulary: Vocabulary, seed: int) -> Begun:
    """Known words with the vectors that they had, matched by spelling, and new ones as `initialise` makes them."""
    words = vocabulary.words
    place = pc.fill_null(pc.index_in(words, value_set=earlier.words.cast(words.type)), -1).to_numpy()
    known = place >= 0
    center, context = initialise(len(words), earlier.center.shape[1], seed)
    center[known], context[known] = earlier.center[place[known]], earlier.context[place[known]]
    # A word that is kept without having occurred has vanished from the text all the same.
    absent = vocabulary.counts == 0
    there = int((known & ~absent).sum())
    change = {
        "known": there,
        "new": int((~known).sum()),
        "vanished": len(earlier.words) - there,
        "vanished_but_kept": int((known & absent).sum()),
    }
    return Begun(center, context, change)


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
