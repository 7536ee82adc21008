"""The training job as a process and in this one, on a small planted corpus."""

import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_w2v import job
from spark_w2v.spark import memory

ROOT = Path(__file__).resolve().parents[2]

# Compiling less makes short runs of spark-submit shorter.
FAST_JVM = {"SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
GROUPS = ("apple pear plum cherry quince", "saw hammer chisel plane lathe", "oboe viola flute cello harp")


def planted_corpus(path: Path, sentences: int = 3000, seed: int = 7) -> None:
    """Sentences whose words all belong to one group: words of a group share contexts, others never do."""
    rng = np.random.default_rng(seed)
    groups = [group.split() for group in GROUPS]
    lines = (" ".join(rng.choice(groups[rng.integers(3)], 8)) for _ in range(sentences))
    path.write_text("\n".join(lines) + "\n")


def submit(
    arguments: Sequence[str | Path], master: str = "local[2]", spark: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run jobs/train.py with spark-submit, which hands what Python writes to stderr to its own stdout."""
    bin_directory = Path(sys.executable).parent
    command = [
        bin_directory / "spark-submit", "--master", master, "--conf", "spark.ui.enabled=false", *spark,
        "--properties-file", ROOT / "conf" / "spark-defaults.conf", ROOT / "jobs" / "train.py",
        ROOT / "conf" / "local.toml", *arguments,
    ]  # fmt: skip
    # Into a file that is not empty, as from cron.
    with tempfile.TemporaryFile("w+") as log:
        print("of yesterday", file=log, flush=True)
        done = subprocess.run(
            list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, **FAST_JVM}, timeout=600,
        )  # fmt: skip
        log.seek(0)
        first, _, rest = log.read().partition("\n")
    assert first == "of yesterday"
    return subprocess.CompletedProcess(done.args, done.returncode, rest)


def train_here(session: SparkSession, arguments: Sequence[str | Path]) -> int:
    """The same in this process and in a session that goes on afterwards; the exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "start_session", lambda: session)
        patched.setattr(session, "stop", lambda: None)
        patched.setattr(signal, "signal", lambda *_: None)
        return job.train([str(ROOT / "conf" / "local.toml"), *map(str, arguments)])


SMALL = [
    "--set", "training.dimensions=16", "--set", "training.epochs=5", "--set", "vocabulary.subsample=0",
    "--set", "training.window=3",
]  # fmt: skip

ONE = ["--set", "training.partitions=1"]


def state(kept: Path) -> dict[str, tuple[int, int]]:
    """Every file there is, with its size and its time."""
    found = {str(path.relative_to(kept)): path.lstat() for path in kept.rglob("*") if not path.is_dir()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def scalars(directory: Path) -> list[tuple[str, int, float]]:
    """Return the scalars in TensorBoard's event files: records of length, checksum, protocol buffer, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        at = 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 12 + size + 4
    return found


def counted_needs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[memory.Need, memory.Need]]:
    """Have no memory; return what trainings will need, and what they would without a model in memory."""
    real, counted = memory.needed, list[tuple[memory.Need, memory.Need]]()

    def needed(*arguments: Any, **options: Any) -> memory.Need:
        counted.append((real(*arguments, **options), real(*arguments[:8])))
        return counted[-1][0]

    monkeypatch.setattr(memory, "needed", needed)
    monkeypatch.setattr(memory, "given_by", lambda context: memory.Given(1))
    return counted
