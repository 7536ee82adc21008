"""Words, counts and both matrices of a run → the Parquet files that embedding_files describes.

Spark reads a fixed-size list as array<float>, so does the loader of MLlib's Word2VecModel; DuckDB as FLOAT[], pandas as
arrays, polars and PyArrow without a copy. Spark itself can write variable lists only, so PyArrow writes, on the driver,
which has the parameters anyway, in files.

Letters: V words, D dimensions.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_w2v.errors import OutputError
from spark_w2v.runs.embedding_files import METADATA_KEY, SEAL_KEY, words_digest

# Of vectors: what writing holds of a matrix; Arrow holds two to three times as much, and keeps some of it.
ROW_GROUP_BYTES = 8 << 20
FILE_BYTES = 512 << 20  # of vectors, before compression; several readers then share a large table
WRITERS = 4  # files that are written at a time, each by a thread: most of the time is compression

Facts = Mapping[str, str | int | float]
Column = tuple[pa.Field, Callable[[int, int], pa.Array]]  # and its values from one row to another


class Rows(Protocol):
    """A (V, D) matrix that is read by slices of rows: an array, or ByWord."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


def write(
    directory: Path,
    words: pa.Array,
    counts: NDArray[Any],
    center: Rows,
    context: Rows,
    facts: Facts,
    ids: pa.Array | None = None,
    trained: NDArray[Any] | None = None,
) -> None:
    """Write embeddings/, context/ and vocabulary/ into a directory that has none of them.

    Both matrices are checked before the first byte is written; no more than a row group of each of WRITERS files is
    held at a time.

    Args:
        directory: made where it is missing.
        words: (V,) strings without nulls or repetitions, by word_id.
        counts: (V,) int64.
        center, context: (V, D) float32, all finite.
        facts: about the run; they go as JSON into the metadata of every table's schema.
        ids: (V,) the words as whole numbers, which are a column next to them; None where they are none.
        trained: (V,) int64, occurrences that the vectors were trained on; None where that is not known.
    """
    shape = _checked_shapes(words, counts, center, context)
    text = json.dumps(dict(facts), ensure_ascii=False, allow_nan=False, sort_keys=True)
    digests = {"facts": hashlib.sha256(text.encode()), "words": words_digest(words, counts)}
    # A file is named after everything that was written. A reader that listed one run's files and opens them when
    # those of another stand there finds them gone; under plain names it would take rows from each and not notice.
    # The same run twice gives the same names.
    if trained is not None:
        digests["trained"] = hashlib.sha256(np.ascontiguousarray(trained, "<i8").data)
    matrices = {"center": center, "context": context}
    with _writers() as pool:
        found = pool.map(lambda name: _checked_digest(name, words, matrices[name]), matrices)
        digests |= dict(zip(matrices, found, strict=True))
    sealed = {"rows": shape[0], **{name: digest.hexdigest() for name, digest in digests.items()}}
    seal = json.dumps(sealed, sort_keys=True)
    tag = hashlib.sha256(seal.encode()).hexdigest()[:16]

    word = [_column("word", words.cast(pa.string())), *([] if ids is None else [_column("id", ids)])]
    word_id = _column("word_id", pa.array(np.arange(shape[0], dtype=np.int32)))
    count = _column("count", pa.array(counts))
    updates = [] if trained is None else [_column("trained", pa.array(trained, pa.int64()))]
    tables = {
        "embeddings": [*word, word_id, count, _vectors(center)],
        "context": [word_id, *updates, _vectors(context)],
        "vocabulary": [word_id, *word, count],
    }
    metadata = {METADATA_KEY: text.encode(), SEAL_KEY: seal.encode()}
    files = [
        write_file
        for name, columns in tables.items()
        for write_file in _files_of(directory / name, tag, columns, metadata, shape)
    ]
    with _writers() as pool:
        for written in [pool.submit(write_file) for write_file in files]:
            written.result()


def _column(name: str, values: pa.Array) -> Column:
    return pa.field(name, values.type, nullable=False), lambda start, stop: values[start:stop]


