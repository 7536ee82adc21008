"""A finished run's words, counts and vectors, read from the files that embedding_files describes.

Letters: V words, D dimensions.
"""

import itertools
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from spark_w2v.errors import OutputError, StorageError
from spark_w2v.runs.embedding_files import (
    METADATA_KEY,
    WORD_COLUMNS,
    Table,
    check_words,
    checked_batches,
    damage_named,
    open_table,
    read_trained,
    read_words,
)
from spark_w2v.types import Float32Array, Int64Array

# At reading a table that a publication replaces meanwhile; a publication takes milliseconds, a reading a second.
ATTEMPTS = 5

Result = TypeVar("Result")


class Embeddings(NamedTuple):
    """Words (V,) strings, counts (V,) int64, vectors (V, D) float32; row = word_id."""

    words: pa.StringArray
    counts: Int64Array
    vectors: Float32Array


class VectorChunks(NamedTuple):
    """Words (V,), counts (V,) int64, dimensions D, and an iterator over the vectors, (n, D) at a time.

    And the type of the column `id`, which words that are whole numbers have next to them; None without one.
    """

    words: pa.StringArray
    counts: Int64Array
    dimensions: int
    chunks: Iterator[Float32Array]
    id_type: pa.DataType | None = None


class StoredEmbeddings:
    """The words, counts and vectors of a finished run whose files are open: they stay those of one run.

    Args:
        words: (V,) strings, unique.
        counts: (V,) int64.
        dimensions: D.
        id_type: as VectorChunks has it.
        trained: (V,) int64, occurrences that the vectors were trained on; None where that is not known.
    """

    def __init__(self, words: pa.StringArray, counts: Int64Array, tables: Mapping[str, Table]) -> None:
        self.words, self.counts = words, counts
        self.trained = read_trained(tables["context"]) if "context" in tables else None
        self.dimensions = tables["center"].dimensions
        self.id_type = _id_type(tables["center"])
        self._tables = tables

    def chunks(self, *names: str) -> Iterator[tuple[Float32Array, ...]]:
        """Iterate over the rows of "center", of "context", or of both, (n, D) each, checked, from the first row on.

        Raises:
            OutputError: a row is damaged, or the row groups of both differ.
        """
        batches = [checked_batches(self._tables[name], []) for name in names]
        # Not zip's strict, whose ValueError could as well be another's.
        for chunks in itertools.zip_longest(*batches):
            if len({-1 if chunk is None else len(chunk[0]) for chunk in chunks}) > 1:
                output = self._tables["center"].output
                raise OutputError(f"{output}: embeddings and context have other row groups; train again.")
            yield tuple(vectors for vectors, _ in chunks)


def read(output: str | Path) -> Embeddings:
    """Read the words, counts and center vectors of a finished run; one batch in memory next to the matrix."""
    output = Path(output)

    def attempt() -> Embeddings:
        table = open_table(output, "embeddings", WORD_COLUMNS)
        vectors, (words, counts) = _read_vectors(table, ["word", "count"])
        strings = pa.chunked_array(words, pa.string()).combine_chunks()
        if len(strings.unique()) != len(strings):
            raise OutputError(f"{output}: embeddings has a word twice; train again.")
        all_counts = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, counts)])
        check_words(table, strings, all_counts)
        return Embeddings(strings, all_counts, vectors)

    return of_one_run(output, attempt)


def read_context(output: str | Path) -> Float32Array:
    """Read the (V, D) context vectors of a finished run, by word_id."""
    output = Path(output)

    def attempt() -> Float32Array:
        return _read_vectors(open_table(output, "context", {"word_id": pa.int32()}), [])[0]

    return of_one_run(output, attempt)


def iter_vectors(output: Path, vectors: str = "center") -> VectorChunks:
    """Read all words of a finished run, by word_id, and iterate over its vectors a batch at a time.

    Args:
        vectors: "center", "context", or "sum" of the two.
    """

    def attempt() -> VectorChunks:
        names = ("center", "context") if vectors == "sum" else (vectors,)
        found = _open(output, {"center", *names})
        vectors_found = _sums(output, found.chunks(*names))
        return VectorChunks(found.words, found.counts, found.dimensions, vectors_found, found.id_type)

    return of_one_run(output, attempt)


