"""Spark sessions and their settings."""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import RDD, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame
from pyspark.sql import SparkSession as SparkSession  # for those who may not import PySpark

import spark_w2v
from spark_w2v.errors import UserError
from spark_w2v.spark import defaults, inputs, workers
from spark_w2v.spark.java_errors import start_error
from spark_w2v.spark.slots import PAUSE, STARTING, is_local_mode, slots

log = logging.getLogger("spark_w2v")

# Splits of this many bytes, for files that can be split. Part of a segment's identity, as SEGMENT_WORDS is.
SPLIT_BYTES = 16 << 20

SHUFFLE_PARTITIONS, LEAST_PARTITIONS = "spark.sql.shuffle.partitions", 8

# Rows that reach Python at a time, unless they have more bytes than MOST_BYTES says.
BATCH_ROWS, MOST_BYTES = 20_000, "spark.sql.execution.arrow.maxBytesPerBatch"

IDLE, KILLS_IDLE = (f"spark.sql.execution.pyspark.udf.{name}" for name in ("idleTimeoutSeconds", "killOnIdleTimeout"))

LISTING_TASKS = 16  # at most, that list files given one by one

OF_EPOCHS = {"spark.sql.classic.shuffleDependency.fileCleanup.enabled": "true", "spark.sql.adaptive.enabled": "false"}

SOCKETS = "spark.python.unix.domain.socket"
WORKERS = "workers"  # group of the job that starts Python workers
TOGETHER = 1.0  # seconds without another executor after which it starts
_creating = threading.Lock()
STOPPING = 10.0  # seconds to wait for it before Spark is stopped


def _create_session(spark: SparkSession, java: Any) -> SparkSession:
    """PySpark's side of a session of the JVM; `RDD.toDF` stays that of the caller."""
    with _creating:
        # Every new session takes it over, for the whole process: what the caller makes with it would be of ours, and
        # would make ours the active one.
        to_frame = RDD.toDF
        try:
            return SparkSession(spark.sparkContext, java)
        finally:
            RDD.toDF = to_frame  # type: ignore[method-assign]


def reading_session(spark: SparkSession) -> SparkSession:
    session = _create_session(spark, spark._jsparkSession.newSession())
    # By default the size of a split depends on the number of cores (bytes / spark.default.parallelism), and so would
    # every segment, whatever is drawn for it, and in the end the embeddings.
    session.conf.set("spark.sql.files.maxPartitionBytes", SPLIT_BYTES)
    session.conf.set("spark.sql.files.minPartitionNum", 1)
    session.conf.set("spark.sql.files.openCostInBytes", inputs.OPEN_BYTES)
    session.conf.unset("spark.sql.files.maxPartitionNum")
    # Where files are given one by one, Spark lists them with a task for each, or in 10,000 tasks.
    session.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", LISTING_TASKS)
    # A file that ends too early must not pass for one that ends there.
    session.conf.set("spark.sql.files.ignoreCorruptFiles", "false")
    session.conf.set("spark.sql.files.ignoreMissingFiles", "false")
    # As by default; what follows has other names of columns in mind and other files.
    session.conf.set("spark.sql.parser.quotedRegexColumnNames", "false")
    session.conf.set("spark.sql.files.archive.reader.enabled", "false")
    session.conf.set("spark.sql.parquet.mergeSchema", "false")
    session.conf.set("spark.sql.orc.mergeSchema", "false")
    session.conf.set("spark.sql.variant.allowDuplicateKeys", "false")
    session.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "true")  # or hour=10 is before hour=9
    session.conf.set("spark.sql.legacy.timeParserPolicy", "CORRECTED")  # or .5 of a second in CSV is 5 ms
    session.conf.unset(
        "spark.sql.sources.useV1SourceList"
    )  # version 2 of the readers does not say what file a row is of
    # Times in nanoseconds, which pandas writes, are numbers. Spark refuses a file that has a column of them otherwise.
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    # Of CSV, lines with too few fields pass for whole ones where only some are parsed.
    session.conf.set("spark.sql.csv.parser.columnPruning.enabled", "false")
    # A job for each stage, and planning in between, which took 0.6 s of a short run. What it decides is decided below.
    session.conf.set("spark.sql.adaptive.enabled", "false")
    if not spark.sparkContext.getConf().contains(SHUFFLE_PARTITIONS):
        # 200 by default: of a small corpus on a small cluster most would be empty tasks, of a large one too few.
        session.conf.set(SHUFFLE_PARTITIONS, max(LEAST_PARTITIONS, 2 * slots(spark.sparkContext)[0]))
    _rely_on(session)
    return session


