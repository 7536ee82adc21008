"""The state of one connection, from its handshake to its end.

Every connection proves on both sides that it knows the secret of the attempt, by an HMAC over random numbers of both;
the secret itself never travels here.
"""

import hmac
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct("<4sIIQ")  # kind, number, block, bytes of the payload
NONCE, PROOF = 32, 32  # bytes


def proof(secret: bytes, role: bytes, server: bytes, client: bytes) -> bytes:
    """Return what shows that a side knows the secret, for these random numbers and as this role."""
    return hmac.digest(secret, role + server + client, "sha256")


@dataclass
class Dial:
    """A process to connect to."""

    source: int
    host: str
    port: int
    due: float  # when to try next
    until: float  # when to give up
    reason: str = ""  # why the last try failed
    tries: int = 0
    addresses: int = 1  # that the host has; they are tried in turn


class Connection:
    """One socket with the buffer that is being received and the buffers that wait to be sent."""

    def __init__(self, sock: socket.socket, address: str, deadline: float, dial: Dial | None) -> None:
        self.sock, self.address, self.deadline = sock, address, deadline
        self.dial = dial  # of a connection that we make
        self.source = dial.source if dial else None  # None until it is known
        self.is_proved = False  # knows the secret, as a client
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
        """Receive into a buffer next, and call a function when it is full."""
        self.room, self.filled, self.then = memoryview(room).cast("B"), 0, then

    def close(self) -> None:
        """Close the socket, and let go of all buffers, which may be parts of files that are removed."""
        self.sock.close()
        self.out.clear()
        self.expect(b"", lambda: None)
