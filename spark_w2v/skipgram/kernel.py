"""One walk over the pairs of one task: the kernel.

P pairs, G groups of up to M contexts of one center, D dimensions, K negatives, N noise words that S groups share,
Rc and Ro center and context rows of the task.

Pairs may be trained in any order. Sorted by center and cut in groups, a center row is gathered, multiplied with the
noise and scattered once a group instead of once a pair, and nearly all arithmetic is matrix products. The groups are
shuffled, and trained in batches whose updates are applied together.
"""

from dataclasses import dataclass, field

import numpy as np

from spark_w2v.skipgram.groups import COUNTED, GROUP, BlockNoise, cut_parts, interleave
from spark_w2v.skipgram.pairs import Numbers, PairCodec
from spark_w2v.skipgram.scatter import add_rows, add_sums
from spark_w2v.types import Float32Array

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


def softplus(x: Float32Array) -> Float32Array:
    """-log sigma(-x), stable. np.logaddexp(0, x) takes 11 times as long."""
    result: Float32Array = np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    return result


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
    for part, begin in interleave(parts, rng):
        center, context, length, of_center = part.groups.chunk(begin)
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
