"""The exchange over real sockets: accepted connections, refused ones and lost ones."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from spark_w2v.exchange.connection import HEADER, NONCE, PROOF, Dial, proof
from spark_w2v.exchange.driver import DriverPart
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import PENDING, REFUSED, RETRY, UNREACHABLE, Node
from spark_w2v.exchange.plan import CONTEXT, DRIVER, HELLO, JOIN, Message
from spark_w2v.exchange.task import TaskPart
from tests.support.running_exchange import HOST, SECRET, Running, plan_of
from tests.support.training_job import ROOT


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), 10)


def let_in(port: int, secret: bytes = SECRET) -> socket.socket:
    """Return a connection that has proved that it knows the secret."""
    sock = connect(port)
    try:
        prove(sock, secret)
    except ConnectionError:
        sock.close()
        raise
    return sock


def prove(sock: socket.socket, secret: bytes = SECRET) -> None:
    server, client = sock.recv(NONCE, socket.MSG_WAITALL), os.urandom(NONCE)
    sock.sendall(client + proof(secret, b"client", server, client))
    if sock.recv(PROOF, socket.MSG_WAITALL) != proof(secret, b"server", server, client):
        raise ConnectionError("not let in")


def begin(sock: socket.socket, kind: bytes, **fields: Any) -> None:
    first = Message.of(kind, **fields)
    sock.sendall(HEADER.pack(kind, 0, 0, len(first.payload)) + first.payload)


def rest_of(sock: socket.socket) -> bytes:
    """Return what comes until the other end closes the connection."""
    sock.settimeout(10)
    found = b""
    with contextlib.suppress(ConnectionError):
        while some := sock.recv(4096):
            found += some
    return found


def is_closed(sock: socket.socket) -> bool:
    rest_of(sock)
    return True


def test_a_node_that_is_closed_before_it_was_started_leaves_no_socket_open() -> None:
    listener = listen(HOST, (0, 0))
    node = Node(SECRET, listener)
    node.close()
    assert [end.fileno() for end in (listener, node._waker, node._woken)] == [-1, -1, -1]
    node.close()


@pytest.mark.parametrize(("tasks", "blocks"), [(1, 1), (1, 5), (2, 2), (3, 7), (5, 5)])
def test_an_epoch_over_sockets_has_the_bits_of_one_without_any(tasks: int, blocks: int) -> None:
    running = Running(plan_of(tasks, blocks)).start()
    assert running.wait() is None
    running.assert_right()


@pytest.fixture
def slow() -> Iterator[Running]:
    """An epoch that lasts until `let_go` is set."""
    gate = threading.Event()

    def pause(part: TaskPart) -> None:
        gate.wait(60)

    running = Running(plan_of(), pause)
    running.let_go = gate  # type: ignore[attr-defined]
    try:
        yield running.start()
    finally:
        gate.set()
        running.node.close()


def attack(port: int, kind: int) -> None:
    if kind == 0:
        sock = connect(port)
        sock.sendall(os.urandom(200))
    elif kind == 1:
        with pytest.raises(ConnectionError):
            let_in(port, b"another secret" * 2)
        return
    elif kind == 2:
        sock = let_in(port)
        sock.sendall(HEADER.pack(CONTEXT, 1, 0, 1 << 62))
    elif kind == 3:
        sock = let_in(port)
        sock.sendall(HEADER.pack(JOIN, 0, 0, 1 << 40))
    elif kind in (4, 5):  # the driver waits for JOIN, a task for HELLO
        sock = let_in(port)
        begin(sock, HELLO if kind == 4 else JOIN, task=99, host="x", port=1)
    else:
        sock = connect(port)
        sock.close()
        return
    assert is_closed(sock)
    sock.close()


def test_strangers_are_dropped_and_counted_and_change_no_bit(slow: Running) -> None:
    ports = [slow.node.port, *(node.port for node in slow.nodes)]
    with slow.part.changed:
        assert slow.part.changed.wait_for(lambda: len(slow.part._ready) == 2, 30)
    for number in range(120):
        attack(ports[number % 3], number // 3 % 7)
    with slow.part.changed:  # which the tasks tell the driver while they train
        assert slow.part.changed.wait_for(lambda: slow.part.refused_by == {0: 40, 1: 40}, 20)
    slow.let_go.set()  # type: ignore[attr-defined]
    assert slow.wait() is None
    slow.assert_right()
    assert slow.node.refused == 40
    assert [node.refused for node in slow.nodes] == [40, 40]


def test_a_second_connection_in_a_tasks_name_is_refused(slow: Running) -> None:
    with slow.part.changed:
        assert slow.part.changed.wait_for(lambda: len(slow.part._ready) == 2, 30)
    sock = let_in(slow.node.port)
    begin(sock, JOIN, task=0, host=HOST, port=1)
    assert is_closed(sock)
    sock.close()
    slow.let_go.set()  # type: ignore[attr-defined]
    assert slow.wait() is None
    slow.assert_right()


def test_a_crowd_that_says_nothing_does_not_keep_a_task_out() -> None:
    running = Running(plan_of())
    running.node.start(running.part)
    crowd = [connect(running.node.port) for _ in range(3 * PENDING)]
    for thread in running._threads:
        thread.start()
    running.node.start = lambda part: None  # type: ignore[method-assign]
    assert running.wait() is None
    running.assert_right()
    assert running.node.refused >= len(crowd) - PENDING - running.part.plan.tasks
    for sock in crowd:
        sock.close()


def test_a_task_lets_no_more_strangers_wait_than_its_neighbours_leave_room_for() -> None:
    part = TaskPart(plan_of(tasks=64, blocks=64, rows=1), 0, HOST, 1, lambda *to: None)
    node = Node(SECRET, listen(HOST, (0, 0)))
    node.start(part)
    crowd = [connect(node.port) for _ in range(PENDING + 12)]
    deadline = time.monotonic() + 10
    while node.refused < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert node.refused == 10  # beside two neighbours
    for sock in crowd:
        sock.close()
    node.close()


# Python ignores SIGPIPE, and the workers of local mode do not.
WORKER = """
import signal, sys
from tests.exchange.test_node import HOST, SECRET, Node, TaskPart, listen, plan_of

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
node = Node(SECRET, listen(HOST, (0, 0)))
node.start(TaskPart(plan_of(), 0, HOST, node.port, node.dial))
print(node.port, flush=True)
sys.stdin.read()
print(node.refused)
"""


def test_a_stranger_that_breaks_off_does_not_end_a_worker() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    port = int(worker.stdout.readline())
    reset = struct.pack("ii", 1, 0)
    for _ in range(made := 500):
        if worker.poll() is not None:
            break
        with connect(port) as sock, contextlib.suppress(OSError):  # OSError: it was faster
            sock.shutdown(socket.SHUT_WR)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    said, _ = worker.communicate("", timeout=30)
    assert worker.returncode == 0
    assert 0 < int(said) <= made


def test_each_of_many_strangers_at_once_is_counted_once() -> None:
    running = Running(plan_of())
    running.node.start(running.part)
    for _ in range(made := 20 * PENDING):
        connect(running.node.port).close()
    for thread in running._threads:
        thread.start()
    running.node.start = lambda part: None  # type: ignore[method-assign]
    assert running.wait() is None
    running.assert_right()
    assert running.node.refused == made


def test_more_tasks_than_strangers_are_let_in_may_come_at_once() -> None:
    tasks = 2 * PENDING
    driver = DriverPart(plan_of(blocks=tasks, tasks=tasks, rows=1), None)  # type: ignore[arg-type]
    listener = listen(HOST, (0, 0))
    socks = [connect(listener.getsockname()[1]) for _ in range(tasks)]  # all of them wait before the first is served
    node = Node(SECRET, listener)
    node.start(driver)
    for task, sock in enumerate(socks):
        prove(sock)
        begin(sock, JOIN, task=task, host=HOST, port=1)
    with driver.changed:
        assert driver.changed.wait_for(lambda: driver.tasks_joined == tasks, 30)
    assert node.refused == 0
    for sock in socks:
        sock.close()
    node.close()


def test_a_listener_without_the_secret_gets_no_parameters() -> None:
    trap = socket.create_server((HOST, 0))
    part = TaskPart(plan_of(timeout=1.0), 0, HOST, 1, lambda *to: None)
    node = Node(SECRET, listen(HOST, (0, 0)))
    node.start(part)
    node.dial(DRIVER, HOST, trap.getsockname()[1])
    sock, _ = trap.accept()
    sock.sendall(os.urandom(NONCE))
    answer = sock.recv(NONCE + PROOF, socket.MSG_WAITALL)
    assert SECRET not in answer
    sock.sendall(os.urandom(PROOF))
    assert rest_of(sock) == b"", "it is to hear nothing before its proof is right"
    sock.close()
    trap.close()
    node.close()


def test_a_driver_that_cannot_be_reached_is_named_with_what_to_change() -> None:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    part = TaskPart(plan_of(), 0, HOST, 1, lambda *to: None)
    node = Node(SECRET, listen(HOST, (0, 0)))
    tries: list[float] = []
    connect_to = node._connect

    def counted(dial: Dial, now: float) -> None:
        tries.append(now)
        connect_to(dial, now)

    node._connect = counted  # type: ignore[method-assign]
    node.start(part)
    node.dial(DRIVER, HOST, port)
    with part.changed:
        assert part.changed.wait_for(lambda: part.failure is not None, 20)
    node.close()
    assert 2 <= len(tries) <= REFUSED / RETRY + 2
    assert np.diff(tries).min() >= RETRY
    assert part.failure is not None
    for words in (f"{HOST}:{port}", "Connection refused", "spark.driver.host", "exchange.first_port"):
        assert words in part.failure


def test_without_a_sweep_tasks_meet_and_end() -> None:
    running = Running(plan_of(tasks=3, blocks=3, sweeps=0)).start()
    assert running.wait() is None
    assert not running.part.bytes


def test_the_driver_hears_of_a_task_that_another_does_not_reach() -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
        running = Running(plan_of(tasks=2, blocks=2, sweeps=0))
        running.parts[1] = TaskPart(running.plan, 1, HOST, port, running.nodes[1].dial)
        failure = running.start().wait()
    assert f"stopped: task 1 {UNREACHABLE} {HOST}:{port} (Connection refused); open the ports" in str(failure)
