"""Training through Spark: equal bits whatever the executors, every pair once, plain NumPy as the oracle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v.skipgram.pairs import Layout, epoch_edges
from spark_w2v.stages.parameter_files import ParameterFiles
from spark_w2v.stages.training import DivergedError, NoPairsError, Settings, Training, most_partitions
from spark_w2v.stages.training_pairs import drawn_of, read_records, route_pairs, write_records

SETTINGS = Settings(
    scheme="blocks",
    partitions=2,
    dimensions=8,
    window=3,
    negatives=2,
    epochs=2,
    learning_rate=0.05,
    slices=1,
    subsample=1e-2,
    noise_exponent=0.75,
    damping=0.1,
    seed=5,
    held_out_words=200,
)
WORDS = 250


def rows_of_text(pieces: int = 5, sentences: int = 60) -> list[tuple[Any, ...]]:
    """Rows of ENCODED with words of a Zipf distribution."""
    rng = np.random.default_rng(3)
    share = 1 / np.arange(1, WORDS + 1)
    rows = []
    for piece in range(pieces):
        lengths = rng.integers(1, 20, sentences).astype(np.int32)
        ids = rng.choice(WORDS, int(lengths.sum()), p=share / share.sum()).astype(np.int32)
        rows.append((0, 0, piece, ids.tobytes(), lengths.tobytes()))
    return rows


def counts_of(rows: list[tuple[Any, ...]]) -> Any:
    counts = sum(np.bincount(np.frombuffer(row[3], np.int32), minlength=WORDS) for row in rows)
    return np.maximum(counts, 1).astype(np.int64)


def trained(
    spark: SparkSession, folder: Path, settings: Settings, slices: int, rows: list[tuple[Any, ...]] | None = None
) -> Any:
    rows = rows_of_text() if rows is None else rows
    training = Training(spark.sparkContext.parallelize(rows, slices), counts_of(rows), settings, folder)
    progress = list(training.run())
    return training, progress


@pytest.fixture(scope="module")
def run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training by SETTINGS that has ended, and its progress; to look at only."""
    return trained(spark, tmp_path_factory.mktemp("parameters"), SETTINGS, 2)


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_the_result_does_not_depend_on_how_the_text_is_partitioned(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    settings = replace(SETTINGS, scheme=scheme)
    one, _ = trained(spark, tmp_path, settings, 1)
    other, _ = trained(spark, tmp_path, settings, 4)
    backwards, _ = trained(spark, tmp_path, settings, 3, rows_of_text()[::-1])
    for run in (other, backwards):
        assert np.array_equal(one.state.center, run.state.center)
        assert np.array_equal(one.state.context, run.state.context)
    assert np.abs(one.state.center).max() > 0.01


def test_rows_and_pairs_that_travel_through_spark_give_the_same_bits_as_those_in_files(
    run: Any, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_files, _ = run
    monkeypatch.setattr("spark_w2v.stages.transport.is_one_machine", lambda context: False)
    through_spark, _ = trained(spark, tmp_path, SETTINGS, 2)
    assert in_files._courier.folder is not None
    assert through_spark._courier.folder is None
    assert np.array_equal(in_files.state.center, through_spark.state.center)
    assert np.array_equal(in_files.state.context, through_spark.state.context)


def test_a_training_that_ends_leaves_no_files_of_rows_or_pairs(spark: SparkSession, tmp_path: Path) -> None:
    def files() -> set[Path]:
        folder = Path(str(spark.sparkContext._temp_dir))
        return {path for name in ("pairs-*", "rows-*") for path in folder.glob(f"{name}/*")}

    before = files()
    rows = rows_of_text()
    training = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), SETTINGS, tmp_path)
    progress = training.run()
    next(progress)
    meanwhile = files() - before
    # The pairs of each task that drew, and their index; the rows of two blocks of two matrices.
    assert sorted(path.parent.name.split("-")[0] for path in meanwhile) == ["pairs"] * 4 + ["rows"] * 4
    progress.close()  # type: ignore[attr-defined]
    assert not [path for path in meanwhile if path.exists() or path.parent.exists()]


def test_records_of_a_bucket_are_read_as_they_were_written(tmp_path: Path) -> None:
    tasks = [[(2, b"abc"), (0, b"d"), (2, b""), (2, b"ef")], [], [(3, b"g"), (2, b"h")]]
    paths = [str(tmp_path / str(number)) for number in range(len(tasks))]
    for path, records in zip(paths, tasks, strict=True):
        write_records(path, records, 4)
    found = [list(read_records(paths, bucket)) for bucket in range(4)]
    assert found == [[b"d"], [], [b"abc", b"", b"ef", b"h"], [b"g"]]


