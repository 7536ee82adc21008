"""Runs in one directory, and the link to the one that readers get."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.commands import export, neighbors, publish
from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import embedding_writer, ids
from spark_w2v.runs.names import is_later
from tests.support.runs import CODES, faults


def finish(directory: Path, run_id: str, word: str = "apple") -> Path:
    """A finished run with one word of its own."""
    output = directory / "runs" / run_id
    matrix = np.eye(2, 3, dtype=np.float32)
    embedding_writer.write(output, pa.array([word, "pear"]), np.array([5, 2]), matrix, matrix, {"words": 2})
    (output / "run.json").write_text("{}")
    (output / "_SUCCESS").touch()
    return output


@pytest.mark.parametrize("run_id", ["20261101", "2026-11-01", "20261101T021500+0000", "a", "v1.2_b", "x" * 128])
def test_a_date_is_a_run_id(run_id: str, tmp_path: Path) -> None:
    assert ids.output_of(str(tmp_path), run_id) == str(tmp_path / "runs" / run_id)


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "a b",
        ".hidden",
        "_hidden",
        "-x",
        "a:b",
        "é",
        "a\n",
        "a\0",
        "x" * 129,
    ],
)
def test_what_is_no_name_of_one_directory_is_no_run_id(run_id: str, tmp_path: Path) -> None:
    for function in (ids.output_of, ids.move_current):
        with pytest.raises(UserError, match=r"^run id .*begins with a letter or a digit") as refused:
            function(str(tmp_path), run_id)
        assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_output_of_a_run_without_an_id_is_no_directory_of_runs(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(UserError, match="is itself the output of a run"):
        ids.output_of(str(tmp_path), "20261101")


def test_current_moves_to_and_fro_and_a_moved_directory_keeps_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    finish(kept, "1", "one")
    finish(kept, "2", "two")
    assert ids.current(str(kept)) is None
    assert ids.move_current(str(kept), "1") is None
    assert ids.move_current(str(kept), "2") == "1"
    assert ids.move_current(str(kept), "2") == "2"
    assert ids.move_current(str(kept), "1") == "2"
    kept.rename(tmp_path / "elsewhere")
    assert ids.directory_of(str(tmp_path / "elsewhere")) == tmp_path / "elsewhere" / "runs" / "1"
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["current", "runs"]


@pytest.mark.slow
def test_current_is_never_absent_while_it_moves(tmp_path: Path) -> None:
    for run_id in ("1", "2"):
        finish(tmp_path, run_id)
    ids.move_current(str(tmp_path), "1")
    ended = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not ended.is_set():
            seen.add(ids.directory_of(str(tmp_path)).name)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(2000):
            ids.move_current(str(tmp_path), "21"[number % 2])
    finally:
        ended.set()
        reader.join()
    assert seen == {"1", "2"}


def test_current_moves_to_finished_runs_only(tmp_path: Path) -> None:
    finish(tmp_path, "1")
    ids.move_current(str(tmp_path), "1")
    (finish(tmp_path, "2") / "_SUCCESS").unlink()
    for run_id in ("2", "3"):
        with pytest.raises(UserError, match="has no finished run, so current is not moved there"):
            ids.move_current(str(tmp_path), run_id)
    assert ids.current(str(tmp_path)) == "1"


def unread(path: Path) -> tuple[int, ...]:
    """What is known of a path but when it was read, which reading a link changes."""
    found = os.lstat(path)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("kind", ["file", "directory", "link elsewhere", "link above"])
def test_a_current_that_is_not_ours_is_not_replaced(kind: str, tmp_path: Path) -> None:
    finish(tmp_path, "1")
    link = tmp_path / "current"
    if kind == "file":
        link.write_text("mine")
    elif kind == "directory":
        link.mkdir()
    else:
        link.symlink_to("elsewhere" if kind == "link elsewhere" else "runs/..")
    before = unread(link)
    for function in (ids.output_of, ids.move_current):
        with pytest.raises(UserError, match="is not a link to one of"):
            function(str(tmp_path), "1")
    assert unread(link) == before


def test_a_storage_that_refuses_leaves_current_and_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run_id in ("1", "2"):
        finish(tmp_path, run_id)
    ids.move_current(str(tmp_path), "1")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(StorageError, match="could not be moved to 2"):
        ids.move_current(str(tmp_path), "2")
    assert publish.main([str(tmp_path), "2"]) == 75
    assert ids.current(str(tmp_path)) == "1"
    assert sorted(os.listdir(tmp_path)) == ["current", "runs"]


def test_a_run_that_died_before_it_moved_current_is_remembered_until_it_is_moved(tmp_path: Path) -> None:
    output = str(finish(tmp_path, "1"))
    assert not ids.is_pending(output)
    ids.mark_pending(output)
    assert ids.is_pending(output)
    ids.move_current(str(tmp_path), "1")
    assert not ids.is_pending(output)
    assert os.listdir(tmp_path / "runs") == ["1"]


# Readers


def test_readers_take_the_directory_current_and_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path, "1", "one")
    finish(tmp_path, "2", "two")
    for moved, word in (("1", "one"), ("2", "two")):
        ids.move_current(str(tmp_path), moved)
        for place in (tmp_path, tmp_path / "current", tmp_path / "runs" / moved):
            assert neighbors.main([str(place), word]) == 0
            assert export.main([str(place), "--format", "npy", "--to", str(tmp_path / "npy"), "--overwrite"]) == 0
            assert (tmp_path / "npy" / "words.txt").read_text().splitlines()[0] == word
    capsys.readouterr()
    assert neighbors.main([str(tmp_path / "runs"), "one"]) == 2
    assert "has no _SUCCESS" in capsys.readouterr().err


# jobs/publish.py


def test_publish_says_what_readers_get_and_what_they_got(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run_id in ("1", "2"):
        finish(tmp_path, run_id)
    for run_id, was in (("1", "it was none"), ("2", "it was 1"), ("2", "already"), ("1", "it was 2")):
        assert publish.main([str(tmp_path), run_id]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/current is run {run_id}, {was}\n"
        assert (tmp_path / "current").resolve() == tmp_path / "runs" / run_id


def test_publish_removes_all_but_the_newest_runs_on_request(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    finish(tmp_path, "4")
    assert publish.main([str(tmp_path), "4", "--keep-runs", "2"]) == 0
    assert names(tmp_path) == ["3", "4"]
    assert publish.main([str(tmp_path), "3", "--keep-runs", "0"]) == 0  # all of them, as Airflow's param says
    assert names(tmp_path) == ["3", "4"]


def test_publish_goes_back_to_an_earlier_run_unless_it_is_told_not_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("20261101", "20261102"):
        finish(tmp_path, run_id)
        assert publish.main([str(tmp_path), run_id, "--if-later"]) == 0
        assert ids.current(str(tmp_path)) == run_id
    assert publish.main([str(tmp_path), "20261102", "--if-later"]) == 0
    assert publish.main([str(tmp_path), "20261101", "--if-later"]) == 0
    told = "current is left as it was: 20261102, which is later than 20261101"
    assert capsys.readouterr().out.endswith(f"{told}\n")
    assert ids.current(str(tmp_path)) == "20261102"
    assert publish.main([str(tmp_path), "20261101"]) == 0
    assert ids.current(str(tmp_path)) == "20261101"
    assert publish.main([str(tmp_path), "20261103", "--if-later"]) == 2  # there is none
    finish(tmp_path, "manual")
    assert publish.main([str(tmp_path), "manual"]) == 0
    assert publish.main([str(tmp_path), "20261102", "--if-later"]) == 0  # only dates are later than dates
    assert ids.current(str(tmp_path)) == "20261102"


def test_what_is_kept_is_the_same_whether_current_moves_or_not(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "20261101", "20261102", "20261104", "20261103")
    assert publish.main([str(tmp_path), "20261104"]) == 0
    assert publish.main([str(tmp_path), "20261103", "--if-later", "--keep-runs", "1"]) == 0
    assert names(tmp_path) == ["20261103", "20261104"]
    assert ids.current(str(tmp_path)) == "20261104"


@pytest.mark.parametrize(
    ("run_id", "sentence"), [("3", "has no finished run"), ("../1", "run id '../1': may have letters")]
)
def test_a_mistake_of_publish_costs_one_sentence_and_exit_code_2(
    run_id: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.main([str(tmp_path), run_id]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize("code", CODES)
def test_an_error_that_may_pass_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    output = str(finish(tmp_path, "1"))
    ids.move_current(str(tmp_path), "1")
    ids.mark_pending(output)
    asked: list[tuple[str, Callable[[], object]]] = [
        ("_SUCCESS", lambda: ids.is_finished(output)),
        ("_SUCCESS", lambda: ids.directory_of(str(tmp_path))),
        ("_SUCCESS", lambda: ids.output_of(str(tmp_path), "2")),
        (".1.pending", lambda: ids.is_pending(output)),
        ("runs", lambda: ids.holds_runs(str(tmp_path))),
    ]
    for name, ask in asked:
        with faults(monkeypatch, name, code), pytest.raises(StorageError, match=os.strerror(code)):
            ask()
    with faults(monkeypatch, "_SUCCESS", code):
        assert neighbors.main([str(tmp_path), "apple"]) == 75

    def fail(path: Path) -> str:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "readlink", fail)
        with pytest.raises(StorageError, match=os.strerror(code)):
            ids.move_current(str(tmp_path), "1")
    assert ids.current(str(tmp_path)) == "1"
    assert neighbors.main([str(tmp_path), "apple"]) == 0


def test_a_marker_that_is_not_empty_is_not_ours(tmp_path: Path) -> None:
    finish(tmp_path, "1")
    marker = tmp_path / "runs" / ".1.pending"
    marker.write_text("mine")
    ids.move_current(str(tmp_path), "1")
    assert marker.read_text() == "mine"


def finish_in_turn(directory: Path, *run_ids: str) -> None:
    """Finished runs, each a second younger than the one before, and the last one current."""
    for number, run_id in enumerate(run_ids):
        success = finish(directory, run_id) / "_SUCCESS"
        os.utime(success, (1_700_000_000 + number,) * 2)
    ids.move_current(str(directory), run_ids[-1])


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "runs"))


def test_the_newest_runs_and_the_current_one_stay(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "d", "c", "b", "a")  # by their age, not by their names
    ids.move_current(str(tmp_path), "d")
    assert names(tmp_path) == ["a", "b", "c", "d"]
    ids.move_current(str(tmp_path), "d", 2)
    assert names(tmp_path) == ["a", "b", "d"]
    ids.move_current(str(tmp_path), "d", 9)
    assert names(tmp_path) == ["a", "b", "d"]


def test_a_run_with_a_file_of_others_stays_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish_in_turn(tmp_path, "1", "2", "3", "4")
    (tmp_path / "runs" / "1" / "thesis.tex").write_text("years of work")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "runs" / "0")
    (tmp_path / "runs" / "notes").mkdir()
    before = sorted(path for path in (tmp_path / "runs" / "1").rglob("*"))
    ids.move_current(str(tmp_path), "4", 1)
    assert names(tmp_path) == ["0", "1", "4", "notes"]
    assert sorted((tmp_path / "runs" / "1").rglob("*")) == before
    assert "thesis.tex" in caplog.text


def test_what_a_killed_run_did_not_remove_is_removed_by_the_next(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "1", "2")
    os.rename(tmp_path / "runs" / "1", tmp_path / "runs" / f".1.{'a' * 32}.removed")
    ids.move_current(str(tmp_path), "2", 1)
    assert names(tmp_path) == ["2"]


def test_runs_that_cannot_be_removed_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finish_in_turn(tmp_path, "1", "2")

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", refuse)
    ids.move_current(str(tmp_path), "2", 1)
    assert names(tmp_path) == ["1", "2"]
    assert "earlier runs were not removed (Input/output error)" in caplog.text


@pytest.mark.parametrize(
    ("one", "other", "is_one_later"),
    [
        ("20261105", "20261101", True),
        ("20261101", "20261105", False),
        ("20261105", "20261101b", True),  # which repairs the first
        ("20261101b", "20261105", False),
        ("20261105", "20261101B", True),
        ("20261101b", "20261101", True),
        ("20261101", "20261101b", False),
        ("20261101", "2026-10-01", False),
        ("v2b", "v1", True),
        ("20261105-x", "20261101", False),
    ],
)
def test_a_later_date_is_one_of_the_same_form(one: str, other: str, is_one_later: bool) -> None:
    assert is_later(one, other) is is_one_later
