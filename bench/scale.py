"""Time and memory against words, dimensions, vocabulary and blocks: python -m bench.scale writes docs/scale.md.

The real job runs on synthetic text, whose word counts follow Zipf's law, one quantity varied at a time, and the kernel
runs on single buckets of the sizes that clusters have. A small linear cost model is fitted on the small runs and on
some of the buckets, checked on the others, and asked about clusters that nobody here has: their epochs are simulated.

W words of the corpus, V of the vocabulary, D dimensions, B blocks, T tasks, C cores, P pairs.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import measure, page, text
from bench.scale_cases import CORES, FULL, QUICK, QUICK_SINGLES, QUIET, SINGLES, Case
from bench.scale_fit import told
from bench.scale_tables import _name, draw, report
from bench.singles import ENOUGH, measured_single
from bench.synthetic import write_text, zipf_counts
from spark_w2v.config import Config

OUTPUT = measure.ROOT / "build" / "bench"
DOCUMENT, PICTURE = measure.ROOT / "docs" / "scale.md", measure.ROOT / "docs" / "scale.svg"


# Measuring


def busy(seconds: float) -> float:
    """Cores that are at work, whoever's it is."""
    return float(psutil.cpu_percent(seconds)) / 100 * (os.cpu_count() or 1)


def wait_for_quiet(minutes: float) -> None:
    """Return when others leave the machine alone, or when that takes too long."""
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until and busy(2.0) > QUIET:
        time.sleep(3)


