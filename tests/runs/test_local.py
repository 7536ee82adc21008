"""An output is there whole or not at all, whatever happens to the run: the harm is done for real."""

import errno
import json
import os
import random
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import checkpoints, local
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.runs.run import Run, output_of
from tests.support.runs import (
    CODES,
    FINGERPRINT,
    STRANGERS,
    child,
    end,
    everything,
    faults,
    make_stranger,
    parameters,
    publish,
    save,
    start,
    tree,
    writing,
)

KILLS = 12


def contents(output: Path) -> set[str]:
    """What a reader finds that opens OUTPUT once: one value, unless the reading is torn."""
    directory = os.open(output, os.O_RDONLY | os.O_DIRECTORY)

    def text(name: str) -> str:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        with open(descriptor, encoding="utf-8") as file:
            return file.read()

    try:
        found = {json.loads(text("run.json"))["content"]} | {
            text(f"embeddings/part-{part:05d}.parquet") for part in range(3)
        }
        text("_SUCCESS")
        return found
    finally:
        os.close(directory)


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk on which no file can grow beyond 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Publication


def test_a_published_output_is_complete_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1, "loss": 2.5})
        save(run, 1)
        assert not (tmp_path / "out").exists()
        run.publish(writing("1"), {"content": "1"})
    assert os.listdir(tmp_path) == ["out"]
    found = tree(tmp_path / "out")
    parts = {f"embeddings/part-{part:05d}.parquet" for part in range(3)}
    assert set(found) == {"_SUCCESS", "embeddings", "metrics.jsonl", "run.json"} | parts
    assert found["metrics.jsonl"] == b'{"epoch":1,"loss":2.5}\n'
    assert json.loads(found["run.json"] or b"") == {"content": "1", "fingerprint": FINGERPRINT}


def test_a_finished_output_is_refused_without_overwrite_and_replaced_with_it(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    with pytest.raises(UserError, match="holds a finished output; give --overwrite"):
        start(tmp_path / "out")
    assert tree(tmp_path) == before
    publish(tmp_path / "out", "2", overwrite=True)
    assert contents(tmp_path / "out") == {"2"}
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_that_failed_to_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)

    def fail(directory: Path) -> None:
        writing("2")(directory)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), start(tmp_path / "out", overwrite=True) as run:
        run.publish(fail, {})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_reader_sees_the_old_output_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(local, "_exchange", lambda one, other: False)
    publish(tmp_path / "out", "0")
    seen: list[set[str]] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                seen.append(contents(tmp_path / "out"))
            except FileNotFoundError:  # opened the old one, which is gone meanwhile
                seen.append(set())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 21):
        publish(tmp_path / "out", str(number), overwrite=True)
    is_over.set()
    reader.join()
    assert all(len(found) <= 1 for found in seen)
    assert len({value for found in seen for value in found}) > 2
    assert contents(tmp_path / "out") == {"20"}


def test_the_output_directory_is_there_at_every_moment_of_its_replacement(tmp_path: Path) -> None:
    publish(tmp_path / "out", "0")
    is_over = threading.Event()
    missing: list[float] = []

    def watch() -> None:
        while not is_over.is_set():
            if not (tmp_path / "out" / "_SUCCESS").exists():
                missing.append(time.time())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(20):
        publish(tmp_path / "out", str(number), overwrite=True)
    is_over.set()
    watcher.join()
    assert not missing


def test_a_run_killed_at_any_moment_of_publishing_leaves_a_whole_output(tmp_path: Path) -> None:
    program = """
def write(directory):
    (directory / "embeddings").mkdir()
    for part in range(3):
        (directory / "embeddings" / f"part-{part:05d}.parquet").write_text(str(number))

for number in range(int(sys.argv[2]), 1 << 30):
    with open_run(output_of(sys.argv[1]), overwrite=True, resume=False, fingerprint={}) as run:
        made = ParameterFiles.create(run.parameters_folder / ".a.unfinished", 3, 3)
        run.save_checkpoint({"epoch": 1}, made)
        run.publish(write, {"content": str(number)})
    print(number, flush=True)
"""
    output, number, chance = tmp_path / "out", 0, random.Random(5)
    for _ in range(KILLS):
        process = child(program, str(output), str(number))
        assert process.stdout is not None
        assert process.stdout.readline() == f"{number}\n"
        time.sleep(chance.uniform(0, 0.03))
        last = int(("0" + end(process)).split()[-1])
        (found,) = contents(output)
        assert int(found) >= max(last, number)  # what was reported as published is
        number = int(found) + 1
    publish(output, "end", overwrite=True)
    assert contents(output) == {"end"}
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_that_a_run_had_moved_aside_when_it_died_is_moved_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    (tmp_path / ".out.working").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.working" / "replaced")
    with pytest.raises(UserError, match="holds a finished output"):
        start(tmp_path / "out")
    assert "moved back" in caplog.text
    assert tree(tmp_path) == before


