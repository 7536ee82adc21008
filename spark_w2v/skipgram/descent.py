"""One walk over the pairs of one task: the kernel.

P pairs, G groups of up to M contexts of one center, D dimensions, K negatives, N noise words that S groups share,
Rc and Ro center and context rows of the task.

Pairs may be trained in any order. Sorted by center and cut in groups, a center row is gathered, multiplied with the
noise and scattered once a group instead of once a pair, and nearly all arithmetic is matrix products. The groups are
shuffled, and trained in batches whose updates are applied together.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True)
class Groups:
    """Pairs sorted by center, cut in groups, in random order."""

    center: Ints  # (G,)
    first: Ints  # (G,) position of the group's first pair
    stride: Ints  # (G,) from one of its pairs to the next
    length: Ints  # (G,) pairs, 1 to M


def cut_groups(pairs: Ints, rng: np.random.Generator) -> Groups:
    """Groups of pairs with one center, shuffled. No pair is left out, and none is in two groups.

    Args:
        pairs: (Rc,) pairs of each center.
    """
    parts = -(-pairs // GROUP)
    center = np.repeat(np.arange(pairs.size, dtype=np.int32), parts)
    within = np.arange(center.size, dtype=np.int32) - np.repeat(np.cumsum(parts, dtype=np.int32) - parts, parts)
    # Every parts-th pair of the center, not GROUP neighbours: pairs are sorted by context too, so that neighbours are
    # alike, and a step towards eight times the same word is a worse one than towards eight words.
    stride = parts[center]
    first = (np.cumsum(pairs, dtype=np.int32) - pairs)[center] + within
    length = (pairs[center] - within + stride - 1) // stride
    order = rng.permutation(center.size)
    return Groups(center[order], first[order], stride[order], length[order])


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
    centers: Ints,
    contexts: Ints,
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
        centers, contexts: (P,) rows of the pairs, sorted by center.
        noise: (Ro,) how often each context row is a noise word; only their ratios count.
    """
    rows, dimensions = context_rows.shape
    if not centers.size:
        return Walk(0, 0.0, 0, np.zeros(len(center_rows), np.float32), np.zeros(rows, np.float32))
    pairs = np.bincount(centers, minlength=len(center_rows)).astype(np.int32)
    groups = cut_groups(pairs, rng)
    noise = noise / noise.sum()  # a block's part of the distribution is less than 1
    size = batch_size(rows)
    sharing = min(SHARING, size)
    total = groups.center.size
    # Updates of each row in the whole task. A batch holds this share of them, as the groups are shuffled.
    share = np.float32(min(1.0, size / total))
    each = np.float32(step.negatives / NOISE)
    center_updates = np.float32(1 + step.negatives) * pairs.astype(np.float32)
    positives = np.bincount(contexts, minlength=rows)
    context_updates = (positives + step.negatives * centers.size * noise).astype(np.float32)
    touched = positives > 0
    lots = min(NOISE_LOTS, -(-total // size))
    drawn = draw_noise(noise, lots * (size // sharing) * NOISE, rng).reshape(-1, NOISE)
    drawn.sort(axis=1)  # rows that are near in memory are cheaper to reach one after the other
    drawn = drawn.reshape(lots, -1)

    loss, loss_pairs = 0.0, 0
    slots = np.arange(GROUP, dtype=np.int32)
    c = np.empty((size, dimensions), np.float32)
    o = np.empty((size * GROUP, dimensions), np.float32)
    z = np.empty((size // sharing * NOISE, dimensions), np.float32)
    for begin in range(0, total, size * STRETCH):
        stretch = slice(begin, begin + size * STRETCH)
        center, length = groups.center[stretch], groups.length[stretch]
        first, stride = groups.first[stretch, None], groups.stride[stretch, None]
        rate = step.first_rate + (step.last_rate - step.first_rate) * begin / total
        there = slots < length[:, None]
        # What is not there is some other pair, which weighs nothing below.
        context = np.take(contexts, first + slots * stride, mode="clip")
        weight = length.astype(np.float32)
        # n of the implicit step is what a batch is expected to hold of a row that it holds at all: nothing has to be
        # counted in each batch.
        own: Floats = np.float32(1 + step.negatives) * weight
        center_rate = step_sizes(own + share * (center_updates[center] - own), rate, step.damping)
        expected: Floats = np.float32(1) + share * context_updates
        context_rate = step_sizes(expected, rate, step.damping)
        positive_rate = np.take(context_rate, context, mode="clip") * there
        for a in range(0, center.size, size):
            b = min(a + size, center.size)
            number, sets = (begin + a) // size, -(-(b - a) // sharing)
            which, beside, noisy = center[a:b], context[a:b].ravel(), drawn[number % lots][: sets * NOISE]
            if number < lots:
                touched[noisy] = True
            # mode="clip" because the default checks every index through a buffer; ours cannot be outside.
            np.take(center_rows, which, axis=0, out=c[: b - a], mode="clip")
            c[b - a : sets * sharing] = 0  # the last set of the task may be short
            np.take(context_rows, beside, axis=0, out=o[: (b - a) * GROUP], mode="clip")
            np.take(context_rows, noisy, axis=0, out=z[: sets * NOISE], mode="clip")
            c3, z3 = c[: sets * sharing].reshape(sets, sharing, -1), z[: sets * NOISE].reshape(sets, NOISE, -1)
            o3 = o[: (b - a) * GROUP].reshape(b - a, GROUP, -1)
            share_weight = np.zeros(sets * sharing, np.float32)
            share_weight[: b - a] = weight[a:b] * each

            good = np.matmul(o3, c[: b - a, :, None])[:, :, 0]
            bad = np.matmul(c3, z3.transpose(0, 2, 1))
            if number % LOSS_EVERY == 0:
                loss += float(np.sum(softplus(-good), where=there[a:b], dtype=np.float64))
                loss += float(softplus(bad).sum(2, dtype=np.float64).ravel() @ share_weight)
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
            bad *= (-HALF * share_weight).reshape(sets, sharing, 1)

            center_gradient = np.matmul(bad, z3).reshape(-1, dimensions)[: b - a]
            center_gradient += np.matmul(good[:, None, :], o3)[:, 0, :]
            noise_gradient = np.matmul(bad.transpose(0, 2, 1), c3).reshape(-1, dimensions)
            good *= positive_rate[a:b]
            add_rows(context_rows, beside, good.ravel(), c[: b - a], GROUP)
            add_rows(context_rows, noisy, context_rate[noisy], noise_gradient)
            add_rows(center_rows, which, center_rate[a:b], center_gradient)
    return Walk(centers.size, loss, loss_pairs, center_updates, context_updates * touched)
