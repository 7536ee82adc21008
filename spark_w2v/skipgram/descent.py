"""One walk over the pairs of one task: the kernel.

P pairs, G groups of up to M contexts of one center, D dimensions, K negatives, N noise words that S groups share,
Rc and Ro center and context rows of the task.

Pairs may be trained in any order. Sorted by center and cut in groups, a center row is gathered, multiplied with the
noise and scattered once a group instead of once a pair, and nearly all arithmetic is matrix products. The groups are
shuffled, and trained in batches whose updates are applied together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.pairs import Layout, Numbers
from spark_w2v.skipgram.rows import add_rows
from spark_w2v.skipgram.sampling import draw_noise

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

# Chosen by measurement: docs/decisions.md.
GROUP = 8  # M
SHARING = 32  # S
NOISE = 64  # N
BATCH = 256  # groups of a batch; its rows are 1.1 MB at D = 100
SMALLEST_BATCH = 8
ROWS_A_GROUP = 8  # context rows for each group of a batch, at least
STRETCH = 64  # batches that are laid out at a time, with one learning rate
NOISE_LOTS = 512  # batches' worth of noise words drawn for one task; a longer task meets them again, with other pairs
FREQUENT = 1 << 20  # bytes of the rows that are frequent contexts, at most: about a core's second-level cache
LEAST_FREQUENT = NOISE  # rows: fewer, and the groups are too short for what they gain
MOST_NOISE = 4  # times K that a pair has beside it at most: of a part with few pairs and much noise
COUNTED = 1 << 18  # pairs whose contexts are counted at a time: what that takes stays in the cache
LOSS_EVERY = 16  # batches between two whose loss is taken
# Mean gradients that a row may move in one batch. The implicit step alone allows 1 / kappa = 10, and the most frequent
# word of a small block gets most of its batch: 32 blocks diverged.
FARTHEST = np.float32(4.0)
HALF = np.float32(0.5)


@dataclass(frozen=True)
class Step:
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


@dataclass(frozen=True)
class Walk:
    """What one walk did.

    Args:
        pairs: pairs trained, each once.
        loss: sum of the negative-sampling loss over `loss_pairs` of them, each taken before its own update.
        center_updates, context_updates: (Rc,), (Ro,) updates of each row: a positive counts 1, a noise word the
            weight of the pairs it stands beside. 0 for a row that nothing touched.
    """

    pairs: int
    loss: float
    loss_pairs: int
    center_updates: Floats
    context_updates: Floats


class Stretch(NamedTuple):
    """Some groups, in the order in which they are trained."""

    center: Ints  # (g,)
    contexts: Ints  # (g, M); a group of fewer pairs has some other context rows at its end
    length: Ints  # (g,) pairs, 1 to M


class Groups:
    """Sorted pairs cut in groups of one center, in random order. No pair is left out, and none is in two groups.

    Args:
        contexts_at: context rows of the pairs at some positions; a position beyond the last is the last.
        first: (Rc,) position of each center's first pair.
        pairs: (Rc,) pairs of each center from there on.
        stretch: groups of a stretch.
    """

    def __init__(
        self, contexts_at: Callable[[Ints], Ints], first: Ints, pairs: Ints, stretch: int, rng: np.random.Generator
    ) -> None:
        # What is kept for each center fits in the cache; kept for each group it would not.
        self._first, self._pairs, self._stretch = first, pairs, stretch
        self._parts = -(-pairs // GROUP)
        self._before = np.cumsum(self._parts, dtype=np.int32) - self._parts
        self._center = np.repeat(np.arange(pairs.size, dtype=np.int32), self._parts)
        self._order = rng.permutation(np.arange(self._center.size, dtype=np.int32))
        # Laid out in the order in which the pairs lie: a group that is taken in random order is one piece, not M.
        self._contexts = np.empty((self._center.size, GROUP), np.int32)
        for begin in self.stretches():
            group = np.arange(begin, min(begin + stretch, len(self)), dtype=np.int32)
            at, stride, _ = self._pairs_of(group, self._center[group])
            slots: Ints = np.add(at[:, None], np.multiply(stride[:, None], np.arange(GROUP, dtype=np.int32)))
            self._contexts[begin : begin + stretch] = contexts_at(slots)

    def __len__(self) -> int:
        return self._center.size

    def _pairs_of(self, group: Ints, center: Ints) -> tuple[Ints, Ints, Ints]:
        """Each group's first pair, how far it is to the next one, and how many there are."""
        # Every parts-th pair of the center, not GROUP neighbours: pairs are sorted by context too, so that neighbours
        # are alike, and a step towards eight times the same word is a worse one than towards eight words.
        stride = self._parts[center]
        within = group - self._before[center]
        return self._first[center] + within, stride, (self._pairs[center] - within + stride - 1) // stride

    def stretches(self) -> range:
        """The first group of each stretch."""
        return range(0, len(self), self._stretch)

    def stretch(self, begin: int) -> Stretch:
        """The groups from there on."""
        group = self._order[begin : begin + self._stretch]
        center = self._center[group]
        return Stretch(center, np.take(self._contexts, group, axis=0), self._pairs_of(group, center)[2])


