"""Facts that both sides of an exchange know beforehand: blocks, owners, the order of buckets, the form of messages.

B blocks, T tasks, D dimensions. Rounds are numbered as in `skipgram.schedule`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from spark_w2v.skipgram.schedule import Ring

DRIVER = -1  # the driver, in place of a task's number

# Kinds of messages. `number` and `block` are 0 where they are not used.
JOIN = b"join"  # task to driver, the first: {"task", "host", "port"}
MEET = b"meet"  # driver to task: {"tasks": [[host, port], ...]}
HELLO = b"helo"  # task to task, the first: {"task"}
READY = b"redy"  # task to driver: connected to its neighbours
CENTER, CONTEXT = b"cntr", b"ctxt"  # rows of a block; number is a round (to a task) or a sweep (to the driver)
TOOK = b"took"  # rows have arrived or are trained: the sender may send more
SWEEP = b"swep"  # task to driver: {"blocks": [[center block, loss, loss pairs, pairs], ...], "stats"}
BEAT = b"beat"  # the sender lives; to the driver with {"pairs", "total"}: those trained so far, and to be trained
FAIL = b"fail"  # task to driver: {"reason"}; the attempt is over
STOP = b"stop"  # driver to task: {"reason"}; the attempt is over
OVER = b"over"  # driver to task: the driver has all rows, the task may end
ROWS = (CENTER, CONTEXT)
KINDS = {JOIN, MEET, HELLO, READY, *ROWS, TOOK, SWEEP, BEAT, FAIL, STOP, OVER}

LARGEST_TEXT = 1 << 20  # bytes of a message without rows: the addresses of 4,096 tasks fill a fifth of it
AHEAD = 2  # blocks sent to a neighbour that are not trained there yet, at most; with 1 a ring can stand still
BEATS = 6  # heartbeats at least in the time after which a silent process counts as lost
BEAT_SECONDS = 1.0  # between two heartbeats at most, as they also say how far a task is


class ExchangeError(RuntimeError):
    """Why an attempt ended, in one sentence."""


class ProtocolError(ValueError):
    """A message that no part of an exchange sends."""


class Message(NamedTuple):
    """A message: a kind, two numbers, and rows or JSON."""

    kind: bytes
    number: int = 0
    block: int = 0
    payload: Any = b""

    @classmethod
    def of(cls, kind: bytes, number: int = 0, **fields: Any) -> "Message":
        """Return a message with JSON in it."""
        return cls(kind, number, 0, json.dumps(fields).encode())

    def fields(self) -> dict[str, Any]:
        """Return the JSON of a message.

        Raises:
            ProtocolError: there is none.
        """
        try:
            found = json.loads(bytes(self.payload))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProtocolError(f"{self.kind!r} holds no JSON object")
        return found


@dataclass(frozen=True)
class ExchangePlan:
    """One attempt at an epoch.

    Args:
        ring: the order of buckets.
        first: the round that it begins with, the first of a sweep.
        rows: (B,) rows of each block.
        dimensions: D.
        ranges: (T,) the center blocks that each task owns, first and one after the last; together all, each once.
        snapshots: the driver wants all parameters after each sweep, not only after the last.
        timeout: seconds without a message after which a process counts as lost.
    """

    ring: Ring
    first: int
    rows: tuple[int, ...]
    dimensions: int
    ranges: tuple[tuple[int, int], ...]
    snapshots: bool
    timeout: float

    @cached_property
    def owners(self) -> list[int]:
        """(B,) task of each center block."""
        found = [0] * self.ring.blocks
        for task, (begin, end) in enumerate(self.ranges):
            found[begin:end] = [task] * (end - begin)
        return found

    @property
    def tasks(self) -> int:
        """T."""
        return len(self.ranges)

    @property
    def sweeps(self) -> range:
        """The sweeps that are trained."""
        return range(self.first // self.ring.blocks, len(self.ring.directions))

    def size(self, block: int) -> int:
        """Bytes of a block's rows."""
        return self.rows[block] * self.dimensions * 4

    def centers(self, task: int) -> range:
        """The center blocks that a task owns."""
        return range(*self.ranges[task])

    def neighbours(self, task: int) -> set[int]:
        """The tasks that a task passes blocks to, which are those that it gets blocks from."""
        begin, end = self.ranges[task]
        count = self.ring.blocks
        return {self.owners[(begin - 1) % count], self.owners[end % count]} - {task}

    def trainer(self, number: int, context: int) -> int:
        """The task that trains a context block in a round."""
        return self.owners[self.ring.center_of(number, context)]

    def is_kept(self, sweep: int) -> bool:
        """Whether the driver gets the parameters of the end of a sweep."""
        return self.snapshots or sweep == self.sweeps[-1]


def share_blocks(blocks: int, tasks: int, executors: int = 1) -> tuple[tuple[int, int], ...]:
    """Return the center blocks of each task: neighbouring ones for the tasks that Spark starts on one executor.

    Spark assigns the tasks of a barrier stage to the executors round-robin; which task runs where is known only after
    its pairs were shuffled to it. The ranges decide how far blocks travel, and change no bit.

    Args:
        tasks: T, at most B.
        executors: to which they are assigned.
    """
    order = sorted(range(tasks), key=lambda task: (task % executors, task // executors))
    found = [(0, 0)] * tasks
    for place, task in enumerate(order):
        found[task] = (blocks * place // tasks, blocks * (place + 1) // tasks)
    return tuple(found)


def checked_number(value: Any, numbers: Sequence[int] | range) -> int:
    """Return a number of a message, if it is one of those allowed.

    Raises:
        ProtocolError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value not in numbers:
        raise ProtocolError(f"{str(value)[:40]} is out of range")
    return value
