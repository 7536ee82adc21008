"""One walk over the pairs of one task: the kernel.

P pairs, G groups of up to M contexts of one center, D dimensions, K negatives, N noise words that S groups share,
Rc and Ro center and context rows of the task.

Pairs may be trained in any order. Sorted by center and cut in groups, a center row is gathered, multiplied with the
noise and scattered once a group instead of once a pair, and nearly all arithmetic is matrix products. The groups are
shuffled, and trained in batches whose updates are applied together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from spark_w2v.skipgram.pairs import Numbers, PairCodec, Runs
from spark_w2v.skipgram.sampling import draw_noise_sets
from spark_w2v.skipgram.scatter import add_rows, add_sums
from spark_w2v.types import Float32Array, Float64Array, Int32Array

# Chosen by measurement: docs/measurements.md.
GROUP = 8  # M at most, where the centers of a bucket have pairs enough
WIDTHS = (1, 2, 4, GROUP)
GROUP_COST = 0.6  # time of a group beside that of its contexts, there or not, in contexts
SHARING = 32  # S
NOISE_PER_CONTEXT = 8  # N = 8 M: a pair has as many noise words of its own in narrow groups as in wide ones
BATCH = 2048  # pairs of a batch; its rows are 1.1 MB at D = 100
SMALLEST_BATCH = 64
STRETCH = 64  # batches that are laid out at a time, with one learning rate
NOISE_LOTS = 512  # batches' worth of noise words drawn for one task; a longer task meets them again, with other pairs
FREQUENT = 1 << 20  # bytes of the rows that are frequent contexts, at most: about a core's second-level cache
LEAST_FREQUENT = 64  # rows, = the noise words of a set: fewer, and the groups are too short for what they gain
LEAST_CUT = 8192  # pairs of a bucket that is cut in frequent contexts and others: fewer, and batches are too short
MOST_NOISE = 4  # times K that a pair has beside it at most: of a part with few pairs and much noise
COUNTED = 1 << 18  # pairs whose contexts are counted at a time: what that takes stays in the cache
LOSS_EVERY = 4  # batches between two of which the first S groups have their loss taken
# Mean gradients that a row may move in one batch. The implicit step alone allows 1 / kappa = 10, and the most frequent
# word of a small block gets most of its batch: 32 blocks diverged.
FARTHEST = np.float32(4.0)
HALF = np.float32(0.5)
# (GROUP + 1, GROUP) by the length of a group: 1/2 for the contexts that are there, else 0.
HALF_THERE = HALF * (np.arange(GROUP) < np.arange(GROUP + 1)[:, None])


@dataclass(frozen=True)
class SgdParams:
    """How far the rows move.

    Args:
        negatives: K.
        damping: kappa of the implicit step, row += a * sum / (1 + a * kappa * n), n the row's updates in a batch
            (Toulis & Airoldi 2017).
        first_rate, last_rate: learning rate a at the first and the last pair of the task; linear between.
    """

    negatives: int
    damping: float
    first_rate: float
    last_rate: float


def _nothing() -> Float32Array:
    return np.empty(0, np.float32)


@dataclass(frozen=True)
class TrainStats:
    """What one walk did.

    Args:
        pairs: pairs trained, each once.
        loss: sum of the negative-sampling loss over `loss_pairs` of them, each taken before its own update; brought
            to K noise words where a part has more or less, so that an untrained model has (1 + K) ln 2 per pair.
        center_updates, context_updates: (Rc,), (Ro,) updates of each row: a positive counts 1, a noise word the
            weight of the pairs it stands beside. 0 for a row that nothing touched. Empty where nobody asked.
    """

    pairs: int
    loss: float
    loss_pairs: int
    center_updates: Float32Array = field(default_factory=_nothing)
    context_updates: Float32Array = field(default_factory=_nothing)


@dataclass(frozen=True)
class BlockNoise:
    """The noise of one context block: all that the kernel knows of it, computed once for all of its buckets.

    Args:
        share: (Ro,) probability of each row as a noise word.
        edges: (Ro,) the same, cumulated, up to 1.
        frequent: so many rows, the first ones, are frequent.
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


