"""scripts/nightly, before it trains; test_examples.py runs it as cron does."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("content", [None, ""])
def test_nothing_is_trained_without_a_file_to_judge_by(content: str | None, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    if content is not None:
        pairs.write_text(content)
    command = ["scripts/nightly", "conf/local.toml", str(tmp_path), str(tmp_path / "vectors"), str(pairs)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2
    told = f"nightly: {pairs}: is not a file of word similarity, or is empty; give one as the fourth argument.\n"
    assert ran.stderr == told
    assert not (tmp_path / "vectors").exists()
