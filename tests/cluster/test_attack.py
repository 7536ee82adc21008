"""Strangers on the ports of a running exchange: they learn nothing, change nothing, and cost next to nothing."""

import base64
import contextlib
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from spark_w2v.exchange.connection import HEADER, NONCE, PROOF, proof
from spark_w2v.exchange.plan import CENTER, CONTEXT, HELLO, JOIN
from tests.cluster.standalone import QUICK_JVM, Cluster, wait_until, with_descendants
from tests.cluster.submission import ALL_EXECUTORS, Stop, Submission, assert_same_bits, matrices, planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# The first epoch has growing sweeps before its two equal ones.
BLOCKS, EPOCHS, SWEEPS, FIRST_SWEEPS = 8, 2, 2, 4
LAST = Stop("round", BLOCKS * (FIRST_SWEEPS + SWEEPS))
SETTINGS = [
    "--set", f"training.partitions={BLOCKS}", "--set", "training.dimensions=24", "--set", f"training.epochs={EPOCHS}",
    "--set", f"training.sweeps_per_epoch={SWEEPS}", "--set", "vocabulary.subsample=0", "--set", "output.report=false",
]  # fmt: skip
CONNECTIONS = 5_000  # on each of two kinds of Spark
KINDS = ("noise", "wrong secret", "silence", "impossible", "break off")
SILENT = 300  # connections that say nothing, at a time
MOST = 100 << 20  # bytes of memory that an attack may cost a process
WILDCARDS = {"0.0.0.0", "::", ""}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,200 words: enough for 8 blocks."""
    return planted_corpus(tmp_path_factory.mktemp("attack") / "corpus", files=6, sentences=500, groups=110)


@dataclass
class Listener:
    """A port that a Python process of a run listens on; `is_ours` if it is an exchange's, which speaks first."""

    pid: int
    is_driver: bool
    host: str
    port: int
    is_ours: bool


@dataclass
class Attacked:
    """A run, who took part in it, and what was seen of them."""

    run: Submission
    cluster: Cluster | None
    listeners: dict[tuple[str, int], Listener] = field(default_factory=dict)
    commands: set[str] = field(default_factory=set)

    def pythons(self) -> list[tuple[psutil.Process, bool]]:
        """The driver's process and those of workers; whether it is the driver."""
        driver = self.run.driver()
        family = self.run.family()
        for executor in self.cluster.executors().values() if self.cluster else ():
            family += with_descendants(executor)
        found = []
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.commands.add(" ".join(process.cmdline()) + str(process.environ()))
                if process.name().startswith("python"):
                    found.append((process, driver is not None and process.pid == driver.pid))
        return found

    def look(self) -> list[Listener]:
        """All that listen now; also remembered."""
        found = []
        for process, is_driver in self.pythons():
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in process.net_connections("tcp"):
                    if one.status != "LISTEN":
                        continue
                    place = (one.laddr.ip, one.laddr.port)
                    if place not in self.listeners:
                        self.listeners[place] = Listener(process.pid, is_driver, *place, speaks_first(*place))
                    found.append(self.listeners[place])
        return found

    def hosts(self) -> dict[int, str]:
        """The address of each executor that Spark uses, by the processes that it started."""
        found: dict[int, str] = {}
        for executor in self.cluster.executors().values() if self.cluster else ():
            command = executor.cmdline()
            host = command[command.index("--hostname") + 1]
            found |= {process.pid: host for process in with_descendants(executor)}
        return found

    def peaks(self) -> tuple[int, int]:
        """Most memory so far of the driver, and of the worker with most, in bytes."""
        driver = workers = 0
        for process, is_driver in self.pythons():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]
                driver, workers = (max(driver, peak), workers) if is_driver else (driver, max(workers, peak))
        return driver, workers


