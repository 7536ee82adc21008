"""The textbook against what is known without it: definitions, central differences, numbers worked out by hand.

Letters as in spark_w2v/skipgram/reference.py: V words, D dimensions, K negatives.
"""

import math
from functools import partial
from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram.reference import (
    check_gradient,
    draw_negatives,
    naive_softmax_loss_and_gradient,
    negative_sampling_loss_and_gradient,
    sigmoid,
    sigmoid_derivative,
    skipgram_loss_and_gradient,
    softmax,
)
from spark_w2v.types import Float64Array, Int64Array

GRADIENT_TOLERANCE = 1e-6  # what check_gradient's docstring promises of a right gradient

examples = settings(max_examples=50)


class Example(NamedTuple):
    """One drawn case: two matrices (V, D), a center word, a window and negatives that both may repeat words."""

    center_vectors: Float64Array
    outside_vectors: Float64Array
    center: int
    window: list[int]
    negatives: list[int]


@st.composite
def some_examples(draw: st.DrawFn) -> Example:
    """V up to 6, D up to 5; a window of 1 to 6 words, up to 6 negatives, the window's own words among them."""
    words, dimensions = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    vectors = hnp.arrays(np.float64, (words, dimensions), elements=st.floats(-3, 3))
    ids = st.integers(0, words - 1)
    return Example(
        center_vectors=draw(vectors),
        outside_vectors=draw(vectors),
        center=draw(ids),
        window=draw(st.lists(ids, min_size=1, max_size=6)),
        negatives=draw(st.lists(ids, max_size=6)),
    )


def as_one_array(loss_and_gradients: tuple[float, Float64Array, Float64Array]) -> Float64Array:
    """(1 + D + V * D,) loss, center gradient, outside gradients."""
    return np.concatenate([np.ravel(part) for part in loss_and_gradients])


# sigmoid and softmax


def test_sigmoid_is_the_logistic_function_for_every_shape() -> None:
    # σ(ln n) = n / (n + 1), σ(-ln n) = 1 / (n + 1)
    scores = [[math.log(3), 0.0, -math.log(3)], [math.log(4), math.log(9), -math.log(9)]]
    np.testing.assert_allclose(sigmoid(scores), [[0.75, 0.5, 0.25], [0.8, 0.9, 0.1]], rtol=1e-15)
    assert sigmoid(0) == 0.5
    assert np.shape(sigmoid(0)) == ()
    assert sigmoid(np.zeros((0, 3))).shape == (0, 3)


def test_sigmoid_of_a_thousand_neither_overflows_nor_leaves_zero_to_one() -> None:
    with np.errstate(all="raise"):
        assert sigmoid([-1000, 1000]).tolist() == [0.0, 1.0]


def test_sigmoid_keeps_its_precision_where_it_is_nearly_zero() -> None:
    np.testing.assert_allclose(sigmoid([-40.0, -700.0]), [math.exp(-40), math.exp(-700)], rtol=1e-14)


@examples
@given(st.floats(-30, 30))
def test_sigmoid_derivative_matches_central_differences(x: float) -> None:
    assert check_gradient(lambda at: (float(sigmoid(at)), sigmoid_derivative(at)), x) < GRADIENT_TOLERANCE


def test_sigmoid_derivative_is_sigmoid_times_one_minus_sigmoid_and_keeps_its_tails() -> None:
    # σ(ln 3) = 3/4, so σ' = 3/16; far out σ' = e^-|x|, where 1 - σ(40) would be 0
    np.testing.assert_allclose(
        sigmoid_derivative([0.0, math.log(3), -math.log(3)]), [1 / 4, 3 / 16, 3 / 16], rtol=1e-15
    )
    np.testing.assert_allclose(sigmoid_derivative([-40, 40]), math.exp(-40), rtol=1e-14)
    with np.errstate(all="raise"):
        assert sigmoid_derivative([-1000, 1000]).tolist() == [0.0, 0.0]


def test_softmax_gives_back_the_probabilities_whose_logarithms_it_gets() -> None:
    probabilities = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
    np.testing.assert_allclose(softmax(np.log(probabilities)), probabilities, rtol=1e-14)


def test_softmax_runs_over_the_last_axis_of_every_shape() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 4))
    by_row = np.array([[np.exp(row) / np.exp(row).sum() for row in matrix] for matrix in scores])
    np.testing.assert_allclose(softmax(scores), by_row, rtol=1e-14)
    assert softmax(7) == 1.0
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


def test_softmax_of_a_thousand_neither_overflows_nor_divides_by_zero() -> None:
    with np.errstate(all="raise"):
        assert softmax([1000, -1000, 1000]).tolist() == [0.5, 0.0, 0.5]
        assert softmax([-1000, -1000]).tolist() == [0.5, 0.5]


