"""An exchange in one process: virtual time, and a network that exists only in memory, driven by a seed.

The parts are the real ones; what `node` does with sockets is done here with a heap of events. Links delay messages, are
cut (both ends are told) or go silent (nobody is); tasks stand still for a while or forever, or die.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from spark_w2v.exchange.driver import DriverPart
from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import DRIVER, ROWS, ExchangePlan, Message, share_blocks
from spark_w2v.exchange.task import Bucket, TaskPart
from spark_w2v.skipgram.schedule import Ring
from spark_w2v.types import Float32Array

Parameters = dict[tuple[bytes, int], Float32Array]

DIMENSIONS = 2
TIMEOUT = 30.0
TICK = 1.0


def initial(rows: tuple[int, ...]) -> Parameters:
    rng = np.random.default_rng(7)
    return {(kind, b): rng.random((n, DIMENSIONS), dtype=np.float32) for kind in ROWS for b, n in enumerate(rows)}


def train(center: Float32Array, context: Float32Array, number: int) -> float:
    """Train in place, with a different result in every other order."""
    mean = context.mean(0, dtype=np.float32)
    center *= np.float32(0.7)
    center += mean * np.float32(1 + number % 5)
    context *= np.float32(0.9)
    context -= center.mean(0, dtype=np.float32) * np.float32(0.3)
    return float(center.sum(dtype=np.float64))


def one_after_the_other(ring: Ring, rows: tuple[int, ...]) -> Parameters:
    """Return the result that every exchange must have: no tasks, no messages, round after round."""
    state = initial(rows)
    for number in range(ring.rounds):
        for center in range(ring.blocks):
            context = ring.context_of(number, center)
            train(state[ROWS[0], center], state[ROWS[1], context], number)
    return state


class MemoryStore:
    """The driver's parameters in dictionaries."""

    def __init__(self, before: Parameters) -> None:
        self.before = before
        self.after: dict[int, Parameters] = {}

    def read(self, kind: bytes, block: int) -> Float32Array:
        return self.before[kind, block]

    def write(self, sweep: int, kind: bytes, block: int) -> Float32Array:
        found = np.full_like(self.before[kind, block], np.nan)
        self.after.setdefault(sweep, {})[kind, block] = found
        return found


@dataclass
class Link:
    """The connection between two processes, both ways."""

    delay: float
    free: dict[int, float] = field(default_factory=dict)  # when the last message to each end arrives
    is_open: bool = True
    is_silent: bool = False


