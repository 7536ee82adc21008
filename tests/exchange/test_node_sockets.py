"""The exchange over sockets that do what real ones rarely do."""

import selectors
import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spark_w2v.exchange.connection import Connection
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import LEAST_SHARE, SHARE, Node


class Endless:
    """A socket that always has something to receive, and takes whatever is sent."""

    def __init__(self) -> None:
        self.moved = 0

    def recv_into(self, room: memoryview) -> int:
        self.moved += len(room)
        return len(room)

    def send(self, data: memoryview, flags: int) -> int:
        self.moved += len(data)
        return len(data)


@pytest.mark.parametrize("events", [selectors.EVENT_READ, selectors.EVENT_WRITE])
@pytest.mark.parametrize("count", [1, 3, 48, 512])
def test_many_connections_move_little_more_than_one_before_heartbeats_are_due(count: int, events: int) -> None:
    node = Node(b"", listen("127.0.0.1", (0, 0)))
    part: Any = SimpleNamespace(heard=lambda source, now: None)
    node._part = part
    much, socks = memoryview(np.zeros(2 * SHARE, np.uint8)), [Endless() for _ in range(count)]
    for source, sock in enumerate(socks):
        fake: Any = sock
        connection = Connection(fake, "", 0.0, None)
        connection.source, connection.is_open, connection.events = source, True, selectors.EVENT_READ
        connection.expect(much, lambda: None)
        connection.out.append(much)
        node._open[source] = connection
    node._watch = lambda connection: None  # type: ignore[method-assign]
    for connection in node._open.values():
        node._move(connection, events)
    moved = [sock.moved for sock in socks]
    assert LEAST_SHARE <= min(moved) == max(moved)
    assert sum(moved) <= max(SHARE, count * LEAST_SHARE)
    assert count > 1 or sum(moved) == SHARE
    for end in (node._listener, node._waker, node._woken, node._selector):
        end.close()
