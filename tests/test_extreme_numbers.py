"""The training job with extreme configurations and tiny corpora: one sentence, or vectors of finite numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v.runs.checkpoints import newest_checkpoint
from spark_w2v.runs.embeddings import read
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.spark import block_epochs, training_state
from spark_w2v.spark.training_state import MOST_LOSS
from tests.support.outcomes import GOOD, Outcome, job_of
from tests.support.training_job import planted_corpus


@pytest.fixture
def run(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return job_of(spark, tmp_path, capsys)


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    "keys",
    [
        {"training.dimensions": 1},
        {"training.window": 1000},
        {"training.negatives": 1000},
        {"vocabulary.max_words": 2},
        {"vocabulary.max_words": 2, "training.scheme": "replicas"},
        pytest.param({"training.partitions": 4096}, marks=pytest.mark.slow),
        pytest.param({"training.noise_exponent": -5}, marks=pytest.mark.slow),
        pytest.param({"training.noise_exponent": 5}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_extreme_numbers_give_sound_vectors(run: Callable[..., Outcome], tmp_path: Path, keys: dict[str, Any]) -> None:
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    outcome = run(**{key.replace(".", "__"): value for key, value in keys.items()})
    assert outcome.code == 0
    assert outcome.corpus["lines"] == 600
    assert len(outcome.words) == keys.get("vocabulary.max_words", 8)


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three four five", 5),
        ("yes no\n" * 200, 2),
        ("same same same same\n" * 200, 1),
        ("\n".join(GOOD.decode().split()), "no pair to train on: every sentence has fewer than two words"),
        ("hello", "no pair to train on: every sentence has fewer than two words of the vocabulary, which is one word"),
    ],
    ids=["one sentence", "two words", "one word again and again", "sentences of one word", "one word"],
)
@pytest.mark.parametrize("scheme", ["blocks", pytest.param("replicas", marks=pytest.mark.slow)])
def test_tiny_corpora_give_sound_vectors_or_one_sentence(
    run: Callable[..., Outcome], tmp_path: Path, scheme: str, text: str, words: int | str
) -> None:
    (tmp_path / "in" / "tiny.txt").write_text(text)
    outcome = run(training__scheme=scheme)
    if isinstance(words, int):
        assert (outcome.code, len(outcome.words)) == (0, words)
    else:
        assert outcome.code == 2
        assert words in outcome.said[0]


def test_a_run_without_a_pair_leaves_nothing_that_no_run_could_go_on_from(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "in" / "tiny.txt").write_text("\n".join(GOOD.decode().split()))
    outcome = run(training__sweeps_per_epoch=2, training__scheme="blocks", output__checkpoint="sweep")
    assert outcome.code == 2
    assert not (tmp_path / ".out.working").exists()


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_a_rate_that_is_too_high_gives_sound_vectors_or_one_sentence(
    run: Callable[..., Outcome], tmp_path: Path, scheme: str
) -> None:
    planted_corpus(tmp_path / "in" / "a.txt", sentences=2000)
    outcome = run(training__scheme=scheme, training__learning_rate=1, training__dimensions=16, training__epochs=3)
    if outcome.code:
        assert outcome.code == 1
        assert "Lower training.learning_rate (1) or raise training.damping (0.1)" in outcome.said[0]
    else:
        losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
        assert max(losses) < MOST_LOSS * 6 * np.log(2)


@pytest.mark.slow
def test_a_text_of_which_most_is_one_word_is_trained_in_blocks_without_subsampling(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    falling = 1 / np.arange(1, 2501) ** 0.5
    others = 1 + rng.choice(2500, 60_000, p=falling / falling.sum())
    words = [f"w{word}" for word in np.where(rng.random(60_000) < 0.7, 0, others)]
    (tmp_path / "in" / "a.txt").write_text("\n".join(" ".join(words[at : at + 20]) for at in range(0, 60_000, 20)))
    outcome = run(
        training__scheme="blocks", training__partitions=3, training__dimensions=100, training__epochs=1,
        vocabulary__subsample=0, vocabulary__min_count=1, training__held_out_words=0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.said
    assert np.linalg.norm(read(str(tmp_path / "out")).vectors, axis=1).max() < 10


@pytest.mark.slow
@pytest.mark.parametrize("damping", [0.1, 0.01])
def test_frequent_words_are_trained_at_a_rate_that_is_far_too_high(
    run: Callable[..., Outcome], tmp_path: Path, damping: float
) -> None:
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, 1001)
    words = [f"w{word}" for word in rng.choice(1000, 20_000, p=share / share.sum())]
    (tmp_path / "in" / "a.txt").write_text("\n".join(" ".join(words[at : at + 20]) for at in range(0, 20_000, 20)))
    outcome = run(
        training__scheme="replicas", training__learning_rate=1, training__partitions=2, training__dimensions=16,
        training__epochs=2, training__damping=damping,
    )  # fmt: skip
    assert outcome.code == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert max(losses) < MOST_LOSS * 6 * np.log(2)


@pytest.mark.parametrize("name", ["MOST_LOSS", "MOST_HELD_OUT_LOSS"])
def test_a_loss_that_is_finite_and_too_large_publishes_nothing(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(training_state, name, 0.1)  # of an untrained model's
    planted_corpus(tmp_path / "in" / "a.txt", sentences=200)
    outcome = run(training__epochs=2, training__dimensions=8, training__held_out_words=100)
    assert outcome.code == 1
    what = "loss" if name == "MOST_LOSS" else "held-out loss"
    assert re.search(rf"training diverged in epoch 1: its {what} is \d\.\d+ per pair, and that of an", outcome.said[0])
    assert not (tmp_path / "out").exists()


def test_training_that_diverges_stops_at_that_sweep_and_keeps_the_last_checkpoint(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"training__epochs": 2, "training__sweeps_per_epoch": 2, "training__scheme": "blocks"}
    (tmp_path / "in" / "good.txt").write_bytes(GOOD)
    assert run(**settings).code == 0
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    check, seen = block_epochs._refuse_diverged, list[ParameterFiles]()

    def spoil(parameters: ParameterFiles) -> None:
        seen.append(parameters)
        if len(seen) == 2:
            parameters.context[-1, -1] = np.inf
        check(parameters)

    with monkeypatch.context() as patched:
        patched.setattr(block_epochs, "_refuse_diverged", spoil)
        outcome = run(**settings)
    assert outcome.code == 1
    assert "training diverged in epoch 2: a parameter is not finite. Lower" in outcome.said[0]
    kept = newest_checkpoint(tmp_path / ".out.working" / "checkpoints")
    assert kept is not None
    assert (kept.position["epoch"], kept.position["sweep"]) == (1, 0)
    assert all(np.isfinite(matrix).all() for matrix in (kept.parameters.center, kept.parameters.context))
    assert run("--resume", **settings).code == 0
    assert np.array_equal(read(tmp_path / "out").vectors, read(tmp_path / "undisturbed").vectors)
