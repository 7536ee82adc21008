"""An output on this host is there whole or not at all, whatever happens to the run."""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import local
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.places import check_password, is_local, local_path
from spark_w2v.runs.run import Run
from tests.support.runs import FINGERPRINT, child, contents, end, publish, save, start, tree, writing

KILLS = 12


# Publication


def test_a_published_output_is_complete_and_nothing_is_left_next_to_it(tmp_path: Path) -> None:
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
    with Run(output_of(sys.argv[1]), overwrite=True, resume=False, fingerprint={}) as run:
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


@pytest.mark.parametrize("is_made", [False, True])
def test_an_output_that_a_run_had_moved_aside_when_it_died_is_moved_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_made: bool
) -> None:
    publish(tmp_path / "out", "1")
    before = tree(tmp_path)
    (tmp_path / ".out.working").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.working" / "replaced")
    if is_made:  # empty, as by mkdir -p before the next run
        (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="holds a finished output"):
        start(tmp_path / "out")
    assert "moved back" in caplog.text
    assert tree(tmp_path) == before


def test_an_output_that_was_moved_aside_is_kept_while_something_else_is_in_its_place(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    (tmp_path / ".out.working").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.working" / "replaced")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    output_of(str(tmp_path / "out")).recover()
    assert (tmp_path / ".out.working" / "replaced" / "_SUCCESS").exists()
    assert os.listdir(tmp_path / "out") == ["notes.txt"]


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


def test_a_mount_point_is_refused_before_the_run_and_a_directory_in_it_is_an_output() -> None:
    shared = Path("/dev/shm")
    if not shared.is_mount():
        pytest.skip("no file system is mounted at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared) as inside:
        with pytest.raises(UserError, match="such as /dev/shm/vectors"):
            LocalOutput("/dev/shm/", shared).check_finished(overwrite=False, resume=True)
        publish(Path(inside) / "out", "1")
        assert contents(Path(inside) / "out") == {"1"}


def test_an_empty_directory_of_a_lower_layer_is_replaced(tmp_path: Path) -> None:
    """As the directory of a container's image is; other tests replace an empty directory of an ordinary file system."""
    layers = [tmp_path / name for name in ("lower/out", "upper", "work", "merged", "staged")]
    for directory in layers:
        directory.mkdir(parents=True)
    mount = (
        f"mount -t overlay overlay -o lowerdir={tmp_path}/lower,upperdir={layers[1]},workdir={layers[2]} {layers[3]}"
    )
    python = f"""
from pathlib import Path; from spark_w2v.runs.local import LocalOutput
working = Path("{layers[3]}/.out.working"); (working / "staged").mkdir(parents=True); (working / "staged" / "a").touch()
LocalOutput("out", Path("{layers[3]}/out")).publish(working / "staged")
print(sorted(p.name for p in Path("{layers[3]}/out").iterdir()))
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} || exit 99; exec "$0" -c "$1"', sys.executable, python],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "['a']\n", done.stderr


def test_missing_parents_are_made_and_go_again_with_a_run_that_kept_nothing(tmp_path: Path) -> None:
    with start(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b" / ".out.working").is_dir()
    assert os.listdir(tmp_path) == []
    publish(tmp_path / "a" / "b" / "out", "1")
    assert contents(tmp_path / "a" / "b" / "out") == {"1"}


def test_a_finished_run_that_is_moved_back_is_nothing_to_do(tmp_path: Path) -> None:
    publish(tmp_path / "out", "1")
    (tmp_path / ".out.working").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.working" / "replaced")
    place = output_of(str(tmp_path / "out"))
    with Run(place, overwrite=False, resume=False, fingerprint=FINGERPRINT, keeps_finished=True) as run:
        assert run.is_published
    assert contents(tmp_path / "out") == {"1"}


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


@pytest.mark.parametrize("name", ["v#2", "v?x=1", "v#a?b"])
def test_characters_that_end_the_path_of_a_web_address_are_part_of_a_name(name: str) -> None:
    assert local_path(f"file:///tmp/{name}") == local_path(f"file:/tmp/{name}") == Path("/tmp").resolve() / name


@pytest.mark.parametrize(
    "path",
    [
        "s3a://key:hush@bucket/text",
        "s3a://KEY:ab/hush+x/1@bucket",
        "hdfs://me:hush@host:9000/text",
        "s3://:h@b",
        "s3a://KEY:12/hush@bucket/text",
    ],
)
def test_a_password_in_a_path_is_found_wherever_it_has_slashes(path: str) -> None:
    with pytest.raises(UserError, match="has a password in it") as refused:
        check_password(path)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/a:b@c", "hdfs://host:9000/data/x@y", "abfss://container@account.dfs.core.windows.net/a:b@c",
        "/data/a:b@c", "user:name@host", "hdfs:///a:b@c",
    ],
)  # fmt: skip
def test_a_path_without_a_password_is_none(path: str) -> None:
    check_password(path)


def test_only_a_scheme_other_than_file_makes_an_output_remote() -> None:
    assert all(map(is_local, ["out", "/out", "file:/out", "FILE:///out", "a:b", "c:", "runs 1:/x", "d/s3:/x"]))
    assert not any(map(is_local, ["hdfs:/out", "hdfs://host:9000/out", "s3a://bucket/out", "viewfs://c/out"]))


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no UTF-8"):
        output_of(f"{tmp_path}/\udcff")
