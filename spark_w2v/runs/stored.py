"""An output in a store: whole runs, a pointer to the current one, and what a run needs to be resumed on another host.

CURRENT                   "runs/ID"; readers follow it, so they find the old run or the new one
runs/ID/                  a finished output, never changed
.working/lock, ...        store_lock.py
.working/checkpoints/     stored_checkpoints.py
"""

import contextlib
import logging
import re
import shutil
import uuid
from pathlib import Path

from spark_w2v.errors import UserError
from spark_w2v.runs.checkpoints import Checkpoint
from spark_w2v.runs.local import run_name
from spark_w2v.runs.names import FINISHED, OUTPUT, is_later
from spark_w2v.runs.old_runs import remove_stored, remove_stored_run
from spark_w2v.runs.processes import scratch_directory, temporary_files
from spark_w2v.runs.store_lock import FOLDER, LostError, StoreLock
from spark_w2v.runs.stored_checkpoints import NAME as CHECKPOINT
from spark_w2v.runs.stored_checkpoints import StoredCheckpoints
from spark_w2v.storage.files import best_effort
from spark_w2v.storage.store import Entry, Store, open_store
from spark_w2v.text.messages import some

log = logging.getLogger(__name__)

CURRENT, RUNS, CHECKPOINTS = "CURRENT", "runs/", f"{FOLDER}checkpoints/"
POINTER = re.compile(rb"runs/[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\n?")
RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")  # of runs without an id, which the next but one removes


