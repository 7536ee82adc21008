"""Indexes that find the nearest words without comparing all: HNSW graphs (Malkov and Yashunin 2016) of two libraries.

    usearch   vectors.usearch, the vectors as they are, by cosine
    faiss     vectors.faiss, the vectors at length 1, by inner product

Key i is row i of the vectors. Each library is imported only where its index is made; neither is a dependency.

Letters: V words, D dimensions.
"""

import errno
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spark_w2v.errors import UserError
from spark_w2v.skipgram.nearest_rows import unit_rows
from spark_w2v.storage.files import fsync
from spark_w2v.types import Float32Array

# What is imported, and what pip calls it.
LIBRARIES = {"usearch": ("usearch.index", "usearch"), "faiss": ("faiss", "faiss-cpu")}
# Links of a word, and candidates while it is added and asked for. Recall at 10 and its price: docs/measurements.md.
CONNECTIVITY = 32
EXPANSION_ADD = 128
PROBE = 1 << 20  # bytes that are written to learn why a library could not write
EXPANSION_SEARCH = 128  # stored by faiss; usearch stores none and takes 64, which finds as many there


def check_library(form: str) -> None:
    """Refuse a format whose library cannot be imported; other formats need none.

    Raises:
        UserError: with what to install.
    """
    if form in LIBRARIES:
        module, package = LIBRARIES[form]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"--format {form}: needs the package {package}, which cannot be imported ({error}); "
                f"pip install {package}."
            ) from None


def write_index(form: str, path: Path, chunks: Iterator[Float32Array], shape: tuple[int, int]) -> None:
    """Write one of LIBRARIES' indexes, which is in memory until then.

    Args:
        chunks: (n, D) at a time, V in all.
        shape: V, D.

    Raises:
        OSError: what the storage refused.
    """
    # On one core: with more, the order in which words are linked, and so the index, would be another each time.
    (_write_usearch if form == "usearch" else _write_faiss)(path, chunks, shape)
    fsync(path)


def _write_usearch(path: Path, chunks: Iterator[Float32Array], shape: tuple[int, int]) -> None:
    from usearch.index import Index

    index = Index(ndim=shape[1], metric="cos", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD)
    row = 0
    for vectors in chunks:
        index.add(np.arange(row, row + len(vectors), dtype=np.uint64), vectors, threads=1)
        row += len(vectors)
    try:
        index.save(str(path))
    except RuntimeError as error:  # without the error's number
        # The disk says it again, at no cost of memory: the index as bytes would be there twice.
        with open(path, "ab") as file:
            file.write(bytes(PROBE))
            os.fsync(file.fileno())
        raise OSError(errno.EIO, f"usearch: {error}") from None


def _write_faiss(path: Path, chunks: Iterator[Float32Array], shape: tuple[int, int]) -> None:
    import faiss

    index = faiss.IndexHNSWFlat(shape[1], CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EXPANSION_ADD
    index.hnsw.efSearch = EXPANSION_SEARCH
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for vectors in chunks:
            index.add(unit_rows(vectors).astype(np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    with open(path, "xb") as file:
        # Not its own files, whose errors have no number.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
