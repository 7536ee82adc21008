"""The port that a process listens on."""

import errno
import ipaddress
import random
import socket

from spark_w2v.exchange.plan import ExchangeError


class NoPortError(ExchangeError):
    """All ports of a range are taken, perhaps for a moment."""


def listen(host: str, ports: tuple[int, int]) -> socket.socket:
    """Return a listener on one address of this machine.

    Args:
        host: a name or an address, never all interfaces.
        ports: first and last of a range, of which a free one is taken; (0, 0) leaves the choice to the system.

    Raises:
        NoPortError: no port of the range is free.
        ExchangeError: the address is not one of this machine, or this user may not listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:  # of a name that cannot be one of a host
        reason = getattr(error, "strerror", None) or str(error)
        raise ExchangeError(f"{host}: is not an address that can be resolved ({reason}).") from None
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if (getattr(found, "ipv4_mapped", None) or found).is_unspecified:
        raise ExchangeError(
            f"{host}: means all addresses of the machine; set SPARK_LOCAL_IP on that machine, or on the driver "
            "spark.driver.host, to one of them."
        )
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
            if error.errno == errno.EACCES:
                raise ExchangeError(
                    f"{host}: this user may not listen on port {port} ({reason}); raise exchange.first_port to 1024 or "
                    "more."
                ) from None
            if error.errno != errno.EADDRINUSE:
                raise ExchangeError(
                    f"{host}: cannot listen there on port {port} ({reason}); set SPARK_LOCAL_IP on that machine, or on "
                    "the driver spark.driver.host and spark.driver.bindAddress, to an address of it."
                ) from None
    raise NoPortError(f"{host}: no port from {ports[0]} to {ports[1]} is free; raise exchange.last_port.")
