"""Base of the driver's and a task's part: an outbox, heartbeats and the end of an attempt."""

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from spark_w2v.exchange.plan import (
    BEAT,
    BEAT_SECONDS,
    BEATS,
    DRIVER,
    LARGEST_TEXT,
    ExchangePlan,
    Message,
    ProtocolError,
)


class Part(ABC):
    """One process's part in an attempt.

    It has no clock and no sockets: the caller passes the time and what arrives, and sends what is in its outbox.

    All methods are called with `changed` held, which is notified when something happens that others wait for.
    """

    def __init__(self, plan: ExchangePlan) -> None:
        self.plan = plan
        self.changed = threading.Condition()
        self.outbox: deque[tuple[int, Message]] = deque()
        self.failure: str | None = None
        self.is_over = False
        self.refused = 0  # connections that this process turned away
        self._heard: dict[int, float] = {}  # time, by connected process
        self._addresses: dict[int, str] = {}  # for messages to people
        self._next_beat = 0.0
        self.wake: Callable[[], None] = lambda: None  # called when the outbox has something new
        self.spent: Callable[[], float] = lambda: math.nan  # CPU seconds of the thread that works for the part

    @property
    def peers(self) -> int:
        """How many processes may connect to this one."""
        return self.plan.tasks

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to do."""
        return self.is_over or self.failure is not None

    def send(self, to: int, message: Message) -> None:
        self.outbox.append((to, message))
        self.wake()

    def fail(self, reason: str) -> None:
        """End the attempt; the first reason stands."""
        if not self.has_ended:
            self.failure = reason
        self.changed.notify_all()

    def connected(self, source: int, address: str, now: float) -> None:
        """Note that a process is connected, and that it proved its identity."""
        self._heard[source], self._addresses[source] = now, address

    def heard(self, source: int, now: float) -> None:
        """Note that bytes have arrived, perhaps not a whole message yet."""
        if source in self._heard:
            self._heard[source] = now

    def lost(self, source: int, reason: str) -> None:
        """Note that a connection has ended."""
        self._heard.pop(source, None)
        if not self.has_ended:
            self.fail(f"lost {self.name(source)}: {reason}")

    def name(self, source: int) -> str:
        """Return the name of a process in messages to people."""
        who = "the driver" if source == DRIVER else f"task {source}"
        return f"{who} ({self._addresses[source]})" if source in self._addresses else who

    def tick(self, now: float) -> None:
        """Send heartbeats, and notice processes that send none."""
        if self.has_ended:
            return
        if now >= self._next_beat:
            self._next_beat = now + min(BEAT_SECONDS, self.plan.timeout / BEATS)
            for source in self._heard:
                self.send(source, self._beat())
        for source, when in list(self._heard.items()):
            if now - when > self.plan.timeout:
                self.fail(f"{self.name(source)} has not been heard of for {self.plan.timeout:g} s")
                return

    def _beat(self) -> Message:
        return Message(BEAT)

    def dialled(self, source: int) -> Message | None:
        """Return the first message to a process that this one has connected to; None for none."""
        return None

    @abstractmethod
    def identify(self, message: Message) -> int:
        """Return who has connected, from its first message.

        Raises:
            ProtocolError: not a process that this part waits for.
        """

    def room_for(self, source: int, message: Message, size: int) -> Any:
        """Return the buffer for the payload of a message, of that size.

        Raises:
            ProtocolError: such a message is not expected from this process, or not of that size.
        """
        if size > LARGEST_TEXT:
            raise ProtocolError(f"{message.kind!r} of {size} bytes")
        return bytearray(size)

    @abstractmethod
    def receive(self, source: int, message: Message) -> None:
        """Handle a whole message.

        Raises:
            ProtocolError: it is not expected.
        """
