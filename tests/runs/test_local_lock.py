"""One run at a time works in a working directory of this host."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.errors import BusyError, StorageError, UserError
from spark_w2v.runs import heartbeat_lock, ids, local_lock, processes
from tests.support.runs import CODES, child, end, faults, parameters, publish, save, start, tree, writing

HOLD = """
try:
    run = Run(output_of(sys.argv[1]), overwrite=False, resume=False, fingerprint={})
except UserError as error:
    print("refused", error, flush=True)
else:
    print("holds", flush=True)
    sys.stdin.read()
    run.close()
"""


def test_a_second_run_is_refused_while_the_first_lives_and_the_lock_of_a_killed_one_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = child(HOLD, str(tmp_path / "out"))
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    before = tree(tmp_path)
    with pytest.raises(
        UserError, match=f"another run is at work on it, process {process.pid} on {socket.gethostname()}"
    ):
        start(tmp_path / "out")
    assert tree(tmp_path) == before
    end(process)
    publish(tmp_path / "out")
    assert f"the lock of process {process.pid} on {socket.gethostname()} is stale and is taken over" in caplog.text
    assert os.listdir(tmp_path) == ["out"]


def test_of_many_runs_that_find_one_stale_lock_one_takes_it(tmp_path: Path) -> None:
    working = tmp_path / ".out.working"
    working.mkdir()
    (working / "lock").write_text('{"pid": 1, "host": "far"}')
    os.utime(working / "lock", (1, 1))
    # They wait for a line, so that they start together.
    processes = [child("sys.stdin.readline()\n" + HOLD, str(tmp_path / "out")) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().split()[0] for process in processes if process.stdout]
    for process in processes:
        process.communicate("")
    assert sorted(said) == ["holds", "refused", "refused", "refused"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("lock", "age", "is_stale"),
    [
        ({"pid": 1, "host": "far", "system": "far"}, 10, False),
        ({"pid": 1, "host": "far", "system": "far"}, 10_000, True),
        ({"pid": os.getpid(), "host": "here", "system": "SYSTEM", "started": "STARTED", "token": "1"}, 10_000, False),
        ({"pid": os.getpid(), "host": "here", "system": "SYSTEM", "started": "STARTED", "token": "2"}, 10, True),
        ({"pid": os.getppid(), "host": "here", "system": "SYSTEM", "token": "2"}, 10_000, False),
        ({"pid": os.getpid(), "host": "here", "system": "SYSTEM", "started": "an earlier process"}, 10, True),
        ({"pid": 2**40, "host": "here", "system": "SYSTEM", "started": "STARTED"}, 10, True),
        ("", 10, True),
        ('{"pid": 1', 10, True),
        ("rubbish", 10_000, True),
        ([], 10_000, True),
    ],
)
def test_a_lock_is_stale_when_its_process_is_gone_or_when_it_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: Any, age: float, is_stale: bool
) -> None:
    monkeypatch.setattr(processes, "_held", {"1"})
    if isinstance(lock, dict):
        own = {"SYSTEM": processes._system(), "STARTED": processes._started(os.getpid())}
        lock = {key: own.get(value, value) if isinstance(value, str) else value for key, value in lock.items()}
    path = tmp_path / ".out.working" / "lock"
    path.parent.mkdir()
    path.write_text(lock if isinstance(lock, str) else json.dumps(lock))
    os.utime(path, (time.time() - age, time.time() - age))
    if is_stale:
        publish(tmp_path / "out")
    else:
        with pytest.raises(UserError, match="another run is at work"):
            start(tmp_path / "out")


def test_a_clock_that_is_ahead_takes_no_lock_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".out.working" / "lock"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    now = time.time
    monkeypatch.setattr("spark_w2v.runs.local_lock.time.time", lambda: now() + 3600)
    with pytest.raises(UserError, match="another run is at work"):
        start(tmp_path / "out")
    os.utime(path, (now() - 301, now() - 301))
    publish(tmp_path / "out")


def test_half_of_a_lock_is_left_to_its_writer_where_nothing_keeps_two_of_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / ".out.working" / "lock"
    path.parent.mkdir()
    path.write_text("")
    with pytest.raises(UserError, match="another run is at work"):
        start(tmp_path / "out")
    os.utime(path, (1, 1))
    publish(tmp_path / "out")


def test_an_interrupted_notebook_gives_its_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as taking:
        taking.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "out")
    assert os.listdir(tmp_path) == []
    run = start(tmp_path / "out")
    with pytest.raises(UserError, match="another run is at work"):
        start(tmp_path / "out")
    monkeypatch.setattr(run._lock._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.close()
    start(tmp_path / "out").close()


def test_a_living_run_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_lock, "HEARTBEAT", 0.02)
    with start(tmp_path / "out") as run:
        os.utime(run.working / "lock", (1, 1))
        deadline = time.time() + 10
        while (run.working / "lock").stat().st_mtime == 1 and time.time() < deadline:
            time.sleep(0.01)
        assert time.time() - (run.working / "lock").stat().st_mtime < 100


def test_a_run_whose_lock_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        made = parameters(run.parameters_folder, 2)
        (run.working / "lock").write_text('{"token": "another"}')
        before = tree(tmp_path)
        with pytest.raises(StorageError, match="another run has taken over"):
            run.save_checkpoint({"epoch": 2}, made)
        with pytest.raises(StorageError, match="another run has taken over"):
            run.publish(writing("1"), {"content": "1"})
    assert tree(tmp_path) == before


def test_a_working_directory_that_another_run_removes_just_now_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, opened, really = tmp_path / ".out.working", list[str](), os.open

    def removed(path: Any, *options: Any, **more: Any) -> int:
        if Path(path) == working and not opened:
            working.rmdir()
        opened.append(str(path))
        return really(path, *options, **more)

    monkeypatch.setattr(os, "open", removed)
    with start(tmp_path / "out") as run:
        assert run.working.is_dir()


@pytest.mark.parametrize("is_of_the_run", [True, False])
def test_a_directory_that_another_program_has_locked_is_not_waited_for_without_end(
    is_of_the_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_lock, "LONGEST_HOLD", 0.1)
    directory = tmp_path / ".out.working" if is_of_the_run else tmp_path
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"another program has locked this directory \(flock\)"):
            start(tmp_path / "out") if is_of_the_run else ids.move_current(str(tmp_path), "1")
    finally:
        os.close(descriptor)


def test_a_run_ends_well_though_another_program_has_locked_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_lock, "LONGEST_HOLD", 0.1)
    with start(tmp_path / "out") as run:
        descriptor = os.open(run.working, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            run.publish(writing("1"), {})
        finally:
            os.close(descriptor)
    assert run.is_published
    publish(tmp_path / "out", "2", overwrite=True)  # as the lock that was left is of nobody


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("when", ["open", "read"])
def test_a_lock_that_cannot_be_read_now_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, when: str
) -> None:
    path = tmp_path / ".out.working" / "lock"
    path.parent.mkdir()
    path.write_text('{"pid": 1, "host": "far"}\n')
    os.utime(path, (1, 1))
    before = tree(tmp_path)
    with faults(monkeypatch, "lock", code, when=when), pytest.raises(StorageError, match="the lock could not be read"):
        start(tmp_path / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["stat", "boot_id"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_run_that_lives_keeps_its_lock_where_no_other_can_see_whether_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    with start(tmp_path / "out"):
        os.utime(tmp_path / ".out.working" / "lock", (1, 1))
        before = tree(tmp_path)
        with faults(monkeypatch, name, code), pytest.raises(StorageError, match=os.strerror(code)):
            start(tmp_path / "out")
        assert tree(tmp_path) == before


def test_a_process_that_is_hidden_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with faults(monkeypatch, "stat", errno.ENOENT), monkeypatch.context() as patched:
            patched.setattr(os, "kill", refuse)
            assert processes._started(process.pid) == "unknown"
    finally:
        process.communicate()
    assert processes._started(process.pid) is None
