"""The cost model of bench/scale.py: its corpora, its counts of work, its fit. What it measures is not tested here."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import scale
from spark_w2v.skipgram import descent
from spark_w2v.skipgram.descent import GROUP, BlockNoise, Groups, cut_parts, frequent_rows
from spark_w2v.skipgram.pairs import Layout, Runs, enough_sweeps, epoch_edges
from spark_w2v.skipgram.parameters import deal_blocks
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.stages.training import expected_pairs, kept_words


@pytest.mark.parametrize(("words", "vocabulary"), [(100_000, 1_000), (100_000, 50_000)])
def test_a_corpus_has_the_words_and_the_vocabulary_that_were_asked_for(words: int, vocabulary: int) -> None:
    counts = scale.zipf_counts(words, vocabulary)
    assert counts.size == vocabulary
    assert counts.min() == 1 or words > 2 * vocabulary
    assert abs(counts.sum() / words - 1) < 0.01
    assert (np.diff(counts) <= 0).all()
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.01)


def test_the_text_has_every_word_as_often_as_its_count_says(tmp_path: Path) -> None:
    counts = np.array([2_000, 500, 1], np.int64)
    scale.write_text(counts, tmp_path / "text.txt")
    lines = (tmp_path / "text.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [1000, 1000, 501]
    words = " ".join(lines).split()
    assert [words.count(f"w{i}") for i in range(3)] == counts.tolist()


@pytest.fixture
def widest_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bench.scale takes for granted, and what the kernel does in buckets of many pairs."""
    monkeypatch.setattr(descent, "WIDTHS", (GROUP,))
    monkeypatch.setattr(descent, "LEAST_CUT", 1)


def test_expected_groups_are_those_that_the_kernel_cuts() -> None:
    rng = np.random.default_rng(3)
    for mean in (0.1, 1.0, 10.0, 100.0, 1000.0):
        drawn = rng.poisson(mean, 50_000).astype(np.int32)
        cut = len(Groups(lambda at: at, Runs(drawn, drawn, drawn), GROUP, drawn.size, rng)) / drawn.size
        assert scale.expected_groups(np.array([mean]))[0] == pytest.approx(cut, rel=0.02), f"{mean} pairs, {GROUP=}"


@pytest.mark.usefixtures("widest_groups")
@pytest.mark.parametrize("blocks", [1, 3])
def test_groups_of_a_run_are_those_that_the_kernel_cuts_in_two_parts(blocks: int) -> None:
    counts = scale.zipf_counts(200_000, 4_000)
    load = kept_words(counts, 1e-3)
    dealt, noise = deal_blocks(load, blocks), noise_distribution(counts, 0.75)
    layout, rng = Layout(dealt.bits, 0), np.random.default_rng(5)
    edges = epoch_edges(0, blocks, enough_sweeps(blocks))
    pairs = round(expected_pairs(float(load.sum()), 5))
    words = rng.choice(load.size, (2, pairs), p=load / load.sum())
    part = np.searchsorted(edges, rng.random(pairs), side="right")
    bucket = (part * blocks + dealt.block[words[0]]) * blocks + dealt.block[words[1]]
    groups = 0
    for number in np.unique(bucket):
        center, context = dealt.row[words[:, bucket == number]].astype(np.uint32)
        of_block = noise[dealt.of(dealt.order, number % blocks)]
        frequent = frequent_rows(of_block, 100)
        assert 0 < frequent < of_block.size / 2
        numbers = np.sort(center << np.uint32(layout.row) | context)
        centers = dealt.of(dealt.order, number // blocks % blocks).size
        cut = cut_parts(numbers, layout, centers, BlockNoise.of(of_block, 100), 5, rng)
        assert len(cut) == 2
        groups += sum(len(part.groups) for part in cut)
    assert scale.work_of(counts, 100, blocks, 2).groups == pytest.approx(groups, rel=0.02)


def test_a_heavy_task_holds_up_its_round() -> None:
    assert scale.span_of(np.array([1.0, 1.0, 1.0, 1.0]), 2) == pytest.approx(1 / 2)
    assert scale.span_of(np.array([1.0, 1.0, 1.0]), 2) == pytest.approx(2 / 3)
    assert scale.span_of(np.array([6.0, 1.0, 1.0, 1.0, 1.0]), 5) == pytest.approx(6 / 10)


def test_later_epochs_have_fewer_rounds_than_the_first() -> None:
    counts = scale.zipf_counts(100_000, 5_000)
    one, three = (scale.work_of(counts, 100, 4, 2, epochs) for epochs in (1, 3))
    sweeps = enough_sweeps(4)
    first = epoch_edges(0, 4, sweeps).size - 1
    assert one.rounds == first * 4
    assert three.rounds == one.rounds + 2 * sweeps * 4
    assert first > sweeps
    assert three.pairs == pytest.approx(3 * one.pairs)


def test_the_fit_finds_the_constants_that_made_the_runs() -> None:
    true = {part: [1e-6 * (k + 1) for k in range(len(terms))] for part, terms in scale.PARTS.items()}
    works = [
        scale.work_of(scale.zipf_counts(words, vocabulary), dimensions, blocks, 2)
        for words, vocabulary, dimensions, blocks in [
            (100_000, 2_000, 50, 2), (300_000, 2_000, 100, 2), (100_000, 20_000, 100, 2),
            (100_000, 2_000, 200, 4), (200_000, 70_000, 50, 8), (500_000, 2_000, 100, 1),
        ]
    ]  # fmt: skip
    found = scale.fit([(work, scale.predict(work, true)) for work in works])
    other = scale.work_of(scale.zipf_counts(1_000_000, 30_000), 300, 8, 2)
    expected = scale.predict(other, true)
    for part, value in scale.predict(other, found).items():
        assert value == pytest.approx(expected[part], rel=1e-3), part


def test_the_event_log_says_how_long_the_pairs_were_drawn_and_what_was_shuffled() -> None:
    def job(number: int, described: str) -> dict[str, object]:
        properties = {"spark.job.description": described}
        event = {"Event": "SparkListenerJobStart", "Job ID": number, "Submission Time": 1000 * number}
        return {**event, "Stage IDs": [number], "Properties": properties}

    def task(stage: int, written: int) -> dict[str, object]:
        metrics = {"Shuffle Write Metrics": {"Shuffle Bytes Written": written}}
        return {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Metrics": metrics}

    events = [
        job(1, "epoch 1 of 1: drawing the pairs"), task(1, 30), task(1, 12), task(1, 0),
        {"Event": "SparkListenerJobEnd", "Job ID": 1, "Completion Time": 3500},
        job(4, "epoch 1 of 1: round 1 of 16"), task(4, 7),
        {"Event": "SparkListenerJobEnd", "Job ID": 4, "Completion Time": 9000},
    ]  # fmt: skip
    found = scale.of_events(json.dumps(event) for event in events)
    assert found == {"draw_seconds": 2.5, "shuffled_bytes": 42}