def speaks_first(host: str, port: int) -> bool:
    """As only an exchange does: with 32 random bytes."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as sock:
        return len(sock.recv(NONCE, socket.MSG_WAITALL)) == NONCE
    return False


class Attack:
    """Connections to all ports of the exchanges of a run, on a thread, until there were enough.

    Attributes:
        made: connections by kind.
    """

    def __init__(self, attacked: Attacked, count: int) -> None:
        self.made: Counter[tuple[bool, str]] = Counter()
        self.let_in = 0
        self._attacked, self._count = attacked, count
        self._chance = random.Random(3)
        self._silent: deque[socket.socket] = deque()
        self._thread = threading.Thread(target=self._run)
        self.is_stopped = False

    def start(self) -> None:
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        self.is_stopped = True
        self._thread.join(60)
        for sock in self._silent:
            sock.close()

    def _run(self) -> None:
        targets: list[Listener] = []
        looked = 0.0
        while self.made.total() < self._count and not self.is_stopped:
            if time.monotonic() - looked > 0.5 or not targets:
                targets, looked = [one for one in self._attacked.look() if one.is_ours], time.monotonic()
                time.sleep(0.01)
            at_driver = sum(number for (is_driver, _), number in self.made.items() if is_driver)
            for target in targets:
                if target.is_driver and at_driver > self._count * 0.6:  # it listens before the tasks do
                    continue
                kind = self._chance.choice(KINDS)
                try:
                    sock = socket.create_connection((target.host, target.port), 5)
                except OSError:
                    targets = []  # it has ended
                    break
                self.made[target.is_driver, kind] += 1
                sock.settimeout(5)
                with contextlib.suppress(OSError):
                    self._harm(sock, kind)
                if kind == "silence":
                    self._silent.append(sock)
                    if len(self._silent) > SILENT:
                        self._silent.popleft().close()
                else:
                    sock.close()

    def _harm(self, sock: socket.socket, kind: str) -> None:
        if kind == "noise":
            sock.sendall(self._chance.randbytes(self._chance.choice([1, NONCE + PROOF, 5000])))
        elif kind == "break off":  # FIN and RST, so that what is sent to it then is a broken pipe
            sock.shutdown(socket.SHUT_WR)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "wrong secret":
            self._prove(sock, os.urandom(32))
            assert sock.recv(1) == b"", "a wrong secret was let in"
        elif kind == "impossible":
            for secret in reversed(self._attacked.run.secrets):
                self._prove(sock, secret)
                if len(sock.recv(PROOF, socket.MSG_WAITALL)) == PROOF:
                    self.let_in += 1
                    message = self._chance.choice([JOIN, HELLO, CENTER, CONTEXT])
                    size = self._chance.choice([4097, 1 << 30, (1 << 63) + 5, (1 << 64) - 1])
                    sock.sendall(HEADER.pack(message, 0, 0, size) + b"x" * 4096)
                    sock.recv(1)
                return

    def _prove(self, sock: socket.socket, secret: bytes) -> None:
        server, client = sock.recv(NONCE, socket.MSG_WAITALL), os.urandom(NONCE)
        sock.sendall(client + proof(secret, b"client", server, client))


@pytest.fixture
def submit(
    corpus: Path, package: Path, python_without_checkout: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str, Cluster | None], Attacked]]:
    """Starts a run that lasts, and waits at its end; kills what is still running when the test is over."""
    runs: list[Submission] = []

    def start(name: str, cluster: Cluster | None) -> Attacked:
        run = Submission(
            cluster.url if cluster else "local[2]", tmp_path / name,
            ["--input", corpus, "--output", tmp_path / name / "out", *SETTINGS],
            [
                "--py-files", package, "--executor-memory", "512m", "--conf", "spark.cores.max=3",
                "--conf", f"spark.executor.extraJavaOptions={QUICK_JVM}", *ALL_EXECUTORS,
            ],
            python_without_checkout, (LAST,), pause=0.05,
        )  # fmt: skip
        runs.append(run)
        return Attacked(run, cluster)

    yield start
    for run in runs:
        run.kill()
    if "cluster" in request.fixturenames:
        cluster = request.getfixturevalue("cluster")
        wait_until(lambda: not cluster.executors(), "the executors end with their application")


def where_secrets_are(run: Submission, commands: set[str]) -> list[str]:
    """In what a run prints, logs, or is called by."""
    texts = {"printed": run.log.read_bytes(), "commands": "\n".join(commands).encode("utf-8", "replace")}
    texts |= {str(path): path.read_bytes() for path in run.log.parent.rglob("events/*") if path.is_file()}
    forms = [
        form
        for secret in run.secrets
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:40], repr(secret)[2:-1].encode())
    ]
    assert len(texts) >= 3
    return [name for name, text in texts.items() if any(form in text for form in forms)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads peaks of memory from /proc")
@pytest.mark.parametrize("where", ["local", "cluster"])
def test_five_thousand_strangers_change_no_bit_and_cost_no_memory(
    where: str, submit: Callable[..., Attacked], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster = request.getfixturevalue("cluster") if where == "cluster" else None
    tasks = 3 if cluster else 2
    calm = submit("calm", cluster)
    calm.run.wait_until_held(LAST, tasks)
    peaks = calm.peaks()
    calm.run.let_go(LAST)
    assert calm.run.finish() == 0, calm.run.printed
    expected: list[np.ndarray] = matrices(tmp_path / "calm" / "out")

    attacked = submit("attacked", cluster)
    run = attacked.run
    attack = Attack(attacked, CONNECTIONS)
    run.wait_for(lambda: run.driver() is not None, "there is a driver")
    attack.start()
    try:
        run.wait_until_held(LAST, tasks)
        run.wait_for(lambda: attack.is_over, "all connections were made")
        found = attacked.peaks()
        listeners = attacked.look()
        hosts = attacked.hosts()
        run.let_go(LAST)
        assert run.finish() == 0, run.printed
    finally:
        attack.end()
    assert_same_bits(tmp_path / "attacked" / "out", expected)
    print(f"{dict(attack.made)}, {attack.let_in} let in; MB {[p >> 20 for p in peaks]}, {[p >> 20 for p in found]}")
    assert attack.let_in > CONNECTIONS / 10
    assert min(peaks) > 50 << 20
    for before, after in zip(peaks, found, strict=True):
        assert after < before + MOST

    # Both the driver and tasks were attacked, and have counted.
    driver, workers = (sum(n for (is_driver, _), n in attack.made.items() if is_driver == who) for who in (True, False))
    assert min(driver, workers) > CONNECTIONS / 10
    printed = run.log.read_text()
    for who, made in (("the driver", driver), ("the tasks", workers)):
        refused = sum(map(int, re.findall(rf"exchange: {who} turned (\d+) connections away", printed)))
        print(f"{who}: {made} made, {refused} refused")
        assert 0.5 * made < refused <= made + len(attacked.listeners)

    # Every port is on the one address that Spark uses there.
    ours = [one for one in listeners if one.is_ours]
    assert len(ours) == tasks + 1
    assert not WILDCARDS & {one.host for one in attacked.listeners.values()}
    assert {one.host for one in ours if one.is_driver} == {"127.0.0.1"}
    for one in ours:
        if not one.is_driver:
            assert one.host == (hosts[one.pid] if cluster else "127.0.0.1")

    assert len(run.secrets) == EPOCHS
    assert where_secrets_are(run, attacked.commands) == []
