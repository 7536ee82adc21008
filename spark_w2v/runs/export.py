"""A finished output → the files of other people's tools, a few megabytes at a time. Needs no Spark.

    word2vec-text, word2vec-binary   one file, as word2vec.c and gensim write and read them
    mllib        a directory for pyspark.ml.feature.Word2VecModel.load
    projector    tensors.tsv and metadata.tsv, for TensorBoard's projector
    safetensors  vectors.safetensors with one tensor, vectors; words.txt
    npy          vectors.npy; words.txt

words.txt has one word a line; line i is row i of the vectors. metadata.tsv is read by the projector, which knows tabs
and line ends alone, and as CSV with tabs, where a quote at the start of a field means more: see _as_fields.

Letters: V words, D dimensions.
"""

import contextlib
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import embeddings
from spark_w2v.runs.embeddings import Walk
from spark_w2v.runs.local import LocalOutput
from spark_w2v.storage.files import kind_of, open_file, reason, remove_written, strangers
from spark_w2v.types import Float32Array, Int64Array

# What is written for each format; none: the target is one file.
FILES: dict[str, tuple[str, ...]] = {
    "word2vec-text": (),
    "word2vec-binary": (),
    "mllib": ("metadata/part-00000", "metadata/_SUCCESS", "data/part-00000.parquet", "data/_SUCCESS"),
    "projector": ("tensors.tsv", "metadata.tsv"),
    "safetensors": ("vectors.safetensors", "words.txt"),
    "npy": ("vectors.npy", "words.txt"),
}
VECTORS = ("center", "context", "sum")
PIECE_BYTES = 4 << 20  # of vectors written at a time; as text they are 5 times that
SPARK_VERSION = "4.3.0"  # whose layout of a saved Word2VecModel this is; earlier ones since 2.2 read it too
# gensim and smart_open, pandas and others unpack a file with such a name, whatever is in it.
PACKED = (".gz", ".bz2", ".xz", ".zst")
SIZES = re.compile(rb"[0-9]{1,19} [0-9]{1,19}\n")  # how a file of word2vec begins
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts

Rows = Iterator[tuple[pa.StringArray, Int64Array, Float32Array]]


class Exported(NamedTuple):
    """What was written; `replaced` words are spelled otherwise there."""

    words: int
    dimensions: int
    replaced: int


def export(
    output: Path, target: Path, form: str, *, vectors: str = "center", overwrite: bool = False, replace: bool = False
) -> Exported:
    """Write a finished output in one of FILES; the target appears whole or not at all.

    Args:
        vectors: one of VECTORS.
        overwrite: an earlier export of the same format may be replaced, or any file by a file.
        replace: write _ for white space that the format cannot hold in a word, and more _ until no other word is so.

    Raises:
        UserError, OutputError: the user's mistake; nothing is written.
        StorageError: what the storage refused.
    """
    _check(output, target, form, overwrite)
    walk = embeddings.walk(output, vectors)
    words, replaced = _writable(walk.words, form, replace)
    try:
        working = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target}: cannot be made ({reason(error)}).") from None
    try:
        staged = working / "staged"
        _write(form, staged, walk, words)
        _check(output, target, form, overwrite)  # again, as this took a while
        if FILES[form]:
            LocalOutput(str(target), target, _written(form)).publish(staged)
        else:
            os.replace(staged, target)
    except OSError as error:
        raise StorageError(f"{target}: could not be written ({reason(error)}).") from None
    finally:
        with contextlib.suppress(OSError):
            remove_written(working, re.compile(rf"staged(?:/(?:{_written(form).pattern})?)?"))
    return Exported(len(words), walk.dimensions, replaced)


