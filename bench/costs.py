"""Costs of each part of a run, as sums of constants times how often each is paid; predictions for clusters.

The constants are fitted on runs. W words of the corpus, V of the vocabulary, D dimensions, B blocks, T tasks.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from scipy.optimize import nnls

from bench import measure
from bench.ring import Machines, Prices, simulate
from bench.synthetic import zipf_counts
from bench.work import Buckets, Work, bucket_seconds, work_of
from spark_w2v.config import load
from spark_w2v.skipgram.schedule import Ring
from spark_w2v.spark.memory import Need, needed

NETWORK = 1.25e9  # bytes per second and machine in each direction, 10 Gbit/s: assumed
DISK = 0.5e9  # bytes per second and machine: assumed
MEMORY = 64e9  # bytes per machine: assumed; what tasks leave of it keeps what was just written
CORES_PER_MACHINE = 16  # assumed


class Sample(NamedTuple):
    """Some buckets that the kernel trained apart from a run."""

    buckets: Buckets
    dimensions: int


class Trained(Protocol):
    """Quantities that the kernel's cost depends on."""

    @property
    def buckets(self) -> Buckets: ...

    @property
    def dimensions(self) -> int: ...


class Term(NamedTuple):
    """A constant of the model: what it is a price of, its unit, and how often it is paid."""

    of: str
    unit: str
    scale: float
    times: Callable[[Work], float]


class KernelTerm(NamedTuple):
    """A constant of the kernel.

    Args:
        field: of Buckets, that it is a price of.
        per_dimension: it is paid for each dimension.
    """

    of: str
    unit: str
    scale: float
    field: str
    per_dimension: bool = False

    def times(self, w: Trained) -> float:
        """How often it is paid."""
        return float(getattr(w.buckets, self.field)) * (w.dimensions if self.per_dimension else 1)


NS, US, MS, S, GB, B = ("ns", 1e9), ("µs", 1e6), ("ms", 1e3), ("s", 1.0), ("s per GB", 1e9), ("bytes", 1.0)
# A group has room for as many contexts as it is wide, and each place costs, taken or not.
KERNEL = [
    KernelTerm("per pair", *NS, "pairs"),
    KernelTerm("per pair and dimension", *NS, "pairs", True),
    KernelTerm("per group", *NS, "groups"),
    KernelTerm("per group and dimension", *NS, "groups", True),
    KernelTerm("per place in a group", *NS, "places"),
    KernelTerm("per place in a group and dimension", *NS, "places", True),
    KernelTerm("the same for each doubling of a block above 1 MB, of rare contexts", *NS, "far"),
    KernelTerm("per batch", *US, "batches"),
    KernelTerm("per context row whose step is computed", *NS, "steps"),
    KernelTerm("per bucket", *US, "buckets"),
]
# Core-seconds of take and draw, which the cores share; seconds of the others; bytes.
PARTS: dict[str, list[Term]] = {
    "take": [
        Term("per pair", *NS, lambda w: w.pairs),
        Term("per bucket", *US, lambda w: w.buckets.buckets),
        Term("per record", *US, lambda w: w.records),
        Term("per task and epoch", *S, lambda w: w.tasks * w.epochs),
    ],
    "draw": [
        Term("per epoch", *S, lambda w: w.epochs),
        Term("per pair", *NS, lambda w: w.pairs),
    ],
    "start": [
        Term("per epoch", *S, lambda w: w.epochs),
        Term("per model and epoch", *GB, lambda w: w.epochs * w.model),
    ],
    "exchange": [
        Term("per epoch", *S, lambda w: w.epochs),
        Term("of parameters through the driver", *GB, lambda w: w.driver_bytes),
        Term("per block from another task", *MS, lambda w: w.waited_for),
        Term("of blocks from another task", *GB, lambda w: w.waited_for * w.block_bytes),
    ],
    "prepare": [
        Term("per run", *S, lambda w: 1),
        Term("per word", *NS, lambda w: w.words * w.draw_span),
        Term("per word of the vocabulary", *US, lambda w: w.vocabulary),
    ],
    "rest": [Term("per run", *S, lambda w: 1), Term("of the model", *GB, lambda w: w.model)],
    "shuffled": [Term("per byte of a pair", *B, lambda w: w.pairs * w.width)],
}
ABOUT = {
    "kernel": "core-seconds in the kernels",
    "take": "core-seconds of a task besides its kernels: pairs received, spooled, read and sorted",
    "draw": "core-seconds of drawing the pairs and writing them for the shuffle",
    "start": "seconds of an epoch outside of its tasks",
    "exchange": "seconds that a task waits for parameters and blocks",
    "prepare": "seconds of reading, counting and encoding",
    "rest": "seconds of starting, the held-out loss, writing and stopping",
    "shuffled": "bytes of the shuffle",
}
Constants = dict[str, list[float]]
Parts = dict[str, float]


