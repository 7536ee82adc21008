"""Paths of this host that a user names."""

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from spark_w2v.errors import StorageError, UserError
from spark_w2v.storage.files import ABSENT, MISTAKES, reason, refused
from spark_w2v.storage.store import scheme_of

# A URI with a password. A secret may have slashes. After a host comes a number, its port; a bucket of S3 has none.
PASSWORD = re.compile(r"((?i:s3[an]?)://|[A-Za-z][A-Za-z0-9+.-]*://(?![^/@:]*:[0-9]*/))[^/@:]*:[^@]*@")
OF_A_RUN = ("_SUCCESS", "run.json", "embeddings")  # what a directory with a run has


def is_local(output: str) -> bool:
    """Whether an output is a path of this host rather than a directory of a store."""
    return scheme_of(output) is None


def check_password(path: str) -> None:
    """Refuse a URI with a password, as paths are logged and kept.

    Raises:
        UserError: it has one.
    """
    if found := PASSWORD.match(path):
        raise UserError(
            f"{found[1]}...: has a password in it, which would be shown and kept; give it to Spark's "
            "configuration or to the environment."
        )


def hide_passwords(text: str) -> str:
    """Return a text, such as a message, with each URI that has a password cut off after its scheme."""
    return re.sub(PASSWORD.pattern + r"\S*", r"\1...", text)


def absolute(output: str) -> str:
    """Return a local output as an absolute path without symbolic links, and a URI without a slash at its end."""
    return str(local_path(output)) if is_local(output) else output.rstrip("/")


def run_above(path: Path) -> Path | None:
    """The directory of a finished run that a path is inside of, however deep; None where there is none."""
    return next((parent for parent in path.parents if all(os.path.exists(parent / name) for name in OF_A_RUN)), None)


def version_of(output: Path) -> tuple[int, ...] | None:
    """What tells an output from the next at this path, which may come while this one is read; None for no output.

    Raises:
        UserError, StorageError: it cannot be known.
    """
    try:
        found = os.stat(output / "_SUCCESS")
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise refused(f"{output}: cannot be looked at", error) from None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def local_path(output: str) -> Path:
    """Return the directory of a local output: absolute, with symbolic links followed, so that links stay links."""
    path = output
    if output[:5].lower() == "file:":
        host, path = "", output[5:]
        if path.startswith("//"):
            host, slash, rest = path[2:].partition("/")
            path = slash + rest  # with ? and #, which are characters of names here, as for Hadoop
        if host not in ("", "localhost"):
            raise UserError(
                f"{output}: names the host {host}; a file: URI must be of this host, as in file:///data/out."
            )
        path = unquote(path)
    if not path or "\0" in path:
        raise UserError(f"{output!r} is not a path; give one.")
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
