"""Errors of the storage, for real or injected, lose no output, checkpoint or metrics."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spark_w2v.errors import StorageError
from tests.support.runs import CODES, faults, parameters, publish, save, start, tree, writing


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk on which no file can grow beyond 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A full disk


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_while_publishing_harms_nothing_that_was_there(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    with (
        start(tmp_path / "out", overwrite=True) as run,
        pytest.raises(StorageError, match="the output could not be written: a file may not be so large"),
    ):
        run.publish(writing("2" * 200_000), {"content": "2"})
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_while_saving_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        before = tree(run.working)
        with pytest.raises(StorageError, match="parameters could not be written: a file may not be so large"):
            save(run, 2, 100_000)
        assert tree(run.working) == before
    with start(tmp_path / "out", resume=True) as run:
        loaded = run.load_checkpoint()
    assert loaded is not None
    assert loaded[0] == {"epoch": 1}


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_no_half_line_in_the_metrics(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"note": "x" * 60_000})
        before = tree(run.working)
        with pytest.raises(StorageError, match=r"metrics\.jsonl could not be written"):
            run.append_metrics({"note": "y" * 60_000})
        assert tree(run.working) == before


# Errors that may pass


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("name", "when"),
    [
        *((name, "open") for name in ("lock", "metrics.jsonl", ".out.working", "checkpoints", "00000000")),
        *((name, when) for name in ("manifest.json", "center.f32", "context.f32") for when in ("open", "read")),
        ("metrics.jsonl", "read"),
    ],
)
def test_an_error_that_may_pass_costs_a_resumed_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str, code: int
) -> None:
    output = tmp_path / "out"
    with start(output) as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
    before = tree(tmp_path)
    with faults(monkeypatch, name, code, when=when), pytest.raises(StorageError, match=os.strerror(code)):
        start(output, resume=True)
    assert tree(tmp_path) == before
    with start(output, resume=True) as run:
        assert run.load_checkpoint() is not None
        assert run.metrics() == [{"epoch": 1}]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
def test_an_error_that_may_pass_stops_a_run_and_costs_it_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
        made = parameters(run.parameters_folder, 2)
        before = tree(tmp_path)
        writes: list[Callable[[], None]] = [
            lambda: run.append_metrics({"epoch": 2}),
            lambda: run.save_checkpoint({"epoch": 2}, made),
            lambda: run.publish(writing("1"), {"content": "1"}),
        ]
        with faults(monkeypatch, name, code):
            for write in writes:
                with pytest.raises(StorageError, match=rf"could not be \w+: {os.strerror(code)}"):
                    write()
        assert tree(tmp_path) == before
    with start(tmp_path / "out", resume=True) as run:
        assert run.load_checkpoint() is not None
        assert run.metrics() == [{"epoch": 1}]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("when", ["open", "read"])
def test_a_finished_output_that_cannot_be_read_now_is_not_taken_for_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, when: str
) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    with faults(monkeypatch, "run.json", code, when=when), pytest.raises(StorageError, match=os.strerror(code)):
        start(tmp_path / "out", resume=True)
    if code != errno.EACCES:  # which of a path is the user's to change
        with faults(monkeypatch, "out", code), pytest.raises(StorageError, match=os.strerror(code)):
            start(tmp_path / "out", resume=True)
    assert tree(tmp_path) == before
    with start(tmp_path / "out", resume=True) as run:
        assert run.is_published
