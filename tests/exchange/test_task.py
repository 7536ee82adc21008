"""A task's part, message by message."""

import re
from collections import deque

import numpy as np
import pytest

from spark_w2v.exchange.plan import (
    AHEAD,
    BEAT,
    CENTER,
    CONTEXT,
    DRIVER,
    LARGEST_TEXT,
    MEET,
    STOP,
    TOOK,
    ExchangePlan,
    Message,
    ProtocolError,
)
from spark_w2v.exchange.task import TaskPart
from spark_w2v.skipgram.schedule import Ring

# Task 0 owns the center blocks 0 and 1. They meet the context blocks 1, 2 of the driver in round 0, 2, 3 in round 1,
# 3, 0 in round 2, 0, 1 in round 3: of these task 1 sends 3 for round 1, 0 for round 2 and 1 for round 3.
PLAN = ExchangePlan(Ring(4, 1, (1, -1)), 0, (3, 4, 5, 6), 2, ((0, 2), (2, 4)), snapshots=False, timeout=10.0)


def give(part: TaskPart, source: int, kind: bytes, number: int, block: int) -> None:
    room = part.room_for(source, Message(kind, number, block), PLAN.size(block))
    assert room.shape == (PLAN.rows[block], PLAN.dimensions)
    assert room.dtype == np.float32
    part.receive(source, Message(kind, number, block, room))


def train(part: TaskPart, count: int) -> None:
    for _ in range(count):
        if part._ahead[1]:
            part.receive(1, Message(TOOK))
        bucket = part.next_bucket()
        assert bucket is not None
        part.trained(bucket, 1.0, 1, 1)


def is_refused(part: TaskPart, source: int, kind: bytes, number: int, block: int, size: int | None = None) -> bool:
    size = PLAN.size(block) if size is None else size
    said = re.escape(f"{kind!r} {number} {block} of {size} bytes is not expected")
    with pytest.raises(ProtocolError, match=rf"{said}|is out of range$"):
        part.room_for(source, Message(kind, number, block), size)
    return True


@pytest.fixture
def part() -> TaskPart:
    """Of task 0, with all that the driver gives it."""
    part = TaskPart(PLAN, 0, "host", 1, lambda *to: None)
    with part.changed:
        for kind, block in [(CENTER, 0), (CENTER, 1), (CONTEXT, 1), (CONTEXT, 2)]:
            give(part, DRIVER, kind, 0, block)
    return part


@pytest.mark.parametrize("size", [0, PLAN.size(3) - 1, PLAN.size(3) + 1, PLAN.size(2), 1 << 40, (1 << 64) - 1])
def test_rows_of_another_length_than_their_block_has_are_refused(part: TaskPart, size: int) -> None:
    fresh = TaskPart(PLAN, 1, "host", 1, lambda *to: None)
    for kind in (CENTER, CONTEXT):
        assert is_refused(fresh, DRIVER, kind, 0, 3, size)
    assert is_refused(part, 1, CONTEXT, 1, 3, size)


@pytest.mark.parametrize(
    ("source", "kind", "number", "block"),
    [
        (DRIVER, CENTER, 0, 2),  # of task 1
        (DRIVER, CONTEXT, 0, 3),
        (DRIVER, CENTER, 1, 0),  # in a later round than the first
        (DRIVER, CONTEXT, 1, 3),
        (1, CENTER, 0, 0),  # which the driver sends
        (1, CENTER, 1, 3),
        (1, CONTEXT, 0, 1),
        (1, CONTEXT, 1, 2),  # which is here already
        (1, CONTEXT, 1, 0),  # for a block of task 1
        (1, CONTEXT, 2, 3),  # which task 0 itself has in round 1
        (1, CONTEXT, 8, 0),  # after the last round
        (1, CONTEXT, (1 << 32) - 1, 0),
    ],
)
def test_rows_of_another_kind_or_round_or_sender_are_refused(source: int, kind: bytes, number: int, block: int) -> None:
    part = TaskPart(PLAN, 0, "host", 1, lambda *to: None)
    assert is_refused(part, source, kind, number, block)


@pytest.mark.parametrize("block", [4, (1 << 32) - 1])
def test_rows_of_a_block_that_does_not_exist_are_refused(block: int) -> None:
    part = TaskPart(PLAN, 0, "host", 1, lambda *to: None)
    for source, kind, number in ((DRIVER, CENTER, 0), (DRIVER, CONTEXT, 0), (1, CONTEXT, 1)):
        assert is_refused(part, source, kind, number, block, 24)


def test_a_block_does_not_come_twice(part: TaskPart) -> None:
    with part.changed:
        for kind, block in [(CENTER, 0), (CENTER, 1), (CONTEXT, 1), (CONTEXT, 2)]:
            assert is_refused(part, DRIVER, kind, 0, block)
        give(part, 1, CONTEXT, 1, 3)
        assert is_refused(part, 1, CONTEXT, 1, 3)
        give(part, 1, CONTEXT, 2, 0)
        train(part, 2)
        assert is_refused(part, DRIVER, CONTEXT, 0, 1)  # it has gone to task 1
        train(part, 4)
        assert is_refused(part, 1, CONTEXT, 1, 3)  # likewise
        give(part, 1, CONTEXT, 3, 1)


def test_no_more_blocks_wait_than_a_neighbour_may_send_ahead(part: TaskPart) -> None:
    with part.changed:
        give(part, 1, CONTEXT, 1, 3)
        give(part, 1, CONTEXT, 2, 0)
        assert AHEAD == 2
        train(part, 2)
        assert is_refused(part, 1, CONTEXT, 3, 1)
        train(part, 2)
        give(part, 1, CONTEXT, 3, 1)


def test_a_text_is_as_long_as_the_addresses_of_all_tasks_and_not_much_longer(part: TaskPart) -> None:
    addresses = [[":".join(["ffff"] * 8), 65535]] * 4096
    size = len(Message.of(MEET, tasks=addresses).payload)
    assert 4 * size < LARGEST_TEXT < 6 * size
    for allowed in (0, size, LARGEST_TEXT):
        assert len(part.room_for(DRIVER, Message(MEET), allowed)) == allowed
    for size in (LARGEST_TEXT + 1, 1 << 40, (1 << 64) - 1):
        for kind in (MEET, BEAT):
            with pytest.raises(ProtocolError, match=f"{kind!r} of {size} bytes"):
                part.room_for(DRIVER, Message(kind), size)


def test_the_driver_ends_a_task_and_says_why(part: TaskPart) -> None:
    with part.changed:
        with pytest.raises(ProtocolError, match="is not expected from task 1"):
            part.receive(1, Message.of(STOP, reason="of another task"))
        assert part.outbox == deque()
        part.receive(DRIVER, Message.of(STOP, reason="task 1 stopped: no room"))
    assert part.has_ended
    assert part.failure == "task 1 stopped: no room"
