"""Parameters ↔ EMBEDDINGS: what a finished run is read by.

    OUTPUT/embeddings/   word string, word_id int32, count int64, vector fixed_size_list<float32>[D]; ordered by word_id
    OUTPUT/context/      word_id int32, vector: the other matrix, without which training cannot go on later
    OUTPUT/vocabulary/   word_id int32, word string, count int64

Every file says in its metadata how many rows each table of its run has, and their digests: a reader notices a part that
is missing, there twice or of another run, and a changed bit.

Spark reads a fixed-size list as array<float>, so does the loader of MLlib's Word2VecModel; DuckDB as FLOAT[], pandas as
arrays, polars and PyArrow without a copy. Spark itself can write variable lists only, so PyArrow writes, on the driver,
which has the parameters anyway, in files.

Letters: V words, D dimensions.
"""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_w2v.errors import OutputError, StorageError
from spark_w2v.storage.files import ABSENT, exists, kind_of, reason
from spark_w2v.types import Float32Array, Int64Array

# Of vectors: what writing holds of a matrix; Arrow holds two to three times as much, and keeps some of it.
ROW_GROUP_BYTES = 8 << 20
BATCH_BYTES = 4 << 20  # of vectors: what is read at a time, also of the larger row groups that earlier versions wrote
BUFFER_BYTES = 1 << 20  # of a column of a file, compressed
FILE_BYTES = 512 << 20  # of vectors, before compression; several readers then share a large table
# In the schema's metadata, as JSON: the run's facts; rows of each table, and sha256 of the facts, of words with counts,
# and of both matrices. Earlier versions had the facts alone.
METADATA_KEY, SEAL_KEY = b"spark_w2v", b"spark_w2v.seal"
TABLES = {"embeddings": "center", "context": "context", "vocabulary": ""}  # and the matrix that is in it
WORDS = 1 << 16  # that go into a digest at a time
# Readings of a table that a publication replaces meanwhile; a publication takes milliseconds, a reading a second.
ATTEMPTS = 5

Fact = str | int | float
Facts = Mapping[str, Fact]
Answer = TypeVar("Answer")