def _rely_on(session: SparkSession) -> None:
    """Set what decides in which form, and how many at a time, rows reach Python."""
    session.conf.set("spark.sql.retainGroupColumns", "true")
    session.conf.set("spark.sql.execution.arrow.useLargeVarTypes", "false")
    session.conf.set("spark.sql.execution.arrow.compression.codec", "none")
    # Memory of the JVM: with a thousand times as many rows at a time, none is enough.
    session.conf.set("spark.sql.inMemoryColumnarStorage.batchSize", 10_000)
    session.conf.set("spark.sql.parquet.columnarReaderBatchSize", 4096)
    # Memory of a worker: some ten times a batch.
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", BATCH_ROWS)
    session.conf.set(MOST_BYTES, 8 << 20)
    # A task that trains gives one row, at its end: a long wait for it is no sign that its worker hangs.
    session.conf.set(IDLE, "0")
    session.conf.set(KILLS_IDLE, "false")


def own_session(spark: SparkSession) -> SparkSession:
    """A session with our settings and, but for these, the caller's, which stay as they are."""
    # A new session would forget what the caller set while it ran. PySpark has no name for a clone.
    session = _create_session(spark, spark._jsparkSession.cloneSession())
    _rely_on(session)
    return session


def in_own_session(rows: DataFrame) -> DataFrame:
    """The same rows in a session with our settings; how they are read stays the caller's."""
    return _in_session(rows, own_session(rows.sparkSession))


def _in_session(rows: DataFrame, session: SparkSession) -> DataFrame:
    plan = rows._jdf.queryExecution().analyzed()
    assert session._jvm is not None, "a session has its JVM"
    return DataFrame(session._jvm.org.apache.spark.sql.classic.Dataset.ofRows(session._jsparkSession, plan), session)


def check_frame(rows: Any, what: str) -> None:
    """Raise a UserError for anything but a DataFrame of Spark, and for one of a session that was stopped."""
    if not isinstance(rows, DataFrame):
        kind = f"{type(rows).__module__}.{type(rows).__qualname__}"
        raise UserError(f"{what}: is a {kind}, not a DataFrame of Spark; spark.createDataFrame makes one of pandas.")
    check_running(rows.sparkSession, f"{what}: is a DataFrame of a session")


def check_batch(rows: Any, what: str) -> None:
    """Do what check_frame does, and raise a UserError for a stream, too."""
    check_frame(rows, what)
    if rows.isStreaming:
        raise UserError(
            f"{what}: is a stream, which has no end; give a DataFrame of spark.read, or write it to a table."
        )


def check_running(session: SparkSession, what: str) -> None:
    """Refuse a session that was stopped.

    Args:
        what: it is, for messages.

    Raises:
        UserError: it was.
    """
    if session.sparkContext._jsc is None:
        raise UserError(f"{what} that was stopped; give one that runs.")


def create_frame(session: SparkSession, rows: Any, schema: Any = None) -> DataFrame:
    """Create a DataFrame in a session of ours, which does not become the active one of its thread, nor of PySpark."""
    # createDataFrame makes its session the active one: of this thread in the JVM, and of all threads in PySpark, which
    # has no public name for it. One at a time, or each of two trainings would restore the session of the other.
    java = SparkSession._get_j_spark_session_class(session._jvm)
    with _creating:
        active, of_thread = SparkSession._activeSession, java.getActiveSession()
        try:
            return session.createDataFrame(rows, schema)
        finally:
            with contextlib.suppress(Exception):  # the JVM may be gone, and what went wrong before is what counts
                if SparkSession._activeSession is session:  # and not what another thread has made active meanwhile
                    SparkSession._activeSession = active
                if of_thread.isDefined():
                    java.setActiveSession(of_thread.get())
                else:
                    java.clearActiveSession()


def frame_of(session: SparkSession, rows: Any) -> DataFrame:
    """Create a DataFrame in a session of the caller, divided as in ours: each part of it goes to a task as a whole."""
    return _in_session(create_frame(own_session(session), rows), session)


def shuffled_without_limit_of_bytes(rows: DataFrame) -> DataFrame:
    """Run the shuffle that `rows` ends with, in a job whose batches for Python are limited by BATCH_ROWS alone.

    To limit bytes, Spark adds up those of the batch again for each row: a fifth of the JVM's time where the rows are
    events (docs/measurements.md). What reads the result has the limit, and so have tasks that replace lost files of
    the shuffle.

    Args:
        rows: result of a shuffle, in a session of our own. Rows that reach Python before the shuffle must be short.
    """
    session = rows.sparkSession
    shuffled = _run_shuffles(rows, {MOST_BYTES: str(2**31 - 1)})  # Spark does not look
    return DataFrame(session._jsparkSession.internalCreateDataFrame(shuffled, rows._jdf.schema(), False), session)


