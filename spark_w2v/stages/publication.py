"""The life of an output directory: locked, checkpointed beside it, published whole or not at all.

While a run lives, everything that it writes is in a hidden sibling of its output, on the same file system:

    .NAME.working/
      lock             who is at work here: process, host, since when; touched while that process lives
      checkpoints/     the newest complete state of training, and the parameters while they are trained
      metrics.jsonl    one object an epoch
      staged.TOKEN/    the output, complete before it is moved to NAME in one step; of one run alone

A finished output keeps no checkpoints: context/ has the other matrix, which is all that going on with training needs.

What a run writes has the names of OUTPUT and WORKING. Nothing else is ever removed or overwritten: a run that would
have to is refused before it begins. What appears in an output while its successor is trained goes to NAME.kept-TIME.

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
from spark_w2v.stages import parameter_files
from spark_w2v.stages.checkpoints import (
    Checkpoint,
    Position,
    newest_checkpoint,
    numbered,
    remove_unfinished,
    to_json,
    write_checkpoint,
)
from spark_w2v.stages.files import (
    ABSENT,
    MISTAKES,
    StorageError,
    exists,
    fsync,
    fsync_tree,
    kind_of,
    open_file,
    reason,
    remove_written,
    strangers,
)
from spark_w2v.stages.parameter_files import ParameterFiles

log = logging.getLogger(__name__)

UserError = ConfigError  # one sentence, exit code 2

UNKNOWN = "unknown"
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
RUN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")  # a run in an object store
# What runs write into an output, and jobs/report.py, as files.strangers has it; parts of earlier versions had no tag.
OUTPUT = re.compile(
    r"_SUCCESS|run\.json|metrics\.jsonl|report\.html|\.report\.html\.[0-9a-f]{8}"
    r"|(?:embeddings|context|vocabulary)/(?:part-[0-9]{5}(?:-[0-9a-f]{16})?\.parquet)?"
)
# Likewise into a working directory.
WORKING = re.compile(
    r"lock|metrics\.jsonl"
    rf"|checkpoints/(?:(?:[0-9]{{8}}|\.[^/]+\.unfinished)/(?:{parameter_files.WRITTEN.pattern})?)?"
    rf"|(?:staged(?:\.[0-9a-f]{{32}})?|replaced)/(?:{OUTPUT.pattern})?"
)
ANY_CHECKPOINT = re.compile(r"checkpoints/[0-9]{8}/[^/]+")  # another version's may have other files
LARGEST_RUN_FACTS = 256 << 20  # bytes of run.json; the fingerprint of a corpus may name a million files
LARGEST_GAP = 64 << 20  # bytes of metrics that are gone, for which room is left


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
        if isinstance(error, OSError) and error.errno not in MISTAKES:
            raise StorageError(f"{output}: cannot be looked at now ({reason(error)}).") from None
        raise UserError(f"{output}: cannot be an output directory ({reason(error)}).") from None
    if not target.name:
        raise UserError(f"{output}: is the root of a file system; give a directory below it.")
    return target


def check(output: str, *, overwrite: bool, resume: bool = False) -> None:
    """Refuse an output that no run may write to; writes nothing itself and needs no Spark, unless Hadoop must look."""
    place = _place(output)
    _check(place, overwrite=overwrite, resume=resume)
    _check_written(place, overwrite=overwrite, resume=resume)


class _Local(NamedTuple):
    """A directory that this host sees; what may be removed from it is what matches `written`."""

    output: str
    target: Path
    written: re.Pattern[str] = OUTPUT

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
            raise StorageError(f"{self.output}: cannot be read ({reason(error)}).") from None

    def strangers(self) -> list[str]:
        """What no run wrote in a finished output."""
        try:
            return strangers(self.target, self.written)
        except FileNotFoundError:  # replaced meanwhile
            return []
        except OSError as error:
            raise StorageError(f"{self.output}: cannot be read ({reason(error)}).") from None

    def run_facts(self) -> bytes:
        with open_file(self.target / "run.json") as file:
            return file.read(LARGEST_RUN_FACTS)

    def publish(self, staged: Path, assert_held: Callable[[], None] = lambda: None) -> None:
        assert_held()
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
        for former in (staged, staged.parent / "replaced"):
            with contextlib.suppress(OSError):  # the new output is in place; the next run looks after the old one
                self.discard(former)

    def discard(self, former: Path) -> None:
        """Remove an output that was replaced; what no run wrote is kept next to the new one, whenever it came."""
        if found := remove_written(former, self.written):
            kept = self.target.with_name(f"{self.target.name}.kept-{_run_name()}")
            os.rename(former, kept)
            log.warning("%s: no run wrote %s, so it is now in %s", self.output, _first(found), kept)


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

    def strangers(self) -> list[str]:
        """None that a publication could remove: it removes runs, and looks at them first."""
        return []

    def run_facts(self) -> bytes:
        with self._files()[0].open_input_stream(f"{self.current()}/run.json") as stream:
            return bytes(stream.read(LARGEST_RUN_FACTS))

    def publish(self, staged: Path, assert_held: Callable[[], None]) -> None:
        files, path = self._files(has_output=True)
        before, run = self.current(), _run_name()
        for file in _success_last(staged):
            name = f"{path}/runs/{run}/{file.relative_to(staged).as_posix()}"
            with open(file, "rb") as source, files.open_output_stream(name) as to:
                shutil.copyfileobj(source, to, PIECE)
        assert_held()
        with files.open_output_stream(f"{path}/CURRENT") as to:
            to.write(f"runs/{run}\n".encode())
        for info in files.get_file_info(fs.FileSelector(f"{path}/runs")):
            if info.base_name != run and info.path != before and RUN.fullmatch(info.base_name):
                below = files.get_file_info(fs.FileSelector(info.path, recursive=True))
                names = [f"{i.path[len(info.path) + 1 :]}{'' if i.is_file else '/'}" for i in below]
                if found := [name for name in names if not OUTPUT.fullmatch(name)]:
                    log.warning("%s: is kept, as no run wrote %s", info.path, _first(found))
                else:
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

    def strangers(self) -> list[str]:
        """What no run wrote in a finished output that would be removed."""
        from py4j.protocol import Py4JJavaError
        from pyspark.errors.exceptions.captured import CapturedException

        if self.is_store:  # as in _Store
            return []
        try:
            files, path, _ = self._hadoop()
            return _hadoop_strangers(files, path)
        except (Py4JJavaError, CapturedException) as error:
            raise StorageError(f"{self.output}: cannot be listed ({_java_reason(error)}).") from None

    def run_facts(self) -> bytes:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors.exceptions.captured import CapturedException

        try:
            files, path, path_class = self._current()
            stream = files.open(path_class(path, "run.json"))
            try:
                return bytes(stream.readNBytes(LARGEST_RUN_FACTS))
            finally:
                stream.close()
        except (Py4JJavaError, CapturedException) as error:
            raise StorageError(f"{self.output}: run.json cannot be read ({_java_reason(error)}).") from None

    def publish(self, staged: Path, assert_held: Callable[[], None]) -> None:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors.exceptions.captured import CapturedException

        try:
            files, path, path_class = self._hadoop()
            if self.is_store:
                self._point(staged, assert_held)
                return
            name = f".{path.getName()}.{uuid.uuid4().hex[:8]}"
            beside, former = path_class(path.getParent(), name), path_class(path.getParent(), f"{name}.former")
            (staged / "_SUCCESS").unlink()
            files.mkdirs(path.getParent())
            files.copyFromLocalFile(False, True, path_class(staged.as_uri()), beside)
            assert_held()
            has_former = files.exists(path)
            if has_former and not files.rename(path, former):
                raise StorageError(f"{self.output}: could not be replaced; the new output is in {beside}.")
            if not files.rename(beside, path):
                if has_former:
                    files.rename(former, path)
                raise StorageError(f"{self.output}: could not be moved into place; the new output is in {beside}.")
            files.create(path_class(path, "_SUCCESS")).close()
            if has_former:
                self._discard(files, former, path_class(path.getParent(), f"{path.getName()}.kept-{_run_name()}"))
        except (Py4JJavaError, CapturedException) as error:
            raise StorageError(f"{self.output}: could not be written ({_java_reason(error)}).") from None

    def _discard(self, files: Any, former: Any, kept: Any) -> None:
        """As _Local.discard; an output with anything of others is kept whole."""
        if found := _hadoop_strangers(files, former):
            files.rename(former, kept)
            log.warning("%s: no run wrote %s, so the former output is now in %s", self.output, _first(found), kept)
        else:
            files.delete(former, True)

    def _point(self, staged: Path, assert_held: Callable[[], None]) -> None:
        files, path, path_class = self._hadoop()
        before, run = self._current()[1].getName(), _run_name()
        to = path_class(path, f"runs/{run}")
        for file in _success_last(staged):
            part = path_class(to, file.relative_to(staged).as_posix())
            files.copyFromLocalFile(False, True, path_class(file.as_uri()), part)
        assert_held()
        stream = files.create(path_class(path, "CURRENT"), True)
        stream.write(f"runs/{run}\n".encode())
        stream.close()
        for status in files.listStatus(path_class(path, "runs")):
            old = status.getPath()
            if old.getName() not in (run, before) and RUN.fullmatch(old.getName()):
                if found := _hadoop_strangers(files, old):
                    log.warning("%s: is kept, as no run wrote %s", old, _first(found))
                else:
                    files.delete(old, True)


def _hadoop_strangers(files: Any, directory: Any, prefix: str = "") -> list[str]:
    """As files.strangers, on a file system of Hadoop's."""
    found: list[str] = []
    for status in files.listStatus(directory):
        name = f"{prefix}{status.getPath().getName()}{'/' if status.isDirectory() else ''}"
        if status.isSymlink() or not OUTPUT.fullmatch(name):
            found.append(name)
        elif status.isDirectory():
            found += _hadoop_strangers(files, status.getPath(), name)
    return found


