"""The two matrices in files: the driver's model and the content of a checkpoint.

V words, D dimensions. The files are mapped into memory, so that pages of them are in memory only while the system finds
room for them, and no process holds the model.

A directory is removed by whoever made it, for as long as it is temporary. One that became a checkpoint, or was opened
where it stood, belongs to the run that keeps the checkpoints.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spark_w2v.errors import StorageError
from spark_w2v.storage import files
from spark_w2v.types import Float32Array, Int32Array

NAMES = ("center", "context")
AVERAGED = 1 << 20  # floats that are averaged at a time: four arrays of 4 MB
# Names in a directory of parameters: these, and the manifest of a checkpoint. Earlier versions had NumPy arrays.
WRITTEN = re.compile(r"(?:center|context)\.(?:f32|npy)|manifest\.json")


@dataclass
class ParameterFiles:
    """Both matrices, (V, D) float32 in block order, raw and little-endian: DIRECTORY/center.f32 and context.f32.

    Args:
        directory: where they are; changed when it is renamed, which the mapping does not notice.
        center, context: (V, D), mapped.
        is_temporary: whoever made the directory removes it; no checkpoint.
    """

    directory: Path
    center: Float32Array
    context: Float32Array
    is_temporary: bool = False

    @classmethod
    def create(cls, directory: Path, words: int, dimensions: int) -> "ParameterFiles":
        """Make a new directory, temporary, with two matrices of zeros to be written to.

        Raises:
            FileExistsError: there is such a directory.
            StorageError: the storage refuses; nothing is left.
        """
        try:
            directory.mkdir(parents=True)
            try:
                for path in paths(directory):
                    with open(path, "wb") as file:
                        _allocate(file.fileno(), words * dimensions * 4)
                made = cls.open(directory, words, dimensions, "r+")
            except BaseException:
                with contextlib.suppress(OSError):
                    files.remove_written(directory, WRITTEN)
                raise
        except FileExistsError:
            raise
        except OSError as error:
            raise StorageError(f"{directory}: the parameters could not be written: {files.reason(error)}.") from None
        made.is_temporary = True
        return made

    @classmethod
    def open(cls, directory: Path, words: int, dimensions: int, mode: Literal["r", "r+"] = "r") -> "ParameterFiles":
        """Map two matrices that are there; not temporary."""
        shape = words, dimensions
        center, context = (np.memmap(path, np.dtype("<f4"), mode, shape=shape) for path in paths(directory))
        return cls(directory, center, context)

    def flush(self) -> None:
        """Return when the disk has both files."""
        for matrix, path in zip((self.center, self.context), paths(self.directory), strict=True):
            if isinstance(matrix, np.memmap):
                matrix.flush()
            files.fsync(path)

    def move_to(self, directory: Path) -> None:
        """Rename the directory, which is no longer temporary then.

        Raises:
            OSError: what os.rename does.
        """
        os.rename(self.directory, directory)
        self.directory, self.is_temporary = directory, False

    def remove(self) -> None:
        """Remove the directory; what is mapped stays readable until it is released."""
        with contextlib.suppress(OSError):
            files.remove_written(self.directory, WRITTEN)


@dataclass(frozen=True)
class ByWord:
    """A matrix in block order, read by word id, some rows at a time.

    Args:
        matrix: (V, D) in block order.
        places: (V,) row of each word.
    """

    matrix: Float32Array
    places: Int32Array

    @property
    def shape(self) -> tuple[int, int]:
        """(V, D)."""
        words, dimensions = self.matrix.shape
        return words, dimensions

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self.matrix.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, word_ids: slice) -> Float32Array:
        """Return (n, D) rows of these words, a copy."""
        rows: Float32Array = self.matrix[self.places[word_ids]]
        return rows


def fill_average(made: ParameterFiles, now: ParameterFiles, before: ParameterFiles, shares: Float32Array) -> None:
    """Write before + share * (now - before) to new parameters.

    Args:
        shares: (V,) of each row; a row whose share is 1 is that of `now` to the last bit.
    """
    for name in NAMES:
        old, new, target = (getattr(of, name) for of in (before, now, made))
        step = max(1, AVERAGED // old.shape[1])
        for start in range(0, shares.size, step):
            rows = slice(start, start + step)
            target[rows] = new[rows]
            some = start + np.flatnonzero(shares[rows] < 1)
            target[some] = old[some] + shares[some, None] * (new[some] - old[some])


def paths(directory: Path) -> list[Path]:
    """Return the files of both matrices in a directory of ParameterFiles."""
    return [directory / f"{name}.f32" for name in NAMES]


def _allocate(descriptor: int, size: int) -> None:
    """Give a new file its size and its place on the disk: a full disk is noticed now, not by SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.truncate(descriptor, size)
