"""One process's end of the exchange: a listener, and connections that move whole messages, on one thread.

Every connection proves on both sides that it knows the secret of the attempt, by an HMAC over random numbers of both;
the secret itself never travels here. Whoever cannot is dropped and counted. Nothing that arrives is unpickled, and what
a message asks room for is checked before there is any.
"""

import contextlib
import errno
import hmac
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import DRIVER, KINDS, ExchangeError, Message, ProtocolError

HEADER = struct.Struct("<4sIIQ")  # kind, number, block, bytes of the payload
NONCE, PROOF = 32, 32  # bytes
HANDSHAKE = 10.0  # seconds until a new connection has to have proved itself and said who it is
PENDING = 128  # new connections at a time; of more, the oldest are dropped
FIRST = 4096  # bytes of a first message at most
TURN = 16 << 20  # bytes that one connection may move before the others have their turn
PIECE = 1 << 20  # bytes handed to the kernel at a time
RETRY, REFUSED = 0.25, 2.0  # seconds between two tries to connect; for how long, where nobody listens
LINGER = 2.0  # seconds that closing waits for what is still to be sent


def listen(host: str, ports: tuple[int, int]) -> socket.socket:
    """A listener on one address of this machine.

    Args:
        host: a name or an address, never all interfaces.
        ports: first and last of a range, of which a free one is taken; (0, 0) leaves the choice to the system.

    Raises:
        ExchangeError: no port of the range is free, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ExchangeError(f"{host}: is not an address that can be resolved ({error.strerror}).") from None
    numbers = list(range(ports[0], ports[1] + 1))
    random.shuffle(numbers)  # several jobs of one machine should not all try the same ones
    reason = ""
    for port in numbers:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address[0], port, *address[2:]))
            listener.listen(1024)
            listener.setblocking(False)
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            if error.errno != errno.EADDRINUSE:
                raise ExchangeError(
                    f"{host}: cannot listen there on port {port} ({reason}); set SPARK_LOCAL_IP on that machine, or on "
                    "the driver spark.driver.host and spark.driver.bindAddress, to an address of it."
                ) from None
    raise ExchangeError(f"{host}: no port from {ports[0]} to {ports[1]} is free; raise exchange.last_port.")


def proof(secret: bytes, role: bytes, server: bytes, client: bytes) -> bytes:
    """What a side shows: that it knows the secret, for these random numbers and as this role."""
    return hmac.digest(secret, role + server + client, "sha256")


@dataclass
class _Dial:
    """Somebody to connect to."""

    source: int
    host: str
    port: int
    due: float  # when to try next
    until: float  # when to give up
    reason: str = ""  # why the last try failed


class _Connection:
    """One socket, what is being received from it, and what waits to be sent."""

    def __init__(self, sock: socket.socket, address: str, deadline: float, dial: _Dial | None) -> None:
        self.sock, self.address, self.deadline = sock, address, deadline
        self.dial = dial  # of a connection that we make
        self.source = dial.source if dial else None  # None until it is known
        self.is_open = False  # proved itself, and known to the part
        self.is_connecting = False
        self.out: deque[memoryview] = deque()
        self.room = memoryview(b"")
        self.filled = 0
        self.then: Callable[[], None] = lambda: None
        self.events = 0
        self.server_nonce = b""
        self.client_nonce = b""

    def expect(self, room: Any, then: Callable[[], None]) -> None:
        """Fill a buffer next, and then call something."""
        self.room, self.filled, self.then = memoryview(room).cast("B"), 0, then


class Node:
    """Drives a part: brings it what arrives, sends what it wants sent, tells it the time.

    Args:
        secret: of the attempt.
        listener: of listen().
    """

    def __init__(self, secret: bytes, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.refused = 0  # connections without the secret, or that said what nobody says
        self.received: dict[int, int] = {}  # bytes by process
        self.sent: dict[int, int] = {}
        self._secret, self._listener = secret, listener
        self._part: Part | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self._pending: deque[_Connection] = deque()
        self._open: dict[int, _Connection] = {}
        self._dials: list[_Dial] = []
        self._paused_until = 0.0
        self._closing: float | None = None
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)

    def start(self, part: Part) -> None:
        """Begin to drive a part."""
        self._part = part
        part.wake = self._wake
        self._thread.start()

    def dial(self, source: int, host: str, port: int) -> None:
        """Connect to a process, trying again for as long as the part's timeout."""
        assert self._part is not None, "a node that dials has been started"
        now = time.monotonic()
        self._dials.append(_Dial(source, host, port, now, now + self._part.plan.timeout))
        self._wake()

    def close(self) -> None:
        """Send what is left, for LINGER at most, and end all connections."""
        self._closing = time.monotonic() + LINGER
        self._wake()
        if self._thread.is_alive():
            self._thread.join()

    # The thread

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full of other wakings, or closed
            self._waker.send(b"\0")

    def _drain(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _run(self) -> None:
        assert self._part is not None
        part = self._part
        pause = min(0.5, part.plan.timeout / 20)
        try:
            while self._closing is None or (self._has_output() and time.monotonic() < self._closing):
                self._look_after(time.monotonic())
                for key, events in self._selector.select(pause):
                    key.data(events)
        except Exception as error:  # ours; the part must not wait for it
            with part.changed:
                part.fail(f"the exchange failed: {type(error).__name__}: {error}")
            raise
        finally:
            for connection in [*self._pending, *self._open.values()]:
                connection.sock.close()
            for end in (self._listener, self._waker, self._woken):
                end.close()
            self._selector.close()

    def _has_output(self) -> bool:
        assert self._part is not None
        return bool(self._part.outbox) or any(connection.out for connection in self._open.values())

    def _look_after(self, now: float) -> None:
        """All that is due, without anything having arrived."""
        assert self._part is not None
        for dial in [dial for dial in self._dials if dial.due <= now]:
            self._dials.remove(dial)
            self._connect(dial, now)
        for connection in list(self._pending):
            if now > connection.deadline:
                self._drop(connection, "did not answer in time")
        if self._paused_until and now > self._paused_until:
            self._paused_until = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        with self._part.changed:
            self._part.tick(now)
            while self._part.outbox:
                to, message = self._part.outbox.popleft()
                if to in self._open:  # or it has gone meanwhile
                    self._put(self._open[to], message)
        for connection in list(self._open.values()):
            self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Ask the selector for what the connection waits for."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out or connection.is_connecting else 0)
        if wanted != connection.events:
            (self._selector.modify if connection.events else self._selector.register)(
                connection.sock, wanted, lambda events: self._move(connection, events)
            )
            connection.events = wanted

    def _accept(self, events: int) -> None:
        for _ in range(PENDING):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors: let go of some, and look again in a moment
                self._selector.unregister(self._listener)
                self._paused_until = time.monotonic() + RETRY
                return
            connection = self._adopt(sock, f"{address[0]}:{address[1]}", None)
            connection.server_nonce = os.urandom(NONCE)
            connection.out.append(memoryview(connection.server_nonce))
            connection.expect(bytearray(NONCE + PROOF), lambda c=connection: self._check_client(c))  # type: ignore[misc]
            self._watch(connection)
            while len(self._pending) > PENDING:
                self._drop(self._pending[0], "came with too many others")

    def _adopt(self, sock: socket.socket, address: str, dial: _Dial | None) -> _Connection:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock, address, time.monotonic() + HANDSHAKE, dial)
        self._pending.append(connection)
        return connection

    def _connect(self, dial: _Dial, now: float) -> None:
        assert self._part is not None
        if dial.reason and now > dial.until:
            remedy = "open the ports from exchange.first_port to exchange.last_port between the executors"
            if dial.source == DRIVER:
                remedy = (
                    "set spark.driver.host to an address of the driver that the executors reach, and open the ports "
                    "from exchange.first_port to exchange.last_port to them"
                )
            name = self._part.name(dial.source)
            with self._part.changed:
                self._part.fail(f"{name} cannot be reached at {dial.host}:{dial.port} ({dial.reason}); {remedy}.")
            return
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(dial.host, dial.port, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            self._try_again(dial, error.strerror or str(error))
            return
        connection = self._adopt(sock, f"{dial.host}:{dial.port}", dial)
        connection.is_connecting = True
        connection.expect(bytearray(NONCE), lambda: self._answer_server(connection))
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._drop(connection, os.strerror(code))
        else:
            self._watch(connection)

    def _try_again(self, dial: _Dial, reason: str) -> None:
        now = time.monotonic()
        # A connection that breaks may be the work of somebody who floods the listener; one that is refused finds no
        # listener, and will not.
        if reason == os.strerror(errno.ECONNREFUSED):
            dial.until = min(dial.until, now + REFUSED)
        dial.due, dial.reason = now + RETRY, reason
        self._dials.append(dial)

    def _drop(self, connection: _Connection, reason: str) -> None:
        """Let go of a connection that was not open; of one that we made, try again."""
        self._forget(connection)
        if connection in self._pending:
            self._pending.remove(connection)
        if connection.dial is None:
            self.refused += 1
        else:
            self._try_again(connection.dial, reason)

    def _forget(self, connection: _Connection) -> None:
        if connection.events:
            self._selector.unregister(connection.sock)
            connection.events = 0
        connection.sock.close()

    # Bytes

    def _move(self, connection: _Connection, events: int) -> None:
        """Send and receive what can be without waiting."""
        try:
            if connection.is_connecting:
                if not events & selectors.EVENT_WRITE:
                    return
                code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                connection.is_connecting = False
            if events & selectors.EVENT_WRITE:
                self._send(connection)
            if events & selectors.EVENT_READ:
                self._receive(connection)
        except ProtocolError as error:
            self._end(connection, f"it sent {error}")
        except OSError as error:
            self._end(connection, error.strerror or str(error) or type(error).__name__)
        else:
            if connection.events:
                self._watch(connection)

    def _end(self, connection: _Connection, reason: str) -> None:
        assert self._part is not None
        if not connection.is_open:
            self._drop(connection, reason)
            return
        assert connection.source is not None
        self._forget(connection)
        del self._open[connection.source]
        with self._part.changed:
            self._part.lost(connection.source, reason)

    def _send(self, connection: _Connection) -> None:
        left = TURN
        while connection.out and left > 0:
            first = connection.out[0]
            try:
                count = connection.sock.send(first[:PIECE])
            except BlockingIOError:
                return
            left -= count
            if connection.source is not None:
                self.sent[connection.source] = self.sent.get(connection.source, 0) + count
            if count == len(first):
                connection.out.popleft()
            else:
                connection.out[0] = first[count:]

    def _receive(self, connection: _Connection) -> None:
        assert self._part is not None
        left = TURN
        while left > 0 and connection.events:
            if connection.filled < len(connection.room):
                try:
                    count = connection.sock.recv_into(connection.room[connection.filled :][:PIECE])
                except BlockingIOError:
                    return
                if not count:
                    raise ConnectionError("the connection was closed")
                connection.filled += count
                left -= count
                if connection.is_open:
                    assert connection.source is not None
                    self.received[connection.source] = self.received.get(connection.source, 0) + count
                    self._part.heard(connection.source, time.monotonic())
            if connection.filled == len(connection.room):
                connection.then()

    # Proving

    def _check_client(self, connection: _Connection) -> None:
        answer = bytes(connection.room)
        client = answer[:NONCE]
        if not hmac.compare_digest(answer[NONCE:], proof(self._secret, b"client", connection.server_nonce, client)):
            raise ProtocolError("no proof of the secret")
        connection.out.append(memoryview(proof(self._secret, b"server", connection.server_nonce, client)))
        self._next_header(connection)

    def _answer_server(self, connection: _Connection) -> None:
        connection.server_nonce, connection.client_nonce = bytes(connection.room), os.urandom(NONCE)
        shown = proof(self._secret, b"client", connection.server_nonce, connection.client_nonce)
        connection.out.append(memoryview(connection.client_nonce + shown))
        connection.expect(bytearray(PROOF), lambda: self._check_server(connection))

    def _check_server(self, connection: _Connection) -> None:
        assert self._part is not None
        assert connection.source is not None
        expected = proof(self._secret, b"server", connection.server_nonce, connection.client_nonce)
        if not hmac.compare_digest(bytes(connection.room), expected):
            raise ProtocolError("no proof of the secret")
        self._pending.remove(connection)
        self._open[connection.source] = connection
        connection.is_open = True
        with self._part.changed:
            if (first := self._part.dialled(connection.source)) is not None:
                self._put(connection, first)
            self._part.connected(connection.source, connection.address, time.monotonic())
        self._next_header(connection)

    # Messages

    def _put(self, connection: _Connection, message: Message) -> None:
        payload = memoryview(message.payload).cast("B")
        header = HEADER.pack(message.kind, message.number, message.block, len(payload))
        connection.out.append(memoryview(header))
        if len(payload):
            connection.out.append(payload)

    def _next_header(self, connection: _Connection) -> None:
        connection.expect(bytearray(HEADER.size), lambda: self._read_header(connection))

    def _read_header(self, connection: _Connection) -> None:
        assert self._part is not None
        kind, number, block, size = HEADER.unpack(connection.room)
        message = Message(kind, number, block)
        if kind not in KINDS:
            raise ProtocolError("a message of no kind")
        if not connection.is_open:
            if size > FIRST:
                raise ProtocolError(f"a first message of {size} bytes")
            room: Any = bytearray(size)
        else:
            assert connection.source is not None
            with self._part.changed:
                room = self._part.room_for(connection.source, message, size)
        connection.expect(room, lambda: self._deliver(connection, message._replace(payload=room)))

    def _deliver(self, connection: _Connection, message: Message) -> None:
        assert self._part is not None
        now = time.monotonic()
        with self._part.changed:
            if not connection.is_open:
                source = self._part.identify(message)
                self._pending.remove(connection)
                self._open[source] = connection
                connection.source, connection.is_open = source, True
                self._part.connected(source, connection.address, now)
            else:
                assert connection.source is not None
                self._part.receive(connection.source, message, now)
        self._next_header(connection)
