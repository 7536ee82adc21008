"""Which words are skipped and which are noise, against the formulas of the papers and of word2vec.c."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram import sampling
from spark_w2v.skipgram.sampling import draw_noise_sets, frequent_share, generator, keep_probability, noise_distribution

examples = settings(max_examples=80)


@examples
@given(
    counts=st.lists(st.integers(1, 10**12), min_size=1, max_size=30),
    subsample=st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2, 1.0]),
)
def test_words_are_kept_with_the_probability_of_word2vec_c(counts: list[int], subsample: float) -> None:
    # word2vec.c: ran = (sqrt(cn / (sample * train_words)) + 1) * (sample * train_words) / cn; skipped if ran < uniform
    total = sum(counts)
    wanted = [min(1.0, (math.sqrt(count / (subsample * total)) + 1) * (subsample * total) / count) for count in counts]
    found = keep_probability(np.array(counts, np.int64), total, subsample)
    assert found.dtype == np.float32
    assert (found > 0).all()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_word_of_a_tenth_of_the_text_is_kept_as_worked_out_by_hand() -> None:
    # t / f = 1e-3 / 0.1 = 0.01, sqrt(0.01) + 0.01 = 0.11; the paper's 1 - sqrt(t / f) would skip with 0.9
    found = keep_probability(np.array([100, 900], np.int64), 1000, 1e-3)
    assert found[0] == pytest.approx(0.11, rel=1e-6)


def test_a_word_that_occurs_once_is_kept_in_the_shortest_text() -> None:
    assert keep_probability(np.array([2, 1, 1], np.int64), 4, frequent_share(1e-3, 4)).tolist() == [1.0, 1.0, 1.0]
    assert frequent_share(1e-3, 10_000) == 1e-3
    assert frequent_share(0.0, 4) == 0.0


def test_a_threshold_of_zero_keeps_everything() -> None:
    assert keep_probability(np.array([1, 10**12], np.int64), 10**12 + 1, 0).tolist() == [1.0, 1.0]


def test_counts_beyond_32_bits_are_counted_right() -> None:
    counts = np.array([2**40, 2**33, 2**32 + 1, 1], np.int64)
    total = int(counts.sum())
    kept = keep_probability(counts, total, 1e-3)
    ratio = 1e-3 * total / 2**33
    assert kept[1] == pytest.approx(math.sqrt(ratio) + ratio, rel=1e-6)
    noise = noise_distribution(counts, 0.75)
    assert noise[0] / noise[1] == pytest.approx(2**5.25)
    assert noise[0] / noise[3] == pytest.approx(2.0**30)


def test_noise_is_as_frequent_as_the_count_to_the_exponent() -> None:
    counts = np.array([10_000, 625, 16, 1], np.int64)
    np.testing.assert_allclose(noise_distribution(counts, 0.75), np.array([1000, 125, 8, 1]) / 1134, rtol=1e-12)
    assert noise_distribution(counts, 0.0).tolist() == [0.25] * 4
    assert noise_distribution(counts, 1.0).sum() == pytest.approx(1.0, rel=1e-12)


def draw(noise: npt.NDArray[np.float64], sets: int, words: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Sets of noise words of a whole distribution."""
    return draw_noise_sets(np.cumsum(noise) / noise.sum(), 0, noise.size, sets, words, rng)


@examples
@given(
    counts=st.lists(st.integers(1, 10**6), min_size=1, max_size=60),
    sets=st.integers(1, 50),
    words=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_each_noise_word_is_drawn_as_often_as_its_probability_says_up_to_one(
    counts: list[int], sets: int, words: int, seed: int, data: st.DataObject
) -> None:
    noise = noise_distribution(np.array(counts, np.int64), 0.75)
    first = data.draw(st.integers(0, noise.size - 1))
    last = data.draw(st.integers(first + 1, noise.size))
    drawn = draw_noise_sets(np.cumsum(noise), first, last, sets, words, np.random.default_rng(seed))
    assert drawn.dtype == np.int32
    assert drawn.shape == (sets, words)
    assert drawn.flags.c_contiguous
    share = np.zeros(noise.size)
    share[first:last] = noise[first:last] / noise[first:last].sum()
    assert (np.abs(np.bincount(drawn.ravel(), minlength=noise.size) - drawn.size * share) < 1 + 1e-6).all()
    for row in drawn:  # and so in each set alone
        assert (np.diff(row) >= 0).all()
        assert (np.abs(np.bincount(row, minlength=noise.size) - words * share) < 1 + 1e-6).all()


def test_words_without_probability_are_never_drawn() -> None:
    noise = np.array([0, 0.5, 0, 0.5, 0])
    for seed in range(50):
        assert set(draw(noise, 1, 7, np.random.default_rng(seed)).ravel().tolist()) == {1, 3}


def test_sets_come_in_random_order() -> None:
    drawn = draw(np.full(100, 0.01), 5000, 3, np.random.default_rng(0))
    # Each set's correlation with its words: 4 sigma of 5,000 sets.
    for column in drawn.T:
        assert abs(np.corrcoef(np.arange(5000), column)[0, 1]) < 4 / math.sqrt(5000)


def test_rare_words_are_drawn_in_their_share_over_many_tasks() -> None:
    noise = noise_distribution(np.arange(1, 201, dtype=np.int64), 0.75)
    tasks, wanted = 2000, 20
    times = np.zeros(200)
    for task in range(tasks):
        drawn = draw(noise, 4, wanted // 4, generator(1, sampling.KERNEL, task))
        times += np.bincount(drawn.ravel(), minlength=200)
    expected = tasks * wanted * noise
    # A word is drawn at most once a task here, a Bernoulli variable: 4 sigma for the furthest of 200 words.
    assert (np.abs(times - expected) <= 4 * np.sqrt(expected)).all()


def test_random_numbers_are_the_same_at_the_same_place_and_others_elsewhere() -> None:
    uses = [
        sampling.INITIAL,
        sampling.HELD_OUT,
        sampling.PAIRS,
        sampling.RING,
        sampling.KERNEL,
        sampling.SAMPLE,
    ]
    places = [(seed, use, *place) for seed in (0, 1) for use in uses for place in [(), (1,), (2,), (1, 2), (2, 1)]]
    draws = [generator(*place).random() for place in places]
    assert len(set(draws)) == len(places)
    assert [generator(*place).random() for place in places] == draws


def test_a_place_may_lie_beyond_32_bits() -> None:
    assert generator(1, sampling.PAIRS, 2**40).random() != generator(1, sampling.PAIRS, 2**40 + 1).random()
