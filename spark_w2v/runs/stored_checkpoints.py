"""Checkpoints in a store, uploaded while training goes on.

    .working/checkpoints/ID/N-TOKEN/   the files of a checkpoint, the metrics up to it, and last the manifest

N counts the checkpoints, TOKEN is that of the lock of the run that wrote them, so that a run that was taken over cannot
overwrite files of its successor. ID is "run" where the run has none.
"""

import contextlib
import logging
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.checkpoints import Checkpoint, newest_checkpoint
from spark_w2v.runs.store_lock import LostError, StoreLock
from spark_w2v.storage.store import Store

log = logging.getLogger(__name__)

FILES = ("center.f32", "context.f32", "manifest.json")  # in the order in which they are written
NAME = re.compile(r"[0-9]{8}-[0-9a-f]{32}/(center\.f32|context\.f32|metrics\.jsonl|manifest\.json)")


class StoredCheckpoints:
    """Checkpoints of one run.

    Args:
        folder: where they are, ending with a slash.
        lock: of the run that writes.
    """

    def __init__(self, store: Store, folder: str, lock: StoreLock) -> None:
        self._store, self._folder, self._lock = store, folder, lock
        self._token = lock.token
        self._thread = ThreadPoolExecutor(1, "checkpoint upload")
        self._upload: Future[None] | None = None
        self._newest: tuple[Path, bytes] | None = None  # of which the upload was begun
        self._is_over = threading.Event()  # set when no more of them is needed
        self._errors: list[StorageError | UserError] = []  # of the last uploads, since one that did not fail

    def wait(self) -> None:
        """Return when the upload that was begun has ended. One that failed is a warning, as the next one replaces it.

        Raises:
            LostError: another run has taken over.
        """
        upload, self._upload = self._upload, None
        if upload is None:
            return
        try:
            upload.result()
        except LostError:
            raise
        except (StorageError, UserError) as error:
            self._errors.append(error)
            log.warning("a checkpoint was not uploaded: %s", error)
        else:
            self._errors.clear()

    def begin(self, directory: Path, metrics: bytes) -> None:
        """Upload a checkpoint in the background; the ones before are deleted when it is complete.

        Args:
            directory: named by its number; stays as it is until `wait`.

        Raises:
            StorageError, UserError: the two before failed; `close` tries this one.
        """
        self.wait()
        self._newest = directory, metrics
        if len(self._errors) > 1:
            raise self._errors[-1]
        self._upload = self._thread.submit(self._put, directory, metrics)

    def _put(self, directory: Path, metrics: bytes) -> None:
        place = f"{self._folder}{directory.name}-{self._token}/"
        self._store.write(f"{place}metrics.jsonl", metrics)
        for name in FILES:
            if self._is_over.is_set():
                return
            self._store.upload(place + name, directory / name)
        self._lock.assert_held()
        self._store.delete([name for name in self._names() if not name.startswith(place)])

    def fetch_newest(self, folder: Path, metrics: Path) -> Checkpoint | None:
        """Copy the newest checkpoint that is complete and undamaged to this host; None where there is none.

        Args:
            folder: of checkpoints.
            metrics: the file that its metrics go to.
        """
        names = self._names()
        for place in sorted({name.rpartition("/")[0] for name in names}, reverse=True):
            if not all(f"{place}/{name}" in names for name in FILES):
                continue  # half of an upload
            directory = folder / place.removeprefix(self._folder)[:8]
            directory.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                self._store.download(f"{place}/{name}", directory / name)
            if (checkpoint := newest_checkpoint(folder)) is not None:
                metrics.write_bytes(self._store.read(f"{place}/metrics.jsonl") or b"")
                return checkpoint
            for name in FILES:  # damaged, as a warning says
                (directory / name).unlink(missing_ok=True)
            directory.rmdir()
        return None

    def has_any(self) -> bool:
        """Whether there are files of checkpoints."""
        return bool(self._names())

    def delete(self) -> None:
        """Delete all checkpoints; of an upload that was begun, the file that is on its way is waited for."""
        self._is_over.set()
        self._finish()
        self._is_over.clear()
        self._newest = None
        self._store.delete(self._names())

    def close(self) -> None:
        """Wait for the upload that was begun; one that failed is tried once more, as its files are here still."""
        self._finish()
        if self._errors and self._newest is not None:
            try:
                self._lock.assert_held()
                self._put(*self._newest)
            except (StorageError, UserError) as error:
                log.warning("the last checkpoint was not uploaded: %s", error)
        self._thread.shutdown()

    def _finish(self) -> None:
        with contextlib.suppress(StorageError, UserError):  # a warning says so, or `close` does
            self.wait()

    def _names(self) -> list[str]:
        names = self._store.entries(self._folder)
        return [name for name in names if NAME.fullmatch(name.removeprefix(self._folder))]