@dataclass(frozen=True)
class Part:
    """The pairs of a task whose contexts are among some of its rows, which are also the noise of these pairs.

    Args:
        groups: of the pairs.
        noise: (lots, N * sets of a batch) noise words of each batch; a longer walk meets them again.
        each: weight of a noise word for a pair, K / N in the mean of all pairs.
        share: of a row's updates in the part that a batch holds, as the groups are shuffled.
        center_updates: (Rc,) updates of each center row.
    """

    groups: Groups
    noise: Ints
    each: np.float32
    share: np.float32
    center_updates: Floats


def cut_parts(
    pairs: Numbers,
    layout: Layout,
    centers: int,
    noise: npt.NDArray[np.float64],
    negatives: int,
    frequent: int,
    rng: np.random.Generator,
) -> list[Part]:
    """The pairs with frequent contexts apart from the others, so that the rows of either are met again in the cache.

    Rows get as much noise as if all were one part: where a part has more of the pairs than of the noise, each of its
    pairs has less. Noise of the whole task beside the pairs of a part would push away, for a stretch, rows that nothing
    draws near.

    Args:
        pairs: (P,) numbers, sorted.
        centers: Rc.
        noise: (Ro,) probability of each context row as a noise word.
        frequent: so many context rows, the first ones, are frequent.
    """
    for edge in (frequent, noise.size):
        counts = layout.pairs_by_part(pairs, centers, edge)
        of_pairs, of_noise = counts.sum(0) / pairs.size, np.array([noise[:edge].sum(), noise[edge:].sum()])
        if (of_noise <= MOST_NOISE * of_pairs).all():
            break
    first = (np.cumsum(counts.ravel()) - counts.ravel()).astype(np.int32).reshape(counts.shape)
    size = batch_size(noise.size)
    sets = size // min(SHARING, size)
    parts = []
    for part in np.flatnonzero(of_pairs):
        groups = Groups(
            lambda at: layout.contexts(np.take(pairs, at, mode="clip")),
            np.ascontiguousarray(first[:, part]),
            np.ascontiguousarray(counts[:, part]),
            size * STRETCH,
            rng,
        )
        lots = min(NOISE_LOTS, -(-len(groups) // size))
        rows = slice(0, edge) if part == 0 else slice(edge, None)
        drawn = rows.start + draw_noise(noise[rows], lots * sets * NOISE, rng).reshape(-1, NOISE)
        drawn.sort(axis=1)  # rows that are near in memory are cheaper to reach one after the other
        amount = negatives * of_noise[part] / of_pairs[part]
        parts.append(
            Part(
                groups,
                drawn.reshape(lots, -1),
                np.float32(amount / NOISE),
                np.float32(min(1.0, size / len(groups))),
                np.float32(1 + amount) * counts[:, part].astype(np.float32),
            )
        )
    return parts


def take_turns(parts: list[Part], rng: np.random.Generator) -> list[tuple[Part, int]]:
    """The stretches of all parts, evenly mixed: each with its first group."""
    turns = []
    for number, part in enumerate(parts):
        begins = part.groups.stretches()
        turns += [((i + rng.random()) / len(begins), number, begin) for i, begin in enumerate(begins)]
    return [(parts[number], begin) for _, number, begin in sorted(turns)]


def softplus(x: Floats) -> Floats:
    """-log sigma(-x), stable. np.logaddexp(0, x) takes 11 times as long."""
    result: Floats = np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    return result


def batch_size(rows: int) -> int:
    """Groups of a batch for a task with so many context rows: BATCH, and fewer where each row would be met too often.

    A row is stepped once a batch, so a vocabulary of some hundred words learned next to nothing from batches of
    2,000 pairs.
    """
    fitting = 1 << max(rows // ROWS_A_GROUP, 1).bit_length() - 1  # a power of two, so that sets fill it
    return min(BATCH, max(SMALLEST_BATCH, fitting))


def frequent_rows(noise: npt.NDArray[np.float64], dimensions: int) -> int:
    """The first so many context rows are trained apart from the others: those of half of the noise, as far as they fit.

    All, where they would be too few to be each other's noise.
    """
    half = int(np.searchsorted(np.cumsum(noise), noise.sum() / 2)) + 1
    frequent = min(half, FREQUENT // (4 * dimensions))
    return frequent if frequent >= LEAST_FREQUENT else noise.size


def step_sizes(updates: Floats, rate: float, damping: float) -> Floats:
    """The factor of each row's summed gradient: an implicit step, and never more than FARTHEST mean gradients.

    Args:
        updates: n of each row in a batch.
        rate, damping: a and kappa of a / (1 + a * kappa * n).
    """
    implicit = np.float32(rate) / (1 + np.float32(rate * damping) * updates)
    sizes: Floats = np.minimum(implicit, FARTHEST / updates)
    return sizes


def descend(
    center_rows: Floats,
    context_rows: Floats,
    pairs: Numbers,
    layout: Layout,
    noise: npt.NDArray[np.float64],
    step: Step,
    rng: np.random.Generator,
) -> Walk:
    """Train on every pair once, in place.

    The gradients are those of `reference.negative_sampling_loss_and_gradient`, with the K noise words of a pair spread
    over the N of its set: each weighs K / N.

    Args:
        center_rows: (Rc, D) contiguous; changed.
        context_rows: (Ro, D) contiguous; changed.
        pairs: (P,) numbers of the pairs, sorted.
        layout: of these numbers.
        noise: (Ro,) how often each context row is a noise word; only their ratios count.
    """
    rows, dimensions = context_rows.shape
    if not pairs.size:
        return Walk(0, 0.0, 0, np.zeros(len(center_rows), np.float32), np.zeros(rows, np.float32))
    noise = noise / noise.sum()  # a block's part of the distribution is less than 1
    size = batch_size(rows)
    sharing = min(SHARING, size)
    frequent = frequent_rows(noise, dimensions)
    parts = cut_parts(pairs, layout, len(center_rows), noise, step.negatives, frequent, rng)
    total, done = sum(len(part.groups) for part in parts), 0
    positives = np.zeros(rows, np.int64)
    for begin in range(0, pairs.size, COUNTED):
        positives += np.bincount(layout.contexts(pairs[begin : begin + COUNTED]), minlength=rows)
    context_updates = (positives + step.negatives * pairs.size * noise).astype(np.float32)
    touched = positives > 0
    loss, loss_pairs = 0.0, 0
    slots = np.arange(GROUP, dtype=np.int32)
    c = np.empty((size, dimensions), np.float32)
    o = np.empty((size * GROUP, dimensions), np.float32)
    z = np.empty((size // sharing * NOISE, dimensions), np.float32)
    turned = np.empty((size // sharing, dimensions, sharing), np.float32)
    for part, begin in take_turns(parts, rng):
        center, context, length = part.groups.stretch(begin)
        rate = step.first_rate + (step.last_rate - step.first_rate) * done / total
        done += center.size
        there = slots < length[:, None]
        weight = length.astype(np.float32)
        # n of the implicit step is what a batch is expected to hold of a row that it holds at all: nothing has to be
        # counted in each batch.
        own: Floats = (1 + part.each * NOISE) * weight
        center_rate = step_sizes(own + part.share * (part.center_updates[center] - own), rate, step.damping)
        expected: Floats = np.float32(1) + part.share * context_updates
        context_rate = step_sizes(expected, rate, step.damping)
        positive_rate = np.take(context_rate, context, mode="clip") * there
        for a in range(0, center.size, size):
            b = min(a + size, center.size)
            number, sets = (begin + a) // size, -(-(b - a) // sharing)
            which, beside = center[a:b], context[a:b].ravel()
            noisy = part.noise[number % len(part.noise)][: sets * NOISE]
            if number < len(part.noise):
                touched[noisy] = True
            # mode="clip" because the default checks every index through a buffer; ours cannot be outside.
            np.take(center_rows, which, axis=0, out=c[: b - a], mode="clip")
            c[b - a : sets * sharing] = 0  # the last set of the task may be short
            np.take(context_rows, beside, axis=0, out=o[: (b - a) * GROUP], mode="clip")
            np.take(context_rows, noisy, axis=0, out=z[: sets * NOISE], mode="clip")
            c3, z3 = c[: sets * sharing].reshape(sets, sharing, -1), z[: sets * NOISE].reshape(sets, NOISE, -1)
            o3 = o[: (b - a) * GROUP].reshape(b - a, GROUP, -1)
            share_weight = np.zeros(sets * sharing, np.float32)
            share_weight[: b - a] = weight[a:b] * part.each

            good = np.matmul(o3, c[: b - a, :, None])[:, :, 0]
            # OpenBLAS takes 2 to 3 times as long for small products with a transposed right side, and the centers of a
            # set are fewer than its noise words.
            np.copyto(turned[:sets], c3.transpose(0, 2, 1))
            bad = np.matmul(z3, turned[:sets])
            if number % LOSS_EVERY == 0:
                loss += float(np.sum(softplus(-good), where=there[a:b], dtype=np.float64))
                loss += float(softplus(bad).sum(1, dtype=np.float64).ravel() @ share_weight)
                loss_pairs += int(length[a:b].sum())
            # sigma(x) = (1 + tanh(x / 2)) / 2, and NumPy's tanh takes a tenth of SciPy's expit.
            good *= HALF
            np.tanh(good, out=good)
            np.subtract(1, good, out=good)
            good *= HALF
            good *= there[a:b]
            bad *= HALF
            np.tanh(bad, out=bad)
            bad += 1
            bad *= (-HALF * share_weight).reshape(sets, 1, sharing)

            center_gradient = np.matmul(bad.transpose(0, 2, 1), z3).reshape(-1, dimensions)[: b - a]
            center_gradient += np.matmul(good[:, None, :], o3)[:, 0, :]
            noise_gradient = np.matmul(bad, c3).reshape(-1, dimensions)
            good *= positive_rate[a:b]
            add_rows(context_rows, beside, good.ravel(), c[: b - a], GROUP)
            add_rows(context_rows, noisy, context_rate[noisy], noise_gradient)
            add_rows(center_rows, which, center_rate[a:b], center_gradient)
    center_updates = np.sum([part.center_updates for part in parts], 0)
    return Walk(pairs.size, loss, loss_pairs, center_updates, context_updates * touched)
