"""jobs/train.py, except that it waits at the moments that HELD_AT names, until a test kills it there or lets it go on.

HELD_AT is JSON, {"directory": where who waits says so, "stops": [[moment, number], ...]}. Moments:

    reading, vocabulary, pairs, round    tasks of the number-th job of this kind: each waits with its work done and
                                         nothing of it handed over
    checkpoint, publication              the driver, before the number-th change that it makes to files there; in the
                                         middle of a file is one, too
    published                            the driver, once the output stands where readers find it

Who waits has a file in the directory, and goes on when that is gone, or when there is one that lets go of the stop.
"""

import itertools
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark import TaskContext

from spark_w2v.stages import corpus, publication, training, training_pairs, vocabulary

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


def hold_tasks(module: Any, name: str, moment: str) -> None:
    """Make the tasks that a function makes wait, where its n-th call is one of the stops."""
    make, calls = getattr(module, name), itertools.count(1)
    directory = HELD_AT["directory"]

    def make_held(*arguments: Any) -> Callable[..., Any]:
        task, number = make(*arguments), next(calls)

        def held(*rows: Any) -> Iterator[Any]:
            results = iter(task(*rows))
            first = list(itertools.islice(results, 1))
            context = TaskContext.get()
            assert context is not None
            wait_here(directory, moment, number, stage=context.stageId(), task=context.taskAttemptId())
            yield from first
            yield from results

        return held if [moment, number] in HELD_AT["stops"] else task

    setattr(module, name, make_held)


# The driver


class Files:
    """Counts what the driver changes while it is in one of its functions."""

    def __init__(self) -> None:
        self._moment = ""
        self._numbers = {name: itertools.count(1) for name in ("checkpoint", "publication", "published")}
        sys.addaudithook(self._audit)

    def arrive(self, moment: str, what: str, path: str) -> None:
        number = next(self._numbers[moment])
        if [moment, number] in HELD_AT["stops"]:
            wait_here(HELD_AT["directory"], moment, number, what=what, path=path)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._moment and event in CHANGES and ".working/" in str(arguments[0]):
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

        def followed(self_: Any, staged: Path) -> None:
            method(self_, staged)
            self.arrive(moment, "after", str(staged))

        setattr(owner, name, followed)


def flushed_table(writer: Any) -> str:
    writer.file_handle.flush()
    return str(writer.where)


if __name__ == "__main__":
    hold_tasks(corpus, "_cut_with", "reading")
    hold_tasks(vocabulary, "_encode_with", "vocabulary")
    hold_tasks(training_pairs, "_route", "pairs")
    hold_tasks(training, "_bucket_task", "round")
    hold_tasks(training, "_replica_task", "round")
    files = Files()
    files.within(publication, "write_checkpoint", "checkpoint")
    files.within(publication.Run, "publish", "publication")
    files.half_written(pq.ParquetWriter, "write_batch", flushed_table)
    files.after(publication._Local, "publish", "published")
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "jobs" / "train.py"), run_name="__main__")
