"""The noise of a center in a bucket of some of its pairs, and how far rows step in one that is mostly one pair."""

import numpy as np
import pytest

from spark_w2v.skipgram import groups, kernel
from spark_w2v.skipgram.groups import BlockNoise, cut_parts
from spark_w2v.skipgram.kernel import farthest_step
from spark_w2v.skipgram.pairs import PairCodec
from tests.support.kernel import (
    DIMENSIONS,
    RATE,
    assert_same_change,
    constant,
    noise_of,
    numbered,
    some_task,
    train,
    train_plainly,
)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("frequent", [2, 7])
def test_a_center_has_the_noise_of_its_share_of_all_its_pairs(frequent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "FREQUENT", 4 * DIMENSIONS * frequent)
    monkeypatch.setattr(groups, "LEAST_FREQUENT", 1)
    task, params = some_task(61), constant(RATE)
    task = task._replace(noise=task.noise / 4)  # of this block, so that a quarter of a center's pairs is expected here
    center_pairs = np.array([12, 44, 160, 0, 4000], np.float32)
    wanted = train_plainly(task, params, 3, np.float32(0.25) * center_pairs)
    center_rows, context_rows, done = train(task, params, 3, center_pairs=center_pairs)
    assert_same_change(task, (center_rows, context_rows), wanted)
    assert done.loss == pytest.approx(wanted.loss, rel=1e-5)


def test_noise_is_corrected_smoothly_and_at_most_four_times() -> None:
    task = some_task(61)
    found = np.bincount(task.centers, minlength=5)
    parts = cut_parts(*numbered(task.centers, task.contexts), 5, noise_of(task), 3, np.random.default_rng(0))
    assert kernel.noise_amounts(parts, 2 * found.astype(np.float32), 0.5).tolist() == [1] * 5
    amounts = kernel.noise_amounts(parts, np.array([0, *found[1:4] * 4, 1000], np.float32), 0.5)
    assert amounts.tolist() == pytest.approx([2 / (found[0] + 2), *(2 * found[1:4] + 2) / (found[1:4] + 2), 4])


def test_a_center_has_k_noise_words_per_pair_with_all_blocks_however_many_pairs_an_occurrence_has() -> None:
    """Of a sweep whose contexts are as frequent as their noise words; as in baskets of 2 and of 20."""
    rng, blocks, rows = np.random.default_rng(1), 4, 50
    share = np.array([0.4, 0.3, 0.2, 0.1])  # of the contexts, and of the noise words, that are in each block
    pairs_of = np.where(np.arange(rows) % 2, 19, 1) * 400  # each occurs as often as the others
    centers = np.repeat(np.arange(rows), pairs_of)
    of_block = rng.choice(blocks, centers.size, p=share)
    codec, drawn = PairCodec(6, 2), []
    for block in range(blocks):
        center, context = centers[of_block == block], rng.integers(0, 50, np.count_nonzero(of_block == block))
        drawn.append(np.sort((center << codec.row | context).astype(np.uint32)))
    center_pairs = kernel.count_center_pairs(drawn, codec, rows)
    noise = np.zeros(rows)
    for pairs, of_all in zip(drawn, share, strict=True):
        parts = cut_parts(pairs, codec, rows, BlockNoise.of(np.full(50, of_all / 50), DIMENSIONS), 5, rng)
        found = np.bincount(codec.centers(pairs), minlength=rows)
        noise += kernel.noise_amounts(parts, center_pairs, of_all) * found
    np.testing.assert_allclose(noise, pairs_of, rtol=0.02)


def test_pairs_of_a_center_are_counted_in_all_buckets_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "COUNTED", 7)
    codec, rng = PairCodec(4, 3), np.random.default_rng(1)
    centers, buckets = [], []
    for block, size in enumerate((0, 50, 7, 20)):
        center, context = rng.integers(0, (11, 16), (size, 2)).astype(np.uint64).T
        of_sweep = np.uint64((5 << codec.block | 2) << codec.block | block) << np.uint64(2 * codec.row)
        buckets.append(codec.shorten(of_sweep | center << np.uint64(codec.row) | context))
        centers.append(center)
    counts = np.bincount(np.concatenate(centers).astype(int), minlength=12)
    assert kernel.count_center_pairs(buckets, codec, 12).tolist() == counts.tolist()
    assert kernel.count_center_pairs([], codec, 12).tolist() == [0] * 12


def test_updates_count_the_noise_that_a_center_has() -> None:
    task = some_task(500)
    found = np.bincount(task.centers, minlength=5)
    done = train(task, constant(0.01, negatives=5), center_pairs=(2 * found + 2).astype(np.float32))[2]
    np.testing.assert_allclose(done.center_updates, (1 + 5 * 2) * found, rtol=1e-6)
    wanted = np.bincount(task.contexts, minlength=7) + 5 * 2 * 500 * task.noise
    np.testing.assert_allclose(done.context_updates, wanted, rtol=1e-6)


@pytest.mark.parametrize(("share", "farthest"), [(0.3, 4.0), (0.5, 4.0), (0.8, 2.5), (1.0, 2.0)])
def test_rows_of_a_bucket_that_is_mostly_one_pair_step_less_far(share: float, farthest: float) -> None:
    rows = np.where(np.arange(1000) < share * 1000, 0, 1 + np.arange(1000) % 9).astype(np.int32)
    pairs, _ = numbered(rows, rows)
    assert farthest_step(pairs, np.bincount(rows)) == pytest.approx(farthest)
    # One word among all centers, and another among all contexts, make no such pair where the others vary.
    varied, same = np.arange(1000, dtype=np.int32) % 10, rows * 0
    for centers, contexts in ((same, varied), (varied, same)):
        assert farthest_step(numbered(centers, contexts)[0], np.bincount(contexts)) == 4
