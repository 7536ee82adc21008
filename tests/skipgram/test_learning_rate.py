"""The learning rate during a run."""

import pytest

from spark_w2v.skipgram.schedule import LEAST_RATE, learning_rate


@pytest.mark.parametrize(("done", "share"), [(0.0, 1.0), (0.25, 0.75), (1.0 - LEAST_RATE / 2, 1e-4), (1.0, 1e-4)])
def test_the_rate_falls_linearly_to_a_ten_thousandth(done: float, share: float) -> None:
    assert learning_rate(0.5, done) == 0.5 * share
