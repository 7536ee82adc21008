"""Resources of Spark that an epoch uses: executors, task slots, addresses."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import SparkContext

from spark_w2v.errors import SparkLostError, UserError
from spark_w2v.exchange.listener import listen
from spark_w2v.exchange.node import PENDING
from spark_w2v.exchange.plan import ExchangeError
from spark_w2v.spark.block_task import WILDCARDS
from spark_w2v.spark.defaults import is_local_master
from spark_w2v.text.messages import counted

if TYPE_CHECKING:
    from spark_w2v.config import Config

ENCRYPTING = (
    "spark.network.crypto.enabled",
    "spark.authenticate.enableSaslEncryption",
    "spark.ssl.enabled",
    "spark.ssl.rpc.enabled",
    "spark.io.encryption.enabled",
)
# Seconds from the start of a session in which executors may be on their way, without another one, between two looks.
STARTING, SETTLED, PAUSE = 60.0, 5.0, 0.2
OTHER_FILES = 256  # that the driver has open besides its connections with tasks


@dataclass(frozen=True)
class ExchangeSettings:
    """How the processes of a training reach each other; nothing here changes a bit of the result.

    Args:
        tasks: T wanted; None for as many as there are slots and blocks.
        ports: first and last port that the driver and the tasks may listen on; (0, 0) leaves the choice to the system.
        timeout: seconds without a word after which a process counts as lost.
        plain: whether parameters may travel unencrypted where Spark's own traffic is encrypted.
    """

    tasks: int | None = None
    ports: tuple[int, int] = (0, 0)
    timeout: float = 60.0
    plain: bool = False


def exchange_of(settings: "Config") -> ExchangeSettings:
    """Return how the processes of `blocks` reach each other."""
    e = settings.exchange
    return ExchangeSettings(None if e.tasks == "auto" else e.tasks, (e.first_port, e.last_port), e.timeout, e.plain)


def check_spark(context: SparkContext, exchange: ExchangeSettings) -> None:
    """Refuse a Spark whose settings do not go with an epoch of `blocks`, or a driver that cannot listen.

    Raises:
        UserError: one sentence.
    """
    if _is_set(context, "spark.dynamicAllocation.enabled"):
        raise UserError(
            "spark.dynamicAllocation.enabled is true, which Spark refuses together with the barrier stages of scheme "
            "blocks; set it to false, and the number of executors with spark.executor.instances, or on a standalone "
            "cluster with spark.cores.max."
        )
    encrypted = [key for key in ENCRYPTING if _is_set(context, key)]
    if encrypted and not exchange.plain:
        raise UserError(
            f"{encrypted[0]} is true, and what the tasks of scheme blocks pass to each other and keep on their local "
            'disks would not be encrypted; set exchange.plain = true to allow it, or training.scheme = "replicas", '
            "whose traffic is Spark's alone."
        )
    try:
        listen(driver_host(context)[0], exchange.ports).close()
    except ExchangeError as error:
        raise UserError(str(error)) from None


def check_local_disks(context: SparkContext, exchange: ExchangeSettings, group_by: str) -> None:
    """Refuse events where Spark's files on local disks are encrypted, and rows that are sorted there would not be.

    Args:
        group_by: corpus.group_by.

    Raises:
        UserError: one sentence.
    """
    if group_by and _is_set(context, "spark.io.encryption.enabled") and not exchange.plain:
        raise UserError(
            "spark.io.encryption.enabled is true, and rows that corpus.group_by joins are not encrypted where they are "
            "sorted on local disks; set exchange.plain = true to allow it, or give each sentence as an array."
        )


def _is_set(context: SparkContext, key: str) -> bool:
    return (context.getConf().get(key, "false") or "").strip().lower() == "true"


def check_slots(context: SparkContext, exchange: ExchangeSettings) -> None:
    """Refuse a number of tasks that Spark has no slots for, once its executors are there.

    Raises:
        UserError: one sentence.
    """
    if exchange.tasks is not None and (count := settled_slots(context, exchange.tasks)) < exchange.tasks:
        raise UserError(
            f"exchange.tasks is {exchange.tasks}, and Spark has {count} slots (cores of its executors / "
            "spark.task.cpus); lower it, or give Spark more: spark.executor.instances, spark.executor.cores, or on a "
            "standalone cluster spark.cores.max."
        )


def planned_tasks(context: SparkContext, exchange: ExchangeSettings, blocks: int) -> int:
    """Return how many tasks will train at the same time.

    Raises:
        UserError: they need more ports or more open files than they may have.
    """
    count, executors = slots(context)
    tasks = min(blocks, max(1, count), exchange.tasks or blocks)
    first, last = exchange.ports
    # Each listens on a port. The driver of a cluster may be on a machine of its own, and so may each executor.
    needed = tasks + 1 if is_local_mode(context) else math.ceil(tasks / executors)
    if last and last - first + 1 < needed:
        raise UserError(
            f"exchange.first_port = {first} and exchange.last_port = {last} are a range of {last - first + 1:,}, and "
            f"with {counted(tasks, 'task')} a machine needs {needed:,} ports; raise exchange.last_port, or "
            "set both to 0 for any free ports."
        )
    allow_connections(tasks)
    return tasks


def allow_connections(tasks: int) -> None:
    """Raise this process's limit of open files where the driver could not have a connection with every task.

    Raises:
        UserError: it may not be raised so far.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * tasks + PENDING + OTHER_FILES  # one of each task, and as many strangers as the exchange keeps
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"the driver has a connection with each of {tasks:,} tasks, needs {needed:,} open files and may have "
            f"{hard:,}; raise its limit (ulimit -n), or lower training.partitions or exchange.tasks."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def slots(context: SparkContext) -> tuple[int, int]:
    """How many tasks Spark can run at the same time now, and on how many executors."""
    scala = context._jsc.sc()
    count = int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))
    return count, max(1, int(scala.getExecutorMemoryStatus().size()) - 1)  # the driver is among them