def open_embeddings(output: Path) -> StoredEmbeddings:
    """Open a finished run, whatever is published over it later: its words, and both matrices a batch at a time."""
    return of_one_run(output, lambda: _open(output, {"center", "context"}))


def facts(output: str | Path) -> dict[str, str | int | float]:
    """Return the facts that the run wrote about itself into the metadata of its tables."""
    output = Path(output)

    def attempt() -> dict[str, str | int | float]:
        metadata = open_table(output, "embeddings", {}).files[0].schema_arrow.metadata or {}
        try:
            found = json.loads(metadata[METADATA_KEY])
        except (KeyError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise OutputError(f"{output}: embeddings holds no facts of a run; it was not written by this program.")
        return found

    return of_one_run(output, attempt)


def center_digest(output: Path) -> str:
    """Return a digest of the words' vectors; empty for an output of an earlier version."""
    return str(of_one_run(output, lambda: open_table(output, "embeddings", {})).seal.get("center", ""))


def id_type(output: Path) -> pa.DataType | None:
    """Return the type of the column `id`, which words that are whole numbers have next to them; None without one."""
    return _id_type(of_one_run(output, lambda: open_table(output, "embeddings", {})))


def _id_type(table: Table) -> pa.DataType | None:
    schema = table.files[0].schema_arrow
    return schema.field("id").type if "id" in schema.names else None


def _open(output: Path, names: Collection[str]) -> StoredEmbeddings:
    tables = {"center": open_table(output, "embeddings", WORD_COLUMNS)}
    if "context" in names:
        tables["context"] = open_table(output, "context", {"word_id": pa.int32()})
    if len({(table.rows, table.dimensions) for table in tables.values()}) > 1:
        raise OutputError(f"{output}: embeddings and context differ in rows or dimensions; train again.")
    return StoredEmbeddings(*read_words(tables["center"]), tables)


def _read_vectors(table: Table, names: list[str]) -> tuple[Float32Array, list[list[pa.Array]]]:
    """Read (V, D) vectors in order, and the chunks of other columns; the rows checked meanwhile."""
    others: list[list[pa.Array]] = [[] for _ in names]
    with damage_named(table.output):
        vectors: Float32Array = np.empty((table.rows, table.dimensions), np.float32)
        row = 0
        for values, columns in checked_batches(table, names):
            vectors[row : row + len(values)] = values
            for chunks, column in zip(others, columns, strict=True):
                chunks.append(column)
            row += len(values)
    return vectors, others


def _sums(output: Path, chunks: Iterator[tuple[Float32Array, ...]]) -> Iterator[Float32Array]:
    """(n, D) at a time: the sum of each tuple, which may be of one."""
    for matrices in chunks:
        with np.errstate(over="ignore"):
            total = sum(matrices[1:], start=matrices[0])
        if not np.isfinite(total).all():
            raise OutputError(f"{output}: a sum of center and context vector is not finite.")
        yield total


def of_one_run(output: Path, attempt: Callable[[], Result]) -> Result:
    """Repeat an attempt until its result is from one run's files alone, also while another run is published.

    Raises:
        StorageError: the run was removed meanwhile.
    """
    was_there = False
    for _ in range(ATTEMPTS - 1):
        before = _identity(output)
        was_there |= before is not None
        try:
            result = attempt()
        except OutputError:
            if before is not None and before == _identity(output):
                raise
        else:
            if before == _identity(output):
                return result
    try:
        return attempt()
    except OutputError:
        if was_there and _identity(output) is None:
            raise StorageError(f"{output}: was removed meanwhile; try again.") from None
        raise


def _identity(output: Path) -> tuple[int, int, int] | None:
    """Which directory it is; inode numbers come again soon after one is deleted, so also when it was filled."""
    try:
        found = os.stat(output)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