class Attempt:
    """One attempt at an epoch: a driver's part, T tasks' parts, and the faults of their network."""

    def __init__(self, plan: ExchangePlan, store: MemoryStore, chance: random.Random, faults: int) -> None:
        self.now = 0.0
        self.moments: list[float] = []  # of all events
        self.driver = DriverPart(plan, store)
        self.parts: dict[int, Part] = {DRIVER: self.driver}
        self._store, self._handled, self._handled_at = store, plan.sweeps.start - 1, 0.0
        self._plan, self._chance = plan, chance
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._links: dict[frozenset[int], Link] = {}
        self._standing_until: dict[int, float] = {}
        self._busy: set[int] = set()
        self._sent: dict[int, int] = {}
        for task in range(plan.tasks):
            part = TaskPart(plan, task, f"host-{task}", 1 + task, lambda to, host, port, t=task: self._dial(t, to))  # type: ignore[misc]
            self.parts[task] = part
            self._at(chance.random() * 5, lambda t=task: self._dial(t, DRIVER))  # type: ignore[misc]
        for who in self.parts:
            self._at(TICK, lambda w=who: self._tick(w))  # type: ignore[misc]
        self._at(2 * TIMEOUT, self._spark)
        for _ in range(faults):
            self._at(chance.random() * chance.choice((3, 30, 300)), self._fault)

    def run(self, limit: float) -> None:
        """Run until the driver's part has ended, and no later than a virtual time."""
        waiting = 0
        while not self.driver.has_ended:
            assert self._events, "everything stands still, and no process notices"
            self.now, _, happens = heapq.heappop(self._events)
            self.moments.append(self.now)
            assert self.now < limit, f"still not over after {self.now:.0f} s"
            happens()
            for snapshot in list(self.driver.snapshots)[waiting:]:
                # One after the other, as the driver makes checkpoints of them.
                delay = self._chance.random() * self._chance.choice((0.1, 10))
                self._handled_at = max(self.now, self._handled_at) + delay
                handle = partial(self._do, DRIVER, partial(self._handle, snapshot.sweep))
                self._at(self._handled_at - self.now, handle)
            waiting = len(self.driver.snapshots)
            kept = {sweep for sweep in self._store.after if sweep > self._handled}
            assert len(kept) <= 2, f"rows of sweeps {sorted(kept)} are kept at a time"

    def _handle(self, sweep: int) -> None:
        self._handled = sweep
        self.driver.handled(sweep)

    def _at(self, delay: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._number), happens))

    def _do(self, who: int, happens: Callable[[], None]) -> None:
        """Let a process do something when it is not standing still; then send its outbox."""
        until = self._standing_until.get(who, 0.0)
        if until > self.now:
            if until < float("inf"):
                self._at(until - self.now, lambda: self._do(who, happens))
            return
        part = self.parts[who]
        with part.changed:
            happens()
            while part.outbox:
                self._send(who, *part.outbox.popleft())
            if isinstance(part, TaskPart) and who not in self._busy and not part.has_ended:
                bucket = part.next_bucket()
                if bucket is not None:
                    self._busy.add(who)
                    duration = self._chance.random() * self._chance.choice((0.1, 1, 10))
                    self._at(duration, lambda: self._do(who, lambda: self._trained(part, bucket)))
                while part.outbox:
                    self._send(who, *part.outbox.popleft())

    def _trained(self, part: TaskPart, bucket: Bucket) -> None:
        self._busy.discard(part.task)
        loss = train(bucket.center, bucket.context, bucket.number)
        part.trained(bucket, loss, 1, 10)

    def _tick(self, who: int) -> None:
        self._do(who, lambda: self.parts[who].tick(self.now))
        self._at(TICK, lambda: self._tick(who))

    def _spark(self) -> None:
        """Spark notices tasks that die; with none there, no task is left to notice."""
        if not self.driver.tasks_joined:
            self._do(DRIVER, lambda: self.driver.fail("no task has come"))

    # The network

    def _link(self, a: int, b: int) -> Link:
        return self._links.setdefault(frozenset((a, b)), Link(self._chance.random() * self._chance.choice((0.01, 1))))

    def _dial(self, who: int, to: int) -> None:
        link, part = self._link(who, to), self.parts[who]
        if not link.is_open:
            self._do(who, lambda: part.fail(f"{part.name(to)} cannot be reached"))
            return

        def begin() -> None:
            first = part.dialled(to)
            assert first is not None
            self._send(who, to, first, is_first=True)
            part.connected(to, f"host-{to}", self.now)

        self._do(who, begin)

    def _send(self, who: int, to: int, message: Message, is_first: bool = False) -> None:
        link = self._link(who, to)
        arrives = max(self.now + link.delay * (1 + self._chance.random()), link.free.get(to, 0.0))
        link.free[to] = arrives
        self._at(arrives - self.now, lambda: self._arrive(link, who, to, message, is_first))

    def _arrive(self, link: Link, who: int, to: int, message: Message, is_first: bool) -> None:
        if not link.is_open or link.is_silent:
            return
        part = self.parts[to]

        def happens() -> None:
            # As late as can be: what a part has given away to be sent it must not change any more.
            data = memoryview(message.payload).cast("B")
            if is_first:
                source = part.identify(message._replace(payload=bytes(data)))
                part.connected(source, f"host-{who}", self.now)
                return
            part.heard(who, self.now)
            room = part.room_for(who, message._replace(payload=b""), len(data))
            memoryview(room).cast("B")[:] = data
            part.receive(who, message._replace(payload=room))

        self._do(to, happens)

    # What goes wrong

    def _fault(self) -> None:
        chance = self._chance
        kind = chance.choice(("cut", "silence", "pause", "stop", "die"))
        task = chance.randrange(self._plan.tasks)
        if kind in ("cut", "silence"):
            if not self._links:
                return
            ends = chance.choice(sorted(self._links, key=sorted))
            if kind == "silence":
                self._links[ends].is_silent = True
            else:
                self._close(ends)
        elif kind == "pause":
            self._standing_until[task] = self.now + chance.random() * TIMEOUT * 0.5
        elif kind == "stop":
            self._standing_until[task] = float("inf")
        else:
            self._standing_until[task] = float("inf")
            for ends in [ends for ends in self._links if task in ends]:
                self._close(ends)

    def _close(self, ends: frozenset[int]) -> None:
        self._links[ends].is_open = False
        for who, other in (sorted(ends), sorted(ends, reverse=True)):
            self._at(self._links[ends].delay, partial(self._lose, who, other))

    def _lose(self, who: int, other: int) -> None:
        self._do(who, lambda: self.parts[who].lost(other, "reset"))


@dataclass
class Outcome:
    """The end of an epoch: its parameters, or the failures of all attempts; when anything happened, in virtual time."""

    parameters: Parameters | None
    failures: list[str]
    losses: list[float]
    moments: list[float]


def epoch(seed: int, attempts: int = 4) -> tuple[Outcome, Parameters]:
    """Run an epoch with everything drawn from a seed; return its outcome and the expected parameters."""
    chance = random.Random(seed)
    blocks, sweeps = chance.randint(1, 8), chance.randint(1, 3)
    rows = tuple(chance.randint(1, 4) for _ in range(blocks))
    ring = Ring.draw(blocks, sweeps, np.random.default_rng(seed))
    snapshots = chance.random() < 0.5
    state, sweep = initial(rows), 0
    failures: list[str] = []
    losses: list[float] = []
    moments: list[float] = []
    for _ in range(attempts):
        tasks = chance.randint(1, blocks)
        ranges = share_blocks(blocks, tasks, chance.randint(1, 3))
        plan = ExchangePlan(ring, sweep * blocks, rows, DIMENSIONS, ranges, snapshots, TIMEOUT)
        store = MemoryStore(state)
        before = {key: rows.copy() for key, rows in state.items()}
        attempt = Attempt(plan, store, chance, chance.choice((0, 0, 1, 1, 3)))
        buckets = (ring.rounds - plan.first) * blocks
        attempt.run(limit=buckets * 12 + sweeps * 10 + 5 * TIMEOUT + 310)
        moments += attempt.moments
        assert all(np.array_equal(state[key], before[key]) for key in state), "what an attempt begins with is changed"
        for snapshot in attempt.driver.snapshots:
            found = store.after.pop(snapshot.sweep)
            assert len(found) == 2 * blocks
            state, sweep = found, snapshot.sweep + 1
            losses += [loss for loss, _, _ in snapshot.trained]
        if attempt.driver.is_over:
            return Outcome(state, failures, losses, moments), one_after_the_other(ring, rows)
        assert attempt.driver.failure
        failures.append(attempt.driver.failure)
    return Outcome(None, failures, losses, moments), one_after_the_other(ring, rows)


def same(one: Parameters, other: Parameters) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


__all__: list[Any] = ["Outcome", "epoch", "one_after_the_other", "same"]