def auto_partitions(context: SparkContext, exchange: ExchangeSettings) -> int:
    """How many partitions a training has where its configuration leaves that to Spark's slots.

    Raises:
        UserError: with dynamic allocation there need not be any yet.
        SparkLostError: there are no executors.
    """
    if not (count := settled_slots(context)):
        check_spark(context, exchange)
        raise SparkLostError(
            'Spark has no executors, whose slots training.partitions = "auto" is the number of: give a number, or give '
            "the cluster room for them"
        )
    return count


def settled_slots(context: SparkContext, enough: float = math.inf) -> int:
    """How many tasks Spark can run at the same time, once its executors are there; 0 if there are none.

    In the first minute of a session it waits until there are as many as the settings ask for, or `enough`, or until no
    more have come for SETTLED seconds.
    """
    conf = context.getConf()
    cores, executors = conf.get("spark.cores.max"), conf.get("spark.executor.instances")
    of_each = int(conf.get("spark.executor.cores", "1") or 1)
    wanted = int(cores) if cores else int(executors) * of_each if executors else math.inf
    wanted /= float(conf.get("spark.task.cpus", "1") or 1)  # which may be a part of one
    begun = since = time.monotonic()
    count = slots(context)[0]
    age = max(0.0, time.time() - context.startTime / 1000)  # of the session, if the clock has not been set back
    while not is_local_mode(context) and age + time.monotonic() - begun < STARTING:
        if count and (count >= min(wanted, enough) or time.monotonic() - since >= SETTLED):
            break
        time.sleep(PAUSE)
        if (now := slots(context)[0]) != count:
            count, since = now, time.monotonic()
    return count


def running_tasks(context: SparkContext) -> int:
    """How many slots are taken: of an executor that does not answer too."""
    counts = context._jsc.sc().taskScheduler().runningTasksByExecutors().values().iterator()
    found = 0
    while counts.hasNext():
        found += int(counts.next())
    return found


def tasks_left(context: SparkContext, tags: Iterable[str]) -> int:
    """How many tasks of jobs with these tags have not ended, though their jobs may have: of a lost executor, too."""
    tracker = context.statusTracker()
    of_tag = context._jsc.sc().statusTracker().getJobIdsForTag
    jobs = [tracker.getJobInfo(job) for tag in tags for job in of_tag(tag)]
    stages = [tracker.getStageInfo(stage) for job in jobs if job is not None for stage in job.stageIds]
    return sum(stage.numActiveTasks for stage in stages if stage is not None)


def tasks_of(context: SparkContext) -> str:
    """Return how many tasks of the stages that run now have ended: "12 of 40 tasks"; empty where none runs."""
    tracker = context.statusTracker()
    found = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
    stages = [stage for stage in found if stage is not None]
    if not stages:
        return ""
    return f"{sum(s.numCompletedTasks for s in stages):,} of {sum(s.numTasks for s in stages):,} tasks"


def is_local_mode(context: SparkContext) -> bool:
    """Whether tasks see the driver's disks for certain: executors of local mode are threads of the driver's JVM."""
    return is_local_master(context.master or "")


def driver_host(context: SparkContext) -> tuple[str, str]:
    """The address that the driver's part listens on, and the one that tasks connect to."""
    conf = context.getConf()
    # Spark writes addresses of IPv6 in brackets.
    host = (conf.get("spark.driver.host", "") or "127.0.0.1").strip("[]")
    bind = conf.get("spark.driver.bindAddress", "") or host
    return (host if bind in WILDCARDS else bind.strip("[]")), host
