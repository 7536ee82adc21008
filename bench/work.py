"""How much a run of scheme `blocks` has to do, from its settings and the counts of its words: pairs, groups, bytes.

W words of the corpus, V of the vocabulary, D dimensions, B blocks, T tasks, S sweeps of an epoch. Nothing is measured
here; tests hold these counts against what the code does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import gammainc

from spark_w2v.config import Config
from spark_w2v.skipgram.groups import CHUNK, GROUP_COST, LEAST_CUT, MOST_NOISE, WIDTHS, batch_size, frequent_rows
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.skipgram.schedule import (
    auto_sweeps,
    epoch_edges,
    equal_sweeps,
    expected_pairs,
    kept_words,
    largest_bucket,
    most_partitions,
    window_contexts,
)
from spark_w2v.spark.buckets import chunk_size
from spark_w2v.spark.session import SPLIT_BYTES
from spark_w2v.types import Float64Array, Int64Array

BYTES_PER_WORD = 6  # of text
CACHE = 1 << 20  # bytes: the rows of a larger block are farther away
ALIKE = 0.02  # blocks whose loads differ by less count as equal
LISTED = 64  # the words of a block that are looked at one by one; of the others, some stand for their neighbours
SAMPLED = 200
MOST_OCCURRENCES = 40  # of a word in a sweep, up to which their number is taken to vary


class Buckets(NamedTuple):
    """Sums over some buckets.

    Args:
        groups: that the kernel cuts.
        places: of the contexts of these groups, taken or not.
        far: places * D * doublings of a block above CACHE, of the part whose rows are in no cache.
        batches: that are trained at a time.
        steps: context rows, each as often as its step size is computed.
    """

    buckets: float = 0.0
    pairs: float = 0.0
    groups: float = 0.0
    places: float = 0.0
    far: float = 0.0
    batches: float = 0.0
    steps: float = 0.0

    def plus(self, other: "Buckets", times: float = 1.0) -> "Buckets":
        """The sum, with another one so often."""
        return Buckets(*(mine + times * its for mine, its in zip(self, other, strict=True)))


class Block(NamedTuple):
    """A block, as one that others are like.

    Args:
        load: occurrences that are trained on in an epoch.
        rows: of the block.
        occurrences, stands_for: of some of its words, and how many words each of them stands for.
        edge: so many rows are frequent contexts.
        frequent_pairs, frequent_noise: shares of these rows.
    """

    load: float
    rows: int
    occurrences: Float64Array
    stands_for: Int64Array
    edge: int
    frequent_pairs: float
    frequent_noise: float


def block_of(load: Float64Array, counts: Int64Array, noise_exponent: float, dimensions: int, alike: float) -> Block:
    """Describe a block that stands for some.

    Args:
        load: of its words, in the order of its rows.
        alike: what these blocks have of load, in the mean.
    """
    noise = noise_distribution(counts, noise_exponent)
    edge = frequent_rows(noise, dimensions)
    at = np.arange(load.size)
    if load.size > LISTED + SAMPLED:
        at = np.unique(np.concatenate([at[:LISTED], np.geomspace(LISTED, load.size, SAMPLED).astype(np.int64) - 1]))
    stands_for = np.diff(np.append(at, load.size))
    falling = -np.sort(-load)
    total = float(load.sum())
    return Block(
        alike, load.size, falling[at] * (alike / total), stands_for, edge, float(load[:edge].sum()) / total,
        float(noise[:edge].sum() / noise.sum()),
    )  # fmt: skip


def expected_groups(occurrences: Float64Array, pairs: float, width: int) -> Float64Array:
    """Groups that the kernel cuts of a center's pairs in a bucket, in the mean.

    The occurrences of a center in a sweep are Poisson around a mean, as are its pairs in the bucket around so many for
    each occurrence: all pairs of an occurrence are trained in one sweep. The mean of ceil(n / M) is the sum over j of
    the probability of n > j M; of many pairs, n / M and the half that rounding up adds.

    Args:
        occurrences: of each center in the sweep, in the mean.
        pairs: of an occurrence in the bucket, in the mean.
        width: M.
    """
    mean = occurrences * pairs
    if width == 1:
        return mean
    many: Float64Array = mean / width + (width - 1) / (2 * width)
    low = (mean <= 6 * width) | (occurrences <= MOST_OCCURRENCES / 4)
    if not low.any():
        return many
    most = float(max(occurrences[low].max(), 1e-9))
    grid = np.geomspace(most * 1e-6, most, 160)
    of_grid = np.zeros(grid.size)
    past = np.arange(40) * width + 1.0
    if most <= MOST_OCCURRENCES / 2:
        # Few occurrences: their number varies, and the pairs with it.
        number = np.arange(1, MOST_OCCURRENCES + 1)
        log_factorial = np.cumsum(np.log(number))
        chance = np.exp(number[None] * np.log(grid[:, None]) - grid[:, None] - log_factorial[None])
        of_number = gammainc(past[None], number[:, None] * pairs).sum(1)
        of_number = np.where(number * pairs > 30 * width, number * pairs / width + (width - 1) / (2 * width), of_number)
        of_grid = chance @ of_number
    else:
        rare = grid <= MOST_OCCURRENCES / 4
        of_grid = gammainc(past[None], grid[:, None] * pairs).sum(1)
        if rare.any():
            of_grid[rare] = expected_groups(grid[rare], pairs, width)
    found = np.where(low, np.interp(occurrences, grid, of_grid), many)
    return np.where(occurrences < grid[0], mean, found)


def bucket(center: Block, context: Block, share: float, window: int, total: float, dimensions: int) -> Buckets:
    """Work of the kernel in a bucket.

    Args:
        share: of the epoch that the sweep trains.
        total: occurrences that are trained on in an epoch, of all blocks.
    """
    each = (window + 1) * context.load / total  # pairs of an occurrence in this bucket
    pairs = center.load * share * each
    parts = [(1.0, True)]
    if pairs >= LEAST_CUT and context.edge < context.rows:
        of_pairs = (context.frequent_pairs, 1 - context.frequent_pairs)
        of_noise = (context.frequent_noise, 1 - context.frequent_noise)
        if all(noise <= MOST_NOISE * mine for noise, mine in zip(of_noise, of_pairs, strict=True)):
            parts = [(of_pairs[0], False), (of_pairs[1], True)]
    doublings = math.log2(1 + context.rows * dimensions * 4 / CACHE)
    found = Buckets(1.0, pairs)
    for part, is_far in parts:
        cut = {
            width: float(center.stands_for @ expected_groups(center.occurrences * share, each * part, width))
            for width in WIDTHS
        }
        width = min(cut, key=lambda width: cut[width] * (width + GROUP_COST))
        size = batch_size(context.rows) // width
        groups = max(cut[width], 1e-9)
        found = found.plus(
            Buckets(
                groups=groups,
                places=groups * width,
                far=groups * width * dimensions * doublings if is_far else 0.0,
                batches=math.ceil(groups / size),
                steps=context.rows * (math.ceil(groups / (size * CHUNK)) + 1),
            )
        )
    return found


class Sweep(NamedTuple):
    """A sweep, or several alike: its share of its epoch, and what a bucket of each pair of kinds of blocks does."""

    share: float
    buckets: list[list[Buckets]]


@dataclass(frozen=True)
class Work:
    """Work of a run.

    Args:
        words, vocabulary: W, V.
        blocks, tasks, cores: B, T, and those of all machines.
        kept: occurrences that are trained on in an epoch.
        kinds: (B,) blocks of the same kind have about the same load.
        rows: (B,) of each block.
        edges: of the sweeps of each epoch.
        sweeps: by share.
        codec: of the pairs.
        snapshots: parameters come back after each sweep.
    """

    words: float
    vocabulary: int
    dimensions: int
    blocks: int
    tasks: int
    cores: int
    kept: float
    window: int
    kinds: Int64Array
    rows: Int64Array
    edges: list[Float64Array]
    sweeps: dict[float, Sweep]
    codec: PairCodec
    snapshots: bool

    @property
    def width(self) -> int:
        """Bytes of a pair."""
        return self.codec.stored.itemsize

    @property
    def model(self) -> float:
        """Bytes of both matrices."""
        return 8.0 * self.vocabulary * self.dimensions

    @property
    def epochs(self) -> int:
        return len(self.edges)

    @property
    def epoch_pairs(self) -> float:
        return expected_pairs(self.kept, window_contexts(self.window))

    @property
    def pairs(self) -> float:
        """Of all epochs."""
        return self.epochs * self.epoch_pairs

    @property
    def rounds(self) -> int:
        """Of all epochs."""
        return sum(edges.size - 1 for edges in self.edges) * self.blocks

    @property
    def draws(self) -> int:
        """Tasks that draw an epoch's pairs, one for each segment of text."""
        return math.ceil(self.words * BYTES_PER_WORD / SPLIT_BYTES)

    @property
    def draw_span(self) -> float:
        """Seconds of drawing for each core-second of it: 1 / C at best."""
        return math.ceil(self.draws / self.cores) / self.draws

    @property
    def records(self) -> float:
        """Of the shuffle, all epochs: one for each chunk that is sorted at a time, and task."""
        found = 0.0
        for edges in self.edges:
            chunks = max(
                self.draws, self.epoch_pairs / chunk_size((edges.size - 1) * self.blocks**2 << self.codec.strip)
            )
            found += chunks * self.tasks
        return found

    def shares(self, epoch: int) -> list[float]:
        """Share of an epoch of each of its sweeps: the key of `sweeps`."""
        return shares(self.edges[epoch])

    @cached_property
    def buckets(self) -> Buckets:
        """Of all epochs."""
        found, of_kind = Buckets(), np.bincount(self.kinds)
        for edges in self.edges:
            for share in shares(edges):
                for center, row in zip(of_kind, self.sweeps[share].buckets, strict=True):
                    for context, each in zip(of_kind, row, strict=True):
                        found = found.plus(each, float(center * context))
        return found

    @property
    def driver_bytes(self) -> float:
        """Of parameters through the driver, all epochs."""
        return sum(self.model * (1 + (edges.size - 1 if self.snapshots else 1)) for edges in self.edges)

    @property
    def passed(self) -> float:
        """Blocks that go from one task to another, all epochs: in every round but the last, one of each task."""
        return sum((edges.size - 1) * self.blocks - 1 for edges in self.edges) * (self.tasks if self.tasks > 1 else 0)

    @property
    def block_bytes(self) -> float:
        """Of a block of one matrix, in the mean."""
        return self.model / 2 / self.blocks

    @property
    def task_bytes(self) -> float:
        """Of parameters between tasks, all epochs."""
        return self.passed * self.block_bytes

    @property
    def waited_for(self) -> float:
        """Blocks that a task can only wait for, all epochs: all that it gets, if it owns one center block alone."""
        return self.passed / self.tasks if self.blocks == self.tasks else 0.0