class Rows(Protocol):
    """A (V, D) matrix that is read by slices of rows: an array, or ByWord."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


class Embeddings(NamedTuple):
    """What read gives: words (V,) strings, counts (V,) int64, vectors (V, D) float32; row = word_id."""

    words: pa.StringArray
    counts: Int64Array
    vectors: Float32Array


class Walk(NamedTuple):
    """What walk gives: words (V,), counts (V,) int64, dimensions D, and once the vectors, (n, D) at a time."""

    words: pa.StringArray
    counts: Int64Array
    dimensions: int
    blocks: Iterator[Float32Array]


class Stored:
    """The words, counts and vectors of a finished run whose files are open: they stay those of one run.

    Args:
        words: (V,) strings, unique.
        counts: (V,) int64.
        dimensions: D.
    """

    def __init__(self, output: Path, words: pa.StringArray, counts: Int64Array, tables: Mapping[str, "_Table"]) -> None:
        self.words, self.counts = words, counts
        self.dimensions = tables["center"].dimensions
        self._output, self._tables = output, tables

    def rows(self, *names: str) -> Iterator[tuple[Float32Array, ...]]:
        """Rows of "center", of "context", or of both, (n, D) each: BATCH_BYTES at a time, checked, from the first on.

        Raises:
            OutputError: a row is damaged, or the row groups of both differ.
        """
        walks = [_checked_batches(self._output, self._tables[name], []) for name in names]
        # Not zip's strict, whose ValueError could as well be another's.
        for pieces in itertools.zip_longest(*walks):
            if len({-1 if piece is None else len(piece[0]) for piece in pieces}) > 1:
                raise OutputError(f"{self._output}: embeddings and context have other row groups; train again.")
            yield tuple(values for values, _ in pieces)


def write(directory: Path, words: pa.Array, counts: NDArray[Any], center: Rows, context: Rows, facts: Facts) -> None:
    """Write embeddings/, context/ and vocabulary/ into a directory that has none of them.

    Both matrices are checked before the first byte is written; no more than a row group of one is held at a time.

    Args:
        directory: made where it is missing.
        words: (V,) strings without nulls or repetitions, by word_id.
        counts: (V,) int64.
        center, context: (V, D) float32, all finite.
        facts: about the run; they go as JSON into the metadata of every table's schema.
    """
    shape = _checked_shapes(words, counts, center, context)
    text = json.dumps(dict(facts), ensure_ascii=False, allow_nan=False, sort_keys=True)
    digests = {"facts": hashlib.sha256(text.encode()), "words": words_digest(words, counts)}
    # A file is named after everything that was written. A reader that listed one run's files and opens them when
    # those of another stand there finds them gone; under plain names it would take rows from each and not notice.
    # The same run twice gives the same names.
    for name, matrix in (("center", center), ("context", context)):
        digests[name] = hashlib.sha256()
        for start, stop in _slices(*shape):
            rows = np.ascontiguousarray(matrix[start:stop])
            _refuse_infinite(name, words, rows, start)
            digests[name].update(rows.data)
    sealed = {"rows": shape[0], **{name: digest.hexdigest() for name, digest in digests.items()}}
    seal = json.dumps(sealed, sort_keys=True)
    tag = hashlib.sha256(seal.encode()).hexdigest()[:16]

    ids = np.arange(shape[0], dtype=np.int32)
    vector = pa.field("vector", pa.list_(pa.field("element", pa.float32(), nullable=False), shape[1]), nullable=False)
    word_field, id_field, count_field = (
        pa.field("word", pa.string(), nullable=False),
        pa.field("word_id", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    )
    metadata = {METADATA_KEY: text.encode(), SEAL_KEY: seal.encode()}

    def vectors(matrix: Rows, start: int, stop: int) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix[start:stop].reshape(-1)), type=vector.type)

    _write_table(
        directory / "embeddings",
        tag,
        pa.schema([word_field, id_field, count_field, vector], metadata),
        lambda i, j: [words[i:j], pa.array(ids[i:j]), pa.array(counts[i:j]), vectors(center, i, j)],
        shape,
    )
    _write_table(
        directory / "context",
        tag,
        pa.schema([id_field, vector], metadata),
        lambda i, j: [pa.array(ids[i:j]), vectors(context, i, j)],
        shape,
    )
    _write_table(
        directory / "vocabulary",
        tag,
        pa.schema([id_field, word_field, count_field], metadata),
        lambda i, j: [pa.array(ids[i:j]), words[i:j], pa.array(counts[i:j])],
        shape,
    )


def read(output: Path) -> Embeddings:
    """The words, counts and vectors of a finished run, by word_id; BATCH_BYTES in memory next to the matrix."""

    def attempt() -> Embeddings:
        columns = {"word": pa.string(), "word_id": pa.int32(), "count": pa.int64()}
        table = _open(output, "embeddings", columns)
        vectors, (words, pieces) = _read_vectors(output, table, ["word", "count"])
        strings = pa.chunked_array(words, pa.string()).combine_chunks()
        if len(strings.unique()) != len(strings):
            raise OutputError(f"{output}: embeddings has a word twice; train again.")
        counts = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, pieces)])
        _check_words(output, table, strings, counts)
        return Embeddings(strings, counts, vectors)

    return _retried(output, attempt)


def read_context(output: Path) -> Float32Array:
    """(V, D): the other matrix of a finished run, by word_id."""

    def attempt() -> Float32Array:
        return _read_vectors(output, _open(output, "context", {"word_id": pa.int32()}), [])[0]

    return _retried(output, attempt)


def walk(output: Path, vectors: str = "center") -> Walk:
    """All words of a finished run, by word_id, and its vectors BATCH_BYTES at a time.

    Args:
        vectors: "center", "context", or "sum" of the two.
    """

    def attempt() -> Walk:
        names = ("center", "context") if vectors == "sum" else (vectors,)
        found = _stored(output, {"center", *names})
        return Walk(found.words, found.counts, found.dimensions, _sums(output, found.rows(*names)))

    return _retried(output, attempt)


def stored(output: Path) -> Stored:
    """A finished run, whatever is published over it later: its words, and both matrices BATCH_BYTES at a time."""
    return _retried(output, lambda: _stored(output, {"center", "context"}))


def _stored(output: Path, names: Collection[str]) -> Stored:
    columns = {"word": pa.string(), "word_id": pa.int32(), "count": pa.int64()}
    tables = {"center": _open(output, "embeddings", columns)}
    if "context" in names:
        tables["context"] = _open(output, "context", {"word_id": pa.int32()})
    if len({(table.rows, table.dimensions) for table in tables.values()}) > 1:
        raise OutputError(f"{output}: embeddings and context differ in rows or dimensions; train again.")
    with _damage_named(output):
        batches = [batch for file in tables["center"].files for batch in _batches(file, ["word", "count"])]
    words = pa.chunked_array([batch["word"] for batch in batches], pa.string()).combine_chunks()
    counts = pa.chunked_array([batch["count"] for batch in batches], pa.int64()).combine_chunks()
    if words.null_count or counts.null_count or len(words.unique()) != len(words):
        raise OutputError(f"{output}: embeddings has a word twice, or none in a row; train again.")
    _check_words(output, tables["center"], words, counts.to_numpy())
    return Stored(output, words, counts.to_numpy(), tables)


def facts(output: Path) -> dict[str, Fact]:
    """What the run wrote about itself into the metadata of its tables."""

    def attempt() -> dict[str, Fact]:
        metadata = _open(output, "embeddings", {}).files[0].schema_arrow.metadata or {}
        try:
            found = json.loads(metadata[METADATA_KEY])
        except (KeyError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise OutputError(f"{output}: embeddings holds no facts of a run; it was not written by this program.")
        return found

    return _retried(output, attempt)


def words_digest(words: pa.Array, counts: Int64Array) -> Any:
    """sha256 of the words of a run and how often they occur, in order."""
    digest = hashlib.sha256(np.ascontiguousarray(counts, "<i8").data)
    for start in range(0, len(words), WORDS):
        some = words[start : start + WORDS]
        digest.update(np.ascontiguousarray(pc.binary_length(some), "<i4").data)  # ab, c are not a, bc
        digest.update("".join(some.to_pylist()).encode())
    return digest


# Writing


def _checked_shapes(words: pa.Array, counts: NDArray[Any], center: Rows, context: Rows) -> tuple[int, int]:
    rows = len(words)
    if not pa.types.is_string(words.type) or words.null_count:
        raise OutputError(f"words must be strings without nulls, not {words.type} with {words.null_count} nulls.")
    if counts.shape != (rows,) or counts.dtype != np.int64:
        raise OutputError(f"counts must be ({rows},) int64, one a word, not {counts.shape} {counts.dtype}.")
    for name, matrix in (("center", center), ("context", context)):
        if len(matrix.shape) != 2 or matrix.shape[0] != rows or matrix.shape[1] < 1 or matrix.dtype != np.float32:
            raise OutputError(f"{name} must be ({rows}, D) float32, one row a word, not {matrix.shape} {matrix.dtype}.")
    if center.shape != context.shape:
        raise OutputError(f"center {center.shape} and context {context.shape} must have the same shape.")
    if len(words.unique()) != rows:
        raise OutputError(f"words must not repeat: {rows} words, of which {len(words.unique())} differ.")
    return rows, center.shape[1]


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


def _write_table(
    directory: Path,
    tag: str,
    schema: pa.Schema,
    columns: Callable[[int, int], list[pa.Array]],
    shape: tuple[int, int],
) -> None:
    directory.mkdir(parents=True)
    slices = list(_slices(*shape))
    groups = max(1, FILE_BYTES // ROW_GROUP_BYTES)
    for number in range(max(1, -(-len(slices) // groups))):
        path = directory / f"part-{number:05d}-{tag}.parquet"
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
            for start, stop in slices[number * groups : (number + 1) * groups]:
                batch = pa.record_batch(columns(start, stop), schema=schema)
                writer.write_batch(batch, row_group_size=stop - start)


# Reading


def _retried(output: Path, attempt: Callable[[], Answer]) -> Answer:
    """An answer from one run's files alone, also while another run is published over it."""
    for _ in range(ATTEMPTS - 1):
        before = _identity(output)
        try:
            answer = attempt()
        except OutputError:
            if before is not None and before == _identity(output):
                raise
        else:
            if before == _identity(output):
                return answer
    return attempt()