def _vectors(matrix: Rows) -> Column:
    """The column of a matrix, of which no more than is written is in memory."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), matrix.shape[1])

    def rows(start: int, stop: int) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix[start:stop].reshape(-1)), type=kind)

    return pa.field("vector", kind, nullable=False), rows


@contextmanager
def _writers() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; after an error, what has not begun does not begin."""
    pool = ThreadPoolExecutor(min(WRITERS, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _checked_shapes(words: pa.Array, counts: NDArray[Any], center: Rows, context: Rows) -> tuple[int, int]:
    rows = len(words)
    if not pa.types.is_string(words.type) or words.null_count:
        raise OutputError(f"words must be strings without nulls, not {words.type} with {words.null_count} nulls.")
    if counts.shape != (rows,) or counts.dtype != np.int64:
        raise OutputError(f"counts must be ({rows},) int64, one per word, not {counts.shape} {counts.dtype}.")
    for name, matrix in (("center", center), ("context", context)):
        if len(matrix.shape) != 2 or matrix.shape[0] != rows or matrix.shape[1] < 1 or matrix.dtype != np.float32:
            raise OutputError(
                f"{name} must be ({rows}, D) float32, one row per word, not {matrix.shape} {matrix.dtype}."
            )
    if center.shape != context.shape:
        raise OutputError(f"center {center.shape} and context {context.shape} must have the same shape.")
    if len(words.unique()) != rows:
        raise OutputError(f"words must not repeat: {rows} words, of which {len(words.unique())} differ.")
    return rows, center.shape[1]


def _checked_digest(name: str, words: pa.Array, matrix: Rows) -> "hashlib._Hash":
    digest = hashlib.sha256()
    for start, stop in _slices(len(words), matrix.shape[1]):
        rows = np.ascontiguousarray(matrix[start:stop])
        _refuse_infinite(name, words, rows, start)
        digest.update(rows.data)
    return digest


def _refuse_infinite(name: str, words: pa.Array, rows: NDArray[Any], start: int) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        word = words[start + int(np.argmin(finite))].as_py()
        raise OutputError(
            f'the {name} vector of "{word[:60]}" has values that are not finite, so nothing is written; '
            "lower training.learning_rate."
        )


def _slices(rows: int, dimensions: int) -> Iterator[tuple[int, int]]:
    """Where row groups start and stop."""
    step = max(1, ROW_GROUP_BYTES // (4 * dimensions))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def _files_of(
    directory: Path,
    tag: str,
    columns: Sequence[Column],
    metadata: Mapping[bytes, bytes],
    shape: tuple[int, int],
) -> Iterator[Callable[[], None]]:
    """Yield a function for each file of a table, which writes it."""
    directory.mkdir(parents=True)
    schema = pa.schema([field for field, _ in columns], metadata)
    slices = list(_slices(*shape))
    groups = max(1, FILE_BYTES // ROW_GROUP_BYTES)
    for number in range(max(1, -(-len(slices) // groups))):
        path = directory / f"part-{number:05d}-{tag}.parquet"
        yield partial(_write_file, path, schema, columns, slices[number * groups : (number + 1) * groups])


def _write_file(path: Path, schema: pa.Schema, columns: Sequence[Column], slices: Sequence[tuple[int, int]]) -> None:
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        # No word comes twice, so dictionaries only cost. BYTE_STREAM_SPLIT saves 8 % (23.8 for 26.0 MB at 70,000 x
        # 100), but Spark's vectorized reader knows it since 4.3 only (SPARK-56894).
        use_dictionary=False,
        write_page_checksum=True,  # a flipped bit in a vector would else be just another number
        sorting_columns=[pq.SortingColumn(schema.get_field_index("word_id"))],
    ) as writer:
        for start, stop in slices:
            batch = pa.record_batch([values(start, stop) for _, values in columns], schema=schema)
            writer.write_batch(batch, row_group_size=stop - start)
