"""Sums over contexts are those of a loop over the words, to the unit; the map is that which made the vectors."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram import induction
from spark_w2v.skipgram.induction import (
    LARGEST,
    UNITS,
    WEIGHT_UNITS,
    ContextSums,
    ContextVectors,
    context_sums,
    fit_map,
    means_of,
    turn_rows,
    weight_units,
)
from spark_w2v.types import Float64Array, Int32Array, Int64Array

examples = settings(max_examples=60)
WORDS, DIMENSIONS = 12, 3
SENTENCES = st.lists(st.lists(st.integers(0, WORDS - 1), max_size=9), max_size=6)


def contexts_of(rows: int) -> ContextVectors:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(rows, DIMENSIONS)).astype(np.float32)
    return ContextVectors.of(vectors, rng.random(rows).astype(np.float32))


def by_hand(text: list[list[int]], slot_of: Int32Array, contexts: ContextVectors, window: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for sentence in text:
        for place, word in enumerate(sentence):
            for other, neighbor in enumerate(sentence):
                distance = abs(place - other)
                if slot_of[word] >= 0 and 1 <= distance <= window and neighbor < len(contexts.rows):
                    row = (window - distance + 1) * contexts.rows[neighbor].astype(np.int64)
                    before = found.get(int(slot_of[word]), [0] * (DIMENSIONS + 1))
                    found[int(slot_of[word])] = [a + b for a, b in zip(before, row.tolist(), strict=True)]
    return found


def sums_of(text: list[list[int]], slot_of: Int32Array, contexts: ContextVectors, window: int) -> dict[int, list[int]]:
    ids = np.array([word for sentence in text for word in sentence], np.int32)
    lengths = np.array([len(s) for s in text], np.int32)
    return as_dict(context_sums(ids, lengths, slot_of, contexts, window))


def as_dict(parts: Iterable[ContextSums]) -> dict[int, list[int]]:
    """Return the sums of all parts by slot."""
    found: dict[int, Int64Array] = {}
    for slots, sums in parts:
        assert slots.tolist() == sorted(set(slots.tolist()))
        for slot, row in zip(slots.tolist(), sums, strict=True):
            found[slot] = found.get(slot, np.int64(0)) + row
    return {slot: row.tolist() for slot, row in found.items()}


@examples
@given(text=SENTENCES, window=st.integers(1, 12), rows=st.integers(1, WORDS), chosen=st.sets(st.integers(0, WORDS - 1)))
def test_sums_are_those_of_a_loop_over_all_words(
    text: list[list[int]], window: int, rows: int, chosen: set[int]
) -> None:
    slot_of = np.full(WORDS, -1, np.int32)
    slot_of[sorted(chosen)] = np.arange(len(chosen))
    contexts = contexts_of(rows)
    expected = by_hand(text, slot_of, contexts, window)
    assert sums_of(text, slot_of, contexts, window) == expected
    with pytest.MonkeyPatch.context() as few:
        few.setattr(induction, "HELD", 2)
        assert sums_of(text, slot_of, contexts, window) == expected


@examples
@given(text=SENTENCES, window=st.integers(1, 6), weights=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_a_weight_counts_as_copies_and_a_window_that_does_not_shrink_counts_each_context_once(
    text: list[list[int]], window: int, weights: list[int]
) -> None:
    every, contexts = np.arange(WORDS, dtype=np.int32), contexts_of(WORDS)
    copies = [sentence for sentence, weight in zip(text, weights, strict=False) for _ in range(weight)]
    ids = np.array([word for sentence in text for word in sentence], np.int32)
    lengths = np.array([len(sentence) for sentence in text], np.int32)
    of_text = np.array(weights[: len(text)], np.float64)
    found = as_dict(context_sums(ids, lengths, every, contexts, window, weights=of_text))
    sums = {slot: row for slot, row in found.items() if any(row)}
    assert sums == {
        slot: [WEIGHT_UNITS * number for number in row]
        for slot, row in sums_of(copies, every, contexts, window).items()
    }
    # Reaches of 1, 2, ... to the window, each once, are what shrinking counts.
    reaches = range(1, window + 1)
    shrunk = as_dict(
        part for reach in reaches for part in context_sums(ids, lengths, every, contexts, reach, shrinks=False)
    )
    assert shrunk == as_dict(context_sums(ids, lengths, every, contexts, window))


def test_the_units_of_weights_are_as_fine_as_sums_have_room_for_and_change_no_mean_of_the_weight_1() -> None:
    assert [weight_units(1 << 20, count) for count in (1, 1 << 12, (1 << 12) + 1, 1 << 19, 1 << 20)] == [
        1 << 16, 1 << 16, 1 << 15, 1 << 9, 1 << 8,
    ]  # fmt: skip
    rng, lengths = np.random.default_rng(3), np.full(50, 9, np.int32)
    ids, every = rng.integers(0, WORDS, 450).astype(np.int32), np.arange(WORDS, dtype=np.int32)
    given = (ids, lengths, every, contexts_of(WORDS), 5, True)
    (coarse,) = context_sums(*given, np.ones(50))
    for units in (1 << 9, 1 << 16):
        (fine,) = context_sums(*given, np.ones(50), units)
        assert means_of(fine.sums).tobytes() == means_of(coarse.sums).tobytes()
    (light,) = context_sums(*given, np.full(50, 0.001), 1 << 16)
    assert np.allclose(means_of(light.sums), means_of(coarse.sums))


def test_vectors_of_any_length_fit_and_keep_their_directions() -> None:
    vectors = np.array([[3e30, 0, -4e30], [1e30, 1e30, 1e30]], np.float32)
    rows = ContextVectors.of(vectors, np.ones(2, np.float32)).rows
    assert np.abs(rows.astype(np.int64)[:, :-1]).max() == int(LARGEST) * UNITS
    assert (rows[:, -1] == UNITS).all()
    assert np.allclose(rows[:, :-1] / UNITS, vectors / np.float64(4e30) * LARGEST)


def test_sums_of_most_occurrences_fit_in_64_bits() -> None:
    window, contexts = 5, ContextVectors.of(np.full((1, DIMENSIONS), 1e3, np.float32), np.ones(1, np.float32))
    ids, lengths = np.zeros(2 * window + 1, np.int32), np.array([2 * window + 1], np.int32)
    for shrinks in (True, False):
        (found,) = context_sums(ids, lengths, np.zeros(1, np.int32), contexts, window, shrinks, np.ones(1))
        # Nearly what one occurrence adds at most: only the middle one of the eleven words has ten contexts.
        of_one = int(found.sums.max()) / lengths[0]
        most = contexts.most_occurrences(window, shrinks)
        assert 2**61 < most * of_one < 2**62


def test_a_window_past_the_sentence_leaves_room_for_as_many_occurrences_as_the_sentence_does() -> None:
    longest, contexts = 11, ContextVectors.of(np.full((1, DIMENSIONS), 1e3, np.float32), np.ones(1, np.float32))
    ids, lengths = np.zeros(longest, np.int32), np.array([longest], np.int32)
    for shrinks in (True, False):
        (found,) = context_sums(ids, lengths, np.zeros(1, np.int32), contexts, 10_000, shrinks, np.ones(1))
        most = contexts.most_occurrences(10_000, shrinks, longest)
        assert 2**60 < most * int(found.sums.max()) / longest < 2**62
        assert contexts.most_occurrences(5, shrinks, longest) == contexts.most_occurrences(5, shrinks)


def test_a_word_without_a_vector_is_no_context() -> None:
    contexts = ContextVectors.of(np.ones((2, DIMENSIONS), np.float32), np.array([0, 0.5], np.float32))
    slot_of = np.array([-1, -1, 0], np.int32)
    (sums,) = sums_of([[0, 2, 1, 0]], slot_of, contexts, 1).values()
    assert means_of(np.array([sums])).tolist() == [[1.0] * DIMENSIONS]


def test_the_mean_of_no_context_is_not_a_number() -> None:
    none: Int64Array = np.zeros((1, DIMENSIONS + 1), np.int64)
    assert np.isnan(means_of(none)).all()


def test_the_map_is_found_that_the_vectors_were_made_with() -> None:
    rng = np.random.default_rng(2)
    means, true = rng.normal(size=(50, DIMENSIONS)), rng.normal(size=(DIMENSIONS, 5))
    found = fit_map(means, means @ true, rng.integers(1, 1000, 50))
    assert np.allclose(found, true)


def test_frequent_words_weigh_by_the_logarithm_of_their_counts() -> None:
    # One dimension, words that disagree: the weighted mean of 1 and 3, made shorter by the ridge.
    means, vectors = np.ones((1000, 1)), np.repeat([[1.0], [3.0]], 500, axis=0)
    counts = np.repeat([1, 99_999], 500)
    mean = np.average(vectors[:, 0], weights=np.log(counts + 1))
    assert 0.99 * mean < fit_map(means, vectors, counts) <= mean


def test_few_words_do_not_fit_their_noise() -> None:
    rng = np.random.default_rng(3)
    means, true = rng.normal(size=(60, 50)), rng.normal(size=(50, 5))
    noisy = means @ true + 20 * rng.normal(size=(60, 5))
    fitted = fit_map(means, noisy, np.ones(60, np.int64))
    least_squares = np.linalg.lstsq(means, noisy)[0]
    assert np.linalg.norm(fitted - true) < 0.3 * np.linalg.norm(least_squares - true)


@pytest.mark.parametrize("means", [np.zeros((9, 4)), np.ones((3, 4)), np.ones((9, 4)), np.empty((0, 4))])
def test_means_that_say_little_fit_finite_maps(means: Float64Array) -> None:
    found = fit_map(means, np.ones((len(means), 2)), np.full(len(means), 5))
    assert np.isfinite(found).all()


def test_rows_turn_to_the_mean_of_directions_and_keep_their_lengths() -> None:
    rows = np.array([[2, 0], [2, 0], [3, 4], [0, 0], [1, 0], [3, 0]], np.float32)
    directions = np.array([[0, 1], [0, 2], [0.6, 0.8], [1, 0], [-1, 0], [0, 0]], np.float32)
    found = turn_rows(rows, directions)
    assert found.dtype == np.float32
    fifth = 2 / np.sqrt(5)
    expected = [[np.sqrt(2), np.sqrt(2)], [fifth, 2 * fifth], [3, 4], [0, 0], [1, 0], [3, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
