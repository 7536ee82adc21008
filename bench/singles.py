"""The kernel alone, on buckets as clusters have them: what one of 64 or 512 cores gets of a billion words.

V words of the vocabulary, D dimensions.
"""

import multiprocessing
import os
import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from bench.synthetic import zipf_counts
from bench.work import Buckets, Work, work_of
from spark_w2v.config import Config
from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.kernel import SgdParams, train_pairs
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.sampling import noise_distribution
from spark_w2v.skipgram.schedule import kept_words

SUBSAMPLE, DIMENSIONS = 1e-4, 300  # as conf/cluster.toml
ENOUGH = 2.0  # seconds that one kind is measured, or MOST_BUCKETS; the first bucket does not count
MOST_BUCKETS, LEAST_BUCKETS = 60, 3


class Single(NamedTuple):
    """Buckets as a cluster has them, on which the kernel is measured alone."""

    fitted: bool
    words: int
    vocabulary: int
    blocks: int


def run_single(single: Single, most: float = ENOUGH) -> list[list[float]]:
    """Train some buckets of a kind; pairs and seconds of each.

    Center and context are drawn apart from each other, by how often each word is trained on. The center block stays,
    and two context blocks come by in turn, as in a task.

    Args:
        most: seconds, about.
    """
    counts = zipf_counts(single.words, single.vocabulary)
    words = kept_words(counts, SUBSAMPLE)
    blocks = assign_blocks(words, single.blocks)
    work = single_work(single)
    pairs = typical(work).pairs
    noise, codec = noise_distribution(counts, Config().training.noise_exponent)[blocks.order], PairCodec.of(blocks)
    loads = np.bincount(blocks.block, words, single.blocks)
    center, *contexts = (int(b) for b in np.argsort(np.abs(loads - np.median(loads)), kind="stable")[:3])
    rng = np.random.default_rng(os.getpid())
    rows = [rng.normal(0, 0.05, (np.diff(blocks.ends)[b], DIMENSIONS)).astype(np.float32) for b in (center, *contexts)]
    t = Config().training
    step = SgdParams(t.negatives, t.damping, t.learning_rate, t.learning_rate)
    noises = [BlockNoise.of(blocks.of(noise, b), DIMENSIONS) for b in contexts]
    load = blocks.of(words[blocks.order].astype(np.float32), center)
    center_pairs = load * np.float32(pairs * single.blocks / load.sum(dtype=np.float64))  # expected in a sweep
    chances = [
        np.cumsum(some) / some.sum() for some in (blocks.of(words[blocks.order], b) for b in (center, *contexts))
    ]
    found: list[list[float]] = []
    begun = time.perf_counter()
    with threadpool_limits(1, "blas"):
        while len(found) < LEAST_BUCKETS or (len(found) < MOST_BUCKETS and time.perf_counter() - begun < most):
            at = len(found) % 2
            c, o = (
                np.minimum(np.searchsorted(chance, rng.random(round(pairs))), chance.size - 1).astype(np.uint64)
                for chance in (chances[0], chances[1 + at])
            )
            numbers = codec.shorten(np.sort(c << np.uint64(codec.row) | o))
            started = time.perf_counter()
            train_pairs(rows[0], rows[1 + at], numbers, codec, noises[at], step, rng, center_pairs=center_pairs)
            found.append([float(numbers.size), time.perf_counter() - started])
    return found[1:]


@cache
def single_work(single: Single) -> Work:
    """The run that a single bucket is of."""
    counts = zipf_counts(single.words, single.vocabulary)
    return work_of(counts, DIMENSIONS, single.blocks, single.blocks, epochs=2, subsample=SUBSAMPLE)


def typical(work: Work) -> Buckets:
    """A bucket of the most usual blocks, in a sweep after the first epoch."""
    kind = int(np.argmax(np.bincount(work.kinds)))
    return work.sweeps[work.shares(1)[0]].buckets[kind][kind]


def measured_single(single: Single, cores: int, most: float) -> dict[str, Any]:
    """Measure a kind of buckets on some cores at the same time, as they are in a run."""
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        found = pool.starmap(run_single, [(single, most)] * cores, chunksize=1)
    return {"single": single._asdict(), "buckets": found}
