"""Far too many partitions for a corpus: gensim's Lee corpus, 300 documents, where MLlib once gave Infinity."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_w2v.runs import embeddings
from tests.support.gensim_parts import data
from tests.support.training_job import submit

TOP, ASKED = 10, 200


def neighbours(output: Path) -> list[set[int]]:
    """The nearest words of each of the most frequent ones."""
    vectors = embeddings.read(output).vectors
    assert np.isfinite(vectors).all()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = units[:ASKED] @ units.T
    scores[np.arange(ASKED), np.arange(ASKED)] = -1
    return [set(row) for row in np.argsort(-scores, axis=1)[:, :TOP].tolist()]


def agreement(one: list[set[int]], other: list[set[int]]) -> float:
    return float(np.mean([len(a & b) / TOP for a, b in zip(one, other, strict=True)]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_forty_partitions_of_a_small_corpus_are_finite_and_agree_as_well_as_another_seed(
    java_home: str, tmp_path: Path
) -> None:
    def run(name: str, **training: Any) -> list[set[int]]:
        output = tmp_path / name
        settings = {"epochs": 20, "dimensions": 50, **training}
        sets = [part for key, value in settings.items() for part in ("--set", f"training.{key}={value}")]
        done = submit(["--input", data("lee_background.cor"), "--output", output, *sets])
        assert done.returncode == 0, done.stdout
        assert json.loads((output / "run.json").read_text())["resolved"]["partitions_used"] < 40
        return neighbours(output)

    reference = run("reference", partitions=1, seed=1)
    other_seed = agreement(reference, run("other", partitions=1, seed=2))
    assert other_seed > 10 * TOP / embeddings.read(tmp_path / "other").vectors.shape[0]  # more than by chance
    for scheme in ("blocks", "replicas"):
        found = agreement(reference, run(scheme, partitions=40, scheme=scheme, seed=2))
        print(f"{scheme}: {found:.3f}, another seed {other_seed:.3f}")
        assert found >= 0.9 * other_seed