def test_softmax_refuses_to_choose_among_no_scores() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 0\).*at least one score"):
        softmax(np.zeros((2, 0)))


# naive softmax


def test_score_gradient_of_the_naive_softmax_is_the_probabilities_less_one_at_the_class() -> None:
    # The worked example of CS224n: p = [0.2, 0.3, 0.5], class 1. With U the identity, the scores are the center vector
    # and ∂L/∂v = Uᵀ ∂L/∂f is ∂L/∂f itself.
    center_vector = np.log([0.2, 0.3, 0.5])
    loss, center_gradient, outside_gradients = naive_softmax_loss_and_gradient(center_vector, 1, np.eye(3))

    assert loss == pytest.approx(-math.log(0.3), rel=1e-14)
    np.testing.assert_allclose(center_gradient, [0.2, -0.7, 0.5], rtol=1e-14)
    np.testing.assert_allclose(outside_gradients, np.outer([0.2, -0.7, 0.5], center_vector), rtol=1e-14)


def test_outside_gradients_of_the_naive_softmax_are_the_score_gradients_when_the_center_vector_is_one() -> None:
    # The same example from the other side: D = 1 and v = 1, so the scores are U and ∂L/∂U is ∂L/∂f.
    outside_vectors = np.log([[0.2], [0.3], [0.5]])
    _, _, outside_gradients = naive_softmax_loss_and_gradient([1.0], 1, outside_vectors)
    np.testing.assert_allclose(outside_gradients, [[0.2], [-0.7], [0.5]], rtol=1e-14)


@examples
@given(some_examples())
def test_naive_softmax_loss_is_minus_the_logarithm_of_the_softmax(example: Example) -> None:
    center_vector, observed = example.center_vectors[example.center], example.window[0]
    loss, _, _ = naive_softmax_loss_and_gradient(center_vector, observed, example.outside_vectors)

    exponentials = [
        math.exp(math.fsum(u * v for u, v in zip(row, center_vector, strict=True))) for row in example.outside_vectors
    ]
    assert loss == pytest.approx(-math.log(exponentials[observed] / math.fsum(exponentials)), rel=1e-12, abs=1e-12)


def test_naive_softmax_is_finite_where_the_probability_is_zero() -> None:
    # Scores 1000, 0, -1000: -log p = log(e^1000 + 1 + e^-1000) - score, and e^-1000 is nothing beside 1.
    with np.errstate(all="raise"):
        loss, center_gradient, outside_gradients = naive_softmax_loss_and_gradient([1000], 2, [[1], [0], [-1]])
    assert loss == 2000.0
    assert center_gradient.tolist() == [2.0]  # p - y = [1, 0, -1]
    assert outside_gradients.tolist() == [[1000.0], [0.0], [-1000.0]]


# negative sampling


def test_negative_sampling_gives_the_numbers_worked_out_by_hand() -> None:
    # v = (1, 2); scores ln 3, ln 4, 0, so σ = 3/4, 4/5, 1/2. o = 0, negatives 1, 2, 1.
    # L = -ln 3/4 - 2 ln(1 - 4/5) - ln 1/2 = ln(4/3 · 25 · 2) = ln(200/3)
    # ∂L/∂scores = σ - 1 = -1/4 for o, 2 · 4/5 for word 1, 1/2 for word 2
    ln2, ln3 = math.log(2), math.log(3)
    outside_vectors = [[ln3, 0.0], [0.0, ln2], [-2 * ln3, ln3], [5.0, 5.0]]
    loss, center_gradient, outside_gradients = negative_sampling_loss_and_gradient(
        [1, 2], 0, outside_vectors, [1, 2, 1]
    )

    assert loss == pytest.approx(math.log(200 / 3), rel=1e-14)
    np.testing.assert_allclose(center_gradient, [-1.25 * ln3, 1.6 * ln2 + 0.5 * ln3], rtol=1e-14)
    np.testing.assert_allclose(outside_gradients, [[-0.25, -0.5], [1.6, 3.2], [0.5, 1.0], [0.0, 0.0]], rtol=1e-14)


def test_negative_sampling_is_finite_where_both_sigmoids_are_zero() -> None:
    # u_oᵀ v = -1000 and u_kᵀ v = 1000: each costs log(1 + e^1000) = 1000; ∂L/∂v = -u_o + u_k
    with np.errstate(all="raise"):
        loss, center_gradient, outside_gradients = negative_sampling_loss_and_gradient([1000], 1, [[1], [-1]], [0])
    assert loss == 2000.0
    assert center_gradient.tolist() == [2.0]
    assert outside_gradients.tolist() == [[1000.0], [-1000.0]]


