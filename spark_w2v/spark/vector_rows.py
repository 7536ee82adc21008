"""The vectors of a run as rows of Spark, which never are in the driver's JVM or in one process of Python at once."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.runs.embedding_writer import Rows
from spark_w2v.spark.broadcasts import send, values
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.types import Float32Array, Int64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

VECTORS = "word string, word_id int, count bigint, vector array<float>"
CHUNK_BYTES = 16 << 20  # of vectors that are sent together, and written by one task


def vector_schema(id_type: str | None) -> T.StructType:
    """The columns of the rows.

    Args:
        id_type: of the numbers that the words are; None where they are none.
    """
    ids = "" if id_type is None else f"id {id_type}, "
    found = T.StructType.fromDDL(f"word string, {ids}word_id int, count bigint, vector array<float>")
    assert isinstance(found, T.StructType)
    return found


@contextlib.contextmanager
def vector_rows(session: "SparkSession", vocabulary: Vocabulary, vectors: Rows) -> Iterator["DataFrame"]:
    """Give word, id, word_id, count and vector: the most frequent words first; id only where words are numbers.

    The rows can be computed as long as the context lasts; then Spark gives back what it holds of the vectors.

    Args:
        vectors: (V, D), by word_id.
    """
    size, dimensions = max(1, CHUNK_BYTES // (4 * vectors.shape[1])), vectors.shape[1]
    chunks = [send(session.sparkContext, chunk) for chunk in _chunks(vocabulary, vectors, size)]

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                for some, counts, matrix in values([chunks[number]]):
                    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * np.int32(dimensions)
                    columns = [
                        some,
                        pa.array(number * size + np.arange(len(matrix), dtype=np.int32), pa.int32()),
                        pa.array(counts),
                        pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1))),
                    ]
                    yield pa.RecordBatch.from_arrays(columns, ["word", "word_id", "count", "vector"])

    found = session.range(0, len(chunks), 1, len(chunks)).mapInArrow(read, VECTORS)
    ids = [] if vocabulary.id_type is None else [F.col("word").cast(vocabulary.id_type).alias("id")]
    try:
        yield found.select("word", *ids, "word_id", "count", "vector")
    finally:
        for sent in chunks:
            sent.destroy()


def _chunks(
    vocabulary: Vocabulary, vectors: Rows, size: int
) -> Iterator[tuple[pa.StringArray, Int64Array, Float32Array]]:
    """Words, counts and vectors, `size` rows at a time."""
    words = vocabulary.words.cast(pa.string())
    for start in range(0, len(words), size):
        rows = slice(start, start + size)
        # Copied, as a slice of an Arrow array is pickled with all of the words.
        yield pa.concat_arrays([words[rows]]), vocabulary.counts[rows], np.ascontiguousarray(vectors[rows])
