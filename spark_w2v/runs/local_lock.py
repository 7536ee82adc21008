"""The lock of a working directory on this host's file systems, which other hosts may see too."""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spark_w2v.errors import BusyError, StorageError
from spark_w2v.runs import heartbeat_lock
from spark_w2v.runs.checkpoints import to_json
from spark_w2v.runs.heartbeat_lock import HeartbeatLock
from spark_w2v.runs.processes import is_alive, named
from spark_w2v.storage.files import open_file, reason

log = logging.getLogger(__name__)

LONGEST_HOLD = 60.0  # seconds; a run holds a directory for as long as it takes to read and to write a small file


class LocalLock(HeartbeatLock):
    """The lock of one process on a working directory, from the call until release."""

    def __init__(self, working: Path, output: str) -> None:
        super().__init__()
        self.path, self._output = working / "lock", output
        self._begin()

    def _take(self) -> None:
        with _guarded(self.path.parent) as alone:
            self._replace(alone)

    def _replace(self, alone: bool) -> None:
        if (text := _read_lock(self.path)) is not None:
            holder = _holder(text)
            who = named(holder)
            # Locks are written under the guard, so the process that left half of one was killed while it wrote.
            is_abandoned = alone and not holder and not text.endswith(b"\n")
            if not is_abandoned and not _is_stale(self.path, holder):
                raise BusyError(
                    f"{self._output}: another run is at work on it, {who}; wait for it, or give another directory."
                )
            log.warning("%s: the lock of %s is stale and is taken over", self._output, who)
            self.path.unlink()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(descriptor, (to_json(self._facts) + "\n").encode())
            os.fsync(descriptor)
        except BaseException:  # and of an interrupted notebook, whose process lives on
            self.path.unlink()
            raise
        finally:
            os.close(descriptor)

    def _sign(self) -> None:
        os.utime(self.path)

    def is_held(self) -> bool:
        """Whether the lock is still this run's: a machine that was suspended for long may have lost it."""
        return _holder(_read_lock(self.path) or b"").get("token") == self.token

    def assert_held(self) -> None:
        """Raises:
        StorageError: another run holds it, or it cannot be read now.
        """
        if not self.is_held():
            raise StorageError(f"{self.path}: another run has taken over this output, so this one stops.")

    def _give_back(self) -> None:
        """Remove the lock, and the working directory where nothing else is in it."""
        with contextlib.suppress(OSError, StorageError, BusyError):
            if self.is_held():
                with _guarded(self.path.parent):
                    if self.is_held():
                        self.path.unlink()
                        self.path.parent.rmdir()


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory, so that no other process moves its link or moves its runs away meanwhile.

    A file system without flock does without.

    Raises:
        BusyError: another program holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _hold(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, directory: Path) -> bool:
    """Hold a directory; return whether its file system can do that.

    Raises:
        BusyError: another program holds it for longer than a run does.
    """
    until = time.monotonic() + LONGEST_HOLD
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise BusyError(
                    f"{directory}: another program has locked this directory (flock); wait for it, or have it lock a "
                    "file of its own."
                ) from None
            time.sleep(0.02)
        except OSError:
            return False
        else:
            return True


def is_taken(working: Path) -> bool:
    """Whether a run is at work in a working directory, as far as this host can tell.

    Raises:
        StorageError: its lock cannot be read now.
    """
    text = _read_lock(working / "lock")
    return text is not None and not _is_stale(working / "lock", _holder(text))


@contextlib.contextmanager
def _guarded(working: Path) -> Iterator[bool]:
    """Make the working directory where it is missing, and hold it while its lock is read and changed.

    Without this, of two runs that find the same stale lock, the slower removes the lock of the faster.

    Yields:
        Whether it is held for certain: a file system without flock has O_EXCL only.
    """
    made = False
    while True:
        with contextlib.suppress(FileExistsError):
            working.mkdir()
            made = True
        try:
            descriptor = os.open(working, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # a run that ends removes it
            continue
        try:
            alone = _hold(descriptor, working)
            try:
                is_there = os.path.samestat(os.fstat(descriptor), os.stat(working))
            except FileNotFoundError:
                is_there = False
            if is_there:  # and was not removed by the run that had the guard before
                try:
                    yield alone
                except BaseException:
                    if made:
                        with contextlib.suppress(OSError):
                            working.rmdir()
                    raise
                return
        finally:
            os.close(descriptor)


def _read_lock(path: Path) -> bytes | None:
    """Return the text of a lock; None where there is none.

    Raises:
        StorageError: it cannot be read now.
    """
    try:
        with open_file(path) as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: the lock could not be read: {reason(error)}.") from None


def _holder(text: bytes) -> dict[str, Any]:
    """Return the content of a lock; {} where it is not a lock."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_stale(path: Path, holder: Mapping[str, Any]) -> bool:
    alive = is_alive(holder)
    if alive is not None:
        return not alive
    try:
        signed = path.stat().st_mtime
    except FileNotFoundError:
        return True
    now = time.time()
    if now - signed > heartbeat_lock.STALE:
        with contextlib.suppress(OSError):
            # Clocks of hosts differ: that of the file system, which a server may have, decides.
            os.utime(path.parent)
            now = path.parent.stat().st_mtime
    return now - signed > heartbeat_lock.STALE
