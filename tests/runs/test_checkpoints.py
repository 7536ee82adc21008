"""A checkpoint is whole or is passed over, whatever happened to its bytes or to the run."""

import errno
import json
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import checkpoints
from spark_w2v.runs.checkpoints import newest_checkpoint
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.runs.run import Run
from tests.support.manifests import one_checkpoint, signed
from tests.support.runs import child, end, parameters, save, start, tree

KILLS = 12


def test_a_resumed_run_gets_the_bits_that_were_saved(tmp_path: Path) -> None:
    matrices = np.random.default_rng(1).normal(size=(2, 300, 7)).astype(np.float32)
    with start(tmp_path / "out") as run:
        assert run.load_checkpoint() is None
        save(run, 0)
        made = ParameterFiles.create(run.parameters_folder / ".x.unfinished", 300, 7)
        made.center[:], made.context[:] = matrices
        run.save_checkpoint({"epoch": 1, "round": 2, "losses": [0.1]}, made)
        assert os.listdir(run.parameters_folder) == ["00000001"]
    with start(tmp_path / "out", resume=True) as run:
        loaded = run.load_checkpoint()
    assert loaded is not None
    assert loaded[0] == {"epoch": 1, "round": 2, "losses": [0.1]}
    assert loaded[1].center.tobytes() == matrices[0].tobytes()
    assert loaded[1].context.tobytes() == matrices[1].tobytes()
    assert not loaded[1].is_temporary
    assert not loaded[1].center.flags.writeable


