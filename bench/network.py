"""Training on a cluster whose machines are linked at 1 Gbit/s: python -m bench.network prints what the links cost.

Seconds of training with and without the limit, and the models that pass through the driver's interface per epoch. The
text, Spark's own files and the vocabulary pass there too. So the first epoch's are the difference between a run with
all dimensions and one with few, the others' the difference between a run of several epochs and a run of one. Linux and
root only (bench.namespaces).

V words of the vocabulary, D dimensions; a model is two matrices of float32, 8 V D bytes.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import measure
from bench.namespaces import DRIVER, GIGABIT, WORKERS, Network, RefusedError, address
from bench.standalone import Cluster, environment
from bench.synthetic import write_text, zipf_counts
from bench.systems import facts, train_command

OUTPUT = measure.ROOT / "build" / "bench"
DIMENSIONS, THIN = 100, 2
TAIL = 3000  # characters that a failed run may say


class Ran(NamedTuple):
    """One run: seconds of training, and bytes through the driver's interface from start to end."""

    seconds: float
    driver_bytes: int


class Bench:
    """A network with a standalone cluster on it, and a text.

    Args:
        scratch: a directory for what the cluster and the runs write.
        text: to train on.
    """

    def __init__(self, network: Network, cluster: Cluster, scratch: Path, text: Path) -> None:
        self.network, self.cluster = network, cluster
        self.output, self.log = scratch / "output", scratch / "log.txt"  # of the last run
        self._text = text

    def run(self, blocks: int, epochs: int, dimensions: int = DIMENSIONS, **more: object) -> int:
        """Run the job from the driver's machine, once; return its exit code.

        Args:
            more: settings, by key with __ for the point.
        """
        settings: dict[str, object] = {
            "vocabulary.min_count": 1,
            "training.scheme": "blocks",
            "training.partitions": blocks,
            "training.dimensions": dimensions,
            "training.epochs": epochs,
            "output.checkpoint": "none",
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        shutil.rmtree(self.output, ignore_errors=True)
        options = ["--master", self.cluster.url, "--executor-memory", "2g"]
        command = train_command(options, self._text, self.output, settings)
        variables = environment() | {"SPARK_LOCAL_IP": address(DRIVER)}
        return measure.run([*self.network.prefix(DRIVER), *command], variables, self.log).code

    def train(self, blocks: int, epochs: int, dimensions: int = DIMENSIONS, **more: object) -> Ran:
        """Run the job as `run` does, and measure it.

        Raises:
            RuntimeError: it failed.
        """
        before = self.network.bytes_through(DRIVER)
        if self.run(blocks, epochs, dimensions, **more):
            raise RuntimeError(self.log.read_text(errors="replace")[-TAIL:])
        return Ran(facts("ours-2", self.output).train_seconds, self.network.bytes_through(DRIVER) - before)


@contextlib.contextmanager
def started(scratch: Path, words: int, vocabulary: int, rate: str | None = GIGABIT) -> Iterator[Bench]:
    """A driver's machine and two workers of one core each, with synthetic text of V words."""
    text = scratch / "text.txt"
    write_text(zipf_counts(words, vocabulary), text)
    with Network(rate) as network:
        cluster = Cluster(scratch / "cluster", environment(), len(WORKERS), "3g", network.host)
        try:
            yield Bench(network, cluster, scratch, text)
        finally:
            cluster.stop()


def models_of_first_epoch(thin: Ran, one: Ran, vocabulary: int) -> float:
    """Models through the driver's interface in the first epoch.

    Args:
        thin, one: runs of 1 epoch, of THIN and of all dimensions; all that is no model is the same in both.
    """
    return (one.driver_bytes - thin.driver_bytes) / (8 * vocabulary * (DIMENSIONS - THIN))


def models_of_later_epochs(one: Ran, several: Ran, epochs: int, vocabulary: int) -> float:
    """Models through the driver's interface in an epoch after the first, in the mean.

    Args:
        one, several: runs of 1 epoch and of this many.
    """
    return (several.driver_bytes - one.driver_bytes) / (epochs - 1) / (8 * vocabulary * DIMENSIONS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, default=16_000_000, metavar="W")
    parser.add_argument("--vocabulary", type=int, default=200_000, metavar="V")
    parser.add_argument("--blocks", type=int, default=2, metavar="B")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="of the runs that are timed, 2 at least")
    parser.add_argument("--rate", default=GIGABIT, help="of each link and direction, as tc writes it")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="of all four runs, interleaved")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: 2 at least")
    return options


def main() -> int:
    options = _options()
    vocabulary, blocks, epochs = options.vocabulary, options.blocks, options.epochs
    runs = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory,
            started(Path(directory), options.words, vocabulary) as bench,
        ):
            for _ in range(options.repeats):
                bench.network.shape(None)
                free = bench.train(blocks, epochs)
                bench.network.shape(options.rate)
                thin, one = bench.train(blocks, 1, THIN), bench.train(blocks, 1)
                shaped = bench.train(blocks, epochs)
                runs.append(
                    {
                        "shaped_seconds": shaped.seconds,
                        "unshaped_seconds": free.seconds,
                        "ratio": shaped.seconds / free.seconds,
                        "models_of_first_epoch": models_of_first_epoch(thin, one, vocabulary),
                        "models_of_later_epochs": models_of_later_epochs(one, shaped, epochs, vocabulary),
                        "other_megabytes": thin.driver_bytes / 1e6,
                    }
                )
                print(json.dumps(runs[-1]), flush=True)
    except RefusedError as error:
        print(f"bench.network: no network namespaces here: {error}", file=sys.stderr)
        return 2
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "network.json").write_text(json.dumps({"options": vars(options), "runs": runs}, indent=1) + "\n")
    print(
        f"{options.words:,} words, V {vocabulary:,}, D {DIMENSIONS}, B {blocks}, {epochs} epochs: training took "
        f"{middle['shaped_seconds']:.1f} s at {options.rate}, {middle['unshaped_seconds']:.1f} s without the limit, "
        f"{middle['ratio']:.2f} times as long; through the driver's interface passed "
        f"{middle['models_of_first_epoch']:.2f} models in the first epoch, {middle['models_of_later_epochs']:.2f} in "
        f"each later one, and in a run of one epoch {middle['other_megabytes']:,.0f} MB besides."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
