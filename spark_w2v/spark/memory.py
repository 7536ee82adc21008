"""Memory and disk that training needs, against what Spark and the machine give.

V words, D dimensions, B blocks or replicas. The terms of a sum are arrays that exist at the same time; a test compares
a task's peak with them.
"""

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from spark_w2v.errors import NotEnoughMemoryError, StorageError
from spark_w2v.exchange.plan import AHEAD
from spark_w2v.skipgram.kernel import batch_bytes
from spark_w2v.skipgram.schedule import MOST_PAIRS, stored_buckets
from spark_w2v.spark.buckets import LARGEST_CHUNK, SPOOL_BYTES
from spark_w2v.spark.slots import slots

if TYPE_CHECKING:
    from pyspark import SparkContext

PYTHON = 160 << 20  # a Python process with NumPy, SciPy, PyArrow and its buffers
JVM = 400 << 20  # Spark itself
JVM_OUTSIDE_HEAP = 384 << 20  # of an executor: what Spark has as the least spark.executor.memoryOverhead
# Addresses that a worker reserves and does not use: libraries, buffers and stacks of threads, parts of arenas. Measured
# after its imports, with one thread of the BLAS: 240 MB. This setting limits addresses, and all others limit memory.
ADDRESSES, LIMITS_ADDRESSES = 320 << 20, "spark.executor.pyspark.memory"
SEGMENT = 64 << 20  # a segment of text while its pairs are drawn, a part of them at a time
# Chunks of the matrices in the driver's Python, whatever their size: row groups of 8 MB while they are gathered and
# while Arrow compresses them, batches of 4 MB that are read, 2 x 16 MB of a checkpoint. A test measures the sum.
CHUNKS = 96 << 20
# Models on the driver's disk at a time: the parameters that are trained on, and those that replace them, or in the end
# the output. A checkpoint is one more, and so are the vectors that a run begins with and is averaged with.
MODELS_ON_DISK = 2
LARGEST_RECORD = (1 << 31) - (1 << 20)  # that PySpark hands over, pickled
# Share of spark.executor.memory that YARN and Kubernetes leave to Python; the first that is set counts. In cluster mode
# on Kubernetes Spark sets the second to 0.4 itself.
OVERHEAD_FACTORS = ("spark.executor.memoryOverheadFactor", "spark.kubernetes.memoryOverheadFactor")

# Files of a control group, version 2 and 1: its limit and what it uses; and the beginning of names in memory.stat.
GROUP_FILES = (("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"))


@dataclass(frozen=True)
class Need:
    """Memory that a run needs, in bytes.

    Args:
        model: both matrices, 2 V D float32.
        driver: the driver's Python process.
        heap: the driver's JVM, through which the words pass, and with `replicas` the model.
        task: one Python worker.
        record: the largest record that passes through Spark, with `replicas`: a part of the model.
        files: files of the driver's machine that are in its memory, as those on a tmpfs.
    """

    model: int
    driver: int
    heap: int
    task: int
    record: int = 0
    files: int = 0


