"""conf/airflow/spark_w2v_dag.py, run by Airflow itself in an environment of its own: green, nothing twice, red."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spark_w2v.runs import ids
from tests.support.training_job import FAST_JVM, GROUPS, planted_corpus, state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
[vocabulary]
subsample = 0
[training]
partitions = 1
dimensions = 16
epochs = 5
window = 3
"""


def judgements() -> str:
    """Words of a group belong together, words of two groups do not."""
    one, two, three = (group.split() for group in GROUPS)
    alike = [f"{a}\t{b}\t9" for group in (one, two, three) for a, b in itertools.pairwise(group)]
    return "\n".join(alike + [f"{a}\t{b}\t1" for a, b in zip(one * 2, two + three, strict=True)]) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of groups, one of the same words without any order, and what the DAG is to do with them."""
    directory = tmp_path_factory.mktemp("airflow")
    planted_corpus(directory / "planted.txt", sentences=300)
    words = " ".join(GROUPS).split()
    lines = np.random.default_rng(1).choice(words, (300, 8))
    (directory / "shuffled.txt").write_text("\n".join(map(" ".join, lines)) + "\n")
    (directory / "config.toml").write_text(CONFIG)
    (directory / "pairs.tsv").write_text(judgements())
    return directory


@pytest.fixture(scope="module")
def dags_test(java_home: str, place: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`airflow dags test` of a date and a corpus."""
    subprocess.run(["make", "build/airflow-venv/.installed"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    airflow = ROOT / "build" / "airflow-venv" / "bin" / "airflow"
    environment = {
        **os.environ,
        **FAST_JVM,
        "AIRFLOW_HOME": str(place / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "conf" / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_LOCAL": json.dumps({"conn_type": "spark", "host": "local[1]"}),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [airflow, *arguments], cwd=place, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    migrated = run("db", "migrate")
    assert migrated.returncode == 0, migrated.stdout

    def dags_test(date: str, corpus: str, **more: str) -> "subprocess.CompletedProcess[str]":
        params = {
            **more,
            "checkout": str(ROOT),
            "config": str(place / "config.toml"),
            "input": str(place / corpus),
            "output": str(place / "vectors"),
            "pairs": str(place / "pairs.tsv"),
        }
        return run("dags", "test", "spark_w2v", date, "--conf", json.dumps(params))

    return dags_test


def test_a_run_without_a_logical_date_is_named_by_when_it_may_start(
    dags_test: Callable[..., "subprocess.CompletedProcess[str]"], place: Path
) -> None:
    """As `airflow dags trigger` makes it."""
    program = """
import sys, datetime, types
sys.path.insert(0, sys.argv[1])
import spark_w2v_dag as module
(dag,) = (found for found in vars(module).values() if type(found).__name__ == "DAG")
name = dag.get_template_env().from_string(module.RUN_ID)
day = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
for logical, after in ((None, day), (day, None)):
    print(name.render(params={"run_id": ""}, dag_run=types.SimpleNamespace(logical_date=logical, run_after=after)))
"""
    done = subprocess.run(
        [ROOT / "build" / "airflow-venv" / "bin" / "python", "-c", program, ROOT / "conf" / "airflow"],
        env={**os.environ, "AIRFLOW_HOME": str(place / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["20261102", "20261102"], done.stderr


def test_the_dag_publishes_does_nothing_twice_and_is_stopped_by_its_gate(
    dags_test: Callable[..., "subprocess.CompletedProcess[str]"], place: Path
) -> None:
    kept = place / "vectors"
    first = dags_test("2026-11-01", "planted.txt")
    assert first.returncode == 0, first.stdout
    assert tasks(first.stdout) == ["prepare", "train", "evaluate", "gate", "publish"]
    assert "has no current run yet" in first.stdout
    assert ids.current(str(kept)) == "20261101"
    evaluation = json.loads((kept / "evaluations" / "20261101.json").read_text())
    assert evaluation["this"]["pairs"][0]["spearman"] > 0.7

    before = {name: facts for name, facts in state(kept).items() if not name.startswith("evaluations")}
    again = dags_test("2026-11-01", "planted.txt")
    assert again.returncode == 0, again.stdout
    assert "nothing to do" in again.stdout
    assert {name: facts for name, facts in state(kept).items() if not name.startswith("evaluations")} == before

    repaired = dags_test("2026-11-01", "planted.txt", run_id="20261101b", reports=str(place / "reports"))
    assert repaired.returncode == 0, repaired.stdout
    assert ids.current(str(kept)) == "20261101b"
    assert [path.name for path in (place / "reports").iterdir()] == ["20261101b.json"]

    worse = dags_test("2026-11-02", "shuffled.txt")
    assert worse.returncode != 0, worse.stdout
    assert tasks(worse.stdout) == ["prepare", "train", "evaluate", "gate"]
    assert re.search(r"pairs\.tsv: Spearman is \S+, below 0\.95 of", worse.stdout)
    assert ids.is_finished(str(kept / "runs" / "20261102")), "it can be looked into, and published by hand"
    assert ids.current(str(kept)) == "20261101b"


def tasks(log: str) -> list[str]:
    """Those that were started, in order."""
    return re.findall(r"\[DAG TEST\] starting task_id=(\w+)", log)
