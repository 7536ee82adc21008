"""The kernel next to gensim, and by part next to what the machine allows: python -m bench.kernel --corpus PATH.

Kept words a second of training alone, ours and gensim with one thread, one after the other in each round. Then the time
of each part of spark_w2v.skipgram.kernel.train_pairs, from line_profiler, next to a limit from two peaks that are
measured in the same run: a copy and an sgemm. The limit counts each row that a group needs as read once and written
once, at the speed of memory, and the products at the speed of sgemm. Everything else is free. Frequent rows stay in a
cache, so that gathering them may take less.
"""

import argparse
import inspect
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from bench import measure, text
from bench.blocks import Corpus, constants, cut, draw, read, set_constants
from bench.systems import DIMENSIONS, MIN_COUNT, NEGATIVES, SUBSAMPLE, WINDOW
from spark_w2v.config import Config
from spark_w2v.skipgram import kernel
from spark_w2v.skipgram.groups import BlockNoise, cut_parts
from spark_w2v.skipgram.pairs import PairArray, PairCodec, PairSampler
from spark_w2v.skipgram.parameters import Blocks, assign_blocks, initialise
from spark_w2v.skipgram.sampling import generator, keep_probability, noise_distribution
from spark_w2v.types import Float32Array

OUTPUT = measure.ROOT / "build" / "bench"
COPIED = 64 << 20  # floats of the copy, = 256 MB: past every cache
PRODUCT = 2048  # rows and columns of the sgemm
VOCABULARY = 50_000  # V of the small buckets: words by 1 / rank
BUCKET_BLOCKS = [2, 8, 32, 64]
BUCKET_PAIRS = [500, 2_000, 8_000, 32_000, 128_000]
MOST_BUCKETS, ENOUGH_PAIRS = 200, 250_000  # that one figure of a small bucket is measured on
GATHER, SCATTER = 4, 4  # bytes a number: read once, written once


class Peaks(NamedTuple):
    """Return the peak rates of one core.

    Args:
        bytes_a_ns: of a copy, read and written.
        flops_a_ns: of an sgemm.
    """

    bytes_a_ns: float
    flops_a_ns: float


class Shape(NamedTuple):
    """Of the groups that a walk cut: a pair has so many groups, rows of noise, and products of a center with one."""

    groups: float
    noise: float
    products: float


class Part(NamedTuple):
    """Lines of train_pairs that belong together, and what they cannot do without, for a pair."""

    name: str
    lines: str
    bytes: Callable[[Shape, int], float] = lambda shape, d: 0.0
    flops: Callable[[Shape, int], float] = lambda shape, d: 0.0


def _noise_product(shape: Shape, d: int) -> float:
    return 2 * d * shape.products


# The first that matches has the line.
PARTS = [
    Part("gather center rows", r"np\.take\(center_rows", lambda s, d: GATHER * d * s.groups),
    Part("gather context rows", r"np\.take\(context_rows, contexts", lambda s, d: GATHER * d),
    Part("gather noise rows", r"np\.take\(context_rows, drawn", lambda s, d: GATHER * d * s.noise),
    Part("scores of contexts", r"^positive = np\.(matmul|vecdot)", flops=lambda s, d: 2 * d),
    Part("scores of noise", r"^half_negative = np\.matmul", flops=_noise_product),
    Part(
        "center gradient",
        r"^center_gradient|add_sums|out=center_gradient",
        flops=lambda s, d: 2 * d + _noise_product(s, d),
    ),
    Part("noise gradient", r"^noise_gradient", flops=_noise_product),
    Part("add to context rows", r"add_rows\(context_rows, contexts", lambda s, d: SCATTER * d, lambda s, d: 2 * d),
    Part("add to noise rows", r"add_rows\(context_rows, drawn", lambda s, d: SCATTER * d * s.noise),
    Part("add to center rows", r"add_rows\(center_rows", lambda s, d: SCATTER * d * s.groups),
    Part("loss", r"softplus|loss"),
    Part("sigma and weights", r"^(positive|negative|half_negative|np\.tanh|np\.subtract)\b"),
    Part("groups, noise words, step sizes", r""),
]


