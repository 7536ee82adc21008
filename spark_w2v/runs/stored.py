"""An output in a store: whole runs, a pointer to the current one, and what a run needs to be resumed on another host.

    CURRENT                            "runs/ID"; readers follow it, so they find the old run or the new one
    runs/ID/                           a finished output, never changed
    .working/lock, ...                 store_lock.py
    .working/checkpoints/ID/N-TOKEN/   the files of a checkpoint, the metrics up to it, and last the manifest

N counts the checkpoints, TOKEN is the lock's of the run that wrote them, so that a run that was taken over cannot write
over what its successor does. The ID of a run without --run-id is "run" as long as it lives.
"""

import logging
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.names import OUTPUT, POINTER, first_of
from spark_w2v.runs.store_lock import FOLDER, StoreLock
from spark_w2v.storage.store import Store, open_store

log = logging.getLogger(__name__)

CURRENT, RUNS = "CURRENT", "runs/"
RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")  # of runs without an id, which the next but one removes
CHECKPOINT = re.compile(r"([0-9]{8})-[0-9a-f]{32}/(center\.f32|context\.f32|metrics\.jsonl|manifest\.json)")
LARGEST_POINTER = 200  # bytes


class StoredOutput:
    """A directory of a store as runs and readers see it.

    Args:
        output: a URI.
        run_id: of the run that is to be written; None for a new name.
    """

    def __init__(self, output: str, run_id: str | None = None) -> None:
        self.output = output
        self._store: Store = open_store(output)
        self._run_id = run_id

    def current(self) -> str | None:
        """Return the id of the finished run that the pointer names; None where there is none.

        Raises:
            UserError: the pointer file names no run.
        """
        content = self._store.read(CURRENT)
        if content is None:
            return None
        if len(content) > LARGEST_POINTER or not POINTER.fullmatch(content):
            raise UserError(f"{self.output}: its file CURRENT names no run; give another directory, or remove it.")
        return content.decode().strip().removeprefix(RUNS)

    def is_finished(self, run: str) -> bool:
        """Whether there is a whole output of this id."""
        return {f"{RUNS}{run}/_SUCCESS", f"{RUNS}{run}/run.json"} <= self._store.entries(f"{RUNS}{run}/").keys()

    def run_facts(self, run: str) -> bytes | None:
        """Return the run.json of a run."""
        return self._store.read(f"{RUNS}{run}/run.json")

    def strangers(self) -> list[str]:
        """Return the names of files that no run wrote, in order."""
        return [name for name in sorted(self._store.entries()) if not _is_ours(name)]

    def assert_writable(self) -> None:
        """Write and delete a file.

        Raises:
            UserError: the store does not let us, or there is no such bucket.
            StorageError: it cannot now.
        """
        name = f"{FOLDER}probe-{uuid.uuid4().hex}"
        self._store.write(name, b"")
        self._store.delete([name])

    def lock(self) -> StoreLock:
        """Make the output this run's own, and finish the publication of a run that died in the middle of it."""
        lock = StoreLock(self._store)
        if lock.published is not None and self.is_finished(lock.published):
            log.warning("%s: run %s is published, as it died while it did so", self.output, lock.published)
            self._point(lock.published)
        return lock

    def publish(self, staged: Path, lock: StoreLock, *, move_pointer: bool = True) -> str:
        """Upload a finished output and move the pointer there; the id of the run.

        Raises:
            LostError: another run has taken over, and the pointer is as it was.
        """
        run = self._run_id or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        before = self.current()
        files = [path for path in staged.rglob("*") if path.is_file()]
        for file in sorted(files, key=lambda path: (path.name == "_SUCCESS", path)):
            self._store.upload(f"{RUNS}{run}/{file.relative_to(staged).as_posix()}", file)
        lock.assert_held()
        if move_pointer:
            lock.claim(run)
            self._point(run)
            self._remove_old({run, before})
        return run

    def runs(self) -> list[str]:
        """Return the ids of all finished runs, the oldest first."""
        ended = {
            name.removeprefix(RUNS).removesuffix("/_SUCCESS"): entry.modified
            for name, entry in self._store.entries(RUNS).items()
            if name.endswith("/_SUCCESS")
        }
        return sorted(ended, key=lambda run: (ended[run], run))

    def remove(self, run: str) -> None:
        """Remove a run; one that holds anything that no run wrote is kept, with a warning."""
        prefix = f"{RUNS}{run}/"
        names = sorted(self._store.entries(prefix), key=lambda name: not name.endswith("/_SUCCESS"))
        if found := [name for name in names if not OUTPUT.fullmatch(name.removeprefix(prefix))]:
            log.warning("%s/%s: is kept, as no run wrote %s", self.output, prefix, first_of(found))
            return
        self._store.delete(names)

    def download(self, run: str, directory: Path) -> None:
        """Copy the files of a run that runs write to a directory of this host."""
        prefix = f"{RUNS}{run}/"
        for name in self._store.entries(prefix):
            file = name.removeprefix(prefix)
            if OUTPUT.fullmatch(file):
                path = directory / file
                path.parent.mkdir(parents=True, exist_ok=True)
                self._store.download(name, path)

    def checkpoints(self, token: str) -> "StoredCheckpoints":
        """Return the checkpoints of this run, to be written by the holder of a lock's token."""
        return StoredCheckpoints(self._store, f"{FOLDER}checkpoints/{self._run_id or 'run'}/", token)

    def _point(self, run: str) -> None:
        content = f"{RUNS}{run}\n".encode()
        for _ in range(3):
            if self._store.replace(CURRENT, self._store.read(CURRENT), content):
                return
        raise StorageError(f"{self.output}: CURRENT is changed by others all the time; try again.")

    def _remove_old(self, keep: set[str | None]) -> None:
        names = {name.removeprefix(RUNS).partition("/")[0] for name in self._store.entries(RUNS)}
        for run in names - keep:
            if RUN.fullmatch(run):
                self.remove(run)


