"""A directory of runs, and the current one, which readers get.

    DIR/
      runs/RUN_ID/     outputs of finished runs
      current          symbolic link to runs/RUN_ID; moved in one step, never missing once it was there

The link is relative, so that DIR may be copied, moved or mounted elsewhere. In a store, where there are no links, the
file CURRENT is in its place (stored.py).
"""

import atexit
import contextlib
import errno
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.local_lock import held
from spark_w2v.runs.names import FINISHED, PENDING, RUN_ID, is_later, marker_of
from spark_w2v.runs.old_runs import move_away, remove
from spark_w2v.runs.places import check_password, is_local, local_path
from spark_w2v.runs.processes import scratch_directory
from spark_w2v.runs.stored import StoredOutput
from spark_w2v.storage import files
from spark_w2v.storage.files import ABSENT, best_effort, fsync, reason

log = logging.getLogger(__name__)

CURRENT, RUNS = "current", "runs"


def check_run_id(run_id: str) -> None:
    """Refuse a run id that cannot be the name of a directory."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError(
            f"run id {run_id[:140]!r}: may have letters, digits and . _ + - only, begins with a letter or a digit, and "
            "has 128 characters at most; give a date, such as 20261101."
        )


def output_of(directory: str, run_id: str) -> str:
    """Return the directory that a run of this id writes to, in a directory of this host.

    Raises:
        UserError: for an invalid run id, and for a directory in which no runs can be kept.
    """
    check_run_id(run_id)
    root = local_path(directory)
    if _exists(root / "_SUCCESS"):
        raise UserError(f"{directory}: is itself the output of a run; give a directory to keep runs in.")
    _linked(root)
    return str(root / RUNS / run_id)


def current(directory: str) -> str | None:
    """Return the id of the run that readers get; None where there is none yet."""
    if not is_local(directory):
        return StoredOutput(directory).current()
    return _linked(local_path(directory))


def is_finished(output: str) -> bool:
    """Whether a run of this id has finished.

    Raises:
        StorageError: it cannot be known now.
    """
    return all(_exists(local_path(output) / name) for name in ("_SUCCESS", "run.json"))


def move_current(directory: str, run_id: str, keep_runs: int = 0, if_later: bool = False) -> str | None:
    """Make a finished run the one that readers get, in one step; return the id of the one before.

    Args:
        keep_runs: finished runs that stay, the newest, and the current one; 0 for all.
        if_later: current stays where its run has a later date.

    Raises:
        UserError: when there is no such finished run, or current was not made by this module.
        StorageError: when the storage refuses; current is as it was.
    """
    if not is_local(directory):
        check_run_id(run_id)
        return StoredOutput(directory, keep_runs=keep_runs).move_pointer(run_id, if_later)
    output = output_of(directory, run_id)
    root = local_path(directory)
    left = f"{directory}: earlier runs were not removed"
    oldest = None
    with _held(root):
        if not is_finished(output):
            raise UserError(f"{output}: has no finished run, so current is not moved there.")
        now = before = _linked(root)
        if before is None or not (if_later and is_later(before, run_id)):
            now = run_id
            if before != run_id:
                _link(root, run_id)
            _forget_pending(local_path(output))
        if keep_runs:
            with best_effort(left):
                oldest = move_away(root / RUNS, keep_runs, str(now), before)
    if keep_runs:  # which may take minutes
        with best_effort(left):
            remove(root / RUNS, oldest)
    return before


@contextlib.contextmanager
def _held(root: Path) -> Iterator[None]:
    """Hold a directory of runs while its link is moved; one that is not there has no runs."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(root))
        except OSError as error:
            if error.errno not in ABSENT:
                raise StorageError(f"{root}: cannot be opened now ({reason(error)}).") from None
        yield


def _forget_pending(run: Path) -> None:
    """Forget that current has yet to be moved to this run, or to one that finished earlier: that would move it back."""
    with contextlib.suppress(OSError):
        for marker in run.parent.glob(f".*{PENDING}"):
            other = run.parent / marker.name[1 : -len(PENDING)]
            if not marker.is_file() or marker.stat().st_size:  # ours are empty
                continue
            if other == run or (is_finished(str(other)) and _finished_at(other) <= _finished_at(run)):
                marker.unlink()