def test_a_word_drawn_twice_as_a_negative_counts_twice() -> None:
    rng = np.random.default_rng(0)
    center_vector, outside_vectors = rng.normal(size=3), rng.normal(size=(5, 3))

    def of_negatives(negatives: list[int]) -> Float64Array:
        return as_one_array(negative_sampling_loss_and_gradient(center_vector, 2, outside_vectors, negatives))

    none, once, thrice = of_negatives([]), of_negatives([4]), of_negatives([4, 4, 4])
    assert np.count_nonzero(once - none) == 1 + 3 + 3  # the loss, the center gradient, row 4 of the outside gradients
    np.testing.assert_allclose(thrice - none, 3 * (once - none), rtol=1e-13)


def test_the_observed_word_among_the_negatives_counts_as_both() -> None:
    # Score ln 3, σ = 3/4: L = -ln 3/4 - ln 1/4, ∂L/∂score = (3/4 - 1) + 3/4
    loss, center_gradient, outside_gradients = negative_sampling_loss_and_gradient([1.0], 0, [[math.log(3)]], [0])
    assert loss == pytest.approx(math.log(16 / 3), rel=1e-14)
    np.testing.assert_allclose(center_gradient, [0.5 * math.log(3)], rtol=1e-14)
    np.testing.assert_allclose(outside_gradients, [[0.5]], rtol=1e-14)


def test_the_order_of_the_negatives_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    center_vector, outside_vectors = rng.normal(size=3), rng.normal(size=(5, 3))
    one_way = negative_sampling_loss_and_gradient(center_vector, 2, outside_vectors, [0, 1, 1, 4])
    another = negative_sampling_loss_and_gradient(center_vector, 2, outside_vectors, [1, 4, 0, 1])
    np.testing.assert_allclose(as_one_array(one_way), as_one_array(another), rtol=1e-13)


def test_without_negatives_only_the_observed_word_is_learned() -> None:
    loss, center_gradient, outside_gradients = negative_sampling_loss_and_gradient([1.0], 0, [[0.0], [9.0]], [])
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    assert center_gradient.tolist() == [0.0]  # (σ(0) - 1) · u_o, and u_o is 0
    assert outside_gradients.tolist() == [[-0.5], [0.0]]


# gradients of all of them


@examples
@given(some_examples())
def test_naive_softmax_gradients_match_central_differences(example: Example) -> None:
    center_vector, observed = example.center_vectors[example.center], example.window[0]

    def of_center(point: Float64Array) -> tuple[float, Float64Array]:
        return naive_softmax_loss_and_gradient(point, observed, example.outside_vectors)[:2]

    def of_outside(point: Float64Array) -> tuple[float, Float64Array]:
        loss, _, outside_gradients = naive_softmax_loss_and_gradient(center_vector, observed, point)
        return loss, outside_gradients

    assert check_gradient(of_center, center_vector) < GRADIENT_TOLERANCE
    assert check_gradient(of_outside, example.outside_vectors) < GRADIENT_TOLERANCE


@examples
@given(some_examples())
def test_negative_sampling_gradients_match_central_differences(example: Example) -> None:
    center_vector, observed = example.center_vectors[example.center], example.window[0]

    def of_center(point: Float64Array) -> tuple[float, Float64Array]:
        return negative_sampling_loss_and_gradient(point, observed, example.outside_vectors, example.negatives)[:2]

    def of_outside(point: Float64Array) -> tuple[float, Float64Array]:
        loss, _, outside_gradients = negative_sampling_loss_and_gradient(
            center_vector, observed, point, example.negatives
        )
        return loss, outside_gradients

    assert check_gradient(of_center, center_vector) < GRADIENT_TOLERANCE
    assert check_gradient(of_outside, example.outside_vectors) < GRADIENT_TOLERANCE


@examples
@given(some_examples(), st.booleans())
def test_skipgram_gradients_match_central_differences(example: Example, naive: bool) -> None:
    loss_and_gradient = (
        naive_softmax_loss_and_gradient
        if naive
        else partial(negative_sampling_loss_and_gradient, negative_indices=example.negatives)
    )

    def of_both(
        point: Float64Array,
    ) -> tuple[float, Float64Array]:  # (2, V, D): the center vectors, then the outside vectors
        loss, center_gradients, outside_gradients = skipgram_loss_and_gradient(
            example.center, example.window, point[0], point[1], loss_and_gradient
        )
        return loss, np.stack([center_gradients, outside_gradients])

    point = np.stack([example.center_vectors, example.outside_vectors])
    assert check_gradient(of_both, point) < GRADIENT_TOLERANCE


# skip-gram


