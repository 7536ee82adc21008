"""spark_w2v.train, as a program or a notebook calls it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

import spark_w2v
from spark_w2v.errors import BusyError, NotEnoughMemoryError, UserError
from spark_w2v.runs import embeddings
from spark_w2v.skipgram import schedule
from spark_w2v.spark import memory
from tests.support.training_job import counted_needs, planted_corpus, train_here

CONFIG: dict[str, dict[str, Any]] = {
    "training": {"dimensions": 16, "epochs": 4, "window": 3, "partitions": 1, "held_out_words": 500},
    "vocabulary": {"subsample": 0.0},
    "output": {"report": False},
}
OPTIONS = [
    f"--set={section}.{key}={json.dumps(value)}" for section, keys in CONFIG.items() for key, value in keys.items()
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "planted.txt"
    planted_corpus(path, sentences=1500)
    return path


@pytest.fixture(scope="module")
def finished(spark: SparkSession, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The model of a run by CONFIG, and its output; to look at only."""
    output = tmp_path_factory.mktemp("finished") / "out"
    return spark_w2v.train([corpus], output, config=CONFIG), output


def changed(**training: Any) -> dict[str, dict[str, Any]]:
    return {**CONFIG, "training": {**CONFIG["training"], **training}}


def vectors(output: Path) -> np.ndarray[Any, Any]:
    return np.asarray(embeddings.read(str(output)).vectors)


def test_it_is_the_same_run_as_the_jobs_and_leaves_the_session_as_it_was(
    spark: SparkSession, corpus: Path, tmp_path: Path
) -> None:
    assert train_here(spark, ["--input", corpus, "--output", tmp_path / "job", *OPTIONS]) == 0
    context = spark.sparkContext
    context.setJobGroup("mine", "my own work")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    cached = set(context._jsc.getPersistentRDDs().keys())
    before = dict(context.getConf().getAll())
    (tmp_path / "absent.txt").write_text("absent")  # a word list, of which Spark makes a DataFrame
    config = {**CONFIG, "vocabulary": {**CONFIG["vocabulary"], "stop_words": str(tmp_path / "absent.txt")}}
    model = spark_w2v.train(corpus, tmp_path / "api", config=config)
    assert SparkSession.active()._jsparkSession.equals(spark._jsparkSession)
    assert (vectors(tmp_path / "api") == vectors(tmp_path / "job")).all()
    assert context.getLocalProperty("spark.job.description") == "my own work"
    assert spark.conf.get("spark.sql.shuffle.partitions") == "3"
    assert dict(context.getConf().getAll()) == before
    assert set(context._jsc.getPersistentRDDs().keys()) == cached
    assert spark.range(3).count() == 3
    assert (
        np.asarray([row.vector.toArray() for row in model.getVectors().collect()]) == vectors(tmp_path / "api")
    ).all()
    spark.conf.set("spark.sql.shuffle.partitions", "2")


def test_the_summary_has_what_metrics_and_run_json_have(spark: SparkSession, finished: tuple[Any, Path]) -> None:
    model, output = finished
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    run = json.loads((output / "run.json").read_text())
    assert model.summary.epochs == metrics
    assert model.summary.losses == [line["loss"] for line in metrics]
    assert model.summary.heldOutLosses == [line["held_out_loss"] for line in metrics]
    assert model.summary.words == sum(line["words"] for line in metrics)
    assert model.summary.totalIterations == 4
    assert model.summary.stopped is None
    assert run["spark"] == {"version": spark.version, "master": "local[2]", "cores": 2}
    assert {"listing the input", "reading the text", "counting the words", "training"} <= set(run["phases"])
    assert sum(run["phases"].values()) <= run["seconds"] + 1
    assert run["started"].endswith("+00:00")
    assert run["host"]
    assert run["versions"]["spark_w2v"] == spark_w2v.__version__
    counts = {row.word: row["count"] for row in model.getVocabulary().collect()}
    found = embeddings.read(output)
    assert counts == dict(zip(found.words.to_pylist(), found.counts.tolist(), strict=True))


