"""Small tasks for the kernel, and the same training one pair at a time."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram import groups, kernel
from spark_w2v.skipgram.groups import BlockNoise, cut_parts, interleave
from spark_w2v.skipgram.kernel import SgdParams, TrainStats, train_pairs
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.reference import negative_sampling_loss_and_gradient
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.types import Float32Array, Float64Array, Int32Array

DIMENSIONS = 6


# A power of two, so that dividing by it rounds nothing. Rows are of size 1, known to 2^-24; their change over the rate
# is then known to 2^-17 = 8e-6, and a sum of some dozen float32 products to about as much of its largest term.
RATE = 2.0**-7


CLOSE = 1e-4


class Task(NamedTuple):
    """One task's rows, pairs sorted by center, and noise."""

    center_rows: Float32Array
    context_rows: Float32Array
    centers: Int32Array
    contexts: Int32Array
    noise: Float64Array


def some_task(pairs: int, center_rows: int = 5, context_rows: int = 7, seed: int = 1) -> Task:
    """Random rows; pairs that favour the first words, so that some are repeated and some are met rarely."""
    rng = np.random.default_rng(seed)
    favour = 1.0 / np.arange(1, 1 + max(center_rows, context_rows))
    centers = rng.choice(center_rows, pairs, p=favour[:center_rows] / favour[:center_rows].sum()).astype(np.int32)
    contexts = rng.choice(context_rows, pairs, p=favour[:context_rows] / favour[:context_rows].sum()).astype(np.int32)
    order = np.lexsort((contexts, centers))
    return Task(
        rng.normal(size=(center_rows, DIMENSIONS)).astype(np.float32),
        rng.normal(size=(context_rows, DIMENSIONS)).astype(np.float32),
        centers[order],
        contexts[order],
        noise_distribution(np.arange(1, context_rows + 1, dtype=np.int64)[::-1], 0.75),
    )


def numbered(centers: Int32Array, contexts: Int32Array) -> tuple[npt.NDArray[np.uint32], PairCodec]:
    """Pairs as the kernel takes them."""
    codec = PairCodec(16, 0)
    return np.sort((centers.astype(np.uint32) << np.uint32(codec.row)) | contexts.astype(np.uint32)), codec


def constant(rate: float, negatives: int = 3, damping: float = 0.0) -> SgdParams:
    """One learning rate from the first pair to the last."""
    return SgdParams(negatives, damping, rate, rate)


def noise_of(task: Task) -> BlockNoise:
    return BlockNoise.of(task.noise, DIMENSIONS)


def train(
    task: Task,
    params: SgdParams,
    seed: int = 0,
    center_pairs: Float32Array | None = None,
) -> tuple[Float32Array, Float32Array, TrainStats]:
    """Train on copies of the rows and return them; the task stays as it is."""
    center_rows, context_rows = task.center_rows.copy(), task.context_rows.copy()
    done = train_pairs(
        center_rows,
        context_rows,
        *numbered(task.centers, task.contexts),
        noise_of(task),
        params,
        np.random.default_rng(seed),
        count_updates=True,
        center_pairs=center_pairs,
    )
    return center_rows, context_rows, done


class Plain(NamedTuple):
    """Return the textbook's results for a task: sums of the gradients of one batch, and the rows of any number."""

    center_rows: Float64Array
    context_rows: Float64Array
    loss: float
    loss_pairs: int


def train_plainly(task: Task, params: SgdParams, seed: int, center_pairs: Float32Array | None = None) -> Plain:
    """Train in the same order, one pair at a time in float64, without damping.

    For each batch, rows -= rate * sum of gradients.

    A pair's noise is the N words of its set at weight K / N each, in multiples of what its center is to have.
    """
    pairs_of = np.bincount(task.centers, minlength=len(task.center_rows))
    smooth = 2.0
    wanted = pairs_of if center_pairs is None else center_pairs.astype(np.float64)
    multiples = np.minimum((wanted + smooth) / (pairs_of + smooth), 4)
    rng = np.random.default_rng(seed)
    parts = cut_parts(
        *numbered(task.centers, task.contexts), len(task.center_rows), noise_of(task), params.negatives, rng
    )
    center_rows, context_rows = task.center_rows.astype(np.float64), task.context_rows.astype(np.float64)
    positive_sum, noise_sum, noise_weight, loss_pairs = 0.0, 0.0, 0.0, 0
    for part, begin in interleave(parts, rng):
        groups = part.groups.chunk(begin)
        for first in range(0, groups.center.size, part.size):
            number, last = (begin + first) // part.size, min(first + part.size, groups.center.size)
            sets = part.noise_of(begin + first, begin + last)
            center_sum, context_sum = np.zeros_like(center_rows), np.zeros_like(context_rows)
            measured, positive_loss, noise_loss, weights = 0, 0.0, 0.0, 0.0
            for place in range(first, last):
                noise_words = sets[(place - first) // part.sharing]
                center = groups.center[place]
                for context in groups.contexts[place][: groups.length[place]]:
                    alone = negative_sampling_loss_and_gradient(center_rows[center], context, context_rows, [])
                    with_noise = negative_sampling_loss_and_gradient(
                        center_rows[center], context, context_rows, noise_words
                    )
                    weight = part.each * multiples[center]
                    center_sum[center] += alone[1] + weight * (with_noise[1] - alone[1])
                    context_sum += alone[2] + weight * (with_noise[2] - alone[2])
                    if place - first < part.sharing:
                        measured += 1
                        positive_loss += float(alone[0])
                        noise_loss += weight * float(with_noise[0] - alone[0])
                        weights += weight * len(noise_words)
            if number % (stride := kernel.loss_stride(part)) == 0:
                stands_for = stride * int(groups.length[first:last].sum())
                positive_sum += stands_for * positive_loss / measured
                noise_sum += stands_for * noise_loss / measured
                noise_weight += stands_for * weights / measured
                loss_pairs += stands_for
            center_rows -= params.first_rate * center_sum
            context_rows -= params.first_rate * context_sum
    loss = positive_sum + params.negatives * loss_pairs * noise_sum / noise_weight
    return Plain(center_rows, context_rows, loss, loss_pairs)


FULL_BATCH = groups.BATCH  # pairs


BATCH = 8  # pairs


def assert_same_change(task: Task, found: tuple[Float32Array, Float32Array], wanted: Plain) -> None:
    """Every row's change over the rate, within what float32 can say."""
    for before, after, right in (
        (task.center_rows, found[0], wanted.center_rows),
        (task.context_rows, found[1], wanted.context_rows),
    ):
        change = (after.astype(np.float64) - before) / RATE
        right_change = (right - before) / RATE
        assert np.abs(right_change).max() > 0.1  # else the tolerance below says nothing
        np.testing.assert_allclose(change, right_change, rtol=CLOSE, atol=CLOSE * np.abs(right_change).max())
