"""A task of an epoch of `blocks`: takes its pairs, trains its buckets, passes context blocks on."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark import BarrierTaskContext, Broadcast
from threadpoolctl import threadpool_limits

from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import Node
from spark_w2v.exchange.plan import DRIVER, ExchangeError, ExchangePlan
from spark_w2v.exchange.task import Bucket, TaskPart
from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.kernel import SgdParams, count_center_pairs, train_pairs
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.sampling import KERNEL, generator
from spark_w2v.skipgram.schedule import done_before, learning_rate
from spark_w2v.spark.buckets import RunSpec, Spool, keep_modules, read_records
from spark_w2v.spark.local_disk import local_directory
from spark_w2v.types import Float32Array, Float64Array

RESULT = "result string"
WILDCARDS = ("", "0.0.0.0", "::", "[::]")  # these mean all addresses of a machine; this package listens on one

TaskFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Attempt:
    """How the tasks of one attempt find the driver and each other, sent to all of them in their closure.

    Args:
        exchange: plan of the exchange of blocks.
        driver: host and port of the driver's part.
        ports: first and last port that a task may listen on.
        secret: proves that two processes belong to this attempt; it is sent in no other way.
    """

    exchange: ExchangePlan
    driver: tuple[str, int]
    ports: tuple[int, int]
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class TaskSpec(Attempt):
    """Specification of one attempt at an epoch.

    Args:
        epoch: from 0.
        edges: (S + 1,) edges of the epoch's sweeps.
        epochs: number of epochs of the run.
        rates: first and last learning rate of the run.
    """

    epoch: int
    edges: Float64Array
    epochs: int
    rates: tuple[float, float]

    def rate(self, number: int) -> float:
        """Return the learning rate before a round, from the share of the run that is scheduled before it."""
        done = done_before(number, self.exchange.ring.blocks, self.edges)
        return learning_rate(*self.rates, (self.epoch + done) / self.epochs)


def train_with(run_spec: "Broadcast[RunSpec]", spec: TaskSpec) -> TaskFunction:
    """Return the function of a barrier stage: it takes RECORDS and returns one row of RESULT per task."""

    def train(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        keep_modules()
        task, host = own_place()
        yield result_of(task, run_task(run_spec.value, spec, task, host, batches))

    return train


def own_place() -> tuple[int, str]:
    """Return the number of this task of a barrier stage, and the address of this machine that Spark uses."""
    context = BarrierTaskContext.get()
    task = context.partitionId()
    return task, own_host(context.getTaskInfos()[task].address.rpartition(":")[0])


def result_of(task: int, failure: str | None) -> pa.RecordBatch:
    """Return the row of RESULT that EpochJob reads."""
    return pa.RecordBatch.from_pydict({"result": [json.dumps({"task": task, "failure": failure})]})


def own_host(seen: str) -> str:
    """Return the address of this machine that Spark uses.

    Args:
        seen: address of this executor as the driver sees it. It differs from the result where addresses are translated
            on the way, or where a machine has several and SPARK_LOCAL_IP says which to use.
    """
    given = os.environ.get("SPARK_LOCAL_IP", "")
    return (seen if given in WILDCARDS else given).strip("[]")


def run_task(run_spec: RunSpec, spec: TaskSpec, task: int, host: str, batches: Iterator[pa.RecordBatch]) -> str | None:
    """Take part in an epoch. Return why it failed, or None if all is done.

    Args:
        host: the address of this machine that Spark uses.

    Raises:
        ExchangeError: as of `taking_part`.
    """
    with taking_part(spec, task, host) as (node, part):
        _Worker(run_spec, spec, part, node, host).run(batches)
    return part.failure


@contextlib.contextmanager
def taking_part(attempt: Attempt, task: int, host: str) -> Iterator[tuple[Node, TaskPart]]:
    """Be one of the tasks of an attempt, until the part has ended.

    Raises:
        ExchangeError: why it failed, where the driver has not heard of it: other tasks wait for this one, and Spark
            ends them.
    """
    node = Node(attempt.secret, listen(host, attempt.ports))
    part = TaskPart(attempt.exchange, task, host, node.port, node.dial)
    node.start(part)
    try:
        node.dial(DRIVER, *attempt.driver)
        yield node, part
        if part.failure is not None and not part.has_met_driver:
            raise ExchangeError(part.failure)
    except BaseException as error:
        with part.changed:
            part.fail(f"{type(error).__name__}: {error}")
        raise
    finally:
        node.close()


class _Worker:
    """State of one task while it trains."""

    def __init__(self, run_spec: RunSpec, spec: TaskSpec, part: TaskPart, node: Node, host: str) -> None:
        self._run_spec, self._spec, self._part, self._node = run_spec, spec, part, node
        self._blocks = run_spec.sampler.blocks
        self._codec = PairCodec.of(self._blocks, spec.edges.size - 1)
        self._noise: dict[int, BlockNoise] = {}  # by context block
        # By center block: a sweep, and the pairs that its centers have there.
        self._center_pairs: dict[int, tuple[int, Float32Array]] = {}
        self._stats: dict[str, Any] = {"host": host, "take_seconds": 0.0, "kernel_seconds": 0.0, "wait_seconds": 0.0}

    def run(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Take the pairs, and train until the driver has all that it asked for."""
        part = self._part
        begun = time.monotonic()
        centers, count = part.plan.centers(part.task), self._blocks.count
        sweeps = self._spec.edges.size - 1
        spool = Spool(sweeps * len(centers) * count, self._codec, local_directory(part.task))
        try:
            for batch in batches:
                if part.failure is not None:
                    return
                with part.working():
                    for record in read_records(batch, self._codec.stored):
                        spool.add(record)
            with part.working():
                spool.flush()
            self._stats |= {
                "words": spool.words,
                "pairs": spool.pairs,
                "draw_seconds": round(spool.draw_seconds, 3),
                "take_seconds": time.monotonic() - begun,
            }
            with part.changed:
                part.total, part.stats = spool.pairs, self._stats
            with threadpool_limits(1, "blas"):
                while (bucket := self._next()) is not None:
                    with part.working():
                        self._train(bucket, spool, centers)
        finally:
            spool.close()

    def _next(self) -> Bucket | None:
        """Wait for the next bucket and return it; None at the end of the attempt."""
        part, begun, bucket = self._part, time.monotonic(), None
        with part.changed:
            # After a failure others take no block of this task, which may have buckets left, and holds a slot.
            while part.failure is None and (bucket := part.next_bucket()) is None and not part.has_ended:
                part.changed.wait()
        self._stats["wait_seconds"] += time.monotonic() - begun
        return bucket

    def _train(self, bucket: Bucket, spool: Spool, centers: range) -> None:
        part, spec, count = self._part, self._spec, self._blocks.count
        number, center, context = bucket.number, bucket.center_block, bucket.context_block
        sweep = number // count
        begun = time.monotonic()
        first = (sweep * len(centers) + center - centers.start) * count
        if count > 1 and self._center_pairs.get(center, (-1,))[0] != sweep:
            buckets = (spool.bucket(number) for number in range(first, first + count))
            self._center_pairs[center] = sweep, count_center_pairs(buckets, self._codec, len(bucket.center))
        center_pairs = self._center_pairs[center][1] if count > 1 else None
        pairs = spool.bucket(first + context)
        if pairs.size:
            pairs = self._codec.sort(pairs, len(bucket.center), len(bucket.context))
        if context not in self._noise:
            self._noise[context] = BlockNoise.of(self._blocks.of(self._run_spec.noise, context), part.plan.dimensions)
        ready = time.monotonic()
        params = SgdParams(self._run_spec.negatives, self._run_spec.damping, spec.rate(number), spec.rate(number + 1))
        rng = generator(self._run_spec.sampler.seed, KERNEL, spec.epoch, (sweep * count + center) * count + context)
        rows = bucket.center, bucket.context
        stats = train_pairs(*rows, pairs, self._codec, self._noise[context], params, rng, center_pairs=center_pairs)
        self._stats["take_seconds"] += ready - begun
        self._stats["kernel_seconds"] += time.monotonic() - ready
        peers = [size for source, size in list(self._node.received.items()) if source != DRIVER]
        self._stats["task_bytes"] = sum(peers)
        with part.changed:
            part.trained(bucket, float(stats.loss), stats.loss_pairs, stats.pairs)