def test_text_of_a_dataframe_is_cut_into_words_as_that_of_files(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.createDataFrame([("The cat's HAT, the hat.",)] * 40, ["text"])
    spark_w2v.train(rows, tmp_path / "out", config=CONFIG)
    assert sorted(embeddings.read(tmp_path / "out").words.to_pylist()) == ["cat's", "hat", "the"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"corpus": {"column": "txet"}}, 'has no column "txet"; did you mean text?'),
        ({"corpus": {"tokenizer": "none"}}, "ready-made words are array<string>"),
        ({"training": {"epochs": 0}}, "training.epochs = 0"),
        ({"trianing": {}}, "trianing"),
    ],
)
def test_a_mistake_is_an_error_of_one_sentence(
    spark: SparkSession, tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    rows = spark.createDataFrame([("a b",)], ["text"])
    with pytest.raises(UserError) as refused:
        spark_w2v.train(rows, tmp_path / "out", config=config)
    assert says in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_format_of_files_says_nothing_of_a_dataframe_in_a_file_and_in_a_mapping(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = spark.createDataFrame([("a b",)], ["text"])
    (tmp_path / "run.toml").write_text('[corpus]\nformat = "text"\ntokenizer = "none"\n')
    for config in (tmp_path / "run.toml", {"corpus": {"format": "text", "tokenizer": "none"}}):
        with pytest.raises(UserError, match="ready-made words are array<string>"):
            spark_w2v.train(rows, tmp_path / "out", config=config)


@pytest.mark.slow
def test_a_window_beyond_all_sentences_has_the_schedule_of_the_pairs_that_it_draws(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    rows = [(" ".join(f"w{word}" for word in words),) for words in rng.integers(0, 2000, (8000, 5))]
    frame = spark.createDataFrame(rows, ["text"])
    found = []
    for window in (4, 10_000):
        keys = changed(window=window, shrink_window=False, partitions=2, epochs=2)
        spark_w2v.train(frame, tmp_path / str(window), config=keys)
        epochs = (tmp_path / str(window) / "metrics.jsonl").read_text().splitlines()
        found.append([(epoch["sweeps"], epoch["pairs"]) for epoch in map(json.loads, epochs)])
    assert found[0] == found[1]


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"exchange": {"first_port": 41007, "last_port": 41007}},
            "and with 1 task a machine needs 2 ports",
        ),
        ({"training": {"scheme": "blocks", "sweeps_per_epoch": 4}}, "has 4 sweeps, and so .* at most 3"),
    ],
)
def test_what_the_blocks_in_use_have_no_room_for_is_refused_before_training(
    spark: SparkSession, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Any, says: str
) -> None:
    monkeypatch.setattr(schedule, "MOST_BUCKETS", 3)
    keys = {**CONFIG, **keys, "training": {**CONFIG["training"], "scheme": "blocks", **keys.get("training", {})}}
    with pytest.raises(UserError, match=says):
        spark_w2v.train(corpus, tmp_path / "out", config=keys)


