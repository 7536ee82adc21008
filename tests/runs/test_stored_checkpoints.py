"""Checkpoints in a store that are damaged, incomplete, of another version or of another run."""

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import store_lock
from spark_w2v.runs.checkpoints import to_json
from spark_w2v.runs.stored_checkpoints import StoredCheckpoints
from spark_w2v.storage.objects import ObjectStore
from tests.support.runs import save, start, writing

FOLDER = ".working/checkpoints/"


@pytest.fixture
def output(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return f"{bucket}/{tmp_path.name}"


def objects(output: str) -> dict[str, bytes]:
    """Return the names of all files of checkpoints."""
    store = ObjectStore(output)
    return {name: store.read(name) or b"" for name in store.entries(FOLDER)}


def stop_after(output: str, *epochs: int, resume: bool = False) -> dict[str, bytes]:
    """Start a run that dies after some epochs; return what it leaves."""
    with start(output, resume=resume) as run:
        for epoch in epochs:
            run.append_metrics({"epoch": epoch})
            save(run, epoch)
    return objects(output)


def resumed(output: str) -> int | None:
    """Return the epoch from which a run goes on."""
    with start(output, resume=True) as run:
        found = run.load_checkpoint()
        if found is None:
            return None
        assert run.metrics() == [{"epoch": epoch + 1} for epoch in range(found[0]["epoch"])]
        return int(found[0]["epoch"])


def files_of(left: dict[str, bytes], file: str) -> str:
    (name,) = [name for name in left if name.endswith(file)]
    return name


def test_the_newest_is_complete_before_the_one_before_is_deleted(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(output, 1)
    seen: list[set[str]] = []
    upload = ObjectStore.upload

    def watched(self: ObjectStore, name: str, path: Path) -> None:
        seen.append({name.split("/")[3][:8] for name in objects(output) if name.endswith("manifest.json")})
        upload(self, name, path)

    monkeypatch.setattr(ObjectStore, "upload", watched)
    left = stop_after(output, 2, resume=True)
    assert seen == [{"00000000"}] * 3
    assert {name.split("/")[3][:8] for name in left} == {"00000001"}


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("file", ["center.f32", "context.f32", "manifest.json"])
@pytest.mark.parametrize("damage", ["a bit", "half", "empty", "gone"])
def test_a_damaged_newest_one_gives_the_one_before_with_a_warning(
    output: str, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = stop_after(output, 1)
    newest = stop_after(output, 2, resume=True)
    store = ObjectStore(output)
    for name, content in before.items():
        store.write(name, content)
    name = files_of(newest, file)
    flipped = bytearray(newest[name])
    flipped[len(flipped) // 2] ^= 4
    damaged = {"a bit": bytes(flipped), "half": newest[name][: len(flipped) // 2], "empty": b""}
    if damage == "gone":
        store.delete([name])
    else:
        store.write(name, damaged[damage])
    assert resumed(output) == 1
    assert ("is passed over, as it is damaged" in caplog.text) == (damage != "gone")


def test_one_of_a_newer_version_is_left_alone(output: str) -> None:
    left = stop_after(output, 1)
    name = files_of(left, "manifest.json")
    manifest = json.loads(left[name]) | {"format": 99}
    ObjectStore(output).write(name, to_json(manifest).encode())
    before = objects(output)
    with pytest.raises(UserError, match=r"written by another version of spark_w2v \(format 99"):
        start(output, resume=True)
    assert objects(output) == before


def test_one_of_another_run_is_refused_and_left(output: str) -> None:
    before = stop_after(output, 1)
    with pytest.raises(UserError, match="its checkpoint is of another run"):
        start(output, resume=True, other=1)
    assert objects(output) == before


def test_a_run_without_resume_removes_them_before_it_trains(output: str) -> None:
    before = stop_after(output, 1)
    with start(output):
        pass
    assert objects(output) == before
    with start(output) as run:
        run.forget_earlier()
        assert objects(output) == {}
    assert ObjectStore(output).entries() == {}


def test_an_upload_that_still_runs_when_the_run_ends_finds_its_files(
    output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = ObjectStore.upload

    def slow(store: ObjectStore, name: str, path: Path) -> None:
        if name.startswith(FOLDER):
            time.sleep(0.3)
        upload(store, name, path)

    monkeypatch.setattr(ObjectStore, "upload", slow)
    with start(output) as run:
        save(run, 1)
        run.publish(writing("1"), {})
    assert "was not uploaded" not in caplog.text
    assert objects(output) == {}


def test_training_goes_on_while_one_is_uploaded_and_two_uploads_that_fail_end_the_run(
    output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    put = StoredCheckpoints._put

    def slow(self: StoredCheckpoints, *arguments: object) -> None:
        assert goes_on.wait(20), "training waited for the upload"
        raise StorageError("the store could not write")

    with start(output) as run:
        monkeypatch.setattr(StoredCheckpoints, "_put", slow)
        run.append_metrics({"epoch": 1})
        save(run, 1)
        goes_on.set()
        run.append_metrics({"epoch": 2})
        save(run, 2)
        assert "a checkpoint was not uploaded: the store could not write" in caplog.text
        run.append_metrics({"epoch": 3})
        with pytest.raises(StorageError, match="could not write"):
            save(run, 3)
        # It is here still, and the store may be well again.
        monkeypatch.setattr(StoredCheckpoints, "_put", put)
    assert resumed(output) == 3


def test_an_upload_that_fails_is_made_good_by_the_next_one(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = StoredCheckpoints._put

    def fail(self: StoredCheckpoints, *arguments: object) -> None:
        raise StorageError("the store could not write")

    with start(output) as run:
        for number in (1, 3, 5):  # each second one, so that never two in a row
            monkeypatch.setattr(StoredCheckpoints, "_put", fail)
            run.append_metrics({"epoch": number})
            save(run, number)
            run._place.wait()
            monkeypatch.setattr(StoredCheckpoints, "_put", put)
            run.append_metrics({"epoch": number + 1})
            save(run, number + 1)
    assert resumed(output) == 6


def take_over(store: ObjectStore, token: str) -> None:
    """Take over, as a run of another host does when this one has stood still."""
    assert store.create(f"{store_lock.FOLDER}next-{token}", b'{"token": "other", "pid": 1, "host": "other"}')


def test_a_run_that_was_taken_over_while_it_uploads_deletes_nothing_of_the_other(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(output)
    others = f"{FOLDER}run/00000000-{'a' * 32}/center.f32"
    upload = ObjectStore.upload

    def taken_over(self: ObjectStore, name: str, path: Path) -> None:
        upload(self, name, path)
        if name.endswith("manifest.json"):
            take_over(store, name.split("/")[3].partition("-")[2])
            store.write(others, b"of the other")

    monkeypatch.setattr(ObjectStore, "upload", taken_over)
    with start(output) as run:
        save(run, 1)
        with pytest.raises(StorageError, match="another run has taken over"):
            save(run, 2)
    assert store.read(others) == b"of the other"


def test_an_upload_goes_no_further_once_the_output_is_published(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, uploaded = ObjectStore.upload, list[str]()

    def slow(store: ObjectStore, name: str, path: Path) -> None:
        if name.startswith(FOLDER):
            uploaded.append(name.rpartition("/")[2])
            assert checkpoints._is_over.wait(20), "the run ended without a word to the upload"
        upload(store, name, path)

    monkeypatch.setattr(ObjectStore, "upload", slow)
    with start(output) as run:
        checkpoints: Any = run._place._checkpoints  # type: ignore[union-attr]
        save(run, 1)
        run.publish(writing("1"), {})
    assert uploaded == ["center.f32"]
    assert objects(output) == {}
