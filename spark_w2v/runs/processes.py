"""Which process holds a lock, and whether it still lives."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe_holder() -> dict[str, Any]:
    """Return what a lock says of this process; the token is new each time."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
        "token": uuid.uuid4().hex,
        "system": _system(),
        "started": _started(os.getpid()),
    }


def named(holder: Mapping[str, Any]) -> str:
    """Return who holds a lock, for a message."""
    return f"process {str(holder.get('pid', '?'))[:20]} on {str(holder.get('host', '?'))[:100]}"


def is_alive(holder: Mapping[str, Any]) -> bool | None:
    """Whether the process of a lock lives; None where only its own host can know."""
    pid = holder.get("pid")
    if holder.get("system") != _system() or not isinstance(pid, int):
        return None
    started = _started(pid)
    return started is not None and started == holder.get("started")


def _system() -> str:
    """Where process ids mean the same: host, boot and, as containers may share a host's name, the id namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process started, as ids are used again; None for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc: macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return "unknown"
