"""A run as the Spark UI, a log collector and TensorBoard see it, started as users start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_w2v.text.messages import counted
from tests.support.training_job import ROOT, SMALL, planted_corpus, scalars, submit


@pytest.fixture(scope="module")
def corpus(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "planted.txt"
    planted_corpus(path, sentences=6000)
    return path


def jobs_of(directory: Path) -> list[str]:
    """Description of every job that Spark ran, as its UI shows it."""
    logs = [path.read_text(encoding="utf-8") for path in sorted(directory.rglob("events_*"))]
    events = [json.loads(line) for log in logs for line in log.splitlines()]
    started = [event["Properties"] for event in events if event["Event"] == "SparkListenerJobStart"]
    return [found.get("spark.job.description", "-") for found in started]


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "partitions"), [("blocks", 1), ("replicas", 2)])
def test_a_run_can_be_watched(scheme: str, partitions: int, corpus: Path, tmp_path: Path) -> None:
    events, curves, output = tmp_path / "events", tmp_path / "curves", tmp_path / "out"
    events.mkdir()
    done = submit(
        [
            "--input", corpus, "--output", output, "--log-format", "json", "--tensorboard", curves, *SMALL,
            "--set", f"training.scheme={scheme}", "--set", f"training.partitions={partitions}",
            "--set", "training.epochs=2", "--set", "training.syncs_per_epoch=2", "--set", "training.held_out_words=500",
        ],
        spark=[
            "--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir={events.as_uri()}",
            "--conf", "spark.eventLog.compress=false",
        ],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout

    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "epoch" in line]
    assert [{name: line[name] for name in metrics[0]} for line in epochs] == metrics
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert lines[-1]["output"] == str(output)
    # Spark may warn in its own format; no line is ours and not JSON.
    assert [line for line in done.stdout.splitlines() if line[:2].isdigit() and "WARN" not in line] == []

    shown = [(tag, step) for tag, step, _ in scalars(curves)]
    assert [step for tag, step in shown if tag == "loss/training"] == [1, 2]
    assert [step for tag, step in shown if tag == "loss/held_out"] == [1, 2]

    jobs = jobs_of(events)
    assert "-" not in jobs
    # A worker starts beside the first job, before it or after it.
    texts = list(dict.fromkeys(text for text in jobs if text != "starting Python workers"))
    assert texts[0].startswith("corpus: ")
    rounds = [text for text in texts if text.startswith("epoch")]
    sweeps = [line["sweeps"] for line in metrics]
    if scheme == "blocks":
        expected = [f"epoch {e} of 2: 1 block, 1 task, {counted(sweeps[e - 1], 'sweep')}" for e in (1, 2)]
    else:
        expected = [f"epoch {e} of 2: sync {r} of {sweeps[e - 1]}" for e in (1, 2) for r in range(1, sweeps[e - 1] + 1)]
    assert rounds == expected
    assert any(text.startswith("vocabulary: ") for text in texts)
    assert "training: drawing the held-out sentences" in texts

    page = (output / "report.html").read_text(encoding="utf-8")
    assert all(f'"{word}"' in page for word in ("apple", "hammer", "cello"))
    assert (output / "report.html").stat().st_mode & 0o444 == (output / "run.json").stat().st_mode & 0o444


def test_a_mistake_is_a_json_line_too_and_starts_no_spark(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [
        sys.executable, ROOT / "jobs" / "train.py", ROOT / "conf" / "local.toml", "--log-format", "json",
        "--input", tmp_path / "file", "--output", tmp_path / "out", "--tensorboard", tmp_path / "file",
    ]  # fmt: skip
    no_java = {**os.environ, "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(list(map(str, command)), env=no_java, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["level"] == "error"
    assert line["message"].startswith("--tensorboard ")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_no_page_is_made_where_none_is_wanted(corpus: Path, tmp_path: Path) -> None:
    done = submit(
        [
            "--input", corpus, "--output", tmp_path / "out", *SMALL, "--set", "output.report=false",
            "--set", "training.epochs=1", "--set", "training.partitions=1",
        ]
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert not (tmp_path / "out" / "report.html").exists()
