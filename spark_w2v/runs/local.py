"""An output on a file system of this host: a directory, with a hidden working directory next to it.

.NAME.working/
  lock             the process at work, its host and start; touched while that process lives
  checkpoints/     the newest complete state of training, and the parameters while they are trained
  metrics.jsonl    one object per epoch
  staged.TOKEN/    the output, complete before it is moved to NAME in one step; of one run only
"""

import contextlib
import ctypes
import errno
import logging
import os
import re
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.checkpoints import Checkpoint, newest_checkpoint, numbered
from spark_w2v.runs.local_lock import LocalLock
from spark_w2v.runs.names import ANY_CHECKPOINT, FINISHED, OUTPUT, STILL_OPEN, WORKING
from spark_w2v.storage.files import MISTAKES, exists, fsync, kind_of, open_file, reason, remove_written, strangers
from spark_w2v.text.messages import some

log = logging.getLogger(__name__)

LARGEST_RUN_FACTS = 256 << 20  # bytes of run.json; the fingerprint of a corpus may name a million files


def run_name() -> str:
    """Return a unique name with the time in it."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"


class LocalOutput(NamedTuple):
    """An output directory on this host's file systems; only names that match `written` may be removed from it."""

    output: str
    target: Path
    written: re.Pattern[str] = OUTPUT

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.output

    @property
    def working(self) -> Path:
        return self.target.parent / f".{self.target.name}.working"

    def lock(self) -> LocalLock:
        """Take the working directory for this run."""
        return LocalLock(self.working, self.output)

    def recover(self) -> None:
        """Move the output back that a run was replacing when it died."""
        replaced = self.working / "replaced"
        if not exists(replaced):
            return
        entries = self.entries()
        if not entries:
            log.warning("%s: moved back, as a run died while it replaced it", self.output)
            if entries is not None:  # somebody made it meanwhile
                os.rmdir(self.target)
            os.rename(replaced, self.target)
        elif FINISHED.issubset(entries):
            self.discard(replaced)

    def has_checkpoint(self, folder: Path) -> bool:
        """Whether an earlier run left one, whole or not."""
        return bool(numbered(folder))

    def newest_checkpoint(self, folder: Path, metrics: Path) -> Checkpoint | None:
        """Return the newest whole checkpoint of the working directory."""
        del metrics  # it is there already
        return newest_checkpoint(folder)

    def keep(self, checkpoint: Path, metrics: Path) -> None:
        """Nothing to do: a checkpoint is safe where it was made."""

    def wait(self) -> None:
        """Nothing to wait for."""

    def forget(self) -> None:
        """Nothing to do: there is only the working directory to remove."""

    def leave(self) -> None:
        """Nothing to do: there is only the lock to close."""

    def prepare(self) -> list[Path]:
        """Make the parent of the working directory; return what was made, outermost first."""
        return _make_parents(self.working.parent)

    def entries(self) -> list[str] | None:
        """Return the names in the directory; None where there is no directory."""
        try:
            return os.listdir(self.target)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self.output}: is not a directory, or is inside of something that is none.") from None
        except OSError as error:
            raise StorageError(f"{self.output}: cannot be read ({reason(error)}).") from None

    def is_finished(self) -> bool:
        """Whether there is a finished output."""
        return FINISHED.issubset(self.entries() or ())

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse an output that no run may write to; writes nothing.

        Raises:
            UserError: it holds something else, or a finished output, or cannot be made.
            StorageError: it cannot be known now.
        """
        self.check_finished(overwrite=overwrite, resume=resume)
        if overwrite and self.entries() and (found := self.strangers()):
            raise UserError(
                f"{self.output}: holds {some(found, 3)}, which no run wrote, so --overwrite does not replace it; "
                "move that away, or give another directory."
            )
        self._check_working(resume)

    def check_finished(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse to replace what is there; what came into an output while its successor was trained is kept later.

        Raises:
            UserError, StorageError: as check does.
        """
        entries = self.entries()
        if entries is not None and os.path.ismount(self.target):
            # The kernel would say so when the training is done, and another try would not help.
            raise UserError(
                f"{self.output}: is a mount point, which cannot be replaced as a whole; give a directory in it, such "
                f"as {self.output.rstrip('/')}/vectors."
            )
        if entries and not FINISHED.issubset(entries):
            raise UserError(
                f"{self.output}: holds files that no finished run wrote (there is no run.json with a _SUCCESS), so it "
                "is not touched, even with --overwrite; give another directory, or empty this one."
            )
        if entries and not overwrite and not resume:
            raise UserError(
                f"{self.output}: holds a finished output; give --overwrite to replace it, or another directory."
            )
        if entries is None:
            self._check_parent()

    def _check_parent(self) -> None:
        try:
            parent = next(p for p in self.target.parents if exists(p))
        except OSError as error:
            raise StorageError(f"{self.output}: cannot be looked at now ({reason(error)}).") from None
        if not parent.is_dir():
            raise UserError(f"{self.output}: cannot be made, as {parent} is not a directory.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{self.output}: cannot be made, as {parent} may not be written to.")

    def _check_working(self, resume: bool) -> None:
        """Refuse a working directory with anything in it that no run wrote."""
        working = self.working
        try:
            if not exists(working):
                return
            if (kind := kind_of(os.lstat(working).st_mode)) != "a directory":
                raise UserError(f"{working}: is {kind}, and runs work in a directory of that name; move it away.")
            # What was being replaced is moved back, with all that is in it.
            found = [name for name in strangers(working, WORKING) if not name.startswith("replaced/")]
            found = [name for name in found if not STILL_OPEN.fullmatch(name)]
            if resume:
                found = [name for name in found if not (ANY_CHECKPOINT.fullmatch(name) and (working / name).is_file())]
            if found:
                # Of a name that is ours it is something else: a directory, a FIFO.
                is_named = any(WORKING.fullmatch(found[0].rstrip("/") + end) for end in ("", "/"))
                what = f" ({kind_of(os.lstat(working / found[0]).st_mode)})" if is_named else ""
                raise UserError(f"{working}: holds {some(found, 3)}{what}, which no run wrote; move it away.")
        except FileNotFoundError:  # a run that ends removes it
            pass
        except OSError as error:
            error_class = UserError if error.errno in MISTAKES - {errno.EACCES, errno.EPERM} else StorageError
            raise error_class(f"{working}: the working directory cannot be read ({reason(error)}).") from None

    def strangers(self) -> list[str]:
        """Return the paths of a finished output that no run wrote."""
        try:
            return strangers(self.target, self.written)
        except FileNotFoundError:  # replaced meanwhile
            return []
        except OSError as error:
            raise StorageError(f"{self.output}: cannot be read ({reason(error)}).") from None

    def run_facts(self) -> bytes:
        """Return the run.json of the finished output."""
        with open_file(self.target / "run.json") as file:
            return file.read(LARGEST_RUN_FACTS)

    def publish(self, staged: Path, lock: LocalLock | None = None) -> None:
        """Make a directory in the working directory the output, in one step where the kernel can."""
        if lock is not None:
            lock.assert_held()
        # An empty directory too: one of a container's image can be replaced, but not exchanged.
        if not self.entries():
            os.rename(staged, self.target)
        elif not _exchange(staged, self.target):
            # Between these two renames there is no OUTPUT. A run that dies there leaves the old one in replaced/, and
            # the next run moves it back.
            replaced = staged.parent / "replaced"
            os.rename(self.target, replaced)
            try:
                os.rename(staged, self.target)
            except OSError:
                os.rename(replaced, self.target)
                raise
        fsync(self.target.parent)
        for former in (staged, staged.parent / "replaced"):
            with contextlib.suppress(OSError):  # the new output is in place; the next run looks after the old one
                self.discard(former)

    def discard(self, former: Path) -> None:
        """Remove an output that was replaced; anything in it that no run wrote is kept next to the new one."""
        if found := remove_written(former, self.written):
            kept = self.target.with_name(f"{self.target.name}.kept-{run_name()}")
            os.rename(former, kept)
            log.warning("%s: no run wrote %s, so it is now in %s", self.output, some(found, 3), kept)


def _make_parents(directory: Path) -> list[Path]:
    """Make a directory and its missing parents; return those that were made, outermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
    except OSError:
        for path in reversed(made):
            path.rmdir()
        raise
    return made


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; return False where kernel or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here = ctypes.c_int(-100)  # AT_FDCWD
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), ctypes.c_uint(2)) == 0:  # RENAME_EXCHANGE
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))