def _first(names: list[str]) -> str:
    """The first few of some names, as one text without what a terminal would obey."""
    shown = [name if name.isprintable() else name.encode("unicode_escape").decode() for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
        try:
            parent = next(p for p in place.target.parents if exists(p))
        except OSError as error:
            raise StorageError(f"{place.output}: cannot be looked at now ({reason(error)}).") from None
        if not parent.is_dir():
            raise UserError(f"{place.output}: cannot be made, as {parent} is not a directory.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{place.output}: cannot be made, as {parent} may not be written to.")


def _check_written(place: Place, *, overwrite: bool, resume: bool) -> None:
    """Refuse what a run would have to remove though no run wrote it, in the output and in the working directory."""
    if overwrite and place.entries() and (found := place.strangers()):
        raise UserError(
            f"{place.output}: holds {_first(found)}, which no run wrote, so --overwrite does not replace it; move that "
            "away, or give another directory."
        )
    working = place.working
    try:
        if not exists(working):
            return
        if (kind := kind_of(os.lstat(working).st_mode)) != "a directory":
            raise UserError(f"{working}: is {kind}, and runs work in a directory of that name; move it away.")
        # What was being replaced is moved back, with all that is in it.
        found = [name for name in strangers(working, WORKING) if not name.startswith("replaced/")]
        if resume:
            found = [name for name in found if not (ANY_CHECKPOINT.fullmatch(name) and (working / name).is_file())]
        if found:
            # Of a name that is ours it is something else: a directory, a FIFO.
            is_named = any(WORKING.fullmatch(found[0].rstrip("/") + end) for end in ("", "/"))
            what = f" ({kind_of(os.lstat(working / found[0]).st_mode)})" if is_named else ""
            raise UserError(f"{working}: holds {_first(found)}{what}, which no run wrote; move it away.")
    except FileNotFoundError:  # a run that ends removes it
        pass
    except OSError as error:
        error_class = UserError if error.errno in MISTAKES - {errno.EACCES, errno.EPERM} else StorageError
        raise error_class(f"{working}: the working directory cannot be read ({reason(error)}).") from None


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
    _check_written(place, overwrite=overwrite, resume=resume)
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
        _check_written(self._place, overwrite=self._overwrite, resume=resume)
        self._remove_staged()
        if not resume:
            self._remove_training()
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
        with self._storage("metrics.jsonl could not be read"):
            self._keep_metrics(self._checkpoint.metrics_bytes if self._checkpoint else 0)

    @property
    def parameters_folder(self) -> Path:
        """Where training makes its ParameterFiles, which save_checkpoint renames; removed with what is left in it."""
        return self.working / "checkpoints"

    @property
    def _metrics(self) -> Path:
        return self.working / "metrics.jsonl"

    def _metrics_size(self) -> int:
        return os.stat(self._metrics).st_size if exists(self._metrics) else 0

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
            checkpoint = Checkpoint(position, parameters, self._fingerprint, self._metrics_size())
            write_checkpoint(self.parameters_folder, self._next, checkpoint, self._lock.assert_held)
        self._next += 1

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl, on the disk when this returns."""
        line = (to_json(metrics) + "\n").encode()
        self._lock.assert_held()
        with self._storage("metrics.jsonl could not be written"):
            size = self._metrics_size()
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
        return [json.loads(line) for line in self._metrics_lines()]

    def _metrics_lines(self) -> list[bytes]:
        """Without those that were lost."""
        with self._storage("metrics.jsonl could not be read"):
            if not exists(self._metrics):
                return []
            with open_file(self._metrics) as file:
                return [line for line in file.read().split(b"\n") if _is_object(line)]

    def publish(self, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Let write fill a directory, add metrics.jsonl, run.json and _SUCCESS, and make it the output in one step.

        Args:
            write: gets an empty directory.
            facts: for run.json, to which the fingerprint is added.
        """
        self._lock.assert_held()
        # Of this run alone: one whose host stood still may wake up here after another has taken the output over.
        staged = self.working / f"staged.{self._lock.token}"
        with self._storage("the output could not be written"):
            staged.mkdir()
            try:
                write(staged)
                (staged / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in self._metrics_lines()))
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
                self._place.publish(staged, self._lock.assert_held)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_written(staged, OUTPUT)
                raise
        self.is_published = self._leaves_nothing = True
        self.close()

    def leave_nothing(self) -> None:
        """Let close remove checkpoints and metrics too: no run can go on from them."""
        self._leaves_nothing = True

    def close(self) -> None:
        """Let go of the output. What a resumed run needs stays, unless the output is published."""
        try:
            self._lock.assert_held()
        except StorageError:  # another run's, or nobody knows: nothing is removed
            self._lock.stop()
            return
        with contextlib.suppress(OSError):
            self._remove_staged()
            self._restore_replaced()
        with contextlib.suppress(OSError, StorageError):  # of what cannot be listed, nothing is removed
            remove_unfinished(self.parameters_folder)
            if self._leaves_nothing or not numbered(self.parameters_folder):
                self._remove_training()
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

    def _remove_staged(self) -> None:
        """Remove what was staged and not published, or replaced by what was."""
        for path in self.working.iterdir():
            if path.name.startswith("staged"):
                remove_written(path, OUTPUT)

    def _remove_training(self) -> None:
        """Remove checkpoints and metrics."""
        for path in numbered(self.parameters_folder):
            remove_written(path, parameter_files.WRITTEN)
        remove_unfinished(self.parameters_folder)
        with contextlib.suppress(OSError):  # not there, or not empty: something of others came meanwhile
            self.parameters_folder.rmdir()
        self._metrics.unlink(missing_ok=True)

    def _restore_replaced(self) -> None:
        replaced = self.working / "replaced"
        if isinstance(self._place, _Local) and exists(replaced):
            if self._place.entries() is None:
                log.warning("%s: moved back, as a run died while it replaced it", self.output)
                os.rename(replaced, self._place.target)
            else:
                self._place.discard(replaced)

    def _keep_metrics(self, size: int) -> None:
        """Drop the lines that came after the checkpoint that a run is resumed from, and say how many others are lost.

        Those become blanks, as the checkpoint goes on saying how many bytes are its own.
        """
        there = self._metrics_size()
        if not there and not size:
            return
        with open(self._metrics, "r+b" if exists(self._metrics) else "w+b") as file:
            kept = file.read(min(size, there))
            gap = size - len(kept)
            lines = (kept + b" " * gap if gap <= LARGEST_GAP else kept).split(b"\n")
            if lines[-1]:
                lines[-1] = lines[-1][:-1]  # which makes room for the end of a line
                lines.append(b"")
            lost = [number for number, line in enumerate(lines[:-1]) if line.strip(b" ") and not _is_object(line)]
            for number in lost:
                lines[number] = b" " * len(lines[number])
            if lost or gap:
                log.warning(
                    "%s: %d of its lines cannot be read and %d bytes are gone, so the metrics of epochs before the "
                    "checkpoint are lost; training goes on", self._metrics, len(lost), gap,
                )  # fmt: skip
            text = b"\n".join(lines)
            if text != kept:
                file.seek(0)
                file.write(text)
            file.truncate(len(text))
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _storage(self, what: str, error_class: type[Exception] = StorageError) -> Iterator[None]:
        try:
            yield
        except (OSError, MemoryError) as error:
            if isinstance(error, MemoryError) or error.errno not in MISTAKES:
                error_class = StorageError
            raise error_class(f"{self.output}: {what}: {reason(error)}.") from None


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