class Work(NamedTuple):
    """The pairs of an epoch in their buckets.

    Args:
        center_pairs: of each center block, the pairs of each center as the kernel takes them.
    """

    buckets: list[tuple[int, int, PairArray]]
    center_pairs: list[Float32Array | None]
    codec: PairCodec
    blocks: Blocks
    noises: list[BlockNoise]
    words: int
    draw_seconds: float


def prepare(corpus: Corpus, count: int) -> Work:
    """Draw an epoch for so many blocks."""
    keep = keep_probability(corpus.counts, int(corpus.counts.sum()), SUBSAMPLE)
    load = corpus.counts.astype(np.float64) * keep
    blocks = assign_blocks(load, count)
    sampler, codec = PairSampler(keep, WINDOW, 1, 0.0, blocks), PairCodec.of(blocks)
    begun = time.perf_counter()
    pairs, words = draw(corpus, sampler, 1, np.array([0.0, 1.0]))
    seconds = time.perf_counter() - begun
    buckets = [(i, j, codec.shorten(cut(pairs, codec, 0, i, j))) for i in range(count) for j in range(count)]
    noise = noise_distribution(corpus.counts, 0.75)[blocks.order]
    noises = [BlockNoise.of(blocks.of(noise, j), DIMENSIONS) for j in range(count)]
    rows, of_block = np.diff(blocks.ends).tolist(), [buckets[i * count : (i + 1) * count] for i in range(count)]
    center_pairs = [
        kernel.count_center_pairs((pairs for *_, pairs in of_block[i]), codec, rows[i]) if count > 1 else None
        for i in range(count)
    ]
    return Work(buckets, center_pairs, codec, blocks, noises, words, seconds)


def walk(work: Work, train_pairs: Callable[..., kernel.TrainStats]) -> float:
    """Seconds of one epoch in the kernel alone."""
    t = Config().training
    center, context = np.zeros((2, work.blocks.order.size, DIMENSIONS), np.float32)
    initialise(center, 1, np.argsort(work.blocks.order).astype(np.int32))
    seconds = 0.0
    for i, j, bucket in work.buckets:
        step = kernel.SgdParams(NEGATIVES, t.damping, t.learning_rate, t.learning_rate / 2)
        of = work.blocks.of
        begun = time.perf_counter()
        rng, rows = generator(1, 0, i, j), (of(center, i), of(context, j))
        train_pairs(*rows, bucket, work.codec, work.noises[j], step, rng, center_pairs=work.center_pairs[i])
        seconds += time.perf_counter() - begun
    return seconds


