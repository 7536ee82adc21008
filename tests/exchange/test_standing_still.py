"""Tasks that stand still, and what a node that has ended leaves behind."""

import gc
import math
import re
import socket
import threading
import time
import weakref
from typing import Any

import numpy as np

from spark_w2v.exchange.connection import Connection
from spark_w2v.exchange.plan import CONTEXT, Message
from spark_w2v.exchange.task import TaskPart
from tests.support.running_exchange import Running, plan_of


def test_a_task_that_stands_still_is_noticed_within_the_timeout() -> None:
    running = Running(plan_of(timeout=2.0))
    stopped = threading.Event()

    def stand_still(timeout: float | None = None) -> list[Any]:
        time.sleep(8)
        return []

    def pause(part: TaskPart) -> None:
        if part.task == 1 and not stopped.is_set():
            stopped.set()
            running.nodes[1]._selector.select = stand_still  # type: ignore[method-assign]

    running._pause = pause
    begun = time.monotonic()
    running.start()
    with running.part.changed:
        assert running.part.changed.wait_for(lambda: running.part.has_ended, 20)
    assert running.part.failure is not None
    assert "task 1" in running.part.failure
    assert "2 s" in running.part.failure
    assert time.monotonic() - begun < 6
    running.node.close()


def test_a_thread_that_hangs_is_noticed_though_its_process_sends_heartbeats() -> None:
    """As where a disk does not answer; a thread that computes for longer than the timeout goes on."""
    going = threading.Event()

    def pause(part: TaskPart) -> None:
        if part.task == 1:
            going.wait(40)  # which takes no CPU
        elif not part.pairs:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                sum(range(1000))

    running = Running(plan_of(timeout=3.0), pause).start()
    with running.part.changed:
        assert running.part.changed.wait_for(lambda: running.part.has_ended, 40)
    assert running.part.failure is not None
    assert re.match(r"task 1 \(.*\) stopped: it has not used its CPU for 3 s", running.part.failure)
    going.set()
    running.node.close()


def test_a_node_that_is_closed_holds_no_buffers() -> None:
    """They may be parts of files that are removed, which take their place on the disk for as long."""
    running = Running(plan_of(tasks=1))
    node, (one, other) = running.node, socket.socketpair()
    waiting, arriving = (np.zeros(9, np.float32) for _ in range(2))
    seen = [weakref.ref(waiting), weakref.ref(arriving)]
    connection = Connection(one, "there", math.inf, None)
    connection.expect(arriving, lambda found=arriving: None)  # type: ignore[misc]
    connection.out.append(memoryview(waiting.data).cast("B"))
    node._open[0], node._part = connection, running.part
    running.part.outbox.append((0, Message(CONTEXT, 0, 0, waiting)))
    gc.disable()
    try:
        del waiting, arriving
        node.close()
        assert [found() for found in seen] == [None, None]
    finally:
        gc.enable()
        other.close()
        for node in running.nodes:
            node.close()
