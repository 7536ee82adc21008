"""Three machines of one network, as network namespaces: a driver and two workers, each linked to one bridge.

Linux and root only. The bridge has a namespace of its own, so nothing of the machine's own network is touched, and
none of the namespaces leads out of itself. A link is a pair of virtual interfaces, UPLINK at the machine's end and one
called like the machine at the bridge's end; `tc`'s token bucket (tbf) limits what leaves either end.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from bench.standalone import Host

DRIVER, WORKERS = "driver", ("worker-1", "worker-2")
MACHINES = (DRIVER, *WORKERS)
UPLINK = "uplink"
GIGABIT = "1gbit"
# tbf hands out a timer tick's worth of bytes at a time: 1 Gbit/s at 250 Hz = 0.5 MB, here with room. What waits longer
# than the latency is dropped, as a full switch does.
BURST, LATENCY = "1mb", "50ms"
PATIENCE = 20.0  # seconds for killed processes to leave a namespace
NUMBERS = itertools.count(1)


class RefusedError(RuntimeError):
    """Error of the kernel or its tools where a namespace or a limited link cannot be made."""


class Network:
    """The machines, as long as the `with` block lasts; whatever still runs on them then is killed.

    Args:
        rate: of each link and direction, as `tc` writes it; None for as fast as the kernel copies.
    """

    def __init__(self, rate: str | None = GIGABIT) -> None:
        self._rate = rate
        self._name = f"w2v-{os.getpid()}-{next(NUMBERS)}"  # namespaces have names that all processes share

    def __enter__(self) -> "Network":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        bridge = self._namespace("bridge")
        for place in ("bridge", *MACHINES):
            _call("ip", "netns", "add", self._namespace(place))
            _call("ip", "-n", self._namespace(place), "link", "set", "lo", "up")
        _call("ip", "-n", bridge, "link", "add", "bridge", "type", "bridge")
        _call("ip", "-n", bridge, "link", "set", "bridge", "up")
        for machine in MACHINES:
            own = self._namespace(machine)
            peer = ("peer", "name", machine, "netns", bridge)
            _call("ip", "-n", own, "link", "add", UPLINK, "type", "veth", *peer)
            _call("ip", "-n", bridge, "link", "set", machine, "master", "bridge", "up")
            _call("ip", "-n", own, "address", "add", f"{address(machine)}/24", "dev", UPLINK)
            _call("ip", "-n", own, "link", "set", UPLINK, "up")
        self.shape(self._rate)

    def stop(self) -> None:
        """Kill what runs there and delete the namespaces; the links go with them."""
        there = _namespaces()
        for place in (*MACHINES, "bridge"):
            name = self._namespace(place)
            if name in there:
                self._kill_all(name)
                _call("ip", "netns", "delete", name)

    def _kill_all(self, namespace: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while doomed := _call("ip", "netns", "pids", namespace).split():
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"survived SIGKILL in {namespace}: {doomed}")
            time.sleep(0.1)

    def _namespace(self, place: str) -> str:
        return f"{self._name}-{place}"

    def prefix(self, machine: str) -> tuple[str, ...]:
        """Prefix that starts the command after it on this machine."""
        return ("ip", "netns", "exec", self._namespace(machine))

    def host(self, number: int) -> Host:
        """For bench.standalone.Cluster: the master runs where the driver does."""
        return Host(address(MACHINES[number]), self.prefix(MACHINES[number]))

    def bytes_through(self, machine: str) -> int:
        """That its interface has sent and received since it is there; nothing is counted twice."""
        counters = [f"/sys/class/net/{UPLINK}/statistics/{way}_bytes" for way in ("tx", "rx")]
        return sum(map(int, _call(*self.prefix(machine), "cat", *counters).split()))

    def shape(self, rate: str | None) -> None:
        """Limit every link in both directions, from now on; None takes the limits away."""
        for machine in MACHINES:
            for namespace, device in ((self._namespace(machine), UPLINK), (self._namespace("bridge"), machine)):
                if rate is not None:
                    bucket = ("tbf", "rate", rate, "burst", BURST, "latency", LATENCY)
                    _call("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *bucket)
                elif "tbf" in _call("tc", "-n", namespace, "qdisc", "show", "dev", device):
                    _call("tc", "-n", namespace, "qdisc", "delete", "dev", device, "root")

    def take_down(self, machine: str) -> None:
        """Pull this machine's cable: connections stay open on both sides, and nothing arrives."""
        _call("ip", "-n", self._namespace("bridge"), "link", "set", machine, "down")

    def bring_up(self, machine: str) -> None:
        """Plug it in again."""
        _call("ip", "-n", self._namespace("bridge"), "link", "set", machine, "up")

    @contextlib.contextmanager
    def workers_apart(self) -> Iterator[None]:
        """While this lasts, the workers do not reach each other, and both reach the driver."""
        self._isolate(True)
        try:
            yield
        finally:
            self._isolate(False)

    @contextlib.contextmanager
    def driver_closed(self, port: int, workers: Sequence[str]) -> Iterator[None]:
        """While this lasts, these workers reach all of the driver but this port; nobody refuses their connections."""
        rule = ("to", address(DRIVER), "ipproto", "tcp", "dport", str(port), "unreachable")
        for worker in workers:
            _call("ip", "-n", self._namespace(worker), "rule", "add", *rule)
        try:
            yield
        finally:
            for worker in workers:
                _call("ip", "-n", self._namespace(worker), "rule", "delete", *rule)

    def _isolate(self, apart: bool) -> None:
        for worker in WORKERS:  # a bridge passes nothing from one isolated port to another
            how = ("type", "bridge_slave", "isolated", "on" if apart else "off")
            _call("ip", "-n", self._namespace("bridge"), "link", "set", "dev", worker, *how)


def address(machine: str) -> str:
    """The same in every network: none is connected to another, or to the machine's own."""
    return f"10.77.0.{MACHINES.index(machine) + 1}"


def _namespaces() -> set[str]:
    try:
        listed = _call("ip", "netns", "list")
    except RefusedError:
        return set()  # without `ip` nobody made one
    return {line.split()[0] for line in listed.splitlines() if line}


def _call(*command: str) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RefusedError(f"{command[0]}: {error.strerror}") from error
    if ran.returncode:
        raise RefusedError(f"{' '.join(command)}: {ran.stderr.strip()}")
    return ran.stdout
