"""The life of an output directory: locked, checkpointed beside it, published whole or not at all.

While a run lives, everything that it writes is in a hidden sibling of its output, on the same file system:

    .NAME.working/
      lock             who is at work here: process, host, since when; touched while that process lives
      checkpoints/     the newest complete state of training, and the parameters while they are trained
      metrics.jsonl    one object an epoch
      staged/          the output, complete before it is moved to NAME in one step

A finished output keeps no checkpoints: context/ has the other matrix, which is all that going on with training needs.

A path without a scheme, or file:, is a directory that the driver sees. s3: and gs: go through PyArrow, any other scheme
through Hadoop's file systems in the running JVM; the working directory is then in the temporary directory of the
driver's host, so only that host can resume, and only runs of that host exclude each other.

No object store can rename a directory in one step. There an output is

    CURRENT          "runs/ID": one object, so there is the old one or the new one; readers follow it (`current`)
    runs/ID/         a whole output, never changed; the one before stays for those who are reading it
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from spark_w2v.config import ConfigError
from spark_w2v.stages.checkpoints import (
    Checkpoint,
    Position,
    newest_checkpoint,
    numbered,
    remove_unfinished,
    to_json,
    write_checkpoint,
)
from spark_w2v.stages.files import FULL, StorageError, fsync, fsync_tree, reason, remove
from spark_w2v.stages.parameter_files import ParameterFiles

log = logging.getLogger(__name__)

UserError = ConfigError  # one sentence, exit code 2

HEARTBEAT = 15.0  # seconds between two touches of the lock
# Seconds without a touch after which a lock of another host is stale: 20 heartbeats, more than clocks differ or a
# driver that collects garbage stands still.
STALE = 300.0
PIECE = 16 << 20  # bytes copied at a time
STORES = {"s3", "gs"}  # object stores that PyArrow knows
GS_PATIENCE = 20, 900  # seconds that a request to gs is tried again for: at the start, and once there is an output
# Object stores that Hadoop knows, once their jars are there.
HADOOP_STORES = {"s3a", "s3n", "abfs", "abfss", "wasb", "wasbs", "oss", "cosn", "obs"}
POINTER = re.compile(rb"runs/[0-9a-z-]{1,80}\n?")
OURS = {"lock", "checkpoints", "metrics.jsonl", "staged", "replaced"}  # what a working directory may hold


class BusyError(UserError):
    """Another run is at work on the output; once it has ended, trying again helps."""


# Places


def is_local(output: str) -> bool:
    """Whether an output is a path of this host rather than something that needs a running JVM."""
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", output) or output[:5].lower() == "file:"


def local_path(output: str) -> Path:
    """The directory that a local output means: absolute, symbolic links followed, so that links stay links."""
    path = output
    if output[:5].lower() == "file:":
        parts = urlsplit(output)
        if parts.netloc not in ("", "localhost"):
            raise UserError(
                f"{output}: names the host {parts.netloc}; a file: URI must be of this host, as in file:///data/out."
            )
        path = unquote(output[5:] if not output[5:].startswith("//") else parts.path)
    if not path or "\0" in path:
        raise UserError(f"--output {output!r}: is no path; give a directory.")
    if not path.isascii() and re.search("[\ud800-\udfff]", path):  # halves of surrogates: bytes that were no UTF-8
        raise UserError(f"{output!r}: is no UTF-8, which Parquet's writer needs; give another path.")
    try:
        target = Path(os.path.realpath(path))
        if stat.S_ISLNK(os.lstat(target).st_mode):
            raise UserError(f"{output}: is a symbolic link that leads to itself; give a directory.")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise UserError(f"{output}: cannot be an output directory ({reason(error)}).") from None
    if not target.name:
        raise UserError(f"{output}: is the root of a file system; give a directory below it.")
    return target


def check(output: str, *, overwrite: bool, resume: bool = False) -> None:
    """Refuse an output that no run may write to; writes nothing itself and needs no Spark, unless Hadoop must look."""
    _check(_place(output), overwrite=overwrite, resume=resume)


class _Local(NamedTuple):
    """A directory that this host sees."""

    output: str
    target: Path

    @property
    def working(self) -> Path:
        return self.target.parent / f".{self.target.name}.working"

    def prepare(self) -> list[Path]:
        """Make the directory that the working directory goes into; what was made, outermost first."""
        return _make_parents(self.working.parent)

    def entries(self) -> list[str] | None:
        """The names in the directory; None where there is nothing."""
        try:
            return os.listdir(self.target)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self.output}: is not a directory, or is inside of something that is none.") from None
        except OSError as error:
            raise UserError(f"{self.output}: cannot be read ({reason(error)}).") from None

    def run_facts(self) -> bytes:
        return (self.target / "run.json").read_bytes()

    def publish(self, staged: Path) -> None:
        if self.entries() is None:
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


def _working_elsewhere(output: str) -> Path:
    name = hashlib.sha256(output.rstrip("/").encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"spark_w2v-{os.getuid()}" / f"{name}.working"


def _prepare_private(private: Path) -> list[Path]:
    # Everybody may write to the temporary directory, so what stands there under our name may be a trap.
    try:
        private.mkdir(mode=0o700)
    except FileExistsError:
        found = os.lstat(private)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise UserError(f"{private}: is not a directory of this user alone; move it away.") from None
        return []
    return [private]


def _pointed(output: str, content: bytes) -> str:
    """What a pointer file says, checked; it may come from anybody who may write there."""
    if not POINTER.fullmatch(content):
        raise UserError(f"{output}: its file CURRENT names no run; give another directory, or remove it.")
    return content.decode().strip()


class _Store(NamedTuple):
    """A directory of an object store, through PyArrow."""

    output: str

    @property
    def working(self) -> Path:
        return _working_elsewhere(self.output)

    def prepare(self) -> list[Path]:
        return _prepare_private(self.working.parent)

    def _files(self, has_output: bool = False) -> tuple[fs.FileSystem, str]:
        uri = self.output
        if uri[:3].lower() == "gs:" and "retry_limit_seconds=" not in uri:  # by default a wrong name takes 15 minutes
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={GS_PATIENCE[has_output]}"
        try:
            files, path = fs.FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.output}: cannot be opened ({reason(error)[:300].rstrip('.')}).") from None
        return files, path.rstrip("/")

    def current(self) -> str | None:
        """Where the finished output is, without its scheme; None where there is none."""
        files, path = self._files()
        pointer = f"{path}/CURRENT"
        if files.get_file_info(pointer).type != fs.FileType.File:
            return None
        with files.open_input_stream(pointer) as stream:
            return f"{path}/{_pointed(self.output, stream.read(1000))}"

    def entries(self) -> list[str] | None:
        files, path = self._files()
        try:
            found = self.current()
            names = [
                info.base_name for info in files.get_file_info(fs.FileSelector(found or path, allow_not_found=True))
            ]
        except OSError as error:
            raise UserError(f"{self.output}: cannot be opened ({reason(error)[:300].rstrip('.')}).") from None
        # What a run left that died while it wrote is no output, and is removed by the next.
        return names if found or set(names) - {"runs"} else None

    def run_facts(self) -> bytes:
        with self._files()[0].open_input_stream(f"{self.current()}/run.json") as stream:
            return bytes(stream.read())

    def publish(self, staged: Path) -> None:
        files, path = self._files(has_output=True)
        before, run = self.current(), _run_name()
        for file in _success_last(staged):
            name = f"{path}/runs/{run}/{file.relative_to(staged).as_posix()}"
            with open(file, "rb") as source, files.open_output_stream(name) as to:
                shutil.copyfileobj(source, to, PIECE)
        with files.open_output_stream(f"{path}/CURRENT") as to:
            to.write(f"runs/{run}\n".encode())
        for info in files.get_file_info(fs.FileSelector(f"{path}/runs")):
            if info.base_name != run and info.path != before:
                files.delete_dir(info.path)


def _run_name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def _success_last(staged: Path) -> list[Path]:
    """All files of a staged output in the order in which they may be copied."""
    return sorted((p for p in staged.rglob("*") if p.is_file()), key=lambda p: (p.name == "_SUCCESS", p))


class _Remote(NamedTuple):
    """A directory of one of Hadoop's file systems. No rename over a directory there, so no single step."""

    output: str

    @property
    def working(self) -> Path:
        return _working_elsewhere(self.output)

    def prepare(self) -> list[Path]:
        return _prepare_private(self.working.parent)

    @property
    def is_store(self) -> bool:
        return self.output.partition(":")[0].lower() in HADOOP_STORES

    def _current(self) -> tuple[Any, Any, Any]:
        """As _hadoop, with the path of the run that the pointer names, if there is one."""
        files, path, path_class = self._hadoop()
        pointer = path_class(path, "CURRENT")
        if self.is_store and files.exists(pointer):
            stream = files.open(pointer)
            try:
                return files, path_class(path, _pointed(self.output, bytes(stream.readNBytes(1000)))), path_class
            finally:
                stream.close()
        return files, path, path_class

    def current(self) -> str | None:
        return str(self._current()[1].toString()) if self.entries() else None

    def _hadoop(self) -> tuple[Any, Any, Any]:
        """Hadoop's file system, the path, and the class of paths."""
        from pyspark import SparkContext

        context = SparkContext._active_spark_context
        if context is None:
            raise RuntimeError(f"{self.output} needs a running Spark session")
        path_class = context._jvm.org.apache.hadoop.fs.Path  # type: ignore[union-attr]
        path = path_class(self.output.rstrip("/"))
        return path.getFileSystem(context._jsc.hadoopConfiguration()), path, path_class

    def entries(self) -> list[str] | None:
        from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
        from pyspark.errors.exceptions.captured import CapturedException

        try:
            files, path, _ = self._current()
            if not files.exists(path):
                return None
            if not files.getFileStatus(path).isDirectory():
                raise UserError(f"{self.output}: is not a directory.")
            names = [status.getPath().getName() for status in files.listStatus(path)]
            return None if self.is_store and set(names) <= {"runs"} else names
        except (Py4JJavaError, CapturedException) as error:
            raise UserError(f"{self.output}: cannot be opened ({_java_reason(error)}).") from None

    def run_facts(self) -> bytes:
        files, path, path_class = self._current()
        stream = files.open(path_class(path, "run.json"))
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def publish(self, staged: Path) -> None:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors.exceptions.captured import CapturedException

        try:
            files, path, path_class = self._hadoop()
            if self.is_store:
                self._point(staged)
                return
            beside = path_class(path.getParent(), f".{path.getName()}.{uuid.uuid4().hex[:8]}")
            (staged / "_SUCCESS").unlink()
            files.mkdirs(path.getParent())
            files.copyFromLocalFile(False, True, path_class(staged.as_uri()), beside)
            if files.exists(path):
                files.delete(path, True)
            if not files.rename(beside, path):
                raise StorageError(f"{self.output}: could not be moved into place; the new output is in {beside}.")
            files.create(path_class(path, "_SUCCESS")).close()
        except (Py4JJavaError, CapturedException) as error:
            raise StorageError(f"{self.output}: could not be written ({_java_reason(error)}).") from None

    def _point(self, staged: Path) -> None:
        files, path, path_class = self._hadoop()
        before, run = self._current()[1].getName(), _run_name()
        to = path_class(path, f"runs/{run}")
        for file in _success_last(staged):
            part = path_class(to, file.relative_to(staged).as_posix())
            files.copyFromLocalFile(False, True, path_class(file.as_uri()), part)
        stream = files.create(path_class(path, "CURRENT"), True)
        stream.write(f"runs/{run}\n".encode())
        stream.close()
        for status in files.listStatus(path_class(path, "runs")):
            if status.getPath().getName() not in (run, before):
                files.delete(status.getPath(), True)


