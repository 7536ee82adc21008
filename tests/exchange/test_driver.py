"""The driver's part, message by message."""

import numpy as np
import pytest

from spark_w2v.exchange.driver import DriverPart
from spark_w2v.exchange.plan import CENTER, CONTEXT, SWEEP, TOOK, ExchangePlan, Message, ProtocolError
from spark_w2v.skipgram.schedule import Ring
from tests.support import simulation


def test_rows_of_a_sweep_are_acknowledged_when_the_sweep_before_has_been_handled() -> None:
    ring = Ring.draw(1, 4, np.random.default_rng(1))
    plan = ExchangePlan(ring, 0, (3,), simulation.DIMENSIONS, ((0, 1),), snapshots=True, timeout=10.0)
    part = DriverPart(plan, simulation.MemoryStore(simulation.initial(plan.rows)))

    def sweep(number: int) -> None:
        part.receive(0, Message(CENTER, number, 0))
        part.receive(0, Message(CONTEXT, number, 0))
        part.receive(0, Message.of(SWEEP, number, blocks=[[0, 1.0, 1, 1]], stats={}))

    def acknowledged() -> list[int]:
        return [message.number for _, message in part.outbox if message.kind == TOOK]

    with part.changed:
        sweep(0)
        assert acknowledged() == [0, 0]
        sweep(1)
        assert acknowledged() == [0, 0]
        part.handled(0)
        assert acknowledged() == [0, 0, 1, 1]
        sweep(2)
        part.handled(2)
        assert acknowledged() == [0, 0, 1, 1, 2, 2]
        assert [snapshot.sweep for snapshot in part.snapshots] == [0, 1, 2]


def driver_part(snapshots: bool) -> DriverPart:
    ring = Ring.draw(1, 4, np.random.default_rng(1))
    plan = ExchangePlan(ring, 0, (3,), simulation.DIMENSIONS, ((0, 1),), snapshots, timeout=10.0)
    return DriverPart(plan, simulation.MemoryStore(simulation.initial(plan.rows)))


def test_rows_of_a_sweep_whose_files_are_not_made_yet_are_refused() -> None:
    part = driver_part(snapshots=True)
    size = part.plan.size(0)
    for sweep in (0, 1):
        assert part.room_for(0, Message(CENTER, sweep, 0), size) is not None
    with pytest.raises(ProtocolError, match="is not expected"):
        part.room_for(0, Message(CENTER, 2, 0), size)
    with part.changed:
        part.handled(0)
    assert part.room_for(0, Message(CENTER, 2, 0), size) is not None


def test_without_snapshots_only_the_rows_of_the_last_sweep_come() -> None:
    part = driver_part(snapshots=False)
    with pytest.raises(ProtocolError, match="is not expected"):
        part.room_for(0, Message(CENTER, 2, 0), part.plan.size(0))
    assert part.room_for(0, Message(CENTER, 3, 0), part.plan.size(0)) is not None
