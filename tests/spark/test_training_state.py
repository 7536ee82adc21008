"""Which losses of an epoch stop a run."""

import math

import pytest

from spark_w2v.errors import DivergedError
from spark_w2v.spark.training_state import LossLimit

UNTRAINED = 6 * math.log(2)
BEGINS_WITHOUT_VECTORS = -1.0


@pytest.mark.parametrize(
    ("begins", "loss", "held_out", "is_refused"),
    [
        (BEGINS_WITHOUT_VECTORS, 1.04, 1.9, False),
        (BEGINS_WITHOUT_VECTORS, 1.06, 1.0, True),
        (BEGINS_WITHOUT_VECTORS, 1.0, 2.1, True),
        (BEGINS_WITHOUT_VECTORS, None, None, False),
        (1.0, 1.04, 1.0, False),  # of a file, whose context vectors are zeros
        (1.0, 1.06, 1.0, True),
        (0.7, 1.06, 0.7, True),
        (1.5, 2.9, 2.9, False),
        (1.5, 3.1, 1.5, True),
        (1.5, 1.5, 3.1, True),
        (None, 9.0, None, False),
        (None, 10.1, None, True),
    ],
)
def test_a_loss_stops_a_run_by_what_the_run_began_with(
    begins: float | None, loss: float | None, held_out: float | None, is_refused: bool
) -> None:
    limit = LossLimit(negatives=5)
    if begins != BEGINS_WITHOUT_VECTORS:
        limit.begin_with(None if begins is None else begins * UNTRAINED)
    losses = [None if value is None else value * UNTRAINED for value in (loss, held_out)]
    if is_refused:
        with pytest.raises(DivergedError, match=r"per pair, and that of an untrained model 4\.159"):
            limit.check(*losses)
    else:
        limit.check(*losses)


def test_the_vectors_that_a_run_begins_with_in_the_end_count() -> None:
    """Those of known words are given first, and those of new words, which are induced, after them."""
    limit = LossLimit(negatives=5)
    limit.begin_with(1.5 * UNTRAINED)
    limit.begin_with(0.9 * UNTRAINED)
    with pytest.raises(DivergedError):
        limit.check(1.1 * UNTRAINED, UNTRAINED)


def test_a_held_out_loss_above_an_untrained_models_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    limit = LossLimit(negatives=5)  # 4.16 per pair
    for held_out in (4.1, 4.2, 4.3):
        limit.check(4.0, held_out)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the held-out loss is 4.2 per pair, and that of an untrained model 4.159"
    ]


def test_given_vectors_that_are_worse_than_untrained_ones_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    limit = LossLimit(negatives=5)
    limit.begin_with(5.0)
    limit.check(4.0, 4.9)
    assert not caplog.records
