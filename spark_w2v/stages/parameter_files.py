"""The two matrices in files: what the driver has of the model, and what a checkpoint is.

V words, D dimensions. The files are mapped into memory, so that pages of them are in memory only while the system finds
room for them, and no process holds the model.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NAMES = ("center", "context")


@dataclass
class ParameterFiles:
    """Both matrices, (V, D) float32 in block order, raw and little-endian: DIRECTORY/center.f32 and context.f32.

    Args:
        directory: where they are; changed when it is renamed, which the mapping does not notice.
        center, context: (V, D), mapped.
    """

    directory: Path
    center: Floats
    context: Floats

    @classmethod
    def create(cls, directory: Path, words: int, dimensions: int) -> "ParameterFiles":
        """Make a new directory with two matrices of zeros, to be written to.

        Raises:
            FileExistsError: there is such a directory.
        """
        directory.mkdir(parents=True)
        for name in NAMES:
            with open(directory / f"{name}.f32", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, words * dimensions * 4)  # a full disk is noticed now, not by SIGBUS
        return cls.open(directory, words, dimensions, "r+")

    @classmethod
    def open(
        cls, directory: Path, words: int, dimensions: int, mode: Literal["r", "r+"] = "r"
    ) -> "ParameterFiles":
        """Map two matrices that are there."""
        center, context = (
            np.memmap(directory / f"{name}.f32", np.dtype("<f4"), mode, shape=(words, dimensions)) for name in NAMES
        )
        return cls(directory, center, context)

    def remove(self) -> None:
        """Remove the directory; what is mapped stays readable until it is let go."""
        shutil.rmtree(self.directory, ignore_errors=True)