def _identity(output: Path) -> tuple[int, int, int] | None:
    """Which directory it is; inode numbers come again soon after one is deleted, so also when it was filled."""
    try:
        found = os.stat(output)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        # Arrow gives what is wrong with a file no number, what the system answered its own.
        code = error.errno if isinstance(error, OSError) else None
        if isinstance(error, MemoryError) or (code is not None and code not in ABSENT):
            why = os.strerror(code) if code else reason(error)
            raise StorageError(f"{path}: could not be read: {why}.") from None
        text = str(error).partition("\n")[0] or type(error).__name__
        raise OutputError(f"{path}: cannot be read, perhaps it is damaged ({text[:200].rstrip('.')}).") from None


class _Table(NamedTuple):
    """The opened files of one table.

    Args:
        rows: V.
        dimensions: D.
        seal: what SEAL_KEY says; empty for an output of an earlier version.
    """

    name: str
    files: list[pq.ParquetFile]
    rows: int
    dimensions: int
    seal: dict[str, Any]


def _open(output: Path, table: str, columns: Mapping[str, pa.DataType]) -> _Table:
    """One table of a finished run, its columns, its rows and its run checked."""
    with _damage_named(output):
        if not output.is_dir():
            raise OutputError(f"{output}: no such directory; give the OUTPUT of a finished run of jobs/train.py.")
        if not exists(output / "_SUCCESS"):
            raise OutputError(f"{output}: has no _SUCCESS, so it is not the output of a finished run.")
    paths = _parts(output / table)
    if not paths:
        raise OutputError(f"{output / table}: has no part-*.parquet; it is not the output of a finished run.")
    files: list[pq.ParquetFile] = []
    for path in paths:
        file = _open_part(path)
        schema = file.schema_arrow
        for name, kind in columns.items():
            _refuse_column(path, schema, name, kind.equals, str(kind))
        _refuse_column(path, schema, "vector", _is_vector, "fixed_size_list<float>")
        if files and schema.field("vector").type != files[0].schema_arrow.field("vector").type:
            raise OutputError(f"{path}: its vectors have another length than those of {paths[0].name}; train again.")
        files.append(file)
    seal = _seal_of_all(output, dict(zip(paths, files, strict=True)), table)
    rows = sum(file.metadata.num_rows for file in files)
    if seal and rows != seal["rows"]:
        raise OutputError(
            f"{output / table}: has {rows:,} rows in {len(files)} files and the run wrote {seal['rows']:,}, so a file "
            "is missing or there twice; copy the output again, or train again."
        )
    return _Table(table, files, rows, int(files[0].schema_arrow.field("vector").type.list_size), seal)


