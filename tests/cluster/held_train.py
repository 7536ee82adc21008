"""jobs/train.py, except that it waits at the moments that HELD_AT names, until a test kills it there or lets it go on.

HELD_AT is JSON, {"directory": where who waits says so, "stops": [[moment, number], ...], "pause": seconds that a task
of `blocks` takes longer for each bucket}. The secrets of attempts go to the file "secrets" in the directory, one a
line, in hex. Moments:

    reading, vocabulary, pairs    tasks of the number-th job of this kind: each waits with its work done and nothing of
                                  it handed over
    round                         likewise: of `replicas` tasks of the number-th sync; of `blocks` tasks that have
                                  trained all buckets of earlier rounds and one of the number-th, counted from the first
                                  round of the run: with one of an earlier round left, others might not come so far.
                                  The thread that trains waits; the exchange goes on
    rows                          the driver, before the number-th block of parameters comes back; its exchange waits
    sweep                         the driver, when all parameters of the end of the number-th sweep have come back
    checkpoint, publication       the driver, before the number-th change that it makes to files there; in the middle of
                                  a file is one, too
    published                     the driver, once the output stands where readers find it

Who waits has a file in the directory, and goes on when that is gone, or when there is one that lets go of the stop.
"""

import itertools
import json
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark import TaskContext

from spark_w2v.runs import local, run
from spark_w2v.spark import block_epochs, corpus, replicas, vocabulary

HELD_AT = json.loads(os.environ["HELD_AT"])
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def wait_here(directory: str, moment: str, number: int, **facts: Any) -> None:
    """Say so, and wait; SIGKILL and SIGTERM do what they always do."""
    path = Path(directory, f"{moment}-{number}.{os.getpid()}-{time.monotonic_ns()}.json")
    over = Path(directory, f"{moment}-{number}.over")
    if not over.exists():
        text = json.dumps({"moment": moment, "number": number, "pid": os.getpid(), **facts})
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)
    while path.exists() and not over.exists():
        time.sleep(0.01)


# Tasks. What is defined in __main__ is pickled whole, so executors need no copy of this file.


def hold(task: Callable[..., Iterator[Any]], moment: str, number: int) -> Callable[..., Iterator[Any]]:
    """A function of a task, which waits after its first result where it is one of the stops."""
    directory = HELD_AT["directory"]

    def held(*arguments: Any) -> Iterator[Any]:
        results = iter(task(*arguments))
        first = list(itertools.islice(results, 1))
        context = TaskContext.get()
        assert context is not None
        wait_here(directory, moment, number, stage=context.stageId(), task=context.taskAttemptId())
        yield from first
        yield from results

    return held if [moment, number] in HELD_AT["stops"] else task


def hold_tasks(module: Any, name: str, moment: str) -> None:
    """Make the tasks that a function makes wait, where its n-th call is one of the stops."""
    make, calls = getattr(module, name), itertools.count(1)
    setattr(module, name, lambda *arguments: hold(make(*arguments), moment, next(calls)))


def hold_reading() -> None:
    """Make the tasks that cut lines in segments wait, where the n-th corpus is one of the stops."""
    module: Any = corpus
    make, cut, calls = module._cut, module.cut, itertools.count(1)

    def make_held(*arguments: Any) -> Any:
        module.cut = hold(cut, "reading", next(calls))
        return make(*arguments)

    module._cut = make_held


def hold_training(train: Callable[..., Iterator[Any]], before: int) -> Callable[..., Iterator[Any]]:
    """The training of an attempt at an epoch.

    Args:
        before: rounds of the run before the first round of the epoch.
    """
    directory = HELD_AT["directory"]
    numbers = [number for moment, number in HELD_AT["stops"] if moment == "round"]
    pause = HELD_AT["pause"]

    def held(batches: Any) -> Iterator[Any]:
        import spark_w2v.spark.block_task

        module: Any = spark_w2v.spark.block_task
        context = TaskContext.get()
        assert context is not None
        facts = {"stage": context.stageId(), "task": context.taskAttemptId()}
        train_bucket, train_pairs, left = module._Worker._train, module.train_pairs, set(numbers)

        def train_and_wait(self: Any, bucket: Any, *more: Any) -> None:
            def descend_and_wait(*arguments: Any, **options: Any) -> Any:
                walk = train_pairs(*arguments, **options)
                time.sleep(pause)
                earliest = before + min(self._part._next.values()) + 1
                for number in sorted(number for number in left if number <= earliest):
                    left.remove(number)
                    wait_here(directory, "round", number, **facts)
                return walk

            module.train_pairs = descend_and_wait
            train_bucket(self, bucket, *more)

        # The process may do other tasks later.
        module._Worker._train = train_and_wait
        try:
            yield from train(batches)
        finally:
            module._Worker._train, module.train_pairs = train_bucket, train_pairs

    return held if numbers or pause else train


