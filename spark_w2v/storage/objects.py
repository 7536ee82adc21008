"""Directories of object stores: S3 and what is compatible with it, Google Cloud Storage, Azure."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import obstore
from obstore import exceptions
from obstore.store import from_url

from spark_w2v.errors import RefusedError, StorageError, UserError
from spark_w2v.storage.store import RETRY_SECONDS, Entry

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, UpdateVersion

Answer = TypeVar("Answer")

CHUNK = 16 << 20  # bytes of an upload's part; 10,000 parts at most, so 160 GB of a file
TIMEOUT = 60  # seconds of a request, with its answer
RANGE = 4 * CHUNK  # bytes that one request of a download asks for; an upload sends 4 parts at a time
# Errors that would be the same the next time.
FINAL = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
)
SECRET = re.compile(r"(?i)((?:signature|token|secret|key|password|credential)\w*[\"']?\s*[=:]\s*)[^\s,;]+")
FORBIDDEN = re.compile(r"status code: 40[13]\b|AuthorizationHeaderMalformed")
WRONG_REGION = re.compile(r"incorrectly configured region|the region (?:'[^']*' )?is wrong|PermanentRedirect")
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|[Bb]ucket does not exist|container does not exist")


class ObjectStore:
    """A directory of a bucket, as Store describes it.

    Args:
        uri: such as s3://bucket/path.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        if "?" in uri:
            raise UserError(
                f"{uri.partition('?')[0]}: takes no options after a question mark; give the endpoint and the "
                "credentials in the environment, such as AWS_ENDPOINT_URL."
            )
        try:
            self._store = from_url(
                quote(self.uri, safe=":/@"),  # or # would end the path, and %20 be a space, as nowhere else
                # Plain HTTP is the user's to choose: an endpoint has the scheme that it is given with.
                client_options={
                    "timeout": timedelta(seconds=TIMEOUT),
                    "connect_timeout": timedelta(seconds=10),
                    "allow_http": True,
                },
                # The library counts tries too, and 10 are over in seconds where nobody answers.
                retry_config={"retry_timeout": timedelta(seconds=RETRY_SECONDS), "max_retries": 1000},
            )
        except (exceptions.BaseError, ValueError) as error:
            raise UserError(f"{self.uri}: cannot be opened ({_reason(error)}).") from None

    def read(self, name: str) -> bytes | None:
        """As Store.read."""
        try:
            return self._tried("read", name, lambda: bytes(obstore.get(self._store, name).bytes()))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """As Store.write."""
        self._tried("write", name, lambda: obstore.put(self._store, name, content))

    def create(self, name: str, content: bytes) -> bool:
        """As Store.create."""
        try:
            self._tried("write", name, lambda: obstore.put(self._store, name, content, mode="create"))
        except exceptions.AlreadyExistsError:
            return self.read(name) == content
        return True

    def replace(self, name: str, before: bytes | None, content: bytes) -> bool:
        """As Store.replace."""
        if before is None:
            return self.create(name, content)

        def read() -> "tuple[ObjectMeta, bytes]":
            found = obstore.get(self._store, name)
            return found.meta, bytes(found.bytes())

        try:
            meta, content_now = self._tried("read", name, read)
        except FileNotFoundError:
            return False
        expected: UpdateVersion = {}
        if (tag := meta["e_tag"]) is not None:
            expected["e_tag"] = tag
        if (version := meta["version"]) is not None:
            expected["version"] = version
        if content_now != before:
            return False
        try:
            self._tried("write", name, lambda: obstore.put(self._store, name, content, mode=expected))
        except exceptions.PreconditionError:
            return self.read(name) == content
        return True

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """As Store.entries."""
        # An object store lists whole names between slashes.
        folder = prefix.rpartition("/")[0]
        found: dict[str, Entry] = {}

        def collect() -> None:
            found.clear()
            for page in obstore.list(self._store, folder or None):
                for meta in page:
                    if meta["path"].startswith(prefix):
                        found[meta["path"]] = Entry(meta["size"], meta["last_modified"].timestamp())

        self._tried("list", folder, collect)
        # Consoles make empty objects for folders. The library drops the slash at the end of their names.
        folders = {parent for name in found for parent in accumulate(name.split("/")[:-1], "{}/{}".format)}
        return {name: entry for name, entry in found.items() if name and (entry.size or name not in folders)}

    def upload(self, name: str, path: Path) -> None:
        """As Store.upload."""
        self._tried("write", name, lambda: obstore.put(self._store, name, path, chunk_size=CHUNK, max_concurrency=4))

    def download(self, name: str, path: Path) -> None:
        """As Store.download."""

        meta = self._tried("read", name, lambda: obstore.head(self._store, name))
        options: GetOptions = {} if meta["e_tag"] is None else {"if_match": meta["e_tag"]}

        def copy() -> None:
            with open(path, "wb") as file:
                # In ranges, as the library's limits of time are those of a request, not of a byte.
                for start in range(0, meta["size"], RANGE):
                    options["range"] = (start, min(start + RANGE, meta["size"]))
                    for chunk in obstore.get(self._store, name, options=options).stream(min_chunk_size=CHUNK):
                        file.write(chunk)

        try:
            self._tried("read", name, copy)
        except exceptions.PreconditionError:
            raise StorageError(f"{self.uri}/{name}: was replaced while it was read; try again.") from None

    def delete(self, names: Iterable[str]) -> None:
        """As Store.delete."""
        doomed = list(names)
        if not doomed:
            return
        try:
            self._tried("delete", doomed[0], lambda: obstore.delete(self._store, doomed))
        except FileNotFoundError:
            for name in doomed:
                try:
                    self._tried("delete", name, lambda name=name: obstore.delete(self._store, name))  # type: ignore[misc]
                except FileNotFoundError:
                    continue

    def _tried(self, what: str, name: str, step: Callable[[], Answer]) -> Answer:
        """Return what a step does; what the store says of it as one sentence without credentials."""
        place = f"{self.uri}/{name}".rstrip("/")
        try:
            return step()
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except FileNotFoundError as error:
            if NO_BUCKET.search(str(error)):
                raise RefusedError(f"{self.uri}: there is no such bucket; make it, or give another.") from None
            if what == "write":
                raise StorageError(f"{place}: the store could not write ({_reason(error)}).") from None
            raise FileNotFoundError(place) from None
        except FINAL as error:
            raise RefusedError(f"{place}: the store does not let us {what} ({_reason(error)}).") from None
        except NotImplementedError as error:  # of a condition, where AWS_CONDITIONAL_PUT is "disabled"
            raise UserError(f"{place}: the store does not let us {what} ({_reason(error)}).") from None
        except exceptions.BaseError as error:
            if WRONG_REGION.search(str(error)):
                raise RefusedError(
                    f"{self.uri}: the bucket is in another region than the requests name ({_reason(error)}); set "
                    "AWS_REGION to the bucket's."
                ) from None
            if FORBIDDEN.search(str(error)):  # what an answer to a list request is not told apart by
                raise RefusedError(f"{place}: the store does not let us {what} ({_reason(error)}).") from None
            if NO_BUCKET.search(str(error)):
                raise RefusedError(f"{self.uri}: there is no such bucket; make it, or give another.") from None
            raise StorageError(f"{place}: the store could not {what} ({_reason(error)}).") from None
        except OSError as error:  # of the local file, or of the connection while an answer comes
            raise StorageError(f"{place}: could not {what} ({error.strerror or _reason(error)}).") from None


def _reason(error: Exception) -> str:
    """Return the first line of an error, without queries of URLs, which may hold a signature or a token."""
    text = " ".join(str(error).split()).partition(" Debug source:")[0]
    text = re.sub(r"\?[^\s\"')]+", "?...", text)
    text = re.sub(SECRET, r"\1...", text)
    return text[:200].rstrip(". ")
