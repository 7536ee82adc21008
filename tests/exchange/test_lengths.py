"""Lengths that a process states which knows the secret, over real sockets."""

import re

import pytest

from spark_w2v.exchange.connection import HEADER
from spark_w2v.exchange.driver import DriverPart
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import Node
from spark_w2v.exchange.part import Part
from spark_w2v.exchange.plan import BEAT, CENTER, CONTEXT, HELLO, JOIN, LARGEST_TEXT
from spark_w2v.exchange.task import TaskPart
from tests.exchange.test_node import begin, is_closed, let_in
from tests.support import simulation
from tests.support.running_exchange import HOST, SECRET, plan_of


@pytest.mark.parametrize("size", [LARGEST_TEXT + 1, 1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize(("first", "kind"), [(JOIN, CENTER), (JOIN, BEAT), (HELLO, CONTEXT), (HELLO, BEAT)])
def test_a_message_of_a_wrong_length_ends_the_attempt_before_memory_is_taken(
    first: bytes, kind: bytes, size: int
) -> None:
    """Also of rows that are expected: a task's center block of the last sweep, a context block of its neighbour."""
    plan = plan_of()
    if first == JOIN:
        part: Part = DriverPart(plan, simulation.MemoryStore(simulation.initial(plan.rows)))
        number, block = plan.sweeps[-1], plan.centers(0)[0]
    else:
        part = TaskPart(plan, 1, HOST, 1, lambda *to: None)
        places = ((number, block) for number in range(1, plan.ring.rounds) for block in range(plan.ring.blocks))
        number, block = next(at for at in places if plan.trainer(at[0] - 1, at[1]) == 0 and plan.trainer(*at) == 1)
    node = Node(SECRET, listen(HOST, (0, 0)))
    node.start(part)
    with let_in(node.port) as sock:
        begin(sock, first, task=0, host=HOST, port=1)
        sock.sendall(HEADER.pack(kind, number, block, size))
        assert is_closed(sock)
    node.close()
    assert re.match(rf"lost task 0 \(.*\): it sent .* of {size} bytes", str(part.failure))
