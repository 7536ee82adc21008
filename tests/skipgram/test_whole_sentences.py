"""Pairs of all words of a sentence, and sentences that are there as often as their weight says."""

import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram.held_out import draw_sample, sentences_held_out
from spark_w2v.skipgram.pairs import PairSampler, pairs_of_sentences
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.sampling import copy_in_pieces, copy_sentences, draw_copies
from spark_w2v.spark import memory
from spark_w2v.types import Float32Array, Float64Array, Int32Array
from tests.skipgram.test_pairs import PLACE, WHOLE, words_of

examples = settings(max_examples=80)


def positions(lengths: list[int], most: int, seed: int = 0) -> list[tuple[int, int]]:
    sentence = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    rank = np.random.default_rng(seed).random(sentence.size)
    return [
        (int(center), int(context))
        for centers, contexts in pairs_of_sentences(sentence, rank, most)
        for center, context in zip(centers, contexts, strict=True)
    ]


def sampler_of(words: int, max_contexts: int, held_out: float = 0.0, keep: float = 1.0) -> PairSampler:
    blocks = assign_blocks(np.ones(words), 2)
    return PairSampler(np.full(words, keep, np.float32), 0, 1, held_out, blocks, max_contexts)


@examples
@given(st.lists(st.integers(1, 9), max_size=8), st.integers(1, 12), st.integers(0, 99))
def test_a_center_is_paired_with_as_many_others_of_its_sentence_as_there_are_or_may_be(
    lengths: list[int], most: int, seed: int
) -> None:
    found = positions(lengths, most, seed)
    assert len(set(found)) == len(found)
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    assert all(center != context and sentence[center] == sentence[context] for center, context in found)
    contexts = Counter(center for center, _ in found)
    assert [contexts[center] for center in range(sentence.size)] == [
        min(n - 1, most) for n in lengths for _ in range(n)
    ]


@pytest.mark.parametrize(("length", "most"), [(6, 1), (6, 3), (6, 4), (7, 3)])
def test_each_pair_of_a_sentence_is_as_likely_as_any_other(length: int, most: int) -> None:
    draws = 4000
    found = Counter(pair for seed in range(draws) for pair in positions([length], most, seed))
    share = most / (length - 1)
    assert len(found) == length * (length - 1)
    # Five standard deviations of a binomial distribution.
    assert max(abs(count / draws - share) for count in found.values()) < 5 * np.sqrt(share * (1 - share) / draws)


def test_all_slices_together_are_what_is_drawn_at_once() -> None:
    sampler = sampler_of(40, 3, keep=0.8)
    ids = np.random.default_rng(2).integers(0, 40, 300).astype(np.int32)
    lengths, edges = np.full(60, 5, np.int32), np.array([0.0, 0.2, 0.5, 1.0])
    whole, words = sampler.pairs(PLACE, ids, lengths, 1, edges)
    alone = [sampler.pairs(PLACE, ids, lengths, 1, edges, only=k) for k in range(3)]
    assert np.array_equal(np.sort(whole), np.sort(np.concatenate([numbers for numbers, _ in alone])))
    assert words == sum(kept for _, kept in alone)


def test_the_held_out_pairs_are_of_whole_sentences_too() -> None:
    sampler = sampler_of(40, 10, held_out=0.9)
    lengths = np.full(50, 8, np.int32)
    ids = np.tile(np.arange(8, dtype=np.int32), 50)
    sample = draw_sample([(ids, lengths)], sampler, np.full(40, 1 / 40), 2)
    assert Counter(zip(sample.center.tolist(), sample.context.tolist(), strict=True)) == {
        (a, b): 50 for a in range(8) for b in range(8) if a != b
    }


# Weights


@examples
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=8))
def test_copies_of_sentences_follow_each_other(given: list[tuple[int, int]]) -> None:
    lengths = np.array([length for length, _ in given], np.int32)
    copies = np.array([count for _, count in given], np.int64)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    ends = np.cumsum(lengths)
    expected = [
        list(range(end - length, end)) for end, length, count in zip(ends, lengths, copies, strict=True)
        for _ in range(count)
    ]  # fmt: skip
    found, found_lengths = copy_sentences(ids, lengths, copies)
    assert found.tolist() == [word for sentence in expected for word in sentence]
    assert found_lengths.tolist() == [len(sentence) for sentence in expected]


@examples
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), max_size=8), st.integers(1, 20))
def test_copies_in_pieces_are_the_copies(given: list[tuple[int, int]], most: int) -> None:
    lengths = np.array([length for length, _ in given], np.int32)
    copies = np.array([count for _, count in given], np.int64)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    pieces = list(copy_in_pieces(ids, lengths, copies, most))
    for whole, parts in zip(copy_sentences(ids, lengths, copies), zip(*pieces, strict=True), strict=True):
        assert np.array_equal(np.concatenate(parts), whole)
    assert all(some.size < most + 5 for some, _ in pieces)
    assert len(pieces) == 1 or copies @ lengths > most


def test_a_sentence_is_drawn_as_often_as_its_weight_on_average_and_next_to_it_always() -> None:
    weights = np.array([0, 1, 3, 0.25, 2.75, 1000])
    rng = np.random.default_rng(1)
    drawn = np.array([draw_copies(weights, rng) for _ in range(4000)])
    assert (drawn[:, [0, 1, 2, 5]] == [0, 1, 3, 1000]).all()
    assert set(drawn[:, 3]) == {0, 1}
    assert set(drawn[:, 4]) == {2, 3}
    assert np.abs(drawn.mean(axis=0) - weights).max() < 5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize("window", [0, 1])
