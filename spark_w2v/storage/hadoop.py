"""Directories of the file systems that Hadoop knows, through the JVM of the running Spark session."""

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkContext
from pyspark.errors.exceptions.captured import CapturedException

from spark_w2v.errors import RefusedError, StorageError
from spark_w2v.storage.store import Entry, scheme_of

Answer = TypeVar("Answer")

TEMPORARY = ".writing-"  # begins the names of files that are not complete yet
ABANDONED = 3600.0  # seconds after which a file that is not complete is one of a process that died
TRIES, PAUSE = 5, 0.2  # how often a file is looked for that may be being replaced, and seconds between
MISSING = re.compile(r"FileNotFoundException|NoSuchFileException")
EXISTS = re.compile(r"FileAlreadyExistsException")
FINAL = re.compile(
    r"UnsupportedFileSystemException|No FileSystem for scheme|ClassNotFoundException|AccessControlException|"
    r"AccessDeniedException|UnknownHostException|NoSuchBucket|UnknownStoreException|IllegalArgumentException"
)
NO_HOST = "Incomplete HDFS URI"


class HadoopStore:
    """A directory of one of Hadoop's file systems, as Store describes it.

    Args:
        uri: such as hdfs://namenode/path.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        SparkContext._ensure_initialized()  # for readers outside of Spark: a JVM, without a session in it
        jvm: Any = SparkContext._jvm
        self._jvm = jvm
        self._root = self._tried("be opened", lambda: jvm.org.apache.hadoop.fs.Path(self.uri))
        if (context := SparkContext._active_spark_context) is not None:
            self._configuration = context._jsc.hadoopConfiguration()
        else:
            settings = jvm.org.apache.spark.SparkConf()
            self._configuration = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().newConfiguration(settings)
        self._files = self._tried("be opened", lambda: self._root.getFileSystem(self._configuration))

    def read(self, name: str) -> bytes | None:
        """As Store.read."""

        def read() -> bytes:
            stream = self._files.open(self._path(name))
            try:
                return bytes(stream.readAllBytes())
            finally:
                stream.close()

        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            try:
                return self._tried("be read", read, name)
            except FileNotFoundError:
                if not self._is_coming(name):
                    break
        return None

    def _is_coming(self, name: str) -> bool:
        """Whether a file that was missing is there now, or under its temporary name: `_move` may delete it first."""
        path = self._path(name)
        file = path.getName()

        def is_coming(status: Any) -> bool:
            found = status.getPath().getName()
            is_temporary = found.startswith(TEMPORARY) and found[len(TEMPORARY) :].partition("-")[2] == file
            return found == file or (is_temporary and not _is_abandoned(status))

        try:
            return any(map(is_coming, self._tried("be listed", lambda: self._files.listStatus(path.getParent()), name)))
        except FileNotFoundError:
            return False

    def write(self, name: str, content: bytes) -> None:
        """As Store.write."""
        self._put(name, lambda file: self._fill(file, content))

    def _fill(self, file: Any, content: bytes) -> None:
        stream = self._files.create(file, True)
        stream.write(content)
        stream.close()

    def _put(self, name: str, fill: Callable[[Any], object]) -> None:
        """Make a file under another name, and move it; nothing of it stays where that fails."""
        if scheme_of(self.uri) == "s3a":  # which shows a file when it is closed, and has nothing to move in one step
            self._tried("be written", lambda: fill(self._path(name)), name)
            return
        temporary = self._temporary(name)

        def put() -> None:
            try:
                fill(temporary)
                self._move(temporary, name)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._files.delete(temporary, False)
                raise

        self._tried("be written", put, name)

    def create(self, name: str, content: bytes) -> bool:
        """As Store.create."""
        if (found := self.read(name)) is not None:  # also where it is being replaced just now
            return found == content
        temporary, path = self._temporary(name), self._path(name)

        def create() -> bool:
            try:
                self._fill(temporary, content)  # not the file itself, which would be there, empty, until it is closed
                return not self._files.exists(path) and bool(self._files.rename(temporary, path))
            finally:
                self._files.delete(temporary, False)

        try:
            made = self._tried("be written", create, name)
        except FileExistsError:
            made = False
        return made or self.read(name) == content

    def replace(self, name: str, before: bytes | None, content: bytes) -> bool:
        """As Store.replace; Hadoop compares nothing."""
        if before is None:
            return self.create(name, content)
        if self.read(name) != before:
            return False
        self.write(name, content)
        return True

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """As Store.entries."""
        folder = prefix.rpartition("/")[0]
        root = self._tried("be listed", lambda: self._files.makeQualified(self._root).toUri().getPath())

        def collect() -> dict[str, Entry]:
            found: dict[str, Entry] = {}
            statuses = self._files.listFiles(self._path(folder), True)
            while statuses.hasNext():
                status = statuses.next()
                name = status.getPath().toUri().getPath()[len(root.rstrip("/")) + 1 :]
                if name.startswith(prefix) and not name.rpartition("/")[2].startswith(TEMPORARY):
                    found[name] = Entry(status.getLen(), status.getModificationTime() / 1000)
            return found

        try:
            return self._tried("be listed", collect, folder)
        except FileNotFoundError:
            return {}

    def upload(self, name: str, path: Path) -> None:
        """As Store.upload."""
        local = self._local(path)
        self._put(name, lambda file: self._files.copyFromLocalFile(False, True, local, file))

    def download(self, name: str, path: Path) -> None:
        """As Store.download."""
        local = self._local(path)
        # True: without a file of checksums next to it.
        self._tried("be read", lambda: self._files.copyToLocalFile(False, self._path(name), local, True), name)

    def delete(self, names: Iterable[str]) -> None:
        """As Store.delete, with the directories that are empty then, but for what processes left that died."""
        for name in names:
            self._tried("be deleted", lambda name=name: self._files.delete(self._path(name), False), name)  # type: ignore[misc]
            for parent in Path(name).parents:
                folder = self._path(parent.as_posix())
                try:
                    left = [status for status in self._files.listStatus(folder) if not self._remove_abandoned(status)]
                    if left or not self._files.delete(folder, False):
                        break
                except Py4JError:  # not there, or somebody puts something there
                    break

    def _remove_abandoned(self, status: Any) -> bool:
        """Whether a file, or all files of a directory, were not complete and are removed now, as nobody writes them."""
        path = status.getPath()
        if not status.isDirectory():
            is_abandoned = path.getName().startswith(TEMPORARY) and _is_abandoned(status)
            return is_abandoned and bool(self._files.delete(path, False))
        inside = self._files.listStatus(path)
        if not inside or any(one.isDirectory() for one in inside):
            return False
        return all(map(self._remove_abandoned, inside)) and bool(self._files.delete(path, False))

    def _path(self, name: str) -> Any:
        path_class = self._jvm.org.apache.hadoop.fs.Path
        return self._root if name in ("", ".") else path_class(self._root, path_class(None, None, name))

    def _local(self, path: Path) -> Any:
        # Not of a URI, in which Hadoop would take %20 for three characters.
        return self._jvm.org.apache.hadoop.fs.Path("file", None, str(path.resolve()))

    def _temporary(self, name: str) -> Any:
        folder, _, file = name.rpartition("/")
        return self._path(f"{folder}/{TEMPORARY}{uuid.uuid4().hex[:8]}-{file}".lstrip("/"))

    def _move(self, temporary: Any, name: str) -> None:
        """Rename over what is there: in one step on HDFS; elsewhere what is there is deleted first."""
        context = self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(self._files.getUri(), self._configuration)
        overwrite = self._jvm.org.apache.hadoop.fs.Options.Rename.OVERWRITE
        options = SparkContext._gateway.new_array(self._jvm.org.apache.hadoop.fs.Options.Rename, 1)  # type: ignore[union-attr]
        options[0] = overwrite
        context.rename(temporary, self._path(name), options)

    def _tried(self, what: str, step: Callable[[], Answer], name: str = "") -> Answer:
        """Return what a step does; what Java says of it as one sentence."""
        place = f"{self.uri}/{name}".rstrip("/")
        try:
            return step()
        except (Py4JJavaError, CapturedException) as error:
            said = _reason(error)
            # Of what is written it says so where files are too many, or a lease is lost.
            if MISSING.search(said) and what in ("be read", "be listed"):
                raise FileNotFoundError(place) from None
            if EXISTS.search(said):
                raise FileExistsError(place) from None
            if NO_HOST in said:
                raise RefusedError(
                    f"{place}: names no host, and the configuration of Hadoop has no file system by default; give the "
                    "host, as in hdfs://namenode/path, or set HADOOP_CONF_DIR."
                ) from None
            if FINAL.search(said):
                raise RefusedError(f"{place}: could not {what} ({said}).") from None
            raise StorageError(f"{place}: could not {what} ({said}).") from None


def _is_abandoned(status: Any) -> bool:
    return bool(time.time() - status.getModificationTime() / 1000 > ABANDONED)


def _reason(error: Any) -> str:
    origin = getattr(error, "java_exception", None) or error._origin  # py4j's, and PySpark's of the commoner ones
    return str(origin.toString()).partition("\n")[0][:300].rstrip(".")
