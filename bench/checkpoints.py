"""Cost of checkpoints: python -m bench.checkpoints prints the time of an epoch with and without them.

The job runs in local mode on the base case of bench.scale, without checkpoints, with checkpoints next to a local
output, and with checkpoints that are uploaded to moto's S3 server over HTTP on loopback, which needs a part of the same
cores.
An epoch is what lies between its line of the log and the one before, so the checkpoint between them counts.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from bench import measure
from bench.scale_cases import BASE
from bench.synthetic import write_text, zipf_counts
from bench.systems import train_command

OUTPUT = measure.ROOT / "build" / "bench"
KINDS = ("none", "local", "s3")
PORT = 5576
STORE = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
}  # fmt: skip


def epochs_of(log: Path) -> list[float]:
    """Seconds of each epoch but the first, which also compiles Java's code."""
    lines = [json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]
    ends = [datetime.fromisoformat(line["time"]).timestamp() for line in lines if "epoch" in line]
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="each kind once a round")
    parser.add_argument("--epochs", type=int, default=4, metavar="E")
    options = parser.parse_args()
    environment = measure.environment() | STORE
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory:
        scratch = Path(directory)
        text = scratch / "text.txt"
        write_text(zipf_counts(BASE.words, BASE.vocabulary), text)
        server = subprocess.Popen(
            [Path(sys.executable).parent / "moto_server", "--host", "127.0.0.1", "--port", str(PORT)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(5)
            make = "import boto3; boto3.client('s3').create_bucket(Bucket='bucket')"
            subprocess.run([sys.executable, "-c", make], env=environment, check=True)
            for number in range(options.rounds):
                for kind in KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]:
                    place = f"s3://bucket/{number}" if kind == "s3" else str(scratch / f"{kind}-{number}")
                    settings = {
                        "vocabulary.min_count": 1, "training.scheme": "blocks", "training.partitions": BASE.blocks,
                        "training.dimensions": BASE.dimensions, "training.epochs": options.epochs,
                        "output.checkpoint": "none" if kind == "none" else "epoch", "output.report": "false",
                    }  # fmt: skip
                    log = scratch / "log.txt"
                    command = [*train_command(["--master", "local[2]"], text, place, settings), "--log-format", "json"]
                    ran = measure.run(command, environment, log)
                    if ran.code:
                        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
                        return 1
                    found = epochs_of(log)
                    seconds[kind] += found
                    print(f"round {number + 1}, {kind}: {', '.join(f'{value:.2f}' for value in found)} s", flush=True)
        finally:
            server.kill()
            server.wait()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results = {"options": vars(options), "seconds": seconds}
    (OUTPUT / "checkpoints.json").write_text(json.dumps(results, indent=1) + "\n")
    calm = median(seconds["none"])
    print(f"epochs without checkpoints: median {calm:.2f} s of {len(seconds['none'])}")
    for kind in KINDS[1:]:
        print(f"{kind}: median {median(seconds[kind]):.2f} s, {100 * (median(seconds[kind]) / calm - 1):+.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
