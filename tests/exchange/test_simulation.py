"""The exchange over a network in memory that delays, cuts and stops, 500 times."""

from collections import Counter

import pytest

from tests.support import simulation

SEEDS = range(500)


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("hundred", range(len(SEEDS) // 100))
def test_every_epoch_ends_with_the_same_bits_or_with_a_reason_within_bounded_time(hundred: int) -> None:
    ended: Counter[str] = Counter()
    for seed in SEEDS[hundred * 100 : (hundred + 1) * 100]:
        try:
            outcome, expected = simulation.epoch(seed)
            if outcome.parameters is not None:
                assert simulation.same(outcome.parameters, expected)
            assert outcome.parameters is not None or len(outcome.failures) == 4
            assert all(reason.strip() for reason in outcome.failures)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        ended["gave up" if outcome.parameters is None else "again" if outcome.failures else "at once"] += 1
    # Faults that never strike, or that nothing survives, would prove nothing.
    assert ended["at once"] > 20
    assert ended["again"] > 20


def test_a_seed_repeats_itself() -> None:
    (one, _), (other, _) = simulation.epoch(11), simulation.epoch(11)
    assert one.failures == other.failures
    assert one.losses == other.losses
