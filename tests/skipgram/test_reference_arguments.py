"""Arguments that the textbook functions refuse or convert."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from spark_w2v.skipgram.reference import (
    draw_negatives,
    naive_softmax_loss_and_gradient,
    negative_sampling_loss_and_gradient,
    sigmoid,
    sigmoid_derivative,
    skipgram_loss_and_gradient,
    softmax,
)

CENTER, OUTSIDE = np.ones(2), np.ones((3, 2))  # D = 2, V = 3
NOT_AN_ID: Any = 1.0  # Any, because the type checker refuses it as well
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            partial(naive_softmax_loss_and_gradient, np.ones(3), 0, OUTSIDE),
            r"center_vector has shape \(3,\); \(2,\) is",
        ),
        (partial(naive_softmax_loss_and_gradient, np.ones((2, 1)), 0, OUTSIDE), r"center_vector has shape \(2, 1\)"),
        (
            partial(naive_softmax_loss_and_gradient, CENTER, 0, np.ones(2)),
            r"outside_vectors has shape \(2,\).*\(V, D\)",
        ),
        (partial(naive_softmax_loss_and_gradient, CENTER, 3, OUTSIDE), r"outside_index is 3; with V = 3 .* < 3 is req"),
        (partial(naive_softmax_loss_and_gradient, CENTER, -1, OUTSIDE), r"outside_index is -1; .* 0 <= id"),
        (
            partial(naive_softmax_loss_and_gradient, CENTER, NOT_AN_ID, OUTSIDE),
            r"outside_index is 1\.0; one whole number",
        ),
        (partial(negative_sampling_loss_and_gradient, np.ones(3), 0, OUTSIDE, [1]), r"center_vector has shape \(3,\)"),
        (partial(negative_sampling_loss_and_gradient, CENTER, 3, OUTSIDE, [1]), r"outside_index is 3"),
        (partial(negative_sampling_loss_and_gradient, CENTER, 0, OUTSIDE, [1, 3]), r"negative_indices is 3"),
        (partial(negative_sampling_loss_and_gradient, CENTER, 0, OUTSIDE, [-1]), r"negative_indices is -1"),
        (
            partial(negative_sampling_loss_and_gradient, CENTER, 0, OUTSIDE, [[1]]),
            r"negative_indices has shape \(1, 1\)",
        ),
        (partial(negative_sampling_loss_and_gradient, CENTER, 0, OUTSIDE, [1.5]), r"negative_indices holds float64"),
        (partial(draw_negatives, 0, np.ones((2, 2)), 1, RNG), r"noise_probabilities has shape \(2, 2\).*\(V,\)"),
        (partial(draw_negatives, 0, [0.5, -0.5], 1, RNG), r"negative or not finite; all must be >= 0"),
        (partial(draw_negatives, 0, [0.5, math.nan], 1, RNG), r"negative or not finite"),
        (partial(draw_negatives, 0, [0.5, math.inf], 1, RNG), r"negative or not finite"),
        (partial(draw_negatives, 2, [0.5, 0.5], 1, RNG), r"outside_index is 2; with V = 2"),
        (partial(draw_negatives, 0, [0.5, 0.5], -1, RNG), r"negatives is -1"),
        (partial(draw_negatives, 1, [0.0, 1.0, 0.0], 1, RNG), r"of 3 words only outside_index 1 may have probability"),
        (partial(draw_negatives, 0, [1.0], 1, RNG), r"of 1 words only outside_index 0 may have probability"),
        (
            partial(skipgram_loss_and_gradient, 3, [0], OUTSIDE, OUTSIDE, naive_softmax_loss_and_gradient),
            r"center_index is 3",
        ),
        (
            partial(skipgram_loss_and_gradient, 0, [0, 3], OUTSIDE, OUTSIDE, naive_softmax_loss_and_gradient),
            r"outside_indices is 3",
        ),
        (
            partial(skipgram_loss_and_gradient, 0, 1, OUTSIDE, OUTSIDE, naive_softmax_loss_and_gradient),
            r"outside_indices has shape \(\)",
        ),
        (
            partial(skipgram_loss_and_gradient, 0, [0], np.ones((4, 2)), OUTSIDE, naive_softmax_loss_and_gradient),
            r"center_vectors has shape \(4, 2\) and outside_vectors \(3, 2\)",
        ),
        (
            partial(skipgram_loss_and_gradient, 0, [0], CENTER, OUTSIDE, naive_softmax_loss_and_gradient),
            r"center_vectors has shape \(2,\); one row per word",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_found(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_inputs_of_integers_or_float32_are_computed_in_float64_and_left_as_they_are() -> None:
    integers = np.array([[1, 0], [0, 1], [1, 1]])
    for matrix in (integers, integers.astype(np.float32), integers.astype(np.float64)):
        before = matrix.copy()
        matrix.flags.writeable = False
        window, negatives, noise = np.array([2, 2]), np.array([1, 1], dtype=np.uint16), np.array([1, 2, 3])
        for ids in (window, negatives, noise):
            ids.flags.writeable = False

        sampled = partial(negative_sampling_loss_and_gradient, negative_indices=negatives)
        expected_loss = 2 * (math.log1p(math.exp(-1)) + 2 * math.log(2))  # v = (1, 0): scores 1 and 0
        loss, *gradients = skipgram_loss_and_gradient(np.int32(0), window, matrix, matrix, sampled)
        assert loss == pytest.approx(expected_loss, rel=1e-15)
        assert all(gradient.dtype == np.float64 for gradient in gradients)
        naive = naive_softmax_loss_and_gradient(matrix[0], 1, matrix)
        assert all(gradient.dtype == np.float64 for gradient in naive[1:])
        assert type(loss) is type(naive[0]) is float

        draw_negatives(0, noise, 5, np.random.default_rng(0))
        assert sigmoid(matrix).dtype == sigmoid_derivative(matrix).dtype == softmax(matrix).dtype == np.float64
        np.testing.assert_array_equal(matrix, before)
