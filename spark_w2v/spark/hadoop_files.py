"""Hadoop's file systems, as the session is configured."""

import glob
import hashlib
import logging
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from spark_w2v.errors import UserError
from spark_w2v.storage import files as storage
from spark_w2v.text import packed
from spark_w2v.text.messages import path_text, some

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


log = logging.getLogger(__name__)

# Files and directories of another file system than this machine's that the driver asks for one by one, = 5 s each.
MOST_ASKED, MOST_DIRECTORIES = 10_000, 50

# What stands in the directory of a table. Not all files there belong to what the table holds now.
TABLES = {
    "_delta_log": ("a Delta table", "delta"),
    ".hoodie": ("a Hudi table", "hudi"),
    "metadata/version-hint.text": ("an Iceberg table", "iceberg"),
    "metadata/*.metadata.json": ("an Iceberg table", "iceberg"),
}
OWN = ("run.json", "embeddings", "context", "_SUCCESS")  # a directory with all of these is the output of a run

# Why something is left out.
HIDDEN = "hidden by their names"
EMPTY = "empty"
LINKED = "links to what is read already"
SAME = "other names of what is read already"
BROKEN = "links to nothing"
SPECIAL = "neither files nor directories"
CHANGED = "new or gone since the files were listed"


class UnreadablePathError(Exception):
    """Hadoop cannot open a path of --input; the reason is the cause."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class File(NamedTuple):
    """One file of the corpus, as it was when it was listed."""

    path: str  # a URI
    path_hash: int
    bytes: int
    modified: int  # milliseconds since 1970


def is_hidden(path: str) -> bool:
    """Whether Spark leaves out a file or directory of this name."""
    name = path.rstrip("/").rpartition("/")[2]
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def local_path(uri: str) -> str | None:
    """The path that a URI means on this machine; None where it is elsewhere."""
    return path_text(uri) if uri.startswith("file:") else None


def local_state(path: str) -> tuple[int, int] | None:
    """Size and time of a file of this machine, as of a File; None where it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns // 1_000_000


def escape_glob(path: str) -> str:
    """A glob that fits the path alone."""
    return re.sub(r"[\[\]{}*?\\]", r"\\\g<0>", path)


def is_utf8(encoding: str) -> bool:
    """Whether a name of an encoding means UTF-8."""
    return encoding.upper().replace("-", "") == "UTF8"


def is_unicode(path: str) -> bool:
    return path.isascii() or re.search("[\ud800-\udfff]", path) is None