def _fit(times: Sequence[Sequence[float]], values: Sequence[float], least: float = 0.0) -> list[float]:
    """The constants, none negative, that make the sum of squared relative errors least.

    Args:
        least: share of the median below which an error is taken relative to that.
    """
    found = np.maximum(np.array(values), 0.0)
    size = np.maximum(found, max(least * float(np.median(found)), 1e-9))
    a = np.array(times, np.float64) / size[:, None]
    each = np.maximum(a.max(axis=0), 1e-300)
    constants: list[float] = (nnls(a / each, found / size)[0] / each).tolist()
    return constants


def fit_kernel(runs: Sequence[tuple[Trained, float]]) -> list[float]:
    """The constants of KERNEL, from runs and single buckets and their seconds."""
    return _fit([[term.times(trained) for term in KERNEL] for trained, _ in runs], [seconds for _, seconds in runs])


def fit(runs: Sequence[tuple[Work, Parts]], record_seconds: float) -> Constants:
    """The constants of PARTS.

    Args:
        record_seconds: of a record, in drawing and taking; as measured alone, because runs of two tasks have records as
            they have pairs.
    """
    constants = {}
    for part, terms in PARTS.items():
        known = [record_seconds if (part, term.of) == ("take", "per record") else None for term in terms]
        free = [term for term, value in zip(terms, known, strict=True) if value is None]
        rest = [
            parts[part] - sum((value or 0.0) * term.times(work) for term, value in zip(terms, known, strict=True))
            for work, parts in runs
        ]
        # A part may be next to nothing in one run, and its relative error there is noise.
        found = iter(_fit([[term.times(work) for term in free] for work, _ in runs], rest, 0.1))
        constants[part] = [next(found) if value is None else value for value in known]
    return constants


def kernel_seconds(trained: Trained, constants: Sequence[float]) -> float:
    """Core-seconds in the kernels."""
    return sum(each * term.times(trained) for each, term in zip(constants, KERNEL, strict=True))


def predict(work: Work, constants: Constants) -> Parts:
    """Every part, in the unit of ABOUT."""
    return {
        "kernel": kernel_seconds(work, constants["kernel"]),
        **{
            part: sum(each * term.times(work) for each, term in zip(constants[part], terms, strict=True))
            for part, terms in PARTS.items()
        },
    }


def bucket_price(constants: Constants, dimensions: int) -> list[float]:
    """Seconds of a task for each of the fields of Buckets: in its kernel, and taking the bucket's pairs."""
    found = dict.fromkeys(Buckets._fields, 0.0)
    for each, term in zip(constants["kernel"], KERNEL, strict=True):
        found[term.field] += each * (dimensions if term.per_dimension else 1)
    found["pairs"] += constants["take"][0]
    found["buckets"] += constants["take"][1]
    return list(found.values())


class Training(NamedTuple):
    """Seconds of training, all epochs, whose sum is all.

    Args:
        kernel, take: if all cores always had work.
        draw: and writing the pairs.
        waiting: of cores for the heaviest blocks, and for buckets that take longer than others like them.
        exchange: for parameters and blocks.
        start: of the epochs.
        sent: bytes of parameters through a machine's card in an epoch, outwards; the most of all machines, in the mean.
    """

    kernel: float
    take: float
    draw: float
    waiting: float
    exchange: float
    start: float
    sent: float

    @property
    def seconds(self) -> float:
        return sum(self[:6])


def train(work: Work, constants: Constants, spread: float, machine_cores: int, network: float) -> Training:
    """Go through the epochs of a run.

    Args:
        spread: of the seconds of buckets that are alike.
        machine_cores: tasks of one machine.
        network: seconds per byte through a card.
    """
    parts = predict(work, constants)
    machines = Machines.of(work.blocks, work.tasks, machine_cores)
    price = bucket_price(constants, work.dimensions)
    sizes = (work.rows * work.dimensions * 4).astype(np.float64)
    connect, driver, message, memory = constants["exchange"]
    driver = max(driver, network)
    prices = Prices(message, memory, max(network, memory), driver)
    spans, exchange, sent = 0.0, 0.0, 0.0
    kinds_of_epoch = [(0, 1), (1, work.epochs - 1)][: min(work.epochs, 2)]
    for epoch, times in kinds_of_epoch:
        edges = work.edges[epoch]
        ring = Ring.draw(work.blocks, edges.size - 1, np.random.default_rng(epoch))
        seconds = [bucket_seconds(work, share, price) for share in work.shares(epoch)]
        free, real = (
            simulate(ring, machines, seconds, work.kinds, sizes, some, work.snapshots, spread, epoch)
            for some in (Prices(), prices)
        )
        spans += times * free.trained
        # Parameters go out before the first bucket is trained; what comes back is in the simulation.
        exchange += times * (connect + driver * work.model + real.ended - free.trained)
        sent += times * float(real.sent.max(initial=0.0))
    kernel, take = parts["kernel"] / work.cores, parts["take"] / work.cores
    of_records = parts["take"] - constants["take"][0] * work.pairs - constants["take"][1] * work.buckets.buckets
    waiting = spans + of_records / work.tasks - kernel - take
    return Training(kernel, take, parts["draw"] * work.draw_span, waiting, exchange, parts["start"], sent / work.epochs)


