"""Blocks that share the work evenly, an average that only counts who learned, and where learning starts."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram import parameters
from spark_w2v.skipgram.parameters import assign_blocks, average, divergence, initialise, shortened
from spark_w2v.skipgram.sampling import INITIAL
from spark_w2v.types import Float32Array

examples = settings(max_examples=80)


@examples
@given(load=st.lists(st.floats(0, 1e9), min_size=1, max_size=200), data=st.data())
def test_every_word_is_in_one_block_at_one_row(load: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(load)))
    blocks = assign_blocks(np.array(load), count)
    assert blocks.count == count
    assert sorted(blocks.order) == list(range(len(load)))
    assert (blocks.ends[0], blocks.ends[-1]) == (0, len(load))
    sizes = np.diff(blocks.ends)
    assert sizes.min() >= 1
    assert sizes.max() <= -(-len(load) // count)
    assert sizes.max() <= 1 << blocks.bits
    assert blocks.bits == 1 or sizes.max() > 1 << (blocks.bits - 1)
    for b in range(count):
        words = blocks.of(blocks.order, b)
        assert (blocks.block[words] == b).all()
        assert blocks.row[words].tolist() == list(range(words.size))


@examples
@given(load=st.lists(st.integers(0, 9), min_size=1, max_size=120), count=st.integers(1, 12), long=st.integers(1, 20))
@example(load=[9, 1, 1, 1, 1, 0, 0, 0], count=2, long=4)  # a block that a run of equal words fills
@example(load=[3] * 10 + [1] * 6, count=3, long=4)  # two runs, the second on the loads of the first
def test_each_word_goes_to_the_lightest_block_with_room(load: list[int], count: int, long: int) -> None:
    count = min(count, len(load))
    wanted, loads, rows = [0] * len(load), [0.0] * count, [0] * count
    # The least load is that of no word at all, next to nothing but not nothing.
    for word in sorted(range(len(load)), key=lambda word: -load[word]):
        with_room = [b for b in range(count) if rows[b] < -(-len(load) // count)]
        wanted[word] = min(with_room, key=lambda b: loads[b])
        rows[wanted[word]] += 1
        loads[wanted[word]] += load[word] or 2.0**-30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "LONG_RUN", long)
        # A sum that is a power of two, so that scaling it to TOTAL_LOAD rounds nothing.
        patch.setattr(parameters, "TOTAL_LOAD", float(sum(load)) * 2**30)
        assert assign_blocks(np.array(load, np.float64), count).block.tolist() == wanted


@pytest.mark.parametrize("count", [2, 8, 16, 32, 64])
def test_blocks_have_equal_loads_and_rows(count: int) -> None:
    # A natural vocabulary: counts as 1 / rank, the most frequent subsampled to a fixed share as training does.
    load = np.minimum(1 / np.arange(1.0, 50_001), 1e-1)
    blocks = assign_blocks(load, count)
    loads = np.array([load[blocks.of(blocks.order, b)].sum() for b in range(count)])
    assert loads.max() / loads.mean() < 1.005
    assert np.diff(blocks.ends).min() >= 0.99 * 50_000 / count


def test_a_word_heavier_than_a_block_is_among_the_rarest() -> None:
    load = np.array([100.0, *np.arange(20.0, 1, -1)])
    blocks = assign_blocks(load, 4)
    assert blocks.of(blocks.order, 0).tolist() == [0, 16, 17, 18, 19]


def test_words_of_a_block_fall_in_load() -> None:
    load = np.random.default_rng(0).random(100)
    blocks = assign_blocks(load, 7)
    for b in range(7):
        assert (np.diff(load[blocks.of(blocks.order, b)]) <= 0).all()


def test_one_block_of_falling_loads_is_the_order_of_word_ids() -> None:
    blocks = assign_blocks(np.array([9.0, 5.0, 5.0, 5.0, 1.0]), 1)
    assert blocks.order.tolist() == blocks.row.tolist() == [0, 1, 2, 3, 4]


def test_the_rows_of_a_block_are_contiguous_and_a_view() -> None:
    blocks = assign_blocks(np.random.default_rng(0).random(23), 4)
    matrix = np.arange(46, dtype=np.float32).reshape(23, 2)
    for b in range(4):
        rows = blocks.of(matrix, b)
        assert rows.flags.c_contiguous
        rows += 100
    assert matrix.ravel().tolist() == list(range(100, 146))


def some_rows(seed: int, height: int = 50) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(height, 4)).astype(np.float32)


def test_the_average_weighs_each_copy_by_its_updates_of_the_row() -> None:
    copies = [
        (np.array([[1.0], [10.0]], np.float32), np.array([1, 3], np.float32)),
        (np.array([[5.0], [20.0]], np.float32), np.array([3, 1], np.float32)),
    ]
    assert average(copies, np.zeros((2, 1), np.float32)).tolist() == [[4.0], [12.5]]


@examples
@given(copies=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_the_average_equals_numpys_row_by_row(copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = some_rows(seed, 8)
    rows = rng.normal(size=(copies, 8, 4)).astype(np.float32)
    updates = (rng.random((copies, 8)) * (rng.random((copies, 8)) < 0.6)).astype(np.float32)
    found = average(zip(rows, updates, strict=True), before)
    assert found.dtype == np.float32
    for row in range(8):
        if updates[:, row].any():
            wanted = np.average(rows[:, row].astype(np.float64), axis=0, weights=updates[:, row].astype(np.float64))
        else:
            wanted = before[row]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-6, atol=1e-12)


def test_the_average_ignores_copies_that_did_not_touch_a_row() -> None:
    before, learned, idle = some_rows(0), some_rows(1), some_rows(2)
    nothing = np.zeros(50, np.float32)
    found = average([(idle, nothing), (learned, np.full(50, 7, np.float32)), (idle, nothing)], before)
    assert np.array_equal(found, learned)


def test_a_row_that_no_copy_touched_stays_as_it_was() -> None:
    before = some_rows(0)
    kept = before.copy()
    assert np.array_equal(average([(some_rows(1), np.zeros(50, np.float32))] * 2, before), kept)
    assert np.array_equal(average([], before), kept)
    changed = average([(some_rows(1), np.ones(50, np.float32))], before)
    assert np.array_equal(before, kept)  # and the input is not written to
    assert not np.array_equal(changed, kept)


@examples
@given(weight=st.floats(2.0**-20, 2.0**30, width=32), seed=st.integers(0, 2**32))
def test_one_copy_comes_out_bit_for_bit(weight: float, seed: int) -> None:
    rows = some_rows(seed) * np.float32(10.0 ** np.random.default_rng(seed).integers(-20, 20))
    assert np.array_equal(average([(rows, np.full(50, weight, np.float32))], some_rows(1)), rows)


@pytest.mark.parametrize("size", [1, 80, 1 << 20])
def test_the_average_is_the_same_whatever_rows_are_taken_at_a_time(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    copies = [(rng.random((7, 5), np.float32), rng.integers(0, 3, 7).astype(np.float32)) for _ in range(3)]
    before = rng.random((7, 5), np.float32)
    weights = np.array([updates for _, updates in copies], np.float64)
    mean = sum(weight[:, None] * rows for weight, (rows, _) in zip(weights, copies, strict=True))
    expected = np.where((total := weights.sum(0)[:, None]) > 0, mean / np.maximum(total, 1), before).astype(np.float32)
    monkeypatch.setattr(parameters, "AVERAGED_BYTES", size)
    assert (average(copies, before) == expected).all()


def test_equal_copies_in_one_order_average_to_the_same_bits() -> None:
    copies = [(some_rows(seed), np.random.default_rng(seed).random(50, np.float32)) for seed in range(9)]
    first, again = (average(iter(copies), some_rows(99)) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def initial(words: int, dimensions: int, seed: int, places: Any = None) -> Any:
    """(V, D): center rows, of which nothing is left as it was."""
    center = np.full((words, dimensions), np.nan, np.float32)
    initialise(center, seed, places)
    return center


def test_center_rows_start_small_and_uniform() -> None:
    words, dimensions = 2000, 50
    center = initial(words, dimensions, 1)
    limit = 1 / (2 * dimensions)
    assert center.min() >= -limit
    assert center.max() <= limit
    # Mean and variance of a uniform distribution, each within 4 sigma of n samples.
    n = center.size
    assert abs(center.mean(dtype=np.float64)) < 4 * limit / np.sqrt(3 * n)
    assert center.var(dtype=np.float64) == pytest.approx(limit**2 / 3, rel=4 * np.sqrt(0.8 / n))


def test_the_seed_decides_where_learning_starts() -> None:
    assert np.array_equal(initial(20, 3, 1), initial(20, 3, 1))
    assert not np.array_equal(initial(20, 3, 1), initial(20, 3, 2))


@pytest.mark.parametrize("chunk", [1, 9, 21, 1000])  # 1: less than a row; 9, 21: odd, of numbers made two at a time
def test_an_initial_row_depends_on_seed_and_word_and_dimensions_alone(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = (np.random.default_rng([1, INITIAL]).random((50, 3), np.float32) - np.float32(0.5)) / np.float32(3)
    monkeypatch.setattr(parameters, "CHUNK", chunk)
    for words in (20, 50):
        assert np.array_equal(initial(words, 3, 1), plain[:words])
    places = np.random.default_rng(2).permutation(50).astype(np.int32)
    assert np.array_equal(initial(50, 3, 1, places)[places], plain)


def test_nothing_of_the_size_of_a_matrix_is_made_to_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "CHUNK", 1 << 12)
    center = np.empty((10_000, 50), np.float32)
    places = np.arange(10_000, dtype=np.int32)[::-1].copy()
    tracemalloc.start()
    try:
        initialise(center, 1, places)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < center.nbytes / 10


def test_rows_that_are_too_long_or_not_finite_have_diverged() -> None:
    rows = np.random.default_rng(1).normal(0, 30, (100, 25)).astype(np.float32)
    assert divergence(rows) is None
    assert divergence(rows[:0]) is None
    for value, says in ((np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite")):
        rows[70, 3] = value
        assert says in str(divergence(rows))
    for value in (-1001.0, 1e4, 3e38):
        rows[70, 3] = value
        assert "a vector has the length" in str(divergence(rows))
    rows[70, 3] = 900.0
    assert divergence(rows) is None


def test_rows_that_are_too_long_are_shortened_and_no_others() -> None:
    rows = np.random.default_rng(1).normal(0, 30, (100, 25)).astype(np.float32)
    assert np.array_equal(shortened(rows), rows)
    assert shortened(rows[:0]).shape == (0, 25)
    long = rows.copy()
    long[70] *= 100
    found = shortened(long)
    assert np.linalg.norm(found[70]) == pytest.approx(500)
    assert np.allclose(found[70] / 500, rows[70] / np.linalg.norm(rows[70]), atol=1e-6)
    assert np.array_equal(np.delete(found, 70, axis=0), np.delete(rows, 70, axis=0))
    long[70] = 3e38
    assert divergence(shortened(long)) is None