class Stretch(NamedTuple):
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
        stretch: groups of a stretch.
    """

    def __init__(
        self,
        contexts_at: Callable[[Int32Array], Int32Array],
        runs: Runs,
        width: int,
        stretch: int,
        rng: np.random.Generator,
    ) -> None:
        # What is kept for each center fits in the cache; kept for each group it would not.
        self._runs, self._stretch, self._contexts_at, self.width = runs, stretch, contexts_at, width
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
        if len(self) > stretch:
            # Laid out in the order in which the pairs lie: a group that is taken in random order is one piece, not M.
            self._contexts = np.empty((len(self), width), np.int32)
            for begin in self.stretches():
                group = np.arange(begin, min(begin + stretch, len(self)), dtype=np.int32)
                run = self._run[begin : begin + stretch]
                self._contexts[begin : begin + stretch] = self._contexts_of(group, run, self._parts[run])

    def __len__(self) -> int:
        return self._run.size

    def _contexts_of(self, group: Int32Array, run: Int32Array, stride: Int32Array) -> Int32Array:
        at = self._first[run] + group
        contexts = np.empty((group.size, self.width), np.int32)
        for column in contexts.T:
            column[:] = self._contexts_at(at)
            at += stride
        return contexts

    def stretches(self) -> range:
        """The first group of each stretch."""
        return range(0, len(self), self._stretch)

    def stretch(self, begin: int) -> Stretch:
        """The groups from there on."""
        group = self._order[begin : begin + self._stretch]
        run = self._run[group]
        stride = self._parts[run]
        if self._contexts is None:
            contexts = self._contexts_of(group, run, stride)
        else:
            contexts = np.take(self._contexts, group, axis=0)
        length: Int32Array = (self._rounded[run] - group) // stride
        return Stretch(self._runs.center[run], contexts, length, self._runs.pairs[run])


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
        sets, lot = -(-(end - begin) // self.sharing), begin // self.size % NOISE_LOTS * (self.size // self.sharing)
        return self.noise[lot : lot + sets]


def cut_parts(
    pairs: Numbers, codec: PairCodec, centers: int, noise: BlockNoise, negatives: int, rng: np.random.Generator
) -> list[Part]:
    """The pairs with frequent contexts apart from the others, so that the rows of either are met again in the cache.

    Rows get as much noise as if all were one part: where a part has more of the pairs than of the noise, each of its
    pairs has less. Noise of the whole task beside the pairs of a part would push away, for a stretch, rows that nothing
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
    groups = Groups(lambda at: codec.contexts(np.take(pairs, at, mode="clip")), runs, width, size * STRETCH, rng)
    sets = min(-(-len(groups) // sharing), NOISE_LOTS * (size // sharing))
    drawn = draw_noise_sets(noise.edges, *rows, sets, NOISE_PER_CONTEXT * width, rng)
    return Part(groups, size, sharing, drawn, amount, np.float32(min(1.0, size / len(groups))), runs)


def take_turns(parts: list[Part], rng: np.random.Generator) -> list[tuple[Part, int]]:
    """The stretches of all parts, evenly mixed: each with its first group."""
    turns = []
    for number, part in enumerate(parts):
        begins = part.groups.stretches()
        turns += [((i + rng.random()) / len(begins), number, begin) for i, begin in enumerate(begins)]
    return [(parts[number], begin) for _, number, begin in sorted(turns)]


def softplus(x: Float32Array) -> Float32Array:
    """-log sigma(-x), stable. np.logaddexp(0, x) takes 11 times as long."""
    result: Float32Array = np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    return result


def batch_size(rows: int) -> int:
    """Pairs of a batch for a task with so many context rows: BATCH, and fewer where each row would be met too often.

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


def frequent_rows(noise: Float64Array, dimensions: int) -> int:
    """The first so many context rows are trained apart from the others: those of half of the noise, as far as they fit.

    All, where they would be too few to be each other's noise.
    """
    half = int(np.searchsorted(np.cumsum(noise), noise.sum() / 2)) + 1
    frequent = min(half, FREQUENT // (4 * dimensions))
    return frequent if frequent >= LEAST_FREQUENT else noise.size


def step_sizes(updates: Float32Array, rate: float, damping: float) -> Float32Array:
    """The factor of each row's summed gradient: an implicit step, and never more than FARTHEST mean gradients.

    Args:
        updates: n of each row in a batch.
        rate, damping: a and kappa of a / (1 + a * kappa * n).
    """
    implicit = np.float32(rate) / (1 + np.float32(rate * damping) * updates)
    sizes: Float32Array = np.minimum(implicit, FARTHEST / updates)
    return sizes


def train_pairs(
    center_rows: Float32Array,
    context_rows: Float32Array,
    pairs: Numbers,
    codec: PairCodec,
    noise: BlockNoise,
    step: SgdParams,
    rng: np.random.Generator,
    count_updates: bool = False,
) -> TrainStats:
    """Train on every pair once, in place.

    The gradients are those of `reference.negative_sampling_loss_and_gradient`, with the K noise words of a pair spread
    over the N of its set: each weighs K / N.

    Args:
        center_rows: (Rc, D) contiguous; changed.
        context_rows: (Ro, D) contiguous; changed.
        pairs: (P,) numbers of the pairs, sorted.
        codec: of these numbers.
        noise: of the context rows.
        count_updates: whether the updates of each row are wanted.
    """
    rows, dimensions = context_rows.shape
    if not pairs.size:
        return TrainStats(
            0, 0.0, 0, *(np.zeros(len(m), np.float32) for m in (center_rows, context_rows) if count_updates)
        )
    parts = cut_parts(pairs, codec, len(center_rows), noise, step.negatives, rng)
    total, done = sum(len(part.groups) for part in parts), 0
    positives = np.bincount(codec.contexts(pairs[:COUNTED]), minlength=rows)
    for begin in range(COUNTED, pairs.size, COUNTED):
        positives += np.bincount(codec.contexts(pairs[begin : begin + COUNTED]), minlength=rows)
    context_updates: Float32Array = np.float32(step.negatives * pairs.size) * noise.share
    context_updates += positives
    loss, loss_pairs = 0.0, 0
    most = [min(part.size, -(-len(part.groups) // part.sharing) * part.sharing) for part in parts]
    c = np.empty((max(most), dimensions), np.float32)
    turned = np.empty(c.size, np.float32)
    o = np.empty((max(m * p.groups.width for m, p in zip(most, parts, strict=True)), dimensions), np.float32)
    noisiest = max(m // p.sharing * p.noise.shape[1] for m, p in zip(most, parts, strict=True))
    z = np.empty((noisiest, dimensions), np.float32)
    for part, begin in take_turns(parts, rng):
        center, context, length, of_center = part.groups.stretch(begin)
        size, sharing, each, width = part.size, part.sharing, part.each, part.groups.width
        twice = 2 * (1 + step.negatives) / (1 + part.amount)
        rate = step.first_rate + (step.last_rate - step.first_rate) * done / total
        done += center.size
        # n of the implicit step is what a batch is expected to hold of a row that it holds at all: nothing has to be
        # counted in each batch.
        own = length.astype(np.float32)
        held: Float32Array = np.float32(1 + part.amount) * (own + part.share * (of_center.astype(np.float32) - own))
        center_rate = step_sizes(held, rate, step.damping)
        expected: Float32Array = np.float32(1) + part.share * context_updates
        context_rate = step_sizes(expected, rate, step.damping)
        positive_rate = np.take(context_rate, context, mode="clip")
        half_there = np.take(HALF_THERE[:, :width], length, axis=0)
        # The last set may be short: its other centers are row 0, and weigh nothing.
        padded = -(-center.size // sharing) * sharing
        which_padded, half_weight = np.zeros(padded, np.int32), np.zeros(padded, np.float32)
        which_padded[: center.size] = center
        np.multiply(own, -HALF * each, out=half_weight[: center.size])
        for a in range(0, center.size, size):
            b = min(a + size, center.size)
            noisy = part.noise_of(begin + a, begin + b)
            sets = len(noisy)
            end = a + sets * sharing
            which, beside, drawn = center[a:b], context[a:b].ravel(), noisy.ravel()
            # mode="clip" because the default checks every index through a buffer; ours cannot be outside.
            np.take(center_rows, which_padded[a:end], axis=0, out=c[: end - a], mode="clip")
            np.take(context_rows, beside, axis=0, out=o[: beside.size], mode="clip")
            np.take(context_rows, drawn, axis=0, out=z[: drawn.size], mode="clip")
            c3, z3 = c[: end - a].reshape(sets, sharing, -1), z[: drawn.size].reshape(sets, drawn.size // sets, -1)
            o3 = o[: beside.size].reshape(b - a, width, -1)

            if width == GROUP:
                good = np.matmul(o3, c[: b - a, :, None])[:, :, 0]
                # OpenBLAS takes 2 to 3 times as long for a transposed right side, where there are enough noise words.
                t3 = turned[: (end - a) * dimensions].reshape(sets, dimensions, sharing)
                np.copyto(t3, c3.transpose(0, 2, 1))
                bad = np.matmul(z3, t3)
            else:
                good = np.vecdot(o3, c[: b - a, None, :])
                bad = np.matmul(z3, c3.transpose(0, 2, 1))
            if (begin + a) // size % LOSS_EVERY == 0:
                some = slice(a, min(a + sharing, b))
                beside_some = softplus(bad[0]).sum(0, dtype=np.float64)
                loss += float(twice * np.sum(softplus(-good[:sharing]) * half_there[some], dtype=np.float64))
                loss -= float(twice * (beside_some @ half_weight[a : a + sharing]))
                loss_pairs += int(length[some].sum())
            # sigma(x) = (1 + tanh(x / 2)) / 2, and NumPy's tanh takes a tenth of SciPy's expit.
            good *= HALF
            bad *= HALF
            np.tanh(good, out=good)
            np.subtract(1, good, out=good)
            good *= half_there[a:b]
            np.tanh(bad, out=bad)
            bad += 1
            bad *= half_weight[a:end].reshape(sets, 1, sharing)

            center_gradient = np.matmul(bad.transpose(0, 2, 1), z3).reshape(-1, dimensions)
            add_sums(center_gradient, good.ravel(), o[: beside.size], width)
            noise_gradient = np.matmul(bad, c3).reshape(-1, dimensions)
            good *= positive_rate[a:b]
            add_rows(context_rows, beside, good.ravel(), c[: b - a], width)
            add_rows(context_rows, drawn, context_rate[drawn], noise_gradient)
            add_rows(center_rows, which, center_rate[a:b], center_gradient[: b - a])
    if not count_updates:
        return TrainStats(pairs.size, loss, loss_pairs)
    center_updates, touched = np.zeros(len(center_rows), np.float32), positives > 0
    for part in parts:
        center_updates[part.runs.center] += np.float32(1 + part.amount) * part.runs.pairs
        touched[part.noise.ravel()] = True
    return TrainStats(pairs.size, loss, loss_pairs, center_updates, context_updates * touched)
