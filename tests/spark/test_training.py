"""Training through Spark: equal bits whatever the executors, every pair once, plain NumPy as the oracle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import DivergedError, NoPairsError, StorageError
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.groups import BlockNoise
from spark_w2v.skipgram.kernel import SgdParams, count_center_pairs, train_pairs
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.parameters import LONGEST_ROW, initialise
from spark_w2v.skipgram.sampling import KERNEL, RING, generator
from spark_w2v.skipgram.schedule import (
    Ring,
    done_before,
    epoch_edges,
    kept_words,
    learning_rate,
    most_partitions,
    share_of_run,
    why_no_more,
)
from spark_w2v.spark.replicas import Replicas
from spark_w2v.spark.slots import ExchangeSettings
from spark_w2v.text.encoding import segment_of
from tests.support.planted import SETTINGS, WORDS, made, rows_of_text


def trained(*arguments: Any, **options: Any) -> Any:
    training = made(*arguments, **options)
    progress = list(training.run())
    return training, progress


@pytest.fixture(scope="module")
def run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training by SETTINGS that has ended, and its progress; to look at only."""
    return trained(spark, tmp_path_factory.mktemp("parameters"), SETTINGS)


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_the_result_does_not_depend_on_how_the_text_is_partitioned(
    run: Any, spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    settings = replace(SETTINGS, scheme=scheme)
    one, _ = trained(spark, tmp_path / "1", settings, 1)
    of_two, _ = run if scheme == "blocks" else trained(spark, tmp_path / "2", settings, 2)
    backwards, _ = trained(spark, tmp_path / "4", settings, 4, rows_of_text()[::-1])
    for other in (of_two, backwards):
        assert np.array_equal(one.state.center, other.state.center)
        assert np.array_equal(one.state.context, other.state.context)
    assert np.abs(one.state.center).max() > 0.01


def test_tasks_and_snapshots_change_neither_a_bit_nor_a_loss(spark: SparkSession, tmp_path: Path) -> None:
    settings = replace(SETTINGS, partitions=5, slices=2)
    alone, of_one = trained(spark, tmp_path / "1", settings, exchange=ExchangeSettings(tasks=1))
    two, of_two = trained(spark, tmp_path / "2", settings, snapshots=True)
    assert np.array_equal(alone.state.center, two.state.center)
    assert np.array_equal(alone.state.context, two.state.context)
    clock = {"seconds", "draw_seconds", "pair_seconds", "kernel_seconds", "wait_seconds", "words_per_second",
             "words_per_second_per_core"}  # fmt: skip
    where = {"tasks", "most_task_pairs", "least_task_pairs", "slowest_host", "driver_bytes", "task_bytes"}
    one_metrics, two_metrics = ([p.metrics for p in progress if p.metrics] for progress in (of_one, of_two))
    assert [metrics["tasks"] for metrics in (*one_metrics, *two_metrics)] == [1, 1, 2, 2]
    for one, other in zip(one_metrics, two_metrics, strict=True):
        assert one["most_task_pairs"] == one["least_task_pairs"] == one["pairs"]
        assert other["most_task_pairs"] + other["least_task_pairs"] == other["pairs"]
        for metrics in (one, other):
            assert metrics["slowest_host"]
            assert 0 < metrics["draw_seconds"] < metrics["pair_seconds"]
            assert 0 <= metrics["wait_seconds"] < metrics["tasks"] * metrics["seconds"]
        assert {k: v for k, v in one.items() if k not in clock | where} == {
            k: v for k, v in other.items() if k not in clock | where
        }


def test_the_result_is_that_of_the_same_buckets_trained_one_after_the_other(run: Any) -> None:
    training, progress = run
    blocks, sampler, run_spec = training.blocks, training._run_spec.sampler, training._run_spec
    codec, count, s = PairCodec.of(training.blocks), training.blocks.count, SETTINGS
    center, context = np.zeros((2, WORDS, s.dimensions), np.float32)
    places = np.argsort(blocks.order).astype(np.int32)
    initialise(center, s.seed, places)
    for epoch in range(s.epochs):
        edges = epoch_edges(epoch, count, training.settings.slices, training._pairs)
        ring = Ring.draw(count, edges.size - 1, generator(s.seed, RING, epoch))
        keys = np.sort(np.concatenate([sampler.pairs(*segment_of(row)[:3], epoch, edges)[0] for row in rows_of_text()]))
        for number in range(ring.rounds):
            for i in range(count):
                j, sweep = ring.context_of(number, i), number // count
                prefix = np.uint64((sweep << codec.block | i) << codec.block | j)
                pairs = codec.shorten(keys[keys >> np.uint64(2 * codec.row) == prefix])
                rates = [
                    learning_rate(*s.rates, (epoch + done_before(n, count, edges)) / s.epochs)
                    for n in (number, number + 1)
                ]
                noise = BlockNoise.of(blocks.of(run_spec.noise, j), s.dimensions)
                rng = generator(s.seed, KERNEL, epoch, (sweep * count + i) * count + j)
                rows = blocks.of(center, i), blocks.of(context, j)
                of_block = keys[keys >> np.uint64(2 * codec.row + codec.block) == prefix >> np.uint64(codec.block)]
                center_pairs = count_center_pairs([codec.shorten(of_block)], codec, len(rows[0]))
                params = SgdParams(s.negatives, s.damping, *rates)
                train_pairs(*rows, pairs, codec, noise, params, rng, center_pairs=center_pairs)
        assert [p.metrics for p in progress if p.metrics][epoch]["pairs"] == keys.size
    assert np.array_equal(training.state.center, center)
    assert np.array_equal(training.state.context, context)


def test_a_training_leaves_one_directory_of_parameters_and_none_when_it_is_broken_off(
    run: Any, spark: SparkSession, tmp_path: Path
) -> None:
    ended, _ = run
    assert [ended.state.parameters.directory] == list(ended.folder.iterdir())
    training = made(spark, tmp_path, replace(SETTINGS, slices=2), snapshots=True)
    progress = training.run()
    while not next(progress).is_saved:
        pass
    progress.close()  # type: ignore[attr-defined]
    assert [training.state.parameters.directory] == list(tmp_path.iterdir())


@pytest.mark.parametrize("sweep", [0, 1, 2])  # files of two sweeps are there before the first begins
def test_a_disk_without_room_for_the_parameters_ends_the_run_at_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: int
) -> None:
    create, made_so_far, saved = ParameterFiles.create, list[Path](), list[Any]()

    def fill_up(directory: Path, *shape: int) -> ParameterFiles:
        made_so_far.append(directory)
        if len(made_so_far) > sweep:
            raise StorageError(f"{directory}: the disk is full")
        return create(directory, *shape)

    training = made(spark, tmp_path, replace(SETTINGS, slices=4), snapshots=True)
    monkeypatch.setattr(ParameterFiles, "create", fill_up)
    with pytest.raises(StorageError, match="the disk is full"):
        saved.extend(progress for progress in training.run() if progress.is_saved)
    assert len(made_so_far) == 1 + sweep, "no attempt is repeated"
    assert len(saved) == training.state.sweep == max(0, sweep - 1)
    assert training.state.context.any() == bool(saved), "what came back can still be read"


