"""The nearest words of every word, found by tasks from chunks of the vectors.

The vectors are broadcast in chunks, so that no process has them all, and Spark carries each from executor to executor.
A task has a block of words, and compares them with one chunk after the other.

V words, D dimensions, K neighbors of a word.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
from pyspark import Broadcast, SparkContext
from threadpoolctl import threadpool_limits

from spark_w2v.skipgram.nearest_rows import TILE_QUERIES, TILE_ROWS, NearestRows, memory_of
from spark_w2v.spark.broadcasts import send, values
from spark_w2v.spark.java_errors import UnknownWordError
from spark_w2v.spark.memory import PYTHON, check_task, given_by
from spark_w2v.spark.slots import settled_slots
from spark_w2v.text.arrow_arrays import composed
from spark_w2v.text.messages import counted, some_words
from spark_w2v.types import Float32Array, Int64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger("spark_w2v")

NEIGHBORS = "word string, neighbor string, rank int, cosine float"
CHUNK_BYTES = 16 << 20  # of vectors that are sent together
TASK_WORDS = 16 * TILE_QUERIES  # a chunk is unpacked for each task, so a task has many
TASK_ROWS = 1 << 21  # of the result: with many neighbors, a task has fewer words
ROWS_AT_A_TIME = 1 << 16


class SentUnits(NamedTuple):
    """Words and their vectors, sent to the executors of a context.

    Args:
        words: (V,).
        chunks: (V, D) of length 1, or zeros, some rows each.
    """

    words: Broadcast[pa.StringArray]
    chunks: list[Broadcast[Float32Array]]


def chunk_rows(dimensions: int) -> int:
    """Return the rows of a chunk, a multiple of TILE_ROWS."""
    return max(1, CHUNK_BYTES // (4 * dimensions * TILE_ROWS)) * TILE_ROWS


def task_words(top: int) -> int:
    """Return the most words of a task, a multiple of TILE_QUERIES."""
    return max(1, min(TASK_WORDS, TASK_ROWS // top) // TILE_QUERIES) * TILE_QUERIES


def shared_words(words: int, top: int, slots: int) -> int:
    """Return the words of a task where each slot is to have one, a multiple of TILE_QUERIES.

    Args:
        words: whose neighbors are wanted.
        slots: tasks that run at the same time; 0 where that is not known.
    """
    # Whole tiles, as a product of matrices of another shape may end in other bits.
    return min(task_words(top), -(-words // (max(1, slots) * TILE_QUERIES)) * TILE_QUERIES)


def task_bytes(
    words: int, word_bytes: int, dimensions: int, top: int, asked: int = 0, is_encrypted: bool = False
) -> int:
    """Return the memory of a task.

    Args:
        words: V.
        word_bytes: of all words together.
        asked: words of a list whose neighbors are wanted; 0 for all words.
        is_encrypted: whether spark.io.encryption.enabled is on: Spark then unpacks all chunks before a task begins.
    """
    # The words are unpacked too, so they are there twice.
    spellings = 2 * (word_bytes + 8 * words)
    found = memory_of(min(words, task_words(top)), dimensions, min(top, words), min(words, chunk_rows(dimensions)))
    # Rows of the list come with the function, which PySpark sends as bytes that a worker keeps.
    return PYTHON + spellings + found + 8 * asked + (4 * words * dimensions if is_encrypted else 0)


def check_memory(
    session: "SparkSession", words: int, word_bytes: int, dimensions: int, top: int, asked: int = 0
) -> None:
    """Refuse what does not fit in the memory that Spark and the machine give.

    Args:
        words, word_bytes, dimensions, top, asked: as for task_bytes.

    Raises:
        NotEnoughMemoryError: one sentence.
    """
    context = session.sparkContext
    is_encrypted = (context.getConf().get("spark.io.encryption.enabled") or "").lower() == "true"
    need = task_bytes(words, word_bytes, dimensions, top, asked, is_encrypted)
    check_task(need, given_by(context), "ask for fewer neighbors, or take fewer tasks at a time")


def known_rows(words: pa.StringArray, asked: pa.StringArray) -> Int64Array:
    """The rows of the words that have a vector, ascending; the others are named.

    Args:
        words: (V,) those that have one.
        asked: any words, each once. One that has no vector as it is spelled may have one in Unicode's NFC, which
            tokenizers bring text to.

    Raises:
        UnknownWordError: none has one.
    """
    found = pc.coalesce(pc.index_in(asked, value_set=words), pc.index_in(composed(asked), words))
    unknown = asked.filter(found.is_null()).to_pylist()
    if unknown and len(unknown) == len(asked):
        raise UnknownWordError(
            f"none of {counted(len(asked), 'word')} has a vector, such as {some_words(unknown, 3)}; check the list of "
            "words."
        )
    if unknown:
        log.warning("%s without a vector: %s", counted(len(unknown), "word"), some_words(unknown))
    return np.unique(found.drop_null().to_numpy()).astype(np.int64)


def all_neighbors(
    session: "SparkSession",
    words: pa.StringArray,
    units: Iterable[Float32Array],
    dimensions: int,
    top: int,
    asked: Int64Array | None = None,
) -> "DataFrame":
    """Return word, neighbor, rank and cosine: the K nearest words of every word, exact.

    The rows are in the order of the words, each with its nearest neighbor, of rank 1, first. Words of equal cosine are
    in the order of the words. A word has V - 1 neighbors at most.

    Args:
        words: (V,) in any order; the order of the result.
        units: (V, D) of length 1, or zeros; some rows at a time, which are read before this returns.
        top: K.
        asked: rows whose neighbors are wanted, ascending; None for all.

    Raises:
        NotEnoughMemoryError: a task does not fit in the memory that Spark and the machine give.
    """
    top = min(top, len(words) - 1)
    check_memory(session, len(words), words.nbytes, dimensions, max(top, 1), 0 if asked is None else len(asked))
    rows = range(len(words)) if asked is None else asked
    return neighbors_of(session, send_units(session.sparkContext, words, units, dimensions), rows, top)


def send_units(
    context: SparkContext, words: pa.StringArray, units: Iterable[Float32Array], dimensions: int
) -> SentUnits:
    """Send words and vectors, as all_neighbors takes them."""
    chunks = [send(context, chunk) for chunk in _chunks(units, chunk_rows(dimensions))]
    return SentUnits(send(context, words), chunks)


def neighbors_of(session: "SparkSession", sent: SentUnits, rows: Int64Array | range, top: int) -> "DataFrame":
    """Return what all_neighbors returns, of words and vectors that were sent.

    Args:
        rows: whose neighbors are wanted, ascending; a range for all words, which takes no memory in the tasks.
        top: K, less than V.
    """
    spellings, chunks = sent
    if not len(rows) or top < 1:
        return session.createDataFrame([], NEIGHBORS)
    size = shared_words(len(rows), top, settled_slots(session.sparkContext, -(-len(rows) // TILE_QUERIES)))
    tasks = -(-len(rows) // size)
    asked = rows if isinstance(rows, range) else rows.astype(np.int32)

    def find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("id").to_pylist():
                of_task = np.asarray(asked[task * size : (task + 1) * size], np.int64)
                with threadpool_limits(1, "blas"):
                    found, cosines = nearest_of(of_task, chunks, top)
                yield from _batches(spellings.value, of_task, found, cosines)

    return session.range(0, tasks, 1, tasks).mapInArrow(find, NEIGHBORS)


def with_ids(neighbors: "DataFrame", id_type: str | None) -> "DataFrame":
    """NEIGHBORS; of words that are numbers of a type, with columns id and neighbor_id next to the words."""
    if id_type is None:
        return neighbors
    return neighbors.select(
        "word",
        F.col("word").cast(id_type).alias("id"),
        "neighbor",
        F.col("neighbor").cast(id_type).alias("neighbor_id"),
        "rank",
        "cosine",
    )


def _chunks(units: Iterable[Float32Array], size: int) -> Iterator[Float32Array]:
    """The vectors, `size` rows at a time, from parts of any size."""
    waiting = list[Float32Array]()
    waits = 0
    for part in units:
        waiting.append(part)
        waits += len(part)
        while waits >= size:
            joint = np.concatenate(waiting)
            yield joint[:size].copy()
            waiting, waits = [joint[size:]], waits - size
    if waits:
        yield np.concatenate(waiting)


def nearest_of(
    rows: Int64Array, chunks: Sequence["Broadcast[Float32Array]"], top: int
) -> tuple[Int64Array, Float32Array]:
    """Return (Q, K) nearest rows of some rows, and their cosines.

    Args:
        rows: (Q,) ascending.
        chunks: of the unit vectors.
    """
    queries, first = list[Float32Array](), 0
    for chunk in values(chunks):
        here = rows[(rows >= first) & (rows < first + len(chunk))] - first
        if here.size:
            queries.append(chunk[here])
        first += len(chunk)
        if first > rows[-1]:
            break
    nearest, first = NearestRows(np.concatenate(queries), rows, top), 0
    queries.clear()
    for chunk in values(chunks):
        nearest.add(chunk, first)
        first += len(chunk)
    return nearest.result()


def _batches(words: pa.StringArray, rows: Int64Array, found: Int64Array, cosines: Float32Array) -> Iterator[Any]:
    """Rows of NEIGHBORS."""
    top = found.shape[1]
    step = max(1, ROWS_AT_A_TIME // top)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        count = len(rows[some])
        columns = [
            words.take(pa.array(np.repeat(rows[some], top))),
            words.take(pa.array(found[some].ravel())),
            pa.array(np.tile(np.arange(1, top + 1, dtype=np.int32), count)),
            pa.array(cosines[some].ravel()),
        ]
        yield pa.RecordBatch.from_arrays(columns, ["word", "neighbor", "rank", "cosine"])
