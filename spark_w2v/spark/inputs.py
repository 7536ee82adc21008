"""Which files a run reads: what --input names, each file once, and what is left out of it and why.

Spark's readers follow links wherever they lead, leave out in silence what is hidden or what Java cannot name, and read
archives and the removed files of tables as text. So the driver looks itself, with Python on paths of this machine and
with Hadoop elsewhere, and compares what it finds with what Spark lists.
"""

import glob
import hashlib
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pyspark.sql.functions as F
from pyspark.errors import AnalysisException

from spark_w2v.errors import UserError
from spark_w2v.spark.hadoop_files import (
    CHANGED,
    EMPTY,
    HIDDEN,
    File,
    Hadoop,
    Walk,
    check_directories,
    escape_glob,
    is_hidden,
    is_pattern,
    local_path,
    local_state,
    mounted,
)
from spark_w2v.spark.input_checks import check_outputs, check_packed, check_text
from spark_w2v.text import packed
from spark_w2v.text.messages import MOST_SHOWN, counted, path_text, some

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


# Files that a run's fingerprint names one by one, = 100 kB in each checkpoint; of more it keeps a digest.
MOST_NAMED = 1000

# What a file counts beyond its bytes when tasks are filled up to session.SPLIT_BYTES: at most 256 files per task.
OPEN_BYTES = 64 << 10


TEXTS = ("text", "jsonl", "csv")  # formats to whose files lines may be added


class Inputs(NamedTuple):
    """The files of a corpus, and how Spark's readers get at them.

    Args:
        files: all that have content, in the order of their paths.
        paths, options: for Spark's readers, which may find more files there than these.
        skipped: what is left out, by reason.
        roots: what was given, and what links lead to.
        are_roots: the paths are the roots; else they are the files, as the roots would give others.
        uris: of files that the paths give another name, by that name.
    """

    files: list[File]
    paths: list[str]
    options: dict[str, str]
    skipped: dict[str, list[str]]
    roots: list[str]
    are_roots: bool
    uris: dict[str, str] = {}  # noqa: RUF012  # never changed

    @property
    def open_bytes(self) -> int:
        """Bytes that a file counts beyond its own. Packed files count those of their text, spread over all files."""
        more = sum(file.bytes * (packed.UNPACKED.get(packed.suffix(file.path), 1) - 1) for file in self.files)
        return OPEN_BYTES + more // len(self.files)


def list_files(session: "SparkSession", given: Sequence[str], kind: str, outputs: Sequence[str] = ()) -> Inputs:
    """Find all files with content, each once.

    Args:
        given: files, directories or globs.
        kind: corpus.format.
        outputs: directories that the run writes to; local ones absolute, with links followed.

    Raises:
        UserError: there is nothing to read, or something that would be read as something else than it is.
        UnreadablePathError: Hadoop cannot open a path.
    """
    hadoop = Hadoop(session)
    walk = Walk()
    elsewhere: list[str] = []
    for name in given:
        for path, is_local in hadoop.matches(name):
            if is_pattern(name) and is_hidden(path) and not is_hidden(name):
                walk.skip(HIDDEN, path)
            elif is_local:
                walk.add(path)
            else:
                elsewhere.append(path)
    check_outputs(hadoop, given, [*walk.roots, *elsewhere], outputs)
    walk.follow_links()
    hadoop.check_names(walk.files)
    check_directories(sorted(walk.directories), walk.roots, lambda d, name: bool(glob.glob(f"{glob.escape(d)}/{name}")))
    paths = [f"file:{path}" for path in walk.paths] + elsewhere
    named = {path: hadoop.uri(path) for path in paths if is_hidden(path) and not hadoop.is_directory(path)}
    mounts, options = mounted(named)
    readable = [mounts.get(path) or escape_glob(path) for path in paths]
    files, unlisted = [], set(walk.files)
    uris = {mounts[path]: uri for path, uri in named.items()}
    for file in _listed(session, readable, options, uris):
        here = local_path(file.path)
        if here is None or here in walk.files:
            files.append(file)
            unlisted.discard(here or "")
        else:
            walk.skip(CHANGED, here)
    _check_unlisted(sorted(unlisted), walk)
    if elsewhere:
        hadoop.look_for_others(elsewhere, {file.path for file in files}, walk)
    if not files:
        _refuse_nothing(given, walk.skipped)
    if kind in TEXTS:
        check_text(files, kind)
    files.sort()
    check_packed(hadoop, files)
    roots = readable if walk.is_plain else [escape_glob(f"file:{root}") for root in walk.roots] + elsewhere
    return Inputs(files, readable, options, walk.skipped, roots, roots is readable, uris)


