"""The kernel against the textbook, one pair at a time in float64; then what no formula says: repeats, edges, learning.

Rc center rows, Ro context rows, D dimensions, K negatives, P pairs, as in spark_w2v/skipgram/kernel.py.
"""

import numpy as np
import pytest
from hypothesis import settings

from spark_w2v.skipgram import groups, kernel
from spark_w2v.skipgram.groups import GROUP, BlockNoise, batch_size, cut_parts
from spark_w2v.skipgram.kernel import SgdParams, train_pairs
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import assign_blocks, initialise
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.types import Int32Array
from tests.support.kernel import (
    BATCH,
    CLOSE,
    DIMENSIONS,
    FULL_BATCH,
    RATE,
    assert_same_change,
    constant,
    noise_of,
    numbered,
    some_task,
    train,
    train_plainly,
)

examples = settings(max_examples=60)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("negatives", [1, 3, 9])
@pytest.mark.parametrize(("pairs", "center_rows"), [(1, 1), (2, 1), (4, 4), (7, 1), (8, 1), (5, 3)])
def test_the_gradient_of_one_batch_equals_the_textbook_one_pair_at_a_time(
    pairs: int, center_rows: int, negatives: int
) -> None:
    task = some_task(pairs, center_rows)
    params = constant(RATE, negatives)
    center_rows_after, context_rows_after, _ = train(task, params)
    assert_same_change(task, (center_rows_after, context_rows_after), train_plainly(task, params, 0))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("pairs", "center_rows"), [(1, 1), (7, 1), (5, 3)])
def test_the_loss_of_one_batch_equals_the_textbook_one_pair_at_a_time(pairs: int, center_rows: int) -> None:
    task = some_task(pairs, center_rows)
    params = constant(RATE)
    done = train(task, params)[2]
    wanted = train_plainly(task, params, 0)
    assert 0 < done.loss_pairs == wanted.loss_pairs
    assert done.pairs == pairs
    assert done.loss == pytest.approx(wanted.loss, rel=1e-5)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("pairs", [9, 40, 61])
@pytest.mark.parametrize("most_batches", [1, 3, 100])
@pytest.mark.parametrize("frequent", [2, 7])
def test_training_in_many_batches_equals_the_textbook_batch_after_batch(
    pairs: int, most_batches: int, frequent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "FREQUENT", 4 * DIMENSIONS * frequent)
    monkeypatch.setattr(groups, "LEAST_FREQUENT", 1)
    monkeypatch.setattr(groups, "NOISE_BATCHES", most_batches)
    monkeypatch.setattr(groups, "CHUNK", 2)
    task = some_task(pairs)
    params = constant(RATE)
    wanted = train_plainly(task, params, 3)
    center_rows, context_rows, done = train(task, params, 3)
    assert_same_change(task, (center_rows, context_rows), wanted)
    assert done.loss_pairs == pytest.approx(wanted.loss_pairs)
    assert done.loss == pytest.approx(wanted.loss, rel=1e-5)


@pytest.mark.usefixtures("small_batches")
def test_one_context_row_is_its_own_noise() -> None:
    task = some_task(6, center_rows=2, context_rows=1)
    params = constant(RATE)
    center_rows, context_rows, done = train(task, params)
    assert_same_change(task, (center_rows, context_rows), train_plainly(task, params, 0))
    assert done.context_updates.tolist() == [6 + 3 * 6]


@pytest.mark.usefixtures("small_batches")
def test_the_implicit_step_divides_by_all_updates_of_a_center_in_the_batch() -> None:
    task = some_task(8, center_rows=1)
    rate, damping, negatives = 2.0**-5, 0.5, 3
    plain = train_plainly(task, constant(RATE, negatives), 0)
    gradient = (plain.center_rows - task.center_rows) / RATE
    damped = train(task, constant(rate, negatives, damping))[0]
    updates = 8 * (1 + negatives)
    np.testing.assert_allclose(
        damped - task.center_rows, gradient * rate / (1 + rate * damping * updates), rtol=CLOSE, atol=1e-5
    )


