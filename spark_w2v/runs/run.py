"""A run: it takes an output, keeps what it needs to be resumed, and publishes a whole output or nothing.

A finished output keeps no checkpoints: context/ has the other matrix, which is all that further training needs.

A run writes only names that match OUTPUT and WORKING (names.py). Nothing else is ever removed or overwritten: a run
that would have to is refused before it begins. Files that appear in an output while its successor is trained are kept.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import metrics as metrics_file
from spark_w2v.runs import parameter_files
from spark_w2v.runs.checkpoints import Checkpoint, Position, numbered, remove_unfinished, to_json, write_checkpoint
from spark_w2v.runs.fingerprint import differences, stored_in
from spark_w2v.runs.names import OUTPUT
from spark_w2v.runs.outputs import Output
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.storage.files import MISTAKES, fsync, fsync_tree, reason, remove_written

log = logging.getLogger(__name__)


class Run:
    """One run, which holds its output until the context is left.

    Args:
        overwrite: a finished output may be replaced, once the new one is complete.
        resume: go on from the newest checkpoint of an unfinished run.
        fingerprint: what must be the same for a resumed run to have the same result; JSON-able. What is known later,
            such as the vocabulary, is added by identify.
        keeps_finished: a finished output of the same fingerprint is no mistake: the run is published already.
        tolerates_changes: of a run with another fingerprint the checkpoint is removed, and the finished output is kept.

    Raises:
        UserError: for an output that may not be written to, that another run is at work on, or whose checkpoint is
            of another configuration or corpus. Nothing is left behind.
        StorageError: the storage refuses now.
    """

    def __init__(
        self,
        place: Output,
        *,
        overwrite: bool,
        resume: bool,
        fingerprint: Mapping[str, Any],
        keeps_finished: bool = False,
        tolerates_changes: bool = False,
    ) -> None:
        place.check(overwrite=overwrite, resume=resume or keeps_finished)
        self.output = place.output
        self.is_published = False
        self._place = place
        self._overwrite = overwrite
        self._tolerates_changes = tolerates_changes
        self._fingerprint: dict[str, Any] = {}
        self._checkpoint: Checkpoint | None = None
        self._stored: dict[str, Any] | None = None  # the fingerprint of what is resumed
        self._leaves_nothing = False  # but the output, when it is released
        self._has_earlier = False  # what an earlier run left is there, and is to be removed
        self._next = 0
        with self._storage("cannot be prepared", UserError):
            self._made = place.prepare()
        self.working = place.working
        try:
            with self._storage("cannot be prepared", UserError):
                self._lock = place.lock()
        except BaseException:
            self._remove_made()
            raise
        try:
            with self._storage("cannot be prepared"):
                self._begin(resume, keeps_finished)
            self.identify(fingerprint)
        except BaseException:
            self.close()
            raise

    def _begin(self, resume: bool, keeps_finished: bool) -> None:
        self._place.recover()
        # Only now: it, and taking the lock, may have completed the publication of a run that died.
        resume = resume or (keeps_finished and not self._overwrite and self._place.is_finished())
        # Again, now that nobody else can be at work.
        self._place.check(overwrite=self._overwrite, resume=resume)
        self._remove_staged()
        remove_unfinished(self.parameters_folder)
        if not resume:
            self._has_earlier = True
            if self._place.has_checkpoint(self.parameters_folder):
                log.warning(
                    "%s: has a checkpoint, which will be removed before the first epoch, as the run was started "
                    "without --resume",
                    self.output,
                )
            return
        self._checkpoint = self._place.newest_checkpoint(self.parameters_folder, self._metrics)
        self._next = 1 + max((int(p.name) for p in numbered(self.parameters_folder)), default=-1)
        self._stored = self._checkpoint.fingerprint if self._checkpoint else None
        if self._place.is_finished() and not self._overwrite:
            published = stored_in(self._place.run_facts)
            self.is_published = True
            self._leaves_nothing = self._stored in (None, published)
            self._stored = published
            return
        with self._storage("metrics.jsonl could not be read"):
            metrics_file.keep(self._metrics, self._checkpoint.metrics_bytes if self._checkpoint else 0)

    @property
    def parameters_folder(self) -> Path:
        """Where training makes its ParameterFiles, which save_checkpoint renames; removed with what is left in it."""
        return self.working / "checkpoints"

    @property
    def _metrics(self) -> Path:
        return self.working / "metrics.jsonl"

    def identify(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the fingerprint that became known after the start; refuse those that differ from the stored."""
        given = json.loads(to_json(facts))
        found = [] if self._stored is None else differences(self._stored, given)
        if found:
            self._differ(", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else ""))
        # Or a checkpoint would lack the section that was there first, and no run could be resumed from it.
        assert not self._fingerprint.keys() & given.keys(), "a section is added once"
        self._fingerprint.update(given)

    def _differ(self, values: str) -> None:
        """Refuse a run that was begun with other values, or begin again."""
        if self._tolerates_changes and self.is_published:
            log.warning("%s: stays as it is, made with other values; --overwrite replaces it: %s", self.output, values)
        elif self._tolerates_changes:
            log.warning("%s: starts again, as its checkpoint is of another run: %s", self.output, values)
            self._checkpoint = self._stored = None
            self._has_earlier = True
        else:
            self._leaves_nothing = False
            why = "cannot be resumed, its checkpoint is of another run; run without --resume to start again"
            if self.is_published:
                change = "give --overwrite to replace it, or another directory or run id"
                why = f"holds the finished output of another run; {change}"
            raise UserError(f"{self.output}: {why}: {values}.")

    def forget_earlier(self) -> None:
        """Remove checkpoints and metrics of an earlier run that this one does not continue.

        A run that is refused before it trains leaves them. Later calls do nothing.
        """
        if self._has_earlier:
            self._lock.assert_held()
            with self._storage("its checkpoint could not be removed"):
                self._remove_training()
                self._place.forget()
            self._has_earlier, self._next = False, 0

    def load_checkpoint(self) -> tuple[Position, ParameterFiles] | None:
        """Return where to go on: the newest complete checkpoint of a resumed run; None to start from the beginning.

        Returns:
            The position, and the parameters as they are mapped from the checkpoint, read-only.
        """
        checkpoint, self._checkpoint = self._checkpoint, None
        return (checkpoint.position, checkpoint.parameters) if checkpoint else None

    def save_checkpoint(self, position: Position, parameters: ParameterFiles) -> None:
        """Make a state of training a checkpoint; the one before is removed when this one is safe.

        Metrics of what the state has seen must be appended before: a resumed run drops those that came after it.

        Args:
            parameters: temporary, in parameters_folder; they belong to the run from here on, and are read-only.
        """
        self.forget_earlier()
        self._lock.assert_held()
        self._place.wait()
        with self._storage("a checkpoint could not be written"):
            size = metrics_file.size(self._metrics)
            checkpoint = Checkpoint(position, parameters, self._fingerprint, size)
            write_checkpoint(self.parameters_folder, self._next, checkpoint, self._lock.assert_held)
        self._place.keep(parameters.directory, self._metrics)
        self._next += 1

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl, on the disk when this returns."""
        self.forget_earlier()
        self._lock.assert_held()
        with self._storage("metrics.jsonl could not be written"):
            metrics_file.append(self._metrics, (to_json(metrics) + "\n").encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics that were appended, also before the run was resumed, except those that were lost."""
        with self._storage("metrics.jsonl could not be read"):
            return [json.loads(line) for line in metrics_file.lines(self._metrics)]

    def publish(self, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Let write fill a directory, add metrics.jsonl, run.json and _SUCCESS, and make it the output in one step.

        Args:
            write: gets an empty directory.
            facts: for run.json, to which the fingerprint is added.
        """
        self.forget_earlier()
        self._lock.assert_held()
        # Of this run only: one whose host was suspended may wake up here after another has taken the output over.
        staged = self.working / f"staged.{self._lock.token}"
        with self._storage("the output could not be written"):
            staged.mkdir()
            try:
                write(staged)
                lines = metrics_file.lines(self._metrics)
                (staged / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
                facts = {**facts, "fingerprint": self._fingerprint}
                text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
                (staged / "run.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
                fsync_tree(staged)
                # _SUCCESS must be the last file to reach the disk.
                (staged / "_SUCCESS").touch()
                fsync(staged / "_SUCCESS")
                fsync(staged)
                self._lock.assert_held()
                self._place.check_finished(overwrite=self._overwrite, resume=False)
                self._place.publish(staged, self._lock)  # type: ignore[arg-type]
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_written(staged, OUTPUT)
                raise
        self.is_published = self._leaves_nothing = True
        self.close()

    def leave_nothing(self) -> None:
        """Let close remove checkpoints and metrics too, as no run can go on from them."""
        self._leaves_nothing = True

    def close(self) -> None:
        """Release the output. The files that a resumed run needs stay, unless the output is published."""
        end = self._lock.release
        try:
            self._lock.assert_held()
            self._tidy()
        except (StorageError, UserError):  # another run's, or perhaps another's: nothing is removed
            end = self._lock.stop
        finally:  # of a notebook that is interrupted here the process lives on, and so would its lock
            try:
                self._place.leave()  # with the last checkpoint safe, which only the holder of the lock may upload
            finally:
                end()
        self._remove_made()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError, StorageError, UserError):
            self._remove_staged()
            self._place.recover()
        with contextlib.suppress(OSError, StorageError, UserError):  # of what cannot be listed, nothing is removed
            remove_unfinished(self.parameters_folder)
            if self._leaves_nothing:
                self._place.forget()  # first, as it waits for an upload, which reads the newest one
            if self._leaves_nothing or not numbered(self.parameters_folder):
                self._remove_training()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remove_made(self) -> None:
        for directory in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: something is kept
                directory.rmdir()

    def _remove_staged(self) -> None:
        """Remove outputs that were staged and not published, or replaced."""
        for path in self.working.iterdir():
            if path.name.startswith("staged"):
                remove_written(path, OUTPUT)

    def _remove_training(self) -> None:
        """Remove checkpoints and metrics."""
        for path in numbered(self.parameters_folder):
            remove_written(path, parameter_files.WRITTEN)
        with contextlib.suppress(OSError):  # not there, or not empty: something of others came meanwhile
            self.parameters_folder.rmdir()
        self._metrics.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _storage(self, what: str, error_class: type[Exception] = StorageError) -> Iterator[None]:
        try:
            yield
        except (OSError, MemoryError) as error:
            if isinstance(error, MemoryError) or error.errno not in MISTAKES:
                error_class = StorageError
            raise error_class(f"{self.output}: {what}: {reason(error)}.") from None