def test_the_vectors_of_the_model_are_part_of_the_memory_that_is_checked(
    spark: SparkSession, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = counted_needs(monkeypatch)
    with pytest.raises(NotEnoughMemoryError):
        spark_w2v.train(corpus, tmp_path / "out", config=changed(scheme="blocks"))
    ((need, without),) = counted
    assert need.driver - without.driver == need.model // 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"config": ["a"]}, "config: is a list; give a TOML file"),
        ({"run_id": -1}, "run id '-1': may have letters"),
        ({"output": None}, "output: is None; give a directory"),
        ({"output": ""}, "output: is ''; give a directory"),
        ({"input": []}, "input: has no path, or an empty one; give files"),
        ({"input": [], "config": {"corpus": {"format": "table", "column": "text"}}}, "input: has no path, or an empty"),
        ({"input": ["a.txt", ""]}, "input: has no path, or an empty one; give files"),
        ({"callbacks": print}, "callbacks: is not a list of functions"),
        ({"callbacks": [1]}, "callbacks: is not a list of functions"),
        ({"input": [["a", "b"]]}, "input: is neither a path nor a list of paths (list); give one, or"),
        ({"input": pd.DataFrame({1: ["a b"]})}, "input: is neither a path nor a list of paths (DataFrame)"),
        ({"input": pd.DataFrame({"text": ["a b"]})}, "input: is neither a path nor a list of paths (DataFrame)"),
        ({"input": 7}, "input: is neither a path nor a list of paths (int)"),
    ],
)
def test_an_argument_of_another_kind_is_an_error_of_one_sentence(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        spark_w2v.train(**{"input": "text", "output": tmp_path / "out", **given})
    assert says in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_rows_of_a_finished_run_are_compared(spark: SparkSession, tmp_path: Path) -> None:
    def train(*lines: str) -> list[str]:
        rows = spark.createDataFrame([(line,) for line in lines], ["text"])
        config = {"vocabulary": {"min_count": 1}, "training": {"dimensions": 4, "epochs": 1, "partitions": 1}}
        found = spark_w2v.train(rows, tmp_path / "runs", run_id="1", config=config)
        return sorted(row["word"] for row in found.getVocabulary().collect())

    assert train("a b c", "b c a") == ["a", "b", "c"]
    assert train("b c a", "a b c") == ["a", "b", "c"]
    with pytest.raises(UserError, match="holds the finished output of another run"):
        train("x y z", "y z x")


def test_a_run_without_an_id_cannot_be_held_back(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="publish: False is for runs with a run_id"):
        spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, publish=False)
    assert not (tmp_path / "out").exists()


