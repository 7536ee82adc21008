"""Outputs for evaluation."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from spark_w2v.analysis import evaluation
from spark_w2v.analysis.evaluation import AnalogyIndex
from spark_w2v.runs.embedding_writer import write
from spark_w2v.runs.embeddings import Embeddings
from spark_w2v.types import Float32Array

ROOT = Path(__file__).resolve().parents[2]


def space_of(words: list[str], vectors: Float32Array, restrict: int = evaluation.RESTRICT) -> AnalogyIndex:
    counts = np.arange(len(words), 0, -1).astype(np.int64)
    return evaluation.space(Embeddings(pa.array(words, pa.string()), counts, vectors.copy()), restrict)


def finish(output: Path, words: list[str], vectors: Float32Array) -> Path:
    counts = np.arange(len(words), 0, -1).astype(np.int64) * 1000
    write(output, pa.array(words, pa.string()), counts, vectors, vectors, {})
    (output / "_SUCCESS").touch()
    return output