def waiting(work: Work, constants: Constants, machine_cores: int, spread: float) -> float:
    """Seconds that a task waits for heavier blocks and slower buckets, if blocks need no time to come.

    Args:
        spread: of the seconds of buckets that are alike.
    """
    ring = Ring.draw(work.blocks, work.edges[0].size - 1, np.random.default_rng(0))
    seconds = [bucket_seconds(work, share, bucket_price(constants, work.dimensions)) for share in work.shares(0)]
    machines = Machines.of(work.blocks, work.tasks, machine_cores)
    sizes = np.zeros(work.blocks)
    found = simulate(ring, machines, seconds, work.kinds, sizes, Prices(), work.snapshots, spread)
    return found.trained - float(found.busy.mean())


def spread_of(work: Work, kernel: Sequence[float], spreads: Sequence[tuple[float, float]]) -> float:
    """How much buckets that are alike differ, by the seconds of one: that of single buckets that take as long."""
    seconds = kernel_seconds(Sample(work.buckets, work.dimensions), kernel) / work.buckets.buckets
    measured, shares = zip(*spreads, strict=True)
    return float(np.interp(np.log(seconds), np.log(measured), shares))


class Model(NamedTuple):
    """All constants.

    Args:
        spreads: seconds of single buckets, rising, and how much such buckets differ.
    """

    machine: Constants
    cluster: Constants
    spreads: list[tuple[float, float]]

    def spread(self, work: Work) -> float:
        """How much the buckets of a run differ that are alike: as single buckets do that take about as long."""
        return spread_of(work, self.machine["kernel"], self.spreads)


class Cluster(NamedTuple):
    """A run that nobody here can do: hours; bytes."""

    work: Work
    kernels: float
    waiting: float
    drawing: float
    exchange: float
    others: float
    sent: float
    shuffled: float
    need: Need

    @property
    def hours(self) -> float:
        return self.kernels + self.waiting + self.drawing + self.exchange + self.others

    @property
    def efficiency(self) -> float:
        """Hours of the kernels, of all hours."""
        return self.kernels / self.hours

    def most(self, names: Sequence[str] = ("kernels", "waiting", "drawing", "exchange", "others")) -> str:
        """Part that takes most of the time."""
        return max(names, key=lambda name: float(getattr(self, name)))


@cache
def cluster_work(words: int, vocabulary: int, cores: int, blocks: int) -> Work:
    """Return the work of a run by conf/cluster.toml."""
    settings = load(str(measure.ROOT / "conf" / "cluster.toml"), [])
    return work_of(
        zipf_counts(words, vocabulary), settings.training.dimensions, blocks, cores, epochs=settings.training.epochs,
        subsample=settings.vocabulary.subsample, snapshots=settings.output.checkpoint == "sweep",
    )  # fmt: skip


def on_cluster(
    words: int,
    vocabulary: int,
    cores: int,
    model: Model,
    blocks: int | None = None,
    disk: float = DISK,
    memory: float = MEMORY,
) -> Cluster:
    """As conf/cluster.toml trains.

    Args:
        blocks: B; a block for each core, if it is not said.
        disk, memory: of each machine.
    """
    w = cluster_work(words, vocabulary, cores, blocks or cores)
    constants = model.cluster
    parts = predict(w, constants)
    trained = train(w, constants, model.spread(w), CORES_PER_MACHINE, 1 / NETWORK)
    machines = -(-cores // CORES_PER_MACHINE)
    need = needed(vocabulary, w.dimensions, w.blocks, "blocks", w.epoch_pairs, w.tasks, w.snapshots)
    # What a machine writes to its disk goes on while its cores draw, and while they take pairs; a bucket is read when
    # it is to be trained. What an epoch writes and memory has room for is not waited for.
    written, spooled = parts["shuffled"] / machines, w.pairs * w.width / machines
    room = max(0.0, memory - min(w.tasks, CORES_PER_MACHINE) * need.task)
    per_byte = max(0.0, 1 - room / ((written + spooled) / w.epochs)) / disk
    draw = max(trained.draw, written * per_byte)
    moved = max((written + spooled) * per_byte, written * (1 - 1 / machines) / NETWORK)
    taking = max(trained.take, moved) + spooled * per_byte
    others = trained.start + parts["prepare"] + parts["rest"]
    return Cluster(
        w, trained.kernel / 3600, trained.waiting / 3600, (draw + taking) / 3600, trained.exchange / 3600,
        others / 3600, trained.sent, written * (1 - 1 / machines) / w.epochs, need,
    )  # fmt: skip
