"""One run at a time writes to an output in a store."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.errors import BusyError, StorageError
from spark_w2v.runs import heartbeat_lock, store_lock
from spark_w2v.runs.store_lock import FOLDER, LostError, StoreLock
from spark_w2v.storage.objects import ObjectStore
from spark_w2v.storage.store import Entry


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> ObjectStore:
    return ObjectStore(f"{bucket}/{tmp_path.name}")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make locks stale after a second, which is the resolution of the store's clock."""
    monkeypatch.setattr(heartbeat_lock, "STALE", 1.0)
    monkeypatch.setattr(heartbeat_lock, "HEARTBEAT", 0.2)


def leave_a_lock(store: ObjectStore, token: str = "dead", **facts: Any) -> None:
    """Leave the lock of a run that dies on another host."""
    content = json.dumps({"token": token, "pid": 1, "host": "elsewhere", "system": "elsewhere", **facts})
    store.write(f"{FOLDER}lock", content.encode())


def test_a_second_run_is_told_who_is_at_work(store: ObjectStore) -> None:
    lock = StoreLock(store)
    with pytest.raises(BusyError, match=r"another run is at work on it, process \d+ on"):
        StoreLock(store)
    lock.release()
    assert store.entries() == {}
    StoreLock(store).release()


@pytest.mark.usefixtures("short")
def test_a_lock_of_another_host_is_taken_over_when_it_gives_no_sign_of_life(store: ObjectStore) -> None:
    leave_a_lock(store)
    with pytest.raises(BusyError, match="process 1 on elsewhere"):
        StoreLock(store)
    time.sleep(2.05)
    lock = StoreLock(store)
    assert lock.is_held()
    lock.release()
    assert store.entries() == {}


@pytest.mark.usefixtures("short")
def test_a_lock_that_gives_signs_of_life_is_not_taken_over(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lock, "is_alive", lambda facts: None)  # as on another host
    lock = StoreLock(store)
    for _ in range(3):
        time.sleep(1)
        with pytest.raises(BusyError):
            StoreLock(store)
    lock.release()


def test_a_sign_of_life_that_is_missing_while_it_is_replaced_is_waited_for(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hadoop's file systems, but for HDFS, delete a file before they rename another to its name."""
    monkeypatch.setattr(heartbeat_lock, "STALE", -0.5)
    monkeypatch.setattr(store_lock, "PAUSE", 0.01)
    leave_a_lock(store, token="alive")
    listed = store.entries
    listings: list[str] = []

    def entries(prefix: str = "") -> dict[str, Entry]:
        listings.append(prefix)
        later = Entry(0, time.time() + 60)
        return listed(prefix) | ({f"{FOLDER}alive-alive": later} if len(listings) > 1 else {})

    monkeypatch.setattr(store, "entries", entries)
    with pytest.raises(BusyError, match="process 1 on elsewhere"):
        StoreLock(store)
    assert len(listings) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_of_twenty_contenders_for_a_stale_lock_one_wins(store: ObjectStore) -> None:
    leave_a_lock(store)
    time.sleep(2.05)

    def contend(_: int) -> StoreLock | None:
        try:
            return StoreLock(store)
        except BusyError:
            return None

    with ThreadPoolExecutor(20) as threads:
        held = [lock for lock in threads.map(contend, range(20)) if lock is not None]
    assert len(held) == 1
    assert held[0].is_held()
    held[0].release()
    assert store.entries() == {}


@pytest.mark.usefixtures("short")
def test_a_holder_that_stood_still_can_publish_nothing(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lock, "is_alive", lambda facts: None)
    slow = StoreLock(store)
    slow._stop.set()  # it stands still
    slow._thread.join()
    time.sleep(2.05)
    fast = StoreLock(store)
    with pytest.raises(LostError):
        slow.assert_held()
    with pytest.raises(LostError):
        slow.claim("slow")
    fast.claim("fast")
    fast.published()
    fast.release()
    # All that was in its way is gone.
    with pytest.raises(LostError):
        slow.claim("slow")
    slow.release()
    assert store.entries() == {}


@pytest.mark.usefixtures("short")
def test_who_takes_over_learns_of_a_publication_that_was_begun(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "is_alive", lambda facts: None)
    dead = StoreLock(store)
    dead.claim("ID")
    dead._stop.set()
    dead._thread.join()
    time.sleep(2.05)
    lock = StoreLock(store)
    assert lock.publishes == "ID"
    lock.published()
    lock.release()
    assert store.entries() == {}


@pytest.mark.parametrize("error", [StorageError("could not be written (503)."), KeyboardInterrupt()])
@pytest.mark.parametrize("answers", [True, False])
def test_a_lock_that_was_half_taken_does_not_keep_its_own_process_out(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, error: BaseException, answers: bool
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(store, "write", fail)
        if not answers:
            failing.setattr(store, "delete", fail)
        with pytest.raises(type(error)):
            StoreLock(store)
    assert answers == (store.entries() == {})
    lock = StoreLock(store)
    with pytest.raises(BusyError):
        StoreLock(store)
    lock.release()
    assert store.entries() == {}


def test_a_lock_that_could_not_be_given_back_does_not_keep_its_own_process_out(store: ObjectStore) -> None:
    lock = StoreLock(store)
    lock.stop()  # as where the store does not answer at the end
    StoreLock(store).release()
    assert store.entries() == {}


def test_a_lock_is_held_until_it_is_given_back(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, is_held = StoreLock(store), StoreLock.is_held

    def while_it_is_released(lock: StoreLock) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(StoreLock, "is_held", is_held)
            with pytest.raises(BusyError):  # as of another thread of this process
                StoreLock(store)
        return is_held(lock)

    with monkeypatch.context() as patched:
        patched.setattr(StoreLock, "is_held", while_it_is_released)
        lock.release()
    assert store.entries() == {}


def test_a_claim_whose_answer_is_lost_does_not_keep_its_own_process_out(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, create = StoreLock(store), ObjectStore.create

    def lost(store: ObjectStore, name: str, content: bytes) -> bool:
        create(store, name, content)
        raise StorageError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "create", lost)
        with pytest.raises(StorageError, match="no answer"):
            lock.claim("1")
    lock.release()
    StoreLock(store).release()


def test_a_heartbeat_outlives_any_error(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_lock, "HEARTBEAT", 0.05)
    lock = StoreLock(store)
    beats: list[bool] = []

    def fail() -> None:
        beats.append(True)
        raise FileNotFoundError("a lease was lost")

    monkeypatch.setattr(lock, "_sign", fail)
    deadline = time.monotonic() + 10
    while len(beats) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    lock.release()
    assert len(beats) >= 2


def test_a_file_that_is_not_a_lock_is_left_alone(store: ObjectStore) -> None:
    store.write(f"{FOLDER}lock", b"not ours")
    with pytest.raises(ValueError, match="is not a lock of this version"):
        StoreLock(store)
    assert store.read(f"{FOLDER}lock") == b"not ours"


def test_a_lock_error_is_one_that_may_pass() -> None:
    assert issubclass(LostError, StorageError)
