"""A task's part: it owns some center blocks; context blocks arrive, are trained and are passed on.

Nothing waits for a round to end: a bucket is trained as soon as its center block and its context block have been
trained in all rounds before. The parameters that a bucket starts from follow from the schedule alone, so the result is
the same whichever task is faster.
"""

import contextlib
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import (
    AHEAD,
    BEAT,
    CENTER,
    CONTEXT,
    DRIVER,
    FAIL,
    HELLO,
    JOIN,
    MEET,
    OVER,
    READY,
    ROWS,
    STOP,
    SWEEP,
    TOOK,
    ExchangePlan,
    Message,
    ProtocolError,
    checked_number,
)
from spark_w2v.types import Float32Array


class Bucket(NamedTuple):
    """The next bucket to train; the rows, (R, D) each, are trained in place."""

    number: int  # the round
    center_block: int
    context_block: int
    center: Float32Array
    context: Float32Array


@dataclass
class SweepStats:
    """Results of a task in one sweep: loss, loss pairs and pairs by center block."""

    blocks: dict[int, tuple[float, int, int]] = field(default_factory=dict)
    left: int = 0  # buckets


class TaskPart(Part):
    """One task's part in an attempt.

    Args:
        task: its number.
        host, port: where its neighbours reach it.
        dial: called with the number, host and port of a task to connect to.
    """

    def __init__(
        self, plan: ExchangePlan, task: int, host: str, port: int, dial: Callable[[int, str, int], None]
    ) -> None:
        super().__init__(plan)
        self.task = task
        self.pairs = 0  # trained so far
        self.total: int | None = None  # to be trained, once that is known
        self.has_met_driver = False  # and so can tell it why it fails
        self.stats: dict[str, Any] = {}  # reported to the driver with each sweep; JSON-able
        self._dial = dial
        self._centers: dict[int, Float32Array] = {}
        self._contexts: dict[int, tuple[int, Float32Array]] = {}  # block: the round that it waits for, and its rows
        self._next = dict.fromkeys(plan.centers(task), plan.first)
        self._ahead = dict.fromkeys(plan.neighbours(task), 0)  # sent to each, and not trained there yet
        self._waiting = dict.fromkeys(plan.neighbours(task), 0)  # got from each, and not trained here yet
        self._unkept: dict[int, int] = {}  # rows sent to the driver by sweep, which it has not got yet
        self._stats = {sweep: SweepStats(left=len(self._next) * plan.ring.blocks) for sweep in plan.sweeps}
        self._ready: list[tuple[int, bool, int, int]] = []  # round, whether its block stays, center, context; a heap
        self._training: Bucket | None = None
        self._is_working = False
        self._spent, self._since = math.nan, 0.0  # CPU seconds of the thread that trains, and the time since when
        self._join = Message.of(JOIN, task=task, host=host, port=port)

    # Messages

    def connected(self, source: int, address: str, now: float) -> None:
        super().connected(source, address, now)
        self.has_met_driver |= source == DRIVER
        if source != DRIVER and set(self._ahead) <= set(self._heard):
            self.send(DRIVER, Message(READY))

    def dialled(self, source: int) -> Message | None:
        return self._join if source == DRIVER else Message.of(HELLO, task=self.task)

    def lost(self, source: int, reason: str) -> None:
        # Perhaps a neighbour that heard OVER before us; if not, the driver notices.
        if source == DRIVER or any(number < self.plan.ring.rounds for number in self._next.values()):
            super().lost(source, reason)

    @property
    def peers(self) -> int:
        return len(self._ahead)

    def identify(self, message: Message) -> int:
        if message.kind != HELLO:
            raise ProtocolError(f"{message.kind!r} is not how a task begins")
        source = checked_number(message.fields().get("task"), list(self._ahead))
        if source in self._heard or source > self.task:
            raise ProtocolError(f"task {source} is connected already")
        return source

    def room_for(self, source: int, message: Message, size: int) -> Any:
        if message.kind not in ROWS:
            return super().room_for(source, message, size)
        kind, number, block, _ = message
        plan = self.plan
        checked_number(block, range(plan.ring.blocks))
        expected = False
        if source == DRIVER and number == plan.first:
            known = self._centers if kind == CENTER else self._contexts
            owner = plan.owners[block] if kind == CENTER else plan.trainer(number, block)
            expected = owner == self.task and block not in known and min(self._next.values()) == plan.first
        elif kind == CONTEXT and plan.first < number < plan.ring.rounds:
            center = plan.ring.center_of(number, block)
            expected = (
                plan.owners[center] == self.task
                and plan.trainer(number - 1, block) == source
                and block not in self._contexts
                and number >= self._next[center]
                and self._waiting[source] < AHEAD
            )
        if not expected or size != plan.size(block):
            raise ProtocolError(f"{kind!r} {number} {block} of {size} bytes is not expected from {self.name(source)}")
        return np.empty((plan.rows[block], plan.dimensions), np.float32)

    def receive(self, source: int, message: Message) -> None:
        kind = message.kind
        if kind == CENTER:
            self._centers[message.block] = message.payload
            self._consider(message.block, message.number)
        elif kind == CONTEXT:
            self._contexts[message.block] = (message.number, message.payload)
            self._consider(self.plan.ring.center_of(message.number, message.block), message.number)
            if source != DRIVER:
                self._waiting[source] += 1
        elif kind == TOOK and source == DRIVER and message.number in self._unkept:
            self._unkept[message.number] -= 1
        elif kind == TOOK and self._ahead.get(source, 0) > 0:
            self._ahead[source] -= 1
        elif kind == MEET and source == DRIVER:
            self._meet(message.fields().get("tasks"))
        elif kind == OVER and source == DRIVER:
            self.is_over = True
        elif kind == STOP and source == DRIVER:
            self.fail(str(message.fields().get("reason", ""))[:1000])
        elif kind != BEAT:
            raise ProtocolError(f"{kind!r} is not expected from {self.name(source)}")
        self.changed.notify_all()

    def _meet(self, tasks: Any) -> None:
        if not isinstance(tasks, list) or len(tasks) != self.plan.tasks:
            raise ProtocolError("addresses of other tasks than there are")
        if not self._ahead:
            self.send(DRIVER, Message(READY))
        for neighbour in sorted(self._ahead):
            if neighbour > self.task:
                host, port = tasks[neighbour]
                self._dial(neighbour, host, port)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Say that the thread that trains is to be busy in here: it waits for no other process. Without the lock."""
        self._is_working = True
        try:
            yield
        finally:
            self._is_working = False

    def tick(self, now: float) -> None:
        """As a part's; notice a thread that hangs, as this one goes on to send heartbeats."""
        spent = self.spent() if self._is_working else math.nan
        if spent != self._spent:  # as NaN is of itself
            self._spent, self._since = spent, now
        elif now - self._since > self.plan.timeout:
            self.fail(f"it has not used its CPU for {self.plan.timeout:g} s; a disk of its host may hang")
        super().tick(now)

    def fail(self, reason: str) -> None:
        if not self.has_ended:
            self.send(DRIVER, Message.of(FAIL, reason=reason))
        super().fail(reason)

    def _beat(self) -> Message:
        return Message.of(BEAT, pairs=self.pairs, total=self.total, refused=self.refused)

    # Training

    def next_bucket(self) -> Bucket | None:
        """Return the next bucket, to be passed to `trained`; None while all buckets left wait for other tasks.

        Buckets of the earliest round come first, of these the ones whose context block goes to another task.
        """
        held, found = [], None
        while self._ready and found is None:
            place = heapq.heappop(self._ready)
            number, _, center, context = place
            if self._has_to_wait(number, self._destination(number, context)):
                held.append(place)
            else:
                found = number, center, context
        for place in held:
            heapq.heappush(self._ready, place)
        if found is None:
            return None
        number, center, context = found
        rows = self._contexts.pop(context)[1]
        if number > self.plan.first and (source := self.plan.trainer(number - 1, context)) != self.task:
            self._waiting[source] -= 1
            self.send(source, Message(TOOK))
        self._training = Bucket(number, center, context, self._centers[center], rows)
        return self._training

    def _consider(self, center: int, number: int) -> None:
        """Note that a block of a bucket is there; the bucket is ready if the other block is, too."""
        if number < self.plan.ring.rounds and self._next[center] == number and center in self._centers:
            context = self.plan.ring.context_of(number, center)
            if context in self._contexts and self._contexts[context][0] == number:
                goes = self._destination(number, context) != self.task
                heapq.heappush(self._ready, (number, not goes, center, context))

    def _destination(self, number: int, context: int) -> int | None:
        return None if number + 1 == self.plan.ring.rounds else self.plan.trainer(number + 1, context)

    def _ends_sweep(self, number: int) -> int | None:
        """Return the sweep that ends with a round, if the driver gets the parameters then."""
        sweep, step = divmod(number + 1, self.plan.ring.blocks)
        return sweep - 1 if not step and self.plan.is_kept(sweep - 1) else None

    def _has_to_wait(self, number: int, to: int | None) -> bool:
        """Whether too many blocks that were sent before are still in memory, not yet received."""
        if to is not None and to != self.task and self._ahead[to] >= AHEAD:
            return True
        sweep = self._ends_sweep(number)
        return sweep is not None and any(left for other, left in self._unkept.items() if other < sweep)

    def trained(self, bucket: Bucket, loss: float, loss_pairs: int, pairs: int) -> None:
        """Pass the context block of a trained bucket on, and send the driver the parameters at the end of a sweep.

        Args:
            loss, loss_pairs, pairs: as in kernel.TrainStats.
        """
        assert bucket is self._training, "one bucket is trained at a time"
        self._training = None
        plan, (number, center_block, context_block, center, context) = self.plan, bucket
        self.pairs += pairs
        self._next[center_block] += 1
        to = self._destination(number, context_block)
        if (kept := self._ends_sweep(number)) is not None:
            # Rows that are trained again while they are sent are copied; at most one sweep's rows wait (_has_to_wait).
            last = number + 1 == plan.ring.rounds
            self.send(DRIVER, Message(CENTER, kept, center_block, center if last else center.copy()))
            stays = to == self.task
            self.send(DRIVER, Message(CONTEXT, kept, context_block, context.copy() if stays else context))
            self._unkept[kept] = self._unkept.get(kept, 0) + 2
        if to == self.task:
            self._contexts[context_block] = (number + 1, context)
        elif to is not None:
            self._ahead[to] += 1
            self.send(to, Message(CONTEXT, number + 1, context_block, context))
        self._consider(center_block, number + 1)
        if to == self.task and (other := plan.ring.center_of(number + 1, context_block)) != center_block:
            self._consider(other, number + 1)
        self._count(number // plan.ring.blocks, center_block, (loss, loss_pairs, pairs))

    def _count(self, sweep: int, center_block: int, found: tuple[float, int, int]) -> None:
        # One sum for each center block, in the order of its rounds: the same whoever else owns blocks.
        stats = self._stats[sweep]
        loss, loss_pairs, pairs = stats.blocks.get(center_block, (0.0, 0, 0))
        stats.blocks[center_block] = (loss + found[0], loss_pairs + found[1], pairs + found[2])
        stats.left -= 1
        if not stats.left:
            blocks = [[block, *values] for block, values in sorted(stats.blocks.items())]
            self.send(DRIVER, Message.of(SWEEP, sweep, blocks=blocks, stats=self.stats))
