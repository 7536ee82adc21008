"""How a run in a store ends: what a run that was taken over leaves, and what the next one does about it."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from spark_w2v.errors import UserError
from spark_w2v.runs import ids, processes, store_lock
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.processes import scratch_directory
from spark_w2v.runs.run import Run
from spark_w2v.runs.store_lock import StoreLock
from spark_w2v.storage.objects import ObjectStore


@pytest.fixture
def output(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return f"{bucket}/{tmp_path.name}"


def begin(output: str, run_id: str, keep_runs: int = 0) -> Run:
    return Run(output_of(output, run_id, keep_runs=keep_runs), overwrite=False, resume=False, fingerprint={})


def tagged(tag: str) -> str:
    return f"embeddings/part-00000-{tag * 16}.parquet"


def finish(output: str, run_id: str, tag: str = "a", keep_runs: int = 0) -> None:
    def write(staged: Path) -> None:
        (staged / "embeddings").mkdir()
        (staged / tagged(tag)).write_text(tag)

    with begin(output, run_id, keep_runs) as run:
        run.publish(write, {})


def test_what_a_run_that_was_taken_over_uploads_late_is_no_part_of_its_successor(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, upload = ObjectStore(output), ObjectStore.upload

    def at_the_same_time(self: ObjectStore, name: str, path: Path) -> None:
        store.write(f"runs/1/{tagged('a')}", b"a")
        upload(self, name, path)

    monkeypatch.setattr(ObjectStore, "upload", at_the_same_time)
    finish(output, "1", "b")
    assert [name for name in store.entries("runs/") if name.endswith(".parquet")] == [f"runs/1/{tagged('b')}"]


def test_a_run_whose_files_were_removed_before_it_was_published_is_not_published(
    output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finish(output, "good")
    dead = StoreLock(ObjectStore(output))
    dead.claim("half")
    dead.stop()
    monkeypatch.setattr(store_lock, "is_alive", lambda holder: False)
    with begin(output, "new"):
        assert "run half is not published, as its files were removed" in caplog.text
        assert ids.current(output) == "good"
    caplog.clear()
    finish(output, "new")
    assert ids.current(output) == "new"
    assert "half" not in caplog.text


def test_a_pointer_that_names_no_run_is_refused_before_a_run_of_an_id_is_trained(output: str) -> None:
    ObjectStore(output).write("CURRENT", b"runs/0\r\n")
    with pytest.raises(UserError, match="its file CURRENT names no run"):
        output_of(output, "1").check(overwrite=False, resume=False)


def test_what_a_host_or_a_container_left_that_restarted_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    alive, dead, older = (scratch_directory() for _ in range(3))
    for directory in (alive, dead, older):  # as of another boot, or another container, of which no process can be seen
        holder = json.loads((directory / "holder").read_text()) | {"system": "host boot-before pid:[1]"}
        (directory / "holder").write_text(json.dumps(holder))
    (older / "holder").write_text(json.dumps(holder | {"is_locked": False}))  # as an earlier version wrote it
    for directory in (dead, older):
        os.close(processes._locked.pop(directory))
    scratch_directory()
    assert (alive.exists(), dead.exists(), older.exists()) == (True, False, True)


def test_files_of_scratch_directories_are_not_held_open_for_longer_than_these_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(3):
        shutil.rmtree(scratch_directory())
    assert len([directory for directory in processes._locked if directory.parent == tmp_path]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "left"), [(1, {"4"}), (2, {"1", "3", "4"})])
def test_the_run_that_readers_had_stays_though_newer_ones_were_not_published(
    output: str, keep: int, left: set[str]
) -> None:
    finish(output, "1")
    for run_id in "23":
        time.sleep(1.1)  # the resolution of the store's clock
        with Run(output_of(output, run_id, move_pointer=False), overwrite=False, resume=False, fingerprint={}) as run:
            run.publish(lambda staged: None, {})
    time.sleep(1.1)
    finish(output, "4", keep_runs=keep)
    assert {name.split("/")[1] for name in ObjectStore(output).entries("runs/")} == left
