"""The thread that moves the messages of a part over TCP.

A connection that does not prove that it knows the secret of the attempt (connection.py) is dropped and counted. Nothing
that arrives is unpickled, and the size that a message announces is checked before memory is allocated for it.
"""

import contextlib
import errno
import hmac
import math
import os
import random
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from spark_w2v.exchange.connection import HEADER, NONCE, PROOF, Connection, Dial, proof
from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import DRIVER, KINDS, Message, ProtocolError

HANDSHAKE = 10.0  # seconds in which a new connection has to prove itself and identify itself
# New connections at a time besides one of each peer, all of which may come at once; of more, the oldest without the
# secret are dropped.
PENDING = 128
FIRST = 4096  # bytes of a first message at most
# Bytes that all connections together may move each way before heartbeats are due, and one of them at least: writing to
# mapped files takes as long as the driver's disk.
SHARE, LEAST_SHARE = 16 << 20, 256 << 10
CHUNK = 1 << 20  # bytes handed to the kernel at a time
RETRY, REFUSED = 0.25, 2.0  # seconds between two tries to connect; for how long, where nobody listens
# Without it, a peer that breaks the connection ends a Python worker of workers.py by SIGPIPE.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
SO_NOSIGPIPE = 0x1022  # of macOS, in whose place it has no MSG_NOSIGNAL
UNREACHABLE = "cannot be reached at"
LINGER = 2.0  # seconds that closing waits for what is still to be sent


def _cpu_clock() -> Callable[[], float]:
    """Return a function that returns the CPU seconds of this thread, to any thread; NaN where they are not known."""
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS
        return lambda: math.nan
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


