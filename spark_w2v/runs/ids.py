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
import re
import shutil
import tempfile
import uuid
from pathlib import Path

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.names import OUTPUT, first_of
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.runs.stored import StoredOutput
from spark_w2v.storage import files
from spark_w2v.storage.files import best_effort, fsync, reason

log = logging.getLogger(__name__)

CURRENT, RUNS = "current", "runs"
REMOVED = ".removed"  # ends the names of runs that are being removed
# Names that every file system, shell and reader accepts: Spark accepts no colon in a path, and Hadoop hides files whose
# names begin with a dot or an underscore.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


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


def move_current(directory: str, run_id: str, keep_runs: int = 0) -> str | None:
    """Make a finished run the one that readers get, in one step; return the id of the one before.

    Args:
        keep_runs: finished runs that stay, the newest, and the current one; 0 for all.

    Raises:
        UserError: when there is no such finished run, or current was not made by this module.
        StorageError: when the storage refuses; current is as it was.
    """
    if not is_local(directory):
        check_run_id(run_id)
        return StoredOutput(directory, keep_runs=keep_runs).move_pointer(run_id)
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
    if keep_runs:
        _remove_old(directory, keep_runs)
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


def _remove_old(directory: str, keep: int) -> None:
    """Remove finished runs of a directory of this host except the newest and the current one; failures are warnings.

    A run with a file that no run wrote stays, with a warning.

    Args:
        keep: how many stay, the current one among them if it is one of the newest.
    """
    root = local_path(directory) / RUNS
    with best_effort(f"{directory}: earlier runs were not removed"):
        for left in root.glob(f".*{REMOVED}"):
            files.remove_written(left, OUTPUT)
        now = _linked(root.parent)
        found = [path for path in root.iterdir() if RUN_ID.fullmatch(path.name) and not path.is_symlink()]
        finished = sorted(((path / "_SUCCESS").stat().st_mtime, path.name) for path in found if is_finished(str(path)))
        for _, name in finished[:-keep]:
            if name != now:
                _remove(root / name)


def _remove(run: Path) -> None:
    """Remove a run so that no reader sees a part of it."""
    if found := files.strangers(run, OUTPUT):
        log.warning("%s: is kept, as no run wrote %s", run, first_of(found))
        return
    if files.exists(run.with_name(f".{run.name}.working")):
        return  # a run is about to replace it
    removed = run.with_name(f".{run.name}.{uuid.uuid4().hex}{REMOVED}")
    os.rename(run, removed)
    files.remove_written(removed, OUTPUT)
    _marker(str(run)).unlink(missing_ok=True)


def mark_pending(output: str) -> None:
    """Remember that current has yet to be moved to this run, in case its process dies before that."""
    marker = _marker(output)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise StorageError(f"{marker}: could not be written ({reason(error)}).") from None


def is_pending(output: str) -> bool:
    return _exists(_marker(output))


def directory_of(output: str) -> Path:
    """Return the directory to read: the output of a run, or of the current run of a directory of runs.

    Links are followed once, here: a reader stays with one run, whatever current is moved to while it reads. A run in a
    store is copied to a temporary directory, which is removed when the process ends.

    Raises:
        UserError: there is no finished run in the store.
    """
    if not is_local(output):
        return _fetched(output)
    root = local_path(output)
    if not _exists(root / "_SUCCESS") and _exists(root / CURRENT):
        return local_path(str(root / CURRENT))
    return root


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
    scratch = Path(tempfile.mkdtemp(prefix="spark_w2v-read-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    for _ in range(3):
        stored, run = _stored_run(output)
        directory = scratch / run
        try:
            stored.download(run, directory)
        except FileNotFoundError:  # it was replaced twice meanwhile
            shutil.rmtree(directory, ignore_errors=True)
            continue
        return directory
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


def _marker(output: str) -> Path:
    target = local_path(output)
    return target.with_name(f".{target.name}.pending")


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
