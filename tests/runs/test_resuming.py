"""A resumed run goes on with what the run before saved, and refuses what another configuration saved."""

import json
import os
import shutil
from pathlib import Path

import pytest

from spark_w2v.errors import UserError
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.run import Run
from tests.support.runs import contents, publish, save, start, tree, writing


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    with start(tmp_path / "out", resume=True) as run:
        assert run.load_checkpoint() is None
        run.publish(writing("1"), {"content": "1"})
    assert contents(tmp_path / "out") == {"1"}


def test_a_fresh_start_discards_what_an_unfinished_run_left_before_it_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
    assert (tmp_path / ".out.working" / "metrics.jsonl").exists()
    assert not caplog.text
    before = tree(tmp_path)
    with start(tmp_path / "out"):
        pass
    assert tree(tmp_path) == before
    assert "has a checkpoint, which will be removed before the first epoch" in caplog.text
    with start(tmp_path / "out") as run:
        run.forget_earlier()
        assert os.listdir(tmp_path / ".out.working") == ["lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["metrics", "checkpoint", "publish"])
def test_nothing_of_an_earlier_run_is_taken_for_this_ones(tmp_path: Path, step: str) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
        run.append_metrics({"epoch": 2})
        save(run, 2)
    with start(tmp_path / "out") as run:
        if step == "metrics":
            run.append_metrics({"epoch": 7})
        elif step == "checkpoint":
            save(run, 0)
        else:
            run.publish(writing("x"), {})
        assert run.metrics() == ([{"epoch": 7}] if step == "metrics" else [])
    if step != "publish":
        with start(tmp_path / "out", resume=True) as run:
            found = run.load_checkpoint()
            assert (found and found[0]["epoch"]) == (None if step == "metrics" else 0)


def test_resume_with_another_configuration_is_refused_with_every_difference_named(tmp_path: Path) -> None:
    with start(tmp_path / "out", training={"epochs": 5, "seed": 1, "old": 2}, corpus={"size": 7}) as run:
        save(run, 1)
    before = tree(tmp_path)
    with pytest.raises(UserError) as refused:
        start(tmp_path / "out", resume=True, training={"epochs": 3, "seed": 1, "new": "x"}, corpus={"size": 8})
    message = str(refused.value)
    for difference in ("corpus.size was 7, is 8", "training.epochs was 5, is 3", 'training.new was not set, is "x"'):
        assert difference in message
    assert "training.old was 2, is not set" in message
    assert "seed" not in message
    assert tree(tmp_path) == before


def test_a_run_that_tolerates_changes_begins_again_and_keeps_what_is_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def begin(seed: int, files: int) -> Run:
        place = output_of(str(tmp_path / "out"))
        return Run(place, overwrite=False, resume=True, fingerprint={"seed": seed, "n": files}, tolerates_changes=True)

    with begin(1, 1) as run:
        run.identify({"text": 1})
        run.append_metrics({"epoch": 1})
        save(run, 1)
    with begin(1, 1) as run:
        run.identify({"text": 2})
        assert run.load_checkpoint() is None
        run.forget_earlier()
        assert run.metrics() == []
        save(run, 1)
    assert "starts again, as its checkpoint is of another run: text was 1, is 2" in caplog.text
    with begin(2, 1) as run:
        run.identify({"text": 2})
        assert run.load_checkpoint() is None
        run.publish(writing("2"), {})
    before = tree(tmp_path)
    caplog.clear()
    with begin(3, 1) as run:
        assert run.is_published
    assert "stays as it is, made with other values; --overwrite replaces it: seed was 2, is 3" in caplog.text
    assert tree(tmp_path) == before


def test_what_becomes_known_later_is_compared_when_it_is_known(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        run.identify({"vocabulary": {"digest": "abc"}})
        save(run, 1)
    for is_loaded_first in (False, True):
        with start(tmp_path / "out", resume=True) as run:
            if is_loaded_first:
                assert run.load_checkpoint() is not None
            run.identify({"vocabulary": {"digest": "abc"}})
            with pytest.raises(UserError, match=r'vocabulary\.digest was "abc", is "abd"'):
                run.identify({"vocabulary": {"digest": "abd"}})


def test_resuming_a_finished_run_says_so_and_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    with start(tmp_path / "out", resume=True) as run:
        assert run.is_published
    with pytest.raises(UserError, match=r"holds the finished output of another run; .* training\.seed was 1, is 2"):
        start(tmp_path / "out", resume=True, training={"epochs": 3, "seed": 2}, corpus={"paths": ["a.txt"]})
    assert tree(tmp_path) == before


def test_what_a_run_left_that_died_after_publishing_is_cleared_when_it_is_resumed(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        shutil.copytree(run.working, tmp_path / "kept", ignore=shutil.ignore_patterns("lock"))
        run.publish(writing("1"), {"content": "1"})
    (tmp_path / "kept").rename(tmp_path / ".out.working")
    with start(tmp_path / "out", resume=True) as run:
        assert run.is_published
    assert os.listdir(tmp_path) == ["out"]


def test_forgetting_overwrite_when_resuming_costs_no_checkpoint(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    with start(tmp_path / "out", overwrite=True, training={"epochs": 9}) as run:
        save(run, 1)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="give --overwrite to replace it"):
        start(tmp_path / "out", resume=True, training={"epochs": 9})
    assert tree(tmp_path) == before
    with start(tmp_path / "out", resume=True, overwrite=True, training={"epochs": 9}) as run:
        assert run.load_checkpoint() is not None


# Metrics


def test_metrics_after_the_checkpoint_are_dropped_when_a_run_is_resumed(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        run.append_metrics({"epoch": 2, "note": "é\n"})
        save(run, 2)
        run.append_metrics({"epoch": 3})
    with open(tmp_path / ".out.working" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch":4,"lo')
    with start(tmp_path / "out", resume=True) as run:
        run.append_metrics({"epoch": 3, "again": True})
        run.publish(writing("1"), {"content": "1"})
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    expected = [{"epoch": 1}, {"epoch": 2, "note": "é\n"}, {"epoch": 3, "again": True}]
    assert [json.loads(line) for line in lines] == expected


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 24, b"\xff" * 24, b'{"epoch":1}\n{"\xe9poch":2\n', b'{"epoch":1}\n\0\0', b"[1]"]
)
def test_metrics_that_are_lost_are_reported_and_cost_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        run.append_metrics({"epoch": 2})
        save(run, 2)
        (run.working / "metrics.jsonl").write_bytes(damage)
    left = [{"epoch": 1}] if damage.startswith(b"{") else []
    with start(tmp_path / "out", resume=True) as run:
        assert "so the metrics of epochs before the checkpoint are lost; training goes on" in caplog.text
        assert run.load_checkpoint() is not None
        assert run.metrics() == left
        run.append_metrics({"epoch": 3})
    caplog.clear()
    with start(tmp_path / "out", resume=True) as run:  # which died before it saved a checkpoint
        assert "lost" not in caplog.text
        assert run.metrics() == left
        run.append_metrics({"epoch": 3})
        run.publish(writing("1"), {"content": "1"})
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [*left, {"epoch": 3}]
