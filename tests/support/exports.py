"""Outputs to export, and readers of what was exported."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import safe_open
from usearch.index import Index

from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.commands import export
from spark_w2v.runs import embedding_writer
from spark_w2v.types import Float32Array
from tests.support.gensim_parts import keyed_vectors

ROOT = Path(__file__).resolve().parents[2]


# Ten scripts, emoji, combining marks, right to left, quotes, and what formats stumble over.
WORDS = [
    "king", "naïve", "ёлка", "ελπίδα", "שלום", "مرحبا", "हिन्दी", "日本語", "한국어", "ไทย", "ქართული", "አማርኛ",
    "👩‍🚀", "🇫🇷", "e\u0301te\u0301", "\u202eevil", "don't", '"quoted"', "'", '"', "#", "\\n", "\\", "a,b", "0.5",
    "NULL", "nan", "</s>", "\x1b[31m", "\x00", "\ufeff", "\u200b", "=1+1",
]  # fmt: skip


SPACED = ["New York", "tab\tin", "line\nend", "", "a\u00a0b", "\u2028", "carriage\rreturn", "New_York", "\x85", "\x1c"]


def finish(
    output: Path, words: list[str], center: Float32Array, context: Float32Array, ids: pa.Array | None = None
) -> Path:
    counts = np.arange(len(words), 0, -1).astype(np.int64) * 1000
    embedding_writer.write(output, pa.array(words, pa.string()), counts, center, context, {}, ids)
    (output / "_SUCCESS").touch()
    return output


def matrices(rows: int, dimensions: int = 7) -> tuple[Float32Array, Float32Array]:
    """Floats of all sizes, the least and the largest among them."""
    rng = np.random.default_rng(rows)
    center = (rng.normal(size=(rows, dimensions)) * 10.0 ** rng.integers(-30, 30, (rows, dimensions))).astype(
        np.float32
    )
    center[0, :7] = [0, -0.0, 1e-45, 3.4028235e38, 0.1, 16777216, -1.1754944e-38]
    return center, rng.normal(size=(rows, dimensions)).astype(np.float32)


def equal_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype == np.float32 and one.shape == other.shape and one.tobytes() == other.tobytes()


def load(form: str, target: Path) -> tuple[list[str], Float32Array]:
    """Words and vectors as the reader of each format gives them."""
    if form.startswith("word2vec"):
        keyed = keyed_vectors().load_word2vec_format(str(target), binary=form == "word2vec-binary")
        return keyed.index_to_key, keyed.vectors
    if form == "mllib":
        table = pd.read_parquet(target / "data")
        return table["word"].tolist(), np.stack(table["vector"].tolist())
    if form == "projector":
        # As the projector does: lines, then tabs, and nothing else has a meaning.
        heading, *lines = (target / "metadata.tsv").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        assert heading == "word\tcount"
        rows = (target / "tensors.tsv").read_text(encoding="ascii").removesuffix("\n").split("\n")
        words = [line.split("\t")[0] for line in lines]
        # It shows the quotes of CSV, and a row for each word.
        words = [word[1:-1].replace('""', '"') if word.startswith('"') else word for word in words]
        return words, np.array([row.split("\t") for row in rows]).astype(np.float32)
    words = (target / "words.txt").read_text(encoding="utf-8").splitlines()
    if form == "npy":
        return words, np.load(target / "vectors.npy", allow_pickle=False)
    if form == "usearch":
        index = Index.restore(str(target / "vectors.usearch"))
        assert index is not None
        assert len(index) == len(words)
        found: list[Any] = [index.get(key) for key in range(len(words))]
        return words, np.stack(found)
    if form == "faiss":
        graph = faiss.read_index(str(target / "vectors.faiss"))
        return words, graph.reconstruct_n(0, graph.ntotal)
    with safe_open(target / "vectors.safetensors", "numpy") as file:
        assert file.metadata() == {"words": "words.txt"}
        assert list(file.keys()) == ["vectors"]
        return words, file.get_tensor("vectors")


def stored(form: str, vectors: Float32Array) -> Float32Array:
    """Return the vectors as a format has them: of length 1 for faiss, which knows no cosine."""
    return unit_vectors(vectors) if form == "faiss" else vectors


def export_to(output: Path, form: str, target: Path, *more: str) -> int:
    return export.main([str(output), "--format", form, "--to", str(target), *more])
