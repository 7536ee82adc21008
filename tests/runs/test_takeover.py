"""A run that wakes up after another run has taken over its output changes nothing."""

import json
import os
import threading
from pathlib import Path

import pytest

from spark_w2v.errors import StorageError
from spark_w2v.runs import checkpoints
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.run import Run
from tests.support.runs import contents, parameters, publish, save, start, tree, writing


def take_over(output: Path) -> Run:
    """Start a run on another host, to which the one at work seems dead."""
    lock = output.parent / f".{output.name}.working" / "lock"
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"host": "far", "system": "far"}) + "\n")
    os.utime(lock, (1, 1))
    return start(output, resume=True)


def test_a_run_that_was_taken_over_adds_no_metrics(tmp_path: Path) -> None:
    with start(tmp_path / "out") as one:
        save(one, 1)
        with take_over(tmp_path / "out") as other:
            other.append_metrics({"epoch": 2})
            with pytest.raises(StorageError, match="another run has taken over"):
                one.append_metrics({"epoch": 2, "late": True})
            assert other.metrics() == [{"epoch": 2}]


def test_a_run_that_is_taken_over_while_it_makes_a_checkpoint_leaves_those_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path / "out") as one:
        save(one, 1)
        made = parameters(one.parameters_folder, 2)
        digest = checkpoints._digest
        others: list[Run] = []

        def slow(path: Path) -> str:
            found = digest(path)
            if path.parent == made.directory and path.name == "center.f32":
                others.append(take_over(tmp_path / "out"))
                others[0].append_metrics({"epoch": 2})
                save(others[0], 2)
            return found

        monkeypatch.setattr(checkpoints, "_digest", slow)
        with pytest.raises(StorageError, match=r"another run has taken over|could not be written"):
            one.save_checkpoint({"epoch": 3}, made)
    (other,) = others
    assert os.listdir(other.parameters_folder) == ["00000001"]
    other.close()
    with start(tmp_path / "out", resume=True) as run:
        loaded = run.load_checkpoint()
        assert loaded is not None
        assert loaded[0] == {"epoch": 2}


def test_a_run_that_is_taken_over_while_it_stages_its_output_leaves_that_of_the_other(tmp_path: Path) -> None:
    is_waiting, goes_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def stand_still(directory: Path) -> None:
        is_waiting.set()
        goes_on.wait()
        writing("1")(directory)

    def publish_slowly() -> None:
        try:
            one.publish(stand_still, {"content": "1"})
        except BaseException as error:
            errors.append(error)

    def write(directory: Path) -> None:
        writing("2")(directory)
        goes_on.set()
        thread.join()

    with start(tmp_path / "out") as one:
        thread = threading.Thread(target=publish_slowly)
        thread.start()
        is_waiting.wait()
        with take_over(tmp_path / "out") as other:
            other.publish(write, {"content": "2"})
    assert [type(error) for error in errors] == [StorageError]
    assert contents(tmp_path / "out") == {"2"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_run_that_is_taken_over_while_it_stages_its_output_is_told_so(tmp_path: Path) -> None:
    """The message is not that the output of the other is there and --overwrite would replace it."""

    def stand_still(directory: Path) -> None:
        with take_over(tmp_path / "out") as other:
            other.publish(writing("2"), {"content": "2"})
        directory.mkdir(parents=True)  # with the working directory, which the other has removed
        writing("1")(directory)

    with start(tmp_path / "out") as one, pytest.raises(StorageError, match="another run has taken over"):
        one.publish(stand_still, {"content": "1"})
    assert contents(tmp_path / "out") == {"2"}


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_moved_into_place_without_the_lock(tmp_path: Path, is_there: bool) -> None:
    output = LocalOutput(str(tmp_path / "out"), tmp_path / "out")
    if is_there:
        publish(tmp_path / "out", "1")
    lock = output.lock()
    staged = output.working / "staged"
    staged.mkdir()
    (staged / "run.json").write_text("late")
    with take_over(tmp_path / "out"):
        before = tree(tmp_path)
        with pytest.raises(StorageError, match="another run has taken over"):
            output.publish(staged, lock)
        assert tree(tmp_path) == before
    lock.stop()
