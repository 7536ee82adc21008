"""Removing earlier runs of a directory of this host, and what runs left that died and were not started again."""

import logging
import math
import os
import re
import uuid
from pathlib import Path

from spark_w2v.errors import BusyError
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.local_lock import LocalLock, is_taken
from spark_w2v.runs.names import FINISHED, OUTPUT, RUN_ID, WORKING, marker_of
from spark_w2v.storage import files
from spark_w2v.storage.store import Store
from spark_w2v.text.messages import some

log = logging.getLogger(__name__)

REMOVED = ".removed"  # ends the names of runs that are being removed
LEFT = re.compile(rf"\.({RUN_ID.pattern})\.working")
BUT_THE_LOCK = re.compile(rf"(?!lock$)(?:{WORKING.pattern})")


def move_away(runs: Path, keep: int, current: str, before: str | None) -> float | None:
    """Give finished runs, except the newest and those in use, names that no reader finds; `remove` removes them.

    A run with a file that no run wrote stays, with a warning, and one that a run is about to replace.

    Args:
        keep: how many stay, the current one among them if it is one of the newest.
        before: run that readers had until now, which may be older than runs that were not good enough; it stays, too,
            unless `keep` is 1.

    Returns:
        When the oldest of the newest runs was finished; None where there are fewer than `keep`.
    """
    found = [path for path in runs.iterdir() if RUN_ID.fullmatch(path.name) and not path.is_symlink()]
    finished = [path for path in found if all(files.exists(path / name) for name in FINISHED)]
    ended = sorted(((path / "_SUCCESS").stat().st_mtime, path.name) for path in finished)
    for _, name in ended[:-keep]:
        if name == current or (name == before and keep > 1) or is_taken(_working(runs / name)):
            continue
        if strange := files.strangers(runs / name, OUTPUT):
            log.warning("%s: is kept, as no run wrote %s", runs / name, some(strange, 3))
            continue
        os.rename(runs / name, runs / f".{name}.{uuid.uuid4().hex}{REMOVED}")
        marker_of(runs / name).unlink(missing_ok=True)
    return ended[-keep][0] if len(ended) >= keep else None


def remove(runs: Path, before: float | None) -> None:
    """Remove the runs that were moved away, and what runs left that died and were last at work before a time.

    What no run wrote stays, with a warning.
    """
    for moved in runs.glob(f".*{REMOVED}"):
        files.remove_written(moved, OUTPUT)
    if before is None:
        return
    for path in sorted(runs.iterdir()):
        found = LEFT.fullmatch(path.name)
        if found and path.is_dir() and not path.is_symlink() and _changed(path) < before:
            _remove_unfinished(LocalOutput(str(runs / found[1]), runs / found[1]))


def remove_stored(store: Store, folder: str, written: re.Pattern[str], before: float) -> None:
    """Delete what runs left in a store that died and wrote last before a time.

    Args:
        folder: has a folder for each run; ends with a slash.
        written: the files that are ours in that of a run. Where there are others, nothing is deleted.
    """
    runs: dict[str, dict[str, float]] = {}
    for name, entry in store.entries(folder).items():
        run, _, file = name.removeprefix(folder).partition("/")
        runs.setdefault(run, {})[file] = entry.modified
    for run, found in runs.items():
        if "_SUCCESS" not in found and max(found.values()) < before and all(map(written.fullmatch, found)):
            store.delete([f"{folder}{run}/{file}" for file in found])
            log.info("%s/%s%s: is removed, as it is older than the runs that stay", store.uri, folder, run)


def remove_stored_run(store: Store, folder: str) -> None:
    """Remove a finished run from a store; one that holds anything that no run wrote is kept, with a warning.

    Args:
        folder: of the run; ends with a slash.
    """
    names = sorted(store.entries(folder), key=lambda name: not name.endswith("/_SUCCESS"))
    if found := [name for name in names if not OUTPUT.fullmatch(name.removeprefix(folder))]:
        log.warning("%s/%s: is kept, as no run wrote %s", store.uri, folder, some(found, 3))
        return
    store.delete(names)


def _remove_unfinished(place: LocalOutput) -> None:
    try:
        lock = LocalLock(place.working, place.output)
    except BusyError:  # started again just now
        return
    try:
        place.recover()
        if files.exists(place.working / "replaced"):  # the only copy of a finished run, and something is in its place
            log.warning("%s: is kept, as it has a finished run that could not be moved back", place.working)
        elif left := [name for name in files.remove_written(place.working, BUT_THE_LOCK) if name != "lock"]:
            log.warning("%s: is kept, as no run wrote %s", place.working, some(left, 3))
        else:
            log.info("%s: what an unfinished run left is removed, as it is older than the runs that stay", place.name)
    finally:
        lock.release()


def _working(run: Path) -> Path:
    return LocalOutput(str(run), run).working


def _changed(directory: Path) -> float:
    """When anything in a directory changed last."""
    paths = (Path(root, name) for root, _, names in os.walk(directory) for name in (".", *names))
    try:
        return max((os.lstat(path).st_mtime for path in paths), default=0.0)
    except FileNotFoundError:  # just now
        return math.inf