def _check(output: Path, target: Path, form: str, overwrite: bool) -> None:
    """Refuse a target before anything is read: above all one that holds what no export wrote."""
    if target == output or output in target.parents:
        raise UserError(f"{target}: is inside of {output}, which holds a run and nothing else; give another path.")
    if not FILES[form] and target.suffix.lower() in PACKED:
        raise UserError(f"{target}: readers would take it for a packed file; give a name without {target.suffix}.")
    try:
        if not target.parent.is_dir():
            raise UserError(f"{target}: cannot be made, as {target.parent} is no directory.")
        if not os.path.lexists(target):
            return
        if FILES[form]:
            if not target.is_dir():
                raise UserError(f"{target}: is a file, and {form} is a directory; give another path.")
            if found := strangers(target, _written(form)):
                raise UserError(
                    f"{target}: holds {found[0]}, which no export to {form} wrote, so it is not touched, even with "
                    "--overwrite; give another path."
                )
        elif (kind := kind_of(os.lstat(target).st_mode)) != "a file":
            raise UserError(f"{target}: is {kind}, and {form} is a file; give another path.")
        elif overwrite:
            with open_file(target) as file:
                beginning = file.readline(50)
            if beginning and not SIZES.fullmatch(beginning):
                raise UserError(
                    f"{target}: does not begin as a file of word2vec does, so no export wrote it, and it is not "
                    "touched, even with --overwrite; give another path."
                )
    except OSError as error:
        raise StorageError(f"{target}: cannot be looked at ({reason(error)}).") from None
    if not overwrite:
        raise UserError(f"{target}: exists already; give --overwrite to replace it, or another path.")


def _written(form: str) -> re.Pattern[str]:
    """What an export writes into its directory, as files.strangers has it."""
    folders = {f"{name.partition('/')[0]}/" for name in FILES[form] if "/" in name}
    return re.compile("|".join(map(re.escape, sorted({*FILES[form], *folders}))))


# Words


def _writable(words: pa.StringArray, form: str, replace: bool) -> tuple[pa.StringArray, int]:
    """(V,) words as a format can hold them, and how many are spelled otherwise."""
    if form == "mllib":
        return words, 0
    in_one_field = form.startswith("word2vec")

    def is_bad(c: str) -> bool:
        return c.isspace() if in_one_field else c in LINE_ENDS or (c == "\t" and form == "projector")

    # \s is ASCII and \p{Z} separators; what they find too much, the definition above lets through.
    suspects = pc.or_(pc.match_substring_regex(words, r"[\s\v\x1c-\x1f\x85\p{Z}]"), pc.equal(words, ""))
    spelled: dict[int, str] = {}
    for i in pc.indices_nonzero(suspects).to_pylist():
        word = words[i].as_py()
        written = "".join("_" if is_bad(c) else c for c in word) or ("_" if in_one_field else "")
        if written != word:
            spelled[i] = written
    if not spelled:
        return words, 0
    if not replace:
        example = words[next(iter(spelled))].as_py()[:60]
        raise UserError(
            f"words with white space that {form} cannot hold: {len(spelled):,}, as {example!r}; give --white-space "
            "replace to write _ instead, or another format."
        )
    texts = words.to_pylist()
    taken = set(texts)
    for i, written in spelled.items():
        while written in taken:
            written += "_"
        taken.add(written)
        texts[i] = written
    return pa.array(texts, pa.string()), len(spelled)


# Formats


def _write(form: str, staged: Path, walk: Walk, words: pa.StringArray) -> None:
    rows = _rows(walk, words)
    shape = len(words), walk.dimensions
    for name in FILES[form]:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
    match form:
        case "word2vec-text":
            _write_text(staged, rows, shape)
        case "word2vec-binary":
            _write_binary(staged, rows, shape)
        case "mllib":
            _write_mllib(staged, rows, shape)
        case "projector":
            _write_projector(staged, rows)
        case "safetensors":
            _write_matrix(staged / "vectors.safetensors", _safetensors_header(shape), staged / "words.txt", rows)
        case "npy":
            _write_matrix(staged / "vectors.npy", _npy_header(shape), staged / "words.txt", rows)


