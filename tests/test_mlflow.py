"""Logs of --mlflow in a store of MLflow's on this host; a server that refuses costs the log and not the run."""

import importlib.util
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import SparkSession

import spark_w2v
from spark_w2v import job
from spark_w2v.epoch_observer import EpochObserver
from spark_w2v.errors import UserError
from spark_w2v.runs import ids
from spark_w2v.runs.run_log import MlflowWriter
from tests.support.training_job import ONE, SMALL, planted_corpus, train_here

if TYPE_CHECKING:
    from mlflow import MlflowClient

OPTIONS = [*SMALL, *ONE, "--set", "training.epochs=3", "--set", "training.held_out_words=300"]
CONFIG: dict[str, dict[str, Any]] = {
    "training": {"dimensions": 16, "epochs": 2, "window": 3, "partitions": 1},
    "vocabulary": {"subsample": 0.0},
    "output": {"report": False},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "planted.txt"
    planted_corpus(path, sentences=600)
    return path


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["MlflowClient"]:
    """MLflow, which logs to files in tmp_path: of what needs no server, the only store that mlflow-skinny has."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    yield mlflow.MlflowClient()
    mlflow.end_run()


def test_a_run_is_logged_with_its_parameters_its_epochs_and_its_report(
    spark: SparkSession, corpus: Path, tmp_path: Path, client: "MlflowClient"
) -> None:
    output = tmp_path / "out"
    assert train_here(spark, ["--input", corpus, "--output", output, "--mlflow", *OPTIONS]) == 0
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.dimensions"] == "16"
    assert run.data.params["training.epochs"] == "3"
    assert run.data.params["vocabulary.subsample"] == "0.0"
    assert run.data.params["input"] == str(corpus)
    assert run.data.params["output"] == str(output)
    epochs = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "held_out_loss", "learning_rate", "words_per_second"} <= run.data.metrics.keys()
    for name in run.data.metrics:
        history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert history == {metrics["epoch"]: metrics[name] for metrics in epochs}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
    logged = client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))
    assert Path(logged).read_bytes() == (output / "report.html").read_bytes()


def test_a_run_that_fails_is_logged_as_failed(
    spark: SparkSession, corpus: Path, tmp_path: Path, client: "MlflowClient"
) -> None:
    rare = ["--set", "vocabulary.min_count=100000"]
    assert train_here(spark, ["--input", corpus, "--output", tmp_path / "out", "--mlflow", *OPTIONS, *rare]) == 2
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert run.data.params["vocabulary.min_count"] == "100000"
    assert not run.data.metrics


def test_a_resumed_run_has_the_epochs_before_too_and_is_finished_once_it_is_published(
    spark: SparkSession, corpus: Path, tmp_path: Path, client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(metrics: Any) -> bool:
        raise RuntimeError("a mistake in a callback")

    with pytest.raises(RuntimeError):
        spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, run_id="1", callbacks=[fail])
    monkeypatch.setattr("spark_w2v.training_run._move_current", lambda *_, **__: fail(None))
    with pytest.raises(RuntimeError):
        spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, run_id="1", resume=True, mlflow=True)
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]


@pytest.mark.slow
def test_an_active_run_is_used_and_stays_active(
    spark: SparkSession, corpus: Path, tmp_path: Path, client: "MlflowClient"
) -> None:
    import mlflow

    mine = mlflow.start_run()
    mlflow.log_param("mine", "1")
    spark_w2v.train(corpus, tmp_path / "out", config=CONFIG, mlflow=True)
    with pytest.raises(UserError):
        spark_w2v.train(corpus, tmp_path / "rare", config={"vocabulary": {"min_count": 100_000}}, mlflow=True)
    active = mlflow.active_run()
    assert active is not None
    assert active.info.run_id == mine.info.run_id
    (run,) = client.search_runs(["0"])
    assert run.info.status == "RUNNING"
    assert run.data.params["mine"] == "1"
    assert run.data.params["training.dimensions"] == "16"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]


@pytest.mark.slow
def test_a_run_that_was_finished_before_is_not_logged_again(
    spark: SparkSession, corpus: Path, tmp_path: Path, client: "MlflowClient"
) -> None:
    rows = spark.createDataFrame([(line,) for line in corpus.read_text().splitlines()], ["text"])
    for _ in range(2):
        spark_w2v.train(rows, tmp_path / "out", config=CONFIG, run_id="1", mlflow=True)
        assert [run.info.status for run in client.search_runs(["0"])] == ["FINISHED"]


def warnings_of_mlflow(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "spark_w2v.runs.run_log"]


def test_a_server_that_refuses_costs_a_warning_and_not_the_run(
    spark: SparkSession, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    assert train_here(spark, ["--input", corpus, "--output", tmp_path / "out", "--mlflow", *OPTIONS]) == 0
    assert (tmp_path / "out" / "_SUCCESS").exists()
    (warning,) = warnings_of_mlflow(caplog)
    assert warning.startswith("MLflow: no more is logged there (API request to http://127.0.0.1:1/")
    assert "secret" not in caplog.text


def test_a_server_that_is_lost_costs_one_warning_and_the_epochs_after_it(
    spark: SparkSession,
    corpus: Path,
    tmp_path: Path,
    client: "MlflowClient",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import mlflow
    from mlflow.entities import RunStatus
    from mlflow.store.tracking.file_store import FileStore

    log_batch: Any = FileStore.log_batch
    update_run_info: Any = FileStore.update_run_info

    def lose() -> None:
        raise mlflow.exceptions.MlflowException("the server went away\nfrom some address")

    def log(self: FileStore, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        if any(metric.step > 1 for metric in metrics):
            lose()
        log_batch(self, run_id, metrics, params, tags)

    def update(self: FileStore, run_id: str, run_status: int, *more: Any, **named: Any) -> Any:
        if run_status == RunStatus.FINISHED:
            lose()
        return update_run_info(self, run_id, run_status, *more, **named)

    monkeypatch.setattr(FileStore, "log_batch", log)
    seen, publish = list[str | None](), EpochObserver.publish

    def published(observer: EpochObserver, output: Path | None) -> None:
        seen.append(ids.current(str(tmp_path / "out")))
        publish(observer, output)

    monkeypatch.setattr(FileStore, "update_run_info", update)
    monkeypatch.setattr(EpochObserver, "publish", published)
    options: list[Any] = ["--input", corpus, "--output", tmp_path / "out", "--run-id", "1", "--mlflow", *OPTIONS]
    assert train_here(spark, options) == 0
    assert seen == ["1"], "readers have the vectors before a server is waited for"
    assert warnings_of_mlflow(caplog) == ["MLflow: no more is logged there (the server went away)"]
    assert mlflow.active_run() is None
    (run,) = client.search_runs(["0"])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1]


def test_without_the_package_it_is_refused_before_spark_starts(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more)
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(job, "start_session", lambda: pytest.fail("Spark was started"))
    assert job.train(["--input", str(corpus), "--output", str(tmp_path / "out"), "--mlflow"]) == 2
    said = capsys.readouterr().err
    assert (
        said == "train.py: --mlflow: needs the package mlflow, or mlflow-skinny, which is not installed; install it.\n"
    )
    assert not (tmp_path / "out").exists()


def test_an_interruption_while_parameters_are_logged_leaves_no_active_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    runs: list[int] = []

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    def end(status: str) -> None:
        runs.pop()
        ended.append(status)

    given = SimpleNamespace(
        active_run=lambda: runs[-1] if runs else None,
        start_run=lambda: runs.append(1),
        end_run=end,
        log_params=interrupted,
    )
    monkeypatch.setitem(sys.modules, "mlflow", given)
    with pytest.raises(KeyboardInterrupt):
        MlflowWriter({"epochs": 1})
    assert (runs, ended) == ([], ["FAILED"])
