"""Runs of every night in one directory, and the one that readers get.

    DIR/
      runs/RUN_ID/     outputs of finished runs, each as publication.py wrote it
      current          symbolic link to runs/RUN_ID; moved in one step, never absent once it was there

The link is relative, so that DIR may be copied, moved or mounted elsewhere.
"""

import contextlib
import errno
import os
import re
import uuid
from pathlib import Path

from spark_w2v.stages import files
from spark_w2v.stages.files import StorageError, fsync, reason
from spark_w2v.stages.publication import UserError, is_local, local_path

CURRENT, RUNS = "current", "runs"
# What every file system, shell and reader takes as it is: Spark takes no colon in a path, and Hadoop hides what begins
# with a dot or an underscore.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def check_run_id(run_id: str) -> None:
    """Refuse what is no name of one directory."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError(
            f"run id {run_id[:140]!r}: may have letters, digits and . _ + - only, begins with a letter or a digit, and "
            "has 128 characters at most; give a date, such as 20261101."
        )


def output_of(directory: str, run_id: str) -> str:
    """Where a run of this id writes.

    Raises:
        UserError: for a run id that is none, and for a directory in which no runs can be kept.
    """
    check_run_id(run_id)
    if not is_local(directory):
        raise UserError(
            f"{directory}: runs with ids are kept in directories of this host only; leave --run-id out: an output "
            "elsewhere keeps runs, and a pointer to the current one, of its own."
        )
    root = local_path(directory)
    if _exists(root / "_SUCCESS"):
        raise UserError(f"{directory}: is itself the output of a run; give a directory to keep runs in.")
    _linked(root)
    return str(root / RUNS / run_id)


def current(directory: str) -> str | None:
    """The id of the run that readers get; None where there is none yet."""
    return _linked(local_path(directory))


def is_finished(output: str) -> bool:
    """Whether a run of this id has finished.

    Raises:
        StorageError: nobody knows now.
    """
    return all(_exists(local_path(output) / name) for name in ("_SUCCESS", "run.json"))


def move_current(directory: str, run_id: str) -> str | None:
    """Make a finished run the one that readers get, in one step; the id of the one before.

    Raises:
        UserError: when there is no such finished run, or current is not ours.
        StorageError: when the storage refuses; current is as it was.
    """
    output = output_of(directory, run_id)
    if not is_finished(output):
        raise UserError(f"{output}: has no finished run, so current is not moved there.")
    root = local_path(directory)
    before = _linked(root)
    if before != run_id:
        _link(root, run_id)
    with contextlib.suppress(OSError):
        marker = _marker(output)
        if marker.is_file() and not marker.stat().st_size:  # ours are empty
            marker.unlink()
    return before


def _link(root: Path, run_id: str) -> None:
    temporary = root / f".{CURRENT}.{uuid.uuid4().hex}"
    try:
        os.symlink(os.path.join(RUNS, run_id), temporary)
        try:
            os.replace(temporary, root / CURRENT)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        fsync(root)
    except OSError as error:
        raise StorageError(f"{root / CURRENT}: could not be moved to {run_id} ({reason(error)}).") from None


def mark_pending(output: str) -> None:
    """Remember that current has yet to be moved to this run, in case its process dies between the two."""
    marker = _marker(output)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise StorageError(f"{marker}: could not be written ({reason(error)}).") from None


def is_pending(output: str) -> bool:
    return _exists(_marker(output))


def directory_of(output: str) -> Path:
    """The directory to read: the output of a run, or of the current run where a directory of runs is given.

    Links are followed once, here: a reader stays with one run, whatever current is moved to while it reads.

    Raises:
        UserError: it is not on this host.
    """
    if not is_local(output):
        raise UserError(f"{output}: is not on this host; copy it here, or mount it.")
    root = local_path(output)
    if not _exists(root / "_SUCCESS") and _exists(root / CURRENT):
        return local_path(str(root / CURRENT))
    return root


def holds_runs(output: str) -> bool:
    """Whether this is a directory of runs that has no current one yet."""
    root = local_path(output)
    return _exists(root / RUNS) and _linked(root) is None


def _marker(output: str) -> Path:
    target = local_path(output)
    return target.with_name(f".{target.name}.pending")


def _linked(root: Path) -> str | None:
    """The run id that current names; refuses what this module did not make, which must not be replaced."""
    link = root / CURRENT
    try:
        target = os.readlink(link)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise StorageError(f"{link}: cannot be read ({reason(error)}).") from None
        target = ""  # no link
    run_id = target.removeprefix(RUNS + os.sep)
    if run_id == target or not RUN_ID.fullmatch(run_id):
        raise UserError(f"{link}: is not a link to one of {root / RUNS}, so it is not replaced; move it away.")
    return run_id


def _exists(path: Path) -> bool:
    try:
        return files.exists(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be looked at now ({reason(error)}).") from None
