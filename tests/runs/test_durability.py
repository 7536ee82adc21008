"""An output is on the disk before it is in its place."""

import errno
import os
import stat
from pathlib import Path

import pytest

from spark_w2v.errors import StorageError
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.local_lock import LocalLock
from tests.support.runs import publish, save, start, writing


def test_every_file_is_on_the_disk_before_the_output_is_moved_into_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []  # inodes, in order
    moved: list[int] = []  # how many were synced when the output was moved
    fsync, move = os.fsync, LocalOutput.publish

    def recorded(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def last(path: Path) -> int:
        """The place of the last sync of a file or directory."""
        inode = path.stat().st_ino
        assert inode in synced, path
        return len(synced) - 1 - synced[::-1].index(inode)

    def checked(output: LocalOutput, staged: Path, lock: LocalLock | None = None) -> None:
        success = last(staged / "_SUCCESS")
        for path in staged.rglob("*"):
            assert path.name == "_SUCCESS" or last(path) < success, path
        assert last(staged) > success  # the directory, with the name of _SUCCESS in it
        moved.append(len(synced))
        move(output, staged, lock)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(LocalOutput, "publish", checked)
    for number in range(2):  # the second one replaces the first
        synced.clear()
        with start(tmp_path / "out", overwrite=True) as run:
            save(run, 1)
            run.append_metrics({"epoch": 1})
            run.publish(writing(str(number)), {"content": str(number)})
        assert last(tmp_path) >= moved[-1]  # the name of the output
    assert len(moved) == 2


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    rename, renamed = os.rename, list[str]()

    def recorded(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    def checked(source: Path, target: Path) -> None:
        if Path(target).parent.name == "checkpoints":
            assert {path.stat().st_ino for path in (Path(source), *Path(source).iterdir())} <= synced
            renamed.append(Path(target).name)
            synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "rename", checked)
    with start(tmp_path / "out") as run:
        for epoch in range(2):
            save(run, epoch)
            assert run.parameters_folder.stat().st_ino in synced
    assert renamed == ["00000000", "00000001"]
    publish(tmp_path / "out")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_directories_does_without(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, refused = os.fsync, list[int]()

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refused.append(descriptor)
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    with start(tmp_path / "out") as run:
        save(run, 1)
        run.publish(writing("1"), {})
    assert refused


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_directories(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with start(tmp_path / "out") as run:
        monkeypatch.setattr(os, "fsync", of_directories)
        with pytest.raises(StorageError, match="could not be written"):
            run.publish(writing("1"), {})
