"""The exchange over a network in memory that delays, cuts and stops, 500 times."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from spark_w2v.exchange.task import TaskPart
from tests.support import simulation

SEEDS = range(500)


def how_it_ends(seed: int) -> str:
    """Check the epoch of a seed; an error says what to call to see it again."""
    try:
        outcome, expected = simulation.epoch(seed)
        if outcome.parameters is not None:
            assert simulation.same(outcome.parameters, expected), "other bits"
        assert outcome.parameters is not None or len(outcome.failures) == 4
        assert all(reason.strip() for reason in outcome.failures)
    except Exception as error:
        raise AssertionError(f"simulation.epoch({seed}): {type(error).__name__}: {error}") from error
    return "gave up" if outcome.parameters is None else "again" if outcome.failures else "at once"


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("hundred", range(len(SEEDS) // 100))
def test_every_epoch_ends_with_the_same_bits_or_with_a_reason_within_bounded_time(hundred: int) -> None:
    ended = Counter(map(how_it_ends, SEEDS[hundred * 100 : (hundred + 1) * 100]))
    # Faults that never strike, or that nothing survives, would prove nothing.
    assert ended["at once"] > 20
    assert ended["again"] > 20


def test_a_seed_repeats_itself() -> None:
    seeds = range(10)
    assert len({how_it_ends(seed) for seed in seeds}) > 1
    for seed in seeds:
        (one, _), (other, _) = simulation.epoch(seed), simulation.epoch(seed)
        assert (one.failures, one.losses, one.moments) == (other.failures, other.losses, other.moments)
        assert (one.parameters is None) == (other.parameters is None)
        assert one.parameters is None or simulation.same(one.parameters, other.parameters or {})


def test_a_seed_that_fails_is_named_with_the_call_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = TaskPart.trained

    def spoil(part: TaskPart, bucket: Any, *stats: Any) -> None:
        if bucket.number == 5:
            bucket.center[0, 0] += np.float32(1)
        trained(part, bucket, *stats)

    monkeypatch.setattr(TaskPart, "trained", spoil)
    with pytest.raises(AssertionError, match=r"^simulation\.epoch\(\d+\): AssertionError: other bits") as failed:
        list(map(how_it_ends, SEEDS[:100]))
    outcome, expected = eval(str(failed.value).partition(": ")[0])
    assert not simulation.same(outcome.parameters, expected)
