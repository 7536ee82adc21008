"""Quality and kernel time against blocks, without Spark: python -m bench.blocks --blocks 1 8 32 --seeds 1 2 3.

What Spark would train, drawn and trained by the same functions in one process a run: the place to try a change of the
kernel or of the schedule before any of Spark is paid for. --let tries another value of a constant of
spark_w2v.skipgram.kernel, groups or schedule. Seconds are processor time.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure, quality, text
from bench.systems import DIMENSIONS, EPOCHS, MIN_COUNT, NEGATIVES, SUBSAMPLE, WINDOW
from spark_w2v.config import Config
from spark_w2v.skipgram import groups, kernel, schedule
from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import assign_blocks, initialise
from spark_w2v.skipgram.sampling import KERNEL, RING, generator, keep_probability, noise_distribution
from spark_w2v.skipgram.schedule import Ring, auto_sweeps, done_before, epoch_edges, learning_rate
from spark_w2v.types import Float32Array, Int32Array, UInt64Array

OUTPUT = measure.ROOT / "build" / "bench" / "blocks.jsonl"
PIECE = 5_000  # sentences drawn at a time


class Corpus(NamedTuple):
    """A text as word ids.

    Args:
        ids, lengths: words of the vocabulary, sentence after sentence.
        words, counts: by word id.
    """

    ids: Int32Array
    lengths: Int32Array
    words: list[str]
    counts: "np.ndarray[Any, np.dtype[np.int64]]"


class Wanted(NamedTuple):
    """One run."""

    blocks: int
    seed: int
    sweeps: int
    rate: float
    damping: float
    window: int
    epochs: int
    dimensions: int


def read(written: text.Text, known: Collection[str] = ()) -> Corpus:
    """The words that occur often enough and those that are known, by falling count, ties by spelling."""
    counted = {**dict.fromkeys(known, 0), **written.counts}
    found = sorted((-count, word) for word, count in counted.items() if count >= MIN_COUNT or word in known)
    number = {word: i for i, (_, word) in enumerate(found)}
    ids: list[int] = []
    lengths = []
    with written.path.open() as file:
        for line in file:
            kept = [number[word] for word in line.split() if word in number]
            ids += kept
            lengths.append(len(kept))
    counts = np.array([-count for count, _ in found], np.int64)
    return Corpus(np.array(ids, np.int32), np.array(lengths, np.int32), [word for _, word in found], counts)


def draw(
    corpus: Corpus, sampler: PairSampler, epoch: int, edges: "np.ndarray[Any, np.dtype[np.float64]]"
) -> tuple[UInt64Array, int]:
    """The pairs of an epoch, sorted, and how many words they come from."""
    ends = np.concatenate([[0], np.cumsum(corpus.lengths)])
    found, words = [], 0
    for a in range(0, corpus.lengths.size, PIECE):
        b = min(a + PIECE, corpus.lengths.size)
        pairs, kept = sampler.pairs((0, 0, a), corpus.ids[ends[a] : ends[b]], corpus.lengths[a:b], epoch, edges)
        found.append(pairs)
        words += kept
    pairs = np.concatenate(found)
    pairs.sort()
    return pairs, words


def cut(pairs: UInt64Array, codec: PairCodec, part: int, center: int, context: int, count: int = 1) -> UInt64Array:
    """The pairs of one bucket, or of one center block with `count` context blocks, among all of an epoch."""
    prefix = (part << codec.block | center) << codec.block | context
    first, last = np.searchsorted(pairs, np.array([prefix, prefix + count], np.uint64) << np.uint64(2 * codec.row))
    return pairs[first:last]


def train(corpus: Corpus, wanted: Wanted) -> dict[str, Any]:
    """Train once and evaluate; the fields of a line of OUTPUT.

    `heaviest_block` is the pairs of the center block that has most, over the mean.
    """
    w = wanted
    keep = keep_probability(corpus.counts, int(corpus.counts.sum()), SUBSAMPLE)
    load = corpus.counts.astype(np.float64) * keep
    expected = load.sum() * (w.window + 1)  # pairs of an epoch, and some more: sentences end
    sweeps = w.sweeps or auto_sweeps(w.blocks, expected)
    blocks = assign_blocks(load, w.blocks)
    sampler = PairSampler(keep, w.window, w.seed, 0.0, blocks)
    noise = noise_distribution(corpus.counts, 0.75)[blocks.order]
    noises = [BlockNoise.of(blocks.of(noise, j), w.dimensions) for j in range(w.blocks)]
    codec = PairCodec.of(blocks)
    center, context = np.zeros((2, corpus.counts.size, w.dimensions), np.float32)
    initialise(center, w.seed, np.argsort(blocks.order).astype(np.int32))
    center_pairs: list[Float32Array | None] = [None] * w.blocks
    words = trained = rounds = 0
    of_block = np.zeros(w.blocks, np.int64)
    draw_seconds = kernel_seconds = 0.0
    for epoch in range(w.epochs):
        edges = epoch_edges(epoch, w.blocks, sweeps, expected)
        ring = Ring.draw(w.blocks, edges.size - 1, generator(w.seed, RING, epoch))
        rounds += ring.rounds
        begun = time.process_time()
        pairs, kept = draw(corpus, sampler, epoch, edges)
        draw_seconds += time.process_time() - begun
        words += kept
        for number in range(ring.rounds):
            done = [epoch + done_before(n, w.blocks, edges) for n in (number, number + 1)]
            rates = [learning_rate(w.rate, 0.0, share / w.epochs) for share in done]
            step = kernel.SgdParams(NEGATIVES, w.damping, *rates)
            sweep = number // w.blocks
            if w.blocks > 1 and number % w.blocks == 0:
                begun = time.process_time()
                for i in range(w.blocks):
                    of_center = codec.shorten(cut(pairs, codec, sweep, i, 0, w.blocks))
                    center_pairs[i] = kernel.count_center_pairs([of_center], codec, len(blocks.of(center, i)))
                draw_seconds += time.process_time() - begun
            for i in range(w.blocks):
                j = ring.context_of(number, i)
                begun = time.process_time()
                bucket = codec.shorten(cut(pairs, codec, sweep, i, j))
                drawn = time.process_time()
                rng = generator(w.seed, KERNEL, epoch, (sweep * w.blocks + i) * w.blocks + j)
                rows = blocks.of(center, i), blocks.of(context, j)
                walk = kernel.train_pairs(*rows, bucket, codec, noises[j], step, rng, center_pairs=center_pairs[i])
                draw_seconds += drawn - begun
                kernel_seconds += time.process_time() - drawn
                trained += walk.pairs
                of_block[i] += walk.pairs
    vectors = np.empty_like(center)
    vectors[blocks.order] = center
    counts = dict(zip(corpus.words, corpus.counts.tolist(), strict=True))
    found_quality = quality.evaluate((corpus.words, vectors), counts)
    return {
        **w._asdict(),
        **found_quality._asdict(),
        "words": words,
        "pairs": trained,
        "rounds": rounds,
        "heaviest_block": round(float(of_block.max() / of_block.mean()), 3),
        "draw_seconds": round(draw_seconds, 2),
        "kernel_seconds": round(kernel_seconds, 2),
        "kernel_ns_a_pair": round(kernel_seconds / trained * 1e9, 1),
        "finite": bool(np.isfinite(vectors).all()),
    }


def constants(given: Sequence[str]) -> dict[str, float]:
    """Return the values of --let by their names."""
    return {name: float(value) for name, value in (part.split("=") for part in given)}


def set_constants(let: Mapping[str, float]) -> dict[str, float]:
    """Set constants of kernel.py, groups.py or schedule.py; return their values before.

    Raises:
        ValueError: none of these has a constant of such a name.
    """
    before = {}
    for name, value in let.items():
        if not any(hasattr(module, name) for module in (kernel, groups, schedule)):
            raise ValueError(f"--let {name}: is no constant of the kernel or of the schedule")
        # A module that imports a constant of another has a copy of its own.
        for module in (kernel, groups, schedule):
            if hasattr(module, name):
                before[name] = getattr(module, name)
                setattr(module, name, type(before[name])(value))
    return before


_corpus: Corpus


def _one(job: tuple[Wanted, dict[str, float]]) -> dict[str, Any]:
    wanted, let = job
    set_constants(let)
    with threadpool_limits(1, "blas"):
        return {**train(_corpus, wanted), "let": let}


def main() -> int:
    global _corpus
    t = Config().training
    parser = argparse.ArgumentParser(prog="python -m bench.blocks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="files, plain or .gz, and directories")
    parser.add_argument("--words", type=int, metavar="N", help="the first N words")
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--sweeps", type=int, nargs="+", default=[0], help="0: as many as the job takes")
    parser.add_argument("--rates", type=float, nargs="+", default=[t.learning_rate])
    parser.add_argument("--damping", type=float, nargs="+", default=[t.damping])
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument(
        "--let", nargs="+", default=[], metavar="NAME=VALUE", help="a constant of kernel.py, groups.py or schedule.py"
    )
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; timings want 1")
    options = parser.parse_args()
    let = constants(options.let)
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        corpus = options.corpus or text.default_corpus()
        _corpus = read(text.write(corpus, "", options.words, Path(scratch) / "text.txt"))
    jobs = [
        (Wanted(blocks, seed, sweeps, rate, damping, options.window, options.epochs, options.dimensions), let)
        for seed, blocks, sweeps, rate, damping in itertools.product(
            options.seeds, options.blocks, options.sweeps, options.rates, options.damping
        )
    ]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(_one, jobs, chunksize=1):
            with OUTPUT.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    measure.adopt_environment()
    sys.exit(main())
