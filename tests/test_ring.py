"""The simulation of bench/ring.py: against the real parts of the exchange, which a clock drives here."""

import heapq
import itertools
from typing import Any

import numpy as np
import pytest

from bench.ring import Machines, Prices, simulate
from spark_w2v.exchange.plan import CENTER, CONTEXT, DRIVER, ROWS, TOOK, ExchangePlan, Message
from spark_w2v.exchange.task import TaskPart
from spark_w2v.skipgram.schedule import Ring

ROWS_OF_BLOCK = 1000
BYTES = ROWS_OF_BLOCK * 4


def driven(
    ring: Ring,
    machines: Machines,
    seconds: list[np.ndarray[Any, np.dtype[np.float64]]],
    prices: Prices,
    snapshots: bool,
) -> tuple[float, float]:
    """When the real parts have trained the last bucket, and when the driver has all; all on one machine."""
    ranges = tuple(itertools.pairwise(machines.ends.tolist()))
    plan = ExchangePlan(ring, 0, (ROWS_OF_BLOCK,) * ring.blocks, 1, ranges, snapshots, 1e9)
    parts = [TaskPart(plan, task, "host", 1, lambda to, host, port: None) for task in range(plan.tasks)]
    rows = np.zeros((ROWS_OF_BLOCK, 1), np.float32)
    for block in range(ring.blocks):
        for kind, task in ((CENTER, plan.owners[block]), (CONTEXT, plan.trainer(0, block))):
            with parts[task].changed:
                parts[task].receive(DRIVER, Message(kind, 0, block, rows))
    events: list[tuple[float, int, Any]] = []
    order, busy = itertools.count(), [False] * plan.tasks
    trained = driver_free = 0.0
    now = 0.0

    def send(source: int) -> None:
        nonlocal driver_free
        while parts[source].outbox:
            to, message = parts[source].outbox.popleft()
            size = BYTES if message.kind in ROWS else 0
            if to == DRIVER and size:
                driver_free = max(driver_free, now) + size * prices.driver
                answer = (driver_free + prices.message, source, DRIVER, Message(TOOK, message.number))
                heapq.heappush(events, (answer[0], next(order), answer))
            elif to != DRIVER:
                when = now + prices.message + size * prices.memory
                heapq.heappush(events, (when, next(order), (when, to, source, message)))

    def work(task: int) -> None:
        nonlocal trained
        part = parts[task]
        with part.changed:
            if not busy[task] and (bucket := part.next_bucket()) is not None:
                busy[task] = True
                sweep = bucket.number // ring.blocks
                end = now + float(seconds[sweep][bucket.center_block, bucket.context_block])
                trained = max(trained, end)
                heapq.heappush(events, (end, next(order), (end, task, None, bucket)))
            send(task)

    for task in range(plan.tasks):
        work(task)
    while events:
        now, _, (_, task, source, what) = heapq.heappop(events)
        with parts[task].changed:
            if source is None:
                busy[task] = False
                parts[task].trained(what, 0.0, 1, 1)
            else:
                parts[task].receive(source, what)
        work(task)
    assert all(part.pairs == ring.rounds * len(plan.centers(task)) for task, part in enumerate(parts))
    return trained, max(driver_free, trained)


def random_seconds(blocks: int, sweeps: int, spread: float) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    rng = np.random.default_rng(blocks)
    return [np.exp(rng.normal(0, spread, (blocks, blocks))) for _ in range(sweeps)]


@pytest.mark.parametrize("directions", [(1, 1, 1), (-1, -1), (1, -1, -1, 1)])
@pytest.mark.parametrize(
    "prices", [Prices(), Prices(0.1, 1e-4), Prices(0.01, 1e-5, 0, 3e-4)], ids=["free", "dear", "driver"]
)
@pytest.mark.parametrize("snapshots", [False, True])
def test_an_epoch_takes_as_long_as_the_real_parts_take(
    directions: tuple[int, ...], prices: Prices, snapshots: bool
) -> None:
    # With several center blocks, a real task takes them in the order in which they can be trained; here it is fixed.
    for blocks, tasks, spread, tolerance in (
        (2, 2, 0.5, 1e-9), (7, 7, 0.5, 1e-9), (24, 24, 0.5, 1e-9),
        (5, 1, 0.1, 0.02), (8, 2, 0.1, 0.02), (9, 3, 0.1, 0.02),
    ):  # fmt: skip
        ring, machines = Ring(blocks, blocks // 3, directions), Machines.of(blocks, tasks, 99)
        seconds = random_seconds(blocks, len(directions), spread)
        sizes = np.full(blocks, float(BYTES))
        found = simulate(ring, machines, seconds, np.arange(blocks), sizes, prices, snapshots)
        expected = driven(ring, machines, seconds, prices, snapshots)
        assert (found.trained, found.ended) == pytest.approx(expected, rel=tolerance), (blocks, tasks)
        assert found.busy.sum() == pytest.approx(sum(float(each.sum()) for each in seconds))


def test_each_machine_sends_a_block_per_round_and_its_part_of_the_model_at_the_end() -> None:
    blocks, sweeps = 12, 3
    ring, machines = Ring(blocks, 0, (1, -1, 1)), Machines.of(blocks, 12, 4)
    ones = [np.ones((1, 1))] * sweeps
    found = simulate(ring, machines, ones, np.zeros(blocks, np.int64), np.full(blocks, 100.0), Prices(), False)
    assert found.sent.tolist() == [(sweeps * blocks - 1) * 100 + 2 * 4 * 100] * 3
    kept = simulate(ring, machines, ones, np.zeros(blocks, np.int64), np.full(blocks, 100.0), Prices(), True)
    assert (kept.sent - found.sent).tolist() == [2 * 2 * 4 * 100] * 3


def test_a_slow_card_holds_up_only_those_that_pass_blocks_between_machines() -> None:
    blocks = 8
    ring, ones = Ring(blocks, 0, (1,)), [np.ones((1, 1))]
    kinds, sizes = np.zeros(blocks, np.int64), np.full(blocks, 100.0)
    slow = Prices(network=0.05)  # 5 s per block, of which a round takes 1
    alone = simulate(ring, Machines.of(blocks, 8, 8), ones, kinds, sizes, slow, False)
    apart = simulate(ring, Machines.of(blocks, 8, 4), ones, kinds, sizes, slow, False)
    assert alone.trained == blocks
    # The block that a machine's last task needs in round n left another one's first task in round n - 1.
    assert apart.trained > blocks + 5


def test_buckets_that_differ_take_as_long_in_the_mean_and_make_tasks_wait() -> None:
    blocks = 64
    ring, kinds, sizes = Ring(blocks, 0, (1, 1)), np.zeros(blocks, np.int64), np.zeros(blocks)
    found = simulate(ring, Machines.of(blocks, 64, 16), [np.ones((1, 1))] * 2, kinds, sizes, Prices(), False, 0.1)
    assert found.busy.mean() == pytest.approx(2 * blocks, rel=0.01)
    assert found.trained > 1.05 * found.busy.mean()
