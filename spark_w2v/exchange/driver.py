"""The driver's part: connect the tasks, send them their blocks, receive the parameters of each epoch or sweep."""

import math
from collections import deque
from typing import Any, NamedTuple, Protocol

from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import (
    BEAT,
    CENTER,
    CONTEXT,
    FAIL,
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

BlockStats = tuple[float, int, int]  # loss, loss pairs, pairs
JOINING = 20.0  # seconds that the driver waits for a task longer than the task tries to connect


class Store(Protocol):
    """Storage of the driver's parameters."""

    def read(self, kind: bytes, block: int) -> Float32Array:
        """Return the rows that the attempt begins with."""

    def write(self, sweep: int, kind: bytes, block: int) -> Float32Array:
        """Return a contiguous array to be filled with the rows of the end of a sweep."""


class Snapshot(NamedTuple):
    """All parameters of the end of a sweep are in the store.

    Args:
        trained: loss, loss pairs and pairs of each sweep since the last snapshot. Summed in the order of the blocks, so
            that they are the same however many tasks there are.
    """

    sweep: int
    trained: list[BlockStats]


class _Incoming:
    """Parts of one sweep that are still missing."""

    def __init__(self, plan: ExchangePlan) -> None:
        self.missing = {(kind, block) for kind in ROWS for block in range(plan.ring.blocks)}
        self.silent = set(range(plan.tasks))


class DriverPart(Part):
    """The driver's part in an attempt.

    Args:
        store: rows are read from it and written to it.
    """

    def __init__(self, plan: ExchangePlan, store: Store) -> None:
        super().__init__(plan)
        self.snapshots: deque[Snapshot] = (
            deque()
        )  # complete, in the order of the sweeps; removed by whoever handles them
        self.progress: dict[int, tuple[int, int | None]] = {}  # pairs trained so far, and to be trained, by task
        self.stats: dict[int, dict[str, Any]] = {}  # last reported, by task
        self.refused_by: dict[int, int] = {}  # connections that a task turned away
        self.bytes = 0  # of rows, both ways
        self._store = store
        self._handled = plan.sweeps.start - 1  # the last sweep whose snapshot the caller has handled
        self._owed: list[tuple[int, int]] = []  # (task, sweep of its rows) of each TOOK still to be sent
        self._joined: dict[int, tuple[str, int]] = {}
        self._ready: set[int] = set()
        self._begun: float | None = None  # when the first task joined
        self._trained: dict[int, dict[int, BlockStats]] = {sweep: {} for sweep in plan.sweeps}  # by center block
        self._incoming = {sweep: _Incoming(plan) for sweep in plan.sweeps if plan.is_kept(sweep)}

    @property
    def tasks_joined(self) -> int:
        return len(self._joined)

    def identify(self, message: Message) -> int:
        if message.kind != JOIN:
            raise ProtocolError(f"{message.kind!r} is not how a task begins")
        fields = message.fields()
        task = checked_number(fields.get("task"), range(self.plan.tasks))
        host, port = fields.get("host"), checked_number(fields.get("port"), range(1, 1 << 16))
        if task in self._joined or not isinstance(host, str) or len(host) > 255:
            raise ProtocolError(f"task {task} is connected already, or says no host")
        self._joined[task] = (host, port)
        return task

    def connected(self, source: int, address: str, now: float) -> None:
        super().connected(source, address, now)
        self._begun = now if self._begun is None else self._begun
        if len(self._joined) == self.plan.tasks:
            tasks = [self._joined[task] for task in range(self.plan.tasks)]
            for task in range(self.plan.tasks):
                self.send(task, Message.of(MEET, tasks=tasks))
        self.changed.notify_all()

    def tick(self, now: float) -> None:
        super().tick(now)
        missing = self.plan.tasks - len(self._joined)
        # A task that cannot connect tries for `timeout`, and Spark reports its reason then.
        if missing and self._begun is not None and now - self._begun > (most := self.plan.timeout + JOINING):
            self.fail(f"{missing} of {self.plan.tasks} tasks did not connect to the driver within {most:g} s")

    def room_for(self, source: int, message: Message, size: int) -> Any:
        if message.kind not in ROWS:
            return super().room_for(source, message, size)
        kind, sweep, block, _ = message
        plan, incoming = self.plan, self._incoming.get(sweep)
        too_early = plan.snapshots and sweep > self._handled + 2  # the store has rows of two sweeps at most
        if incoming is None or too_early or (kind, block) not in incoming.missing or size != plan.size(block):
            raise ProtocolError(f"{kind!r} {sweep} {block} of {size} bytes is not expected from {self.name(source)}")
        last = (sweep + 1) * plan.ring.blocks - 1
        if source != (plan.owners[block] if kind == CENTER else plan.trainer(last, block)):
            raise ProtocolError(f"{kind!r} {sweep} {block} is another task's")
        return self._store.write(sweep, kind, block)

    def receive(self, source: int, message: Message) -> None:
        kind = message.kind
        if kind in ROWS:
            self._incoming[message.number].missing.remove((kind, message.block))
            self.bytes += self.plan.size(message.block)
            self._owed.append((source, message.number))
            self._acknowledge()
            self._look()
        elif kind == SWEEP:
            self._count(source, message)
            self._look()
        elif kind == READY and source not in self._ready:
            self._ready.add(source)
            if len(self._ready) == self.plan.tasks:
                if self.plan.sweeps:
                    self._give()
                else:  # they were only to meet
                    self._look()
        elif kind == FAIL:
            self.fail(f"{self.name(source)} stopped: {str(message.fields().get('reason', ''))[:1000]}")
        elif kind == BEAT:
            fields = message.fields()
            pairs, total = checked_number(fields.get("pairs"), range(1 << 62)), fields.get("total")
            self.progress[source] = pairs, None if total is None else checked_number(total, range(1 << 62))
            self.refused_by[source] = checked_number(fields.get("refused"), range(1 << 62))
        else:
            raise ProtocolError(f"{kind!r} is not expected from {self.name(source)}")
        self.changed.notify_all()

    def handled(self, sweep: int) -> None:
        """Note that the caller has handled a snapshot.

        Until then tasks train on to the end of the next sweep and no further, so that the store never has rows of more
        than two sweeps.
        """
        self._handled = sweep
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Let tasks send more rows, where the sweep before has been handled."""
        owed, self._owed = self._owed, []
        for task, sweep in owed:
            if sweep <= self._handled + 1:
                self.send(task, Message(TOOK, sweep))
            else:
                self._owed.append((task, sweep))

    def _give(self) -> None:
        """Send each task its center blocks, and the context blocks that it begins with."""
        plan, first = self.plan, self.plan.first
        for task in range(plan.tasks):
            for center in plan.centers(task):
                context = plan.ring.context_of(first, center)
                self.send(task, Message(CENTER, first, center, self._store.read(CENTER, center)))
                self.send(task, Message(CONTEXT, first, context, self._store.read(CONTEXT, context)))
                self.bytes += plan.size(center) + plan.size(context)

    def _count(self, source: int, message: Message) -> None:
        incoming, fields = self._incoming.get(message.number), message.fields()
        blocks, stats = fields.get("blocks"), fields.get("stats")
        if message.number not in self._trained or not isinstance(blocks, list) or not isinstance(stats, dict):
            raise ProtocolError("what was trained, of no sweep")
        if incoming is not None and source in incoming.silent:
            incoming.silent.remove(source)
        elif self.plan.is_kept(message.number):
            raise ProtocolError("what was trained, said twice")
        self.stats[source] = stats
        for entry in blocks:
            if not isinstance(entry, list) or len(entry) != 4 or entry[0] not in self.plan.centers(source):
                raise ProtocolError("what was trained, of another task's block")
            block, loss, loss_pairs, pairs = entry
            if not isinstance(loss, float) or not isinstance(loss_pairs, int) or not isinstance(pairs, int):
                raise ProtocolError("what was trained, without its numbers")
            self._trained[message.number][block] = (loss, loss_pairs, pairs)
            if not math.isfinite(loss):
                self.fail(DIVERGED)

    def _look(self) -> None:
        """Record the sweeps that are complete, in order."""
        for first in list(self._incoming):
            incoming = self._incoming[first]
            if incoming.missing or incoming.silent:
                return
            del self._incoming[first]
            trained = [_sum(self._trained.pop(s)) for s in list(self._trained) if s <= first]
            self.snapshots.append(Snapshot(first, trained))
        for task in range(self.plan.tasks):
            self.send(task, Message(OVER))
        self.is_over = True

    def fail(self, reason: str) -> None:
        if not self.has_ended:
            for task in self._heard:
                self.send(task, Message.of(STOP, reason=reason))
        super().fail(reason)


def _sum(blocks: dict[int, BlockStats]) -> BlockStats:
    ordered = [blocks[block] for block in sorted(blocks)]
    return sum(b[0] for b in ordered), sum(b[1] for b in ordered), sum(b[2] for b in ordered)


DIVERGED = "the loss is not finite"
