"""A name is the same name in every locale, or it is refused before any work."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v import job as job_module
from spark_w2v.commands import all_neighbors, induce, phrases
from spark_w2v.runs.embedding_writer import write
from tests.support.training_job import FAST_JVM, ROOT

LOCALE = {"LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING"}


def environment(**names: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in LOCALE} | FAST_JVM | names


def submit(locale: dict[str, str], job: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [
        Path(sys.executable).parent / "spark-submit", "--master", "local[1]", "--conf", "spark.ui.enabled=false",
        "--properties-file", ROOT / "conf" / "spark-defaults.conf", ROOT / "jobs" / job, *arguments,
    ]  # fmt: skip
    return subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=ROOT,
        env=environment(**locale), timeout=600, errors="replace",
    )  # fmt: skip


def train(locale: dict[str, str], *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return submit(locale, "train.py", ROOT / "conf" / "local.toml", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "option"),
    [
        ({}, ["--output", "ö"]),
        ({"LC_ALL": "C"}, ["--output", "out", "--init", "日"]),
        pytest.param({"LANG": "POSIX"}, ["ä"], marks=pytest.mark.slow),
    ],
)
def test_an_argument_that_java_lost_is_refused_before_spark_starts(
    java_home: str, tmp_path: Path, locale: dict[str, str], option: list[str]
) -> None:
    (tmp_path / "a.txt").write_text("alpha beta\n" * 50)
    where = ["--output", str(tmp_path / "out")] if option[0] != "--output" else []
    paths = [str(tmp_path / part) if not part.startswith("--") else part for part in option]
    done = train(locale, "--set", "vocabulary.min_count=1", *where, "--input", tmp_path / "a.txt", *paths)
    assert done.returncode == 2, done.stdout
    (complaint,) = [line for line in done.stdout.splitlines() if line.startswith("train.py: ")]
    assert "set LC_ALL=C.UTF-8 in the environment of spark-submit." in complaint
    assert "Traceback" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (all_neighbors, "DIR/out"),
        (phrases, "--input DIR/a"),
        (induce, "DIR/out --input DIR/a --words DIR/w"),
    ],
)
def test_every_command_with_spark_refuses_a_name_that_java_lost(
    tmp_path: Path, command: Any, given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or its result would go to a directory ??, in the place of what another command left there."""
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")  # as where spark-submit has started Python
    monkeypatch.setattr(job_module, "system_property", lambda name: "ANSI_X3.4-1968")
    monkeypatch.setattr(job_module, "screen", lambda: sys.stderr)
    monkeypatch.setattr(job_module, "start_session", lambda: pytest.fail("Spark was started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = given.replace("DIR", str(tmp_path)).split()
    assert command.main([*arguments, "--to", f"{tmp_path}/??", "--overwrite"]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert "??: is what Java made of a name" in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_command_is_refused_by_spark_submit_too(java_home: str, tmp_path: Path) -> None:
    done = submit({}, "phrases.py", "--input", tmp_path / "a", "--to", tmp_path / "ö", "--overwrite")
    assert done.returncode == 2, done.stdout
    (complaint,) = [line for line in done.stdout.splitlines() if line.startswith("phrases.py: ")]
    assert "??: is what Java made of a name" in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_files_that_java_cannot_name_are_refused(java_home: str, tmp_path: Path) -> None:
    for name in ("a.txt", "ö.txt", "日本.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("alpha beta\n" * 50)
    done = train({}, "--set", "vocabulary.min_count=1", "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 2, done.stdout
    (complaint,) = [line for line in done.stdout.splitlines() if line.startswith("train.py: ")]
    assert "ö.txt" in complaint
    assert "set LC_ALL=C.UTF-8" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"LC_ALL": "C"},
        pytest.param({"LANG": "POSIX"}, marks=pytest.mark.slow),
    ],
)
def test_commands_without_spark_read_names_and_words_in_every_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    output = tmp_path / "ö"
    words = ["größe", "日本", "caf\u0065\u0301"]
    output.mkdir()
    vectors = np.eye(3, dtype=np.float32)
    write(output, pa.array(words), np.array([3, 2, 1]), vectors, vectors, {})
    (output / "_SUCCESS").touch()
    (tmp_path / "页.tsv").write_text("größe\t日本\t1\ngröße\tcaf\u0065\u0301\t2\n", encoding="utf-8")

    # In one process, as the locale is that of a process, and one takes seconds to start.
    program = (
        "import sys\nfrom spark_w2v.command_line import leave\n"
        "from spark_w2v.commands import evaluate, export, neighbors\noutput, word, pairs, report, to = sys.argv[1:]\n"
        "leave(lambda: neighbors.main([output, word, '--top', '2'])"
        " or evaluate.main([output, '--pairs', pairs, '--json', report])"
        " or export.main([output, '--format', 'word2vec-text', '--to', to]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, output, "größe", *(tmp_path / name for name in ("页.tsv", "é.json", "ü.txt"))],
        capture_output=True, encoding="utf-8", env=environment(**locale), cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "größe (3 times)" in done.stdout
    assert "页.tsv" in done.stdout
    assert {"é.json", "ü.txt"} <= set(os.listdir(tmp_path))
    assert (tmp_path / "ü.txt").read_text(encoding="utf-8").splitlines()[1].startswith("größe ")


def test_python_that_is_told_not_to_read_names_as_utf_8_is_refused(tmp_path: Path) -> None:
    told = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "neighbors.py", tmp_path / "ö", "word"],
        capture_output=True, encoding="utf-8", env=told, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("neighbors.py: names in this locale are ascii; set PYTHONUTF8=1")