def run_shuffles_watched(rows: DataFrame, timeout: float) -> None:
    """Run the shuffles that `rows` begins with, in a job that ends workers which stand still.

    Args:
        rows: is not run further; it uses the shuffles when it is.
        timeout: seconds in which a worker has to take or to give something.
    """
    _run_shuffles(rows, {IDLE: str(max(1, math.ceil(timeout))), KILLS_IDLE: "true"})


def _run_shuffles(rows: DataFrame, given: dict[str, str]) -> Any:
    """Run the shuffles that `rows` begins with, with some settings of their own, and return its Scala RDD."""
    session = rows.sparkSession
    # A job of a query has the settings of its session in these properties, and a plain one has none.
    settings = {key: value for key, value in session.conf.getAll.items() if key.startswith("spark.")} | given
    with restored_properties(session.sparkContext, settings):
        for key, value in settings.items():
            session.sparkContext.setLocalProperty(key, value)
        execution = rows._jdf.queryExecution()
        # The readers of files look at the settings of the active session, which a query makes its own.
        sessions: Any = SparkSession._get_j_spark_session_class(session._jvm)
        before = sessions.getActiveSession()
        sessions.setActiveSession(session._jsparkSession)
        try:
            shuffled = execution.toRdd()
        finally:
            sessions.setActiveSession(before.get()) if before.isDefined() else sessions.clearActiveSession()
        if execution.executedPlan().getClass().getSimpleName() != "AdaptiveSparkPlanExec":  # has shuffled to get there
            _write_shuffles(session.sparkContext, shuffled)
    return shuffled


def _write_shuffles(context: SparkContext, rows: Any) -> None:
    """Write the shuffles that a Scala RDD begins with. Counting its rows would read them as well."""
    dependencies = rows.dependencies()
    for number in range(dependencies.size()):
        dependency = dependencies.apply(number)
        if dependency.getClass().getSimpleName() != "ShuffleDependency":
            _write_shuffles(context, dependency.rdd())
        elif dependency.rdd().getNumPartitions():
            context._jsc.sc().submitMapStage(dependency).get()


# What Spark is to do where the user says nothing.
OURS = {
    # All tasks of a barrier stage start together, and by default they prefer the hosts with most of the shuffle's
    # files: on two hosts each epoch waited 3 s for two slots of the same one.
    "spark.locality.wait": "0s",
    # Executors that are lost between counting the slots and asking for them are noticed in half a minute, not in ten.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "3s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "10",
}


OF_COMMAND = "_is_of_spark_w2v"  # attribute of a context: it ends with the command or the call that started it
# Loggers that print each error of a query a second time, as a page of JSON.
LOGGERS_OF_QUERIES = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")


def system_property(name: str) -> str:
    """A property of the JVM that spark-submit started, before Spark starts in it."""
    SparkContext._ensure_initialized()
    assert SparkContext._jvm is not None, "it is there now"
    return str(SparkContext._jvm.System.getProperty(name))


def is_running() -> bool:
    """Whether there is a Spark in this process."""
    return SparkContext._active_spark_context is not None


