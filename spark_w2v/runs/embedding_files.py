"""The Parquet files of a finished run's tables, checked when they are opened.

    OUTPUT/embeddings/   word string, word_id int32, count int64, vector fixed_size_list<float32>[D]; ordered by word_id
    OUTPUT/context/      word_id int32, trained int64, vector: the other matrix, without which training cannot go on
                         later, and the occurrences that the vectors of each word were trained on
    OUTPUT/vocabulary/   word_id int32, word string, count int64

Every file says in its metadata how many rows each table of its run has, and their digests (the seal): a reader notices
a file that is missing, there twice or of another run, and a changed bit.

Letters: V words, D dimensions.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_w2v.errors import OutputError
from spark_w2v.storage.files import ABSENT, exists, kind_of, raise_if_passing
from spark_w2v.types import Float32Array, Int64Array

BATCH_BYTES = 4 << 20  # of vectors: what is read at a time, also of the larger row groups that earlier versions wrote
BUFFER_BYTES = 1 << 20  # of a column of a file, compressed
# In the schema's metadata, as JSON: the run's facts; rows of each table, and sha256 of the facts, of words with counts,
# and of both matrices. Earlier versions had the facts alone.
METADATA_KEY, SEAL_KEY = b"spark_w2v", b"spark_w2v.seal"
MATRICES = {"embeddings": "center", "context": "context", "vocabulary": ""}  # the matrix that each table holds
WORDS = 1 << 16  # that are read, or go into a digest, at a time

WORD_COLUMNS = {"word": pa.string(), "word_id": pa.int32(), "count": pa.int64()}


class Table(NamedTuple):
    """The opened files of one table.

    Args:
        output: of the run.
        rows: V.
        dimensions: D.
        seal: the JSON under SEAL_KEY; empty for an output of an earlier version.
    """

    output: Path
    name: str
    files: list[pq.ParquetFile]
    rows: int
    dimensions: int
    seal: dict[str, Any]


def open_table(output: Path, name: str, columns: Mapping[str, pa.DataType]) -> Table:
    """Open one table of a finished run, its columns, its rows and its seal checked."""
    with damage_named(output):
        if not output.is_dir():
            raise OutputError(f"{output}: no such directory; give the OUTPUT of a finished run.")
        if not exists(output / "_SUCCESS"):
            if exists(output / "metadata") and exists(output / "data"):
                raise OutputError(
                    f"{output}: is a saved model, not the output of a run; SkipGramModel.load takes it, and "
                    "spark_w2v.train or jobs/train.py make an output of the same text."
                )
            raise OutputError(f"{output}: has no _SUCCESS, so it is not the output of a finished run.")
    paths = _parts(output / name)
    if not paths:
        raise OutputError(f"{output / name}: has no part-*.parquet; it is not the output of a finished run.")
    files: list[pq.ParquetFile] = []
    for path in paths:
        file = _open_part(path)
        schema = file.schema_arrow
        for column, kind in columns.items():
            _refuse_column(path, schema, column, kind.equals, str(kind))
        _refuse_column(path, schema, "vector", _is_vector, "fixed_size_list<float>")
        if files and schema.field("vector").type != files[0].schema_arrow.field("vector").type:
            raise OutputError(f"{path}: its vectors have another length than those of {paths[0].name}; train again.")
        files.append(file)
    seal = _common_seal(output, dict(zip(paths, files, strict=True)), name)
    rows = sum(file.metadata.num_rows for file in files)
    if seal and rows != seal["rows"]:
        raise OutputError(
            f"{output / name}: has {rows:,} rows in {len(files)} files and the run wrote {seal['rows']:,}, so a file "
            "is missing or there twice; copy the output again, or train again."
        )
    return Table(output, name, files, rows, int(files[0].schema_arrow.field("vector").type.list_size), seal)


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise an OutputError for what is wrong with a file, a StorageError for what the system refused."""
    try:
        yield
    except OutputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise_if_passing(str(path), error, ABSENT)
        text = str(error).partition("\n")[0] or type(error).__name__
        raise OutputError(f"{path}: cannot be read, perhaps it is damaged ({text[:200].rstrip('.')}).") from None


def checked_batches(table: Table, names: list[str]) -> Iterator[tuple[Float32Array, list[pa.Array]]]:
    """Read (n, D) vectors at a time, in order, with other columns; check every row, and the digest at the end."""
    output, dimensions, total = table.output, table.dimensions, table.rows
    digest = hashlib.sha256()
    with damage_named(output):
        row = 0
        for file in table.files:
            for batch in batches(file, ["word_id", "vector", *names]):
                if any(column.null_count for column in batch.columns):
                    raise OutputError(f"{output}: a table has nulls; train again.")
                ids = batch["word_id"].to_numpy()
                if len(ids) > total - row or not np.array_equal(ids, np.arange(row, row + len(ids))):
                    raise OutputError(f"{output}: word_id is not 0, 1, 2, ... from row to row; train again.")
                values = batch["vector"].flatten()
                if len(values) != len(ids) * dimensions or values.null_count:
                    raise OutputError(f"{output}: a table has nulls in its vectors; train again.")
                vectors: Float32Array = values.to_numpy().reshape(-1, dimensions)
                if not np.isfinite(vectors).all():
                    raise OutputError(f"{output}: a table has vectors that are not finite; train again.")
                row += len(ids)
                digest.update(np.ascontiguousarray(vectors, "<f4").data)
                yield vectors, [batch[name] for name in names]
        if row != total:
            raise OutputError(f"{output}: a table promises {total} rows and has {row}; train again.")
        if table.seal and digest.hexdigest() != table.seal[MATRICES[table.name]]:
            raise OutputError(
                f"{output}: the vectors of {table.name} are not those that the run wrote; copy the output again, or "
                "train again."
            )


