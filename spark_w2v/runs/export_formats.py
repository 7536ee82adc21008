"""The files of other tools, written a few megabytes at a time.

    word2vec-text, word2vec-binary   one file, as word2vec.c and gensim write and read them
    mllib        a directory for pyspark.ml.feature.Word2VecModel.load
    projector    tensors.tsv and metadata.tsv, for TensorBoard's projector
    safetensors  vectors.safetensors with one tensor, vectors; words.txt
    npy          vectors.npy; words.txt
    usearch      vectors.usearch, as index_formats has it; words.txt
    faiss        vectors.faiss, likewise; words.txt

words.txt has one word per line; line i is row i of the vectors. Next to an index, ids.npy has the words as numbers of
the column `id`, where there is one. metadata.tsv is read by the projector, which knows tabs
and line ends alone, and as CSV with tabs, where a quote at the start of a field means more: see _as_fields.

Letters: V words, D dimensions.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_w2v.errors import UserError
from spark_w2v.runs.embeddings import VectorChunks
from spark_w2v.runs.index_formats import write_index
from spark_w2v.types import Float32Array, Int64Array

# What is written for each format; none: the target is one file. ids.npy alone may be missing.
FILES: dict[str, tuple[str, ...]] = {
    "word2vec-text": (),
    "word2vec-binary": (),
    "mllib": ("metadata/part-00000", "metadata/_SUCCESS", "data/part-00000.parquet", "data/_SUCCESS"),
    "projector": ("tensors.tsv", "metadata.tsv"),
    "safetensors": ("vectors.safetensors", "words.txt"),
    "npy": ("vectors.npy", "words.txt"),
    "usearch": ("vectors.usearch", "words.txt", "ids.npy"),
    "faiss": ("vectors.faiss", "words.txt", "ids.npy"),
}
CHUNK_BYTES = 4 << 20  # of vectors written at a time; as text they are 5 times that
SPARK_VERSION = "4.3.0"  # whose layout of a saved Word2VecModel this is; earlier ones since 2.2 read it too
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts

Rows = Iterator[tuple[pa.StringArray, Int64Array, Float32Array]]


def writable_words(words: pa.StringArray, form: str, replace: bool) -> tuple[pa.StringArray, int]:
    """Return the (V,) words as a format can hold them, and how many are spelled otherwise.

    Args:
        replace: write _ for white space that the format cannot hold in a word, and more _ until the word is unique.

    Raises:
        UserError: there are such words, and replace is false.
    """
    if form == "mllib":
        return words, 0
    in_one_field = form.startswith("word2vec")

    def is_bad(c: str) -> bool:
        return c.isspace() if in_one_field else c in LINE_ENDS or (c == "\t" and form == "projector")

    # \s is ASCII and \p{Z} separators; what they find in excess, is_bad lets through.
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


def write_format(
    form: str, target: Path, found: VectorChunks, words: pa.StringArray, ids: NDArray[Any] | None = None
) -> None:
    """Write one of FILES.

    Args:
        target: the file, or the directory that is made.
        words: (V,) as writable_words returned them.
        ids: (V,) the words as whole numbers, for an index; None where they are none.
    """
    rows = _rows(found, words)
    shape = len(words), found.dimensions
    for name in FILES[form]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    match form:
        case "word2vec-text":
            _write_text(target, rows, shape)
        case "word2vec-binary":
            _write_binary(target, rows, shape)
        case "mllib":
            _write_mllib(target, rows, shape)
        case "projector":
            _write_projector(target, rows)
        case "safetensors":
            _write_matrix(target / "vectors.safetensors", _safetensors_header(shape), target / "words.txt", rows)
        case "npy":
            _write_matrix(target / "vectors.npy", _npy_header(shape), target / "words.txt", rows)
        case "usearch" | "faiss":
            with _new(target / "words.txt") as file:
                file.write(_lines(words))
            if ids is not None:
                with _new(target / "ids.npy") as file:
                    np.lib.format.write_array(file, ids, allow_pickle=False)
            write_index(form, target / FILES[form][0], (vectors for _, _, vectors in rows), shape)


def _rows(found: VectorChunks, words: pa.StringArray) -> Rows:
    """Words, counts and (n, D) little-endian vectors, CHUNK_BYTES at a time."""
    step = max(1, CHUNK_BYTES // (4 * found.dimensions))
    row = 0
    for vectors in found.chunks:
        for start in range(0, len(vectors), step):
            chunk = np.ascontiguousarray(vectors[start : start + step], "<f4")
            stop = row + len(chunk)
            yield words[row:stop], found.counts[row:stop], chunk
            row = stop


@contextlib.contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """Make a file that is on the disk when it is closed."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write_text(path: Path, rows: Rows, shape: tuple[int, int]) -> None:
    with _new(path) as file:
        file.write(b"%d %d\n" % shape)
        for words, _, vectors in rows:
            file.write(_lines(pc.binary_join_element_wise(words, _decimals(vectors, " "), " ")))