def test_skipgram_adds_up_every_occurrence_of_an_outside_word() -> None:
    # The worked example with window 1, 1, 2: 3p - y_1 - y_1 - y_2 = [0.6, 0.9 - 2, 1.5 - 1]
    center_vectors = np.vstack([[9.0, 9.0, 9.0], np.log([0.2, 0.3, 0.5]), [7.0, 7.0, 7.0]])
    loss, center_gradients, outside_gradients = skipgram_loss_and_gradient(
        1, [1, 1, 2], center_vectors, np.eye(3), naive_softmax_loss_and_gradient
    )

    assert loss == pytest.approx(-math.log(0.3 * 0.3 * 0.5), rel=1e-14)
    score_gradients = np.array([0.6, -1.1, 0.5])
    np.testing.assert_allclose(center_gradients, np.outer([0, 1, 0], score_gradients), rtol=1e-13)
    np.testing.assert_allclose(outside_gradients, np.outer(score_gradients, center_vectors[1]), rtol=1e-13)


def test_skipgram_asks_for_each_outside_word_in_order_with_the_vectors_of_the_center() -> None:
    center_vectors, outside_vectors = np.arange(6.0).reshape(3, 2), np.arange(6.0, 12.0).reshape(3, 2)
    asked = []

    def loss_and_gradient(
        center_vector: Float64Array, observed: int, outside: Float64Array
    ) -> tuple[float, Float64Array, Float64Array]:
        asked.append((center_vector.tolist(), observed, outside.tolist()))
        return 1.0, np.ones(2), np.full((3, 2), 10.0)

    loss, center_gradients, outside_gradients = skipgram_loss_and_gradient(
        2, [0, 1, 0], center_vectors, outside_vectors, loss_and_gradient
    )
    assert asked == [([4.0, 5.0], observed, outside_vectors.tolist()) for observed in [0, 1, 0]]
    assert loss == 3.0
    assert center_gradients.tolist() == [[0.0, 0.0], [0.0, 0.0], [3.0, 3.0]]
    assert outside_gradients.tolist() == [[30.0, 30.0]] * 3


def test_skipgram_of_an_empty_window_teaches_nothing() -> None:
    loss, center_gradients, outside_gradients = skipgram_loss_and_gradient(
        0, [], np.ones((3, 2)), np.ones((3, 2)), naive_softmax_loss_and_gradient
    )
    assert loss == 0.0
    assert center_gradients.tolist() == outside_gradients.tolist() == [[0.0, 0.0]] * 3


# noise


@pytest.mark.parametrize("outside_index", [0, 2, 4])
def test_negatives_follow_the_noise_distribution_without_the_outside_word(outside_index: int) -> None:
    noise = np.array([0.1, 0.2, 0.3, 0.0, 0.4])
    expected = noise.copy()
    expected[outside_index] = 0.0
    expected /= expected.sum()

    draws = 100_000
    negatives = draw_negatives(outside_index, noise, draws, np.random.default_rng(7))
    shares = np.bincount(negatives, minlength=len(noise)) / draws
    # Words without probability, o among them, are not drawn at all; the others within 5 standard errors.
    assert np.all(np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / draws))


@examples
@given(
    st.integers(2, 6).flatmap(
        lambda words: st.tuples(st.integers(0, words - 1), hnp.arrays(np.int64, words, elements=st.integers(1, 1000)))
    ),
    st.integers(0, 40),
    st.integers(0, 2**32),
)
def test_as_many_negatives_as_asked_for_and_never_the_outside_word(
    outside_and_counts: tuple[int, Int64Array], negatives: int, seed: int
) -> None:
    outside_index, counts = outside_and_counts
    drawn = draw_negatives(outside_index, counts, negatives, np.random.default_rng(seed))
    assert drawn.shape == (negatives,)
    assert drawn.dtype == np.int64
    assert outside_index not in drawn
    assert set(drawn.tolist()) <= set(range(len(counts)))


def test_the_only_other_word_is_drawn_however_improbable_it_is() -> None:
    noise = [1.0, 1e-300, 0.0]
    assert draw_negatives(0, noise, 4, np.random.default_rng(0)).tolist() == [1, 1, 1, 1]


def test_only_the_proportions_of_the_noise_count() -> None:
    noise = np.array([0.5, 0.25, 0.5, 0.5])
    as_probabilities = draw_negatives(1, noise, 50, np.random.default_rng(3))
    as_counts = draw_negatives(1, 1024 * noise, 50, np.random.default_rng(3))
    with_infinite_sum = draw_negatives(1, 2.0**1023 * (2 * noise), 50, np.random.default_rng(3))
    assert as_probabilities.tolist() == as_counts.tolist() == with_infinite_sum.tolist()


def test_the_same_generator_state_draws_the_same_negatives_and_moves_on() -> None:
    rng = np.random.default_rng(3)
    first = draw_negatives(0, np.ones(1000), 20, rng).tolist()
    assert first == draw_negatives(0, np.ones(1000), 20, np.random.default_rng(3)).tolist()
    assert first != draw_negatives(0, np.ones(1000), 20, rng).tolist()
