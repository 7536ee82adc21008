"""What --keep-runs removes besides finished runs, and what it must not: runs at work, files of others, current."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.errors import UserError
from spark_w2v.runs import ids
from spark_w2v.runs.processes import describe_holder
from tests.runs.test_ids import finish_in_turn, names
from tests.support.runs import save, start

LONG_AGO = (1_600_000_000,) * 2


def unfinished(directory: Path, run_id: str, holder: dict[str, Any] | None, when: tuple[int, int] = LONG_AGO) -> Path:
    """What a run with a checkpoint has left that was killed, or is at work."""
    with start(directory / "runs" / run_id, overwrite=True) as run:
        save(run, 1)
        working = run.working
    if holder is not None:
        (working / "lock").write_text(json.dumps(holder) + "\n")
    for path in (*working.rglob("*"), working):
        os.utime(path, when)
    return working


def holder(is_alive: bool) -> dict[str, Any]:
    if is_alive:
        return describe_holder()
    program = "import json; from spark_w2v.runs.processes import describe_holder; print(json.dumps(describe_holder()))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_finished_run_stays_only_as_long_as_another_is_about_to_replace_it(is_alive: bool, tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    unfinished(tmp_path, "1", holder(is_alive))
    ids.move_current(str(tmp_path), "3", 1)
    assert names(tmp_path) == ([".1.working", "1", "3"] if is_alive else ["3"])


@pytest.mark.parametrize(("keep", "left"), [(1, ["4"]), (2, ["1", "3", "4"]), (3, ["1", "2", "3", "4"])])
def test_the_run_that_readers_had_stays_though_newer_ones_were_not_published(
    keep: int, left: list[str], tmp_path: Path
) -> None:
    finish_in_turn(tmp_path, "1", "2", "3", "4")
    ids.move_current(str(tmp_path), "1")
    ids.move_current(str(tmp_path), "4", keep)
    assert names(tmp_path) == left


def test_what_dead_runs_left_goes_with_the_runs_of_their_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    finish_in_turn(tmp_path, "1", "2", "3")
    unfinished(tmp_path, "dead", holder(is_alive=False))
    unfinished(tmp_path, "stopped", None)
    unfinished(tmp_path, "alive", holder(is_alive=True))
    unfinished(tmp_path, "young", None, (1_800_000_000,) * 2)
    (unfinished(tmp_path, "mixed", None) / "thesis.tex").write_text("years of work")
    os.utime(tmp_path / "runs" / ".mixed.working" / "thesis.tex", LONG_AGO)
    os.utime(tmp_path / "runs" / ".mixed.working", LONG_AGO)
    ids.move_current(str(tmp_path), "3", 4)  # there are not so many: nothing is old
    assert len(names(tmp_path)) == 8
    ids.move_current(str(tmp_path), "3", 2)
    assert names(tmp_path) == [".alive.working", ".mixed.working", ".young.working", "2", "3"]
    assert (tmp_path / "runs" / ".mixed.working" / "thesis.tex").read_text() == "years of work"
    assert "what an unfinished run left is removed" in caplog.text
    assert "no run wrote thesis.tex" in caplog.text
    with start(tmp_path / "runs" / "young", resume=True) as run:
        assert run.load_checkpoint() is not None


def test_a_run_that_was_moved_away_to_be_replaced_is_moved_back(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    working = unfinished(tmp_path, "1", None)
    os.rename(tmp_path / "runs" / "1", working / "replaced")
    for path in (*working.rglob("*"), working):
        os.utime(path, LONG_AGO)
    ids.move_current(str(tmp_path), "3", 2)
    assert names(tmp_path) == ["1", "2", "3"]
    assert ids.is_finished(str(tmp_path / "runs" / "1"))


def test_current_is_not_moved_to_a_run_that_is_being_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    rename, refused = os.rename, list[UserError]()

    def go_back() -> None:
        try:
            ids.move_current(str(tmp_path), "1")
        except UserError as error:
            refused.append(error)

    other = threading.Thread(target=go_back)

    def slow_rename(*paths: Any) -> None:
        if not other.ident:
            other.start()
            time.sleep(0.3)
        rename(*paths)

    monkeypatch.setattr(os, "rename", slow_rename)
    ids.move_current(str(tmp_path), "3", 1)
    other.join()
    assert ids.current(str(tmp_path)) == "3"
    assert names(tmp_path) == ["3"]
    assert "has no finished run" in str(refused[0])


def test_a_run_that_died_before_it_was_current_does_not_become_it_after_later_ones(tmp_path: Path) -> None:
    finish_in_turn(tmp_path, "1", "2", "3", "4")
    ids.move_current(str(tmp_path), "1")
    for run_id in ("2", "4", "unfinished"):
        ids.mark_pending(str(tmp_path / "runs" / run_id))

    def pending() -> list[str]:
        return [run for run in ("2", "4", "unfinished") if ids.is_pending(str(tmp_path / "runs" / run))]

    ids.move_current(str(tmp_path), "1")  # which it was
    assert pending() == ["2", "4", "unfinished"]
    ids.move_current(str(tmp_path), "3")
    assert pending() == ["4", "unfinished"]  # one finished later, and the other may be about to be published


def test_a_run_that_cannot_be_moved_back_is_not_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    working = unfinished(tmp_path, "1", None)
    os.rename(tmp_path / "runs" / "1", working / "replaced")
    (tmp_path / "runs" / "1").mkdir()
    (tmp_path / "runs" / "1" / "notes.txt").touch()
    for path in (*working.rglob("*"), working):
        os.utime(path, LONG_AGO)
    ids.move_current(str(tmp_path), "3", 2)
    assert ids.is_finished(str(working / "replaced"))
    assert "has a finished run that could not be moved back" in caplog.text


def test_a_run_that_changes_while_it_is_looked_at_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish_in_turn(tmp_path, "1", "2", "3")
    busy, dead = unfinished(tmp_path, "busy", holder(is_alive=True)), unfinished(tmp_path, "dead", None)
    look = os.lstat

    def renamed(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(busy / "checkpoints")) and str(path) != str(busy / "checkpoints"):
            raise FileNotFoundError(2, "No such file or directory")
        return look(path, **options)

    monkeypatch.setattr(os, "lstat", renamed)
    ids.move_current(str(tmp_path), "3", 2)
    assert busy.exists()
    assert not dead.exists()