class Hadoop:
    """Hadoop's file systems, as the session is configured."""

    def __init__(self, session: "SparkSession") -> None:
        context = session.sparkContext
        assert context._jvm is not None, "a context has its JVM"
        self._path = context._jvm.org.apache.hadoop.fs.Path
        self._uri = context._jvm.java.net.URI
        self._globs = context._jvm.org.apache.hadoop.fs
        self._conf = context._jsc.hadoopConfiguration()
        # What Java takes the names of this machine's files for, by the locale in which the JVM was started.
        self._encoding = str(context._jvm.System.getProperty("sun.jnu.encoding"))

    def open(self, uri: str) -> Any:
        """A stream of Java's."""
        path = self._path(self._uri(uri))
        return path.getFileSystem(self._conf).open(path)

    def uri(self, path: str) -> str:
        """A path as Spark writes it."""
        return str(self._path(path).toUri().toString())

    def fits(self, path: str, glob: str) -> bool:
        """Whether a glob would find a path of this machine."""
        parts = path.split("/")
        for expanded in self._globs.GlobExpander.expand(glob):  # braces with slashes in them; it knows the others
            patterns = str(expanded).split("/")
            if len(patterns) == len(parts) and all(
                self._globs.GlobPattern(pattern).matches(part) for pattern, part in zip(patterns, parts, strict=True)
            ):
                return True
        return False

    def is_directory(self, path: str) -> bool:
        found = self._path(path)
        return bool(found.getFileSystem(self._conf).getFileStatus(found).isDirectory())

    def exists(self, directory: str, name: str) -> bool:
        try:
            path = self._path(f"{escape_glob(directory)}/{name}")
            return bool(path.getFileSystem(self._conf).globStatus(path))
        except Exception:  # what may not be looked at, above the input, tells nothing
            return False

    def matches(self, name: str) -> list[tuple[str, bool]]:
        """Return the paths that a file, directory or glob matches, each with whether it is on this machine.

        Spark's reader refuses what is not there too, but first logs a warning with a stack trace.
        """
        try:
            path = self._path(name)
            system = path.getFileSystem(self._conf)
            is_local = system.getUri().getScheme() == "file"
            if is_local:
                self._check_pattern(re.sub("^file:/+", "/", name))
            found = [status.getPath() for status in system.globStatus(path) or ()]
        except UserError:
            raise
        except Exception as error:  # of whatever class, and whatever is wrong: it is this path
            raise UnreadablePathError(name) from error
        if not found:
            if os.path.exists(name):
                raise UserError(f"{name}: is read as a pattern, which no file fits; put a backslash before []{{}}*?\\.")
            raise UserError(f"{name}: no such file; give --input paths that exist.")
        return [(str(path.toUri().getPath() if is_local else path.toString()), is_local) for path in found]

    def _check_pattern(self, name: str) -> None:
        """Refuse a name, or a pattern, of which Java would see less than there is."""
        if is_utf8(self._encoding):
            return
        # Java cannot say what it does not see. Braces are not Python's, so this may see more than the pattern fits.
        pattern = re.sub(r"\{[^}]*\}", "*", re.sub(r"\\(.)", lambda found: glob.escape(found[1]), name))
        self.check_names(map(os.path.abspath, glob.glob(pattern)))

    def check_names(self, paths: Iterable[str]) -> None:
        """Refuse names that Java cannot open."""
        if is_utf8(self._encoding):
            return
        if lost := [path for path in paths if not path.isascii()]:
            raise UserError(
                f"{some(lost)}: not a name that Java can open in this locale, whose encoding is {self._encoding}; set "
                "LC_ALL=C.UTF-8 in the environment of spark-submit."
            )

    def look_for_others(self, roots: Sequence[str], listed: set[str], walk: "Walk") -> None:
        """Say what Spark leaves out of directories elsewhere, and refuse tables there."""
        directories: dict[str, None] = {}
        for uri in listed:
            if local_path(uri) is None and len(directories) < MOST_DIRECTORIES:
                directories[unquote(uri.rpartition("/")[0])] = None
        check_directories(list(directories), [*roots, *directories], self.exists)
        asked = 0
        for root in roots:
            path = self._path(root)
            found = path.getFileSystem(self._conf).listFiles(path, True)
            while found.hasNext() and asked < MOST_ASKED:
                asked += 1
                status = found.next()
                uri = str(status.getPath().toUri().toString())
                if uri not in listed:
                    walk.skip(HIDDEN if status.getLen() else EMPTY, path_text(uri))
        if asked == MOST_ASKED:
            log.warning("more than %d files: those that are hidden or empty are not all counted", MOST_ASKED)


