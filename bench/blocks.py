"""Quality and kernel time against blocks, without Spark: python -m bench.blocks --blocks 1 8 32 --seeds 1 2 3.

What Spark would train, drawn and trained by the same functions in one process a run: the place to try a change of the
kernel or of the schedule before any of Spark is paid for. --let tries another value of a constant of
spark_w2v.skipgram.descent, or of a setting of training.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from bench import measure, quality, text
from bench.systems import DIMENSIONS, EPOCHS, MIN_COUNT, NEGATIVES, SUBSAMPLE, WINDOW
from spark_w2v.config import Config
from spark_w2v.skipgram import descent
from spark_w2v.skipgram.pairs import Drawing, Keys, Layout, enough_sweeps, epoch_edges, latin_square
from spark_w2v.skipgram.parameters import Ints, deal_blocks, initialise
from spark_w2v.skipgram.sampling import KERNEL, LATIN_SQUARE, generator, keep_probability, noise_distribution

OUTPUT = measure.ROOT / "build" / "bench" / "blocks.jsonl"
PIECE = 5_000  # sentences drawn at a time
LEAST_RATE = 1e-4


class Corpus(NamedTuple):
    """A text as word ids.

    Args:
        ids, lengths: words of the vocabulary, sentence after sentence.
        words, counts: by word id.
    """

    ids: Ints
    lengths: Ints
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
    corpus: Corpus, drawing: Drawing, epoch: int, edges: "np.ndarray[Any, np.dtype[np.float64]]"
) -> tuple[Keys, int]:
    """The pairs of an epoch, sorted, and how many words they come from."""
    ends = np.concatenate([[0], np.cumsum(corpus.lengths)])
    found, words = [], 0
    for a in range(0, corpus.lengths.size, PIECE):
        b = min(a + PIECE, corpus.lengths.size)
        pairs, kept = drawing.pairs((0, 0, a), corpus.ids[ends[a] : ends[b]], corpus.lengths[a:b], epoch, edges)
        found.append(pairs)
        words += kept
    pairs = np.concatenate(found)
    pairs.sort()
    return pairs, words


def cut(pairs: Keys, layout: Layout, part: int, center: int, context: int) -> Keys:
    """The pairs of one bucket, among all of an epoch."""
    prefix = (part << layout.block | center) << layout.block | context
    first, last = np.searchsorted(pairs, np.array([prefix, prefix + 1], np.uint64) << np.uint64(2 * layout.row))
    return pairs[first:last]


def train(corpus: Corpus, wanted: Wanted) -> dict[str, Any]:
    """Train once and evaluate; the fields of a line of OUTPUT."""
    w = wanted
    keep = keep_probability(corpus.counts, int(corpus.counts.sum()), SUBSAMPLE)
    blocks = deal_blocks(corpus.counts.astype(np.float64) * keep, w.blocks)
    drawing = Drawing(keep, w.window, w.seed, 0.0, blocks)
    noise = noise_distribution(corpus.counts, 0.75)[blocks.order]
    layout = Layout.of(blocks)
    center, context = np.empty((2, corpus.counts.size, w.dimensions), np.float32)
    initialise(center, context, w.seed, np.argsort(blocks.order).astype(np.int32))
    words = trained = 0
    draw_seconds = kernel_seconds = 0.0
    for epoch in range(w.epochs):
        edges = epoch_edges(epoch, w.blocks, w.sweeps or enough_sweeps(w.blocks))
        begun = time.monotonic()
        pairs, kept = draw(corpus, drawing, epoch, edges)
        draw_seconds += time.monotonic() - begun
        words += kept
        done = 0
        for number in range((edges.size - 1) * w.blocks):
            part, turn = divmod(number, w.blocks)
            partners = latin_square(w.blocks, generator(w.seed, LATIN_SQUARE, epoch, part))[turn]
            buckets = [cut(pairs, layout, part, i, int(j)) for i, j in enumerate(partners)]
            here = sum(bucket.size for bucket in buckets)
            rates = [w.rate * max(LEAST_RATE, 1 - (epoch + at / pairs.size) / w.epochs) for at in (done, done + here)]
            step = descent.Step(NEGATIVES, w.damping, *rates)
            for i, (j, bucket) in enumerate(zip(partners.tolist(), buckets, strict=True)):
                begun = time.monotonic()
                short = layout.shortened(bucket)
                drawn = time.monotonic()
                rng = generator(w.seed, KERNEL, epoch, (part * w.blocks + i) * w.blocks + j)
                rows = blocks.of(center, i), blocks.of(context, j)
                walk = descent.descend(*rows, short, layout, blocks.of(noise, j), step, rng)
                draw_seconds += drawn - begun
                kernel_seconds += time.monotonic() - drawn
                trained += walk.pairs
            done += here
    vectors = np.empty_like(center)
    vectors[blocks.order] = center
    counts = dict(zip(corpus.words, corpus.counts.tolist(), strict=True))
    found_quality = quality.evaluate((corpus.words, vectors), counts)
    return {
        **w._asdict(),
        **found_quality._asdict(),
        "words": words,
        "pairs": trained,
        "draw_seconds": round(draw_seconds, 2),
        "kernel_seconds": round(kernel_seconds, 2),
        "kernel_ns_a_pair": round(kernel_seconds / trained * 1e9, 1),
        "finite": bool(np.isfinite(vectors).all()),
    }


_corpus: Corpus


def _one(job: tuple[Wanted, dict[str, float]]) -> dict[str, Any]:
    wanted, let = job
    for name, value in let.items():
        setattr(descent, name, type(getattr(descent, name))(value))
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
    parser.add_argument("--let", nargs="+", default=[], metavar="NAME=VALUE", help="a constant of skipgram/descent.py")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; timings want 1")
    options = parser.parse_args()
    let = {name: float(value) for name, value in (part.split("=") for part in options.let)}
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
    sys.exit(main())