def test_bytes_through_the_driver_are_two_models_an_epoch_however_many_blocks(
    spark: SparkSession, tmp_path: Path
) -> None:
    model = 2 * WORDS * SETTINGS.dimensions * 4
    for blocks in (1, 3, 8):
        _, progress = trained(spark, tmp_path / str(blocks), replace(SETTINGS, partitions=blocks))
        assert [p.metrics["driver_bytes"] for p in progress if p.metrics] == [2 * model] * SETTINGS.epochs


def test_a_run_that_goes_on_from_any_sweep_ends_with_the_same_bits(spark: SparkSession, tmp_path: Path) -> None:
    settings = replace(SETTINGS, slices=2)
    whole, progress = trained(spark, tmp_path / "whole", settings, snapshots=True)
    saved = [p for p in progress if p.is_saved]
    for stop in (0, len(saved) - 2):
        first = made(spark, tmp_path / f"{stop}", settings, snapshots=True)
        seen = 0
        sweeps = first.run()
        while seen <= stop:
            seen += next(sweeps).is_saved
        sweeps.close()  # type: ignore[attr-defined]
        second = made(spark, tmp_path / f"{stop}-again", settings, snapshots=True)
        second.resume(first.state.position(), first.state.parameters)
        rest = list(second.run())
        assert np.array_equal(second.state.center, whole.state.center)
        assert np.array_equal(second.state.context, whole.state.context)
        last, whole_last = rest[-1].metrics, progress[-1].metrics
        assert last is not None
        assert [last[key] for key in ("pairs", "words", "loss")] == [
            whole_last[key] for key in ("pairs", "words", "loss")
        ]