class StoredOutput:
    """A directory of a store, as runs write it and readers see it.

    Args:
        output: a URI.
        run_id: of the run that is to be written; None for a new name.
        move_pointer: make the new run the one that readers get.
        keep_runs: finished runs that stay when it is published, the newest; 0 for all with an id, and of those without
            one the new run and the one before.
    """

    def __init__(
        self, output: str, run_id: str | None = None, *, move_pointer: bool = True, keep_runs: int = 0
    ) -> None:
        self.output = output.rstrip("/")
        self._working: Path | None = None  # of this host, made by prepare
        self._store: Store = open_store(output)
        self._run_id = run_id
        self._moves = move_pointer
        self._keep_runs = keep_runs
        self._checkpoints: StoredCheckpoints | None = None  # while the lock is held

    @property
    def working(self) -> Path:
        """The working directory, of this host, once prepare has made it."""
        assert self._working is not None, "prepare made it"
        return self._working

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.output if self._run_id is None else f"{self.output}/{RUNS}{self._run_id}"

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse an output that no run may write to; a file is written and deleted to find out.

        Raises:
            UserError: it holds something else, or a finished run, or the store does not let us write.
            StorageError: it cannot be known now.
        """
        if found := [name for name, entry in sorted(self._store.entries().items()) if not self._may_stay(name, entry)]:
            raise UserError(
                f"{self.output}: holds {some(found, 3)}, which no run wrote, so it is not touched, even with "
                "--overwrite; give another directory, or empty this one."
            )
        self.check_finished(overwrite=overwrite, resume=resume)
        self.current()  # which is moved at the end
        self._store.write(name := f"{FOLDER}probe-{uuid.uuid4().hex}", b"")
        self._store.delete([name])

    def check_finished(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse to replace what is there.

        Raises:
            UserError, StorageError: as check does.
        """
        if self._run_id is not None and overwrite and self.has_run(self._run_id):
            raise UserError(
                f"{self.output}: holds a finished run {self._run_id}, which others may be reading; give another "
                "--run-id, as a run in a store is never changed."
            )
        if self.is_finished() and not overwrite and not resume:
            raise UserError(
                f"{self.output}: holds a finished output; give --overwrite to replace it, or another directory."
            )

    def current(self) -> str | None:
        """Return the id of the run that the pointer names; None where there is none.

        Raises:
            UserError: the content of the pointer file is not a run.
        """
        content = self._store.read(CURRENT)
        if content is None:
            return None
        if not POINTER.fullmatch(content):
            raise UserError(f"{self.output}: its file CURRENT names no run; give another directory, or remove it.")
        return content.decode().strip().removeprefix(RUNS)

    def has_run(self, run: str) -> bool:
        """Whether there is a finished run of this id."""
        return {f"{RUNS}{run}/{name}" for name in FINISHED} <= self._store.entries(f"{RUNS}{run}/").keys()

    def is_finished(self) -> bool:
        """Whether the run of the id is finished, or, without an id, any run that readers get."""
        run = self._run_id or self.current()
        return run is not None and self.has_run(run)

    def run_facts(self) -> bytes:
        """Return the run.json of the finished run."""
        return self._store.read(f"{RUNS}{self._run_id or self.current()}/run.json") or b""

    def prepare(self) -> list[Path]:
        """Make the working directory, of this process alone; those of processes that died are removed."""
        self._working = scratch_directory()
        return []

    def lock(self) -> StoreLock:
        """Take the output for this run, and finish the publication of a run that died in the middle of it."""
        with contextlib.ExitStack() as undone:
            undone.callback(self.leave)
            lock = StoreLock(self._store)
            undone.callback(lock.release)
            if (run := lock.publishes) is not None:
                if f"{RUNS}{run}/run.json" in self._store.entries(f"{RUNS}{run}/"):
                    log.warning("%s: run %s is published, as it ended while it did so", self.output, run)
                    self._finish(run, lock, self._store.read(CURRENT))
                else:
                    log.warning("%s: run %s is not published, as its files were removed", self.output, run)
                    lock.published()
            undone.pop_all()
        self._checkpoints = StoredCheckpoints(self._store, f"{CHECKPOINTS}{self._run_id or 'run'}/", lock)
        return lock

    def recover(self) -> None:
        """Nothing to do: no output is ever moved away."""

    def has_checkpoint(self, _folder: Path) -> bool:
        """Whether an earlier run left one in the store, whole or not."""
        return self._checkpoints is not None and self._checkpoints.has_any()

    def newest_checkpoint(self, folder: Path, metrics: Path) -> Checkpoint | None:
        """Copy the newest whole checkpoint to a folder of this host, and its metrics."""
        assert self._checkpoints is not None, "the lock is held"
        return self._checkpoints.fetch_newest(folder, metrics)

    def keep(self, checkpoint: Path, metrics: Path) -> None:
        """Begin to upload a checkpoint, which stays as it is until `wait`."""
        assert self._checkpoints is not None, "the lock is held"
        self._checkpoints.begin(checkpoint, metrics.read_bytes() if metrics.exists() else b"")

    def wait(self) -> None:
        """Return when the upload is complete; raise StorageError where it failed."""
        if self._checkpoints is not None:
            self._checkpoints.wait()

    def forget(self) -> None:
        """Delete all checkpoints in the store."""
        if self._checkpoints is not None:
            self._checkpoints.delete()

    def leave(self) -> None:
        """Wait for the upload, and remove the working directory."""
        with contextlib.ExitStack() as at_the_end:
            if self._working is not None:  # only what prepare made: an empty path would be the current directory
                at_the_end.callback(shutil.rmtree, self._working, ignore_errors=True)
            if self._checkpoints is not None:
                self._checkpoints.close()

    def publish(self, staged: Path, lock: StoreLock) -> None:
        """Upload a finished output and move the pointer there.

        All but _SUCCESS is uploaded before the lock is claimed: from then on a run that takes over does the rest.

        Raises:
            LostError: another run has taken over, and readers see nothing of this one.
        """
        run = self._run_id or run_name()
        pointer, before = self._store.read(CURRENT), self.current()
        prefix, uploaded = f"{RUNS}{run}/", set[str]()
        self._store.delete(self._written(prefix))  # half of a run that died
        for file in sorted(path for path in staged.rglob("*") if path.is_file() and path.name != "_SUCCESS"):
            name = prefix + file.relative_to(staged).as_posix()
            self._store.upload(name, file)
            uploaded.add(name)
            lock.assert_held()
        self._store.delete(self._written(prefix) - uploaded)  # what a run that was taken over uploaded late
        if self._moves:
            lock.claim(run)
            self._finish(run, lock, pointer)
            self._remove_old(run, before)
        else:
            lock.assert_held()
            self._store.write(f"{RUNS}{run}/_SUCCESS", b"")
        shutil.rmtree(staged)

    def _written(self, prefix: str) -> set[str]:
        return {name for name in self._store.entries(prefix) if OUTPUT.fullmatch(name.removeprefix(prefix))}

    def _may_stay(self, name: str, entry: Entry) -> bool:
        """Whether a file may stay where a run is written: other runs are not touched, whatever they hold."""
        if not entry.size and f"{name}/" in (RUNS, FOLDER, f"{RUNS}{self._run_id}/"):  # a folder that a console made
            return True
        if name.startswith(RUNS):
            run, _, file = name.removeprefix(RUNS).partition("/")
            return run != self._run_id or OUTPUT.fullmatch(file) is not None
        return name == CURRENT or name.startswith(FOLDER)

    def runs(self) -> list[str]:
        """Return the ids of all finished runs, the oldest first."""
        files = self._store.entries(RUNS)
        ids = {name.removeprefix(RUNS).partition("/")[0] for name in files}
        whole = [run for run in ids if {f"{RUNS}{run}/{name}" for name in FINISHED} <= files.keys()]
        return sorted(whole, key=lambda run: (files[f"{RUNS}{run}/_SUCCESS"].modified, run))

    def move_pointer(self, run: str, if_later: bool = False) -> str | None:
        """Make a finished run the one that readers get; return the id of the one before.

        Args:
            if_later: the pointer stays where its run has a later date.

        Raises:
            UserError: there is no such run.
        """
        if not self.has_run(run):
            raise UserError(f"{self.output}: has no finished run {run}, so CURRENT is not moved there.")
        lock = self.lock()
        try:
            now = before = self.current()
            if before is None or not (if_later and is_later(before, run)):
                now = run
                self._point(run, self._store.read(CURRENT))
            if self._keep_runs:
                self._remove_old(str(now), before)
        finally:
            self.leave()
            lock.release()
        return before

    def download(self, run: str, directory: Path) -> None:
        """Copy the files of a run that runs write to a directory of this host."""
        prefix = f"{RUNS}{run}/"
        for name in self._store.entries(prefix):
            if OUTPUT.fullmatch(file := name.removeprefix(prefix)):
                path = directory / file
                with temporary_files():
                    path.parent.mkdir(parents=True, exist_ok=True)
                self._store.download(name, path)

    def upload(self, run: str, name: str, path: Path) -> None:
        """Add a file to a run, such as its report."""
        self._store.upload(f"{RUNS}{run}/{name}", path)

    def _finish(self, run: str, lock: StoreLock, pointer: bytes | None) -> None:
        """Complete a run of which everything else is there. If it fails, the next run does it again."""
        self._store.write(f"{RUNS}{run}/_SUCCESS", b"")
        try:
            self._point(run, pointer)
        except LostError:
            lock.published()  # another run was, and the next one is not to move the pointer back
            raise
        lock.published()

    def _point(self, run: str, pointer: bytes | None) -> None:
        """Move the pointer, if it still has the content that it had when the lock was this run's for certain."""
        content = f"{RUNS}{run}\n".encode()
        if not self._store.replace(CURRENT, pointer, content) and self._store.read(CURRENT) != content:
            raise LostError(f"{self.output}: CURRENT was moved by another run, so it is left there.")

    def _remove_old(self, run: str, before: str | None) -> None:
        """Remove runs beyond the limit, and what was left by runs that died: without an id, or older than the limit."""
        keep = self._keep_runs
        with best_effort(f"{self.output}: earlier runs were not removed"):
            files, finished = self._store.entries(RUNS), self.runs()
            if keep:
                kept: set[str | None] = {run, before if keep > 1 else run, *finished[-keep:]}
            else:
                kept = {run, before} | {name for name in finished if not RUN.fullmatch(name)}
            names = {name.removeprefix(RUNS).partition("/")[0] for name in files}
            for name in sorted(name for name in names - kept if name in finished or RUN.fullmatch(name)):
                remove_stored_run(self._store, f"{RUNS}{name}/")
            if keep and len(finished) >= keep:
                oldest = files[f"{RUNS}{finished[-keep]}/_SUCCESS"].modified
                for folder, written in ((RUNS, OUTPUT), (CHECKPOINTS, CHECKPOINT)):
                    remove_stored(self._store, folder, written, oldest)
