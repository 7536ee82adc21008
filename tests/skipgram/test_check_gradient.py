"""check_gradient finds what is wrong with a gradient."""

import math

import numpy as np
import pytest

from spark_w2v.skipgram.reference import check_gradient
from spark_w2v.types import Float64Array

GRADIENT_TOLERANCE = 1e-6  # what check_gradient's docstring promises of a right gradient


def test_check_gradient_passes_a_right_gradient_of_any_shape() -> None:
    def cubes(point: Float64Array) -> tuple[float, Float64Array]:
        return float((point**3).sum()), 3 * point**2

    for shape in [(), (4,), (2, 3), (2, 0)]:
        assert check_gradient(cubes, np.random.default_rng(0).normal(size=shape)) < GRADIENT_TOLERANCE
    assert check_gradient(cubes, 3) < GRADIENT_TOLERANCE


def test_check_gradient_reports_the_relative_error_of_the_worst_entry() -> None:
    # f = x² + 10 y² at (1, 1): gradient (2, 20). One entry 2 % too high: 0.04 / 2.04.
    def wrong(point: Float64Array) -> tuple[float, Float64Array]:
        return float(point[0] ** 2 + 10 * point[1] ** 2), np.array([2.04 * point[0], 20 * point[1]])

    assert check_gradient(wrong, np.ones(2)) == pytest.approx(0.04 / 2.04, rel=1e-6)


def test_check_gradient_sees_a_lost_sign_and_a_forgotten_entry() -> None:
    assert check_gradient(lambda x: (float(x @ x), -2 * x), [0.5, 1.0]) == pytest.approx(2.0, rel=1e-6)
    assert check_gradient(lambda x: (float(x @ x), 2 * x * [1, 0]), [0.5, 1.0]) == pytest.approx(1.0, rel=1e-6)


def test_check_gradient_sees_an_error_in_an_entry_far_smaller_than_the_value() -> None:
    # f = 1 + 1e-5 x: a gradient of 0 is 1e-5 off, under the floor of 1e-3, and still far over the tolerance.
    error = check_gradient(lambda x: (1 + 1e-5 * float(x[0]), np.zeros(1)), [0.0])
    assert error == pytest.approx(1e-2, rel=1e-4)


def test_check_gradient_is_infinite_for_values_that_are_not_finite() -> None:
    assert check_gradient(lambda x: (0.0, x * math.nan), [1.0]) == math.inf
    assert check_gradient(lambda x: (math.nan, x * 0.0), [1.0]) == math.inf
    assert check_gradient(lambda x: (math.nan if x[0] == 1 else 0.0, x * 0.0), [1.0]) == math.inf


def test_check_gradient_keeps_its_point_from_a_function_that_writes_to_it() -> None:
    def careless(point: Float64Array) -> tuple[float, Float64Array]:
        value, gradient = float(point @ point), 2 * point
        point[:] = 99.0
        return value, gradient

    point = np.array([1.0, 2.0])
    assert check_gradient(careless, point) < GRADIENT_TOLERANCE
    assert point.tolist() == [1.0, 2.0]


def test_check_gradient_refuses_a_gradient_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"gradient has shape \(1,\); the point's shape \(2,\) is required"):
        check_gradient(lambda x: (0.0, x[:1]), [1.0, 2.0])
