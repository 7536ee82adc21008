"""The driver's part, message by message."""

from typing import Any

import numpy as np
import pytest

from spark_w2v.exchange.driver import DIVERGED, DriverPart
from spark_w2v.exchange.plan import (
    BEAT,
    CENTER,
    CONTEXT,
    FAIL,
    JOIN,
    LARGEST_TEXT,
    STOP,
    SWEEP,
    TOOK,
    ExchangePlan,
    Message,
    ProtocolError,
)
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


# Of two sweeps that come back. At the end of sweep 0 the context blocks 0 and 1 are at task 1, 2 and 3 at task 0.
PLAN = ExchangePlan(Ring(4, 3, (1, -1)), 0, (3, 4, 5, 6), 2, ((0, 2), (2, 4)), snapshots=True, timeout=10.0)


@pytest.fixture
def part() -> DriverPart:
    """Of two tasks with two blocks each."""
    return DriverPart(PLAN, simulation.MemoryStore(simulation.initial(PLAN.rows)))


def is_refused(part: DriverPart, source: int, kind: bytes, sweep: int, block: int, size: int | None = None) -> bool:
    with pytest.raises(ProtocolError, match=r"is not expected|is another task's"):
        part.room_for(source, Message(kind, sweep, block), PLAN.size(block) if size is None else size)
    assert part._store.after == {}, "the store has given room"  # type: ignore[attr-defined]
    return True


@pytest.mark.parametrize("size", [0, PLAN.size(1) - 1, PLAN.size(1) + 1, PLAN.size(0), 1 << 40, (1 << 64) - 1])
def test_rows_of_another_length_than_their_block_has_are_refused(part: DriverPart, size: int) -> None:
    assert is_refused(part, 0, CENTER, 0, 1, size)
    assert is_refused(part, 1, CONTEXT, 0, 1, size)


def test_rows_of_another_sweep_or_block_or_sender_are_refused(part: DriverPart) -> None:
    for sweep in (2, (1 << 32) - 1):
        assert is_refused(part, 0, CENTER, sweep, 0)
    for block in (4, (1 << 32) - 1):
        assert is_refused(part, 0, CENTER, 0, block, 24)
    for block in range(4):
        assert is_refused(part, 1 - PLAN.owners[block], CENTER, 0, block)
        assert is_refused(part, 0 if block < 2 else 1, CONTEXT, 0, block)
    assert [PLAN.trainer(3, block) for block in range(4)] == [1, 1, 0, 0]
    assert part.room_for(0, Message(CENTER, 0, 0), PLAN.size(0)).shape == (3, 2)
    assert part.room_for(1, Message(CONTEXT, 0, 1), PLAN.size(1)).shape == (4, 2)


def test_rows_of_a_sweep_come_once(part: DriverPart) -> None:
    with part.changed:
        for kind, source in ((CENTER, 0), (CONTEXT, 1)):
            part.receive(source, Message(kind, 0, 0))
            assert is_refused(part, source, kind, 0, 0)
    assert part.room_for(0, Message(CENTER, 1, 0), PLAN.size(0)) is not None


@pytest.mark.parametrize("kind", [SWEEP, BEAT, FAIL, JOIN])
def test_a_text_that_is_too_long_is_refused(part: DriverPart, kind: bytes) -> None:
    assert len(part.room_for(0, Message(kind), LARGEST_TEXT)) == LARGEST_TEXT
    for size in (LARGEST_TEXT + 1, (1 << 64) - 1):
        with pytest.raises(ProtocolError, match=f"{kind!r} of {size} bytes"):
            part.room_for(0, Message(kind), size)


# What tasks say that they trained


@pytest.mark.parametrize(
    ("sweep", "blocks", "says"),
    [
        (2, [], "of no sweep"),
        (0, None, "of no sweep"),
        (0, [[2, 1.0, 1, 1]], "of another task's block"),
        (0, [[0, 1.0, 1]], "of another task's block"),
        (0, [0], "of another task's block"),
        (0, [[0, 1, 1, 1]], "without its numbers"),
        (0, [[0, 1.0, None, 1]], "without its numbers"),
        (0, [[0, 1.0, 1, 1.0]], "without its numbers"),
    ],
)
def test_what_was_trained_is_refused_unless_it_is_of_the_tasks_own_blocks(
    part: DriverPart, sweep: int, blocks: Any, says: str
) -> None:
    with part.changed, pytest.raises(ProtocolError, match=f"^what was trained, {says}$"):
        part.receive(0, Message.of(SWEEP, sweep, blocks=blocks, stats={}))


def test_what_was_trained_is_said_once_in_a_sweep(part: DriverPart) -> None:
    said = Message.of(SWEEP, 0, blocks=[[0, 1.0, 1, 1], [1, 1.0, 1, 1]], stats={})
    with part.changed:
        part.receive(0, said)
        with pytest.raises(ProtocolError, match=r"^what was trained, said twice$"):
            part.receive(0, said)
    assert part.failure is None


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_attempt(part: DriverPart, loss: float) -> None:
    with part.changed:
        part.receive(0, Message.of(SWEEP, 0, blocks=[[0, loss, 1, 1]], stats={}))
    assert part.failure == DIVERGED


# Tasks that do not come


def test_a_task_that_does_not_connect_ends_the_attempt_for_the_others(part: DriverPart) -> None:
    with part.changed:
        assert part.identify(Message.of(JOIN, task=0, host="host", port=1)) == 0
        part.connected(0, "host", 100.0)
        part.heard(0, 129.0)
        part.tick(130.0)
        assert {message.kind for _, message in part.outbox} == {BEAT}
        part.tick(130.1)
    assert part.failure == "1 of 2 tasks did not connect to the driver within 30 s"
    (stop,) = [(task, message.fields()) for task, message in part.outbox if message.kind == STOP]
    assert stop == (0, {"reason": part.failure})