class StoredCheckpoints:
    """Checkpoints of one run in a store, uploaded while it goes on.

    Args:
        folder: where they are, ending with a slash.
        token: of the lock.
    """

    def __init__(self, store: Store, folder: str, token: str) -> None:
        self._store, self._folder, self._token = store, folder, token
        self._thread = ThreadPoolExecutor(1, "checkpoint upload")
        self._upload: Future[None] | None = None

    def wait(self) -> None:
        """Return when the upload that was begun has ended.

        Raises:
            StorageError: it failed.
        """
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.result()

    def begin(self, number: int, directory: Path, metrics: bytes, lock: StoreLock) -> None:
        """Upload a checkpoint in the background; the ones before are deleted when it is complete.

        Args:
            directory: stays as it is until `wait`.
        """
        self.wait()
        self._upload = self._thread.submit(self._put, number, directory, metrics, lock)

    def _put(self, number: int, directory: Path, metrics: bytes, lock: StoreLock) -> None:
        place = f"{self._folder}{number:08d}-{self._token}/"
        self._store.write(f"{place}metrics.jsonl", metrics)
        for name in ("center.f32", "context.f32", "manifest.json"):
            self._store.upload(place + name, directory / name)
        lock.assert_held()
        self._store.delete([name for name in self._files() if not name.startswith(place)])

    def newest_first(self) -> Iterator[tuple[int, str]]:
        """The number and the folder of each complete checkpoint."""
        whole = {name.rpartition("/")[0] for name in self._files() if name.endswith("/manifest.json")}
        for place in sorted(whole, reverse=True):
            yield int(place.removeprefix(self._folder)[:8]), f"{place}/"

    def fetch(self, place: str, directory: Path) -> bytes:
        """Copy a checkpoint to a new directory of this host; the metrics up to it."""
        directory.mkdir(parents=True)
        for name in ("center.f32", "context.f32", "manifest.json"):
            self._store.download(place + name, directory / name)
        return self._store.read(f"{place}metrics.jsonl") or b""

    def close(self, *, remove: bool) -> None:
        """Wait for the upload, and remove all checkpoints if that is wanted."""
        try:
            self.wait()
        except StorageError as error:
            log.warning("the last checkpoint was not uploaded: %s", error)
        self._thread.shutdown()
        if remove:
            self._store.delete(self._files())

    def _files(self) -> list[str]:
        names = self._store.entries(self._folder)
        return [name for name in names if CHECKPOINT.fullmatch(name.removeprefix(self._folder))]


def scratch_directory() -> Path:
    """Return a new directory of this host, where a run keeps what it uploads."""
    return Path(tempfile.mkdtemp(prefix="spark_w2v-"))


def _is_ours(name: str) -> bool:
    if name.startswith(RUNS):
        return OUTPUT.fullmatch(name.removeprefix(RUNS).partition("/")[2]) is not None
    return name == CURRENT or name.startswith(FOLDER)
