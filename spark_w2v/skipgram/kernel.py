"""The kernel: stochastic gradient descent over the pairs of one bucket, or of a chunk of a replica's.

P pairs, G groups of up to M contexts of one center, D dimensions, K negatives, N noise words that S groups share,
Rc and Ro center and context rows of these blocks.

Pairs may be trained in any order. They are sorted by center and cut in groups, so that a center row is gathered,
multiplied with the noise and scattered once per group instead of once per pair, and nearly all arithmetic is matrix
products. The groups are shuffled, and trained in batches whose updates are applied together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.groups import (
    BATCH,
    COUNTED,
    GROUP,
    MOST_NOISE,
    NOISE_PER_CONTEXT,
    SHARING,
    BlockNoise,
    Part,
    cut_parts,
    interleave,
)
from spark_w2v.skipgram.pairs import PairArray, PairCodec
from spark_w2v.skipgram.scatter import add_rows, add_sums
from spark_w2v.types import Float32Array

# The loss of the first S groups is measured in one of so many batches: of a part with many, at least LOSSES.
LOSS_STRIDE, LONGEST_LOSS_STRIDE, LOSSES = 4, 16, 16
# Largest step of a row in one batch, in mean gradients. The implicit step alone allows 1 / kappa = 10. The most
# frequent word of a small block gets most of its batch, and with 32 blocks training diverged.
FARTHEST = np.float32(4.0)
# Share of a bucket that is one pair, above which its rows step less far, as two of them move towards each other in each
# batch: of a text in which every fifth word is the same one, without subsampling, the first bucket diverged.
ONE_PAIR = 0.5
# Pairs added to those of a center and to those that its noise is for, before the noise is corrected by their ratio.
# Measured: docs/measurements.md.
SMOOTHING = np.float32(2.0)
HALF = np.float32(0.5)
# (GROUP + 1, GROUP), indexed by the length of a group: 1/2 for the contexts that it has, else 0.
HALF_PRESENT = HALF * (np.arange(GROUP) < np.arange(GROUP + 1)[:, None])


@dataclass(frozen=True)
class SgdParams:
    """Parameters of the steps of one call.

    Args:
        negatives: K.
        damping: kappa of the implicit step, row += a * sum / (1 + a * kappa * n), n the row's updates in a batch
            (Toulis & Airoldi 2017).
        first_rate, last_rate: learning rate a at the first and at the last pair of the call; linear in between.
    """

    negatives: int
    damping: float
    first_rate: float
    last_rate: float


def _nothing() -> Float32Array:
    return np.empty(0, np.float32)


@dataclass(frozen=True)
class TrainStats:
    """Statistics of one call of `train_pairs`.

    Args:
        pairs: pairs trained, each once.
        loss: sum of the negative-sampling loss over `loss_pairs` pairs: those that are measured, each before its own
            update, as often as it stands for others. Parts and centers may have more or fewer noise words than K: it is
            the sum of the positives' losses, and K times the mean loss of the noise words for each pair.
        center_updates, context_updates: (Rc,), (Ro,) updates of each row: a positive counts 1, a noise word the
            weight of the pairs that it is drawn for. 0 for a row that was not touched. Empty unless count_updates.
    """

    pairs: int
    loss: float
    loss_pairs: int
    center_updates: Float32Array = field(default_factory=_nothing)
    context_updates: Float32Array = field(default_factory=_nothing)


def batch_bytes(dimensions: int) -> int:
    """Return the most memory of the rows of a batch: a narrow group for each pair, as smaller batches have fewer.

    Args:
        dimensions: D.
    """
    # Centers, their gradients and contexts; noise words of all sets and their gradients, those of the last batch too.
    return 4 * dimensions * 3 * (BATCH + BATCH // SHARING * NOISE_PER_CONTEXT)


def softplus(x: Float32Array) -> Float32Array:
    """Return -log sigma(-x) of any shape, without overflow. np.logaddexp(0, x) takes 11 times as long."""
    result: Float32Array = np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    return result


def loss_stride(part: Part) -> int:
    """Return in how many batches of a part there is one whose loss is measured."""
    return min(max(LOSS_STRIDE, len(part.groups) // part.size // LOSSES), LONGEST_LOSS_STRIDE)


def step_sizes(updates: Float32Array, rate: float, damping: float, farthest: np.float32 = FARTHEST) -> Float32Array:
    """Return the factor of each row's summed gradient: an implicit step.

    Args:
        updates: n of each row in a batch.
        rate, damping: a and kappa of a / (1 + a * kappa * n).
        farthest: most mean gradients of a step.
    """
    implicit = np.float32(rate) / (1 + np.float32(rate * damping) * updates)
    sizes: Float32Array = np.minimum(implicit, farthest / updates)
    return sizes


def farthest_step(pairs: PairArray, positive_counts: npt.NDArray[np.intp]) -> np.float32:
    """Return the largest step in a bucket, in mean gradients.

    Args:
        pairs: (P,) numbers of the pairs, sorted.
        positive_counts: (Ro,) pairs of each context row.
    """
    limit = ONE_PAIR * pairs.size
    if positive_counts.max() <= limit:  # no pair has more
        return FARTHEST
    begins = np.flatnonzero(np.diff(pairs))
    most = int(np.diff(begins, prepend=-1, append=pairs.size - 1).max())
    return FARTHEST * np.float32(min(1.0, limit / most))


def count_center_pairs(buckets: Iterable[PairArray], codec: PairCodec, rows: int) -> Float32Array:
    """Return the (rows,) pairs of each center in some buckets: those of a sweep, with all context blocks.

    Args:
        buckets: pairs of each, in any order.
        codec: of these pairs.
    """
    found = np.zeros(rows, np.int64)
    for pairs in buckets:
        for begin in range(0, pairs.size, COUNTED):
            found += np.bincount(codec.centers(pairs[begin : begin + COUNTED]), minlength=rows)
    return found.astype(np.float32)


def noise_amounts(parts: list[Part], center_pairs: Float32Array, noise_share: float) -> Float32Array:
    """Return the (Rc,) noise of a pair of each center that has pairs, in multiples of what its part has.

    With one context block, a center learns log P(context | center) / q(context). Noise words of its pairs' own blocks
    alone would have it learn that within each block, apart from all others, and forget how often it is together with
    the block. So in a bucket it has the noise of the pairs that it would have there if the contexts of all its pairs of
    the sweep were noise words, whatever it has.

    Args:
        center_pairs: as for train_pairs.
        noise_share: share of all noise words that are in the context block.
    """
    found, amounts = np.zeros((2, center_pairs.size), np.float32)
    for part in parts:
        found[part.runs.center] += part.runs.pairs
    for part in parts:
        rows = part.runs.center
        expected = center_pairs[rows] * np.float32(noise_share)
        amounts[rows] = np.minimum((expected + SMOOTHING) / (found[rows] + SMOOTHING), MOST_NOISE)
    return amounts


@np.errstate(over="ignore", invalid="ignore")  # what diverges is told by its loss and its vectors
def train_pairs(
    center_rows: Float32Array,
    context_rows: Float32Array,
    pairs: PairArray,
    codec: PairCodec,
    noise: BlockNoise,
    params: SgdParams,
    rng: np.random.Generator,
    count_updates: bool = False,
    center_pairs: Float32Array | None = None,
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
        count_updates: whether to return the updates of each row.
        center_pairs: (Rc,) pairs of each center in the sweep, with all context blocks; None where the context rows are
            the whole vocabulary.
    """
    rows, dimensions = context_rows.shape
    if not pairs.size:
        return TrainStats(
            0, 0.0, 0, *(np.zeros(len(m), np.float32) for m in (center_rows, context_rows) if count_updates)
        )
    parts = cut_parts(pairs, codec, len(center_rows), noise, params.negatives, rng)
    total, done = sum(len(part.groups) for part in parts), 0
    positive_counts = np.bincount(codec.contexts(pairs[:COUNTED]), minlength=rows)
    for begin in range(COUNTED, pairs.size, COUNTED):
        positive_counts += np.bincount(codec.contexts(pairs[begin : begin + COUNTED]), minlength=rows)
    farthest = farthest_step(pairs, positive_counts)
    amounts, noise_pairs = np.ones(len(center_rows), np.float32), float(pairs.size)
    if center_pairs is not None:
        amounts = noise_amounts(parts, center_pairs, noise.of_all)
        noise_pairs = float(sum(amounts[part.runs.center] @ part.runs.pairs for part in parts))
    context_updates: Float32Array = np.float32(params.negatives * noise_pairs) * noise.share
    context_updates += positive_counts
    # Sums over the pairs that are measured, each as often as it stands for others; the weights of their noise words.
    positive_sum, noise_sum, noise_weight, loss_pairs = 0.0, 0.0, 0.0, 0
    most = [min(part.size, -(-len(part.groups) // part.sharing) * part.sharing) for part in parts]
    c = np.empty((max(most), dimensions), np.float32)
    room = np.empty(c.size, np.float32)  # for centers transposed, then for their gradients
    o = np.empty((max(m * p.groups.width for m, p in zip(most, parts, strict=True)), dimensions), np.float32)
    most_noise = max(m // p.sharing * p.noise.shape[1] for m, p in zip(most, parts, strict=True))
    z = np.empty((most_noise, dimensions), np.float32)
    for part, begin in interleave(parts, rng):
        center, context, length, of_center = part.groups.chunk(begin)
        size, sharing, each, width = part.size, part.sharing, part.each, part.groups.width
        stride = loss_stride(part)
        # In the middle of these groups, which are all of a small bucket.
        rate = params.first_rate + (params.last_rate - params.first_rate) * (done + center.size / 2) / total
        done += center.size
        # n of the implicit step is the expected number of updates of a row in a batch that contains it, so that nothing
        # has to be counted in each batch.
        own = length.astype(np.float32)
        of_noise = np.take(amounts, center)
        held: Float32Array = own + part.share * (of_center.astype(np.float32) - own)
        held *= 1 + np.float32(part.amount) * of_noise
        center_rate = step_sizes(held, rate, params.damping, farthest)
        expected: Float32Array = np.float32(1) + part.share * context_updates
        context_rate = step_sizes(expected, rate, params.damping, farthest)
        positive_rate = np.take(context_rate, context, mode="clip")
        # A noise word is drawn for a whole set: with many negatives these are far more updates than its mean per batch.
        of_set = sharing * width * each
        noise_rate = context_rate if rate * of_set <= farthest else np.minimum(context_rate, farthest / of_set)
        half_present = np.take(HALF_PRESENT[:, :width], length, axis=0)
        # The last set may be short: it is filled with center row 0 at weight 0.
        padded = -(-center.size // sharing) * sharing
        padded_centers, half_weight = np.zeros(padded, np.int32), np.zeros(padded, np.float32)
        padded_centers[: center.size] = center
        np.multiply(own * of_noise, -HALF * each, out=half_weight[: center.size])
        for a in range(0, center.size, size):
            b = min(a + size, center.size)
            noise_sets = part.noise_of(begin + a, begin + b)
            sets = len(noise_sets)
            end = a + sets * sharing
            centers, contexts, drawn = center[a:b], context[a:b].ravel(), noise_sets.ravel()
            # mode="clip" because the default checks every index through a buffer; these are never out of range.
            np.take(center_rows, padded_centers[a:end], axis=0, out=c[: end - a], mode="clip")
            np.take(context_rows, contexts, axis=0, out=o[: contexts.size], mode="clip")
            np.take(context_rows, drawn, axis=0, out=z[: drawn.size], mode="clip")
            c3, z3 = c[: end - a].reshape(sets, sharing, -1), z[: drawn.size].reshape(sets, drawn.size // sets, -1)
            o3 = o[: contexts.size].reshape(b - a, width, -1)

            if width == GROUP:
                positive = np.matmul(o3, c[: b - a, :, None])[:, :, 0]
                # With this many noise words, OpenBLAS takes 2 to 3 times as long for a transposed right operand.
                t3 = room[: (end - a) * dimensions].reshape(sets, dimensions, sharing)
                half_negative = np.matmul(z3, np.multiply(c3.transpose(0, 2, 1), HALF, out=t3))
            else:
                positive = np.vecdot(o3, c[: b - a, None, :])
                half_negative = np.matmul(z3, c3.transpose(0, 2, 1))
                half_negative *= HALF
            if (begin + a) // size % stride == 0:
                some = slice(a, min(a + sharing, b))
                noise_loss = softplus(2 * half_negative[0, :, : b - a]).sum(0, dtype=np.float64)
                positive_loss = np.sum(softplus(-positive[:sharing]) * half_present[some], dtype=np.float64)
                with_noise = own[some] * of_noise[some]
                # They stand for the pairs of this batch, and of the batches that follow.
                stands_for = stride * int(length[a:b].sum())
                times = stands_for / float(own[some].sum())
                positive_sum += times * 2 * float(positive_loss)
                noise_sum += times * float(each * (noise_loss @ with_noise))
                noise_weight += times * part.amount * float(with_noise.sum())
                loss_pairs += stands_for
            # sigma(x) = (1 + tanh(x / 2)) / 2, and NumPy's tanh takes a tenth of SciPy's expit.
            positive *= HALF
            np.tanh(positive, out=positive)
            np.subtract(1, positive, out=positive)
            positive *= half_present[a:b]
            negative = np.tanh(half_negative, out=half_negative)
            negative += 1
            negative *= half_weight[a:end].reshape(sets, 1, sharing)

            center_gradient = room[: (end - a) * dimensions].reshape(-1, dimensions)
            np.matmul(negative.transpose(0, 2, 1), z3, out=center_gradient.reshape(sets, sharing, dimensions))
            add_sums(center_gradient, positive.ravel(), o[: contexts.size], width)
            noise_gradient = np.matmul(negative, c3).reshape(-1, dimensions)
            positive *= positive_rate[a:b]
            add_rows(context_rows, contexts, positive.ravel(), c[: b - a], width)
            add_rows(context_rows, drawn, noise_rate[drawn], noise_gradient)
            add_rows(center_rows, centers, center_rate[a:b], center_gradient[: b - a])
    loss = positive_sum + (params.negatives * loss_pairs * noise_sum / noise_weight if noise_weight else 0.0)
    if not count_updates:
        return TrainStats(pairs.size, loss, loss_pairs)
    center_updates, touched = np.zeros(len(center_rows), np.float32), positive_counts > 0
    for part in parts:
        of_runs = 1 + np.float32(part.amount) * amounts[part.runs.center]
        center_updates[part.runs.center] += of_runs * part.runs.pairs
        touched[part.noise.ravel()] = True
    return TrainStats(pairs.size, loss, loss_pairs, center_updates, context_updates * touched)
