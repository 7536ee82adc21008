"""scripts/nightly, before it trains; test_examples.py runs it as cron does."""

import os
import subprocess
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