# The fingerprint


def _fingerprint_of(place: Place) -> dict[str, Any]:
    """What the run that wrote a finished output was; {} where nothing there says so.

    Raises:
        OSError, StorageError: it could not be read now.
    """
    try:
        found = json.loads(place.run_facts())["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    except OSError as error:
        if error.errno not in ABSENT:
            raise
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
        self.token = uuid.uuid4().hex
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "token": self.token}
        content |= {"system": _system(), "started": _started(os.getpid())}
        with _guarded(working) as alone:
            self._take(content, output, alone)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._thread.start()

    def _take(self, content: Mapping[str, Any], output: str, alone: bool) -> None:
        if (text := _read_lock(self.path)) is not None:
            holder = _holder(text)
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            # Locks are written under the guard, so who left half of one was killed while writing it.
            is_abandoned = alone and not holder and not text.endswith(b"\n")
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
            with contextlib.suppress(OSError, StorageError):
                if self.is_held():
                    os.utime(self.path)

    def is_held(self) -> bool:
        """Whether the lock still is this run's: a machine that slept for long may have lost it."""
        return _holder(_read_lock(self.path) or b"").get("token") == self.token

    def assert_held(self) -> None:
        """Raises:
        StorageError: another run holds it, or nobody knows now.
        """
        if not self.is_held():
            raise StorageError(f"{self.path}: another run has taken over this output, so this one stops.")

    def release(self) -> None:
        """Remove the lock, and the working directory where nothing else is in it."""
        self.stop()
        with contextlib.suppress(OSError, StorageError), _guarded(self.path.parent):
            if self.is_held():
                self.path.unlink()
                self.path.parent.rmdir()

    def stop(self) -> None:
        """Touch the lock no more."""
        self._stop.set()
        self._thread.join()


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


