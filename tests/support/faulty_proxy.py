"""A proxy in front of an object store, over real HTTP, that injects faults into some requests."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spark_w2v.storage.objects import ObjectStore

# delay: 2 s; cut: the connection, before the store gets the request; lost: after it, in the middle of the answer.
FAULTS = ("delay", "cut", "lost", "500", "503", "403", "404 after a write")


class Proxy:
    """Pass requests on; `fault(number, method, path)` returns one of FAULTS for a request, or None.

    Args:
        store: the URL of the store.
    """

    def __init__(self, store: str, fault: Callable[[int, str, str], str | None] = lambda *_: None) -> None:
        self.fault, self.requests = fault, 0
        self.pace: int | None = None  # bytes of an answer's content in a second
        self.target = urlsplit(store).netloc
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.fault(number, request.command, request.path)
        if fault == "delay":
            time.sleep(2)
        if fault == "cut":
            self._cut(request)
            return
        if fault in ("403", "500", "503"):
            self._answer(request, int(fault), [], b"<Error><Code>Injected</Code></Error>")
            return
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "lost":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            self._cut(request)
            return
        if fault == "404 after a write" and request.command == "PUT":
            self._answer(request, 404, [], b"<Error><Code>NoSuchKey</Code></Error>")
            return
        own = ("transfer-encoding", "content-length", "connection")
        passed_on = [(name, value) for name, value in answer.getheaders() if name.lower() not in own]
        length = answer.getheader("Content-Length") if request.command == "HEAD" else None
        self._answer(request, answer.status, passed_on, content, length)

    def _cut(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes,
        length: str | None = None,
    ) -> None:  # fmt: skip
        try:
            request.send_response_only(status)
            for name, value in headers:
                request.send_header(name, value)
            request.send_header("Content-Length", length or str(len(content)))
            request.end_headers()
            if request.command != "HEAD":
                piece = (self.pace or 10 * len(content)) // 10
                for start in range(0, len(content), piece or 1):
                    request.wfile.write(content[start : start + piece])
                    time.sleep(0.1 if self.pace else 0)
        except OSError:  # the client was killed
            request.close_connection = True


def separate_host(directory: Path, url: str) -> dict[str, str]:
    """Return the environment of a process that finds no files of other hosts; its current directory is to be `work`.

    Args:
        directory: made, with `home`, `tmp` and `work` in it.
        url: of the store, as this host sees it.
    """
    for name in ("home", "tmp", "work"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return os.environ | {"HOME": str(directory / "home"), "TMPDIR": str(directory / "tmp"), "AWS_ENDPOINT_URL": url}


def left_of_runs(output: str) -> list[str]:
    """Return the names in the store other than finished runs and the pointer."""
    return [name for name in ObjectStore(output).entries() if not name.startswith("runs/") and name != "CURRENT"]