def test_pairs_of_a_whole_weight_are_those_of_the_sentence_repeated(window: int) -> None:
    """A window of 1 and whole sentences leave nothing to chance, so this holds for each draw, not only on average."""
    blocks = assign_blocks(np.ones(30), 2)
    sampler = PairSampler(np.ones(30, np.float32), window, 1, 0.0, blocks, 0 if window else 10)
    ids = np.random.default_rng(2).integers(0, 30, 40).astype(np.int32)
    lengths, weights = np.full(8, 5, np.int32), np.array([0, 1, 2, 3, 0, 1, 5, 2.0])
    weighted, words = sampler.pairs(PLACE, ids, lengths, 0, WHOLE, weights=weights)
    repeated = np.repeat(ids.reshape(8, 5), weights.astype(int), axis=0).ravel()
    expected, _ = sampler.pairs(PLACE, repeated, np.full(14, 5, np.int32), 0, WHOLE)
    assert words == 14 * 5
    assert words_of(weighted, blocks) == words_of(expected, blocks)


def expected_pairs_of(sentence: list[int], keep: Float32Array, window: int) -> Float64Array:
    """Return (V, V) how often each center and context are expected, over all ways in which words may be left out."""
    expected = np.zeros((keep.size, keep.size))
    for stays in itertools.product([False, True], repeat=len(sentence)):
        chance = np.prod([keep[word] if there else 1 - keep[word] for word, there in zip(sentence, stays, strict=True)])
        kept = [word for word, there in zip(sentence, stays, strict=True) if there]
        for (i, center), (j, context) in itertools.permutations(enumerate(kept), 2):
            expected[center, context] += chance * max(0, window + 1 - abs(i - j)) / window
    return expected


def test_pairs_of_a_whole_weight_are_on_average_those_of_the_sentence_repeated() -> None:
    """Also where words are left out by chance: of each copy others, so that copies vary no more than sentences do."""
    words, window, draws = 8, 5, 1500
    keep = np.array([0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], np.float32)
    sampler = PairSampler(keep, window, 1, 0.0, assign_blocks(np.arange(words, 0, -1.0), 1))
    sentences, weights = [[0, 1, 2, 3, 0, 7, 5], [4, 0, 6], [1, 1, 2, 6, 5, 4, 3, 0]], np.array([4, 1, 2])
    each = np.array([expected_pairs_of(sentence, keep, window) for sentence in sentences])
    expected = np.tensordot(weights, each, 1)
    repeated = [sentence for sentence, weight in zip(sentences, weights, strict=True) for _ in range(weight)]
    spread = []
    for text, of_text in ((sentences, weights.astype(np.float64)), (repeated, None)):
        ids, lengths = np.concatenate(text).astype(np.int32), np.array([len(s) for s in text], np.int32)
        found = np.array([
            np.bincount(sampler.pairs(PLACE, ids, lengths, epoch, WHOLE, weights=of_text)[0], minlength=words**2)
            for epoch in range(draws)
        ])  # fmt: skip
        error = found.std(axis=0) / np.sqrt(draws)
        order = sampler.blocks.order
        assert (np.abs(found.mean(axis=0) - expected[np.ix_(order, order)].ravel()) <= 4.5 * error + 1e-9).all()
        spread.append(found.sum(axis=1).std())
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


def test_a_held_out_sentence_is_never_trained_on_and_weighs_as_much() -> None:
    sampler = sampler_of(100, 10, held_out=0.3)
    ids, lengths = np.arange(100, dtype=np.int32), np.full(50, 2, np.int32)
    weights: Float64Array = np.full(50, 3.0)
    out = sampler.held_out_sentences(PLACE, 50)
    numbers, words = sampler.pairs(PLACE, ids, lengths, 2, WHOLE, weights=weights)
    assert 0 < out.sum() < 50
    assert words == 3 * 2 * (50 - out.sum())
    trained = {center for center, _ in words_of(numbers, sampler.blocks)}
    assert trained == set(ids[~np.repeat(out, lengths)].tolist())
    ((held_ids, held_lengths),) = sentences_held_out([(PLACE, ids, lengths, weights)], sampler)
    expected: Int32Array = np.repeat(ids.reshape(50, 2)[out], 3, axis=0).ravel()
    assert held_ids.tolist() == expected.tolist()
    assert held_lengths.tolist() == [2] * 3 * int(out.sum())


@pytest.mark.parametrize(("window", "most"), [(5, 0), (100, 0), (0, 50), (0, 200)])
def test_the_memory_of_a_segment_does_not_grow_with_the_window(window: int, most: int) -> None:
    sampler = replace(sampler_of(5000, most), window=window, shrinks=False)
    ids = np.random.default_rng(2).integers(0, 5000, 250_000).astype(np.int32)
    lengths = np.full(250, 1000, np.int32)
    size = words = peak = 0
    tracemalloc.start()
    for numbers, kept in sampler.parts(PLACE, ids, lengths, 0, WHOLE):
        size, words, peak = size + numbers.size, words + kept, max(peak, tracemalloc.get_traced_memory()[1])
        del numbers
    tracemalloc.stop()
    assert words == 250_000
    assert size == 250_000 * (most or 2 * window) - (0 if most else 250 * window * (window + 1))
    assert peak < memory.SEGMENT
