"""Checkpoints: a complete state of training in a directory of parameter files, with a manifest of digests.

    checkpoints/NNNNNNNN/          the newest has the highest number
      center.f32, context.f32      the parameters, as ParameterFiles has them
      manifest.json                position, fingerprint, shape of the parameters and digests of both files
    checkpoints/.NAME.unfinished/  parameters that are not a checkpoint, or not yet

No byte of the parameters is copied: their directory gets its manifest and then its name. Nothing is unpickled.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs.parameter_files import NAMES, WRITTEN, ParameterFiles, paths
from spark_w2v.storage.files import ABSENT, fsync, open_file, reason, remove_written

log = logging.getLogger(__name__)

FORMAT = 2  # 1 had the arrays in .npy files
CHUNK = 16 << 20  # bytes read at a time, of each file; whole float32s
LARGEST_MANIFEST = 64 << 20  # bytes; the fingerprint of a corpus may name a million files
NAME = re.compile(r"[0-9]{8}")
BODY = ("position", "fingerprint", "metrics_bytes", "words", "dimensions", "digests")  # of a manifest

Position = dict[str, Any]


class Checkpoint(NamedTuple):
    """One complete state of training: position, parameters, fingerprint of the run, bytes of metrics up to it."""

    position: Position
    parameters: ParameterFiles
    fingerprint: dict[str, Any]
    metrics_bytes: int


def write_checkpoint(
    directory: Path, number: int, checkpoint: Checkpoint, assert_held: Callable[[], None] = lambda: None
) -> None:
    """Make parameters a checkpoint, and then remove all others; there is one at every moment.

    Args:
        directory: of all checkpoints.
        checkpoint: its parameters are temporary, in this directory, and no longer written to.
        assert_held: raises where another run has taken over, as may happen while a large file is read.

    Raises:
        ValueError: a parameter is not finite, or they are a checkpoint already.
        OSError: the storage refuses; the parameters are still temporary, or a checkpoint.
    """
    parameters = checkpoint.parameters
    if not parameters.is_temporary:
        raise ValueError(f"{parameters.directory} is a checkpoint already")
    parameters.flush()
    words, dimensions = parameters.center.shape
    body = checkpoint._asdict() | {
        "words": words,
        "dimensions": dimensions,
        "digests": _digests(parameters.directory),
    }
    del body["parameters"]
    text = to_json({"format": FORMAT, "sha256": _checksum(body), "body": body})
    manifest = parameters.directory / "manifest.json"
    try:
        with open(manifest, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fsync(parameters.directory)
        assert_held()
        parameters.move_to(directory / f"{number:08d}")
    except BaseException:
        with contextlib.suppress(OSError):
            manifest.unlink(missing_ok=True)
        raise
    fsync(directory)
    assert_held()
    for path in numbered(directory):
        if path != parameters.directory:
            remove_written(path, WRITTEN)


def newest_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is complete and undamaged, or None; damaged ones are logged as warnings.

    Raises:
        UserError: it is of a version of this program that wrote checkpoints in another format.
        StorageError: it could not be read now, and perhaps can later.
    """
    for path in sorted(numbered(directory), reverse=True):
        try:
            return _read(path)
        except _DamageError as damage:
            log.warning("%s: is passed over, as it is damaged: %s", path, damage)
        except (OSError, MemoryError) as error:
            if not isinstance(error, OSError) or error.errno not in ABSENT:
                raise StorageError(f"{path}: the checkpoint could not be read: {reason(error)}.") from None
            log.warning("%s: is passed over, as it is damaged: %s", path, reason(error))
    return None


def numbered(directory: Path) -> list[Path]:
    """Return the directories of all checkpoints, complete or not.

    Raises:
        StorageError: they cannot be listed.
    """
    return [path for path in _entries(directory) if NAME.fullmatch(path.name)]


def remove_unfinished(directory: Path) -> None:
    """Remove parameters of a run that are not a checkpoint."""
    for path in _entries(directory):
        if path.name.endswith(".unfinished"):
            remove_written(path, WRITTEN)


def to_json(value: Any) -> str:
    """Return JSON in the form that checksums are computed from."""
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


class _DamageError(Exception):
    """The reason why a checkpoint is not read."""


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{directory}: the checkpoints could not be listed: {reason(error)}.") from None


def _digests(directory: Path) -> dict[str, str]:
    """Return the digests of both files by NAMES; hashing releases the GIL, so two threads run."""
    with ThreadPoolExecutor(len(NAMES)) as threads:
        return dict(zip(NAMES, threads.map(_digest, paths(directory)), strict=True))


def _digest(path: Path) -> str:
    """Return the sha256 of a file of finite float32.

    Raises:
        ValueError: one of them is not finite.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        if not np.isfinite(np.frombuffer(chunk, "<f4")).all():
            raise ValueError(f"{path.name} has numbers that are not finite")
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[memoryview]:
    """Yield the bytes of a file, CHUNK at a time, each to be used before the next."""
    room = memoryview(bytearray(CHUNK))
    with open_file(path) as file:
        while size := file.readinto(room):  # of a BufferedReader: less than the room only where the file ends
            yield room[:size]


def _checksum(body: Any) -> str:
    return hashlib.sha256(to_json(body).encode()).hexdigest()


def _read(path: Path) -> Checkpoint:
    """Return a checkpoint; its manifest is checked before memory is allocated for it."""
    body: dict[str, Any] = dict.fromkeys(BODY) | _body(path)
    position, fingerprint, metrics_bytes, words, dimensions, digests = (body[name] for name in BODY)
    if not isinstance(position, dict) or not isinstance(fingerprint, dict) or not _is_size(metrics_bytes):
        raise _DamageError("manifest.json has a part of another type")
    if not _is_size(words) or not _is_size(dimensions) or not 0 < words * dimensions < 2**60:
        raise _DamageError("manifest.json has no such shape")
    if not isinstance(digests, dict) or set(digests) != set(NAMES):
        raise _DamageError("manifest.json has not the digests of both files")
    for file in paths(path):
        actual = file.stat().st_size
        if actual != words * dimensions * 4:
            raise _DamageError(f"{file.name} has {actual} bytes, not those of its shape")
    try:
        found = _digests(path)
    except ValueError as error:
        raise _DamageError(str(error)) from None
    for file in paths(path):
        if found[file.stem] != digests[file.stem]:
            raise _DamageError(f"{file.name} does not match its checksum")
    return Checkpoint(position, ParameterFiles.open(path, words, dimensions), fingerprint, metrics_bytes)


def _body(path: Path) -> dict[str, Any]:
    """Return the body of a manifest whose checksum matches."""
    with open_file(path / "manifest.json") as file:
        text = file.read(LARGEST_MANIFEST + 1)
    try:
        manifest = json.loads(text, parse_constant=_refuse_constant)
        version = manifest["format"]
        if is_ours := not isinstance(version, int) or version == FORMAT:
            body = manifest["body"]
            is_whole = isinstance(body, dict) and manifest["sha256"] == _checksum(body)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _DamageError(f"manifest.json is no manifest ({type(error).__name__})") from None
    if not is_ours:
        # Its checksum may be of another kind. Passed over it would be removed, once there is a newer one.
        raise UserError(
            f"{path}: this checkpoint was written by another version of spark_w2v (format {str(version)[:20]}, and "
            f"this one reads {FORMAT}), so it is not touched; resume with that version, or start without --resume."
        )
    if not is_whole or version != FORMAT:
        raise _DamageError("manifest.json does not match its checksum")
    return dict(body)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
