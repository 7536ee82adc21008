"""An epoch of the ring on machines that nobody here has: when each bucket is trained, and what it waits for.

The flow of data is that of `spark_w2v/exchange/task.py`: a bucket is trained as soon as its context block is there,
which is then passed on while the next one is trained; at most AHEAD blocks wait at a neighbour; what a sweep ends with
goes to the driver. A task takes its center blocks in a fixed order, the one whose context block leaves first. All tasks
make a step at the same time here, so that 512 of them take a second.

B blocks, T tasks, S sweeps, K kinds of blocks.
"""

from typing import NamedTuple

import numpy as np

from spark_w2v.exchange.plan import AHEAD
from spark_w2v.skipgram.schedule import Ring
from spark_w2v.types import Float64Array, Int64Array


class Prices(NamedTuple):
    """Seconds.

    Args:
        message: until a message has arrived, besides its bytes.
        memory: per byte between tasks of one machine.
        network: per byte through a network card, in each direction.
        driver: per byte into the driver.
    """

    message: float = 0.0
    memory: float = 0.0
    network: float = 0.0
    driver: float = 0.0


class Machines(NamedTuple):
    """Who has what.

    Args:
        ends: (T + 1,) task t owns center blocks ends[t] to ends[t + 1].
        machine: (T,) of each task; the driver is on another one.
    """

    ends: Int64Array
    machine: Int64Array

    @classmethod
    def of(cls, blocks: int, tasks: int, cores: int) -> "Machines":
        """Tasks on machines with so many cores, neighbouring center blocks on each."""
        return cls(np.arange(tasks + 1) * blocks // tasks, np.arange(tasks) // cores)


class Epoch(NamedTuple):
    """Results of a simulation, in seconds from when all tasks have their first blocks.

    Args:
        trained: the last bucket has been trained.
        ended: the driver has all parameters.
        busy: (T,) of each task.
        sent: (M,) bytes through the network card of each machine, outwards.
    """

    trained: float
    ended: float
    busy: Float64Array
    sent: Float64Array


def simulate(
    ring: Ring,
    machines: Machines,
    seconds: list[Float64Array],
    kinds: Int64Array,
    sizes: Float64Array,
    prices: Prices,
    snapshots: bool,
    spread: float = 0.0,
    seed: int = 0,
) -> Epoch:
    """Run an epoch.

    Args:
        seconds: (S,) of (K, K), of a bucket by the kinds of its center and its context block.
        kinds: (B,) kind of each block.
        sizes: (B,) bytes of each block of a matrix.
        snapshots: the driver gets the parameters after each sweep, not only after the last.
        spread: how much buckets of the same kinds differ, as the standard deviation of the logarithm.
    """
    rng = np.random.default_rng(seed)
    blocks, tasks = ring.blocks, machines.machine.size
    ends, machine = machines.ends, machines.machine
    own = np.diff(ends)
    free, busy, taken = np.zeros(tasks), np.zeros(tasks), np.full(tasks, -np.inf)
    arrived = np.zeros(blocks)
    count = int(machine.max()) + 1
    card_out, card_in, sent = np.zeros(count), np.zeros(count), np.zeros(count)
    acknowledged, driver_free = np.zeros(tasks), 0.0
    numbers = np.arange(tasks)
    previous = 0
    assert AHEAD == 2, "the rule for blocks that wait at a neighbour is for two of them"
    for sweep, direction in enumerate(ring.directions):
        to = (numbers - direction) % tasks
        crosses = machine[to] != machine
        kept = snapshots or sweep == len(ring.directions) - 1
        for step in range(blocks):
            number = sweep * blocks + step
            offset = ring.start + direction * step
            ends_sweep = kept and step == blocks - 1
            begun = np.zeros(tasks)
            given: list[tuple[Int64Array, Float64Array, Int64Array]] = []
            for place in range(int(own.max())):
                mine = numbers[place < own]
                center = ends[mine] + place if direction > 0 else ends[mine + 1] - 1 - place
                context = (center + offset) % blocks
                start = np.maximum(free[mine], arrived[context])
                leaves = place == 0 and tasks > 1 and number < ring.rounds - 1
                if leaves and previous == direction:
                    start = np.maximum(start, taken[to] + prices.message)
                if ends_sweep:
                    start = np.maximum(start, acknowledged[mine])
                takes = seconds[sweep][kinds[center], kinds[context]]
                if spread:
                    takes = takes * np.exp(rng.normal(-(spread**2) / 2, spread, takes.size))
                end = start + takes
                free[mine] = end
                busy[mine] += takes
                begun[mine] = start
                arrived[context] = end
                if leaves:
                    here = ~crosses
                    arrived[context[here]] += prices.message + sizes[context[here]] * prices.memory
                    # One block leaves a machine in a round, and one comes.
                    out, back = machine[crosses], machine[to[crosses]]
                    size = sizes[context[crosses]]
                    begins = np.maximum(end[crosses], np.maximum(card_out[out], card_in[back]))
                    card_out[out] = card_in[back] = begins + size * prices.network
                    arrived[context[crosses]] = card_in[back] + prices.message
                    np.add.at(sent, out, size)
                if ends_sweep:
                    given.append((mine, end, (sizes[center] + sizes[context]).astype(np.int64)))
            taken, previous = begun, direction
            if ends_sweep:
                who, when, size_of = (np.concatenate([some[column] for some in given]) for column in range(3))
                order = np.argsort(when, kind="stable")
                who, when, size_of = who[order], when[order], size_of[order]
                work = np.cumsum(size_of * prices.driver)
                when = np.maximum(when, driver_free)
                done = work + np.maximum.accumulate(when - (work - size_of * prices.driver))
                driver_free = float(done[-1])
                acknowledged = np.zeros(tasks)
                np.maximum.at(acknowledged, who, done + prices.message)
                of_machine = np.bincount(machine[who], size_of, count)
                sent += of_machine
                if sweep < len(ring.directions) - 1:
                    card_out = np.maximum(card_out, float(when[0])) + of_machine * prices.network
    return Epoch(float(free.max()), max(driver_free, float(free.max())), busy, sent)
