"""Files of the driver: written through to the disk, removed, and what the storage refuses as one sentence."""

import errno
import os
import shutil
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be so large",
}


class StorageError(RuntimeError):
    """What the storage refused during a run, in one sentence; what stood there before is unharmed."""


def reason(error: Exception) -> str:
    """Why a call of the system failed, without the path that Python adds."""
    if isinstance(error, OSError):
        return FULL.get(error.errno or 0) or error.strerror or str(error).partition("\n")[0]
    return str(error) or type(error).__name__


def remove(path: Path) -> None:
    """Remove a file or a directory with all that is in it; nothing to do where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Return when the disk has a file, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(directory: Path) -> None:
    """Return when the disk has a directory and all that is below it."""
    for root, _, names in os.walk(directory, topdown=False):
        for name in names:
            fsync(Path(root, name))
        fsync(Path(root))