def measured(case: Case, scratch: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run the job once; a dict of what it says of itself, of what Spark says and of the machine."""
    path, output, events = scratch / "text.txt", scratch / "output", scratch / "events"
    for directory in (output, events):
        shutil.rmtree(directory, ignore_errors=True)
    events.mkdir()
    if case.synthetic:
        counts, least = zipf_counts(case.words, case.vocabulary), 1
        write_text(counts, path)
    else:
        least = Config().vocabulary.min_count
        found = text.write(text.default_corpus(), "", None, path).counts
        counts = -np.sort(-np.array([n for n in found.values() if n >= least], np.int64))
    settings = {
        "vocabulary.min_count": least,
        "training.scheme": "blocks",
        "training.partitions": case.blocks,
        "training.dimensions": case.dimensions,
        "training.epochs": 1,
        "output.checkpoint": "sweep" if case.snapshots else "none",
        "training.sweeps_per_epoch": case.sweeps or "auto",
    }
    submit = [str(Path(sys.executable).with_name("spark-submit")), "--properties-file", "conf/spark-defaults.conf"]
    submit += ["--master", f"local-cluster[{CORES},1,2048]" if case.cluster else f"local[{CORES}]"]
    for key, value in {
        "eventLog.enabled": "true",
        "eventLog.dir": events.as_uri(),
        "eventLog.rolling.enabled": "false",
        "eventLog.compress": "false",
        "executor.memory": "2g",  # of local-cluster alone
    }.items():
        submit += ["--conf", f"spark.{key}={value}"]
    variables = {**variables, "SPARK_WORKER_DIR": str(scratch / "executors")}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [*submit, "jobs/train.py", "conf/local.toml", "--input", str(path), "--output", str(output), *sets]
    others = busy(2.0)
    ran = measure.run(command, variables, scratch / "log.txt")
    if ran.code:
        raise RuntimeError((scratch / "log.txt").read_text(errors="replace")[-3000:])
    numbers, often = np.unique(counts, return_counts=True)
    epoch = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "case": case._asdict(),
        "counts": None if case.synthetic else [numbers.tolist(), often.tolist()],
        "epoch": epoch,
        "epoch_seconds": epoch["seconds"],
        "prepare_seconds": json.loads((output / "run.json").read_text())["prepare_seconds"],
        "seconds": ran.seconds,
        "peak_bytes": ran.peak_bytes,
        "others": others,
        "load": os.getloadavg()[0],
        **of_events(next(events.iterdir()).read_text().splitlines()),
    }


def of_events(lines: Iterable[str]) -> dict[str, float]:
    """Return the core-seconds of drawing and the bytes of the shuffle per epoch, from Spark's event log."""
    stages: set[int] = set()
    milliseconds, size = 0, 0
    for line in lines:
        event = json.loads(line)
        match event["Event"]:
            case "SparkListenerJobStart":
                if re.match(r"epoch \d+ of", event["Properties"].get("spark.job.description", "")):
                    stages.update(event["Stage IDs"])
            case "SparkListenerTaskEnd" if event["Stage ID"] in stages and event["Task Type"] == "ShuffleMapTask":
                milliseconds += event["Task Metrics"]["Executor Run Time"]
                size += event["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    return {"drawing_seconds": milliseconds / 1000, "shuffled_bytes": size}


# Telling


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few small runs, and docs/ is left alone")
    parser.add_argument(
        "--report", action="store_true", help="only the tables, from the runs of build/bench/scale.json"
    )
    parser.add_argument("--resume", action="store_true", help="go on after the runs that build/bench/scale.json has")
    parser.add_argument("--wait", type=float, default=0, metavar="MINUTES", help="at most, for quiet before each run")
    return parser.parse_args()


def measure_all(found: dict[str, Any], path: Path, quick: bool, wait: float) -> None:
    """Do what is not done yet; each run is written as soon as it has ended."""

    def keep(name: str, one: dict[str, Any], started: float) -> None:
        found[name].append(one)
        found["minutes"] += (time.monotonic() - started) / 60
        path.write_text(json.dumps(found, allow_nan=False) + "\n")

    for single in (QUICK_SINGLES if quick else SINGLES)[len(found["singles"]) :]:
        wait_for_quiet(wait)
        print(f"{single} ...", end=" ", flush=True)
        started = time.monotonic()
        keep("singles", measured_single(single, CORES, 0.2 if quick else ENOUGH), started)
        print(f"{time.monotonic() - started:.1f} s", flush=True)
    variables = measure.environment()
    if "record_seconds" not in found:
        command = [sys.executable, "-m", "bench.records"]
        ran = subprocess.run(
            command, cwd=measure.ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        found |= json.loads(ran.stdout.splitlines()[-1])
        print(f"a record of the shuffle: {found['record_seconds'] * 1e6:.0f} µs", flush=True)
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        for case in (QUICK if quick else FULL)[len(found["runs"]) :]:
            wait_for_quiet(wait)
            print(f"{_name(case)} ...", end=" ", flush=True)
            started = time.monotonic()
            keep("runs", measured(case, Path(scratch), variables), started)
            run = found["runs"][-1]
            print(f"{run['seconds']:.1f} s, training {run['epoch_seconds']:.1f} s", flush=True)


def main() -> int:
    options = options_of()
    name = "scale-quick" if options.quick else "scale"
    path = OUTPUT / f"{name}.json"
    if options.report or options.resume:
        found = json.loads(path.read_text())
    else:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        found = {
            "command": "python -m bench.scale" + (" --quick" if options.quick else ""),
            "machine": platform.machine(),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("numpy", "pyspark", "scipy")},
            },
            "minutes": 0.0,
            "singles": [],
            "runs": [],
        }
    if not options.report:
        measure_all(found, path, options.quick, options.wait)
    said = report(found)
    (OUTPUT / f"{name}.md").write_text(said + "\n")
    if options.quick:
        print(said)
        return 0
    picture = f"![Training time against words, dimensions, vocabulary and blocks]({PICTURE.name})"
    page.renew(DOCUMENT, "python -m bench.scale", f"{picture}\n\n{said}")
    draw(told(found)[0], PICTURE)
    return 0


if __name__ == "__main__":
    measure.adopt_environment()
    sys.exit(main())
