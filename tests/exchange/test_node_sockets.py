"""The exchange over sockets that do what real ones rarely do."""

import errno
import selectors
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from spark_w2v.exchange.connection import Connection
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import LEAST_SHARE, SHARE, Node
from spark_w2v.exchange.plan import DRIVER, ExchangePlan, share_blocks
from spark_w2v.exchange.task import TaskPart
from spark_w2v.skipgram.schedule import Ring

HOST = "127.0.0.1"


def plan_of(timeout: float = 10.0) -> ExchangePlan:
    return ExchangePlan(Ring(2, 0, (1,)), 0, (1, 1), 1, share_blocks(2, 2), False, timeout)


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


@pytest.fixture
def node() -> Iterator[Node]:
    """One whose thread does not run."""
    made = Node(b"secret", listen(HOST, (0, 0)))
    part: Any = SimpleNamespace(heard=lambda source, now: None, refused=0, peers=0)
    made._part = part
    yield made
    for end in (made._listener, made._waker, made._woken, made._selector):
        end.close()


@pytest.mark.parametrize("events", [selectors.EVENT_READ, selectors.EVENT_WRITE])
@pytest.mark.parametrize("count", [1, 3, 48, 512])
def test_many_connections_move_little_more_than_one_before_heartbeats_are_due(
    count: int, events: int, node: Node
) -> None:
    much, socks = memoryview(bytearray(2 * SHARE)), [Endless() for _ in range(count)]
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


class Reset:
    """A socket of macOS whose peer has reset it before it was accepted."""

    is_closed = False

    def setblocking(self, flag: bool) -> None:
        pass

    def setsockopt(self, *_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def close(self) -> None:
        self.is_closed = True


def test_a_connection_that_is_reset_before_it_is_accepted_is_counted_and_ends_nothing(node: Node) -> None:
    socks = [Reset(), Reset()]
    waiting: Any = iter(socks)

    def accept() -> tuple[Reset, tuple[str, int]]:
        if (sock := next(waiting, None)) is None:
            raise BlockingIOError
        return sock, ("10.0.0.1", 7)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node, "_listener", SimpleNamespace(accept=accept))
        node._accept(selectors.EVENT_READ)
    assert node.refused == node._part.refused == 2
    assert [sock.is_closed for sock in socks] == [True, True]
    assert not node._pending


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.3", HOST)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr("spark_w2v.exchange.node.REFUSED", 0.0)  # after the last of them
        part = TaskPart(plan_of(), 0, HOST, 1, lambda *to: None)
        node = Node(b"secret", listen("127.0.0.2", (0, 0)))
        node.start(part)
        node.dial(DRIVER, "driver", port)
        server.settimeout(10)
        server.accept()[0].close()
        node.close()


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_name_that_cannot_be_one_is_not_reached(host: str) -> None:
    part = TaskPart(plan_of(0.5), 0, HOST, 1, lambda *to: None)
    node = Node(b"secret", listen(HOST, (0, 0)))
    node.start(part)
    node.dial(DRIVER, host, 1)
    with part.changed:
        assert part.changed.wait_for(lambda: part.failure is not None, 20)
    node.close()
    assert "cannot be reached" in str(part.failure)
