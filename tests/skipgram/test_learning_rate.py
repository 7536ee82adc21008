"""The learning rate during a run."""

import numpy as np
import pytest

from spark_w2v.skipgram.schedule import LEAST_RATE, learning_rate, rate_shares


@pytest.mark.parametrize(("done", "share"), [(0.0, 1.0), (0.25, 0.75), (1.0 - LEAST_RATE / 2, 1e-4), (1.0, 1e-4)])
def test_the_rate_falls_linearly_to_a_ten_thousandth(done: float, share: float) -> None:
    assert learning_rate(0.5, 0.0, done) == 0.5 * share


@pytest.mark.parametrize(("last", "middle", "end"), [(0.5, 0.5, 0.5), (0.1, 0.3, 0.1), (1e-9, 0.25, 0.5e-4)])
def test_the_rate_falls_to_the_last_one_that_is_given(last: float, middle: float, end: float) -> None:
    found = [learning_rate(0.5, last, done) for done in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.5, middle, end], rel=1e-7)


def test_the_rate_of_a_word_falls_with_the_root_of_what_it_was_trained_on() -> None:
    shares = rate_shares(np.array([0, 150, 4950, 2**40]), 50)
    assert shares is not None
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, [1, 0.5, 0.1, np.sqrt(50 / (50 + 2**40))], rtol=1e-6)
    assert rate_shares(np.array([1, 2]), 0) is None
