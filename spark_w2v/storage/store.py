"""The operations of a directory outside of the driver's host."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from spark_w2v.errors import UserError

OBJECT_STORES = ("s3", "gs", "az")
RETRY_SECONDS = 180  # that a request is tried again for, while the store answers with an error that may pass


class Entry(NamedTuple):
    """One file.

    Args:
        size: in bytes.
        modified: seconds since 1970, by the clock of the store.
    """

    size: int
    modified: float


class Store(Protocol):
    """A directory; names in it are relative, with slashes.

    Every method raises StorageError where the store refuses for a reason that may pass, after it was tried again, and
    UserError where trying again cannot help: no such bucket, no permission, no credentials.
    """

    uri: str

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Make a file or replace it; readers see the old content or the new one."""

    def create(self, name: str, content: bytes) -> bool:
        """Make a file unless there is one, as one step; whether it has this content now.

        Content must be unique to who calls: a request that is repeated after its answer was lost finds its own file.
        """

    def replace(self, name: str, before: bytes | None, content: bytes) -> bool:
        """Write a file if it still has the content before; whether it did.

        In one step where the store can compare; where not, somebody else's write in between is lost.
        """

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """Return all files at any depth whose names begin with this, by name.

        An object store lists the empty object that stands for a folder only where nothing is in that folder.
        """

    def upload(self, name: str, path: Path) -> None:
        """Make a file or replace it with the content of a local one; readers see nothing of it before it is whole."""

    def download(self, name: str, path: Path) -> None:
        """Copy a file to a local path.

        Raises:
            FileNotFoundError: there is none.
        """

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""


def scheme_of(uri: str) -> str | None:
    """Return the scheme of a URI outside of this host, in lower case; None for a path of this host."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", uri)
    return None if found is None or found[1].lower() == "file" else found[1].lower()


def needs_jvm(uri: str) -> bool:
    """Whether Hadoop opens a URI, so that a session is needed."""
    return scheme_of(uri) not in (None, *OBJECT_STORES)


def open_store(uri: str) -> Store:
    """Return the directory of a URI, which need not exist.

    Raises:
        UserError: it is no URI of a store.
    """
    # Each in its own module, so that nobody needs the library of a store that is not used.
    if scheme_of(uri) is None:
        raise UserError(f"{uri}: is a path of this host, not a URI of a store.")
    if scheme_of(uri) in OBJECT_STORES:
        _require("obstore", uri, "pip install obstore")
        from spark_w2v.storage.objects import ObjectStore

        return ObjectStore(uri)
    _require("pyspark", uri, "pip install pyspark")
    from spark_w2v.storage.hadoop import HadoopStore

    return HadoopStore(uri)


def _require(package: str, uri: str, command: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{uri}: needs the package {package}, which is not installed; {command}.")