def test_a_row_is_never_moved_by_more_than_so_many_mean_gradients() -> None:
    pairs = GROUP * 4
    task = some_task(pairs, center_rows=1)
    # A small row against zeros: sigma is 1/2 everywhere, so that context gradients are -v / 2 for a pair.
    task = task._replace(center_rows=np.full((1, DIMENSIONS), 0.25, np.float32), context_rows=task.context_rows * 0)
    context_rows = train(task, constant(1e6, negatives=1))[1]
    assert np.abs(context_rows).max() <= kernel.FARTHEST * 0.125 * (1 + 1e-5)


def test_the_learning_rate_falls_from_the_first_to_the_last(
    small_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "CHUNK", 1)
    words = 10 * BATCH // small_batches  # of which each has a group of its own
    # One pair a word and no noise: each center moves by its batch's rate times half of its context row, of ones.
    ids = np.arange(words, dtype=np.int32)
    center_rows, context_rows = np.zeros((words, 2), np.float32), np.ones((words, 2), np.float32)
    rng = np.random.default_rng(5)
    noise = BlockNoise.of(np.full(words, 1 / words), 2)
    train_pairs(center_rows, context_rows, *numbered(ids, ids), noise, SgdParams(0, 0.0, 0.2, 0.1), rng)
    rates = np.unique((2 * center_rows[:, 0].astype(np.float64)).round(6))
    np.testing.assert_allclose(rates, 0.2 - 0.1 * (np.arange(10)[::-1] + 0.5) / 10, atol=1e-6)  # the middle of each


