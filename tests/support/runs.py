"""Runs on an output, and harm done to them."""

import builtins
import contextlib
import errno
import io
import json
import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.runs.run import Run

ROOT = Path(__file__).resolve().parents[2]
FINGERPRINT = {"training": {"epochs": 3, "seed": 1}, "corpus": {"paths": ["a.txt"]}}


def start(output: Path | str, *, overwrite: bool = False, resume: bool = False, **fingerprint: Any) -> Run:
    return Run(output_of(str(output)), overwrite=overwrite, resume=resume, fingerprint=fingerprint or FINGERPRINT)


def writing(content: str, parts: int = 3) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "embeddings").mkdir()
        for part in range(parts):
            (directory / "embeddings" / f"part-{part:05d}.parquet").write_text(content)

    return write


def publish(output: Path | str, content: str = "1", **options: bool) -> None:
    with start(output, **options) as run:
        run.publish(writing(content), {"content": content})


def parameters(folder: Path, value: float, words: int = 1000) -> ParameterFiles:
    """Return temporary parameters of one value, with a unique name."""
    made = ParameterFiles.create(folder / f".{uuid.uuid4().hex}.unfinished", words, 4)
    made.center[:], made.context[:] = value, -value
    return made


def save(run: Run, epoch: int, words: int = 1000) -> None:
    """Save a checkpoint whose numbers are all the epoch's."""
    run.save_checkpoint({"epoch": epoch}, parameters(run.parameters_folder, epoch, words))


def tree(directory: Path) -> dict[str, bytes | None]:
    """Return the content of each file below a directory, None for a directory, by path."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def contents(output: Path) -> set[str]:
    """Return the contents that a reader of an output finds: one value, unless the reading is torn."""
    directory = os.open(output, os.O_RDONLY | os.O_DIRECTORY)

    def text(name: str) -> str:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        with open(descriptor, encoding="utf-8") as file:
            return file.read()

    try:
        found = {json.loads(text("run.json"))["content"]} | {
            text(f"embeddings/part-{part:05d}.parquet") for part in range(3)
        }
        text("_SUCCESS")
        return found
    finally:
        os.close(directory)


def child(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a process that runs a program after the imports that all programs need."""
    head = (
        "import json, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from spark_w2v.errors import UserError\n"
        "from spark_w2v.runs.outputs import output_of\nfrom spark_w2v.runs.run import Run\n"
        "from spark_w2v.runs.parameter_files import ParameterFiles\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def end(process: "subprocess.Popen[str]") -> str:
    """Kill a process with SIGKILL; return what it had printed until then."""
    process.kill()
    printed, _ = process.communicate()
    return printed


def make_stranger(path: Path, kind: str) -> None:
    """Make something that no run writes, of one of STRANGERS."""
    match kind:
        case "file":
            path.write_text("mine")
        case "directory":
            path.mkdir()
        case "full directory":
            path.mkdir()
            (path / "mine").write_text("mine")
        case "link":
            path.symlink_to(path.parent / "nowhere")
        case "link to a directory":
            elsewhere = next(parent for parent in path.parents if parent.name.startswith("test_")) / "precious"
            elsewhere.mkdir(exist_ok=True)
            path.symlink_to(elsewhere)
        case "FIFO":
            os.mkfifo(path)


STRANGERS = ["file", "directory", "full directory", "link", "link to a directory", "FIFO"]


def everything(directory: Path) -> dict[str, Any]:
    """As tree, with the targets of links and the kinds of other files."""
    return {
        str(path.relative_to(directory)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else stat.S_IFMT(path.stat().st_mode)
        for path in sorted(directory.rglob("*"))
    }


CODES = [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES]


@contextlib.contextmanager
def faults(monkeypatch: pytest.MonkeyPatch, name: str, code: int, *, when: str = "open") -> Iterator[None]:
    """Let system calls fail that open, list or stat a file or directory of this name; or those that read it."""

    class Unreadable(io.BufferedReader):
        def read(self, *_: Any) -> Any:
            raise OSError(code, os.strerror(code))

        readinto = readline = read1 = read

    def failing(function: Any) -> Any:
        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            is_it = isinstance(path, str | os.PathLike) and os.path.basename(os.fspath(path)) == name
            if is_it and when == "open":
                raise OSError(code, os.strerror(code), str(path))
            found = function(path, *arguments, **more)
            return Unreadable(found.detach()) if is_it and isinstance(found, io.BufferedIOBase) else found

        return call

    with monkeypatch.context() as patched:
        looks = ((os, function) for function in ("open", "listdir", "scandir", "stat", "lstat"))
        for owner, function in ((builtins, "open"), (io, "open"), *looks):
            patched.setattr(owner, function, failing(getattr(owner, function)))
        yield


def make_run(directory: Path) -> Path:
    """Make what a finished run is known by, in a new directory."""
    (directory / "embeddings").mkdir(parents=True)
    for name in ("_SUCCESS", "run.json"):
        (directory / name).touch()
    return directory
