"""Memory: what is refused before training, and a task's peak against the formula."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pytest
from pyspark import SparkConf
from pyspark.sql import SparkSession

from spark_w2v.errors import NotEnoughMemoryError, StorageError
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.groups import BlockNoise, cut_parts
from spark_w2v.skipgram.kernel import SgdParams, batch_bytes, train_pairs
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.schedule import expected_pairs, kept_words, largest_bucket
from spark_w2v.spark.memory import ADDRESSES, PYTHON, SEGMENT, Given, Need, check, check_disk, given_by, needed
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Settings

ROOT = Path(__file__).resolve().parents[2]
MB, GB = 1 << 20, 1 << 30
EXECUTOR = "spark.executor."


class Usage(NamedTuple):
    """Result of shutil.disk_usage."""

    total: int
    used: int
    free: int


def test_the_model_is_two_matrices_of_float32() -> None:
    assert needed(100_000, 100, 2, "blocks", 1e6, 2).model == 80_000_000


def test_more_blocks_need_less_a_task_and_more_replicas_do_not() -> None:
    blocks = [needed(2_000_000, 300, count, "blocks", 1e9, count).task for count in (2, 8, 64)]
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[-1] < blocks[0] / 5
    replicas = [needed(2_000_000, 300, count, "replicas", 1e9, count).task for count in (2, 64)]
    assert replicas[0] == replicas[1] > needed(2_000_000, 300, 1, "blocks", 1e3, 1).model


def test_replicas_are_held_three_times_by_python_and_twice_by_the_jvm() -> None:
    small, large = (needed(3_000_000, dimensions, 2, "replicas", 1e9, 2) for dimensions in (100, 200))
    model = large.model - small.model
    grown = (large.driver - small.driver, large.heap - small.heap, large.task - small.task - batch_bytes(100))
    assert grown == (3 * model, 2 * model, 3 * model)


def test_a_bucket_of_any_corpus_is_bounded() -> None:
    assert needed(50_000, 100, 2, "blocks", 1e10, 2).task == needed(50_000, 100, 2, "blocks", 1e15, 2).task < GB


def test_a_word_with_more_than_the_load_of_a_block_makes_a_larger_bucket() -> None:
    even, one = np.ones(1000), np.array([1000.0] + [1.0] * 1000)
    assert largest_bucket(6400.0, 8, even) == 100
    assert largest_bucket(6400.0, 8, one) == pytest.approx(6400 / 4, rel=0.01)
    assert largest_bucket(6400.0, 1, one) == 6400
    assert largest_bucket(0.0, 8, np.zeros(3)) == 0
    mean, large = (needed(5_000_000, 100, 64, "blocks", 1e9, 64, largest=largest).task for largest in (None, 1 << 24))
    assert large > mean


def test_a_model_that_is_too_large_for_a_record_is_refused() -> None:
    need = needed(1_000_000, 300, 1, "replicas", 1e9, 1)
    with pytest.raises(NotEnoughMemoryError, match=r"2\.4 GB of it would be one record"):
        check(need, Given(1 << 40))
    check(needed(1_000_000, 300, 2, "replicas", 1e9, 2), Given(1 << 40))
    check(needed(1_000_000, 300, 1, "blocks", 1e9, 1), Given(1 << 40))


NEED = Need(model=4 * GB, driver=13 * GB, heap=9 * GB, task=3 * GB)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Given(heap=8 * GB), ["spark.driver.memory", "9.7 GB", "8.6 GB"]),
        (Given(heap=9 * GB, machine=18 * GB, slots=2), ["3.2 GB in each of 2 tasks", "20.4 GB in all", "19.3 GB left"]),
        (Given(heap=9 * GB, results=3 * GB), ["spark.driver.maxResultSize is 3.2 GB", "unset"]),
        (Given(heap=9 * GB, machine=12 * GB), ["14.0 GB in Python on the driver", "12.9 GB left"]),
        (
            Given(heap=9 * GB, executor=5 * GB, key="spark.executor.pyspark.memory", cores=2),
            ["spark.executor.pyspark.memory is 5.4 GB. Raise it to 7.1 GB", "3.2 GB", "training.partitions"],
        ),
        (
            Given(heap=9 * GB, executor=5 * GB, key="spark.executor.memoryOverhead", cores=2),
            ["spark.executor.memoryOverhead is 5.4 GB. Raise it to 6.8 GB"],  # of which the JVM takes a part
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(given: Given, named: list[str]) -> None:
    with pytest.raises(NotEnoughMemoryError) as refused:
        check(NEED, given)
    for words in ["4.3 GB", *named]:
        assert words in str(refused.value)


def test_what_just_fits_is_not_refused() -> None:
    check(NEED, Given(heap=9 * GB, machine=19 * GB, slots=2, executor=6 * GB, key="x", cores=2, results=4 * GB))
    check(NEED, Given(heap=9 * GB))


def test_a_limit_of_addresses_has_room_for_those_that_are_not_used() -> None:
    enough = 2 * (NEED.task + ADDRESSES)
    check(NEED, Given(heap=9 * GB, executor=enough, key=EXECUTOR + "pyspark.memory", cores=2))
    with pytest.raises(NotEnoughMemoryError):
        check(NEED, Given(heap=9 * GB, executor=enough - 1, key=EXECUTOR + "pyspark.memory", cores=2))
    # A Python that has what training imports, and may reserve the addresses that the check leaves to it.
    limited = (
        "import resource, sys\nimport numpy as np\nfrom spark_w2v.spark import block_task\n"
        "size = int(sys.argv[1])\nresource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "held = np.ones((300 << 20) // 8)\nprint(held @ held)"
    )
    size = PYTHON + (300 << 20) + ADDRESSES
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # as Spark starts a worker
    subprocess.run([sys.executable, "-c", limited, str(size)], env=environment, check=True, capture_output=True)


def test_the_drivers_python_needs_no_memory_for_the_model_of_blocks() -> None:
    for words in (10_000, 1_000_000):
        small, large = (needed(words, dimensions, 8, "blocks", 1e9, 2).driver for dimensions in (10, 1000))
        assert small == large < 0.5e9
    assert needed(1_000_000, 300, 8, "replicas", 1e9, 2).driver > 3 * 2.4e9


def test_a_model_in_memory_is_one_matrix_more_than_blocks_need_and_none_more_than_replicas() -> None:
    for scheme, more in (("blocks", 1.2e9), ("replicas", 0)):
        without, within = (needed(1_000_000, 300, 8, scheme, 1e9, 2, in_memory=kept).driver for kept in (False, True))
        assert within - without == more


def test_parameters_that_do_not_fit_on_the_disk_are_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made" / "later"
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(99 * GB, 96 * GB, 3 * GB))
    check_disk(GB, 1, folder)
    check_disk(GB + GB // 2, 0, folder)
    with pytest.raises(StorageError) as refused:
        check_disk(2 * GB, 1, folder)
    for words in (str(folder), "2.1 GB", "room for 3, 6.4 GB", "room for 3.2 GB"):
        assert words in str(refused.value)
    with pytest.raises(StorageError, match=r"room for 2, 4\.3 GB"):
        check_disk(2 * GB, 0, folder)
    with pytest.raises(StorageError, match=r"room for 4, 4\.3 GB"):
        check_disk(GB, 2, folder)
    assert not folder.exists()


def test_a_checkpoint_that_is_replaced_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(99 * GB, 99 * GB, 0))
    ParameterFiles.create(tmp_path / "00000000", 1000, 100)
    check_disk(400_000, 0, tmp_path)
    with pytest.raises(StorageError):
        check_disk(400_001, 0, tmp_path)


def test_a_local_spark_says_what_it_gives(spark: SparkSession) -> None:
    given = given_by(spark.sparkContext)
    assert 0.5 * GB < given.heap <= 1 * GB  # conftest.py gives it 1g
    assert given.slots == 2
    assert given.machine is not None
    assert given.machine > 0


class ClusterContext:
    """A SparkContext that has these settings, and the JVM of a real one."""

    def __init__(self, spark: SparkSession, settings: dict[str, str]) -> None:
        self._jvm, self._conf = spark.sparkContext._jvm, SparkConf(False).setAll(list(settings.items()))

    def getConf(self) -> SparkConf:  # noqa: N802  # Spark's name
        return self._conf


@pytest.mark.parametrize(
    ("master", "settings", "key", "bytes_of_python"),
    [
        ("yarn", {}, "memoryOverhead", 384 * MB),
        ("yarn", {"memory": "8g"}, "memoryOverhead", int(0.1 * 8 * GB)),
        ("yarn", {"memory": "8192"}, "memoryOverhead", int(0.1 * 8 * GB)),
        ("yarn", {"memoryOverhead": "2g"}, "memoryOverhead", 2 * GB),
        ("yarn", {"memoryOverhead": "2048"}, "memoryOverhead", 2 * GB),
        ("yarn", {"pyspark.memory": "3072", "memoryOverhead": "2g"}, "pyspark.memory", 3 * GB),
        ("yarn", {"memory": "10g", "memoryOverheadFactor": "0.5"}, "memoryOverhead", 5 * GB),
        ("yarn", {"minMemoryOverhead": "1g"}, "memoryOverhead", GB),
        ("k8s://https://host", {"memory": "10g"}, "memoryOverhead", GB),
        ("k8s://https://host", {"memory": "10g", "memoryOverheadFactor": "0.5"}, "memoryOverhead", 5 * GB),
        ("spark://host:7077", {"memory": "8g"}, "", None),
    ],
)
def test_a_cluster_says_what_it_gives_as_spark_reads_its_settings(
    spark: SparkSession, master: str, settings: dict[str, str], key: str, bytes_of_python: int | None
) -> None:
    named = {EXECUTOR + name: value for name, value in settings.items()}
    given = given_by(cast(Any, ClusterContext(spark, {"spark.master": master, EXECUTOR + "cores": "4", **named})))
    assert given.executor == bytes_of_python
    assert given.key == (EXECUTOR + key if key else "")
    assert given.results == GB


@pytest.mark.parametrize(("cpus", "cores"), [("1", 4), ("2", 2), ("1.0", 4), ("0.5", 8), ("3", 1)])
def test_a_task_may_take_a_part_of_a_core(spark: SparkSession, cpus: str, cores: int) -> None:
    settings = {"spark.master": "yarn", EXECUTOR + "cores": "4", "spark.task.cpus": cpus}
    assert given_by(cast(Any, ClusterContext(spark, settings))).cores == cores


def test_kubernetes_has_a_factor_of_its_own(spark: SparkSession) -> None:
    settings = {"spark.executor.memory": "10g", "spark.kubernetes.memoryOverheadFactor": "0.4"}
    for master, expected in (("k8s://https://host", 4 * GB), ("yarn", GB)):
        context = ClusterContext(spark, {"spark.master": master, **settings})
        assert given_by(cast(Any, context)).executor == expected
    settings["spark.executor.memoryOverheadFactor"] = "0.2"
    context = ClusterContext(spark, {"spark.master": "k8s://https://host", **settings})
    assert given_by(cast(Any, context)).executor == 2 * GB


@pytest.mark.parametrize("window", [5, 0])
def test_a_long_sentence_of_a_large_weight_takes_no_more_than_a_segment(window: int) -> None:
    sampler = PairSampler(
        np.ones(1000, np.float32), window, 1, 0.0, assign_blocks(np.ones(1000), 2), 0 if window else 2
    )
    ids = np.random.default_rng(1).integers(0, 1000, 25_000).astype(np.int32)
    tracemalloc.start()
    try:
        words = 0
        for _, some in sampler.parts(
            (0, 0, 0), ids, np.array([ids.size], np.int32), 0, np.array([0.0, 1.0]), weights=np.array([80.0])
        ):
            words += some
        assert tracemalloc.get_traced_memory()[1] < SEGMENT
    finally:
        tracemalloc.stop()
    assert words == 80 * ids.size


@pytest.fixture
def training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the formula leave out what a task has before it trains."""
    for other in ("SPOOL_BYTES", "LARGEST_CHUNK", "SEGMENT"):
        monkeypatch.setattr(f"spark_w2v.spark.memory.{other}", 0)