Place = _Local | _Store | _Remote


def _place(output: str) -> Place:
    if is_local(output):
        return _Local(output, local_path(output))
    return _Store(output) if output.partition(":")[0].lower() in STORES else _Remote(output)


def current(output: str) -> str | None:
    """Where the finished output of a place is: itself, or what its pointer file names; None where there is none.

    Without its scheme, as PyArrow wants it, for s3: and gs:.

    Raises:
        UserError: the place cannot be opened, or its pointer file names no run.
    """
    place = _place(output)
    if isinstance(place, _Local):
        return str(place.target) if {"_SUCCESS", "run.json"} <= set(place.entries() or ()) else None
    return place.current()


def _check(place: Place, *, overwrite: bool, resume: bool) -> None:
    entries = place.entries()
    if entries and not {"_SUCCESS", "run.json"} <= set(entries):
        raise UserError(
            f"{place.output}: holds files that no finished run wrote (there is no run.json with a _SUCCESS), so it "
            "is not touched, even with --overwrite; give another directory, or empty this one."
        )
    if entries and not overwrite and not resume:
        raise UserError(
            f"{place.output}: holds a finished output; give --overwrite to replace it, or another directory."
        )
    if isinstance(place, _Local) and entries is None:
        parent = next(p for p in place.target.parents if p.exists())
        if not parent.is_dir():
            raise UserError(f"{place.output}: cannot be made, as {parent} is not a directory.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{place.output}: cannot be made, as {parent} may not be written to.")
    with contextlib.suppress(FileNotFoundError):
        try:
            strangers = sorted(set(os.listdir(place.working)) - OURS)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise UserError(f"{place.working}: the working directory cannot be read ({reason(error)}).") from None
        if strangers:
            raise UserError(f"{place.working}: holds {strangers[0]}, which no run wrote; move it away.")


