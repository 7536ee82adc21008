"""The port that a process listens on: one of its range, on one address."""

import errno
import socket
from typing import Any

import pytest

from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.plan import ExchangeError

HOST = "127.0.0.1"


def test_a_listener_takes_a_free_port_of_its_range_and_says_when_there_is_none() -> None:
    with listen(HOST, (0, 0)) as one:
        port = one.getsockname()[1]
        with pytest.raises(ExchangeError, match=rf"no port from {port} to {port} is free.*exchange\.last_port"):
            listen(HOST, (port, port))
        with listen(HOST, (port, port + 20)) as other:
            assert port < other.getsockname()[1] <= port + 20
            assert other.getsockname()[0] == HOST


def test_an_address_of_another_machine_is_refused_with_what_to_change() -> None:
    with pytest.raises(ExchangeError, match="SPARK_LOCAL_IP"):
        listen("192.0.2.1", (0, 0))


def test_a_port_that_takes_root_is_refused_with_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(sock: socket.socket, address: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(ExchangeError, match=r"may not listen on port 80 .*raise exchange\.first_port to 1024 or more"):
        listen(HOST, (80, 80))


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"])
def test_nobody_listens_on_all_addresses(host: str) -> None:
    with pytest.raises(ExchangeError, match="means all addresses of the machine; set SPARK_LOCAL_IP"):
        listen(host, (0, 0))


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_name_that_cannot_be_one_is_refused(host: str) -> None:
    with pytest.raises(ExchangeError, match="is not an address that can be resolved"):
        listen(host, (0, 0))