def test_a_finished_output_is_not_replaced_unless_told(
    spark: SparkSession, corpus: Path, finished: tuple[Any, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "out")
    with pytest.raises((UserError, BusyError)):
        spark_w2v.train(corpus, tmp_path / "out", config=changed(epochs=1))
    spark_w2v.train(corpus, tmp_path / "out", config=changed(epochs=2), overwrite=True)
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_session_that_another_thread_started_is_used_and_left(
    spark: SparkSession, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    spark_w2v.train(corpus, tmp_path / "out", config=changed(epochs=1))
    assert spark.range(3).count() == 3


def test_a_run_that_trained_all_its_epochs_did_not_end_early(spark: SparkSession, corpus: Path, tmp_path: Path) -> None:
    model = spark_w2v.train(corpus, tmp_path / "out", config=changed(epochs=2), callbacks=[lambda m: m["epoch"] == 2])
    assert model.summary.totalIterations == 2
    assert model.summary.stopped is None


def test_a_callback_sees_every_epoch_and_may_end_the_run(spark: SparkSession, corpus: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def callback(metrics: Mapping[str, Any]) -> bool:
        seen.append(metrics["epoch"])
        return bool(metrics["epoch"] == 2)

    model = spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, callbacks=[callback])
    assert seen == [1, 2]
    assert model.summary.totalIterations == 2
    assert model.summary.stopped == "after epoch 2: a callback asked for it"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["stopped_early"] == model.summary.stopped


@pytest.mark.slow
def test_patience_ends_a_run_and_a_resumed_one_at_the_same_epoch(
    spark: SparkSession, corpus: Path, tmp_path: Path
) -> None:
    patient = changed(patience=1, min_improvement=0.2, epochs=30)
    whole = spark_w2v.train(corpus, tmp_path / "whole", config=patient)
    last = whole.summary.totalIterations
    assert 1 < last < 30
    assert "training.patience" in str(whole.summary.stopped)

    class StopError(Exception):
        pass

    for ended in (1, last):  # killed before its last epoch, and between that and its publication
        output = tmp_path / f"resumed {ended}"

        def die(metrics: Mapping[str, Any], ended: int = ended) -> None:
            if metrics["epoch"] == ended:
                raise StopError

        if ended == 1:
            with pytest.raises(StopError):
                spark_w2v.train(corpus, output, config=patient, callbacks=[die])
        else:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("spark_w2v.runs.run.Run.publish", lambda *_: (_ for _ in ()).throw(StopError()))
                with pytest.raises(StopError):
                    spark_w2v.train(corpus, output, config=patient)
        again = spark_w2v.train(corpus, output, config=patient, resume=True)
        assert again.summary.totalIterations == last
        assert again.summary.stopped == whole.summary.stopped
        assert (vectors(output) == vectors(tmp_path / "whole")).all()


@pytest.mark.slow
def test_a_run_is_averaged_with_its_initial_vectors_once_wherever_it_died(
    spark: SparkSession,
    corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short, first = changed(epochs=2), tmp_path / "first"
    kept: list[int] = []
    monkeypatch.setattr(memory, "check_disk", lambda model, models, folder: kept.append(models))
    spark_w2v.train(corpus, first, config=short)
    caplog.set_level("INFO")
    spark_w2v.train(corpus, tmp_path / "whole", config=short, init=first)
    assert kept == [1, 2], "a checkpoint, and what it began with"
    facts = json.loads((tmp_path / "whole" / "run.json").read_text())
    losses = facts["last_epoch"]["held_out_loss"], facts["init"]["held_out_loss_averaged"]
    assert losses[0] != losses[1]
    assert f"held out {losses[1]:.4f} instead of {losses[0]:.4f}" in caplog.text
    assert (vectors(tmp_path / "whole") != vectors(first)).any()

    class StopError(Exception):
        pass

    def die(metrics: Mapping[str, Any]) -> None:
        raise StopError

    died: dict[str, Any] = {"config": short, "init": first}
    with pytest.raises(StopError):
        spark_w2v.train(corpus, tmp_path / "died", **died, callbacks=[die])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("spark_w2v.runs.run.Run.publish", lambda *_: (_ for _ in ()).throw(StopError()))
        with pytest.raises(StopError):
            spark_w2v.train(corpus, tmp_path / "died", **died, resume=True)
    spark_w2v.train(corpus, tmp_path / "died", **died, resume=True)
    assert (vectors(tmp_path / "died") == vectors(tmp_path / "whole")).all()


@pytest.mark.slow
def test_a_callback_that_fails_costs_no_epoch_and_changes_no_metrics(
    spark: SparkSession, corpus: Path, tmp_path: Path
) -> None:
    def fail(metrics: Any) -> None:
        metrics["mine"] = object()  # which JSON has no form for
        if metrics["epoch"] == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, callbacks=[fail])
    seen: list[int] = []

    def see(metrics: Any) -> None:
        seen.append(metrics["epoch"])
        metrics["mine"] = object()

    model = spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, resume=True, callbacks=[see])
    assert seen == [3, 4]
    assert [metrics["epoch"] for metrics in model.summary.epochs] == [1, 2, 3, 4]
    assert "mine" not in json.loads((tmp_path / "out" / "run.json").read_text())["last_epoch"]


@pytest.mark.slow
def test_progress_is_shown_on_request_and_not_into_a_pipe(
    spark: SparkSession, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spark_w2v.train(corpus, tmp_path / "silent", config=changed(epochs=1))
    assert "training" not in capsys.readouterr().err
    spark_w2v.train(corpus, tmp_path / "shown", config=changed(epochs=2), progress=True)
    shown = capsys.readouterr().err
    assert "reading the text" in shown
    assert "%" in shown
    assert "█" in shown


def test_an_unknown_word_is_what_users_of_mllib_and_of_gensim_expect(finished: tuple[Any, Path]) -> None:
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]

    model, _ = finished
    for kind in (Py4JJavaError, KeyError, UserError):
        with pytest.raises(kind) as refused:
            model.findSynonyms("aple", 2)
        assert str(refused.value) == '"aple" is not in vocabulary: it has no vector; near are apple.'
