"""Files that no run wrote are never removed or overwritten."""

import os
import stat
from pathlib import Path

import pytest

from spark_w2v.errors import UserError
from spark_w2v.runs import local
from tests.support.runs import STRANGERS, contents, everything, make_stranger, publish, save, start, tree, writing


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


FILES = ("lock", "metrics.jsonl", "checkpoints/00000000/manifest.json", "checkpoints/00000000/center.f32")
DIRECTORIES = ("checkpoints", "checkpoints/00000000")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in FILES for kind in ("directory", "full directory", "link", "FIFO")]
    + [(name, kind) for name in DIRECTORIES for kind in ("link", "FIFO")],
)
def test_something_else_in_place_of_a_part_of_a_run_is_named_and_not_waited_for(
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


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_appears_while_a_run_trains_is_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    with start(tmp_path / "out", overwrite=overwrite) as run:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="holds files that no finished run wrote"):
            run.publish(writing("1"), {"content": "1"})
    assert everything(tmp_path) == {"out": stat.S_IFDIR, "out/thesis.tex": b"years of work"}


def test_a_finished_output_that_appears_while_a_run_trains_is_not_replaced(tmp_path: Path) -> None:
    publish(tmp_path / "other", "2")
    with start(tmp_path / "out") as run:
        (tmp_path / "other").rename(tmp_path / "out")
        with pytest.raises(UserError, match="holds a finished output; give --overwrite"):
            run.publish(writing("1"), {"content": "1"})
    assert contents(tmp_path / "out") == {"2"}


@pytest.mark.parametrize("name", [".nfs0000000012345678", ".fuse_hidden0000001200000003"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_file_that_readers_of_a_replaced_output_have_open_is_in_nobodys_way(
    tmp_path: Path, name: str, resume: bool
) -> None:
    publish(tmp_path / "out", "1")
    folder = tmp_path / ".out.working" / f"staged.{'a' * 32}" / "embeddings"
    folder.mkdir(parents=True)
    (folder / name).write_text("as NFS calls a file that was removed while it is read")
    with start(tmp_path / "out", overwrite=True, resume=resume) as run:
        run.publish(writing("2"), {"content": "2"})
    assert contents(tmp_path / "out") == {"2"}