def test_saving_renames_the_files_and_copies_none(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        made = parameters(run.parameters_folder, 1)
        before = {path.name: path.stat().st_ino for path in made.directory.iterdir()}
        run.save_checkpoint({"epoch": 1}, made)
        assert made.directory == run.parameters_folder / "00000000"
        assert not made.is_temporary
        after = {path.name: path.stat().st_ino for path in made.directory.iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"manifest.json"}


def test_what_a_dead_run_left_unfinished_is_removed_by_the_next(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        left = run.parameters_folder / ".0-3.unfinished"
        ParameterFiles.create(left, 10, 4)
        shutil.copytree(run.working, tmp_path / "kept", ignore=shutil.ignore_patterns("lock"))
    assert not left.exists()  # a run that ends by itself removes it
    shutil.rmtree(tmp_path / ".out.working")
    (tmp_path / "kept").rename(tmp_path / ".out.working")
    with start(tmp_path / "out", resume=True) as run:
        assert os.listdir(run.parameters_folder) == ["00000000"]


def test_a_run_killed_at_any_moment_of_saving_resumes_from_what_it_had_saved(tmp_path: Path) -> None:
    program = """
with Run(output_of(sys.argv[1]), overwrite=False, resume=True, fingerprint={}) as run:
    loaded = run.load_checkpoint()
    number = loaded[0]["number"] if loaded else 0
    assert loaded is None or all((m == number).all() for m in (loaded[1].center, loaded[1].context)), loaded
    while True:
        number += 1
        run.append_metrics({"number": number})
        made = ParameterFiles.create(run.parameters_folder / f".{number}.unfinished", 10_000, 5)
        made.center[:] = made.context[:] = number
        run.save_checkpoint({"number": number}, made)
        print(number, flush=True)
"""
    chance, found = random.Random(6), None
    for _ in range(KILLS):
        process = child(program, str(tmp_path / "out"))
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the child could not resume"
        time.sleep(chance.uniform(0, 0.03))
        saved = int((first + end(process)).split()[-1])
        found = newest_checkpoint(tmp_path / ".out.working" / "checkpoints")
        assert found is not None
        assert found.position["number"] in (saved, saved + 1)
        assert (found.parameters.center == found.position["number"]).all()
        assert (found.parameters.context == found.position["number"]).all()
    assert found is not None
    with Run(output_of(str(tmp_path / "out")), overwrite=False, resume=True, fingerprint={}) as run:
        lines = (run.working / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(1, found.position["number"] + 1))


def test_every_damaged_byte_of_a_checkpoint_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    checkpoint = one_checkpoint(tmp_path)
    assert newest_checkpoint(tmp_path) is not None
    for path in checkpoint.iterdir():
        whole = path.read_bytes()
        for position in range(len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            if whole[:position].endswith(b'"format":'):  # now of format 3
                with pytest.raises(UserError, match="another version"):
                    newest_checkpoint(tmp_path)
            else:
                assert newest_checkpoint(tmp_path) is None, (path.name, position)
        for damaged in (b"", whole[:-1], whole + b"0", whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            assert newest_checkpoint(tmp_path) is None, (path.name, len(damaged))
        path.unlink()
        assert newest_checkpoint(tmp_path) is None
        path.write_bytes(whole)
    assert newest_checkpoint(tmp_path) is not None


def test_a_damaged_chunk_is_noticed_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHUNK", 16)
    path = one_checkpoint(tmp_path) / "context.f32"
    assert newest_checkpoint(tmp_path) is not None
    whole = path.read_bytes()
    for position in (0, 15, 16, 47):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert newest_checkpoint(tmp_path) is None
    path.write_bytes(whole)
    assert newest_checkpoint(tmp_path) is not None


def test_the_newest_undamaged_checkpoint_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        folder = run.parameters_folder
        shutil.copytree(folder / "00000000", tmp_path / "kept")
        save(run, 2)
        shutil.move(tmp_path / "kept", folder / "00000000")
        (folder / "00000001" / "center.f32").write_bytes(b"half of it")
    with start(tmp_path / "out", resume=True) as run:
        loaded = run.load_checkpoint()
        assert loaded is not None
        assert loaded[0] == {"epoch": 1}
        assert "00000001: is passed over, as it is damaged: center.f32 has 10 bytes" in caplog.text
        save(run, 3)
        assert os.listdir(folder) == ["00000002"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_only_finite_numbers_are_saved(tmp_path: Path, value: float) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        before = tree(run.parameters_folder)
        made = parameters(run.parameters_folder, 2)
        made.context[-1, -1] = value
        with pytest.raises(ValueError, match=r"context\.f32 has numbers that are not finite"):
            run.save_checkpoint({"epoch": 2}, made)
        assert made.is_temporary
        made.remove()
        assert tree(run.parameters_folder) == before


def test_a_checkpoint_is_not_saved_again(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        made = parameters(run.parameters_folder, 1)
        run.save_checkpoint({"epoch": 1}, made)
        before = tree(run.parameters_folder)
        with pytest.raises(ValueError, match="is a checkpoint already"):
            run.save_checkpoint({"epoch": 2}, made)
        assert tree(run.parameters_folder) == before


def test_a_checkpoint_that_cannot_be_completed_leaves_the_one_before_and_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        before = tree(run.parameters_folder)
        made = parameters(run.parameters_folder, 2)
        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", failing(errno.ENOSPC))
            with pytest.raises(StorageError, match="a checkpoint could not be written: the disk is full"):
                run.save_checkpoint({"epoch": 2}, made)
        assert made.is_temporary
        assert sorted(os.listdir(made.directory)) == ["center.f32", "context.f32"]
        made.remove()
        assert tree(run.parameters_folder) == before


# Errors that may pass


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def out_of_memory(*_: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize(
    ("owner", "name", "fail"),
    [
        *((checkpoints, "_chunks", failing(code)) for code in (errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOMEM)),
        (checkpoints, "_chunks", out_of_memory),
        (checkpoints, "_body", failing(errno.EMFILE)),
        (ParameterFiles, "open", failing(errno.ENOMEM)),
        (Path, "iterdir", failing(errno.EIO)),
    ],
)
def test_an_error_that_may_pass_is_not_damage_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, fail: Callable[..., Any]
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(StorageError, match=r"checkpoint could not be read: |cannot be prepared: "):
            start(tmp_path / "out", resume=True)
    assert tree(tmp_path) == before
    with start(tmp_path / "out", resume=True) as run:
        assert run.load_checkpoint() is not None


# Other versions


@pytest.mark.parametrize("version", [1, 3, 10**30])
def test_a_checkpoint_of_another_version_is_refused_and_not_touched(tmp_path: Path, version: int) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        manifest = run.parameters_folder / "00000000" / "manifest.json"
        body = {"position": {}, "arrays": {}, "fingerprint": {}, "metrics_bytes": 0}
        manifest.write_bytes(signed(body, version) if version < 9 else b'{"format":%d}' % version)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"written by another version of spark_w2v \(format \d+, and") as refused:
        start(tmp_path / "out", resume=True)
    assert str(refused.value).endswith("so it is not touched; resume with that version, or start without --resume.")
    assert tree(tmp_path) == before


def test_a_checkpoint_of_a_newer_version_may_have_other_files_and_loses_none(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
        folder = run.parameters_folder / "00000000"
        (folder / "manifest.json").write_bytes(b'{"format":3,"shards":[]}')
        (folder / "center.f32").rename(folder / "center-0.shard")
    before = tree(tmp_path)
    with pytest.raises(UserError, match="written by another version"):
        start(tmp_path / "out", resume=True)
    with pytest.raises(UserError, match=r"holds checkpoints/00000000/center-0\.shard, which no run wrote"):
        start(tmp_path / "out")
    assert tree(tmp_path) == before