def test_a_failure_between_two_renames_leaves_the_old_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    monkeypatch.setattr(local, "_exchange", lambda one, other: False)
    rename, calls = os.rename, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with start(tmp_path / "out", overwrite=True) as run, monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(StorageError, match="Input/output error"):
            run.publish(writing("2"), {"content": "2"})
    assert tree(tmp_path) == before


# Where an output may be


def test_a_directory_that_no_run_wrote_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "_SUCCESS").touch()
    before = tree(tmp_path)
    for overwrite in (False, True):
        for resume in (False, True):
            with pytest.raises(UserError, match="files that no finished run wrote"):
                start(tmp_path / "photos", overwrite=overwrite, resume=resume)
    assert tree(tmp_path) == before


def test_a_working_directory_with_files_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".out.working").mkdir()
    (tmp_path / ".out.working" / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"holds thesis\.tex, which no run wrote"):
        start(tmp_path / "out")
    assert tree(tmp_path) == before


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    publish(tmp_path / "out", "1")
    assert contents(tmp_path / "out") == {"1"}


@pytest.mark.parametrize("name", ["file", "file/out", "a/file/b/out"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "a" / "file").touch()
    before = tree(tmp_path)
    with pytest.raises(UserError, match="is not a directory"):
        start(tmp_path / name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("output", ["", "/", "a\0b", "file://far/away", "loop", "x" * 250, "/proc/here/out"])
def test_what_cannot_be_an_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as refused:
        start(output)
    assert str(refused.value).isprintable()
    assert os.listdir(tmp_path) == ["loop"]


def test_a_parent_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UserError, match="may not be written to"):
        output_of(str(tmp_path / "out")).check(overwrite=False, resume=False)


def test_missing_parents_are_made_and_go_again_with_a_run_that_kept_nothing(tmp_path: Path) -> None:
    with start(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b" / ".out.working").is_dir()
    assert os.listdir(tmp_path) == []
    publish(tmp_path / "a" / "b" / "out", "1")
    assert contents(tmp_path / "a" / "b" / "out") == {"1"}


def test_relative_paths_slashes_links_and_uris_mean_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("out put")
    names = ["out put", "out put/", "./x/../out put//", "link", f"file:{tmp_path}/out%20put"]
    names += [(tmp_path / "out put").as_uri(), f"file://localhost{tmp_path}/out%20put/"]
    assert {local_path(name) for name in names} == {tmp_path.resolve() / "out put"}
    for number, name in enumerate(names):
        publish(name, str(number), overwrite=True)
        assert contents(tmp_path / "out put") == {str(number)}
    assert (tmp_path / "link").is_symlink()
    assert set(os.listdir(tmp_path)) == {"link", "out put"}


def test_only_a_scheme_other_than_file_makes_an_output_remote() -> None:
    assert all(map(is_local, ["out", "/out", "file:/out", "FILE:///out", "a:b", "c:", "runs 1:/x", "d/s3:/x"]))
    assert not any(map(is_local, ["hdfs:/out", "hdfs://host:9000/out", "s3a://bucket/out", "viewfs://c/out"]))


def test_a_name_that_is_no_utf8_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no UTF-8"):
        output_of(f"{tmp_path}/\udcff")


# Resuming


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    with start(tmp_path / "out", resume=True) as run:
        assert run.load_checkpoint() is None
        run.publish(writing("1"), {"content": "1"})
    assert contents(tmp_path / "out") == {"1"}


def test_a_fresh_start_discards_what_an_unfinished_run_left(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
    assert (tmp_path / ".out.working" / "metrics.jsonl").exists()
    with start(tmp_path / "out"):
        assert os.listdir(tmp_path / ".out.working") == ["lock"]
    assert os.listdir(tmp_path) == []


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


# Resuming what is finished


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


# What no run wrote


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("place", [".", "embeddings"])
def test_an_output_with_anything_that_no_run_wrote_is_not_replaced(tmp_path: Path, place: str, kind: str) -> None:
    publish(tmp_path / "deep" / "out", "1")
    make_stranger(tmp_path / "deep" / "out" / place / "mine", kind)
    before = everything(tmp_path)
    named = "mine" if place == "." else f"{place}/mine"
    with pytest.raises(UserError, match=f"holds {named}/?, which no run wrote, so --overwrite does not replace it"):
        start(tmp_path / "deep" / "out", overwrite=True)
    assert everything(tmp_path) == before
    with start(tmp_path / "deep" / "out", resume=True) as run:  # which removes nothing
        assert run.is_published
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["run.json", "report.html", "embeddings"])
def test_a_link_in_place_of_a_part_of_an_output_is_not_removed(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "out", "1")
    (tmp_path / "out" / "report.html").touch()
    (tmp_path / "out" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path)
    with pytest.raises(UserError, match=f"holds {name}, which no run wrote"):
        start(tmp_path / "out", overwrite=True)
    assert everything(tmp_path) == before


def test_all_that_runs_and_reports_write_is_replaced(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    for name in ("report.html", ".report.html.0123abcd", "embeddings/part-00000-0123456789abcdef.parquet"):
        (tmp_path / "out" / name).touch()
    publish(tmp_path / "out", "2", overwrite=True)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_comes_into_an_output_while_its_successor_is_trained_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(local, "_exchange", lambda one, other: False)
    publish(tmp_path / "out", "1")
    with start(tmp_path / "out", overwrite=True) as run:
        (tmp_path / "out" / "notes.txt").write_text("mine")
        (tmp_path / "out" / "my-analysis").mkdir()
        run.publish(writing("2"), {"content": "2"})
    assert contents(tmp_path / "out") == {"2"}
    (kept,) = tmp_path.glob("out.kept-*")
    assert set(os.listdir(tmp_path)) == {"out", kept.name}
    assert everything(kept) == {"notes.txt": b"mine", "my-analysis": stat.S_IFDIR}
    assert f"no run wrote my-analysis/, notes.txt, so it is now in {kept}" in caplog.text


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize(
    "place", [".", "checkpoints", "checkpoints/00000000", "checkpoints/.a.unfinished", f"staged.{'a' * 32}"]
)
def test_a_dead_run_is_not_cleared_away_with_what_no_run_wrote(tmp_path: Path, place: str, kind: str) -> None:
    output = tmp_path / "deep" / "out"
    with start(output) as run:
        save(run, 1)
    working = output.parent / ".out.working"
    (working / place).mkdir(exist_ok=True)
    make_stranger(working / place / "mine", kind)
    before = everything(tmp_path)
    for resume in (False, True):
        if resume and kind == "file" and place.endswith("00000000"):  # a newer version may have other files
            continue
        with pytest.raises(UserError, match=r"\.out\.working: holds (\S+/)?mine/?, which no run wrote"):
            start(output, resume=resume)
        assert everything(tmp_path) == before


def test_a_file_of_others_in_a_checkpoint_outlives_it(tmp_path: Path) -> None:
    with start(tmp_path / "out") as run:
        save(run, 1)
    notes = tmp_path / ".out.working" / "checkpoints" / "00000000" / "notes.txt"
    notes.write_text("mine")
    with start(tmp_path / "out", resume=True) as run:
        save(run, 2)
        run.publish(writing("1"), {"content": "1"})
    assert list(tree(tmp_path / ".out.working")) == [
        "checkpoints", "checkpoints/00000000", "checkpoints/00000000/notes.txt",
    ]  # fmt: skip
    assert contents(tmp_path / "out") == {"1"}


@pytest.mark.parametrize("kind", ["directory", "full directory", "link", "FIFO"])
@pytest.mark.parametrize(
    "name",
    ["lock", "metrics.jsonl", "checkpoints", "checkpoints/00000000", "checkpoints/00000000/manifest.json",
     "checkpoints/00000000/center.f32"],
)  # fmt: skip
def test_something_else_in_place_of_a_file_of_a_run_is_named_and_not_waited_for(
    tmp_path: Path, name: str, kind: str
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
    path = tmp_path / ".out.working" / name
    if path.exists():
        path.rename(tmp_path / "moved")
    make_stranger(path, "full directory" if kind == "directory" and name.startswith("checkpoints") else kind)
    before = everything(tmp_path)
    if kind.endswith("directory") and name in ("checkpoints", "checkpoints/00000000"):
        return  # which these are
    for resume in (False, True):
        with pytest.raises(
            UserError, match=rf"holds {name}/? \(a (directory|symbolic link|FIFO)\), which no run wrote"
        ):
            start(tmp_path / "out", resume=resume)
        assert everything(tmp_path) == before


def test_a_working_directory_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for kind in ("file", "link", "FIFO"):
        make_stranger(tmp_path / ".out.working", kind)
        with pytest.raises(
            UserError, match=r"\.out\.working: is a (file|symbolic link|FIFO), and runs work in a directory"
        ):
            start(tmp_path / "out")
        (tmp_path / ".out.working").unlink()


# What may pass


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


# A run that wakes up after another has taken over


def take_over(output: Path) -> Run:
    """A run of another host, to which the one at work seems dead."""
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


# Metrics that are lost


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
