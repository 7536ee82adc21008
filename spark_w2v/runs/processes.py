"""The process that holds a lock, or a directory for its files."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from spark_w2v.errors import StorageError, UserError
from spark_w2v.storage.files import MISTAKES, open_file, reason

UNKNOWN = "unknown"
LARGEST_HOLDER = 1 << 16  # bytes
SCRATCH = "spark_w2v-run-"  # begins the names of directories for files of one process
# Tokens of what this process holds. What else has its number is of a run of it that failed, and could not remove it.
_held: set[str] = set()
_locked: dict[Path, int] = {}  # scratch directories of this process, and the files that are open and locked there


def describe_holder() -> dict[str, Any]:
    """Return the content of a lock for this process, which holds it until `let_go` of its token, a new one."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
        "token": new_token(),
        "system": _system(),
        "started": _started(os.getpid()),
    }


def new_token() -> str:
    """Return a token unlike any other, and hold it."""
    token = uuid.uuid4().hex
    _held.add(token)
    return token


def let_go(token: str) -> None:
    """Hold it no longer: where its lock is still there, the next run of this process takes it over."""
    _held.discard(token)


def named(holder: Mapping[str, Any]) -> str:
    """Return the holder of a lock as text for a message."""
    return f"process {str(holder.get('pid', '?'))[:20]} on {str(holder.get('host', '?'))[:100]}"


def is_alive(holder: Mapping[str, Any]) -> bool | None:
    """Whether the process of a lock lives, and still holds it; None where only its own host can tell.

    Raises:
        OSError: it cannot be found out now.
    """
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0 or holder.get("system") != _system():
        return None
    started = _started(pid)
    if started is None or (pid == os.getpid() and holder.get("token") not in _held):
        return False
    return started == UNKNOWN or holder.get("started") in (None, UNKNOWN, started)


def _system() -> str:
    """Where process ids mean the same: host, boot and, as containers may share a host's name, the id namespace.

    Raises:
        OSError: it cannot be read now.
    """
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError as error:  # a system that has no such file, or shows it to nobody
        if error.errno not in MISTAKES:
            raise
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process started, as ids are used again; None for one that is gone, UNKNOWN for one that does not show it.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except ProcessLookupError:
        return None
    except IndexError:
        pass
    except OSError as error:
        if error.errno not in MISTAKES:
            raise
    # Gone, or another user's on a system that hides those, or a system without /proc: macOS.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return UNKNOWN


def scratch_directory() -> Path:
    """Make a directory of this process in the temporary directory; those of processes that died are removed.

    Raises:
        UserError, StorageError: as temporary_files does.
    """
    with temporary_files():
        root = Path(tempfile.gettempdir()).resolve()
        for made, descriptor in list(_locked.items()):
            if not made.exists():
                os.close(descriptor)
                del _locked[made]
        for left in root.glob(f"{SCRATCH}*"):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                with open_file(left / "holder") as file:  # which may be another user's, and anything
                    holder = json.loads(file.read(LARGEST_HOLDER))
                    is_left = isinstance(holder, dict) and (is_alive(holder) is False or _is_let_go(holder, file))
                if is_left:
                    shutil.rmtree(left)
        made = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=root))
        try:
            _hold(made)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return made


def _hold(directory: Path) -> None:
    """Say whose a scratch directory is, in a file that is locked: a host or a container that restarts lets go of it."""
    descriptor = os.open(directory / "holder", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    _locked[directory] = descriptor
    is_locked = False
    with contextlib.suppress(OSError):  # a file system without flock
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_locked = True
    (directory / "holder").write_text(json.dumps({**describe_holder(), "is_locked": is_locked}))


def _is_let_go(holder: Mapping[str, Any], file: BinaryIO) -> bool:
    """Whether a file that its holder had locked is locked no longer."""
    if holder.get("is_locked") is not True:
        return False
    fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)  # raises OSError where somebody holds it
    return True


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Raise one sentence where the temporary directory refuses: a UserError, or a StorageError for what may pass."""
    try:
        yield
    except OSError as error:
        error_class = UserError if error.errno in MISTAKES else StorageError
        raise error_class(
            f"{error.filename or 'the temporary directory'}: cannot be written to ({reason(error)}); set TMPDIR to "
            "another directory for temporary files."
        ) from None
