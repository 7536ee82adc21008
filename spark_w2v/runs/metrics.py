"""metrics.jsonl: one object per epoch."""

import contextlib
import json
import logging
import os
from pathlib import Path

from spark_w2v.storage.files import exists, open_file

log = logging.getLogger(__name__)

LARGEST_GAP = 64 << 20  # bytes of lost metrics that are filled up


def size(path: Path) -> int:
    """Return the bytes of the file, 0 where there is none."""
    return os.stat(path).st_size if exists(path) else 0


def lines(path: Path) -> list[bytes]:
    """Return the lines that are objects."""
    if not exists(path):
        return []
    with open_file(path) as file:
        return [line for line in file.read().split(b"\n") if _is_object(line)]


def append(path: Path, line: bytes) -> None:
    """Add a line, on the disk when this returns; none or all of it."""
    before = size(path)
    try:
        with open(path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, before)  # no half line
        raise


def keep(path: Path, own: int) -> None:
    """Drop the lines that came after the checkpoint that a run is resumed from, and say how many others are lost.

    Those become blanks, as the checkpoint goes on saying how many bytes are its own.
    """
    there = size(path)
    if not there and not own:
        return
    with open(path, "r+b" if exists(path) else "w+b") as file:
        kept = file.read(min(own, there))
        gap = own - len(kept)
        found = (kept + b" " * gap if gap <= LARGEST_GAP else kept).split(b"\n")
        if found[-1]:
            found[-1] = found[-1][:-1]  # which makes room for the end of a line
            found.append(b"")
        lost = [number for number, line in enumerate(found[:-1]) if line.strip(b" ") and not _is_object(line)]
        for number in lost:
            found[number] = b" " * len(found[number])
        if lost or gap:
            log.warning(
                "%s: %d of its lines cannot be read and %d bytes are gone, so the metrics of epochs before the "
                "checkpoint are lost; training goes on", path, len(lost), gap,
            )  # fmt: skip
        text = b"\n".join(found)
        if text != kept:
            file.seek(0)
            file.write(text)
        file.truncate(len(text))
        file.flush()
        os.fsync(file.fileno())


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