class Node:
    """Drive a part: deliver what arrives, send its outbox, tell it the time.

    Args:
        secret: of the attempt.
        listener: of listener.listen.
    """

    _part: Part  # set by start

    def __init__(self, secret: bytes, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.refused = 0  # connections without the secret, or with a message that no part sends
        self.received: dict[int, int] = {}  # bytes by process
        self._secret, self._listener = secret, listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self._pending: deque[Connection] = deque()
        self._open: dict[int, Connection] = {}
        self._dials: list[Dial] = []
        self._paused_until = 0.0
        self._closing: float | None = None
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)

    def start(self, part: Part) -> None:
        """Begin to drive a part; called by the thread that works for it."""
        self._part = part
        part.wake, part.spent = self._wake, _cpu_clock()
        self._thread.start()

    def dial(self, source: int, host: str, port: int) -> None:
        """Connect to a process, trying again for as long as the part's timeout."""
        now = time.monotonic()
        self._dials.append(Dial(source, host, port, now, now + self._part.plan.timeout))
        self._wake()

    def close(self) -> None:
        """Send what is left, for LINGER at most, and end all connections."""
        self._closing = time.monotonic() + LINGER
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._close_all()  # which the thread has done, if it was started

    # The thread's loop

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full of other wakings, or closed
            self._waker.send(b"\0", NO_SIGNAL)

    def _drain(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _run(self) -> None:
        part = self._part
        pause = min(0.5, part.plan.timeout / 20)
        try:
            while self._closing is None or (self._has_output() and time.monotonic() < self._closing):
                self._look_after(time.monotonic())
                for key, events in self._selector.select(pause):
                    key.data(events)
        except Exception as error:  # a bug of ours; the part must not wait forever
            with part.changed:
                part.fail(f"the exchange failed: {type(error).__name__}: {error}")
            raise
        finally:
            self._close_all()

    def _close_all(self) -> None:
        for connection in [*self._pending, *self._open.values()]:
            connection.close()
        if hasattr(self, "_part"):
            self._part.outbox.clear()
        for end in (self._listener, self._waker, self._woken):
            end.close()
        self._selector.close()

    def _has_output(self) -> bool:
        return bool(self._part.outbox) or any(connection.out for connection in self._open.values())

    def _look_after(self, now: float) -> None:
        """Do what is due, whether or not anything has arrived."""
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

    def _watch(self, connection: Connection) -> None:
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
                break
            except OSError:  # out of descriptors: stop accepting, and try again in a moment
                self._selector.unregister(self._listener)
                self._paused_until = time.monotonic() + RETRY
                break
            try:
                connection = self._adopt(sock, f"{address[0]}:{address[1]}", None)
            except OSError:  # EINVAL of macOS, where a peer has reset it already; to send on it could end a worker
                sock.close()
                self._refuse()
                continue
            connection.server_nonce = os.urandom(NONCE)
            connection.out.append(memoryview(connection.server_nonce))
            connection.expect(bytearray(NONCE + PROOF), lambda c=connection: self._check_client(c))  # type: ignore[misc]
            self._watch(connection)
        strangers = [other for other in self._pending if other.dial is None and not other.is_proved]
        for connection in strangers[: max(0, len(strangers) - PENDING - self._part.peers)]:
            self._drop(connection, "came with too many others")

    def _adopt(self, sock: socket.socket, address: str, dial: Dial | None) -> Connection:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "darwin":
            sock.setsockopt(socket.SOL_SOCKET, SO_NOSIGPIPE, 1)
        connection = Connection(sock, address, time.monotonic() + HANDSHAKE, dial)
        self._pending.append(connection)
        return connection

    def _connect(self, dial: Dial, now: float) -> None:
        if dial.reason and now > dial.until:
            remedy = "open the ports from exchange.first_port to exchange.last_port between the executors"
            if dial.source == DRIVER:
                remedy = (
                    "set spark.driver.host to an address of the driver that the executors reach, and open the ports "
                    "from exchange.first_port to exchange.last_port to them"
                )
            name = self._part.name(dial.source)
            with self._part.changed:
                self._part.fail(f"{name} {UNREACHABLE} {dial.host}:{dial.port} ({dial.reason}); {remedy}.")
            return
        try:
            found = socket.getaddrinfo(dial.host, dial.port, type=socket.SOCK_STREAM)
            dial.tries, dial.addresses = dial.tries + 1, len(found)
            family, kind, protocol, _, address = found[(dial.tries - 1) % len(found)]
            sock = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:  # of a name that cannot be one of a host
            self._try_again(dial, getattr(error, "strerror", None) or str(error))
            return
        connection = self._adopt(sock, f"{dial.host}:{dial.port}", dial)
        connection.is_connecting = True
        connection.expect(bytearray(NONCE), lambda: self._answer_server(connection))
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._drop(connection, os.strerror(code))
        else:
            self._watch(connection)

    def _try_again(self, dial: Dial, reason: str) -> None:
        now = time.monotonic()
        # A connection that breaks may be caused by somebody who floods the listener; one that is refused finds no
        # listener, and will find none, once all addresses of the host have been tried.
        if reason == os.strerror(errno.ECONNREFUSED) and dial.tries >= dial.addresses:
            dial.until = min(dial.until, now + REFUSED)
        # Not all at the same moment, where many tasks find the driver busy.
        dial.due, dial.reason = now + RETRY * random.uniform(0.5, 1.5), reason
        self._dials.append(dial)

    def _drop(self, connection: Connection, reason: str) -> None:
        """Close a connection that was not open; try again where it was made from here."""
        self._forget(connection)
        if connection in self._pending:
            self._pending.remove(connection)
        if connection.dial is None:
            self._refuse()
        else:
            self._try_again(connection.dial, reason)

    def _refuse(self) -> None:
        self.refused += 1
        self._part.refused = self.refused

    def _forget(self, connection: Connection) -> None:
        if connection.events:
            self._selector.unregister(connection.sock)
            connection.events = 0
        connection.close()

    # Bytes

    def _move(self, connection: Connection, events: int) -> None:
        """Send and receive what is possible without waiting."""
        if not connection.events:  # dropped since the selector found it
            return
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

    def _end(self, connection: Connection, reason: str) -> None:
        if not connection.is_open:
            self._drop(connection, reason)
            return
        assert connection.source is not None
        self._forget(connection)
        del self._open[connection.source]
        with self._part.changed:
            self._part.lost(connection.source, reason)

    def _share(self) -> int:
        """Return how many bytes a connection may move before the others are served."""
        return max(LEAST_SHARE, SHARE // max(1, len(self._open)))

    def _send(self, connection: Connection) -> None:
        left = self._share()
        while connection.out and left > 0:
            first = connection.out[0]
            try:
                count = connection.sock.send(first[: min(CHUNK, left)], NO_SIGNAL)
            except BlockingIOError:
                return
            left -= count
            if count == len(first):
                connection.out.popleft()
            else:
                connection.out[0] = first[count:]

    def _receive(self, connection: Connection) -> None:
        left = self._share()
        while left > 0 and connection.events:
            if connection.filled < len(connection.room):
                try:
                    count = connection.sock.recv_into(connection.room[connection.filled :][: min(CHUNK, left)])
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

    # Handshake

    def _check_client(self, connection: Connection) -> None:
        answer = bytes(connection.room)
        client = answer[:NONCE]
        if not hmac.compare_digest(answer[NONCE:], proof(self._secret, b"client", connection.server_nonce, client)):
            raise ProtocolError("no proof of the secret")
        connection.is_proved = True
        connection.out.append(memoryview(proof(self._secret, b"server", connection.server_nonce, client)))
        self._next_header(connection)

    def _answer_server(self, connection: Connection) -> None:
        connection.server_nonce, connection.client_nonce = bytes(connection.room), os.urandom(NONCE)
        shown = proof(self._secret, b"client", connection.server_nonce, connection.client_nonce)
        connection.out.append(memoryview(connection.client_nonce + shown))
        connection.expect(bytearray(PROOF), lambda: self._check_server(connection))

    def _check_server(self, connection: Connection) -> None:
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

    def _put(self, connection: Connection, message: Message) -> None:
        payload = memoryview(message.payload).cast("B")
        header = HEADER.pack(message.kind, message.number, message.block, len(payload))
        connection.out.append(memoryview(header))
        if len(payload):
            connection.out.append(payload)

    def _next_header(self, connection: Connection) -> None:
        connection.expect(bytearray(HEADER.size), lambda: self._read_header(connection))

    def _read_header(self, connection: Connection) -> None:
        kind, number, block, size = HEADER.unpack(connection.room)
        message = Message(kind, number, block)
        if kind not in KINDS:
            raise ProtocolError("a message of an unknown kind")
        if not connection.is_open:
            if size > FIRST:
                raise ProtocolError(f"a first message of {size} bytes")
            room: Any = bytearray(size)
        else:
            assert connection.source is not None
            with self._part.changed:
                room = self._part.room_for(connection.source, message, size)
        connection.expect(room, lambda: self._deliver(connection, message._replace(payload=room)))

    def _deliver(self, connection: Connection, message: Message) -> None:
        with self._part.changed:
            if not connection.is_open:
                source = self._part.identify(message)
                self._pending.remove(connection)
                self._open[source] = connection
                connection.source, connection.is_open = source, True
                self._part.connected(source, connection.address, time.monotonic())
            else:
                assert connection.source is not None
                self._part.receive(connection.source, message)
        self._next_header(connection)