@pytest.mark.parametrize("rows", [300, 2500])
@pytest.mark.parametrize("each", [1, 60])
def test_rows_of_a_batch_are_part_of_the_formula(rows: int, each: int, training_alone: None) -> None:
    def peak(dimensions: int) -> int:
        codec, rng = PairCodec(12, 0), np.random.default_rng(1)
        center = np.sort(rng.integers(0, rows // each, rows).astype(np.uint32))
        pairs = np.sort(center << np.uint32(12) | rng.integers(0, rows, rows).astype(np.uint32))
        noise = BlockNoise.of(np.ones(rows) / rows, dimensions)
        matrices = np.zeros((2, rows, dimensions), np.float32)
        tracemalloc.start()
        try:
            train_pairs(matrices[0], matrices[1], pairs, codec, noise, SgdParams(5, 0.1, 0.05, 0.05), rng)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = 10, 1000
    grown = peak(many) - peak(few)
    for scheme, models in (("blocks", 1), ("replicas", 3)):
        small, large = (needed(rows, dimensions, 1, scheme, rows, 1) for dimensions in (few, many))
        counted = large.task - small.task - models * (large.model - small.model)
        assert grown < counted
        assert each > 1 or rows < 2500 or counted < 1.1 * grown


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("bits", [16, 17])
def test_a_bucket_takes_no_more_than_the_formula_however_it_is_sorted(
    bits: int, slow: bool, monkeypatch: pytest.MonkeyPatch, training_alone: None
) -> None:
    monkeypatch.setattr("spark_w2v.skipgram.pairs.is_sorting_slow", lambda: slow)
    size, rows, codec, rng = 1 << 22, 20_000, PairCodec(bits, 2), np.random.default_rng(1)
    noise = 1 / np.arange(1.0, rows + 1) ** 0.75
    drawn = np.searchsorted(np.cumsum(noise / noise.sum()), rng.random((2, size))).clip(max=rows - 1)
    center, context = drawn.astype(codec.dtype)
    sent, of_block = center << codec.dtype.type(bits) | context, BlockNoise.of(noise, 100)
    del drawn, center, context
    tracemalloc.start()
    try:
        pairs = codec.sort(sent.copy(), rows, rows)
        cut_parts(pairs, codec, rows, of_block, 5, rng)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (np.diff(pairs.astype(np.int64)) >= 0).all()
    words = rows if bits == 16 else 1 << bits
    without, within = (needed(words, 100, 1, "blocks", 1e9, 1, largest=largest).task for largest in (0, size))
    assert (within - without) / 2 < peak < within - without + 100 * rows


def peak_of_rows(_: Any) -> list[int]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(status["VmHWM"].split()[0]) << 10]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("scheme", "snapshots"),
    [
        pytest.param("blocks", False, marks=pytest.mark.slow),
        ("blocks", True),
        pytest.param("replicas", False, marks=pytest.mark.slow),
    ],
)
def test_a_tasks_peak_stays_below_the_formula_and_is_not_far_from_it(
    spark: SparkSession, scheme: str, snapshots: bool, tmp_path: Path
) -> None:
    words, dimensions, partitions = 60_000, 200, 2
    rng = np.random.default_rng(1)
    lengths = np.full(500, 100, np.int32)
    share = 1 / np.arange(1, words + 1)
    segments = [rng.choice(words, 50_000, p=share / share.sum()).astype(np.int32) for _ in range(8)]
    rows: list[tuple[Any, ...]] = [(0, 0, i, ids.tobytes(), lengths.tobytes(), b"") for i, ids in enumerate(segments)]
    counts = np.maximum(np.bincount(np.concatenate(segments), minlength=words), 1).astype(np.int64)
    settings = Settings(
        scheme=scheme, partitions=partitions, dimensions=dimensions, window=5, negatives=5, epochs=1,
        learning_rate=0.05, slices=1, subsample=1e-3, noise_exponent=0.75, damping=0.1, seed=1, held_out_words=0,
    )  # fmt: skip
    encoded = spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), ENCODED)
    training = Training(encoded, counts, settings, tmp_path, snapshots)
    list(training.run())

    def peak(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        yield pa.RecordBatch.from_pydict({"bytes": peak_of_rows(None)})

    # The workers of the training are used again, so that their peaks are still there: those of frames for `blocks`,
    # those of RDDs for `replicas`.
    if scheme == "blocks":
        found = max(row["bytes"] for row in spark.range(4, numPartitions=4).mapInArrow(peak, "bytes long").collect())
    else:
        found = max(spark.sparkContext.parallelize(range(4), 4).mapPartitions(peak_of_rows).collect())
    pairs = expected_pairs(kept_words(counts, settings.subsample).sum(), settings.expected_contexts)
    need = needed(words, dimensions, partitions, scheme, pairs, 2, snapshots).task
    assert need / 3 < found < need