def start_session() -> SparkSession:
    """Return the session that spark-submit configured; without spark-submit, Spark on all cores of this machine.

    Raises:
        UserError: Spark refuses its settings.
        SparkLostError: its master does not answer.
    """
    if os.environ.get("LC_ALL") in ("C", "POSIX"):  # a JVM that is still to start could not name files beyond ASCII
        os.environ["LC_ALL"] = "C.UTF-8"
    given = defaults.launch()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder
    if (level := defaults.log_level(given)) is not None:
        builder = builder.config("spark.log.level", level)
    master = given.get("spark.master")
    for key, value in defaults.for_master(defaults.default_settings(), master).items():
        if key not in given and key not in defaults.OF_DRIVER:
            builder = builder.config(key, value)
    if defaults.is_local_master(master) and "spark.python.daemon.module" not in given:
        builder = builder.config("spark.python.daemon.module", workers.__name__)
        # Unlike a task, the daemon knows nothing of --py-files.
        ours, theirs = str(Path(spark_w2v.__file__).parents[1]), given.get("spark.executorEnv.PYTHONPATH", "")
        builder = builder.config("spark.executorEnv.PYTHONPATH", f"{ours}{os.pathsep}{theirs}".rstrip(os.pathsep))
    if "spark.driver.maxResultSize" not in given:
        # The rows of all replicas come back together: 2 x words x dimensions x 4 bytes, which nobody knows yet. What
        # they need of the heap is checked before training, so that this limit has nothing left to guard.
        builder = builder.config("spark.driver.maxResultSize", "0")
    if (master or "").startswith("yarn") and f"{SOCKETS}.dir" not in given:
        # The path of one in a container's directory is too long, so that no Python worker starts. It may be given by
        # conf/spark-defaults.conf, which is for one machine.
        builder = builder.config(f"{SOCKETS}.enabled", "false")
    # In a session that is there already, settings like this one stay as they are.
    is_new = not is_running()
    if given.get("spark.dynamicAllocation.enabled", "").strip().lower() == "true" and is_new:
        builder = builder.config("spark.dynamicAllocation.enabled", "false")
        log.info(
            "spark.dynamicAllocation.enabled is switched off, as Spark refuses it together with the barrier stages of "
            "training: spark.executor.instances now decides the number of executors, on a standalone cluster "
            "spark.cores.max (%s)",
            given.get("spark.executor.instances", given.get("spark.cores.max", "the cluster's default")),
        )
    for key, value in OURS.items():
        if key not in given:
            builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Py4JJavaError as error:
        raise start_error(error) from None
    setattr(session.sparkContext, OF_COMMAND, is_new)
    defaults.set_log_file(given)
    for name in LOGGERS_OF_QUERIES:  # by PySpark's own function, as they are loggers of its own class
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    threading.Thread(target=_start_workers, args=(session,), name="start workers", daemon=True).start()
    return session


def _start_workers(session: SparkSession) -> None:
    """Have Spark start its Python workers while the driver lists the input, and have them load our modules.

    In local mode it is one process, which all of them are forked from. Executors that come later than the first ones
    start theirs with their first task.
    """
    with contextlib.suppress(Exception):  # what is wrong is said of the first job that has something to do
        context = session.sparkContext
        count = slots(context)[0]
        if is_local_mode(context):
            if count == 1:
                return  # the listing would wait for it
            count = 1
        else:  # executors that start together come within a second or two
            deadline, before = time.monotonic() + STARTING, 0
            while (not count or count != before) and time.monotonic() <= deadline:
                before = count
                time.sleep(TOGETHER)
                count = slots(context)[0]
            if not count:
                return
        context.setJobGroup(WORKERS, "starting Python workers")
        session.range(count, numPartitions=count).mapInArrow(workers.loaded, "id long").collect()


def stop_session(session: SparkSession) -> None:
    """Stop Spark, once its Python workers have started: of a task that it stops it logs a stack trace."""
    with contextlib.suppress(Exception):  # the JVM may be gone before us, and there is nothing left to lose
        tracker, deadline = session.sparkContext.statusTracker(), time.monotonic() + STOPPING
        while time.monotonic() < deadline:
            found = map(tracker.getJobInfo, tracker.getJobIdsForGroup(WORKERS))
            if not any(job is not None and job.status == "RUNNING" for job in found):
                break
            time.sleep(PAUSE)
    with contextlib.suppress(Exception):
        session.stop()


@contextlib.contextmanager
def restored_properties(context: SparkContext, keys: Iterable[str]) -> Iterator[None]:
    """Restore what the caller set of the properties of the jobs that this thread starts."""
    before = [(key, context.getLocalProperty(key)) for key in keys]
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the JVM may be gone, and what went wrong before is what counts
            for key, value in before:
                context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None removes it


@contextlib.contextmanager
def settings_of_epochs(session: SparkSession) -> Iterator[None]:
    """Let Spark remove the shuffle files of the queries that are planned in here as soon as these have run.

    Otherwise it does so when its JVM happens to collect garbage, which in a driver may take half an hour. Nor are they
    planned adaptively, so that they have the stages that we ask for.
    """
    before = {key: session.conf.get(key) for key in OF_EPOCHS}
    try:
        for key, value in OF_EPOCHS.items():
            session.conf.set(key, value)
        yield
    finally:
        for key, given in before.items():
            session.conf.set(key, str(given))


@contextlib.contextmanager
def restored_caller(context: SparkContext) -> Iterator[None]:
    """Restore what training changes in the thread of its caller: what Spark's pages say of its jobs."""
    with restored_properties(context, ["spark.job.description"]):
        yield