def needed(
    words: int,
    dimensions: int,
    partitions: int,
    scheme: str,
    pairs: float,
    tasks: int,
    snapshots: bool = False,
    largest: float | None = None,
    in_memory: bool = False,
    sweeps: int = 1,
) -> Need:
    """Return the memory that a run needs.

    Args:
        words, dimensions: V, D.
        partitions: B.
        scheme: "blocks" or "replicas".
        pairs: expected number in an epoch.
        tasks: T, tasks that train at the same time.
        snapshots: whether parameters of `blocks` come back after each sweep.
        largest: expected number in the largest bucket of an epoch; None for that of a mean one.
        in_memory: whether the driver has the words' vectors in memory after training, as a model that is fitted.
        sweeps: most of an epoch of `blocks`.
    """
    model = 2 * words * dimensions * 4
    record = drawn = 0
    if scheme == "blocks":
        # Words, counts and the row of each word. The model is in files, and blocks go from these to the sockets.
        driver = PYTHON + CHUNKS + 150 * words + (model // 2 if in_memory else 0)
        heap = JVM + 100 * words
        block = model // (2 * partitions)
        own = -(-partitions // tasks)
        # Its center blocks, as many context blocks, those that neighbours have sent ahead, those that wait to be sent
        # to them, and the blocks of an ended sweep until the driver has them.
        blocks = 2 * own + (4 * AHEAD if tasks > 1 else 0) + (2 * own if snapshots else 0)
        # A bucket: a pair's number, 8 bytes where a row needs more than 16 bits, together with its context's row and an
        # eighth of a group; and a center's last two groups may have one pair each. Or both rows while pairs are sorted
        # where NumPy sorts slowly, and a byte.
        most = min(pairs / partitions**2 if largest is None else largest, MOST_PAIRS)
        bucket = int(most * (18 if words > partitions << 16 else 13)) + batch_bytes(dimensions)
        task = PYTHON + blocks * block + 40 * words + 100 * words // partitions + max(bucket, 3 * SPOOL_BYTES)
        # Numbers of pairs: of all buckets for a task that draws, of its own for one that trains, also of the records
        # that wait for its spool.
        drawn = 8 * stored_buckets(partitions, sweeps)
        task += (drawn >> 1) + 5 * drawn // tasks
    else:
        # The whole model is sent to the replicas, and comes back; a model in memory is made after that.
        driver = PYTHON + CHUNKS + 150 * words + 3 * model
        heap = JVM + 2 * model
        task = PYTHON + SEGMENT + 3 * model + 150 * words + LARGEST_CHUNK * 18 + batch_bytes(dimensions)
        record = (model + 16 * words) // partitions
    # A task that draws pairs holds a chunk of them twice while it sorts.
    task = max(task, PYTHON + SEGMENT + 32 * words + LARGEST_CHUNK * 20 + drawn)
    return Need(model, driver, heap, task, record)


@dataclass(frozen=True)
class Given:
    """Memory that Spark and the machine give, in bytes; None is unlimited or unknown.

    Args:
        heap: spark.driver.memory.
        machine: free memory of the driver's machine.
        slots: tasks that run on that machine at a time; 0 on a cluster.
        executor, key: limit of an executor's Python workers together, and the setting that it comes from.
        cores: tasks of an executor at a time.
        results: spark.driver.maxResultSize, where rows come back as results.
        driver: spark.driver.memoryOverhead, where YARN limits the driver's Python to it.
    """

    heap: int
    machine: int | None = None
    slots: int = 0
    executor: int | None = None
    key: str = ""
    cores: int = 1
    results: int | None = None
    driver: int | None = None

    def of_executor(self, task: int) -> int:
        """Return what the limit of an executor has to be, given the bytes of a task."""
        return self.cores * (task + (ADDRESSES if self.key == LIMITS_ADDRESSES else 0))

    def advised(self, task: int) -> str:
        """Return what the limit should be in words: where the JVM has a part of it, with room for that."""
        return format_bytes(self.of_executor(task) + (0 if self.key == LIMITS_ADDRESSES else JVM_OUTSIDE_HEAP))


def check(need: Need, given: Given) -> None:
    """Refuse a run that cannot fit.

    Raises:
        NotEnoughMemoryError: the first limit that is too low.
    """
    model = f"the model is 2 x words x dimensions x 4 bytes = {format_bytes(need.model)}"
    less = "or lower training.dimensions, or raise vocabulary.min_count"
    if need.record > LARGEST_RECORD:
        raise NotEnoughMemoryError(
            f"{model}; with the scheme replicas {format_bytes(need.record)} of it would be one record, and a record of "
            f'Spark has {format_bytes(LARGEST_RECORD)} at most. Set training.scheme to "blocks", {less}.'
        )
    if need.heap > given.heap:
        raise NotEnoughMemoryError(
            f"{model}; training needs {format_bytes(need.heap)} in the driver's JVM, and spark.driver.memory gives it "
            f"{format_bytes(given.heap)}. Raise spark.driver.memory, {less}."
        )
    if given.results is not None and need.heap > need.model > given.results:  # replicas: it comes back as results
        raise NotEnoughMemoryError(
            f"{model}, which each sync brings back, and spark.driver.maxResultSize is {format_bytes(given.results)}. "
            f"Leave it unset, or set it to 0, {less}."
        )
    if given.driver is not None and need.driver > given.driver:
        raise NotEnoughMemoryError(
            f"{model}; training needs {format_bytes(need.driver)} in Python on the driver, and "
            f"spark.driver.memoryOverhead is {format_bytes(given.driver)}. Raise it to "
            f"{format_bytes(need.driver + JVM_OUTSIDE_HEAP)}, {less}."
        )
    total = need.driver + given.slots * need.task + need.files
    if given.machine is not None and total > given.machine:
        tasks = f" and {format_bytes(need.task)} in each of {given.slots} tasks at a time" if given.slots else ""
        if need.files:
            tasks += f" and {format_bytes(need.files)} of files in memory (tmpfs; set TMPDIR and spark.local.dir)"
        raise NotEnoughMemoryError(
            f"{model}; training needs {format_bytes(need.driver)} in Python on the driver{tasks}, "
            f"{format_bytes(total)} in all, and the machine has {format_bytes(given.machine)} left. "
            f"Take a larger one, {less}"
            + ("; or take fewer slots: the master local[2] has two." if given.slots > 1 else ".")
        )
    if given.executor is not None and given.of_executor(need.task) > given.executor:
        raise NotEnoughMemoryError(
            f"{model}; a task needs {format_bytes(need.task)} in Python, {given.cores} run on an executor at a time, "
            f"and {given.key} is {format_bytes(given.executor)}. Raise it to "
            f"{given.advised(need.task)}, or "
            f"training.partitions of scheme blocks, {less}."
        )


def check_task(need: int, given: Given, less: str, more: int = 0) -> None:
    """Refuse tasks that cannot fit.

    Args:
        need: bytes of a Python worker.
        less: what needs less, after an "or".
        more: bytes that are advised on top of these.

    Raises:
        NotEnoughMemoryError: one sentence.
    """
    if given.machine is not None and given.slots * need > given.machine:
        raise NotEnoughMemoryError(
            f"a task needs {format_bytes(need)}, {given.slots} run at a time, and the machine has "
            f"{format_bytes(given.machine)} left; {less}: the master local[1] has one."
        )
    if given.executor is not None and given.of_executor(need) > given.executor:
        raise NotEnoughMemoryError(
            f"a task needs {format_bytes(need)} in Python, {given.cores} run on an executor at a time, and {given.key} "
            f"is {format_bytes(given.executor)}; raise it to {given.advised(need + more)}, or {less}."
        )


def disk_bytes(model: int, kept: int) -> int:
    """Return the most bytes that a run takes on the driver's disk.

    Args:
        model: bytes of the model.
        kept: models that stay there next to those that are trained: a checkpoint, the vectors that the run begins with.
    """
    return (MODELS_ON_DISK + kept) * model


def check_disk(model: int, kept: int, folder: Path) -> None:
    """Refuse a run whose parameters do not fit on the disk.

    Args:
        model: bytes of the model.
        kept: models that stay there next to those that are trained: a checkpoint, the vectors that the run begins with.
        folder: for the parameters; files that are in it already count as free, as they are replaced.

    Raises:
        StorageError: one sentence.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free + sum(path.stat().st_size for path in folder.rglob("*.f32"))
    need = disk_bytes(model, kept)
    if need > free:
        raise StorageError(
            f"{folder}: the model is 2 x words x dimensions x 4 bytes = {format_bytes(model)}, of which this disk must "
            f"have room for {need // model}, {format_bytes(need)}, and has room for {format_bytes(free)}. Free some, "
            "use another disk, lower training.dimensions, or raise vocabulary.min_count."
        )


def given_by(context: "SparkContext") -> Given:
    """Return the memory that a running Spark gives."""
    conf, jvm = context.getConf(), context._jvm
    assert jvm is not None, "a context has its JVM"

    def size(key: str, default: str) -> int:
        """Bytes of a setting of an executor's memory, which Spark reads as MiB where it names no unit."""
        return int(jvm.org.apache.spark.network.util.JavaUtils.byteStringAsMb(conf.get(key, default))) << 20

    heap, master = int(jvm.java.lang.Runtime.getRuntime().maxMemory()), conf.get("spark.master", "")
    if master.startswith("local"):
        return Given(heap, available(), slots(context)[0])
    of_task = Decimal(conf.get("spark.task.cpus", "1"))  # which may be a part of one
    cores = max(1, int(Decimal(conf.get("spark.executor.cores", "1")) // of_task))
    if master.startswith("spark:") and not conf.contains("spark.executor.cores"):  # they take all of a worker's
        count, executors = slots(context)
        cores = max(1, count // executors)
    machine, driver = available(), None
    if master == "yarn" and conf.get("spark.submit.deployMode") == "cluster":
        least = size("spark.driver.minMemoryOverhead", "384m")
        of_memory = int(float(conf.get("spark.driver.memoryOverheadFactor", "0.1")) * size("spark.driver.memory", "1g"))
        driver = size("spark.driver.memoryOverhead", "") if conf.contains("spark.driver.memoryOverhead") else 0
        driver = driver or max(least, of_memory)
    of_results = conf.get("spark.driver.maxResultSize", "1g")  # bytes where it names no unit
    results = int(jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes(of_results)) or None
    for key in (LIMITS_ADDRESSES, "spark.executor.memoryOverhead"):
        if conf.contains(key):
            return Given(heap, machine, 0, size(key, ""), key, cores, results, driver)
    if master.startswith(("yarn", "k8s")):
        factors = OVERHEAD_FACTORS if master.startswith("k8s") else OVERHEAD_FACTORS[:1]
        factor = next((float(conf.get(key, "")) for key in factors if conf.contains(key)), 0.1)
        least = size("spark.executor.minMemoryOverhead", "384m")
        overhead = max(least, int(factor * size("spark.executor.memory", "1g")))
        return Given(heap, machine, 0, overhead, "spark.executor.memoryOverhead", cores, results, driver)
    return Given(heap, machine, results=results)


def available(root: Path = Path("/")) -> int | None:
    """Return the free bytes of this machine, or of the container that this process is in; None if unknown.

    Args:
        root: of the file systems that the kernel shows.
    """
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) << 10)
    found += _free_of_groups(root)
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _free_of_groups(root: Path) -> list[int]:
    """Return the free bytes of each control group of this process that has a limit, as a container or a batch job."""
    groups = root / "sys/fs/cgroup"
    of_controller = {"": (groups, GROUP_FILES[0]), "memory": (groups / "memory", GROUP_FILES[1])}
    places = list(of_controller.values())  # what a container sees as its own
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for mounted, names in (of_controller[c] for c in controllers.split(",") if c in of_controller):
                group = mounted / path.lstrip("/")
                above = [folder for folder in (group, *group.parents) if folder.is_relative_to(mounted)]
                places += [(folder, names) for folder in above]
    found = []
    for folder, (limit, used, total) in dict.fromkeys(places):
        with contextlib.suppress(OSError, ValueError, KeyError):
            most = int((folder / limit).read_text())  # "max" is none
            numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # Pages of files are given back when memory is needed.
            of_files = int(numbers[f"{total}inactive_file"]) + int(numbers[f"{total}active_file"])
            found.append(max(most - int((folder / used).read_text()) + of_files, 0))
    return found


def is_in_memory(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether files of this directory, or of the one that it will be made in, are in memory, as on a tmpfs."""
    kinds: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
            place, _, about = line.partition(" - ")
            # A space is \040 there; of several on one place, the last counts.
            name = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place.split()[4])
            kinds[Path(name)] = about.split()[0]
    there = path.resolve()
    return next((kinds[p] for p in (there, *there.parents) if p in kinds), "") in ("tmpfs", "ramfs")


def files_in_memory(context: "SparkContext", folder: Path, model: int, kept: int, pairs: float) -> int:
    """Return the bytes of the files to come that are in the memory of the driver's machine.

    Args:
        folder, model, kept: as for check_disk.
        pairs: expected number in an epoch that are in files of the tasks.
    """
    files, conf, jvm = 0, context.getConf(), context._jvm
    if is_in_memory(folder):
        files = max(disk_bytes(model, kept) - sum(path.stat().st_size for path in folder.rglob("*.f32")), 0)
    if conf.get("spark.master", "").startswith("local"):
        assert jvm is not None, "a context has its JVM"
        places = os.environ.get("SPARK_LOCAL_DIRS") or conf.get("spark.local.dir")
        place = (places or str(jvm.java.lang.System.getProperty("java.io.tmpdir"))).split(",")[0]
        files += int(8 * pairs) if is_in_memory(Path(place)) else 0
    return files


def format_bytes(size: float) -> str:
    """Return a number of bytes in words: 1,234,567,890 as 1.2 GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
