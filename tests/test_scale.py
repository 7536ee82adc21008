"""The cost model of bench/scale.py: its corpora, its counts of work, its fit. What it measures is not tested here."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from pyspark.sql import SparkSession

from bench import costs, scale, singles
from bench.scale_tables import GOALS, goals_table
from bench.synthetic import write_text, zipf_counts
from bench.work import Buckets, Work, expected_groups, work_of
from spark_w2v.config import Config
from spark_w2v.exchange.plan import share_blocks
from spark_w2v.skipgram.groups import CHUNK, WIDTHS, BlockNoise, Groups, cut_parts
from spark_w2v.skipgram.pairs import PairCodec, PairSampler, Runs
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.sampling import frequent_share, keep_probability, noise_distribution
from spark_w2v.skipgram.schedule import auto_sweeps, epoch_edges, expected_pairs, kept_words
from spark_w2v.spark.buckets import draw_records
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Settings

SEGMENTS, SENTENCE = 4, 500


@pytest.mark.parametrize(("words", "vocabulary"), [(100_000, 1_000), (100_000, 50_000)])
def test_a_corpus_has_the_words_and_the_vocabulary_that_were_asked_for(words: int, vocabulary: int) -> None:
    counts = zipf_counts(words, vocabulary)
    assert counts.size == vocabulary
    assert counts.min() == 1 or words > 2 * vocabulary
    assert abs(counts.sum() / words - 1) < 0.01
    assert (np.diff(counts) <= 0).all()
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.01)


def test_the_text_has_every_word_as_often_as_its_count_says(tmp_path: Path) -> None:
    counts = np.array([2_000, 500, 1], np.int64)
    write_text(counts, tmp_path / "text.txt")
    lines = (tmp_path / "text.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [1000, 1000, 501]
    words = " ".join(lines).split()
    assert [words.count(f"w{i}") for i in range(3)] == counts.tolist()


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("each", [0.05, 1.0, 6.0])
def test_expected_groups_are_those_that_the_kernel_cuts(width: int, each: float) -> None:
    rng = np.random.default_rng(3)
    for occurrences in (0.1, 1.0, 9.0, 12.0, 100.0, 1000.0):
        centers = int(4e6 / max(occurrences * each, 10))
        drawn = rng.poisson(rng.poisson(occurrences, centers) * each).astype(np.int32)
        there = np.flatnonzero(drawn).astype(np.int32)
        runs = Runs(there, np.zeros_like(there), drawn[there])
        cut = len(Groups(lambda at: at, runs, width, 1 << 30, rng)) / drawn.size
        found = expected_groups(np.array([occurrences, 5000.0]), each, width)[0]
        alone = expected_groups(np.array([occurrences]), each, width)[0]
        assert (found, alone) == pytest.approx((cut, cut), rel=0.05), f"{occurrences} occurrences"


def rows_of(counts: npt.NDArray[np.int64]) -> list[tuple[Any, ...]]:
    """Rows of ENCODED with every word as often as its count says, in random order."""
    ids = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
    np.random.default_rng(1).shuffle(ids)
    rows = []
    for segment, some in enumerate(np.array_split(ids, SEGMENTS)):
        lengths = np.full(-(-some.size // SENTENCE), SENTENCE, np.int32)
        lengths[-1] -= lengths.sum() - some.size
        rows.append((0, 0, segment, some.tobytes(), lengths.tobytes(), b""))
    return rows


class Epoch(NamedTuple):
    """The first epoch of a text, as it is drawn."""

    blocks: Any
    edges: Any
    drawing: PairSampler


def epoch_of(counts: npt.NDArray[np.int64], blocks: int, subsample: float) -> Epoch:
    load = kept_words(counts, subsample)
    pairs = expected_pairs(float(load.sum()), 6)
    total = int(counts.sum())
    assigned = assign_blocks(load, blocks)
    drawing = PairSampler(keep_probability(counts, total, frequent_share(subsample, total)), 5, 1, 0.0, assigned)
    return Epoch(assigned, epoch_edges(0, blocks, auto_sweeps(blocks, pairs), pairs), drawing)


@pytest.mark.parametrize(("blocks", "subsample"), [(1, 1e-3), (3, 1e-3), (3, 1e-4), (12, 1e-3)])
def test_groups_of_a_run_are_those_that_the_kernel_cuts(blocks: int, subsample: float) -> None:
    counts = zipf_counts(300_000, 4_000)
    assigned, edges, drawing = epoch_of(counts, blocks, subsample)
    layout, rng = PairCodec.of(assigned), np.random.default_rng(5)
    noise = noise_distribution(counts, 0.75)[assigned.order]
    keys = np.concatenate(
        [
            drawing.pairs(row[:3], np.frombuffer(row[3], np.int32), np.frombuffer(row[4], np.int32), 0, edges)[0]
            for row in rows_of(counts)
        ]
    )
    keys.sort()
    cuts = np.flatnonzero(np.diff(keys >> np.uint64(2 * layout.row)))
    found, two_parts = Buckets(), 0
    for pairs in np.split(keys, cuts + 1):
        number = int(pairs[0]) >> 2 * layout.row
        context = number & ((1 << layout.block) - 1)
        center = number >> layout.block & ((1 << layout.block) - 1)
        of_block = BlockNoise.of(assigned.of(noise, context), 100)
        centers = assigned.of(assigned.order, center).size
        parts = cut_parts(layout.shorten(pairs), layout, centers, of_block, 5, rng)
        two_parts += len(parts) == 2
        for part in parts:
            many, rows = len(part.groups), of_block.share.size
            batches, chunks = -(-many // part.size), -(-many // (part.size * CHUNK))
            found = found.plus(Buckets(0, 0, many, many * part.groups.width, 0, batches, rows * (chunks + 1)))
        found = found.plus(Buckets(1.0, pairs.size))
    assert two_parts or blocks == 12
    expected = work_of(counts, 100, blocks, 2, subsample=subsample).buckets
    for name in ("buckets", "pairs", "groups", "places", "batches", "steps"):
        mine, its = getattr(expected, name), getattr(found, name)
        # The ends of sentences cut some pairs off, of which the model knows nothing.
        assert mine == pytest.approx(its, rel=1e-9 if name == "buckets" else 0.04), name


def test_the_width_that_is_expected_is_the_one_that_takes_the_least_time() -> None:
    few, many = (work_of(zipf_counts(words, 4_000), 100, 4, 2).buckets for words in (20_000, 2_000_000))
    assert few.places / few.groups < 3
    assert many.places / many.groups > 6


def test_a_record_is_one_task_s_pairs_of_one_chunk() -> None:
    counts = zipf_counts(100_000, 4_000)
    assigned, edges, drawing = epoch_of(counts, 4, 1e-3)
    rows = rows_of(counts)
    # One task that draws for each segment of text.
    records = [
        record for row in rows for record in draw_records([row], drawing, 0, edges, share_blocks(assigned.count, 2))
    ]
    work = work_of(counts, 100, 4, 2)
    assert len(records) == SEGMENTS * 2
    # The model has a segment for each SPLIT_BYTES of text, of which this is less than one.
    assert work.draws == 1
    assert work.records * SEGMENTS == len(records)
    assert sum(record.pairs.nbytes for record in records) == sum(record.pairs.size for record in records) * work.width


@pytest.mark.parametrize("snapshots", [False, True])
def test_rounds_and_bytes_are_those_of_a_training_through_spark(
    spark: SparkSession, tmp_path: Path, snapshots: bool
) -> None:
    counts = zipf_counts(200_000, 1_500)
    c, epochs = Config(), 2
    work = work_of(counts, 16, 5, 2, epochs=epochs, snapshots=snapshots)
    sweeps = auto_sweeps(5, work.epoch_pairs)
    settings = Settings(
        scheme="blocks", partitions=5, dimensions=16, window=5, negatives=5, epochs=epochs, learning_rate=0.05,
        slices=sweeps, subsample=c.vocabulary.subsample, noise_exponent=0.75, damping=0.1, seed=1, held_out_words=0,
    )  # fmt: skip
    encoded = spark.createDataFrame(spark.sparkContext.parallelize(rows_of(counts), 2), ENCODED)
    training = Training(encoded, counts, settings, tmp_path, snapshots)
    metrics = [progress.metrics for progress in training.run() if progress.metrics is not None]
    assert [m["tasks"] for m in metrics] == [work.tasks] * epochs == [2] * epochs
    assert sum(m["sweeps"] for m in metrics) * work.blocks == work.rounds
    assert metrics[0]["sweeps"] > metrics[1]["sweeps"] == sweeps
    assert sum(m["driver_bytes"] for m in metrics) == work.driver_bytes
    # Headers and short messages come on top; what came last was not counted yet.
    assert sum(m["task_bytes"] for m in metrics) == pytest.approx(work.task_bytes, rel=0.01)
    assert sum(m["pairs"] for m in metrics) == pytest.approx(work.pairs, rel=0.03)


def test_a_vocabulary_too_small_for_the_blocks_has_fewer() -> None:
    work = work_of(zipf_counts(100_000, 2_000), 100, 64, 64)
    assert work.blocks == work.tasks == 2_000 // 256
    assert work.cores == 64


def test_a_task_with_one_center_block_waits_for_every_block_that_it_gets() -> None:
    counts = zipf_counts(100_000, 4_000)
    alone, two, more = (work_of(counts, 100, blocks, cores) for blocks, cores in ((1, 2), (2, 2), (4, 2)))
    assert alone.passed == alone.task_bytes == 0
    assert two.waited_for == two.rounds - 1
    assert more.waited_for == 0
    assert more.passed == 2 * (more.rounds - 1)


def some_works() -> list[Work]:
    return [
        work_of(zipf_counts(words, vocabulary), dimensions, blocks, 2)
        for words, vocabulary, dimensions, blocks in [
            (100_000, 2_000, 50, 2), (300_000, 2_000, 100, 2), (100_000, 20_000, 100, 2),
            (100_000, 2_000, 200, 4), (200_000, 70_000, 50, 8), (500_000, 2_000, 100, 1), (900_000, 9_000, 100, 16),
        ]
    ]  # fmt: skip


def test_the_fit_finds_the_constants_that_made_the_runs() -> None:
    true = {part: [1e-6 * (k + 1) for k in range(len(terms))] for part, terms in costs.PARTS.items()}
    true["kernel"] = [1e-6 * (k + 1) for k in range(len(costs.KERNEL))]
    works = some_works()
    found = costs.fit([(work, costs.predict(work, true)) for work in works], true["take"][2])
    found["kernel"] = costs.fit_kernel([(work, costs.kernel_seconds(work, true["kernel"])) for work in works])
    other = work_of(zipf_counts(1_000_000, 30_000), 300, 8, 2)
    expected = costs.predict(other, true)
    for part, value in costs.predict(other, found).items():
        assert value == pytest.approx(expected[part], rel=0.05), part


def test_a_training_is_the_sum_of_its_parts() -> None:
    work = work_of(zipf_counts(200_000, 4_000), 100, 2, 2, epochs=3)
    constants = {part: [0.0] * len(terms) for part, terms in costs.PARTS.items()}
    constants["kernel"] = [0.0] * len(costs.KERNEL)
    assert costs.train(work, constants, 0.0, 16, 0.0).seconds == 0
    constants["kernel"][0] = 1e-6
    kernels = costs.train(work, constants, 0.0, 16, 0.0)
    assert kernels.kernel == pytest.approx(work.buckets.pairs * 1e-6 / 2)
    assert kernels.seconds == pytest.approx(kernels.kernel + kernels.waiting)
    assert 0 <= kernels.waiting < 0.05 * kernels.kernel
    constants["exchange"] = [1.0, 1e-7, 0.5, 0.0]
    exchange = costs.train(work, constants, 0.0, 16, 0.0)
    # The parameters of an epoch go out and come back; every round but the last of an epoch waits for a message.
    assert exchange.exchange == pytest.approx(3 + work.driver_bytes * 1e-7 + 0.5 * work.waited_for, rel=0.01)
    assert exchange.kernel == kernels.kernel


def free() -> costs.Constants:
    """Constants of a world in which nothing costs anything."""
    return {part: [0.0] * len(terms) for part, terms in costs.PARTS.items()} | {"kernel": [0.0] * len(costs.KERNEL)}


def with_buckets_of(seconds: float) -> costs.Constants:
    """Constants of a world in which only a bucket costs something."""
    return free() | {"kernel": [0.0] * (len(costs.KERNEL) - 1) + [seconds]}


def test_a_cluster_takes_what_its_disks_and_its_network_take() -> None:
    model = costs.Model(with_buckets_of(1e-9), free() | {"shuffled": [0.5]}, [(1e-9, 0.0)])
    found = costs.on_cluster(10**7, 20_000, 64, model, memory=0.0)
    assert found.work.snapshots, "conf/cluster.toml has parameters back after each sweep"
    pairs = found.work.pairs * found.work.width / 4  # bytes of each of four machines
    # Written for the shuffle; read there and written to the spools; read from these.
    assert found.drawing * 3600 == pytest.approx((0.5 * pairs + 1.5 * pairs + pairs) / costs.DISK)
    assert found.shuffled == pytest.approx(0.5 * pairs * 3 / 4 / 3)
    assert found.kernels == found.waiting == found.others == 0
    # Out and back in each epoch, what comes back after each sweep, and blocks, as nothing hides them here.
    driver, blocks = (size / costs.NETWORK for size in (found.work.driver_bytes, found.work.block_bytes))
    assert driver < found.exchange * 3600 <= driver + found.work.rounds * blocks
    assert found.hours == pytest.approx(found.drawing + found.exchange)
    assert found.most() == "drawing"
    # Half of an epoch's pairs have room in memory, next to 16 tasks.
    half = costs.on_cluster(10**7, 20_000, 64, model, memory=16 * found.need.task + 0.5 * 1.5 * pairs / 3)
    assert half.drawing == pytest.approx(found.drawing / 2)
    cached = costs.on_cluster(10**7, 20_000, 64, model)
    assert cached.drawing * 3600 == pytest.approx(cached.shuffled * 3 / costs.NETWORK)


def test_what_a_task_waits_for_slower_buckets_is_that_of_a_predicted_training() -> None:
    # Else it would be predicted twice: there, and in the price of a block's way.
    work, constants = work_of(zipf_counts(2_000_000, 40_000), 100, 8, 8), with_buckets_of(1.0)
    predicted = costs.train(work, constants, 0.3, 2, 0.0).waiting
    assert costs.waiting(work, constants, 2, 0.3) == pytest.approx(predicted, rel=0.05)
    assert costs.waiting(work, constants, 2, 0.0) < 0.5 * predicted


def test_buckets_differ_as_single_ones_do_that_take_as_long() -> None:
    work = work_of(zipf_counts(200_000, 4_000), 100, 2, 2)
    model = costs.Model(with_buckets_of(1e-2), free(), [(1e-3, 0.2), (1e-1, 0.1)])
    assert model.spread(work) == pytest.approx(0.15)


def test_buckets_that_are_measured_alone_are_those_of_a_usual_block() -> None:
    single = singles.Single(True, 10**6, 5_000, 4)
    found = singles.run_single(single, 0.0)
    pairs = round(singles.typical(singles.single_work(single)).pairs)
    assert [size for size, _ in found] == [pairs] * (singles.LEAST_BUCKETS - 1)
    assert all(seconds > 0 for _, seconds in found)
    work = singles.single_work(single)
    assert pairs == pytest.approx(work.epoch_pairs * work.shares(1)[0] / 4**2, rel=0.01)


def test_a_goal_says_whether_it_is_met_and_what_is_in_the_way() -> None:
    model = costs.Model(with_buckets_of(1e-9), free(), [(1e-9, 0.0)])
    some = costs.on_cluster(10**7, 20_000, 64, model)
    met, missed = (
        some._replace(kernels=hours, waiting=0.01, drawing=0.002, exchange=0.0, others=0.0) for hours in (0.03, 0.15)
    )
    keys = {goal[:3] for goal in GOALS}
    lines = goals_table(dict.fromkeys(keys, met)).splitlines()[2:]
    assert [line.split(" | ")[3] for line in lines] == ["met", "met", "met", "**missed**", "**missed**"]
    assert lines[3].endswith("waiting, 24% of all |")
    lines = goals_table(dict.fromkeys(keys, missed)).splitlines()[2:]
    assert [line.split(" | ")[3] for line in lines] == ["**missed**", "**missed**", "met", "met", "met"]
    assert lines[0].endswith("kernels, 93% of all |")


def test_the_event_log_says_how_long_the_pairs_were_drawn_and_what_was_shuffled() -> None:
    def job(number: int, described: str, stages: list[int]) -> dict[str, object]:
        properties = {"spark.job.description": described}
        return {"Event": "SparkListenerJobStart", "Job ID": number, "Stage IDs": stages, "Properties": properties}

    def task(stage: int, kind: str, written: int) -> dict[str, object]:
        metrics = {"Executor Run Time": 1250, "Shuffle Write Metrics": {"Shuffle Bytes Written": written}}
        return {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Type": kind, "Task Metrics": metrics}

    events = [
        job(0, "vocabulary: counting the words", [0]), task(0, "ShuffleMapTask", 5),
        job(1, "epoch 1 of 1: 2 blocks, 2 tasks, 9 sweeps", [1, 2]),
        task(1, "ShuffleMapTask", 30), task(1, "ShuffleMapTask", 12), task(2, "ResultTask", 7),
    ]  # fmt: skip
    found = scale.of_events(json.dumps(event) for event in events)
    assert found == {"drawing_seconds": 2.5, "shuffled_bytes": 42}
