"""An epoch of the exchange over real sockets, on threads of this process."""

import os
import threading
from collections.abc import Callable

import numpy as np

from spark_w2v.exchange.driver import DriverPart
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import Node
from spark_w2v.exchange.plan import DRIVER, ExchangePlan, share_blocks
from spark_w2v.exchange.task import TaskPart
from spark_w2v.skipgram.schedule import Ring
from tests.support import simulation

HOST = "127.0.0.1"
SECRET = os.urandom(32)


def plan_of(tasks: int = 2, blocks: int = 4, sweeps: int = 2, rows: int = 50, timeout: float = 10.0) -> ExchangePlan:
    ring = Ring.draw(blocks, sweeps, np.random.default_rng(1))
    ranges = share_blocks(blocks, tasks)
    return ExchangePlan(ring, 0, (rows,) * blocks, simulation.DIMENSIONS, ranges, False, timeout)


class Running:
    """An epoch on threads of this process; each task has its own node.

    Args:
        pause: called before each bucket of each task.
    """

    def __init__(self, plan: ExchangePlan, pause: Callable[[TaskPart], None] = lambda part: None) -> None:
        self.plan, tasks = plan, plan.tasks
        self.store = simulation.MemoryStore(simulation.initial(plan.rows))
        self.part = DriverPart(plan, self.store)
        self.node = Node(SECRET, listen(HOST, (0, 0)))
        self.nodes = [Node(SECRET, listen(HOST, (0, 0))) for _ in range(tasks)]
        self.parts = [TaskPart(plan, task, HOST, node.port, node.dial) for task, node in enumerate(self.nodes)]
        self._pause = pause
        self._threads = [threading.Thread(target=self._train, args=(task,)) for task in range(tasks)]

    def start(self) -> "Running":
        self.node.start(self.part)
        for thread in self._threads:
            thread.start()
        return self

    def _train(self, task: int) -> None:
        node, part = self.nodes[task], self.parts[task]
        node.start(part)
        node.dial(DRIVER, HOST, self.node.port)
        while True:
            with part.changed:
                while (bucket := part.next_bucket()) is None and not part.has_ended:
                    part.changed.wait()
            if bucket is None:
                break
            with part.working():
                self._pause(part)
                loss = simulation.train(bucket.center, bucket.context, bucket.number)
            with part.changed:
                part.trained(bucket, loss, 1, 1)
        node.close()

    def wait(self) -> str | None:
        """Wait for the end; return the reason of a failure, or None."""
        with self.part.changed:
            assert self.part.changed.wait_for(lambda: self.part.has_ended, 60)
        self.node.close()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.part.failure

    def assert_right(self) -> None:
        found = self.store.after[self.plan.sweeps[-1]]
        assert simulation.same(found, simulation.one_after_the_other(self.plan.ring, self.plan.rows))