def test_noise_of_a_block_is_a_part_of_the_whole_and_only_its_ratios_count() -> None:
    task, params = some_task(500), SgdParams(3, 0.1, RATE, RATE)
    part = task._replace(noise=task.noise / 32)
    for one, other in zip(train(task, params)[:2], train(part, params)[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(train(task, params)[2].context_updates, train(part, params)[2].context_updates)


@pytest.mark.parametrize("context_rows", [1, 5, 4096])
@pytest.mark.parametrize(
    "pairs",
    [1, GROUP - 1, GROUP, GROUP + 1, FULL_BATCH, FULL_BATCH + 1, 3 * FULL_BATCH + 17],
)
def test_every_pair_is_trained_exactly_once_whatever_the_size_of_the_bucket(pairs: int, context_rows: int) -> None:
    centers_used = 4
    rng = np.random.default_rng(pairs)
    centers = np.sort(rng.integers(0, centers_used, pairs)).astype(np.int32)
    contexts = rng.integers(0, context_rows, pairs).astype(np.int32)
    # Center c is the unit vector of axis c, context rows are 0, there is no noise, and the rate is so small that sigma
    # stays 1/2: entry (o, c) of the context rows counts how often (c, o) was trained.
    rate = 1e-6
    center_rows, rows = np.eye(centers_used, dtype=np.float32), np.zeros((context_rows, centers_used), np.float32)
    noise = BlockNoise.of(np.full(context_rows, 1 / context_rows), centers_used)
    params = constant(rate, negatives=0)
    done = train_pairs(center_rows, rows, *numbered(centers, contexts), noise, params, rng, count_updates=True)
    wanted = np.zeros((context_rows, centers_used))
    np.add.at(wanted, (contexts, centers), 1)
    np.testing.assert_allclose(rows / (rate / 2), wanted, rtol=0.01, atol=0.01)
    assert np.array_equal((rows / (rate / 2)).round() > 0, wanted > 0)
    assert done.pairs == pairs == done.center_updates.sum() == done.context_updates.sum()


@pytest.mark.parametrize(("rows", "pairs"), [(1, 64), (100, 64), (200, 128), (300, 256), (1563, 1536), (9999, 2048)])
def test_a_batch_has_a_context_row_for_each_pair_but_in_the_smallest_blocks(rows: int, pairs: int) -> None:
    assert batch_size(rows) == pairs


def test_a_block_in_which_no_word_occurs_has_no_noise() -> None:
    noise = BlockNoise.of(np.zeros(9), DIMENSIONS)
    assert not noise.share.any()
    assert not noise.edges.any()


@pytest.mark.parametrize("times", [2, GROUP + 3])
def test_a_word_repeated_in_a_batch_learns_from_every_occurrence(times: int) -> None:
    task = some_task(1, center_rows=1, context_rows=2)
    repeated = task._replace(centers=task.centers.repeat(times), contexts=task.contexts.repeat(times))
    once, often = (train(each, constant(RATE, negatives=0)) for each in (task, repeated))
    for before, alone, together in ((task.center_rows, once[0], often[0]), (task.context_rows, once[1], often[1])):
        np.testing.assert_allclose(together - before, times * (alone - before), rtol=CLOSE, atol=1e-6)


def test_an_empty_bucket_changes_nothing() -> None:
    task = some_task(0)
    center_rows, context_rows, done = train(task, constant(0.1))
    assert np.array_equal(center_rows, task.center_rows)
    assert np.array_equal(context_rows, task.context_rows)
    assert (done.pairs, done.loss, done.loss_pairs) == (0, 0.0, 0)
    assert done.center_updates.tolist() == [0.0] * 5
    assert done.context_updates.tolist() == [0.0] * 7


def test_rows_that_nothing_touched_have_no_updates_and_are_unchanged() -> None:
    task = some_task(30, center_rows=50, context_rows=5000)
    center_rows, context_rows, done = train(task, constant(0.1))
    for before, after, updates in (
        (task.center_rows, center_rows, done.center_updates),
        (task.context_rows, context_rows, done.context_updates),
    ):
        touched = updates > 0
        assert 0 < touched.sum() < touched.size
        assert np.array_equal(after[~touched], before[~touched])
        assert (after[touched] != before[touched]).any(axis=1).all()


def test_updates_are_only_counted_for_who_asks() -> None:
    for task in (some_task(0), some_task(30)):
        rows, numbers = (task.center_rows.copy(), task.context_rows.copy()), numbered(task.centers, task.contexts)
        done = train_pairs(*rows, *numbers, noise_of(task), constant(0.1), np.random.default_rng(0))
        asked = train(task, constant(0.1))
        assert done.center_updates.size == done.context_updates.size == 0
        assert np.array_equal(rows[0], asked[0])
        assert np.array_equal(rows[1], asked[1])


@pytest.mark.parametrize("pairs", [1, 500, 5000])
def test_updates_count_each_pair_and_its_noise(pairs: int) -> None:
    task = some_task(pairs)
    done = train(task, constant(0.01, negatives=5))[2]
    assert done.center_updates.tolist() == [6.0 * n for n in np.bincount(task.centers, minlength=5)]
    wanted = np.bincount(task.contexts, minlength=7) + 5 * pairs * task.noise
    touched = done.context_updates > 0
    assert touched.all() or pairs < 7
    np.testing.assert_allclose(done.context_updates, wanted * touched, rtol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    task = some_task(3000, center_rows=40, context_rows=60)
    params = SgdParams(5, 0.1, 0.05, 0.01)
    first, again, other = (train(task, params, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert first[2].loss == again[2].loss
    assert not np.array_equal(first[0], other[0])


def test_the_loss_is_taken_of_the_first_groups_of_every_fourth_batch() -> None:
    pairs = 64 * 2048
    task = some_task(pairs, center_rows=100, context_rows=3000)
    *_, done = train(task, constant(0.01, negatives=2), 1)
    assert 0.9 <= done.loss_pairs / pairs <= 1.1


@pytest.mark.parametrize(
    ("pairs", "stride"), [(1000, 4), (100_000, 4), pytest.param(5_000_000, 16, marks=pytest.mark.slow)]
)
def test_the_loss_is_taken_of_fewer_batches_where_there_are_many(pairs: int, stride: int) -> None:
    task = some_task(pairs, center_rows=100, context_rows=3000)
    rng = np.random.default_rng(1)
    for part in groups.cut_parts(*numbered(task.centers, task.contexts), 100, noise_of(task), 5, rng):
        assert kernel.loss_stride(part) == stride
        assert stride == 4 or len(part.groups) / part.size / stride >= kernel.LOSSES


@pytest.mark.parametrize(
    ("rows", "rate"),
    [(1, 1.0), (20, 1.0), (60, 1.0), (300, 0.25), (5000, 0.25), (300, 1.0), (1000, 1.0), (5000, 1.0)],
)
def test_rows_stay_finite_and_small_with_a_learning_rate_far_too_high(rows: int, rate: float) -> None:
    task = some_task(20_000, center_rows=rows, context_rows=rows)
    task = task._replace(center_rows=task.center_rows * np.float32(0.1), context_rows=task.context_rows * 0)
    for seed in range(5):
        center_rows, context_rows, done = train(task, constant(rate, negatives=5, damping=0.1), seed)
        assert np.isfinite(done.loss)
        for matrix in (center_rows, context_rows):
            assert np.isfinite(matrix).all()
            assert np.abs(matrix).max() < 100
        task = task._replace(center_rows=center_rows, context_rows=context_rows)


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("negatives", [100, 50, 1000])
def test_many_negatives_train_as_few_do(negatives: int) -> None:
    """A noise word that is drawn has the updates of a whole set, and its step is bounded by these."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, 20, (1200, 1))
    ids = (topic * 100 + rng.integers(0, 100, (1200, 50))).ravel().astype(np.int32)
    counts = np.bincount(ids, minlength=2000).astype(np.int64)
    blocks = assign_blocks(counts.astype(np.float64), 1)
    sampler, codec = PairSampler(np.ones(2000, np.float32), 5, 1, 0.0, blocks), PairCodec.of(blocks)
    noise = BlockNoise.of(noise_distribution(counts, 0.75)[blocks.order], 32)
    center_rows, context_rows = np.zeros((2, 2000, 32), np.float32)
    initialise(center_rows, 1)
    losses = [(1 + negatives) * np.log(2)]
    for epoch in range(2):
        numbers = sampler.pairs((0, 0, 0), ids, np.full(1200, 50, np.int32), epoch, np.array([0.0, 1.0]))[0]
        pairs = np.sort(codec.shorten(numbers))
        params, order = constant(0.05, negatives=negatives, damping=0.1), np.random.default_rng(epoch)
        done = train_pairs(center_rows, context_rows, pairs, codec, noise, params, order)
        losses.append(done.loss / done.loss_pairs)
        assert np.abs(context_rows).max() < 20
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.usefixtures("small_batches")
def test_scores_beyond_what_exp_can_hold_do_not_overflow() -> None:
    task = some_task(50)
    task = task._replace(center_rows=task.center_rows * 1e3, context_rows=task.context_rows * 1e3)
    center_rows, context_rows, done = train(task, constant(1e-4))
    assert np.isfinite(center_rows).all()
    assert np.isfinite(context_rows).all()
    assert np.isfinite(done.loss)


THEMES, TWINS, COMPANIONS, SENTENCES = 6, 4, 8, 4000


def planted_corpus(rng: np.random.Generator) -> tuple[Int32Array, Int32Array]:
    """Sentences of one theme's companions around one of its twins; two twins never meet. Ids by theme, twins first."""
    theme = rng.integers(0, THEMES, SENTENCES)
    ids = TWINS + rng.integers(0, COMPANIONS, (SENTENCES, 7))
    ids[:, 3] = rng.integers(0, TWINS, SENTENCES)
    ids += theme[:, None] * (TWINS + COMPANIONS)
    return ids.ravel().astype(np.int32), np.full(SENTENCES, 7, np.int32)


def test_words_that_share_contexts_end_up_closer_than_words_that_do_not() -> None:
    ids, lengths = planted_corpus(np.random.default_rng(7))
    words, epochs = THEMES * (TWINS + COMPANIONS), 4
    counts = np.bincount(ids, minlength=words).astype(np.int64)
    blocks = assign_blocks(counts.astype(np.float64), 1)
    sampler = PairSampler(np.ones(words, np.float32), 3, 1, 0.0, blocks)
    center_rows, context_rows = np.zeros((2, words, 16), np.float32)
    initialise(center_rows, 1)
    noise = BlockNoise.of(noise_distribution(counts, 0.75)[blocks.order], 16)
    losses = []
    for epoch in range(epochs):
        numbers = sampler.pairs((0, 0, 0), ids, lengths, epoch, np.array([0.0, 1.0]))[0]
        params = SgdParams(5, 0.1, 0.05 * (1 - epoch / epochs), 0.05 * (1 - (epoch + 1) / epochs))
        done = train_pairs(
            center_rows,
            context_rows,
            np.sort(numbers),
            PairCodec.of(blocks),
            noise,
            params,
            np.random.default_rng(epoch),
        )
        losses.append(done.loss / done.loss_pairs)
    assert losses[-1] < losses[0]
    vectors = np.empty_like(center_rows)
    vectors[blocks.order] = center_rows
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    twins = vectors.reshape(THEMES, TWINS + COMPANIONS, -1)[:, :TWINS].reshape(THEMES * TWINS, -1)
    cosine = twins @ twins.T
    theme = np.arange(THEMES * TWINS) // TWINS
    same = (theme[:, None] == theme) & ~np.eye(theme.size, dtype=bool)
    across = theme[:, None] != theme
    assert cosine[same].min() > cosine[across].max()


@pytest.mark.parametrize(("words", "pairs", "dimensions"), [(3000, 9_000, 300), (300, 700, 16), (40, 20_000, 16)])
def test_the_loss_of_an_untrained_model_is_that_of_one_pair_however_the_pairs_are_cut(
    words: int, pairs: int, dimensions: int
) -> None:
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, words + 1)
    centers, contexts = rng.choice(words, (2, pairs), p=share / share.sum()).astype(np.int32)
    noise = BlockNoise.of(share**0.75, dimensions)
    rows = np.zeros((2, words, dimensions), np.float32)
    numbers, codec = numbered(centers, contexts)
    assert len(cut_parts(numbers, codec, words, noise, 5, np.random.default_rng(1))) == 1 + (words == 3000)
    for expected in (None, rng.integers(0, 20, words).astype(np.float32)):
        random = np.random.default_rng(1)
        done = train_pairs(rows[0], rows[1], numbers, codec, noise, constant(1e-30, 5), random, center_pairs=expected)
        assert done.loss / done.loss_pairs == pytest.approx(6 * np.log(2), rel=1e-5)


def test_the_loss_is_the_mean_over_the_pairs_where_parts_have_groups_of_different_widths() -> None:
    """Of rows whose products are far from 0, and larger for the rare contexts, whose groups are narrow."""
    words, pairs, dimensions, negatives = 20_000, 400_000, 100, 5
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, words + 1)
    centers, contexts = rng.choice(words, (2, pairs), p=share / share.sum()).astype(np.int32)
    noise = BlockNoise.of(share**0.75, dimensions)
    rows = rng.normal(0, 0.3, (2, words, dimensions)).astype(np.float32)
    rows[1, noise.frequent :] *= 2
    numbers, codec = numbered(centers, contexts)
    parts = cut_parts(numbers, codec, words, noise, negatives, np.random.default_rng(1))
    assert len({part.groups.width for part in parts}) == 2
    positive_sum = noise_sum = noise_weight = 0.0
    for part, is_in in zip(parts, (contexts < noise.frequent, contexts >= noise.frequent), strict=True):
        some = rng.choice(np.flatnonzero(is_in), 2000)
        c = rows[0, centers[some]].astype(np.float64)
        positive = np.logaddexp(0, -(c * rows[1, contexts[some]]).sum(1)).mean()
        negative = np.logaddexp(0, c @ rows[1, rng.choice(part.noise.ravel(), 2000)].T).mean()
        positive_sum += positive * is_in.sum()
        noise_sum += part.amount * negative * is_in.sum()
        noise_weight += part.amount * is_in.sum()
    expected = positive_sum / pairs + negatives * noise_sum / noise_weight
    done = train_pairs(rows[0], rows[1], numbers, codec, noise, constant(1e-30, negatives), np.random.default_rng(1))
    assert done.loss / done.loss_pairs == pytest.approx(expected, rel=0.02)
