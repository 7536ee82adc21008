"""Groups cover each pair once, and are as wide as the pairs of a center fill."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram import groups
from spark_w2v.skipgram.groups import (
    BATCH,
    FREQUENT,
    GROUP,
    LEAST_CUT,
    LEAST_FREQUENT,
    MANY_PAIRS,
    MOST_APART,
    MOST_NOISE,
    WIDTHS,
    BlockNoise,
    Groups,
    cut_parts,
    frequent_rows,
    group_width,
)
from spark_w2v.skipgram.pairs import Runs
from spark_w2v.skipgram.sampling import noise_distribution
from tests.support.kernel import DIMENSIONS, FULL_BATCH, noise_of, numbered, some_task

examples = settings(max_examples=60)


def groups_of(pairs: list[int], seed: int, width: int = GROUP, chunk: int = 7) -> Groups:
    """Groups whose contexts are the positions of the pairs."""
    count = np.array(pairs, np.int32)
    first, last = (np.cumsum(count) - count).astype(np.int32), max(int(count.sum()) - 1, 0)
    runs = Runs(np.arange(count.size, dtype=np.int32) * 3, first, count)
    return Groups(lambda at: np.minimum(at, last).astype(np.int32), runs, width, chunk, np.random.default_rng(seed))


@examples
@given(
    pairs=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    seed=st.integers(0, 2**32),
    width=st.sampled_from(WIDTHS),
    chunk=st.sampled_from([7, 10_000]),
)
@example(pairs=[1], seed=0, width=8, chunk=7)
@example(pairs=[FULL_BATCH + 1], seed=0, width=8, chunk=7)
def test_groups_cover_each_pair_once_and_never_two_centers(pairs: list[int], seed: int, width: int, chunk: int) -> None:
    groups = groups_of(pairs, seed, width, chunk)
    center_of_pair = np.repeat(np.arange(len(pairs)), pairs)
    covered: list[int] = []
    for begin in groups.chunks():
        for center, contexts, length, total in zip(*groups.chunk(begin), strict=True):
            assert 1 <= length <= width == contexts.size
            assert (center_of_pair[contexts[:length]] * 3 == center).all()
            assert total == pairs[center // 3]
            covered.extend(contexts[:length])
    assert sorted(covered) == list(range(sum(pairs)))
    assert len(groups) == sum(-(-n // width) for n in pairs)


@pytest.mark.parametrize(
    ("pairs", "width"), [([1] * 50, 1), ([2] * 50, 2), ([4, 3] * 50, 4), ([8, 7, 90, 16] * 9, 8), ([1] * 50 + [9], 1)]
)
def test_groups_are_as_wide_as_centers_fill_them(pairs: list[int], width: int) -> None:
    assert group_width(np.array(pairs, np.int32)) == width


def test_groups_come_in_random_order() -> None:
    one, other = (groups_of([1] * 200, seed) for seed in (1, 2))
    orders = [np.concatenate([groups.chunk(begin).center for begin in groups.chunks()]) for groups in (one, other)]
    assert not np.array_equal(orders[0], np.sort(orders[0]))
    assert not np.array_equal(orders[0], orders[1])


def test_frequent_rows_have_half_of_the_noise_as_far_as_they_fit_and_are_not_too_few() -> None:
    noise = np.array([6.0] * 50 + [1.0] * 500)  # 300 and 500
    assert frequent_rows(noise, dimensions=100) == 50 + 100
    assert frequent_rows(noise, FREQUENT // (4 * 70)) == 70
    assert frequent_rows(noise, FREQUENT // (4 * (LEAST_FREQUENT - 1))) == noise.size
    assert frequent_rows(np.ones(2 * LEAST_FREQUENT - 4), 100) == 2 * LEAST_FREQUENT - 4
    assert frequent_rows(np.ones(1), 100) == 1


@examples
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=200),
    frequent=st.integers(1, 7),
    negatives=st.integers(0, 9),
)
def test_parts_share_all_pairs_and_give_each_row_its_noise(
    pairs: list[tuple[int, int]], frequent: int, negatives: int
) -> None:
    centers, contexts = (np.array(rows, np.int32) for rows in zip(*sorted(pairs), strict=True))
    noise = noise_distribution(np.array([900, 300, 100, 80, 9, 3, 1], np.int64), 0.75)
    block = dataclasses.replace(BlockNoise.of(noise, DIMENSIONS), frequent=frequent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "LEAST_CUT", 1)
        parts = cut_parts(*numbered(centers, contexts), 5, block, negatives, np.random.default_rng(1))
    assert len(parts) <= 2
    trained: list[tuple[int, int]] = []
    weight = np.zeros(7)
    for part in parts:
        found = [
            (int(center), int(context))
            for begin in part.groups.chunks()
            for center, row, length, _ in zip(*part.groups.chunk(begin), strict=True)
            for context in row[:length]
        ]
        trained += found
        if len(parts) == 2:
            assert len({context < frequent for _, context in found}) == 1
            assert len({context < frequent for context in [*part.noise.ravel(), found[0][1]]}) == 1
        assert part.amount <= MOST_NOISE * negatives * (1 + 1e-6)
        weight += len(found) * part.amount * np.bincount(part.noise.ravel(), minlength=7) / part.noise.size
    assert sorted(trained) == sorted(pairs)
    # A systematic sample: each row is noise as often as its share says, up to one.
    total, drawn = negatives * len(pairs), min(part.noise.size for part in parts)
    np.testing.assert_allclose(weight, total * noise, atol=2 * total / drawn + 1e-9)


def test_a_bucket_of_few_pairs_is_not_cut_and_one_of_many_is() -> None:
    rows = 4 * LEAST_FREQUENT
    for pairs, parts in [(LEAST_CUT - 1, 1), (LEAST_CUT, 2)]:
        task = some_task(pairs, context_rows=rows)
        numbers = numbered(task.centers, task.contexts)
        assert len(cut_parts(*numbers, len(task.center_rows), noise_of(task), 5, np.random.default_rng(1))) == parts


@pytest.mark.parametrize(
    ("apart", "of_each", "parts"),
    [(MOST_APART, MANY_PAIRS, 2), (MOST_APART + 0.01, MANY_PAIRS, 1), (0.9, MANY_PAIRS - 1, 2), (0.9, MANY_PAIRS, 1)],
)
def test_a_bucket_of_many_centers_whose_contexts_are_all_of_one_kind_is_not_cut(
    apart: float, of_each: int, parts: int
) -> None:
    block = BlockNoise.of(np.full(4 * LEAST_FREQUENT, 0.25 / LEAST_FREQUENT), DIMENSIONS)
    pair = np.arange(2 * LEAST_CUT)
    one_sided = int(apart * pair.size) // of_each  # centers; the other 50 have contexts of both kinds
    center = np.where(pair < one_sided * of_each, pair // of_each, one_sided + pair % 50)
    kind = np.where(center < one_sided, center, pair // 50) % 2
    context = kind * block.frequent + pair % block.frequent
    numbers = numbered(center.astype(np.int32), np.minimum(context, block.share.size - 1).astype(np.int32))
    assert len(cut_parts(*numbers, one_sided + 50, block, 5, np.random.default_rng(1))) == parts


@pytest.mark.parametrize(
    ("rows", "narrow", "wide"), [(100, 48, 64), (1023, 48, 64), (1024, 16, 64), (2047, 16, 64), (2048, 12, 48)]
)
def test_narrow_groups_of_small_blocks_have_more_noise_words(rows: int, narrow: int, wide: int) -> None:
    noise = BlockNoise.of(np.ones(rows), 100)
    assert (noise.words(2), noise.words(GROUP)) == (narrow, wide)


def test_words_that_do_not_occur_make_no_batch_larger() -> None:
    noise = np.r_[np.full(15, 1 / 15), np.zeros(20_000)]
    assert BlockNoise.of(noise, 10).batch == BlockNoise.of(noise[:15], 10).batch < BATCH