def read_words(table: Table) -> tuple[pa.StringArray, Int64Array]:
    """Read the (V,) words and counts of a table without its vectors, checked."""
    with damage_named(table.output):
        found = [batch for file in table.files for batch in batches(file, ["word", "count"])]
    words = pa.chunked_array([batch["word"] for batch in found], pa.string()).combine_chunks()
    counts = pa.chunked_array([batch["count"] for batch in found], pa.int64()).combine_chunks()
    if words.null_count or counts.null_count or len(words.unique()) != len(words):
        raise OutputError(f"{table.output}: embeddings has a word twice, or none in a row; train again.")
    check_words(table, words, counts.to_numpy())
    return words, counts.to_numpy()


def read_trained(table: Table) -> Int64Array | None:
    """Read (V,) occurrences that the vectors were trained on, checked; None of an output of an earlier version."""
    if "trained" not in table.seal:
        return None
    for path, file in zip(_parts(table.output / table.name), table.files, strict=True):
        _refuse_column(path, file.schema_arrow, "trained", pa.int64().equals, "int64")
    with damage_named(table.output):
        found = [batch["trained"] for file in table.files for batch in batches(file, ["trained"])]
    trained: Int64Array = pa.chunked_array(found, pa.int64()).to_numpy()
    if hashlib.sha256(np.ascontiguousarray(trained, "<i8").data).hexdigest() != table.seal["trained"]:
        raise OutputError(
            f"{table.output}: the column trained of {table.name} is not what the run wrote; copy the output again, or "
            "train again."
        )
    return trained


def check_words(table: Table, words: pa.StringArray, counts: Int64Array) -> None:
    """Refuse words and counts other than those that the run sealed."""
    if table.seal and words_digest(words, counts).hexdigest() != table.seal["words"]:
        raise OutputError(
            f"{table.output}: words or counts of {table.name} are not those that the run wrote; copy the output "
            "again, or train again."
        )


def words_digest(words: pa.Array, counts: Int64Array) -> Any:
    """sha256 of the words of a run and how often they occur, in order."""
    digest = hashlib.sha256(np.ascontiguousarray(counts, "<i8").data)
    for start in range(0, len(words), WORDS):
        some = words[start : start + WORDS]
        digest.update(np.ascontiguousarray(pc.binary_length(some), "<i4").data)  # ab, c are not a, bc
        digest.update("".join(some.to_pylist()).encode())
    return digest


def batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a file, BATCH_BYTES of vectors or WORDS words at a time."""
    dimensions = file.schema_arrow.field("vector").type.list_size
    rows = max(1, BATCH_BYTES // (4 * dimensions)) if "vector" in columns else WORDS
    # One row group after another: over all of them it holds several times what it has handed out.
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)


def _parts(directory: Path) -> list[Path]:
    """The files of a table, in order. Not by glob, which takes a directory that it may not list for an empty one."""
    with damage_named(directory):
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(directory / name for name in names if name.startswith("part-") and name.endswith(".parquet"))


def _open_part(path: Path) -> pq.ParquetFile:
    with damage_named(path):
        if (kind := kind_of(os.stat(path).st_mode)) != "a file":  # opening a FIFO would block
            raise OutputError(f"{path}: is {kind}, not a file; it is not the output of a finished run.")
        return pq.ParquetFile(path, page_checksum_verification=True, buffer_size=BUFFER_BYTES)


def _common_seal(output: Path, files: Mapping[Path, pq.ParquetFile], table: str) -> dict[str, Any]:
    """The seal that all files of a table have, and those of the other tables; empty where none has."""
    others = [parts[0] for name in MATRICES if name != table and (parts := _parts(output / name))]
    seals = {path: _seal(path, file) for path, file in files.items()}
    seals |= {path: _seal(path, _open_part(path)) for path in others}
    (first, seal), *rest = seals.items()
    for path, found in rest:
        if found != seal:
            raise OutputError(
                f"{output}: {path.relative_to(output)} and {first.relative_to(output)} are of two runs; copy the "
                "output again, or train again."
            )
    return seal


def _seal(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    metadata = file.schema_arrow.metadata or {}
    if (text := metadata.get(SEAL_KEY)) is None:
        return {}
    try:
        seal = dict(json.loads(text))
        is_whole = isinstance(seal["rows"], int) and {"facts", "words", "center", "context"} <= seal.keys()
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole or hashlib.sha256(metadata.get(METADATA_KEY, b"")).hexdigest() != seal["facts"]:
        raise OutputError(f"{path}: its metadata has been changed; copy the output again, or train again.")
    return seal


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type) and kind.list_size > 0)


def _refuse_column(
    path: Path, schema: pa.Schema, name: str, fits: Callable[[pa.DataType], bool], required: str
) -> None:
    indices = schema.get_all_field_indices(name)
    if len(indices) != 1:
        raise OutputError(f"{path}: has {len(indices)} columns {name}; it must have one, of type {required}.")
    kind = schema.field(indices[0]).type
    if not fits(kind):
        raise OutputError(f"{path}: column {name} is {kind}; it must be {required}.")