def _finished_at(run: Path) -> float:
    return (run / "_SUCCESS").stat().st_mtime


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
    """Remember that current has yet to be moved to this run, in case its process dies before that."""
    marker = marker_of(local_path(output))
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise StorageError(f"{marker}: could not be written ({reason(error)}).") from None


def is_pending(output: str) -> bool:
    return _exists(marker_of(local_path(output)))


def directory_of(output: str) -> Path:
    """Return the directory to read: the output of a run, or of the current run of a directory of runs.

    Links are followed once, here: a reader stays with one run, whatever current is moved to while it reads. A run in a
    store is copied to a temporary directory, which is removed when the process ends.

    Raises:
        UserError: there is no finished run in the store, or a password in the path.
    """
    check_password(output)
    if not is_local(output):
        return _fetched(output)
    root = local_path(output)
    if not _exists(root / "_SUCCESS") and _exists(root / CURRENT):
        return local_path(str(root / CURRENT))
    return root


@contextlib.contextmanager
def reading(output: str) -> Iterator[Path]:
    """The directory of `directory_of`, while it is read: of a run in a store the copy is removed afterwards."""
    directory = directory_of(output)
    try:
        yield directory
    finally:
        if not is_local(output):
            shutil.rmtree(directory.parent, ignore_errors=True)


def _stored_run(output: str) -> tuple[StoredOutput, str]:
    """Return the run that a URI means: DIR/runs/ID, or the current one of DIR."""
    stored = StoredOutput(output)
    run = stored.current()
    root, _, name = stored.output.rpartition(f"/{RUNS}/")
    if run is None and root and RUN_ID.fullmatch(name):
        stored, run = StoredOutput(root), name
    if run is None or not stored.has_run(run):
        raise UserError(f"{output}: has no finished run; give the output of one.")
    return stored, run


def _fetched(output: str) -> Path:
    scratch = scratch_directory()
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    for _ in range(3):
        stored, run = _stored_run(output)
        directory = scratch / run
        with contextlib.suppress(FileNotFoundError):
            stored.download(run, directory)
            # _SUCCESS is the first file that goes: where it still is, nothing was missing.
            if stored.has_run(run) and all((directory / name).exists() for name in FINISHED):
                return directory
        shutil.rmtree(directory, ignore_errors=True)  # it was replaced twice, or removed, meanwhile
    raise StorageError(f"{output}: is replaced faster than it can be read; try again.")


def add_file(output: str, path: Path) -> str:
    """Add a file, such as a report, to the run in a store that directory_of copied; return its URI.

    Args:
        path: in that copy.
    """
    run = path.parent.name
    stored, now = _stored_run(output)
    if run != now and not stored.has_run(run):
        raise StorageError(f"{output}: run {run} was removed meanwhile; try again.")
    stored.upload(run, path.name, path)
    return f"{stored.output}/{RUNS}/{run}/{path.name}"


def holds_runs(output: str) -> bool:
    """Whether this is a directory of runs without a current one yet."""
    if not is_local(output):
        stored = StoredOutput(output)
        return stored.current() is None and bool(stored.runs())
    root = local_path(output)
    return _exists(root / RUNS) and _linked(root) is None


def _linked(root: Path) -> str | None:
    """Return the run id that current names; refuse a link that this module did not make, which must not be replaced."""
    link = root / CURRENT
    try:
        target = os.readlink(link)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise StorageError(f"{link}: cannot be read ({reason(error)}).") from None
        target = ""  # not a link
    run_id = target.removeprefix(RUNS + os.sep)
    if run_id == target or not RUN_ID.fullmatch(run_id):
        raise UserError(f"{link}: is not a link to one of {root / RUNS}, so it is not replaced; move it away.")
    return run_id


def _exists(path: Path) -> bool:
    try:
        return files.exists(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be looked at now ({reason(error)}).") from None