def shares(edges: Float64Array) -> list[float]:
    """Share of the epoch of each sweep; equal ones are equal to the last digit."""
    return [round(float(share), 9) for share in np.diff(edges)]


def work_of(
    counts: Int64Array,
    dimensions: int,
    blocks: int,
    cores: int,
    *,
    tasks: int | None = None,
    epochs: int = 1,
    subsample: float | None = None,
    snapshots: bool = False,
    sweeps: int | None = None,
) -> Work:
    """Return the work of a run, with the defaults for all that is not given.

    Args:
        counts: (V,) of the words.
        blocks: B wanted; a vocabulary too small for them has fewer.
        tasks: as many as there are blocks and cores for, if it is not said.
    """
    c = Config()
    window = c.training.window
    assert isinstance(window, int)
    contexts = window_contexts(window)
    load = kept_words(counts, c.vocabulary.subsample if subsample is None else subsample)
    total = float(load.sum())
    blocks = min(blocks, most_partitions("blocks", counts.size, total, contexts))
    pairs = expected_pairs(total, contexts)
    count = equal_sweeps(sweeps or auto_sweeps(blocks, pairs), largest_bucket(pairs, blocks, load))
    edges = [epoch_edges(epoch, blocks, count, pairs) for epoch in range(epochs)]
    assigned = assign_blocks(load, blocks)
    loads = np.bincount(assigned.block, load, blocks)
    _, first, kinds = np.unique(
        np.round(np.log(np.maximum(loads, 1e-9) * blocks / total) / ALIKE), return_index=True, return_inverse=True
    )
    means = np.bincount(kinds, loads) / np.bincount(kinds)
    described = [
        block_of(load[ids], counts[ids], c.training.noise_exponent, dimensions, float(mean))
        for ids, mean in zip((assigned.of(assigned.order, int(at)) for at in first), means, strict=True)
    ]
    found = {
        share: Sweep(
            share,
            [[bucket(mine, other, share, window, total, dimensions) for other in described] for mine in described],
        )
        for share in dict.fromkeys(share for some in edges for share in shares(some))
    }
    return Work(
        float(counts.sum()), counts.size, dimensions, blocks, tasks or min(blocks, cores), cores, total, window,
        kinds.astype(np.int64), np.diff(assigned.ends).astype(np.int64), edges, found,
        PairCodec.of(assigned, max(some.size - 1 for some in edges)), snapshots,
    )  # fmt: skip


def bucket_seconds(work: Work, share: float, price: Sequence[float]) -> Float64Array:
    """(K, K) seconds of a bucket by the kinds of its blocks.

    Args:
        price: of each field of Buckets.
    """
    return np.array([[float(np.dot(each, price)) for each in row] for row in work.sweeps[share].buckets])