def write_counts(path: Path, words: pa.StringArray, counts: Int64Array) -> None:
    """Write "word count" lines, which word2vec.c and gensim call a vocabulary (fvocab)."""
    with _new(path) as file:
        step = CHUNK_BYTES // 16
        for start in range(0, len(words), step):
            numbers = pc.cast(pa.array(counts[start : start + step]), pa.string())
            file.write(_lines(pc.binary_join_element_wise(words[start : start + step], numbers, " ")))


def _write_binary(path: Path, rows: Rows, shape: tuple[int, int]) -> None:
    with _new(path) as file:
        file.write(b"%d %d\n" % shape)
        for words, _, vectors in rows:
            # word2vec.c ends each row with a line feed; gensim does not write it, and both read either.
            file.writelines(
                word.encode() + b" " + row.tobytes() + b"\n"
                for word, row in zip(words.to_pylist(), vectors, strict=True)
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
        for words, _, vectors in rows:
            writer.write_batch(
                pa.record_batch([words, _lists(pa.array(vectors.reshape(-1)), vectors.shape)], schema=schema)
            )
    for name in ("metadata", "data"):
        (directory / name / "_SUCCESS").touch()


def _write_projector(directory: Path, rows: Rows) -> None:
    with _new(directory / "tensors.tsv") as tensors, _new(directory / "metadata.tsv") as metadata:
        metadata.write(b"word\tcount\n")  # the projector expects a heading when there are two columns or more
        for words, counts, vectors in rows:
            tensors.write(_lines(_decimals(vectors, "\t")))
            columns = _as_fields(words), pc.cast(pa.array(counts), pa.string())
            metadata.write(_lines(pc.binary_join_element_wise(*columns, "\t")))


def _as_fields(words: pa.StringArray) -> pa.StringArray:
    """Words as fields of CSV: one that begins with a quote is quoted, and its quotes are doubled.

    To a reader of CSV nothing else at its start means the character, and unquoted it would read on through rows to the
    next quote. The projector shows the quotes; no field of both would be read as the same word.
    """
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(words, '"', '""'), '"', "")
    return pc.if_else(pc.starts_with(words, '"'), quoted, words)


def _write_matrix(path: Path, header: bytes, words_path: Path, rows: Rows) -> None:
    with _new(path) as matrix, _new(words_path) as file:
        matrix.write(header)
        for words, _, vectors in rows:
            matrix.write(vectors.data)
            file.write(_lines(words))


def _safetensors_header(shape: tuple[int, int]) -> bytes:
    """The format is this header and the bytes; its library needs the whole matrix in memory."""
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * shape[0] * shape[1]]}
    text = json.dumps({"__metadata__": {"words": "words.txt"}, "vectors": tensor}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _npy_header(shape: tuple[int, int]) -> bytes:
    file = pa.BufferOutputStream()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return bytes(file.getvalue())


def _decimals(vectors: Float32Array, mark: str) -> pa.StringArray:
    """(n,) each row as the fewest digits of each number that parse to the same float32."""
    return pc.binary_join(_lists(pc.cast(pa.array(vectors.reshape(-1)), pa.string()), vectors.shape), mark)


def _lists(values: pa.Array, shape: tuple[int, ...]) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(shape[0] + 1, dtype=np.int32) * np.int32(shape[1])), values)


def _lines(texts: pa.StringArray) -> bytes:
    return "".join(f"{text}\n" for text in texts.to_pylist()).encode()
