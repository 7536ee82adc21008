"""A previous run's output, or vectors of another program → the initial vectors of a run on new text.

V words of the new run, U of the previous one, D dimensions.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.errors import OutputError, StorageError, UserError
from spark_w2v.given.rare_windows import read_windows
from spark_w2v.given.vector_files import GIVE, open_vectors
from spark_w2v.runs import embeddings
from spark_w2v.runs.embedding_files import damage_named
from spark_w2v.runs.ids import directory_of
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.skipgram.parameters import LONGEST_ROW, divergence
from spark_w2v.storage.files import ABSENT, exists, raise_if_passing
from spark_w2v.storage.store import scheme_of
from spark_w2v.text.arrow_arrays import composed, once
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.messages import counted
from spark_w2v.text.rare_windows import composed_windows, digest_windows
from spark_w2v.types import BoolArray, Float32Array, Int32Array, Int64Array

log = logging.getLogger("spark_w2v")

LEAST_KNOWN = 100  # words of which at least one is known, if they are spelled as in the text
WORDS = 1 << 16  # words that go into the digest at a time


class PreviousModel(NamedTuple):
    """Words and vectors that were there before.

    Args:
        words: (U,) strings, unique; null for a row that is left out.
        dimensions: D.
        chunks: iterates over its center and context vectors, (n, D) each, which are read when they are needed.
        digest: of all.
        trained: (U,) occurrences that the vectors were trained on; None where that is not known.
        windows: WINDOWS of rare words; None where none were kept, or they are not wanted.
    """

    words: pa.StringArray
    dimensions: int
    chunks: Callable[[], Iterator[tuple[Float32Array, ...]]]
    digest: str
    trained: Int64Array | None = None
    windows: pa.Table | None = None

    @property
    def known(self) -> pa.StringArray:
        """The words without those that are left out."""
        return self.words.drop_null()


class InitialVectors(NamedTuple):
    """The vectors that a run begins with.

    Args:
        rows: word ids (n,) of the new run with their center and context vectors (n, D) at a time; read from the
            previous run meanwhile.
        change: how many words are known, new and gone; JSON-able.
        is_known: (V,) whether a word of the new run has vectors.
        trained: (V,) occurrences that the vectors were trained on, as far as that is known; 0 for new words.
    """

    rows: Iterator[tuple[Int32Array, Float32Array, Float32Array]]
    change: dict[str, Any]
    is_known: BoolArray
    trained: Int64Array


def locate(place: str) -> Path:
    """Return the directory of a run, which is fetched from a store, or a file of vectors.

    Raises:
        OutputError: there is nothing.
        UserError, StorageError: of a store.
    """
    check_place(place)
    if is_local(place):
        path = local_path(place)
        with damage_named(path):
            if not exists(path):
                raise OutputError(f"{place}: no such file or directory; {GIVE}.")
        return directory_of(place) if path.is_dir() else path
    try:
        return directory_of(place)
    except (UserError, StorageError) as error:
        sentence = str(error).removesuffix(".")
        raise type(error)(f"{sentence}; if it is a file of vectors, copy it to this host.") from None


def check_place(place: str) -> None:
    """Refuse what no store is, before Hadoop is asked.

    Raises:
        OutputError: it is a page of the web.
    """
    if scheme_of(place) in ("http", "https"):
        raise OutputError(f"{place}: is not read from the web; download it, and give the file.")


def read(
    place: str, dimensions: int | None = None, with_windows: bool = False, is_composed: bool = False
) -> PreviousModel:
    """Read a finished run or a file of vectors: all its words, and its vectors once, a batch at a time.

    The context vectors of a file, which has none, are zeros, as those of an untrained model.

    Args:
        place: of the output, or of a file of this host.
        dimensions: D of the new run; None where any will do.
        with_windows: whether the windows of rare words are read, too.
        is_composed: the new text is brought to Unicode's NFC, as all tokenizers do it, so the words are, too.

    Raises:
        OutputError: it is neither, or its vectors have other dimensions, or are too long to be trained.
    """
    path = locate(place)
    if path.exists() and not path.is_dir():
        file = open_vectors(path, math.inf if dimensions is None else LONGEST_ROW)
        _check_dimensions(place, file.dimensions, dimensions)
        words = once(composed(file.words)) if is_composed else file.words
        if left_out := words.null_count:
            log.warning("%s: %s left out, not UTF-8, empty or there before", place, counted(left_out, "word"))
        return PreviousModel(words, file.dimensions, file.chunks, file.digest)
    found = embeddings.open_embeddings(path)
    _check_dimensions(place, found.dimensions, dimensions)
    digest, diverged = hashlib.sha256(), None
    for name in ("center", "context"):
        for (rows,) in found.chunks(name):
            if dimensions is not None:  # of a run that trains
                diverged = diverged or divergence(rows)
            digest.update(np.ascontiguousarray(rows).data)
    if diverged:  # and not damaged, which would have been noticed by now
        raise OutputError(f"--init {place}: its training diverged, as {diverged}; give the output of another run.")
    for start in range(0, len(found.words), WORDS):
        some = "\0".join(found.words[start : start + WORDS].to_pylist())
        digest.update(f"\0{some}".encode() if start else some.encode())
    if found.trained is not None:
        digest.update(np.ascontiguousarray(found.trained, "<i8").data)
    windows = _windows(path, place) if with_windows else None
    if windows is not None:
        digest.update(digest_windows(windows))
        windows = composed_windows(windows) if is_composed else windows
    return PreviousModel(
        once(composed(found.words)) if is_composed else found.words,
        found.dimensions,
        lambda: found.chunks("center", "context"),
        digest.hexdigest()[:16],
        found.trained,
        windows,
    )


def _windows(path: Path, place: str) -> pa.Table | None:
    """The windows of rare words of a finished run; None where there are none, with a warning where the run kept some.

    Raises:
        OutputError: they are not those of the run.
        StorageError: it cannot be known now.
    """
    windows, kept = read_windows(path), None
    try:
        kept = int(json.loads((path / "run.json").read_text(encoding="utf-8"))["corpus"]["kept_windows"])
    except (OSError, ValueError, KeyError, TypeError) as error:  # runs without rare_windows do not say
        raise_if_passing(f"{path}/run.json", error, ABSENT)
    if windows is None and kept:
        log.warning("%s: has no rare_windows/, so %s that the run kept will not count", place, counted(kept, "window"))
    elif windows is not None and kept not in (None, len(windows)):
        raise OutputError(
            f"{place}: its rare_windows/ has {len(windows):,} windows and the run kept {kept:,}; copy the output "
            "again, or train again."
        )
    return windows


def _check_dimensions(place: str, found: int, needed: int | None) -> None:
    if needed is not None and found != needed:
        raise OutputError(
            f"--init {place}: its vectors have {found} dimensions and training.dimensions is {needed}; they must be "
            "the same."
        )


def begin(previous: PreviousModel, vocabulary: Vocabulary) -> InitialVectors:
    """Return the vectors of known words, matched by spelling; new words start as in any run."""
    words = previous.words.cast(vocabulary.words.type)
    ids = pc.fill_null(pc.index_in(words, value_set=vocabulary.words), -1).to_numpy()
    known = np.zeros(len(vocabulary), np.bool_)
    known[ids[ids >= 0]] = True
    trained = np.zeros(len(vocabulary), np.int64)
    if previous.trained is not None:
        trained[ids[ids >= 0]] = previous.trained[ids >= 0]
    # A word that is kept without an occurrence has vanished from the text, too.
    absent = vocabulary.counts == 0
    known_words = int((known & ~absent).sum())
    change = {
        "known": known_words,
        "new": int((~known).sum()),
        "vanished": len(words) - words.null_count - known_words,
        "vanished_but_kept": int((known & absent).sum()),
    }
    return InitialVectors(_known_rows(previous.chunks(), ids), change, known, trained)


def _known_rows(
    chunks: Iterator[tuple[Float32Array, ...]], ids: Int32Array
) -> Iterator[tuple[Int32Array, Float32Array, Float32Array]]:
    start = 0
    for center, context in chunks:
        some = ids[start : start + len(center)]
        known = some >= 0
        yield some[known], center[known], context[known]
        start += len(center)


def warning(output: str, change: dict[str, Any]) -> str | None:
    """Return a warning where the words are hardly those of the text; None where they are.

    Args:
        change: of InitialVectors.
    """
    known, new, vanished = (change[name] for name in ("known", "new", "vanished"))
    if known * LEAST_KNOWN >= known + min(new, vanished):
        return None
    return (
        f"--init {output}: {known:,} of its {counted(known + vanished, 'word')} are in the vocabulary of "
        f"{known + new:,}; check that they are spelled as in the text, so in lower case with corpus.lower_case"
    )


def summary(output: str, change: dict[str, Any]) -> str:
    """Describe the change in one line for the log.

    Args:
        change: of InitialVectors; induced: how many new words begin with vectors from their contexts; and
            held_out_loss: of the new text, with the vectors as they come.
    """
    kept = ", which stay" if change["vanished_but_kept"] else ", which leave" if change["vanished"] else ""
    induced = f" ({change['induced']:,} of them from their contexts)" if change["induced"] else ""
    loss = "" if change["held_out_loss"] is None else f"; held out {change['held_out_loss']:.4f}"
    return (
        f"starting from {output}: {change['known']:,} known words, {change['new']:,} new{induced}, "
        f"{change['vanished']:,} vanished{kept}{loss}"
    )
