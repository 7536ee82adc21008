"""Files of the driver: opening, syncing, listing and removing them, with errors as one sentence."""

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from spark_w2v.errors import StorageError, UserError

log = logging.getLogger(__name__)

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be so large",
}
# Errors where something is not there, or is something else. They do not pass.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
# Errors of a path that the user has to change. All others may pass: of the disk (EIO), of too many open files (EMFILE),
# of memory (ENOMEM), of a network (ESTALE, ETIMEDOUT).
MISTAKES = ABSENT | {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST, errno.ENOTEMPTY,
    errno.EXDEV, errno.ENOSYS, errno.ENOTSUP,
}  # fmt: skip

NO_FSYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}  # of file systems that cannot sync a directory


def reason(error: BaseException) -> str:
    """Return why a system call failed, without the path that Python adds."""
    if isinstance(error, OSError):
        return FULL.get(error.errno or 0) or error.strerror or str(error).partition("\n")[0]
    if isinstance(error, MemoryError):
        return "not enough memory"
    return str(error) or type(error).__name__


def refused(what: str, error: OSError) -> StorageError | UserError:
    """Return the error to raise where a path that a user gave failed: theirs, or of the storage, which may pass.

    Args:
        what: the path and what cannot be done, without a full stop.
    """
    if error.errno in MISTAKES:
        return UserError(f"{what} ({reason(error)}); give another path, or the permissions for this one.")
    return StorageError(f"{what} ({reason(error)}).")


def raise_if_passing(place: str, error: BaseException, lasting: set[int] = MISTAKES) -> None:
    """Raise a StorageError for what may pass, as too many open files; return for a file that is not what it should be.

    Args:
        place: the file, and what names it.
        lasting: errors of the system that do not pass.

    Raises:
        StorageError: one sentence.
    """
    # Neither Python nor Arrow sets an errno for what is wrong with the content of a file.
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or (code is not None and code not in lasting):
        raise StorageError(f"{place}: could not be read: {os.strerror(code) if code else reason(error)}.") from None


@contextlib.contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log an error of the storage as a warning, where the work itself is done."""
    try:
        yield
    except (OSError, StorageError, UserError) as error:
        log.warning("%s (%s)", what, reason(error))


def exists(path: Path) -> bool:
    """Whether there is anything of that name, dangling links included.

    Path.exists returns False where it cannot be known, for some errors or, since Python 3.14, for all.

    Raises:
        OSError: it cannot be known.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_file(path: Path) -> BufferedReader:
    """Open a file to be read, without waiting for a writer where it is a FIFO.

    Raises:
        IsADirectoryError: it is not a regular file.
        OSError: as open raises it.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    kind = kind_of(os.fstat(file.fileno()).st_mode)
    if kind != "a file":
        file.close()
        raise IsADirectoryError(errno.EISDIR, f"it is {kind}, not a file", str(path))
    return file


def kind_of(mode: int) -> str:
    """Return the kind of a file in words, from its mode."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
    }
    return kinds.get(stat.S_IFMT(mode), "a socket or a device")


def strangers(directory: Path, written: re.Pattern[str]) -> list[str]:
    """Return the sorted paths below a directory that are not ours; directories that are not ours are not entered.

    Args:
        written: the paths that are ours, relative to the directory, with "/" between names. Files are ours under such a
            path; directories where it ends with "/"; links, FIFOs and whatever else there is never are.

    Raises:
        OSError: it could not be listed.
    """
    return [path for path, is_ours in _listed(directory, "", written) if not is_ours]


def remove_written(directory: Path, written: re.Pattern[str]) -> list[str]:
    """Remove what is ours in a directory, and the directory if it is empty then; return the paths that are left.

    Nothing else is removed, not even what appeared just now. Does nothing where there is no such directory.

    Args:
        written: as strangers has it.
    """
    if not exists(directory):
        return []
    if directory.is_symlink() or not directory.is_dir():
        return ["."]
    left = []
    for path, is_ours in _listed(directory, "", written):
        if not is_ours:
            left.append(path)
        elif path.endswith("/"):
            _remove_empty(directory / path)
        else:
            (directory / path).unlink(missing_ok=True)
    _remove_empty(directory)
    return left


def _listed(directory: Path, prefix: str, written: re.Pattern[str]) -> Iterator[tuple[str, bool]]:
    """Yield every path below a directory, contents first, and whether it is ours."""
    with os.scandir(directory / prefix) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = prefix + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield path, entry.is_file(follow_symlinks=False) and written.fullmatch(path) is not None
        elif written.fullmatch(f"{path}/"):
            yield from _listed(directory, f"{path}/", written)
            yield f"{path}/", True
        else:
            yield f"{path}/", False


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def fsync(path: Path) -> None:
    """Return when the disk has a file, or a directory's names where the file system can say so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def fsync_tree(directory: Path) -> None:
    """Return when the disk has a directory and all that is below it."""
    for root, _, names in os.walk(directory, topdown=False):
        for name in names:
            fsync(Path(root, name))
        fsync(Path(root))