def _rows(walk: Walk, words: pa.StringArray) -> Rows:
    """Words, counts and (n, D) little-endian vectors, PIECE_BYTES at a time."""
    step = max(1, PIECE_BYTES // (4 * walk.dimensions))
    row = 0
    for block in walk.blocks:
        for start in range(0, len(block), step):
            piece = np.ascontiguousarray(block[start : start + step], "<f4")
            stop = row + len(piece)
            yield words[row:stop], walk.counts[row:stop], piece
            row = stop


@contextlib.contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """A file that is on the disk when it is closed."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write_text(path: Path, rows: Rows, shape: tuple[int, int]) -> None:
    with _new(path) as file:
        file.write(b"%d %d\n" % shape)
        for words, _, block in rows:
            file.write(_lines(pc.binary_join_element_wise(words, _decimals(block, " "), " ")))


def _write_binary(path: Path, rows: Rows, shape: tuple[int, int]) -> None:
    with _new(path) as file:
        file.write(b"%d %d\n" % shape)
        for words, _, block in rows:
            # word2vec.c ends each row with a line feed; gensim does not write it, and both read either.
            file.writelines(
                word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(words.to_pylist(), block, strict=True)
            )


def _write_mllib(directory: Path, rows: Rows, shape: tuple[int, int]) -> None:
    metadata = {
        "class": "org.apache.spark.ml.feature.Word2VecModel",
        "timestamp": int(time.time() * 1000),
        "sparkVersion": SPARK_VERSION,
        "uid": f"Word2Vec_{uuid.uuid4().hex[:12]}",
        "paramMap": {"vectorSize": shape[1]},
        "defaultParamMap": {},
    }
    with _new(directory / "metadata" / "part-00000") as file:
        file.write(json.dumps(metadata).encode() + b"\n")
    schema = pa.schema([("word", pa.string()), ("vector", pa.list_(pa.field("element", pa.float32())))])
    with (
        _new(directory / "data" / "part-00000.parquet") as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for words, _, block in rows:
            writer.write_batch(
                pa.record_batch([words, _lists(pa.array(block.reshape(-1)), block.shape)], schema=schema)
            )
    for name in ("metadata", "data"):
        (directory / name / "_SUCCESS").touch()


def _write_projector(directory: Path, rows: Rows) -> None:
    with _new(directory / "tensors.tsv") as tensors, _new(directory / "metadata.tsv") as metadata:
        metadata.write(b"word\tcount\n")  # the projector expects a heading when there are two columns or more
        for words, counts, block in rows:
            tensors.write(_lines(_decimals(block, "\t")))
            columns = _as_fields(words), pc.cast(pa.array(counts), pa.string())
            metadata.write(_lines(pc.binary_join_element_wise(*columns, "\t")))


def _as_fields(words: pa.StringArray) -> pa.StringArray:
    """Words as fields of CSV: one that begins with a quote is quoted, and its quotes are doubled.

    To a reader of CSV nothing else at its start means the character, and unquoted it would read on through rows to the
    next quote. The projector shows the quotes; no field of both would be read as the same word.
    """
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(words, '"', '""'), '"', "")
    return pc.if_else(pc.starts_with(words, '"'), quoted, words)


def _write_matrix(path: Path, header: bytes, list_of_words: Path, rows: Rows) -> None:
    with _new(path) as matrix, _new(list_of_words) as file:
        matrix.write(header)
        for words, _, block in rows:
            matrix.write(block.data)
            file.write(_lines(words))


def _safetensors_header(shape: tuple[int, int]) -> bytes:
    """The format is this header and the bytes; its library would want the whole matrix in memory."""
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * shape[0] * shape[1]]}
    text = json.dumps({"__metadata__": {"words": "words.txt"}, "vectors": tensor}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _npy_header(shape: tuple[int, int]) -> bytes:
    file = pa.BufferOutputStream()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return bytes(file.getvalue())


def _decimals(block: Float32Array, mark: str) -> pa.StringArray:
    """(n,) the fewest digits of each number that lead back to the same float32."""
    return pc.binary_join(_lists(pc.cast(pa.array(block.reshape(-1)), pa.string()), block.shape), mark)


def _lists(values: pa.Array, shape: tuple[int, ...]) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(shape[0] + 1, dtype=np.int32) * np.int32(shape[1])), values)


def _lines(texts: pa.StringArray) -> bytes:
    return "".join(f"{text}\n" for text in texts.to_pylist()).encode()
