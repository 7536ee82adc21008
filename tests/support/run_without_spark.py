"""A run in a process of its own, whose training is arithmetic.

Prints "begun" when it holds the output, and "resumed N" where it goes on after epoch N.
"""

import argparse
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from spark_w2v.command_line import TRY_AGAIN, leave, with_exit_codes
from spark_w2v.errors import RefusedError
from spark_w2v.runs import heartbeat_lock, processes, store_lock
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.runs.run import Run
from spark_w2v.storage import objects

WORDS, DIMENSIONS = 500, 4


def trained(value: float, epoch: int) -> float:
    """Return a parameter after an epoch: exact, and different in another order."""
    return value * 3 + epoch


def expected(epochs: int) -> float:
    """Return the parameters of an undisturbed run."""
    value = 1.0
    for epoch in range(epochs):
        value = trained(value, epoch)
    return value


def text_of(value: float, part: int) -> str:
    """Return the content of a published file."""
    return json.dumps({"value": value, "part": part, "filling": "x" * 100_000})


@with_exit_codes
def main(arguments: Sequence[str] | None = None, program: str = "run_without_spark.py") -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--stale", type=float, help="seconds after which a lock is stale")
    parser.add_argument("--elsewhere", action="store_true", help="as on another host: no process of a lock is known")
    parser.add_argument("--until", type=Path, help="train until this file is there")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of an epoch")
    parser.add_argument("--retry", type=float, help="seconds that a request is tried again for")
    options = parser.parse_args(arguments)
    if options.retry is not None:
        vars(objects)["RETRY_SECONDS"] = options.retry
    if options.stale is not None:
        heartbeat_lock.STALE, heartbeat_lock.HEARTBEAT = options.stale, options.stale / 10
    if options.elsewhere:
        processes._system = lambda: "elsewhere"
        vars(store_lock)["is_alive"] = lambda holder: None
    place = output_of(options.output)
    place.check(overwrite=options.overwrite, resume=options.resume)
    try:
        return train(place, options)
    except RefusedError as error:  # as job.train does
        print(error, file=sys.stderr)
        return TRY_AGAIN


def train(place: object, options: argparse.Namespace) -> int:
    """Train, save a checkpoint after each epoch but the last, publish."""
    with Run(
        place,  # type: ignore[arg-type]
        overwrite=options.overwrite,
        resume=options.resume,
        fingerprint={"epochs": options.epochs},
    ) as run:
        with contextlib.suppress(OSError):
            print("begun", flush=True)
        epoch, value = 0, 1.0
        if run.is_published:
            return 0
        if (checkpoint := run.load_checkpoint()) is not None:
            position, parameters = checkpoint
            epoch, value = position["epoch"], float(parameters.center[-1, -1])
            assert (parameters.context == -value).all()
            with contextlib.suppress(OSError):
                print(f"resumed {epoch}", flush=True)
        while options.until is not None and not options.until.exists():
            time.sleep(0.05)
        for number in range(epoch, options.epochs):
            time.sleep(options.pause)
            value = trained(value, number)
            run.append_metrics({"epoch": number + 1})
            if number + 1 < options.epochs:
                folder = run.parameters_folder / f".{uuid.uuid4().hex}.unfinished"
                parameters = ParameterFiles.create(folder, WORDS, DIMENSIONS)
                parameters.center[:], parameters.context[:] = value, -value
                run.save_checkpoint({"epoch": number + 1}, parameters)
        assert [line["epoch"] for line in run.metrics()] == list(range(1, options.epochs + 1))

        def write(directory: Path) -> None:
            (directory / "embeddings").mkdir()
            for part in range(3):
                (directory / "embeddings" / f"part-{part:05d}.parquet").write_text(text_of(value, part))

        run.publish(write, {})
    return 0


if __name__ == "__main__":
    leave(main)
