"""How rows of the parameters travel between the driver and the tasks of a round.

On one machine through files that both see; on a cluster through Spark, as broadcasts to the tasks and as results back.
Raw float32 either way. Seconds a round beyond its work, 68,000 x 100, two blocks: docs/decisions.md.
"""

import os
import tempfile
import uuid
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark import Broadcast, SparkContext

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Filed:
    """Rows in a file that the other side sees too.

    Args:
        shape: (R, D) of what the file holds.
    """

    path: str
    shape: tuple[int, int]

    def rows(self) -> Floats:
        """(R, D), the caller's own."""
        found: Floats = np.fromfile(self.path, np.float32).reshape(self.shape)
        return found

    def seen(self) -> Floats:
        """(R, D) to read from, without a copy; they outlive the file's name."""
        found: Floats = np.memmap(self.path, np.float32, "r", shape=self.shape)
        return found


@dataclass(frozen=True)
class Broadcasted:
    """Rows that Spark brings to whoever asks."""

    broadcast: "Broadcast[Floats]"

    def rows(self) -> Floats:
        """(R, D), the caller's own."""
        # A broadcast value is shared by all tasks of a worker: written to in place, it would carry over to the next.
        return self.broadcast.value.copy()


@dataclass(frozen=True)
class Given:
    """Rows that came back as a task's result."""

    array: Floats

    def seen(self) -> Floats:
        """(R, D) to read from."""
        return self.array


Sent = Filed | Broadcasted
Returned = Filed | Given


def is_one_machine(context: SparkContext) -> bool:
    """Whether tasks see the driver's disks for certain: executors of local mode are threads of the driver's JVM."""
    master = context.master or ""
    return master == "local" or master.startswith("local[")


class Courier:
    """The driver's end: sends rows, and takes away what a round left.

    Args:
        folder: where tasks put what they give back; None where they give it to Spark.
    """

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self._broadcasts: list[Broadcast[Floats]] = []
        self._filed: dict[Hashable, Filed] = {}
        # Spark removes its own temporary directory when the session ends, whatever becomes of us.
        self.folder = tempfile.mkdtemp(prefix="rows-", dir=context._temp_dir) if is_one_machine(context) else None

    def send(self, name: Hashable, rows: Floats) -> Sent:
        """Rows on their way to the tasks of a round.

        Args:
            name: of these rows; what was taken back under it, and is in a file, is not written once more.
        """
        if self.folder is None:
            self._broadcasts.append(self._context.broadcast(rows))
            return Broadcasted(self._broadcasts[-1])
        if name not in self._filed:
            self._filed[name] = _file(rows, self.folder)
        return self._filed[name]

    def take_back(self, name: Hashable, returned: Returned) -> Floats:
        """(R, D) what a task gave back, to read from until the next round ends."""
        if isinstance(returned, Filed):
            self._filed[name] = returned
        return returned.seen()

    def clear(self) -> None:
        """Remove what no round will ask for again: broadcasts, and files that newer ones took the place of."""
        for broadcast in self._broadcasts:
            broadcast.destroy()
        self._broadcasts.clear()
        if self.folder is not None:
            wanted = {filed.path for filed in self._filed.values()}
            for entry in os.scandir(self.folder):
                if entry.path not in wanted:
                    os.unlink(entry.path)

    def close(self) -> None:
        """Clear, and leave no file and no directory."""
        self._filed.clear()
        self.clear()
        if self.folder is not None:
            os.rmdir(self.folder)


def give_back(rows: Floats, folder: str | None) -> Returned:
    """What a task returns for its rows.

    Args:
        folder: the courier's.
    """
    return Given(rows) if folder is None else _file(rows, folder)


def _file(rows: Floats, folder: str) -> Filed:
    # A name of its own: a task may be running twice, and the attempt that lost must not write over the one that won.
    path = os.path.join(folder, uuid.uuid4().hex)
    rows.tofile(path)
    return Filed(path, (rows.shape[0], rows.shape[1]))