def test_every_pair_that_was_drawn_is_trained_once(run: Any) -> None:
    training, progress = run
    metrics = [p.metrics for p in progress if p.metrics]
    for epoch, found in enumerate(metrics):
        routed = list(route_pairs(rows_of_text(), training._plan.drawing, epoch, epoch_edges(epoch, 2, 1)))
        drawn, words = drawn_of([routed[-1][1]])
        assert found["pairs"] == drawn.sum() > 0
        assert found["words"] == words
        sizes = {bucket: len(data) // Layout.of(training.blocks).dtype.itemsize for bucket, data in routed[:-1]}
        assert all(drawn[bucket] == size for bucket, size in sizes.items())


def test_a_run_that_goes_on_from_any_round_ends_with_the_same_bits(
    run: Any, spark: SparkSession, tmp_path: Path
) -> None:
    whole, progress = run
    rows = rows_of_text()
    for stop in (4, len(progress) - 2):
        first = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), SETTINGS, tmp_path)
        rounds = first.run()
        for _ in range(stop + 1):
            next(rounds)
        rounds.close()  # type: ignore[attr-defined]
        kept = tmp_path / f"{stop:08d}"
        first.state.parameters.move_to(kept)
        second = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), SETTINGS, tmp_path)
        second.resume(first.state.position(), ParameterFiles.open(kept, WORDS, SETTINGS.dimensions))
        rest = list(second.run())
        assert np.array_equal(second.state.center, whole.state.center)
        last, whole_last = rest[-1].metrics, progress[-1].metrics
        assert last is not None
        assert last["pairs"] == whole_last["pairs"]
        assert last["loss"] == whole_last["loss"]


def test_the_rate_falls_to_nearly_nothing_over_the_run(run: Any) -> None:
    _, progress = run
    rates = [p.learning_rate for p in progress]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(SETTINGS.learning_rate * 1e-4)
    assert progress[-1].done == 1.0


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_every_round_has_new_parameters_and_those_before_go_unless_they_are_a_checkpoint(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    rows = rows_of_text(2)
    settings = replace(SETTINGS, scheme=scheme, epochs=1, slices=4)
    training = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), settings, tmp_path)
    changed, kept = 0, dict[Path, bytes]()
    before = training.state.parameters
    assert list(tmp_path.iterdir()) == [before.directory]
    for number, _ in enumerate(training.run()):
        now = training.state.parameters
        assert now is not before
        changed += not np.array_equal(now.context, before.context)  # a round may have no pair
        assert set(tmp_path.iterdir()) == {now.directory, *kept}
        if number % 2:
            now.move_to(tmp_path / f"{number:08d}")
            kept[now.directory] = now.center.tobytes() + now.context.tobytes()
        before = now
    assert changed >= 2
    assert len(kept) >= 2
    for directory, content in kept.items():
        assert (directory / "center.f32").read_bytes() + (directory / "context.f32").read_bytes() == content


def test_a_round_that_fails_leaves_the_parameters_before_and_nothing_else(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of_text(2)
    training = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), SETTINGS, tmp_path)
    run = training.run()
    next(run)
    before = training.state.parameters
    content = before.center.tobytes()
    create = ParameterFiles.create

    def cannot_be_filled(*given: Any) -> ParameterFiles:
        made = create(*given)
        made.context.flags.writeable = False
        return made

    monkeypatch.setattr(ParameterFiles, "create", cannot_be_filled)
    with pytest.raises(ValueError, match="read-only"):
        next(run)
    assert training.state.parameters is before
    assert before.center.tobytes() == content
    assert list(tmp_path.iterdir()) == [before.directory]


def test_vectors_are_read_by_word_id(spark: SparkSession, tmp_path: Path) -> None:
    rows = rows_of_text(2)
    training = Training(spark.sparkContext.parallelize(rows, 2), counts_of(rows), SETTINGS, tmp_path)
    rng = np.random.default_rng(1)
    expected = rng.normal(size=(2, WORDS, SETTINGS.dimensions)).astype(np.float32)
    order = rng.permutation(WORDS)
    training.start_from((some, expected[0][some], expected[1][some]) for some in np.array_split(order, 7))
    assert np.array_equal(training.state.center, expected[0][training.blocks.order])
    for vectors, matrix in zip(training.vectors(), expected, strict=True):
        assert (vectors.shape, len(vectors), vectors.dtype) == (matrix.shape, WORDS, matrix.dtype)
        assert np.array_equal(vectors[:], matrix)
        assert np.array_equal(vectors[7:31], matrix[7:31])


def test_sentences_of_one_word_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(0, 0, 0, np.arange(WORDS, dtype=np.int32).tobytes(), np.ones(WORDS, np.int32).tobytes())]
    for scheme in ("blocks", "replicas"):
        with pytest.raises(NoPairsError, match="fewer than two words"):
            trained(spark, tmp_path, replace(SETTINGS, scheme=scheme), 1, rows)


def test_parameters_that_are_not_finite_stop_the_run(spark: SparkSession, tmp_path: Path) -> None:
    rows = rows_of_text(1)
    training = Training(spark.sparkContext.parallelize(rows, 1), counts_of(rows), SETTINGS, tmp_path)
    training.state.center[0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"training\.learning_rate"):
        list(training.run())


def test_a_small_corpus_gets_fewer_partitions() -> None:
    assert most_partitions("blocks", 1750, 1e9) == 6
    assert most_partitions("blocks", 10, 1e9) == 1
    assert most_partitions("blocks", 70_000, 1e9) >= 256
    assert most_partitions("replicas", 10, 90_000.0) == 4
    assert most_partitions("replicas", 10**6, 10.0) == 1
