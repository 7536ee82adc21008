"""Whether the driver and the tasks of `blocks` reach each other, found out before the text is read.

A barrier stage whose tasks connect as those of an epoch do, and end. T tasks.
"""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from spark_w2v.errors import SparkLostError, UserError
from spark_w2v.exchange.driver import JOINING, DriverPart
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import UNREACHABLE, Node
from spark_w2v.exchange.plan import ExchangeError, ExchangePlan, share_blocks
from spark_w2v.skipgram.schedule import Ring
from spark_w2v.spark.block_epochs import warn_of_strangers
from spark_w2v.spark.block_task import RESULT, Attempt, TaskFunction, own_place, result_of, taking_part
from spark_w2v.spark.epoch_job import EpochJob
from spark_w2v.spark.java_errors import CANCELLED
from spark_w2v.spark.slots import ExchangeSettings, allow_connections, driver_host, running_tasks, slots
from spark_w2v.types import Float32Array

if TYPE_CHECKING:
    import pyarrow as pa

    from spark_w2v.spark.session import SparkSession

log = logging.getLogger("spark_w2v")

LOOK = 0.5  # seconds between looks at the job, whose end tells nobody
LONGEST = 3  # timeouts, and JOINING, in which the first task starts and reaches the driver or ends
LATER = "whether tasks reach each other is seen when they train: %s"


class _NoRows:
    """The driver's parameters, where none are exchanged."""

    def read(self, kind: bytes, block: int) -> Float32Array:
        return np.empty(0, np.float32)

    def write(self, sweep: int, kind: bytes, block: int) -> Float32Array:
        return np.empty(0, np.float32)


def check_reach(session: "SparkSession", exchange: ExchangeSettings, blocks: int) -> None:
    """Refuse a cluster whose tasks do not reach the driver or each other, as far as it has executors now.

    Whatever else goes wrong, such as an executor that is lost, or no free slots for `exchange.timeout`, is left to the
    training, which tries again.

    Args:
        blocks: B.

    Raises:
        UserError: which address and port cannot be reached, and which setting to change; or the driver may not have
            as many open files as there are tasks.
    """
    context = session.sparkContext
    count, executors = slots(context)
    tasks = min(blocks, count, exchange.tasks or blocks)
    if not tasks:
        return
    plan = ExchangePlan(
        Ring(tasks, 0, ()), 0, (0,) * tasks, 0, share_blocks(tasks, tasks, executors), False, exchange.timeout
    )
    allow_connections(tasks)
    bind, host = driver_host(context)
    secret = os.urandom(32)
    with contextlib.ExitStack() as at_the_end:
        try:
            listener = at_the_end.enter_context(listen(bind, exchange.ports))
        except ExchangeError as error:
            log.info(LATER, str(error).rstrip("."))
            return
        node = Node(secret, listener)
        part = DriverPart(plan, _NoRows())
        at_the_end.callback(warn_of_strangers, node, part)
        at_the_end.callback(node.close)
        frame = session.range(tasks, numPartitions=tasks).mapInArrow(
            meet_in(Attempt(plan, (host, node.port), exchange.ports, secret)), RESULT, barrier=True
        )
        job = EpochJob(
            context, frame, f"connections {uuid.uuid4().hex}", f"connections of {tasks} tasks", exchange.timeout
        )
        at_the_end.callback(job.end)
        node.start(part)
        job.start()
        failure = _failure(part, job, lambda: running_tasks(context) > 0)
    if failure is not None and UNREACHABLE in failure:
        raise UserError(f"{failure.rstrip('.')}.")
    if failure is not None:
        log.info(LATER, failure.rstrip("."))


def _failure(part: DriverPart, job: EpochJob, are_running: Callable[[], bool]) -> str | None:
    """Wait until all have met; why they have not, or None.

    Args:
        are_running: whether Spark runs tasks, of the job or of another, such as the one that starts Python workers.

    Raises:
        SparkLostError: the job was cancelled.
    """
    begun, timeout, have_started = time.monotonic(), part.plan.timeout, False
    while True:
        with part.changed:
            if not part.has_ended and not job.ended:
                part.changed.wait(LOOK)
            failure, is_over, joined = part.failure, part.is_over, part.tasks_joined
            if part.has_ended or job.ended:
                break
        if joined:
            continue  # and within a timeout each, and JOINING, all others join, and all meet or end
        # A task that cannot reach the driver says so at its end, a timeout after it has started. It starts when all
        # slots are free.
        have_started = have_started or are_running()
        waited = time.monotonic() - begun
        if waited > (LONGEST * timeout + JOINING if have_started else timeout):
            return f"none of {part.plan.tasks} tasks had come after {waited:.0f} s"
    # Tasks that have joined were told to end; one that has not may still try.
    job.wait(JOINING)
    if job.was_cancelled:
        raise SparkLostError(CANCELLED)
    if is_over:
        return None
    said = [reason for reason in [failure, *job.failures] if reason is not None and UNREACHABLE in reason]
    if said:
        return said[0]
    return job.reason() if failure is None else job.reason_behind(failure)


def meet_in(attempt: Attempt) -> TaskFunction:
    """Return the function of a barrier stage whose tasks meet, and return one row of RESULT each."""

    def meet(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        for _ in batches:
            pass
        task, host = own_place()
        try:
            with taking_part(attempt, task, host) as (_, part), part.changed:
                while not part.has_ended:
                    part.changed.wait()
            failure = part.failure
        except ExchangeError as error:
            failure = str(error)  # returned, as Spark would end the other tasks of the stage, and repeat it
        yield result_of(task, failure)

    return meet
