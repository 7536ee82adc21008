"""Groups of pairs of one center, and batches of groups.

P pairs of a bucket, G groups of up to M contexts of one center, N noise words that S groups share, K negatives, Rc and
Ro center and context rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spark_w2v.skipgram.pairs import PairArray, PairCodec, Runs
from spark_w2v.skipgram.sampling import draw_noise_sets
from spark_w2v.types import Float32Array, Float64Array, Int32Array

# Chosen by measurement: docs/measurements.md.
GROUP = 8  # largest M, used where the centers of a bucket have enough pairs
WIDTHS = (1, 2, 4, GROUP)
GROUP_COST = 0.6  # fixed time of a group, in units of the time of one of its M contexts
SHARING = 32  # S
# N = 6 M: noise words per pair are as many in narrow groups as in wide ones. N = 8 M in a block too small for BATCH
# pairs: with 6 M, training on 300 rows diverged at five times the default rate. N = LEAST_NOISE at least in a block too
# small for SMALL_BATCH pairs: with 8 M in its narrow groups, 128 blocks lost analogies.
NOISE_PER_CONTEXT, NOISE_IN_SMALL_BLOCK = 6, 8
LEAST_NOISE = NOISE_PER_CONTEXT * GROUP
BATCH = 2048  # pairs of a batch; its rows are 1.1 MB at D = 100
SMALL_BATCH = 1024  # pairs
SMALLEST_BATCH = 64
CHUNK = 64  # batches prepared at a time, with one learning rate
FREQUENT = 1 << 20  # largest size of the rows of frequent contexts, in bytes: about a core's second-level cache
LEAST_FREQUENT = 64  # rows: with fewer, the groups are too short to gain time
LEAST_CUT = 8192  # pairs of a bucket that is cut in frequent contexts and others: with fewer, batches are too short
# Pairs of a center that are hardly ever all in one part by chance; largest share of the pairs of a bucket that is cut
# which belongs to centers with at least MANY_PAIRS, all in one part.
MANY_PAIRS, MOST_APART = 16, 0.05
COUNTED = 1 << 18  # pairs whose contexts are counted at a time, so that the arrays stay in the cache
NOISE_BATCHES = 512  # batches for which a part has noise words; a longer part uses them again, with other pairs
MOST_NOISE = 4  # largest noise per pair, of a part or of a center with few pairs and much noise, in multiples of K


@dataclass(frozen=True)
class BlockNoise:
    """Noise distribution of one context block, and what follows from it; computed once for all buckets of the block.

    Args:
        share: (Ro,) probability of each row as a noise word.
        edges: (Ro,) cumulative sums of `share`, up to 1.
        frequent: number of rows, counted from the first, that are frequent contexts.
        batch: pairs of a batch.
        of_all: share of all noise words that are in this block.
    """

    share: Float32Array
    edges: Float64Array
    frequent: int
    batch: int
    of_all: float

    def words(self, width: int) -> int:
        """Return N for groups of M contexts.

        Args:
            width: M.
        """
        if self.batch == BATCH:
            return NOISE_PER_CONTEXT * width
        return max(NOISE_IN_SMALL_BLOCK * width, LEAST_NOISE if self.batch < SMALL_BATCH else 0)

    @classmethod
    def of(cls, noise: Float64Array, dimensions: int) -> "BlockNoise":
        """Compute the noise of a block.

        Args:
            noise: (Ro,) probability of each context row as a noise word, in the whole vocabulary.
            dimensions: D.
        """
        total = noise.sum() or 1.0  # the sum over a block is less than 1, and 0 if no word of it occurs
        edges = np.cumsum(noise / total)
        edges /= edges[-1] or 1.0
        share, frequent = (noise / total).astype(np.float32), frequent_rows(noise, dimensions)
        return cls(share, edges, frequent, batch_size(int(np.count_nonzero(noise))), float(noise.sum()))


def frequent_rows(noise: Float64Array, dimensions: int) -> int:
    """Return the number of frequent context rows, counted from the first; they are trained apart from the others.

    They have half of the noise, or less where FREQUENT bytes do not hold that many rows. All rows are returned where
    the frequent ones would be too few to be noise for each other.
    """
    half = int(np.searchsorted(np.cumsum(noise), noise.sum() / 2)) + 1
    frequent = min(half, FREQUENT // (4 * dimensions))
    return frequent if frequent >= LEAST_FREQUENT else noise.size


class BatchChunk(NamedTuple):
    """Consecutive groups, in the order in which they are trained."""

    center: Int32Array  # (g,)
    contexts: Int32Array  # (g, M); a group of fewer than M pairs is filled with other context rows
    length: Int32Array  # (g,) pairs, 1 to M
    total: Int32Array  # (g,) pairs of the center in all groups of the part


class Groups:
    """Groups of one center each, cut from sorted pairs, in random order. Each pair is in exactly one group.

    Args:
        contexts_at: returns the context rows of the pairs at given positions; a position after the last counts as the
            last.
        runs: of the pairs of each center.
        width: M.
        chunk: number of groups of a chunk.
    """

    def __init__(
        self,
        contexts_at: Callable[[Int32Array], Int32Array],
        runs: Runs,
        width: int,
        chunk: int,
        rng: np.random.Generator,
    ) -> None:
        # Arrays per center fit in the cache; arrays per group would not.
        self._runs, self._chunk, self._contexts_at, self.width = runs, chunk, contexts_at, width
        self._parts: Int32Array = -(-runs.pairs // width)
        before: Int32Array = np.cumsum(self._parts, dtype=np.int32) - self._parts
        # A group takes every parts-th pair of its center, not M neighbours: pairs are sorted by context too, so that
        # neighbours are alike, and a step towards the same word eight times is worse than one towards eight words.
        # With the number of a group added: the position of its first pair.
        self._first: Int32Array = runs.first - before
        # With the number of a group subtracted, then divided by parts: its pairs.
        self._rounded: Int32Array = runs.pairs + before + self._parts - 1
        self._run = np.repeat(np.arange(runs.pairs.size, dtype=np.int32), self._parts)
        self._order = rng.permutation(np.arange(self._run.size, dtype=np.int32))
        self._contexts: Int32Array | None = None
        if len(self) > chunk:
            # Contexts are copied in the order of the pairs, so that a group taken in random order is one read, not M.
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
        """Return the first group of each chunk."""
        return range(0, len(self), self._chunk)

    def chunk(self, begin: int) -> BatchChunk:
        """Return the chunk of groups that begins at `begin`."""
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
    """Pairs of a bucket whose contexts are in one range of rows. The same rows are the noise of these pairs.

    Args:
        groups: of the pairs.
        size: groups of a batch.
        sharing: S, groups of a set.
        noise: (sets, N) noise words, set after set and batch after batch; used again from the first after the last.
        amount: total weight of the noise words of a set for a pair; its mean over all pairs is K.
        share: expected share of a row's updates in the part that are in one batch, as the groups are shuffled.
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
        """Weight of one noise word for one pair."""
        return np.float32(self.amount / self.noise.shape[1])

    def noise_of(self, begin: int, end: int) -> Int32Array:
        """Return the (sets, N) noise words of a batch, whose groups are `begin` to `end` - 1."""
        sets = -(-(end - begin) // self.sharing)
        first = begin // self.size % NOISE_BATCHES * (self.size // self.sharing)
        return self.noise[first : first + sets]


def cut_parts(
    pairs: PairArray, codec: PairCodec, centers: int, noise: BlockNoise, negatives: int, rng: np.random.Generator
) -> list[Part]:
    """Cut pairs with frequent contexts from the others, so that the rows of either part stay in the cache.

    Each row gets as much noise as if all pairs were one part: where a part has a larger share of the pairs than of the
    noise, each of its pairs gets less noise. With noise of the whole block for the pairs of one part, rows of the other
    part would be pushed away for a whole chunk, without any positive pair to attract them. But a center whose contexts
    are all in one part would never learn which words of the other are not, so where many are so, pairs are not cut.

    Args:
        pairs: (P,) numbers, sorted, P > 0.
        centers: Rc.
        noise: of the context block.
        negatives: K.

    Returns:
        One part, or two: frequent contexts, then the others.
    """
    rows, edge = noise.share.size, noise.frequent
    if pairs.size >= LEAST_CUT and edge < rows:
        both = codec.runs(pairs, centers, edge)
        noise_shares = float(noise.edges[edge - 1]), 1 - float(noise.edges[edge - 1])
        pair_shares = [int(runs.pairs.sum()) / pairs.size for runs in both]
        has_noise = all(
            of_noise <= MOST_NOISE * share for of_noise, share in zip(noise_shares, pair_shares, strict=True)
        )
        if has_noise and _pairs_apart(*both) + _pairs_apart(*both[::-1]) <= MOST_APART * pairs.size:
            return [
                _part(pairs, codec, runs, noise, ends, negatives * of_noise / share, rng)
                for runs, ends, of_noise, share in zip(
                    both, ((0, edge), (edge, rows)), noise_shares, pair_shares, strict=True
                )
                if share
            ]
    every = codec.runs(pairs, centers, 1 << codec.row)[0]
    return [_part(pairs, codec, every, noise, (0, rows), float(negatives), rng)]


def _pairs_apart(runs: Runs, others: Runs) -> int:
    """Return how many pairs are those of centers that have many of them, and none among the others."""
    have_many = runs.pairs >= MANY_PAIRS
    center = runs.center[have_many]
    are_apart = np.searchsorted(others.center, center) == np.searchsorted(others.center, center, "right")
    return int(runs.pairs[have_many][are_apart].sum())


def _part(
    pairs: PairArray,
    codec: PairCodec,
    runs: Runs,
    noise: BlockNoise,
    rows: tuple[int, int],
    amount: float,
    rng: np.random.Generator,
) -> Part:
    """Return the part whose contexts and noise are the rows from rows[0] to rows[1] - 1."""
    width = group_width(runs.pairs)
    size = noise.batch // width
    sharing = min(SHARING, size)
    groups = Groups(lambda at: codec.contexts(np.take(pairs, at, mode="clip")), runs, width, size * CHUNK, rng)
    sets = min(-(-len(groups) // sharing), NOISE_BATCHES * (size // sharing))
    drawn = draw_noise_sets(noise.edges, *rows, sets, noise.words(width), rng)
    return Part(groups, size, sharing, drawn, amount, np.float32(min(1.0, size / len(groups))), runs)


def interleave(parts: list[Part], rng: np.random.Generator) -> list[tuple[Part, int]]:
    """Return the chunks of all parts, evenly mixed, as (part, first group)."""
    places = []
    for number, part in enumerate(parts):
        begins = part.groups.chunks()
        places += [((i + rng.random()) / len(begins), number, begin) for i, begin in enumerate(begins)]
    return [(parts[number], begin) for _, number, begin in sorted(places)]


def batch_size(rows: int) -> int:
    """Return the pairs of a batch, given the number of context rows that occur: BATCH, or fewer where these are few.

    A row moves once per batch, so a vocabulary of some hundred words learned next to nothing from batches of 2,000
    pairs.
    """
    full = SHARING * GROUP
    if rows >= full:
        return min(BATCH, rows // full * full)  # so that sets fill it
    return max(SMALLEST_BATCH, 1 << max(rows, 1).bit_length() - 1)


def group_width(pairs: Int32Array) -> int:
    """Return the M that takes the least time.

    Wide groups share more work, and waste more where a center does not fill them.

    Args:
        pairs: number of pairs of each center.
    """
    shifts = np.array([[width.bit_length() - 1] for width in WIDTHS], np.int32)  # a fifth of the time of a division
    groups = (pairs + ((1 << shifts) - 1) >> shifts).sum(1)
    return min(zip(groups * (np.array(WIDTHS) + GROUP_COST), WIDTHS, strict=True))[1]
