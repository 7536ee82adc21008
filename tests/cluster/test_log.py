"""Output of a run on a cluster, started by the recipe of docs/deploying.md from a directory without conf/."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.standalone import PROGRAMS, ROOT, Cluster, environment
from tests.cluster.submission import planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_run_of_three_epochs_prints_its_own_lines_and_few_others(
    cluster: Cluster, package: Path, tmp_path: Path
) -> None:
    corpus = planted_corpus(tmp_path / "corpus", files=2, sentences=2000)
    events = tmp_path / "events"
    events.mkdir()
    command = [
        PROGRAMS / "spark-submit", "--master", cluster.url, "--py-files", package, "--executor-memory", "512m",
        "--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir={events.as_uri()}",
        "--conf", "spark.eventLog.compress=false", ROOT / "jobs" / "train.py",
        ROOT / "conf" / "cluster.toml", "--input", f"{corpus}/*", "--output", tmp_path / "out",
        "--set", "training.partitions=2", "--set", "training.epochs=3", "--set", "vocabulary.min_count=1",
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) <= 60, done.stdout
    assert sum("epoch " in line for line in lines) == 3
    assert [line for line in lines if line.lstrip().startswith("at ")] == []
    # Spark says which version it is before anybody can ask it not to.
    assert [line for line in lines if " INFO " in line and " INFO SparkContext: " not in line] == []
    started = [json.loads(line) for path in events.rglob("events_*") for line in path.read_text().splitlines()]
    tasks = [
        event["Stage Info"]["Number of Tasks"] for event in started if event["Event"] == "SparkListenerStageSubmitted"
    ]
    assert max(tasks) <= 16  # and not 200, which spark.sql.shuffle.partitions is by default