def bucket_nanoseconds(count: int, size: int) -> float:
    """Nanoseconds per pair of buckets of one size, as a task trains them: its center block stays, context blocks pass.

    Center and context are drawn apart from each other, by how often each word is trained on.
    """
    t = Config().training
    counts = (1e8 / np.arange(1, VOCABULARY + 1)).astype(np.int64)
    load = counts.astype(np.float64) * keep_probability(counts, int(counts.sum()), SUBSAMPLE)
    blocks = assign_blocks(load, count)
    of, codec = blocks.of, PairCodec.of(blocks)
    load, noise = load[blocks.order], noise_distribution(counts, 0.75)[blocks.order]
    center, context = np.zeros((2, VOCABULARY, DIMENSIONS), np.float32)
    initialise(center, 1)
    context += center[::-1]
    step = kernel.SgdParams(NEGATIVES, t.damping, t.learning_rate, t.learning_rate / 2)
    noises = [BlockNoise.of(of(noise, j), DIMENSIONS) for j in range(count)]
    drawn, rng = [], np.random.default_rng(1)
    for number in range(min(MOST_BUCKETS, -(-ENOUGH_PAIRS // size))):
        i, j = number // count % count, number % count
        c, o = (rng.choice(of(load, b).size, size, p=of(load, b) / of(load, b).sum()) for b in (i, j))
        drawn.append((i, j, codec.shorten(np.sort(c.astype(np.uint64) << np.uint64(codec.row) | o.astype(np.uint64)))))
    # Of a sweep, as many as are expected of each center.
    center_pairs = [(of(load, i) * (size * count / of(load, i).sum())).astype(np.float32) for i in range(count)]
    begun = time.process_time()
    for i, j, pairs in drawn:
        rng, rows = generator(1, 0, i, j), (of(center, i), of(context, j))
        kernel.train_pairs(*rows, pairs, codec, noises[j], step, rng, center_pairs=center_pairs[i])
    return (time.process_time() - begun) / sum(pairs.size for _, _, pairs in drawn) * 1e9


def report_buckets(repeats: int) -> None:
    """The kernel on small buckets: the fastest of some measurements each, as a shared machine only adds to them."""
    print(f"V = {VOCABULARY:,}, D = {DIMENSIONS}, one core; ns of processor time per pair\n")
    heads = [f"B {count} ({-(-VOCABULARY // count):,} rows)" for count in BUCKET_BLOCKS]
    print("| pairs of a bucket | " + " | ".join(heads) + " |\n|--:|" + "--:|" * len(heads))
    for size in BUCKET_PAIRS:
        best = [min(bucket_nanoseconds(count, size) for _ in range(repeats)) for count in BUCKET_BLOCKS]
        print(f"| {size:,} | " + " | ".join(f"{found:,.0f}" for found in best) + " |", flush=True)


def measure_peaks() -> Peaks:
    """The best of several copies and products, on one core."""
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    copies = [_seconds(lambda: np.copyto(target, source)) for _ in range(7)]
    a = np.ones((PRODUCT, PRODUCT), np.float32)
    products = [_seconds(lambda: np.matmul(a, a, out=target[: a.size].reshape(a.shape))) for _ in range(5)]
    return Peaks(2 * source.nbytes / min(copies) / 1e9, 2 * PRODUCT**3 / min(products) / 1e9)


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def profile(work: Work) -> dict[str, float]:
    """Nanoseconds a pair of each part."""
    from line_profiler import LineProfiler

    profiler = LineProfiler()
    train_pairs = inspect.unwrap(kernel.train_pairs)  # without np.errstate, whose lines would be measured instead
    walk(work, profiler(train_pairs))
    source, first = inspect.getsourcelines(train_pairs)
    pairs = sum(bucket.size for _, _, bucket in work.buckets)
    stats = profiler.get_stats()
    found = dict.fromkeys((part.name for part in PARTS), 0.0)
    for line, _, units in next(iter(stats.timings.values())):
        said = source[line - first].strip()
        name = next(part.name for part in PARTS if re.search(part.lines, said))
        found[name] += units * stats.unit * 1e9 / pairs
    return found


def shape_of(work: Work) -> Shape:
    """Groups and rows of noise for each pair, as the kernel cuts them."""
    groups = noise = products = pairs = 0
    for i, j, bucket in work.buckets:
        centers = work.blocks.of(work.blocks.order, i).size
        for part in cut_parts(bucket, work.codec, centers, work.noises[j], NEGATIVES, generator(1, 0, i, j)):
            words = part.noise.shape[1]
            groups += len(part.groups)
            noise += len(part.groups) * words // part.sharing
            products += len(part.groups) * words
        pairs += bucket.size
    return Shape(groups / pairs, noise / pairs, products / pairs)


def gensim_words_a_second(corpus: Corpus, path: Path) -> float:
    """Kept words a second of gensim's train with one thread; the vocabulary is counted before."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        sg=1, hs=0, vector_size=DIMENSIONS, window=WINDOW, negative=NEGATIVES, sample=SUBSAMPLE, min_count=MIN_COUNT,
        alpha=0.05, workers=1, seed=1,
    )  # fmt: skip
    model.build_vocab(corpus_file=str(path))
    begun = time.perf_counter()
    trained, _ = model.train(
        corpus_file=str(path),
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=1,
    )
    return float(trained) / (time.perf_counter() - begun)


def limits(peaks: Peaks, shape: Shape) -> dict[str, float]:
    """Nanoseconds a pair that each part takes at the peaks."""
    return {
        part.name: part.bytes(shape, DIMENSIONS) / peaks.bytes_a_ns + part.flops(shape, DIMENSIONS) / peaks.flops_a_ns
        for part in PARTS
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kernel", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="files, plain or .gz, and directories")
    parser.add_argument("--words", type=int, metavar="N", default=2_000_000, help="the first N words")
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--let", nargs="+", default=[], metavar="NAME=VALUE", help="the kernel with other constants too, in turns"
    )
    parser.add_argument("--no-gensim", action="store_true")
    parser.add_argument("--buckets", action="store_true", help="small buckets of a synthetic corpus instead")
    options = parser.parse_args()
    if options.buckets and options.let:
        parser.error("--let: does not go with --buckets")
    if options.buckets:
        with threadpool_limits(1, "blas"):
            report_buckets(options.repeats)
        return 0
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch, threadpool_limits(1, "blas"):
        path = Path(scratch) / "text.txt"
        corpus = read(text.write(options.corpus or text.default_corpus(), "", options.words, path))
        works = {count: prepare(corpus, count) for count in options.blocks}
        speeds: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            for count, work in works.items():
                seconds = walk(work, kernel.train_pairs)
                if options.let:
                    before = set_constants(constants(options.let))
                    name = f"{count} blocks, kernel, {' '.join(options.let)}"
                    speeds.setdefault(name, []).append(work.words / walk(prepare(corpus, count), kernel.train_pairs))
                    set_constants(before)
                speeds.setdefault(f"{count} blocks, kernel", []).append(work.words / seconds)
                drawn = prepare(corpus, count).draw_seconds
                speeds.setdefault(f"{count} blocks, pairs drawn too", []).append(work.words / (seconds + drawn))
            if not options.no_gensim:
                speeds.setdefault("gensim", []).append(gensim_words_a_second(corpus, path))
        blas = threadpool_info()[0]["architecture"]
        print(f"{corpus.ids.size:,} words of {len(corpus.words):,} different, one core, one epoch, BLAS for {blas}\n")
        print("| | kept words a second, median | times gensim, median (least to most) |\n|---|--:|--:|")
        for name, found in speeds.items():
            ratios = [ours / other for ours, other in zip(found, speeds.get("gensim", found), strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {name} | {statistics.median(found):,.0f} | {'' if options.no_gensim else ratio} |")
        peaks = measure_peaks()
        print(f"\nA copy moves {peaks.bytes_a_ns:.1f} bytes a ns, an sgemm does {peaks.flops_a_ns:.0f} flops a ns.\n")
        report: dict[str, Any] = {"speeds": speeds, "peaks": peaks._asdict(), "parts": {}}
        columns = {}
        for count, work in works.items():
            parts = min((profile(work) for _ in range(options.repeats)), key=lambda found: sum(found.values()))
            columns[count] = (parts, limits(peaks, shape_of(work)))
            report["parts"][count] = columns[count]
        print("| ns a pair | " + " | ".join(f"{count} blocks | limit" for count in columns) + " |")
        print("|---|" + "--:|--:|" * len(columns))
        for name in [part.name for part in PARTS]:
            print(f"| {name} | " + " | ".join(f"{p[name]:.1f} | {m[name]:.1f}" for p, m in columns.values()) + " |")
        sums = [(sum(p.values()), sum(m.values())) for p, m in columns.values()]
        print("| all | " + " | ".join(f"{took:.0f} | {limit:.0f}" for took, limit in sums) + " |")
        print("| times the limit | " + " | ".join(f"{took / limit:.2f} |" for took, limit in sums) + " |")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "kernel.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    measure.adopt_environment()
    sys.exit(main())
