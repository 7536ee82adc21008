"""Changes by a day's new text: python -m bench.warm_start YESTERDAY --today PATH ... --rates 0.025 0.01.

Begins with a finished run's vectors (as `--init` with `vocabulary.keep_missing`) and trains on today's text at several
rates: one block, without Spark. The same questions are asked of the vectors before and after. With --both, a run on
both texts, also how far the neighbours of new words are those that the longer run finds.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from bench import quality, text
from bench.blocks import LEAST_RATE, PIECE, Corpus, draw, read
from bench.systems import NEGATIVES, SUBSAMPLE, WINDOW
from spark_w2v.analysis import warm_start
from spark_w2v.analysis.neighbors import nearest, unit_vectors
from spark_w2v.config import Config
from spark_w2v.runs import embeddings
from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.held_out import Sample, draw_sample, sentences_held_out
from spark_w2v.skipgram.kernel import SgdParams, train_pairs
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import assign_blocks, initialise
from spark_w2v.skipgram.sampling import KERNEL, generator, keep_probability, noise_distribution
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.types import Float32Array

SEED = 1
HELD_OUT = 0.01  # of the sentences
NEAR = 10


class Run(NamedTuple):
    """Vectors by word id, (V, D) each, and what it took."""

    center: Float32Array
    context: Float32Array
    facts: dict[str, Any]


def train(corpus: Corpus, start: tuple[Float32Array, Float32Array], rate: float, epochs: int) -> Run:
    """One block from these vectors on, which are changed."""
    begun = time.process_time()
    keep = keep_probability(corpus.counts, int(corpus.counts.sum()), SUBSAMPLE)
    blocks = assign_blocks(corpus.counts.astype(np.float64) * keep, 1)
    sampler = PairSampler(keep, WINDOW, SEED, HELD_OUT, blocks)
    sample, noise = held_out(corpus, sampler), noise_distribution(corpus.counts, 0.75)[blocks.order]
    center, context = (matrix[blocks.order] for matrix in start)
    places = np.argsort(blocks.order).astype(np.int32)
    before, pairs = sample.moved(places).loss(center, context), 0
    for epoch in range(epochs):
        keys, _ = draw(corpus, sampler, epoch, np.array([0.0, 1.0]))
        rates = [rate * max(LEAST_RATE, 1 - at / epochs) for at in (epoch, epoch + 1)]
        step = SgdParams(NEGATIVES, Config().training.damping, *rates)
        pairs += train_pairs(
            center, context, keys, PairCodec.of(blocks), BlockNoise.of(noise, center.shape[1]), step,
            generator(SEED, KERNEL, epoch),
        ).pairs  # fmt: skip
    after = sample.moved(places).loss(center, context)
    seconds = round(time.process_time() - begun, 1)
    facts = {"rate": rate, "epochs": epochs, "pairs": pairs, "cpu_seconds": seconds}
    return Run(center[places], context[places], {**facts, "held_out_before": before, "held_out_after": after})


def held_out(corpus: Corpus, sampler: PairSampler) -> Sample:
    ends = np.concatenate([[0], np.cumsum(corpus.lengths)])
    rows = [
        (
            (0, 0, a),
            corpus.ids[ends[a] : ends[min(a + PIECE, corpus.lengths.size)]],
            corpus.lengths[a : a + PIECE],
            np.empty(0),
        )
        for a in range(0, corpus.lengths.size, PIECE)
    ]
    noise = noise_distribution(corpus.counts, 0.75)
    return draw_sample(sentences_held_out(rows, sampler), sampler, noise, NEGATIVES)


def neighbours(words: list[str], center: Float32Array, asked: list[str], among: list[str]) -> list[set[str]]:
    """The nearest words of each that is asked, among some."""
    place = {word: i for i, word in enumerate(words)}
    units = unit_vectors(center)
    candidates = units[[place[word] for word in among]]
    return [{among[i] for i, _ in nearest(candidates, units[place[word]], [], NEAR)} for word in asked]


def shared(one: list[set[str]], other: list[set[str]]) -> float:
    return round(float(np.mean([len(a & b) / NEAR for a, b in zip(one, other, strict=True)])), 3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.warm_start", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("yesterday", type=Path, metavar="YESTERDAY", help="the output of a finished run")
    parser.add_argument("--today", type=Path, nargs="+", required=True, metavar="PATH")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.025, 0.01])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1])
    parser.add_argument("--both", type=Path, metavar="OUTPUT")
    options = parser.parse_args()
    found = embeddings.read(options.yesterday)
    words = found.words.to_pylist()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        today = read(text.write(options.today, "", None, Path(scratch) / "today.txt"), set(words))
    counts = dict(zip(words, found.counts.tolist(), strict=True))
    earlier = warm_start.read(options.yesterday, found.vectors.shape[1])
    vocabulary = Vocabulary(pa.array(today.words, pa.large_string()), today.counts, 0, 0)
    print(json.dumps({"run": "yesterday", **quality.evaluate((words, found.vectors), counts)._asdict()}), flush=True)
    for epochs, rate in itertools.product(options.epochs, options.rates):
        begun = warm_start.begin(earlier, vocabulary)
        center, context = np.empty((2, len(vocabulary), found.vectors.shape[1]), np.float32)
        initialise(center, context, SEED)
        for ids, *rows in begun.rows:
            center[ids], context[ids] = rows
        run = train(today, (center, context), rate, epochs)
        facts = {"run": "today", **run.facts, **begun.change}
        facts |= quality.evaluate((today.words, run.center), counts)._asdict()
        if options.both:
            both = embeddings.read(options.both)
            longer = both.words.to_pylist()
            among = [word for word in longer[: quality.RESTRICT_VOCAB] if word in counts]
            fresh = [word for word in today.words if word not in counts and word in set(longer)]
            here = neighbours(today.words, run.center, fresh, among)
            facts["new_words_share"] = shared(here, neighbours(longer, both.vectors, fresh, among))
        print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        sys.exit(main())
