"""An output in a store: whole runs and a pointer, and nothing of this host that is not the run's own."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.commands import neighbors
from spark_w2v.commands import publish as publish_job
from spark_w2v.errors import RefusedError, StorageError, UserError
from spark_w2v.runs import ids, store_lock
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.run import Run
from spark_w2v.runs.store_lock import FOLDER, StoreLock
from spark_w2v.runs.stored import StoredOutput
from spark_w2v.runs.stored_checkpoints import StoredCheckpoints
from spark_w2v.storage.objects import ObjectStore
from tests.support.runs import ROOT, publish, save, start, tree, writing


@pytest.fixture(autouse=True)
def belongings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with something in it that no run may touch; never the checkout."""
    for name in ("scratch", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "thesis.tex").write_text("years of work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def output(bucket: str, tmp_path: Path) -> str:
    return f"{bucket}/{tmp_path.name}"


def test_no_step_of_a_run_touches_the_current_directory(
    output: str, tmp_path: Path, belongings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(belongings)
    for run_id in "12":
        with Run(output_of(output, run_id), overwrite=False, resume=False, fingerprint={}) as run:
            assert run.working.parent == tmp_path / "scratch"
            save(run, 1)
            run.publish(writing(run_id), {"content": run_id})
        assert tree(belongings) == before
    assert ids.current(output) == "2"
    assert publish_job.main([output, "1"]) == 0
    assert capsys.readouterr().out == f"{output}/CURRENT is run 1, it was 2\n"
    assert ids.current(output) == "1"
    output_of(output).leave()
    assert tree(belongings) == before
    assert list((tmp_path / "scratch").glob("spark_w2v-run-*")) == []
    assert not [name for name in ObjectStore(output).entries() if name.startswith(".working/")]


def test_the_run_before_stays_for_its_readers_and_the_one_before_goes(output: str) -> None:
    for number in range(3):
        publish(output, str(number), overwrite=number > 0)
    assert len({name.split("/")[1] for name in ObjectStore(output).entries("runs/")}) == 2
    assert (ids.directory_of(output) / "embeddings" / "part-00000.parquet").read_text() == "2"


def test_a_resumed_run_has_the_checkpoint_of_the_one_before(output: str) -> None:
    with start(output) as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
        expected = tree(run.parameters_folder)
    with start(output, resume=True) as run:
        assert tree(run.parameters_folder) == expected
        assert run.metrics() == [{"epoch": 1}]


def start_as(output: str, run_id: str) -> Run:
    return Run(output_of(output, run_id), overwrite=False, resume=False, fingerprint={})


def publish_as(output: str, run_id: str, keep_runs: int) -> None:
    with Run(output_of(output, run_id, keep_runs=keep_runs), overwrite=False, resume=False, fingerprint={}) as run:
        run.publish(writing(run_id), {"content": run_id})


def runs_in(output: str) -> set[str]:
    return {name.split("/")[1] for name in ObjectStore(output).entries("runs/")}


@pytest.mark.slow
def test_the_newest_runs_stay_and_those_with_files_of_others(output: str, caplog: pytest.LogCaptureFixture) -> None:
    for run_id in "321":
        publish_as(output, run_id, keep_runs=0)
        if run_id == "2":
            time.sleep(1.1)  # the resolution of the store's clock
    assert runs_in(output) == set("321")
    ObjectStore(output).write("runs/3/embeddings/thesis.tex", b"years of work")
    publish_as(output, "0", keep_runs=2)
    assert runs_in(output) == set("013")
    assert "runs/3/: is kept, as no run wrote runs/3/embeddings/thesis.tex" in caplog.text


@pytest.mark.slow
def test_publishing_an_earlier_run_removes_all_but_the_newest_on_request(output: str) -> None:
    for run_id in "123":
        publish_as(output, run_id, keep_runs=0)
        time.sleep(1.1)  # the resolution of the store's clock
    assert ids.move_current(output, "1") == "3"
    assert runs_in(output) == set("123")
    assert ids.move_current(output, "1", 1) == "1"
    assert runs_in(output) == set("13")


@pytest.mark.parametrize("name", ["thesis.tex", "runs/1/thesis.tex", "embeddings/part-00000.parquet"])
def test_a_directory_with_files_of_others_is_refused(output: str, name: str) -> None:
    ObjectStore(output).write(name, b"years of work")
    with pytest.raises(UserError, match=f"holds {name}, which no run wrote"):
        output_of(output, "1").check(overwrite=True, resume=False)
    assert list(ObjectStore(output).entries()) == [name]


def test_folders_that_a_console_made_are_no_files_of_others(output: str) -> None:
    import boto3  # type: ignore[import-untyped]

    root = output.removeprefix("s3://bucket/")

    def make(*folders: str) -> None:
        for folder in folders:
            boto3.client("s3").put_object(Bucket="bucket", Key=f"{root}/{folder}", Body=b"")

    make("", "runs/", ".working/", "runs/1/")
    output_of(output, "1").check(overwrite=False, resume=False)
    publish_as(output, "1", keep_runs=0)
    make("runs/1/embeddings/")
    assert "runs/1/_SUCCESS" in ObjectStore(output).entries(), "which is empty, too"
    assert not {"", "runs", "runs/1", "runs/1/embeddings"} & ObjectStore(output).entries().keys()
    publish_as(output, "2", keep_runs=1)
    assert "runs/1/_SUCCESS" not in ObjectStore(output).entries(), "nothing in its folder is unknown"
    make("thesis/")
    with pytest.raises(UserError, match="holds thesis, which no run wrote"):
        output_of(output, "3").check(overwrite=False, resume=False)


def test_a_file_of_others_that_comes_while_a_run_is_at_work_is_kept(output: str) -> None:
    store = ObjectStore(output)
    with start_as(output, "1") as run:
        store.write("runs/1/thesis.tex", b"years of work")
        run.publish(writing("1"), {})
    assert store.read("runs/1/thesis.tex") == b"years of work"
    assert store.read("runs/1/_SUCCESS") == b""


def test_a_run_that_is_taken_over_after_its_upload_is_not_published(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(output, "before")
    store, before = ObjectStore(output), ids.current(output)
    upload = ObjectStore.upload

    def taken_over(self: ObjectStore, name: str, path: Path) -> None:
        upload(self, name, path)
        if name.endswith("run.json"):  # the last but _SUCCESS
            lock = json.loads(store.read(f"{FOLDER}lock") or b"")
            assert store.create(f"{FOLDER}next-{lock['token']}", b'{"token": "other", "pid": 1, "host": "other"}')

    monkeypatch.setattr(ObjectStore, "upload", taken_over)
    with pytest.raises(StorageError, match="another run has taken over"):
        publish(output, "after", overwrite=True)
    assert ids.current(output) == before
    assert not [name for name in store.entries("runs/") if name.endswith("/_SUCCESS") and f"/{before}/" not in name]


@pytest.mark.parametrize("move_pointer", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_a_run_that_is_taken_over_while_it_uploads_uploads_no_more(
    output: str, monkeypatch: pytest.MonkeyPatch, move_pointer: bool, last: bool
) -> None:
    store, uploaded, upload = ObjectStore(output), list[str](), ObjectStore.upload

    def taken_over(self: ObjectStore, name: str, path: Path) -> None:
        upload(self, name, path)
        uploaded.append(name)
        if name.endswith("run.json") if last else len(uploaded) == 1:
            lock = json.loads(store.read(f"{FOLDER}lock") or b"")
            assert store.create(f"{FOLDER}next-{lock['token']}", b'{"token": "other", "pid": 1, "host": "other"}')

    monkeypatch.setattr(ObjectStore, "upload", taken_over)
    place = output_of(output, "1", move_pointer=move_pointer)
    with (
        pytest.raises(StorageError, match="another run has taken over"),
        Run(place, overwrite=False, resume=False, fingerprint={}) as run,
    ):
        run.publish(writing("1"), {})
    assert len(uploaded) == (5 if last else 1)
    assert sorted(store.entries("runs/")) == sorted(uploaded)  # without _SUCCESS
    assert store.read("CURRENT") is None


def test_only_what_runs_write_is_copied_to_a_reader(output: str) -> None:
    publish_as(output, "1", keep_runs=0)
    ObjectStore(output).write("runs/1/thesis.tex", b"years of work")
    assert sorted(path.name for path in ids.directory_of(output).iterdir()) == [
        "_SUCCESS", "embeddings", "metrics.jsonl", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_is_removed_while_it_is_copied_is_not_what_a_reader_gets(
    output: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_as(output, "1", keep_runs=0)
    publish_as(output, "2", keep_runs=0)
    ids.move_current(output, "1")
    download, gone = StoredOutput.download, [f"runs/1/{name}" for name in ("_SUCCESS", "embeddings/part-00000.parquet")]

    def remove(stored: StoredOutput, run: str, directory: Path) -> None:
        if moment == "after":
            download(stored, run, directory)
        if run == "1":
            ids.move_current(output, "2")
            ObjectStore(output).delete(gone)
        if moment == "before":
            download(stored, run, directory)

    monkeypatch.setattr(StoredOutput, "download", remove)
    assert ids.directory_of(output).name == "2"
    with pytest.raises(UserError, match="has no finished run"):
        ids.directory_of(f"{output}/runs/1")


def test_a_publication_that_cannot_be_finished_now_leaves_its_lock_to_the_next(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = StoreLock(ObjectStore(output))
    ObjectStore(output).write("runs/1/run.json", b"{}")
    dead.claim("1")
    dead.stop()
    monkeypatch.setattr(store_lock, "is_alive", lambda holder: False)
    replace = ObjectStore.replace

    def replace_but_current(store: ObjectStore, name: str, *contents: Any) -> bool:
        if name == "CURRENT":
            raise StorageError("refused")
        return replace(store, name, *contents)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "replace", replace_but_current)
        with pytest.raises(StorageError, match="refused"):
            output_of(output).lock()
    assert not [thread for thread in threading.enumerate() if thread.name == "lock heartbeat"]
    output_of(output).lock().release()
    assert ids.current(output) == "1"
    assert not [name for name in ObjectStore(output).entries() if name.startswith(FOLDER)]


def test_a_run_that_is_interrupted_before_it_moves_the_pointer_is_published_by_the_next(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = ObjectStore.replace

    def interrupt_current(store: ObjectStore, name: str, *contents: Any) -> bool:
        if name == "CURRENT":
            raise KeyboardInterrupt
        return replace(store, name, *contents)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "replace", interrupt_current)
        with pytest.raises(KeyboardInterrupt):
            publish_as(output, "1", keep_runs=0)
    assert ids.current(output) is None
    # In the same process, as in a notebook.
    with Run(output_of(output, "1"), overwrite=False, resume=False, fingerprint={}, keeps_finished=True) as run:
        assert run.is_published
    assert ids.current(output) == "1"


@pytest.mark.slow
def test_what_dead_runs_left_goes_with_the_runs_of_their_time(output: str) -> None:
    store = ObjectStore(output)
    with start_as(output, "left") as run:
        save(run, 1)
    store.write("runs/half/run.json", b"{}")
    store.write("runs/mixed/run.json", b"{}")
    store.write("runs/mixed/thesis.tex", b"years of work")
    store.write("runs/mixed/derived/_SUCCESS", b"")  # which makes it no run
    for run_id in "12":
        time.sleep(1.1)  # the resolution of the store's clock
        publish_as(output, run_id, keep_runs=3)
    store.write("runs/young/run.json", b"{}")
    assert runs_in(output) == {"1", "2", "half", "mixed", "young"}
    publish_as(output, "3", keep_runs=2)
    assert runs_in(output) == {"2", "3", "mixed", "young"}
    assert not [name for name in store.entries() if name.startswith(f"{FOLDER}checkpoints/")]


def test_a_run_whose_predecessor_died_while_it_published_has_nothing_to_do(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_as(output, "1", keep_runs=0)
    store = ObjectStore(output)
    store.delete(["runs/1/_SUCCESS", "CURRENT"])
    dead = StoreLock(store)
    dead.claim("1")
    dead.stop()
    monkeypatch.setattr(store_lock, "is_alive", lambda holder: False)
    place = output_of(output, "1")
    with Run(place, overwrite=False, resume=False, fingerprint={}, keeps_finished=True) as run:
        assert run.is_published
    assert ids.current(output) == "1"


def test_a_store_that_forbids_deleting_at_the_end_leaves_a_published_run(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("forbidden")

    with start_as(output, "1") as run:
        save(run, 1)
        monkeypatch.setattr(StoredCheckpoints, "delete", refuse)
        run.publish(writing("1"), {})
    assert run.is_published
    assert ids.current(output) == "1"
    assert not run.working.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "lock heartbeat"]


def test_copies_of_readers_that_were_killed_are_removed_by_the_next(output: str, tmp_path: Path) -> None:
    publish_as(output, "1", keep_runs=0)
    program = "import os, sys; from spark_w2v.runs import ids; print(ids.directory_of(sys.argv[1])); os._exit(9)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "scratch")}
    told = subprocess.run([sys.executable, "-c", program, output], env=environment, capture_output=True, text=True)
    left = Path(told.stdout.strip())
    assert left.is_dir()
    for strange in ("[]", "1", "x"):
        (tmp_path / "scratch" / f"spark_w2v-run-{strange}").mkdir()
        (tmp_path / "scratch" / f"spark_w2v-run-{strange}" / "holder").write_text(strange)
    assert (ids.directory_of(output) / "run.json").exists()
    assert not left.exists()


@pytest.mark.parametrize(
    ("owner", "function", "error", "status", "says"),
    [
        (tempfile, "gettempdir", FileNotFoundError(errno.ENOENT, "No usable one in ['/x']"), 2, r"\(No usable one in"),
        (tempfile, "mkdtemp", OSError(errno.EROFS, "Read-only file system", "/tmp/spark"), 2, r"/tmp/spark: cannot .*"),
        (Path, "write_text", OSError(errno.ENOSPC, "No space left", "/tmp/holder"), 75, r"/holder: .* \(the disk is"),
        (Path, "mkdir", OSError(errno.ENOSPC, "No space left", "/tmp/1/embeddings"), 75, r"dings: .* \(the disk is"),
    ],
)
def test_a_temporary_directory_that_cannot_be_used_is_one_sentence(
    output: str, tmp_path: Path, owner: Any, function: str, error: OSError, status: int, says: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish_as(output, "1", keep_runs=0)

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(owner, function, refuse)
        assert neighbors.main([output, "word"]) == status
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert said.endswith("; set TMPDIR to another directory for temporary files.\n")
    assert said.count("\n") == 1
    if function == "write_text":
        assert list((tmp_path / "scratch").iterdir()) == []


def test_a_run_that_is_interrupted_while_it_ends_gives_its_output_back(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), start_as(output, "1"):
        patched.setattr(StoredCheckpoints, "close", interrupt)
    assert list((tmp_path / "scratch").iterdir()) == []
    with start_as(output, "1"):  # in the same process, as in a notebook
        pass


def test_what_another_user_left_as_the_directory_of_a_run_is_not_waited_for(output: str, tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "spark_w2v-run-left"
    left.mkdir()
    os.mkfifo(left / "holder")
    with start_as(output, "1"):
        pass
