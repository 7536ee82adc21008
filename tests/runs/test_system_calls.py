"""Whatever call of the system fails, for a local output: a whole output stays, and the next run succeeds.

FAILED_CALLS in the environment sets how many failures of each call and error are drawn (3), or "all".
FAILED_CALLS_SEED sets which ones; a failure prints the seed.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run_without_spark import expected, text_of

ROOT = Path(__file__).resolve().parents[2]
CALLS = ("write", "fsync", "rename", "renameat2", "link", "unlink", "rmdir", "mkdir", "ftruncate")
FAILED_CALLS = os.environ.get("FAILED_CALLS", "3")
SEED = int(os.environ.get("FAILED_CALLS_SEED") or random.SystemRandom().randrange(1 << 32))


def run(output: Path, *options: str, strace: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Start a run, whose calls strace may make fail."""
    command = [*strace, sys.executable, "-B", "-m", "tests.support.run_without_spark", str(output), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=output.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def value_of(output: Path) -> float:
    """Return the one number that all parts of an output have."""
    found = [part.read_text() for part in sorted((output / "embeddings").iterdir())]
    assert found == [text_of(json.loads(found[0])["value"], part) for part in range(3)]
    return float(json.loads(found[0])["value"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_fails_leaves_the_old_output_or_the_new_one(tmp_path: Path, call: str) -> None:
    print(f"FAILED_CALLS_SEED={SEED}")
    output, log = tmp_path / "out", tmp_path / "strace.log"
    strace = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}")
    assert run(output, "--epochs", "1").returncode == 0
    assert run(output, "--overwrite", strace=(*strace, "--")).returncode == 0
    calls = range(1, len([line for line in log.read_text().splitlines() if f" {call}(" in line]) + 1)
    # strace counts each thread's calls by themselves, so the last of these numbers may be of no call.
    drawn = random.Random(SEED)
    failed = 0
    for error in ("ENOSPC", "EIO"):
        is_drawn = FAILED_CALLS != "all" and len(calls) > int(FAILED_CALLS)
        for number in sorted(drawn.sample(calls, int(FAILED_CALLS))) if is_drawn else calls:
            shutil.rmtree(output, ignore_errors=True)
            assert run(output, "--epochs", "1").returncode == 0
            old = value_of(output)
            injected = (*strace, "-e", f"inject={call}:error={error}:when={number}", "--")
            done = run(output, "--overwrite", strace=injected)
            if "(INJECTED)" not in log.read_text():
                assert done.returncode == 0
                continue
            failed += 1
            # Python ends with 120 where it could not write to stdout.
            assert done.returncode in (0, 1, 2, 75, 120), (error, number, done)
            assert "Traceback" not in done.stderr, (error, number, done.stderr)
            assert value_of(output) in (old, expected(3)), (error, number)
            if done.returncode == 0:
                assert value_of(output) == expected(3), (error, number)
            again = run(output, "--overwrite", "--resume")
            assert again.returncode == 0, (error, number, done, again.stderr)
            assert value_of(output) == expected(3), (error, number)
            left = {path.name for path in tmp_path.iterdir()} - {"out", "strace.log"}
            assert not left, (error, number, left)
    assert failed or call in ("link", "rename", "renameat2", "ftruncate", "rmdir", "mkdir")
