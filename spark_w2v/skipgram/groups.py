"""Pairs of a bucket in groups of contexts of one center, and these in batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spark_w2v.skipgram.pairs import Numbers, PairCodec, Runs
from spark_w2v.skipgram.sampling import draw_noise_sets
from spark_w2v.types import Float32Array, Float64Array, Int32Array

# Chosen by measurement: docs/measurements.md.
GROUP = 8  # M at most, where the centers of a bucket have pairs enough
WIDTHS = (1, 2, 4, GROUP)
GROUP_COST = 0.6  # time of a group in addition to that of its contexts, there or not, in contexts
SHARING = 32  # S
NOISE_PER_CONTEXT = 8  # N = 8 M: a pair has as many noise words of its own in narrow groups as in wide ones
BATCH = 2048  # pairs of a batch; its rows are 1.1 MB at D = 100
SMALLEST_BATCH = 64
CHUNK = 64  # batches that are laid out at a time, with one learning rate
FREQUENT = 1 << 20  # bytes of the rows that are frequent contexts, at most: about a core's second-level cache
LEAST_FREQUENT = 64  # rows, = the noise words of a set: fewer, and the groups are too short for what they gain
LEAST_CUT = 8192  # pairs of a bucket that is cut in frequent contexts and others: fewer, and batches are too short
COUNTED = 1 << 18  # pairs whose contexts are counted at a time: what that takes stays in the cache
NOISE_BATCHES = 512  # of noise words drawn for one task; a longer task meets them again, with other pairs
MOST_NOISE = 4  # times K that a pair has at most in addition: of a part with few pairs and much noise


@dataclass(frozen=True)
class BlockNoise:
    """The noise of one context block: all that the kernel knows of it, computed once for all of its buckets.

    Args:
        share: (Ro,) probability of each row as a noise word.
        edges: (Ro,) the same, cumulated, up to 1.
        frequent: number of rows, counted from the first, that are frequent contexts.
        batch: pairs of a batch.
    """

    share: Float32Array
    edges: Float64Array
    frequent: int
    batch: int

    @classmethod
    def of(cls, noise: Float64Array, dimensions: int) -> "BlockNoise":
        """Compute it for a block.

        Args:
            noise: (Ro,) how often each context row is a noise word; only their ratios count.
            dimensions: D.
        """
        total = noise.sum() or 1.0  # a block's part of the distribution is less than 1, and nothing if no word occurs
        edges = np.cumsum(noise / total)
        edges /= edges[-1] or 1.0
        return cls((noise / total).astype(np.float32), edges, frequent_rows(noise, dimensions), batch_size(noise.size))


def frequent_rows(noise: Float64Array, dimensions: int) -> int:
    """Number of context rows, from the first, trained apart from the others: those of half of the noise, if they fit.

    All, where they would be too few to be each other's noise.
    """
    half = int(np.searchsorted(np.cumsum(noise), noise.sum() / 2)) + 1
    frequent = min(half, FREQUENT // (4 * dimensions))
    return frequent if frequent >= LEAST_FREQUENT else noise.size


class BatchChunk(NamedTuple):
    """Some groups, in the order in which they are trained."""

    center: Int32Array  # (g,)
    contexts: Int32Array  # (g, M); a group of fewer pairs has some other context rows at its end
    length: Int32Array  # (g,) pairs, 1 to M
    total: Int32Array  # (g,) pairs of the center in all groups of the part


class Groups:
    """Sorted pairs cut in groups of one center, in random order. No pair is left out, and none is in two groups.

    Args:
        contexts_at: context rows of the pairs at some positions; a position beyond the last is the last.
        runs: of the pairs of each center.
        width: M.
        chunk: groups of a chunk.
    """

    def __init__(
        self,
        contexts_at: Callable[[Int32Array], Int32Array],
        runs: Runs,
        width: int,
        chunk: int,
        rng: np.random.Generator,
    ) -> None:
        # What is kept for each center fits in the cache; kept for each group it would not.
        self._runs, self._chunk, self._contexts_at, self.width = runs, chunk, contexts_at, width
        self._parts: Int32Array = -(-runs.pairs // width)
        before: Int32Array = np.cumsum(self._parts, dtype=np.int32) - self._parts
        # Every parts-th pair of the center, not M neighbours: pairs are sorted by context too, so that neighbours are
        # alike, and a step towards eight times the same word is a worse one than towards eight words.
        self._first: Int32Array = runs.first - before  # a group's number more is the place of its first pair
        self._rounded: Int32Array = (
            runs.pairs + before + self._parts - 1
        )  # less its number, in steps of parts: its pairs
        self._run = np.repeat(np.arange(runs.pairs.size, dtype=np.int32), self._parts)
        self._order = rng.permutation(np.arange(self._run.size, dtype=np.int32))
        self._contexts: Int32Array | None = None
        if len(self) > chunk:
            # Laid out in the order in which the pairs lie: a group that is taken in random order is one piece, not M.
            self._contexts = np.empty((len(self), width), np.int32)
            for begin in self.chunks():
                group = np.arange(begin, min(begin + chunk, len(self)), dtype=np.int32)
                run = self._run[begin : begin + chunk]
                self._contexts[begin : begin + chunk] = self._contexts_of(group, run, self._parts[run])

    def __len__(self) -> int:
        return self._run.size

    def _contexts_of(self, group: Int32Array, run: Int32Array, stride: Int32Array) -> Int32Array:
        at = self._first[run] + group
        contexts = np.empty((group.size, self.width), np.int32)
        for column in contexts.T:
            column[:] = self._contexts_at(at)
            at += stride
        return contexts

    def chunks(self) -> range:
        """The first group of each chunk."""
        return range(0, len(self), self._chunk)

    def chunk(self, begin: int) -> BatchChunk:
        """The groups from there on."""
        group = self._order[begin : begin + self._chunk]
        run = self._run[group]
        stride = self._parts[run]
        if self._contexts is None:
            contexts = self._contexts_of(group, run, stride)
        else:
            contexts = np.take(self._contexts, group, axis=0)
        length: Int32Array = (self._rounded[run] - group) // stride
        return BatchChunk(self._runs.center[run], contexts, length, self._runs.pairs[run])


@dataclass(frozen=True)
class Part:
    """The pairs of a task whose contexts are among some of its rows, which are also the noise of these pairs.

    Args:
        groups: of the pairs.
        size: groups of a batch.
        sharing: S, groups of a set.
        noise: (sets, N) noise words, set after set and batch after batch; a longer walk meets them again.
        amount: weight of all noise words of a set for a pair, K in the mean of all pairs.
        share: of a row's updates in the part that a batch holds, as the groups are shuffled.
        runs: of the pairs.
    """

    groups: Groups
    size: int
    sharing: int
    noise: Int32Array
    amount: float
    share: np.float32
    runs: Runs

    @property
    def each(self) -> np.float32:
        """Weight of a noise word for a pair."""
        return np.float32(self.amount / self.noise.shape[1])

    def noise_of(self, begin: int, end: int) -> Int32Array:
        """(sets, N) the noise words of the groups of a batch."""
        sets, lot = -(-(end - begin) // self.sharing), begin // self.size % NOISE_BATCHES * (self.size // self.sharing)
        return self.noise[lot : lot + sets]


def cut_parts(
    pairs: Numbers, codec: PairCodec, centers: int, noise: BlockNoise, negatives: int, rng: np.random.Generator
) -> list[Part]:
    """The pairs with frequent contexts apart from the others, so that the rows of either are met again in the cache.

    Rows get as much noise as if all were one part: where a part has more of the pairs than of the noise, each of its
    pairs has less. Noise of the whole task beside the pairs of a part would push away, for a chunk, rows that nothing
    draws near.

    Args:
        pairs: (P,) numbers, sorted, P > 0.
        centers: Rc.
        noise: of the context block.
    """
    rows, edge = noise.share.size, noise.frequent
    if pairs.size >= LEAST_CUT and edge < rows:
        both = codec.runs(pairs, centers, edge)
        of_noise = float(noise.edges[edge - 1]), 1 - float(noise.edges[edge - 1])
        of_pairs = [int(runs.pairs.sum()) / pairs.size for runs in both]
        if all(beside <= MOST_NOISE * share for beside, share in zip(of_noise, of_pairs, strict=True)):
            return [
                _part(pairs, codec, runs, noise, ends, negatives * beside / share, rng)
                for runs, ends, beside, share in zip(both, ((0, edge), (edge, rows)), of_noise, of_pairs, strict=True)
                if share
            ]
    every = codec.runs(pairs, centers, 1 << codec.row)[0]
    return [_part(pairs, codec, every, noise, (0, rows), float(negatives), rng)]


def _part(
    pairs: Numbers,
    codec: PairCodec,
    runs: Runs,
    noise: BlockNoise,
    rows: tuple[int, int],
    amount: float,
    rng: np.random.Generator,
) -> Part:
    """The part whose contexts and noise are from the first of two rows to before the last."""
    width = group_width(runs.pairs)
    size = noise.batch // width
    sharing = min(SHARING, size)
    groups = Groups(lambda at: codec.contexts(np.take(pairs, at, mode="clip")), runs, width, size * CHUNK, rng)
    sets = min(-(-len(groups) // sharing), NOISE_BATCHES * (size // sharing))
    drawn = draw_noise_sets(noise.edges, *rows, sets, NOISE_PER_CONTEXT * width, rng)
    return Part(groups, size, sharing, drawn, amount, np.float32(min(1.0, size / len(groups))), runs)


def interleave(parts: list[Part], rng: np.random.Generator) -> list[tuple[Part, int]]:
    """The chunks of all parts, evenly mixed: each with its first group."""
    turns = []
    for number, part in enumerate(parts):
        begins = part.groups.chunks()
        turns += [((i + rng.random()) / len(begins), number, begin) for i, begin in enumerate(begins)]
    return [(parts[number], begin) for _, number, begin in sorted(turns)]


def batch_size(rows: int) -> int:
    """Pairs of a batch for a task with `rows` context rows: BATCH, and fewer where each row would be met too often.

    A row is stepped once a batch, so a vocabulary of some hundred words learned next to nothing from batches of
    2,000 pairs.
    """
    full = SHARING * GROUP
    if rows >= full:
        return min(BATCH, rows // full * full)  # so that sets fill it
    return max(SMALLEST_BATCH, 1 << max(rows, 1).bit_length() - 1)


def group_width(pairs: Int32Array) -> int:
    """M that takes the least time: wide groups share more work, and waste more where a center does not fill them.

    Args:
        pairs: of each center.
    """
    shifts = np.array([[width.bit_length() - 1] for width in WIDTHS], np.int32)  # a fifth of the time of a division
    groups = (pairs + ((1 << shifts) - 1) >> shifts).sum(1)
    return min(zip(groups * (np.array(WIDTHS) + GROUP_COST), WIDTHS, strict=True))[1]