def _parts(directory: Path) -> list[Path]:
    """The files of a table, in order. Not by glob, which takes what it may not list for empty."""
    with _damage_named(directory):
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(directory / name for name in names if name.startswith("part-") and name.endswith(".parquet"))


def _open_part(path: Path) -> pq.ParquetFile:
    with _damage_named(path):
        if (kind := kind_of(os.stat(path).st_mode)) != "a file":  # a FIFO would be waited for
            raise OutputError(f"{path}: is {kind}, not a file; it is not the output of a finished run.")
        return pq.ParquetFile(path, page_checksum_verification=True, buffer_size=BUFFER_BYTES)


def _seal_of_all(output: Path, files: Mapping[Path, pq.ParquetFile], table: str) -> dict[str, Any]:
    """The seal that all files of a table have, and those of the other tables; empty where none has."""
    others = [parts[0] for name in TABLES if name != table and (parts := _parts(output / name))]
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


def _check_words(output: Path, table: _Table, words: pa.StringArray, counts: Int64Array) -> None:
    if table.seal and words_digest(words, counts).hexdigest() != table.seal["words"]:
        raise OutputError(
            f"{output}: words or counts of {table.name} are not those that the run wrote; copy the output again, or "
            "train again."
        )


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


def _read_vectors(output: Path, table: _Table, names: list[str]) -> tuple[Float32Array, list[list[pa.Array]]]:
    """(V, D) vectors in order, and the other columns in pieces; the rows checked on the way."""
    others: list[list[pa.Array]] = [[] for _ in names]
    with _damage_named(output):
        vectors: Float32Array = np.empty((table.rows, table.dimensions), np.float32)
        row = 0
        for values, columns in _checked_batches(output, table, names):
            vectors[row : row + len(values)] = values
            for pieces, column in zip(others, columns, strict=True):
                pieces.append(column)
            row += len(values)
    return vectors, others


