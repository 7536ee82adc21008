"""The learning rate during a run."""

import pytest

from spark_w2v.skipgram.schedule import LEAST_RATE, learning_rate


@pytest.mark.parametrize(("done", "share"), [(0.0, 1.0), (0.25, 0.75), (1.0 - LEAST_RATE / 2, 1e-4), (1.0, 1e-4)])
def test_the_rate_falls_linearly_to_a_ten_thousandth(done: float, share: float) -> None:
    assert learning_rate(0.5, 0.0, done) == 0.5 * share


@pytest.mark.parametrize(("last", "middle", "end"), [(0.5, 0.5, 0.5), (0.1, 0.3, 0.1), (1e-9, 0.25, 0.5e-4)])
def test_the_rate_falls_to_the_last_one_that_is_given(last: float, middle: float, end: float) -> None:
    found = [learning_rate(0.5, last, done) for done in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.5, middle, end], rel=1e-7)