def _read_lock(path: Path) -> bytes | None:
    """The text of a lock; None where there is none.

    Raises:
        StorageError: nobody knows now.
    """
    try:
        with open_file(path) as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: the lock could not be read: {reason(error)}.") from None


def _holder(text: bytes) -> dict[str, Any]:
    """What a lock says; {} where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_stale(path: Path, holder: Mapping[str, Any]) -> bool:
    pid = holder.get("pid")
    if isinstance(pid, int) and pid > 0 and holder.get("system") == _system():
        started = _started(pid)
        return started is None or (started != UNKNOWN and holder.get("started") not in (None, UNKNOWN, started))
    try:
        return time.time() - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True


def _system() -> str:
    """Where process ids mean the same: host, boot and, as containers may share a host's name, the id namespace.

    Raises:
        OSError: it cannot be read now.
    """
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError as error:  # a system that has no such file, or shows it to nobody
        if error.errno not in MISTAKES:
            raise
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process started, as ids are used again; None for one that is gone, UNKNOWN for one that does not show it.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except ProcessLookupError:
        return None
    except IndexError:
        pass
    except OSError as error:
        if error.errno not in MISTAKES:
            raise
    # Gone, or another user's on a system that hides those, or a system without /proc: macOS.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return UNKNOWN


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