def check_unchanged(session: "SparkSession", found: Inputs, kind: str) -> None:
    """Refuse files that are not as they were listed, now that they are read: Spark reads the rest of them in silence.

    A text that has grown is a warning: where lines were added, it is read as it was listed, or as a little more.

    Args:
        kind: corpus.format.

    Raises:
        UserError: the first such file.
    """
    here = {file.path: local_path(file.path) for file in found.files}
    now: dict[str, tuple[int, int]] = {}
    if None in here.values():
        elsewhere = [path for path in found.paths if not path.startswith("file:")]
        listed = _listed_again(session, elsewhere, found.options | {"ignoreMissingFiles": "true"}, found.uris)
        now = {file.path: (file.bytes, file.modified) for file in listed}
    now |= {uri: state for uri, path in here.items() if path is not None and (state := local_state(path)) is not None}
    grown: list[File] = []
    changed: list[File] = []
    for file in found.files:
        size, modified = now.get(file.path, (0, 0))
        if (size, modified) != (file.bytes, file.modified):
            may_grow = kind in TEXTS and packed.suffix(file.path) not in packed.UNPACKED
            (grown if may_grow and size > file.bytes else changed).append(file)
    if changed:
        first = changed[0]
        gone = "gone" if here[first.path] else "gone or empty"  # where Spark lists no empty files
        before, after = _state(first.bytes, first.modified), _state(*now[first.path]) if first.path in now else gone
        others = f", and {counted(len(changed) - 1, 'other file')} changed, too" if len(changed) > 1 else ""
        raise UserError(
            f"{path_text(first.path)}: was {before} when it was listed, and is {after} after it was read{others}; "
            "train on a copy, or on files that nobody writes to."
        )
    if grown:
        log.warning(
            "%s since the input was listed, such as %s from %s to %s bytes; what was added may not be read",
            f"{counted(len(grown), 'file')} {'has' if len(grown) == 1 else 'have'} grown", path_text(grown[0].path),
            f"{grown[0].bytes:,}", f"{now[grown[0].path][0]:,}",
        )  # fmt: skip


def identity(files: Sequence[File]) -> dict[str, Any]:
    """Return what tells a corpus from another without reading it, JSON-able: paths, sizes and times."""
    if len(files) <= MOST_NAMED:
        return {file.path: _state(file.bytes, file.modified) for file in files}
    digest = hashlib.sha256(repr([(file.path, file.bytes, file.modified) for file in files]).encode())
    return {
        "count": len(files),
        "bytes": sum(file.bytes for file in files),
        "newest": _moment(max(file.modified for file in files)),
        "digest": digest.hexdigest()[:16],
    }


def _state(size: int, modified: int) -> str:
    return f"{size} bytes of {_moment(modified)}"


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def facts(inputs: Inputs) -> dict[str, Any]:
    """Return what is read and what is left out, JSON-able, with the first few names."""
    return {
        "count": len(inputs.files),
        "bytes": sum(file.bytes for file in inputs.files),
        "skipped": {
            reason: {"count": len(names), "first": names[:MOST_SHOWN]} for reason, names in inputs.skipped.items()
        },
    }


def summary(inputs: Inputs) -> list[str]:
    """The same in lines for the user."""
    lines = [f"{counted(len(inputs.files), 'file')}, {sum(file.bytes for file in inputs.files) / 1e6:,.1f} MB"]
    if inputs.skipped:
        parts = [f"{len(names):,} {reason} ({some(names, 3)})" for reason, names in inputs.skipped.items()]
        lines.append("left out: " + "; ".join(parts))
    return lines


def _listed(session: "SparkSession", paths: Sequence[str], options: dict[str, str], uris: dict[str, str]) -> list[File]:
    """All files with content that Spark finds; rows of text carry the hash, 8 bytes, in place of the path."""
    if not paths:
        return []
    reader = session.read.format("binaryFile").options(**options).option("recursiveFileLookup", True)
    path = F.col("_metadata.file_path")
    size, modified = F.col("_metadata.file_size"), F.unix_millis("_metadata.file_modification_time")
    rows = reader.load(list(paths)).select(path, F.xxhash64(path), size, modified).collect()
    return [File(uris.get(name, name), *others) for name, *others in rows]


def _listed_again(
    session: "SparkSession", paths: Sequence[str], options: dict[str, str], uris: dict[str, str]
) -> list[File]:
    """The same, where some of the paths may be gone; Spark refuses all of them then."""
    try:
        return _listed(session, paths, options, uris)
    except AnalysisException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
    half = len(paths) // 2
    return [
        file for some in (paths[:half], paths[half:]) if half for file in _listed_again(session, some, options, uris)
    ]


def _refuse_nothing(given: Sequence[str], skipped: dict[str, list[str]]) -> NoReturn:
    where = some(list(given))
    if set(skipped) == {EMPTY}:
        raise UserError(
            f"{where}: holds nothing, {len(skipped[EMPTY]):,} files of 0 bytes; give --input files with text."
        )
    left_out = "; ".join(f"{len(names):,} {reason}, such as {names[0]}" for reason, names in skipped.items())
    but = f" but what is left out ({left_out})" if left_out else ""
    raise UserError(f"{where}: has no files{but}; give --input a directory with files in it, or a file.")


def _check_unlisted(paths: Sequence[str], walk: Walk) -> None:
    """Refuse files that Spark would leave out, and not say so."""
    there = [path for path in paths if os.path.exists(path)]
    if there:
        raise UserError(f"{some(there)}: not among the files that Spark lists; rename it, or leave it out of --input.")
    for path in paths:
        walk.skip(CHANGED, path)
