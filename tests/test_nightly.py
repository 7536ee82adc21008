"""scripts/nightly, before it trains; test_examples.py runs it as cron does."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


PAIRS = "cat\tdog\t7.5\n"


def refusal(tmp_path: Path, pairs: Path, **variables: str) -> str:
    command = ["scripts/nightly", "conf/local.toml", str(tmp_path / "none"), str(tmp_path / "vectors"), str(pairs)]
    environment = {**os.environ, **variables}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert ran.returncode == 2
    assert not (tmp_path / "vectors").exists()
    return ran.stderr


@pytest.mark.parametrize("content", [None, "", "words\nof a text\n"])
def test_nothing_is_trained_without_a_file_to_judge_by(content: str | None, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    if content is not None:
        pairs.write_text(content)
    told = f"nightly: {pairs}: is not a file of word similarity, or is empty; give one as the fourth argument.\n"
    assert refusal(tmp_path, pairs) == told


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FAIL_BELOW", "95%", 'FAIL_BELOW: "95%" is not a share'),
        ("FAIL_BELOW", "1.5", 'FAIL_BELOW: "1.5" is not a share'),
        ("FAIL_BELOW", "0.0", 'FAIL_BELOW: "0.0" is not a share'),
        ("KEEP_RUNS", "all", 'KEEP_RUNS: "all" is not a whole number'),
        ("KEEP_RUNS", "-1", 'KEEP_RUNS: "-1" is not a whole number'),
    ],
)
def test_nothing_is_trained_with_a_mistake_in_what_comes_after(
    variable: str, value: str, words: str, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(PAIRS)
    assert refusal(tmp_path, pairs, **{variable: value}).startswith(f"nightly: {words}")


def checkout(tmp_path: Path, training: str) -> None:
    """Make a checkout whose spark-submit is a command of the shell."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "nightly").write_bytes((ROOT / "scripts" / "nightly").read_bytes())
    programs = {
        "scripts/java_home": "echo /java",
        ".venv/bin/spark-submit": training,
        ".venv/bin/python": ":",
    }
    for name, command in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pairs.tsv").write_text(PAIRS)


@pytest.mark.parametrize(("number", "code"), [("TERM", 143), ("HUP", 129), ("INT", 130)])
def test_a_night_that_is_stopped_stops_its_training(tmp_path: Path, number: str, code: int) -> None:
    checkout(tmp_path, "trap 'echo stopped >out; exit 143' TERM; echo >begun; while :; do sleep 0.1; done")
    command = ["sh", "scripts/nightly", "a.toml", "text", "vectors", "pairs.tsv", "20261101"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        process.send_signal(getattr(signal, f"SIG{number}"))
        assert process.wait(20) == code
    assert (tmp_path / "out").read_text() == "stopped\n"


@pytest.mark.parametrize("code", [2, 75])
def test_a_night_has_the_exit_code_of_its_training(tmp_path: Path, code: int) -> None:
    checkout(tmp_path, f"exit {code}")
    command = ["sh", "scripts/nightly", "a.toml", "text", "vectors", "pairs.tsv", "20261101"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == code


def test_a_night_is_named_in_the_log_and_takes_further_options(tmp_path: Path) -> None:
    checkout(tmp_path, 'printf "[%s]" "$@"')
    variables = {"SUBMIT_ARGS": "--driver-memory 8g", "TRAIN_ARGS": "--log-format json --set a.b=*"}
    ran = subprocess.run(
        ["sh", "scripts/nightly", "a.toml", "text", "vectors", "pairs.tsv", "20261101"],
        cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert re.fullmatch(r"nightly: run 20261101 of vectors begins at \d{4}-\d\d-\d\d [\d:]{8} UTC\n", ran.stderr)
    given = ran.stdout.removeprefix("[").removesuffix("]").split("][")
    assert given[2:5] == ["--driver-memory", "8g", str(tmp_path / "jobs" / "train.py")]
    assert given[-4:] == ["--log-format", "json", "--set", "a.b=*"]