def test_the_rate_falls_to_nearly_nothing_over_the_run(run: Any) -> None:
    _, progress = run
    rates = [p.learning_rate for p in progress]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(SETTINGS.learning_rate * 1e-4)
    assert progress[-1].done == 1.0


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_every_sweep_has_new_parameters_and_those_before_go_unless_they_are_a_checkpoint(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    rows = rows_of_text(2)
    settings = replace(SETTINGS, scheme=scheme, epochs=1, slices=4)
    training = made(spark, tmp_path, settings, 2, rows, snapshots=True)
    changed, kept = 0, dict[Path, bytes]()
    before = training.state.parameters
    assert list(tmp_path.iterdir()) == [before.directory]
    for number, _ in enumerate(progress for progress in training.run() if progress.is_saved):
        now = training.state.parameters
        assert now is not before
        changed += not np.array_equal(now.context, before.context)
        there = set(tmp_path.iterdir())  # the next sweep's may be on their way
        assert there >= {now.directory, *kept}
        assert before.directory not in there - kept.keys()
        if number % 2:
            now.move_to(tmp_path / f"{number:08d}")
            kept[now.directory] = now.center.tobytes() + now.context.tobytes()
        before = now
    assert set(tmp_path.iterdir()) == {training.state.parameters.directory, *kept}
    assert changed >= 2
    assert len(kept) >= 2
    for directory, content in kept.items():
        assert (directory / "center.f32").read_bytes() + (directory / "context.f32").read_bytes() == content


def test_vectors_are_read_by_word_id(spark: SparkSession, tmp_path: Path) -> None:
    rows = rows_of_text(2)
    training = made(spark, tmp_path, SETTINGS, 2, rows)
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
    rows = [(0, 0, 0, np.arange(WORDS, dtype=np.int32).tobytes(), np.ones(WORDS, np.int32).tobytes(), b"")]
    for scheme in ("blocks", "replicas"):
        with pytest.raises(NoPairsError, match="fewer than two words"):
            trained(spark, tmp_path / scheme, replace(SETTINGS, scheme=scheme), 1, rows)


def test_parameters_that_are_not_finite_stop_the_run(spark: SparkSession, tmp_path: Path) -> None:
    rows = rows_of_text(1)
    training = made(spark, tmp_path, SETTINGS, 1, rows)
    training.state.center[0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"training\.learning_rate"):
        list(training.run())


@pytest.mark.parametrize(("scheme", "partitions"), [("blocks", 1), ("blocks", 2), ("replicas", 1), ("replicas", 2)])
def test_training_that_diverges_stops_the_run(
    spark: SparkSession, tmp_path: Path, scheme: str, partitions: int
) -> None:
    settings = replace(SETTINGS, scheme=scheme, partitions=partitions, learning_rate=1.0, subsample=0.0, epochs=3)
    training = made(spark, tmp_path, settings)
    # Nearly as long as vectors may be, and so far apart that each step at such a rate makes them longer.
    some = np.full((WORDS, SETTINGS.dimensions), 0.99 * LONGEST_ROW / SETTINGS.dimensions**0.5, np.float32)
    training.start_from([(np.arange(WORDS), some, -some)])
    with pytest.raises(DivergedError, match=r"diverged in epoch [12]: .*Lower training\.learning_rate \(1\)"):
        list(training.run())
    assert [training.state.parameters.directory] == list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_vectors_that_grow_without_bound_stop_the_run(spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    training = made(spark, tmp_path, replace(SETTINGS, scheme=scheme), 1, rows_of_text(1))
    training.state.center[0] = 500.0  # of D = 8: 1414 long
    with pytest.raises(DivergedError, match=r"a vector has the length 1\.\d\de\+03, more than 1,000"):
        list(training.run())


@pytest.mark.parametrize("scheme", ["blocks", pytest.param("replicas", marks=pytest.mark.slow)])
def test_a_text_that_teaches_nothing_does_not_pass_for_a_run_that_diverged(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    rng = np.random.default_rng(1)
    for number, (words, size) in enumerate([(2, 4), (10, 60), (WORDS, 300)]):
        ids, lengths = rng.integers(0, words, size).astype(np.int32), np.full(2, size // 2, np.int32)
        rows = [(0, 0, 0, ids.tobytes(), lengths.tobytes(), b"")]
        for rate in (1e-9, 0.1):
            settings = replace(SETTINGS, scheme=scheme, partitions=1, learning_rate=rate, subsample=0.0)
            _, progress = trained(spark, tmp_path / f"{number}-{rate}", settings, 1, rows)
            assert progress[-1].done == 1.0


def test_given_vectors_may_begin_with_a_loss_above_that_of_an_untrained_model(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = rows_of_text()
    opposite = replace(SETTINGS, learning_rate=0.02, epochs=1)
    outcomes = []
    for sign in (1, -1):
        training = made(spark, tmp_path / str(sign), opposite, 2, rows)
        some = np.full((WORDS, SETTINGS.dimensions), 1.2, np.float32)
        training.start_from([(np.arange(WORDS), some, sign * some)])
        assert (training.held_out_loss() or 0.0) > 1.05 * 3 * np.log(2)
        outcomes.append([p.metrics["loss"] for p in training.run() if p.metrics])
    assert max(loss for (loss,) in outcomes) > 1.05 * 3 * np.log(2)
    training = made(spark, tmp_path / "diverging", opposite, 2, rows)
    training.start_from([])
    training.state.center[:], training.state.context[:] = 1.2, -1.2  # which were not given
    with pytest.raises(DivergedError):
        list(training.run())


def test_what_keeps_blocks_few_is_said() -> None:
    assert "of fewer than 256 take longer" in why_no_more("blocks", 1750, 1e9, 6)
    assert "an epoch has about 360,000 pairs" in why_no_more("blocks", 70_000, 60_000.0, 6)
    assert "replicas of fewer than 20,000" in why_no_more("replicas", 10, 90_000.0, 6)


def test_a_small_corpus_gets_fewer_partitions() -> None:
    assert most_partitions("blocks", 1750, 1e9, 6) == 6
    assert most_partitions("blocks", 10, 1e9, 6) == 1
    assert most_partitions("blocks", 70_000, 1e9, 6) >= 256
    assert most_partitions("blocks", 70_000, 60_000.0, 6) == 13  # of 2,130 pairs a bucket
    assert most_partitions("blocks", 70_000, 10.0, 6) == 1
    assert most_partitions("replicas", 10, 90_000.0, 6) == 4
    assert most_partitions("replicas", 10**6, 10.0, 6) == 1


def test_the_rate_of_each_sync_of_replicas_begins_where_that_of_the_one_before_ends(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[SgdParams] = []
    sync = Replicas.sync

    def seen(self: Replicas, *arguments: Any) -> Any:
        steps.append(next(value for value in arguments if isinstance(value, SgdParams)))
        return sync(self, *arguments)

    monkeypatch.setattr(Replicas, "sync", seen)
    training = made(spark, tmp_path, replace(SETTINGS, scheme="replicas", slices=3))
    for _ in training.run():
        pass
    rates = [learning_rate(*SETTINGS.rates, part / 6) for part in range(7)]
    assert np.allclose([step.first_rate for step in steps], rates[:-1], rtol=1e-12)
    assert np.allclose([step.last_rate for step in steps], rates[1:], rtol=1e-12)


@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_the_rate_ends_where_it_is_to_end(run: Any, spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    training = made(spark, tmp_path, replace(SETTINGS, scheme=scheme, last_learning_rate=0.04))
    rates = [progress.metrics["learning_rate"] for progress in training.run() if progress.metrics]
    assert rates == pytest.approx([0.045, 0.04])
    falling, _ = run if scheme == "blocks" else trained(spark, tmp_path / "other", replace(SETTINGS, scheme=scheme))
    assert not np.array_equal(falling.vectors()[0][:], training.vectors()[0][:])


def test_a_window_that_does_not_shrink_has_more_pairs(spark: SparkSession, tmp_path: Path) -> None:
    pairs = []
    for shrinks in (True, False):
        training = made(spark, tmp_path / str(shrinks), replace(SETTINGS, shrinks=shrinks, epochs=1))
        (metrics,) = [progress.metrics for progress in training.run() if progress.metrics]
        pairs.append(metrics["pairs"])
    assert 1.2 < pairs[1] / pairs[0] < 2


@pytest.mark.parametrize("scheme", ["blocks", pytest.param("replicas", marks=pytest.mark.slow)])
def test_what_a_run_begins_with_is_averaged_with_its_result(spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    settings = replace(SETTINGS, scheme=scheme)
    alone, again = (made(spark, tmp_path / name, settings) for name in ("alone", "again"))
    start = [matrix[:] for matrix in again.vectors()]
    before = np.zeros(WORDS, np.int64)
    before[::2] = 1000
    again.averages = True
    again.count_before(before, before > 0)
    for training in (alone, again):
        assert training.trained().tolist() == (before if training is again else 0 * before).tolist()
        for _ in training.run():
            pass
    trained = np.rint(settings.epochs * kept_words(again.counts, settings.subsample)).astype(np.int64)
    assert again.trained().tolist() == (before + trained).tolist()
    assert len(list((tmp_path / "again").glob(".initial-*"))) == 1, "on the disk for as long as it is needed"
    again.average()
    shares = share_of_run(before, trained)
    assert shares[::2].max() < 1
    for matrix, other, begun in zip(again.vectors(), alone.vectors(), start, strict=True):
        assert np.array_equal(matrix[:][1::2], other[:][1::2])
        np.testing.assert_allclose(matrix[:], begun + shares[:, None] * (other[:] - begun), atol=1e-6)
    (left,) = (tmp_path / "again").iterdir()
    assert left.name.startswith(".average-")


def test_no_average_unless_it_is_asked_for(run: tuple[Any, Any], spark: SparkSession, tmp_path: Path) -> None:
    training = made(spark, tmp_path, SETTINGS)
    training.count_before(np.full(WORDS, 1000), np.full(WORDS, True))
    for _ in training.run():
        pass
    training.average()
    assert np.array_equal(training.vectors()[0][:], run[0].vectors()[0][:])


def test_a_held_out_loss_without_bound_stops_the_run(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the pairs is measured before their steps, so it says nothing of the last one."""
    training = made(spark, tmp_path, replace(SETTINGS, epochs=1))
    monkeypatch.setattr(training, "held_out_loss", lambda: 2.1 * 3 * np.log(2))
    with pytest.raises(DivergedError, match=r"its held-out loss is 4\.367 per pair, .* of an untrained model 2\.079"):
        list(training.run())
