"""The held-out loss against the textbook, and a sample that no training ever sees."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from spark_w2v.skipgram import held_out
from spark_w2v.skipgram.held_out import Sample, draw_sample, sentences_held_out
from spark_w2v.skipgram.pairs import PairSampler
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.reference import negative_sampling_loss_and_gradient
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.types import Int32Array

WORDS = 12


def some_drawing(share: float = 0.2, words: int = WORDS, window: int = 3, keep: float = 1.0) -> PairSampler:
    blocks = assign_blocks(np.ones(words), 1)
    return PairSampler(np.full(words, keep, np.float32), window, 1, share, blocks)


def some_sentences(sentences: int, words: int = WORDS) -> list[tuple[Int32Array, Int32Array]]:
    rng = np.random.default_rng(sentences)
    lengths = rng.integers(0, 9, sentences).astype(np.int32)
    return [(rng.integers(0, words, lengths.sum()).astype(np.int32), lengths)]


NOISE = noise_distribution(np.arange(WORDS, 0, -1, dtype=np.int64), 0.75)


@pytest.mark.parametrize("chunk", [1, 7, held_out.CHUNK])
def test_the_loss_equals_the_textbook_one_pair_at_a_time(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    center, context = (rng.normal(size=(WORDS, 5)).astype(np.float32) for _ in range(2))
    sample = draw_sample(some_sentences(20), some_drawing(), NOISE, 4)
    assert sample.center.size > 50
    losses = [
        negative_sampling_loss_and_gradient(center[c], o, context, noise)[0]
        for c, o, noise in zip(sample.center, sample.context, sample.noise, strict=True)
    ]
    assert sample.loss(center, context) == pytest.approx(np.mean(losses), rel=1e-12)


def test_the_loss_of_mapped_matrices_gathers_a_chunk_of_rows_and_copies_no_matrix(tmp_path: Path) -> None:
    words, dimensions = 50_000, 100
    rng = np.random.default_rng(0)
    rows = rng.integers(0, words, (20_000, 7)).astype(np.int32)
    sample = Sample(rows[:, 0], rows[:, 1], rows[:, 2:])
    # Files without a block on the disk: zeros, and a page of memory only for what is looked at.
    matrices = [np.memmap(tmp_path / name, np.float32, "w+", shape=(words, dimensions)) for name in ("c", "o")]
    tracemalloc.start()
    try:
        assert sample.loss(*matrices) == pytest.approx(6 * np.log(2), rel=1e-12)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    chunk = 4 * held_out.CHUNK * 7 * dimensions
    assert peak < 2 * chunk < matrices[0].nbytes


def test_many_negatives_take_no_more_memory_and_have_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(0, 0.1, (2, 500, 50)).astype(np.float32)
    sample = Sample(*(rng.integers(0, 500, shape).astype(np.int32) for shape in (2500, 2500, (2500, 400))))
    found = sample.loss(*vectors)
    tracemalloc.start()
    monkeypatch.setattr(held_out, "CHUNK_BYTES", 1 << 20)
    again = sample.loss(*vectors)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert again == pytest.approx(found, rel=1e-12)


def test_rows_that_know_nothing_lose_as_much_as_a_coin_for_each_word() -> None:
    sample = draw_sample(some_sentences(20), some_drawing(), NOISE, 5)
    zeros = np.zeros((WORDS, 3), np.float32)
    assert sample.loss(zeros, zeros) == pytest.approx(6 * np.log(2), rel=1e-12)


@pytest.mark.parametrize("sentences", [[], some_sentences(0), [(np.array([3], np.int32), np.array([1], np.int32))]])
def test_without_pairs_there_is_no_loss(sentences: list[tuple[Int32Array, Int32Array]]) -> None:
    sample = draw_sample(sentences, some_drawing(), NOISE, 5)
    assert sample.center.size == 0
    assert sample.loss(np.zeros((WORDS, 3), np.float32), np.zeros((WORDS, 3), np.float32)) is None


def test_a_sample_moved_with_its_rows_has_the_same_loss() -> None:
    rng = np.random.default_rng(0)
    center, context = (rng.normal(size=(WORDS, 5)).astype(np.float32) for _ in range(2))
    sample = draw_sample(some_sentences(20), some_drawing(), NOISE, 4)
    order = rng.permutation(WORDS)
    places = np.argsort(order).astype(np.int32)
    moved = sample.moved(places).loss(center[order], context[order])
    assert moved == pytest.approx(sample.loss(center, context), rel=1e-12)


def test_noise_of_a_pair_is_never_its_context_and_else_as_frequent_as_it_should_be() -> None:
    sample = draw_sample(some_sentences(3000), some_drawing(), NOISE, 5)
    assert sample.noise.shape == (sample.center.size, 5)
    assert not (sample.noise == sample.context[:, None]).any()
    # Of one context the noise is the distribution without it: 4 sigma for each of the other words.
    drawn = sample.noise[sample.context == 2].ravel()
    share = np.where(np.arange(WORDS) == 2, 0.0, NOISE)
    share /= share.sum()
    sigma = np.sqrt(drawn.size * share * (1 - share))
    assert (np.abs(np.bincount(drawn, minlength=WORDS) - drawn.size * share) <= 4 * sigma).all()


def test_where_one_word_has_nearly_all_noise_its_pairs_have_the_others() -> None:
    noise = np.full(WORDS, 1e-9)
    noise[2] = 1.0
    sample = draw_sample(some_sentences(300), some_drawing(), noise / noise.sum(), 50)
    assert (sample.context == 2).any()
    assert not (sample.noise == sample.context[:, None]).any()
    of_it = np.bincount(sample.noise[sample.context == 2].ravel(), minlength=WORDS)
    assert (of_it[np.arange(WORDS) != 2] > 0).all()


def test_a_vocabulary_of_one_word_has_only_itself_as_noise() -> None:
    sentences = [(np.zeros(4, np.int32), np.array([4], np.int32))]
    sample = draw_sample(sentences, some_drawing(words=1), np.ones(1), 2)
    assert sample.center.size > 0
    assert not sample.noise.any()


def test_pairs_are_of_one_sentence_and_within_the_window() -> None:
    # Words in order of the text, so that the distance of two words is that of their places.
    lengths = np.random.default_rng(3).integers(1, 9, 100).astype(np.int32)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    noise = np.full(ids.size, 1 / ids.size)
    segments = [(ids[: lengths[:40].sum()], lengths[:40]), (ids[lengths[:40].sum() :], lengths[40:])]
    sample = draw_sample(segments, some_drawing(words=ids.size), noise, 1)
    distance = np.abs(sample.center - sample.context)
    assert set(distance.tolist()) == {1, 2, 3}
    sentence = np.repeat(np.arange(100), lengths)
    assert (sentence[sample.center] == sentence[sample.context]).all()
    near = np.flatnonzero(np.diff(sentence) == 0)  # every center looks at least one word far
    assert {(int(a), int(a) + 1) for a in near} <= set(
        zip(sample.center.tolist(), sample.context.tolist(), strict=True)
    )


def test_no_more_pairs_are_sampled_than_the_mean_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MOST_PAIRS", 30)
    sample = draw_sample(some_sentences(500), some_drawing(), NOISE, 2)
    assert sample.center.size == sample.context.size == len(sample.noise) == 30


@pytest.mark.parametrize("most_contexts", [0, 400])
def test_the_sample_of_a_wide_window_takes_little_memory(most_contexts: int) -> None:
    """All pairs, four million or more, would take 16 bytes each."""
    sampler = PairSampler(
        np.ones(WORDS, np.float32), 300, 1, 0.2, assign_blocks(np.ones(WORDS), 1), most_contexts, shrinks=False
    )
    rng = np.random.default_rng(1)
    sentences = [(rng.integers(0, WORDS, 10_000).astype(np.int32), np.full(20, 500, np.int32))]
    tracemalloc.start()
    try:
        sample = draw_sample(sentences, sampler, NOISE, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sample.center.size == held_out.MOST_PAIRS
    assert peak < 30 << 20


def test_the_sample_is_the_same_each_time_and_another_with_another_seed() -> None:
    def draw(sampler: PairSampler) -> list[bytes]:
        sample: Sample = draw_sample(some_sentences(50), sampler, NOISE, 3)
        return [array.tobytes() for array in (sample.center, sample.context, sample.noise)]

    sampler = some_drawing()
    other = PairSampler(sampler.keep, sampler.window, 2, sampler.held_out, sampler.blocks)
    assert draw(sampler) == draw(sampler)
    assert draw(sampler) != draw(other)


def test_held_out_are_exactly_the_sentences_that_training_leaves_out_in_order_of_their_pieces() -> None:
    sampler = some_drawing(0.3, words=600, window=2)
    lengths = np.full(50, 3, np.int32)
    rows = [
        ((0, 1000 * n, n), np.arange(150 * n, 150 * (n + 1), dtype=np.int32), lengths, np.empty(0)) for n in range(4)
    ]
    found = sentences_held_out(reversed(rows), sampler)
    assert len(found) == len(rows)
    for (place, ids, _, _), (out_ids, out_lengths) in zip(rows, found, strict=True):
        numbers = sampler.pairs(place, ids, lengths, 1, np.array([0.0, 1.0]))[0]
        trained = {int(sampler.blocks.order[number & np.uint64((1 << sampler.blocks.bits) - 1)]) for number in numbers}
        assert 0 < out_lengths.size < 50
        assert (out_lengths == 3).all()
        assert sorted({*out_ids.tolist(), *trained}) == ids.tolist()
        assert not trained & set(out_ids.tolist())


@pytest.mark.parametrize("noise", [[1.0, 0.0, 0.0], [1.0, 1e-20, 1e-20], [1.0]])
def test_a_sample_is_drawn_where_one_word_has_all_the_noise(noise: list[float]) -> None:
    sentences = [(np.zeros(30, np.int32), np.full(3, 10, np.int32))]
    sample = draw_sample(sentences, some_drawing(words=len(noise)), np.array(noise), 4)
    assert sample.center.size
    assert set(sample.noise.ravel().tolist()) == {0}