# A run


def open_run(output: str, *, overwrite: bool, resume: bool, fingerprint: Mapping[str, Any]) -> "Run":
    """Take an output for one run, from here until the returned context is left.

    Args:
        output: a path or a URI; the latter, but for file:, needs a running JVM.
        overwrite: a finished output may be replaced, once the new one is complete.
        resume: go on from the newest checkpoint of an unfinished run.
        fingerprint: what must be the same for a resumed run to have the same result; JSON-able. What is known later,
            such as the vocabulary, is added by Run.identify.

    Raises:
        UserError: for an output that may not be written to, that another run works on, or whose checkpoint is of
            another configuration or corpus. Nothing is left behind.
    """
    place = _place(output)
    _check(place, overwrite=overwrite, resume=resume)
    return Run(place, overwrite=overwrite, resume=resume, fingerprint=fingerprint)


class Run:
    """One run and its working directory; a context manager."""

    def __init__(self, place: Place, *, overwrite: bool, resume: bool, fingerprint: Mapping[str, Any]) -> None:
        self.output = place.output
        self.working = place.working
        self.is_published = False
        self._place = place
        self._overwrite = overwrite
        self._fingerprint: dict[str, Any] = {}
        self._checkpoint: Checkpoint | None = None
        self._stored: dict[str, Any] | None = None  # the fingerprint of what is resumed
        self._leaves_nothing = False  # but the output, when it is let go
        self._next = 0
        with self._storage("cannot be prepared", UserError):
            self._made = place.prepare()
        try:
            with self._storage("cannot be prepared", UserError):
                self._lock = _Lock(self.working, self.output)
        except BaseException:
            self._remove_made()
            raise
        try:
            with self._storage("cannot be prepared"):
                self._begin(resume)
            self.identify(fingerprint)
        except BaseException:
            self.close()
            raise

    def _begin(self, resume: bool) -> None:
        self._restore_replaced()
        _check(self._place, overwrite=self._overwrite, resume=resume)  # again, now that nobody else can be at work
        remove(self.working / "staged")
        if not resume:
            remove(self.parameters_folder)
            remove(self._metrics)
            return
        remove_unfinished(self.parameters_folder)
        self._checkpoint = newest_checkpoint(self.parameters_folder)
        self._next = 1 + max((int(p.name) for p in numbered(self.parameters_folder)), default=-1)
        self._stored = self._checkpoint.fingerprint if self._checkpoint else None
        if self._place.entries() and not self._overwrite:
            published = _fingerprint_of(self._place)
            self.is_published = True
            self._leaves_nothing = self._stored in (None, published)
            self._stored = published
            return
        self._cut_metrics(self._checkpoint.metrics_bytes if self._checkpoint else 0)

    @property
    def parameters_folder(self) -> Path:
        """Where training makes its ParameterFiles, which save_checkpoint renames; removed with what is left in it."""
        return self.working / "checkpoints"

    @property
    def _metrics(self) -> Path:
        return self.working / "metrics.jsonl"

    def identify(self, facts: Mapping[str, Any]) -> None:
        """Add to the fingerprint what became known after the start; refused where a checkpoint says otherwise."""
        given = _flat(json.loads(to_json(facts)))
        stored = given if self._stored is None else _flat(self._stored)
        differences = [
            f"{key} was {_shown(stored[key]) if key in stored else 'not set'}, is {_shown(value)}"
            for key, value in given.items()
            if key not in stored or stored[key] != value
        ]
        # A key that is gone is noticed where its whole section is given: training.new of {"training": ...}.
        differences += [
            f"{key} was {_shown(value)}, is not set"
            for key, value in stored.items()
            if key not in given and any(key.startswith(f"{section}.") for section in facts)
        ]
        if differences:
            self._leaves_nothing = False
            if self.is_published:
                reason = (
                    "holds the finished output of another run; give --overwrite to replace it, or another directory "
                    "or run id"
                )
            else:
                reason = "cannot be resumed, its checkpoint is of another run; run without --resume to start anew"
            more = f" and {len(differences) - 8} more" if len(differences) > 8 else ""
            raise UserError(f"{self.output}: {reason}: {', '.join(differences[:8])}{more}.")
        # Or a checkpoint would lack the section that was there first, and no run could be resumed from it.
        assert not self._fingerprint.keys() & facts.keys(), "a section is added once"
        self._fingerprint.update(json.loads(to_json(facts)))

    def load_checkpoint(self) -> tuple[Position, ParameterFiles] | None:
        """Where to go on: the newest complete checkpoint of a resumed run; None to start from the beginning.

        Returns:
            The position, and the parameters as they are mapped from the checkpoint, only to be read.
        """
        checkpoint, self._checkpoint = self._checkpoint, None
        return (checkpoint.position, checkpoint.parameters) if checkpoint else None

    def save_checkpoint(self, position: Position, parameters: ParameterFiles) -> None:
        """Make a state of training a checkpoint; the one before goes when this one is safe on the disk.

        Metrics of what the state has seen must be appended before: a resumed run drops those that came after it.

        Args:
            parameters: temporary, in parameters_folder; they are the run's from here on, and only to be read.
        """
        self._lock.assert_held()
        with self._storage("a checkpoint could not be written"):
            size = self._metrics.stat().st_size if self._metrics.exists() else 0
            checkpoint = Checkpoint(position, parameters, self._fingerprint, size)
            write_checkpoint(self.parameters_folder, self._next, checkpoint)
        self._next += 1

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl, on the disk when this returns."""
        line = (to_json(metrics) + "\n").encode()
        with self._storage("metrics.jsonl could not be written"):
            size = self._metrics.stat().st_size if self._metrics.exists() else 0
            try:
                with open(self._metrics, "ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self._metrics, size)  # no half line
                raise

    def metrics(self) -> list[dict[str, Any]]:
        """What append_metrics was given, also before the run was resumed."""
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text(encoding="utf-8").splitlines()]

    def publish(self, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Let write fill a directory, add metrics.jsonl, run.json and _SUCCESS, and make it the output in one step.

        Args:
            write: gets an empty directory.
            facts: for run.json, to which the fingerprint is added.
        """
        self._lock.assert_held()
        staged = self.working / "staged"
        with self._storage("the output could not be written"):
            remove(staged)
            staged.mkdir()
            try:
                write(staged)
                if self._metrics.exists():
                    shutil.copyfile(self._metrics, staged / "metrics.jsonl")
                else:
                    (staged / "metrics.jsonl").touch()
                text = json.dumps(
                    {**facts, "fingerprint": self._fingerprint}, indent=2, ensure_ascii=False, allow_nan=False
                )
                (staged / "run.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
                fsync_tree(staged)
                # Of a torn disk's files, _SUCCESS must be the last to exist.
                (staged / "_SUCCESS").touch()
                fsync(staged / "_SUCCESS")
                fsync(staged)
                self._lock.assert_held()
                _check(self._place, overwrite=self._overwrite, resume=False)
                self._place.publish(staged)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove(staged)
                raise
        self.is_published = self._leaves_nothing = True
        self.close()

    def close(self) -> None:
        """Let go of the output. What a resumed run needs stays, unless the output is published."""
        if not self._lock.is_held():
            return
        with contextlib.suppress(OSError):
            remove(self.working / "staged")
            self._restore_replaced()
        with contextlib.suppress(OSError, StorageError):  # of what cannot be listed, nothing is removed
            remove_unfinished(self.parameters_folder)
            if self._leaves_nothing or not numbered(self.parameters_folder):
                for path in (self.parameters_folder, self._metrics):
                    with contextlib.suppress(OSError):
                        remove(path)
        self._lock.release()
        self._remove_made()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remove_made(self) -> None:
        for directory in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: something is kept
                directory.rmdir()

    def _restore_replaced(self) -> None:
        replaced = self.working / "replaced"
        if isinstance(self._place, _Local) and replaced.exists():
            if self._place.entries() is None:
                log.warning("%s: moved back, as a run died while it replaced it", self.output)
                os.rename(replaced, self._place.target)
            else:
                remove(replaced)

    def _cut_metrics(self, size: int) -> None:
        """Drop lines that a run wrote after the checkpoint that it is resumed from."""
        if not self._metrics.exists():
            return
        with open(self._metrics, "r+b") as file:
            kept = file.read(size)
            file.truncate(kept.rfind(b"\n") + 1)
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _storage(self, what: str, error_class: type[Exception] = StorageError) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error_class = StorageError if error.errno in FULL else error_class
            raise error_class(f"{self.output}: {what}: {reason(error)}.") from None


# The fingerprint


def _fingerprint_of(place: Place) -> dict[str, Any]:
    """What the run that wrote a finished output was."""
    try:
        found = json.loads(place.run_facts())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """training.epochs of {"training": {"epochs": ...}}."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


# The lock


class _Lock:
    """Makes a working directory one process's own, from the call until release."""

    def __init__(self, working: Path, output: str) -> None:
        self.path = working / "lock"
        self._token = uuid.uuid4().hex
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "token": self._token}
        content |= {"system": _system(), "started": _started(os.getpid())}
        with _guarded(working) as alone:
            self._take(content, output, alone)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._thread.start()

    def _take(self, content: Mapping[str, Any], output: str, alone: bool) -> None:
        if self.path.exists():
            holder = _read_lock(self.path)
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            # Locks are written under the guard, so who left half of one was killed while writing it.
            is_abandoned = alone and not holder and _is_half_written(self.path)
            if not is_abandoned and not _is_stale(self.path, holder):
                raise BusyError(
                    f"{output}: another run is at work on it, {who}; wait for it, or give another directory."
                )
            log.warning("%s: the lock of %s is stale and is taken over", output, who)
            self.path.unlink()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(descriptor, (to_json(content) + "\n").encode())
            os.fsync(descriptor)
        except OSError:
            self.path.unlink()
            raise
        finally:
            os.close(descriptor)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                if self.is_held():
                    os.utime(self.path)

    def is_held(self) -> bool:
        """Whether the lock still is this run's: a machine that slept for long may have lost it."""
        return _read_lock(self.path).get("token") == self._token

    def assert_held(self) -> None:
        if not self.is_held():
            raise StorageError(f"{self.path}: another run has taken over this output, so this one stops.")

    def release(self) -> None:
        """Remove the lock, and the working directory where nothing else is in it."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError), _guarded(self.path.parent):
            if self.is_held():
                self.path.unlink()
                self.path.parent.rmdir()


@contextlib.contextmanager
def _guarded(working: Path) -> Iterator[bool]:
    """The working directory, made where missing and nobody else's while its lock is looked at and changed.

    Without this, of two runs that find the same stale lock, the slower removes the lock of the faster.

    Yields:
        Whether it is nobody else's for certain: a file system without flock has O_EXCL alone.
    """
    made = False
    while True:
        with contextlib.suppress(FileExistsError):
            working.mkdir()
            made = True
        descriptor = os.open(working, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                alone = True
            except OSError:
                alone = False
            try:
                is_there = os.path.samestat(os.fstat(descriptor), os.stat(working))
            except FileNotFoundError:
                is_there = False
            if is_there:  # and was not removed by the run that had the guard before
                try:
                    yield alone
                except BaseException:
                    if made:
                        with contextlib.suppress(OSError):
                            working.rmdir()
                    raise
                return
        finally:
            os.close(descriptor)


def _read_lock(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(1 << 16))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_half_written(path: Path) -> bool:
    """Whether a lock can be read, as another user's perhaps cannot, and does not end as one does."""
    try:
        return not path.read_bytes().endswith(b"\n")
    except OSError:
        return False


def _is_stale(path: Path, holder: Mapping[str, Any]) -> bool:
    pid = holder.get("pid")
    if holder.get("system") == _system() and isinstance(pid, int):
        started = _started(pid)
        return started is None or started != holder.get("started")
    try:
        return time.time() - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True


def _system() -> str:
    """Where process ids mean the same: host, boot and, as containers may share a host's name, the id namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process started, as ids are used again; None for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc: macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return "unknown"


# Files


def _java_reason(error: Any) -> str:
    origin = getattr(error, "java_exception", None) or error._origin  # py4j's, and PySpark's of the commoner ones
    return str(origin.toString()).partition("\n")[0][:300].rstrip(".")


def _make_parents(directory: Path) -> list[Path]:
    """Make a directory and what is missing above it; those that were made, outermost first."""
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
    """Make two directories change places in one step; False where kernel or file system cannot."""
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
