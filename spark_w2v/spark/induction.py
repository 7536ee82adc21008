"""ENCODED → vectors of words that have none, from the contexts in which they occur.

Tasks sum the vectors of the contexts, in whole numbers, so that the sums depend on no partitioning. A task holds
SUMS_BYTES of sums at most: with more words, the text is gone through several times.

V words, D dimensions.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F

from spark_w2v.skipgram.induction import (
    HELD,
    ContextVectors,
    context_sums,
    fit_map,
    means_of,
    weight_units,
)
from spark_w2v.skipgram.nearest_rows import unit_rows
from spark_w2v.skipgram.one_thread import one_blas_thread
from spark_w2v.skipgram.sampling import INDUCTION, generator
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.memory import PYTHON, check_task, given_by
from spark_w2v.spark.vocabulary import longest_sentence
from spark_w2v.text.encoding import segment_of, segments_of
from spark_w2v.text.messages import counted
from spark_w2v.types import BoolArray, Float32Array, Int32Array, Int64Array

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame

    from spark_w2v.runs.embedding_writer import Rows

log = logging.getLogger("spark_w2v")

FIT_WORDS = 6000  # known words that the map is fitted on
LEAST_FIT_COUNT = 20  # occurrences of such a word
RARE_FIT_COUNTS = range(5, 20)  # the same where trained vectors are turned: means of a few contexts have another map
FIT_EACH, RARE_FIT_EACH = 2, 10  # words for each dimension: with 2, vectors that are turned are not always better
# Occurrences of a word whose vectors are half as long as the map says. Trained vectors of rare words are short as well,
# and a long one, of which a few contexts say little, would take long to turn.
SHRUNK_TO_HALF = 20
SUMS_BYTES = 64 << 20  # of sums in a task
CONTEXT_BYTES = 64 << 20  # of vectors of contexts, sent to each task; rarer words are no contexts
CHUNK_BYTES = 32 << 20  # of the vectors of the words of some whole sentences, whose contexts are summed at a time
WORD_BYTES = 36  # of a number of such a vector: as it is sent, in 64 bits, in the sums, and those as they are added
PAIR_BYTES = 64  # of a word and a context: row, column and weight, apart and joined
RECORD_BYTES = 4 << 20  # of sums that are shuffled together
WIDE_WINDOW = 25  # the largest reach where a context is the whole sentence
ROWS = 1 << 16  # of vectors that are read at a time
MANY_PASSES = 5  # over the text, so many that a user should know
SUMS = "part int, sums binary"
SUMS_ARROW = pa.schema([("part", pa.int32()), ("sums", pa.binary())])


class Induced(NamedTuple):
    """Words that got vectors.

    Args:
        words: (n,) ids.
        center, context: (n, D); if `rare`, center has directions, and context no columns.
    """

    words: Int64Array
    center: Float32Array
    context: Float32Array


def _begin_at_random(reason: str) -> None:
    log.warning("new words begin with random vectors: %s", reason)


def induce(
    encoded: "DataFrame",
    counts: Int64Array,
    known: BoolArray,
    vectors: "tuple[Rows, Rows]",
    keep: Float32Array,
    window: int,
    shrinks: bool,
    seed: int,
    fewer: str = "leave new words at random (vocabulary.induce = false), or rare ones out (vocabulary.min_count)",
    rare: bool = False,
    too_few: Callable[[str], None] = _begin_at_random,
) -> Iterator[Induced]:
    """Yield vectors of the words that have none and occur, a part of them at a time.

    Args:
        encoded: persisted by the caller; gone through once, or more often with many words.
        counts: (V,) occurrences.
        known: (V,) whether a word has vectors.
        vectors: center and context vectors, (V, D) each, by word id.
        keep: (V,) probability that an occurrence is trained on.
        window: largest reach; 0 for the whole sentence.
        shrinks: whether a reach is drawn, and not always the window.
        seed: draws the words that the map is fitted on.
        fewer: what a user can do to have fewer new words.
        rare: whether the map is fitted on rare words alone. The words have vectors that are turned; the result is the
            sum of two directions of a center vector, which the contexts and the word's own context vector say.
        too_few: gets a clause where there are too few words to fit the map on; if it returns, there are no vectors. Not
            called if `rare`.

    Raises:
        NotEnoughMemoryError: a task does not fit.
    """
    dimensions = vectors[0].shape[1]
    new = np.flatnonzero(~known & (counts > 0))
    reason = why_none(counts, known, dimensions, rare)
    # Before anything is trained, for what is turned after the training, too: it has tasks of the same size, and a run
    # must not end there because workers that it has itself started have taken memory.
    if not rare and None in (reason, why_none(counts, known, dimensions, rare=True)):
        given = given_by(encoded.sparkSession.sparkContext)
        check_task(task_bytes(len(counts), dimensions), given, f"{fewer}, or take fewer tasks at a time")
    if reason is not None:
        if not rare:
            too_few(reason)
        return
    window, shrinks = (window, shrinks) if window else (WIDE_WINDOW, False)
    columns = dimensions + 1
    encoded.sparkSession.sparkContext.setJobDescription("new words: summing the contexts in which they occur")
    frequent = slice(0, min(len(counts), CONTEXT_BYTES // (4 * columns)))
    # Vectors that another program wrote come without those of contexts.
    of_contexts = vectors[1][frequent]
    if not of_contexts.any():
        of_contexts = vectors[0][frequent]
    weights = np.where(known[frequent], keep[frequent], np.float32(0))
    sent = ContextVectors.of(of_contexts, weights)
    can_be_fitted = _can_be_fitted(counts, known, rare)
    most = sent.most_occurrences(window, shrinks)
    if (counts[can_be_fitted | ~known] > most).any():
        most = sent.most_occurrences(window, shrinks, longest_sentence(encoded))  # which a wide window reaches past
    is_exact = counts <= most
    if (reason := why_none(counts, known & is_exact, dimensions, rare)) is not None:
        if not rare:
            too_few(
                f"{reason}; words that occur more than {most:,} times do not count, as their sums have no room in 64 "
                f"bits, so lower training.window ({window:,})"
            )
        return
    if not is_exact[new].all():
        log.warning(
            "%s get no vectors from their contexts, as they occur more than %s times: too often for a sum in 64 bits",
            counted(int((~is_exact[new]).sum()), "new word"), f"{most:,}",
        )  # fmt: skip
        new = new[is_exact[new]]
    fit = np.flatnonzero(can_be_fitted & is_exact)
    if fit.size > FIT_WORDS:
        fit = np.sort(generator(seed, INDUCTION).choice(fit, FIT_WORDS, replace=False))
    contexts = send(encoded.sparkSession.sparkContext, sent)
    size = max(1, SUMS_BYTES // (8 * columns))
    every = np.concatenate([fit, new])
    units = weight_units(most, int(counts[every].max(initial=1)))
    if (passes := -(-every.size // size)) >= MANY_PASSES:
        log.warning(
            "%s get vectors from their contexts, in %d passes over the text; to have fewer, %s",
            counted(new.size, "new word"), passes, fewer,
        )  # fmt: skip
    of_fit: list[Int64Array] = []
    matrix = None
    try:
        for start in range(0, every.size, size):
            words = every[start : start + size]
            sums = _sums(encoded, words, len(counts), contexts, columns, window, shrinks, units)
            fitted = min(max(0, fit.size - start), words.size)
            if fitted:
                of_fit.append(sums[:fitted].copy())  # a view would keep the sums of a whole pass
            words, sums = words[fitted:], sums[fitted:]
            if start + size < fit.size or not words.size:
                continue
            with one_blas_thread():  # with more it adds in another order
                if matrix is None:
                    known_sums = np.concatenate(of_fit)
                    has = known_sums[:, -1] > 0
                    center, context = (_rows_of(one, fit[has]).astype(np.float64) for one in vectors)
                    target = center if rare else np.concatenate([center, context], axis=1)
                    matrix = fit_map(means_of(known_sums[has]), target, counts[fit[has]])
                    if rare:
                        of_own = fit_map(context, center, counts[fit[has]])
                has = sums[:, -1] > 0
                if rare:
                    found = unit_rows(means_of(sums[has]) @ matrix)
                    found += unit_rows(_rows_of(vectors[1], words[has]) @ of_own)
                else:
                    share = counts[words[has]] / (counts[words[has]] + SHRUNK_TO_HALF)
                    found = means_of(sums[has]) @ matrix * share[:, None]
                both = found.astype(np.float32)
            yield Induced(words[has], both[:, :dimensions], both[:, dimensions:])
    finally:
        contexts.destroy()


def task_bytes(words: int, dimensions: int) -> int:
    """Return the memory of a task, whatever the window.

    Args:
        words, dimensions: V, D.
    """
    sums = min(SUMS_BYTES, 8 * (dimensions + 1) * words)
    contexts = min(CONTEXT_BYTES, 4 * (dimensions + 1) * words)
    held = (HELD + 2 * chunk_words(dimensions)) * PAIR_BYTES
    return PYTHON + sums + contexts + 4 * words + CHUNK_BYTES + held


def chunk_words(dimensions: int) -> int:
    """Return how many words' contexts are summed at a time."""
    return max(1, CHUNK_BYTES // (WORD_BYTES * (dimensions + 1)))


def _can_be_fitted(counts: Int64Array, known: BoolArray, rare: bool) -> BoolArray:
    """(V,) whether the map can be fitted on a word."""
    least, most = (RARE_FIT_COUNTS.start, RARE_FIT_COUNTS.stop) if rare else (LEAST_FIT_COUNT, np.inf)
    return known & (counts >= least) & (counts < most)


def why_none(counts: Int64Array, known: BoolArray, dimensions: int, rare: bool = False) -> str | None:
    """Return why vectors cannot be induced from a text, as a clause; None if they can.

    Args:
        counts, known, rare: as of `induce`.
        dimensions: D.
    """
    found = int(_can_be_fitted(counts, known, rare).sum())
    needed = (RARE_FIT_EACH if rare else FIT_EACH) * dimensions
    if found >= needed:
        return None
    several = f"{LEAST_FIT_COUNT} occurrences or more"
    if rare:
        several = f"{RARE_FIT_COUNTS.start} to {RARE_FIT_COUNTS.stop - 1} occurrences"
    return (
        f"{counted(found, 'known word')} with {several} in this text, and {needed:,} are needed to tell vectors from "
        "contexts"
    )


def _sums(
    encoded: "DataFrame",
    asked: Int64Array,
    words: int,
    contexts: "Broadcast[ContextVectors]",
    columns: int,
    window: int,
    shrinks: bool,
    units: int,
) -> Int64Array:
    """Return (s, D + 1) sums over the contexts of the words asked for, in units."""
    slot_of = np.full(words, -1, np.int32)
    slot_of[asked] = np.arange(asked.size, dtype=np.int32)
    sent = send(encoded.sparkSession.sparkContext, slot_of)
    rows = max(1, RECORD_BYTES // (8 * columns))
    # Not what follows from `asked`: a task's function is sent with all that it names.
    count, chunk = asked.size, chunk_words(columns - 1)
    parts = -(-count // rows)

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = np.zeros((count, columns), np.int64)
        for row in segments_of(batches):
            segment = segment_of(row)
            for place, some in sentence_chunks(segment.lengths, chunk):
                weights = segment.weights[some] if segment.weights.size else None
                ids, lengths = segment.ids[place], segment.lengths[some]
                for found in context_sums(ids, lengths, sent.value, contexts.value, window, shrinks, weights, units):
                    total[found.slots] += found.sums
        for part in range(parts):
            of_part = total[part * rows : (part + 1) * rows]
            if of_part.any():
                yield pa.RecordBatch.from_pydict({"part": [part], "sums": [of_part.tobytes()]}, SUMS_ARROW)

    def join(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total: dict[int, Int64Array] = {}
        for batch in batches:
            for part, sums in zip(batch.column("part").to_pylist(), batch.column("sums"), strict=True):
                total[part] = total.get(part, np.int64(0)) + np.frombuffer(sums.as_buffer(), np.int64)
        for part, sums in total.items():
            yield pa.RecordBatch.from_pydict({"part": [part], "sums": [sums.tobytes()]}, SUMS_ARROW)

    try:
        summed = encoded.mapInArrow(add, SUMS).repartitionById(parts, F.col("part")).mapInArrow(join, SUMS).toArrow()
    finally:
        sent.destroy()
    found = np.zeros((asked.size, columns), np.int64)
    for part, sums in zip(summed["part"].to_pylist(), summed["sums"], strict=True):
        found[part * rows : (part + 1) * rows] = np.frombuffer(sums.as_buffer(), np.int64).reshape(-1, columns)
    return found


def sentence_chunks(lengths: Int32Array, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield ranges of words and of sentences, of at most `size` words and one sentence more."""
    ends = np.cumsum(lengths)
    edges = np.flatnonzero(np.diff((ends - 1) // size, append=-1)) + 1
    begin = word = 0
    for end in edges.tolist():
        yield slice(word, int(ends[end - 1])), slice(begin, end)
        begin, word = end, int(ends[end - 1])


def _rows_of(matrix: "Rows", words: Int64Array) -> Float32Array:
    """Return (n, D) rows of some words, ascending; what lies between them is read too, some at a time."""
    found = [np.empty((0, matrix.shape[1]), np.float32)]
    for start in range(0, matrix.shape[0], ROWS):
        here = words[(words >= start) & (words < start + ROWS)] - start
        if here.size:
            found.append(matrix[start : start + ROWS][here])
    return np.concatenate(found)