def hold_epochs() -> None:
    """Make the tasks of all attempts at an epoch of `blocks` wait where a stop is."""
    module: Any = block_epochs
    frame, draw, train_with = module.BlockEpoch._frame, module.draw_records, module.train_with
    attempts, epochs, rounds = itertools.count(1), list[int](), 0
    before = 0

    def held_frame(self: Any, spec: Any, *more: Any) -> Any:
        nonlocal before, rounds
        ring = spec.exchange.ring
        if spec.epoch not in epochs:
            before = rounds if epochs else -spec.exchange.first
            rounds = before + ring.rounds
            epochs.append(spec.epoch)
        module.draw_records = hold(draw, "pairs", next(attempts))
        module.train_with = lambda *arguments: hold_training(train_with(*arguments), before)
        return frame(self, spec, *more)

    module.BlockEpoch._frame = held_frame


# The driver


def hold_calls(owner: Any, name: str, moment: str) -> None:
    """Wait before the n-th call of a function of the driver, where that is a stop."""
    function, calls = getattr(owner, name), itertools.count(1)

    def held(*arguments: Any) -> Any:
        if [moment, number := next(calls)] in HELD_AT["stops"]:
            wait_here(HELD_AT["directory"], moment, number)
        return function(*arguments)

    setattr(owner, name, held)


def tell_secrets() -> None:
    """Write the secrets of all attempts to a file, for a test that attacks as somebody would who knows them."""
    module: Any = block_epochs
    make = module.Node
    path = Path(HELD_AT["directory"], "secrets")

    def made(secret: bytes, listener: Any) -> Any:
        with open(path, "a") as file:
            file.write(f"{secret.hex()}\n")
        return make(secret, listener)

    module.Node = made


class Files:
    """Counts what the driver's main thread changes while it is in one of its functions."""

    def __init__(self) -> None:
        self._moment = ""
        self._numbers = {name: itertools.count(1) for name in ("checkpoint", "publication", "published")}
        sys.addaudithook(self._audit)

    def arrive(self, moment: str, what: str, path: str) -> None:
        number = next(self._numbers[moment])
        if [moment, number] in HELD_AT["stops"]:
            wait_here(HELD_AT["directory"], moment, number, what=what, path=path)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        # Meanwhile the exchange makes files for what comes next, on its own thread.
        is_here = self._moment and threading.current_thread() is threading.main_thread()
        if is_here and event in CHANGES and ".working/" in str(arguments[0]):
            is_only_read = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not is_only_read:
                self.arrive(self._moment, event, str(arguments[0]))

    def within(self, owner: Any, name: str, moment: str) -> None:
        """Count changes of files while this function runs."""
        function = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self._moment = moment
            try:
                return function(*arguments)
            finally:
                self._moment = ""

        setattr(owner, name, counted)

    def half_written(self, owner: Any, name: str, flushed: Callable[[Any], str]) -> None:
        """Also stop after each call of a method that adds something to a file that is not complete yet.

        Args:
            flushed: puts on the disk what was added, and returns the file's path.
        """
        method = getattr(owner, name)

        def write(self_: Any, *arguments: Any, **more: Any) -> Any:
            result = method(self_, *arguments, **more)
            if self._moment:
                self.arrive(self._moment, "half", flushed(self_))
            return result

        setattr(owner, name, write)

    def after(self, owner: Any, name: str, moment: str) -> None:
        """Also stop when this method has returned."""
        method = getattr(owner, name)

        def followed(self_: Any, staged: Path, lock: Any) -> None:
            method(self_, staged, lock)
            self.arrive(moment, "after", str(staged))

        setattr(owner, name, followed)


def flushed_table(writer: Any) -> str:
    writer.file_handle.flush()
    return str(writer.where)


if __name__ == "__main__":
    hold_reading()
    hold_tasks(vocabulary, "_encode_with", "vocabulary")
    hold_tasks(replicas, "_replica_task", "round")
    hold_epochs()
    hold_calls(block_epochs.FileStore, "write", "rows")
    hold_calls(block_epochs, "_refuse_diverged", "sweep")
    tell_secrets()
    files = Files()
    files.within(run, "write_checkpoint", "checkpoint")
    files.within(run.Run, "publish", "publication")
    files.half_written(pq.ParquetWriter, "write_batch", flushed_table)
    files.after(local.LocalOutput, "publish", "published")
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "jobs" / "train.py"), run_name="__main__")
