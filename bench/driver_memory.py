"""Memory of the driver with a model that is larger than its JVM may be: python -m bench.driver_memory prints the peak.

The job runs on a standalone cluster of two workers of one core; the driver's JVM and its Python process are looked at
while it runs. Counted is memory that is not page cache: RssAnon and RssShmem of /proc/PID/status. Linux only.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from bench import measure
from bench.standalone import Cluster, environment, with_descendants
from bench.synthetic import write_text, zipf_counts
from bench.systems import facts, train_command

OUTPUT = measure.ROOT / "build" / "bench"
WORKERS = 2
KINDS = ("RssAnon", "RssShmem")
TAIL = 3000  # characters that a failed run may say


class Looked(NamedTuple):
    """Bytes of the driver at a moment: of its JVM, of Python."""

    jvm: int
    python: int
    seconds: float  # since the start


def not_cached(process: psutil.Process) -> int:
    """Bytes of one process that the kernel cannot drop; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.partition(":")[0] in KINDS)


class Watch:
    """The moment at which JVM and Python together had most."""

    def __init__(self) -> None:
        self.peak = Looked(0, 0, 0.0)
        self._started = time.monotonic()

    def look(self, root: psutil.Process) -> None:
        # spark-submit becomes the JVM, which starts Python; the executors are the workers' children.
        family = with_descendants(root)
        jvm = sum(not_cached(process) for process in family if process == root)
        python = sum(not_cached(process) for process in family if process != root)
        if jvm + python > self.peak.jvm + self.peak.python:
            self.peak = Looked(jvm, python, time.monotonic() - self._started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.driver_memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, default=3_000_000, metavar="W")
    parser.add_argument("--vocabulary", type=int, default=1_000_000, metavar="V")
    parser.add_argument("--dimensions", type=int, default=300, metavar="D")
    parser.add_argument("--blocks", type=int, default=2, metavar="B")
    parser.add_argument("--driver-memory", default="1g", help="of the JVM: spark.driver.memory")
    parser.add_argument("--executor-memory", default="2g", help="of the JVM: spark.executor.memory")
    return parser.parse_args()


def main() -> int:
    options = _options()
    settings = {
        "vocabulary.min_count": 1,
        "training.scheme": "blocks",
        "training.partitions": options.blocks,
        "training.dimensions": options.dimensions,
        "training.epochs": 1,
        "output.checkpoint": "none",
    }
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory:
        scratch = Path(directory)
        text, output, log = scratch / "text.txt", scratch / "output", scratch / "log.txt"
        write_text(zipf_counts(options.words, options.vocabulary), text)
        cluster = Cluster(scratch / "cluster", environment(), WORKERS, options.executor_memory)
        try:
            submit = ["--master", cluster.url, "--driver-memory", options.driver_memory]
            submit += ["--executor-memory", options.executor_memory]
            watch = Watch()
            ran = measure.run(train_command(submit, text, output, settings), environment(), log, watch.look)
        finally:
            cluster.stop()
        failed = log.read_text(errors="replace")[-TAIL:] if ran.code else ""
        training = 0.0 if failed else facts("ours-2", output).train_seconds
    peak = watch.peak
    found = {"options": vars(options), "code": ran.code, "training_seconds": training, **peak._asdict()}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "driver-memory.json").write_text(json.dumps(found, indent=1) + "\n")
    model = 8 * options.vocabulary * options.dimensions
    print(failed, end="", file=sys.stderr)
    print(
        f"V {options.vocabulary:,}, D {options.dimensions}, B {options.blocks}, {options.words:,} words, "
        f"spark.driver.memory {options.driver_memory}: a model of {model / 1e9:.2f} GB; "
        f"the driver had {(peak.jvm + peak.python) / 1e9:.2f} GB at most that are not page cache, JVM "
        f"{peak.jvm / 1e9:.2f} and Python {peak.python / 1e9:.2f}, {peak.seconds:.0f} s after the start; "
        + (f"the run failed with exit code {ran.code}." if failed else f"training took {training:.1f} s.")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