def _sums(output: Path, rows: Iterator[tuple[Float32Array, ...]]) -> Iterator[Float32Array]:
    """(n, D) at a time: the sum of each tuple, which may be of one."""
    for pieces in rows:
        with np.errstate(over="ignore"):
            total = sum(pieces[1:], start=pieces[0])
        if not np.isfinite(total).all():
            raise OutputError(f"{output}: a sum of center and context vector is not finite.")
        yield total


def _checked_batches(output: Path, table: _Table, names: list[str]) -> Iterator[tuple[Float32Array, list[pa.Array]]]:
    """(n, D) vectors at a time, in order, and the other columns; every row checked, and at the end all of them."""
    dimensions, total = table.dimensions, table.rows
    digest = hashlib.sha256()
    with _damage_named(output):
        row = 0
        for file in table.files:
            for batch in _batches(file, ["word_id", "vector", *names]):
                if any(column.null_count for column in batch.columns):
                    raise OutputError(f"{output}: a table has nulls; train again.")
                ids = batch["word_id"].to_numpy()
                if len(ids) > total - row or not np.array_equal(ids, np.arange(row, row + len(ids))):
                    raise OutputError(f"{output}: word_id is not 0, 1, 2, ... from row to row; train again.")
                values = batch["vector"].flatten()
                if len(values) != len(ids) * dimensions or values.null_count:
                    raise OutputError(f"{output}: a table has nulls in its vectors; train again.")
                block: Float32Array = values.to_numpy().reshape(-1, dimensions)
                if not np.isfinite(block).all():
                    raise OutputError(f"{output}: a table has vectors that are not finite; train again.")
                row += len(ids)
                digest.update(np.ascontiguousarray(block, "<f4").data)
                yield block, [batch[name] for name in names]
        if row != total:
            raise OutputError(f"{output}: a table promises {total} rows and has {row}; train again.")
        if table.seal and digest.hexdigest() != table.seal[TABLES[table.name]]:
            raise OutputError(
                f"{output}: the vectors of {table.name} are not those that the run wrote; copy the output again, or "
                "train again."
            )


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    dimensions = file.schema_arrow.field("vector").type.list_size
    rows = max(1, BATCH_BYTES // (4 * dimensions)) if "vector" in columns else 1 << 16
    # Group after group: over all of them it holds several times what it has handed out.
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