def mounted(named: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Other names for files whose own are hidden to Spark, in a view of Hadoop's, and the options that make the view.

    Args:
        named: URIs by path.
    """
    # Hadoop keeps a view for as long as the JVM lives, by its name: other files need a view of another name.
    view = f"named-{hashlib.sha256(repr(sorted(named.values())).encode()).hexdigest()[:16]}"
    ends = {path: packed.suffix(path) for path in named}
    links = {path: f"/{n}{'' if is_hidden(end[1:]) else end}" for n, (path, end) in enumerate(ends.items())}
    mounts = {path: f"viewfs://{view}{link}" for path, link in links.items()}
    return mounts, {f"fs.viewfs.mounttable.{view}.link.{link}": named[path] for path, link in links.items()}


def check_directories(directories: Sequence[str], roots: Sequence[str], exists: Callable[[str, str], bool]) -> None:
    """Refuse directories of which not every file belongs to the corpus.

    Args:
        directories: that are read.
        roots: whatever they are in may be a table.
        exists: whether a directory has something of that name, or that a glob fits.
    """
    for directory in directories:
        if all(exists(directory, name) for name in OWN):
            raise UserError(f"{directory}: is the output of a run, not text; leave it out of --input.")
    for directory in {**dict.fromkeys(directories), **dict.fromkeys(directories_above(roots))}:
        for name, (table, kind) in TABLES.items():
            if exists(directory, name):
                raise UserError(
                    f"{directory}: is {table}, which may keep files of rows that were removed; write what it holds as "
                    f'Parquet, with spark.read.format("{kind}").load(...).write.parquet(...), and give that.'
                )


def is_pattern(name: str) -> bool:
    return re.search(r"[\[\]{}*?\\]", name) is not None


def directories_above(directories: Sequence[str]) -> Iterator[str]:
    """The directories that some paths are in, each once."""
    seen: set[str] = set()
    for path in directories:
        above = os.path.dirname(path)
        while above and not above.endswith(":") and above not in seen:  # above hdfs://host is hdfs:
            seen.add(above)
            yield above
            above = os.path.dirname(above)


class Walk:
    """The files of this machine under some paths, each once, as a walk that follows links would find them.

    Attributes:
        files: by the path that Spark sees.
        roots: what was added, and what links lead to.
        skipped: what is left out, by reason.
        is_plain: a walk of Spark's from the roots finds these files, and each once.
    """

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self.roots: list[str] = []
        self.directories: set[str] = set()
        self.skipped: dict[str, list[str]] = {}
        self._real: set[str] = set()  # paths of the files with links followed
        self._inodes: set[tuple[int, int]] = set()  # of files with several names
        self._links: deque[str] = deque()
        self.is_plain = True

    @property
    def paths(self) -> list[str]:
        """Paths for Spark to read: the roots, or each file where the roots would give other files."""
        return self.roots if self.is_plain else list(self.files)

    def skip(self, reason: str, path: str) -> None:
        self.skipped.setdefault(reason, []).append(path)

    def add(self, path: str) -> None:
        """Take in a file, or a directory with all that is below it."""
        real = os.path.realpath(path)
        if os.path.isdir(real):
            self.roots.append(real)
            self._add_directory(real)
        else:
            # The name stays, and not that of what it links to: it tells how the file is packed.
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            self.roots.append(path)
            self._add_file(path)

    def follow_links(self) -> None:
        """Take in what links lead to, now that all that can be reached without them is known."""
        while self._links:
            link = self._links.popleft()
            if not os.path.exists(link):
                self.skip(BROKEN, link)
            elif not os.path.isdir(link):
                self._add_file(link)
            elif os.path.realpath(link) in self.directories:
                self.skip(LINKED, link)
            else:
                self.add(link)
        if unnamed := [path for path in self.files if not is_unicode(path)]:
            raise UserError(
                f"{some([os.fsencode(path).decode(errors='backslashreplace') for path in unnamed])}: not a name in "
                "UTF-8, which Java cannot open; rename it, or leave it out of --input."
            )

    def _add_directory(self, directory: str) -> None:
        waiting = [directory]
        while waiting:
            directory = waiting.pop()
            if directory in self.directories:
                continue
            self.directories.add(directory)
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except OSError as error:
                raise UserError(
                    f"{directory}: cannot be read ({storage.reason(error)}); give readable directories."
                ) from None
            for entry in entries:
                if is_hidden(entry.name):
                    self.skip(HIDDEN, entry.path)
                elif entry.is_symlink():
                    self.is_plain &= os.path.isfile(entry.path)
                    self._links.append(entry.path)
                elif entry.is_dir():
                    waiting.append(entry.path)
                else:
                    self._add_file(entry.path)

    def _add_file(self, path: str) -> None:
        if path in self.files:
            return
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return self.skip(CHANGED, path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({storage.reason(error)}); give readable files.") from None
        if not stat.S_ISREG(status.st_mode):
            return self.skip(SPECIAL, path)
        if not status.st_size:
            return self.skip(EMPTY, path)
        real = os.path.realpath(path)
        inode = (status.st_dev, status.st_ino)
        if real in self._real or inode in self._inodes:
            self.is_plain = False
            return self.skip(LINKED if os.path.islink(path) else SAME, path)
        self._real.add(real)
        if status.st_nlink > 1:
            self._inodes.add(inode)
        self.files[path] = None
        return None
