"""Exports that are refused, and what they leave."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from spark_w2v.commands import export
from spark_w2v.runs.export_formats import FILES
from tests.support.commands import refused_in_one_sentence
from tests.support.exports import WORDS, equal_bits, export_to, finish, load, matrices, stored
from tests.support.runs import STRANGERS, everything, make_run, make_stranger


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))


@pytest.mark.parametrize("form", FILES)
def test_an_existing_target_is_replaced_only_when_asked(
    output: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    capsys.readouterr()
    assert export_to(output, form, target, "--vectors", "context") == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert equal_bits(load(form, target)[1], stored(form, matrices(len(WORDS))[0]))
    assert export_to(output, form, target, "--vectors", "context", "--overwrite") == 0
    assert equal_bits(load(form, target)[1], stored(form, matrices(len(WORDS))[1]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "to"]


def test_a_full_disk_is_to_be_tried_again(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spark_w2v.runs.export.tempfile.mkdtemp", full)
    assert export_to(output, "word2vec-text", tmp_path / "to") == 75
    assert "cannot be made (the disk is full)" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary"])
def test_a_file_that_no_export_wrote_is_not_replaced(
    output: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "thesis.tex"
    target.write_text("\\documentclass{book}\n")
    assert export_to(output, form, target, "--overwrite") == 2
    assert "is not laid out as a file of word2vec is" in capsys.readouterr().err
    assert target.read_text() == "\\documentclass{book}\n"
    target.write_text("")  # as mktemp leaves it
    assert export_to(output, form, target, "--overwrite") == 0
    assert load(form, target)[0] == WORDS


def test_a_file_that_may_not_be_read_is_a_users_mistake(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(output, "word2vec-text", tmp_path / "to") == 0

    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("spark_w2v.runs.export.open_file", refuse)
    assert export_to(output, "word2vec-text", tmp_path / "to", "--overwrite") == 2
    assert "cannot be looked at (Permission denied); give another path" in capsys.readouterr().err


LETTER = b"Dear reader, these are the notes of a year, line by line.\n" * 40


@pytest.mark.parametrize(
    "content",
    [
        b"2026 12\nmy notes\n",
        b"2 12\n" + LETTER,  # large enough
        b"2 3\na 1 2\nb 3 4\n",
        b"2 3\na 1 2 three\nb 4 5 6\n",
        b"2 1\na\0\0\0\0\0\n",
        b"1 1\na \0\0\0\0\nmine\n",
        b"2 0\na\nb\n",
        b"99999999999 99999999999\nmine\n",
        b"2 3\n",
    ],
)
@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary"])
def test_a_file_that_only_begins_as_an_export_is_not_replaced(
    output: Path, tmp_path: Path, form: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "notes"
    target.write_bytes(content)
    assert export_to(output, form, target, "--overwrite") == 2
    assert "is not laid out as a file of word2vec is" in capsys.readouterr().err
    assert target.read_bytes() == content


def test_a_file_of_which_two_lines_alone_look_like_counts_is_not_replaced(output: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.write_text("bread 2\nmilk 1\nand call home\n")
    arguments = output, "word2vec-text", tmp_path / "to", "--counts", str(counts), "--overwrite"
    assert export_to(*arguments) == 2
    assert counts.read_text() == "bread 2\nmilk 1\nand call home\n"
    counts.write_text("bread 2\nmilk 1\n")
    assert export_to(*arguments) == 0


def test_a_text_of_the_program_word2vec_is_replaced(output: Path, tmp_path: Path) -> None:
    """Each of its lines ends in a space."""
    (tmp_path / "to").write_text("2 3\nbread 0.1 -0.2 1e-05 \nmilk 0.3 0.4 0.5 \n")
    assert export_to(output, "word2vec-text", tmp_path / "to", "--overwrite") == 0
    assert load("word2vec-text", tmp_path / "to")[0] == WORDS


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary"])
@pytest.mark.parametrize("before", ["word2vec-text", "word2vec-binary"])
def test_an_export_of_any_size_and_of_the_other_format_of_word2vec_is_replaced(
    tmp_path: Path, form: str, before: str, rows: int
) -> None:
    output = finish(tmp_path / "out", WORDS[:rows], *matrices(rows))
    assert export_to(output, before, tmp_path / "to") == 0
    assert export_to(output, form, tmp_path / "to", "--overwrite") == 0
    assert load(form, tmp_path / "to")[0] == WORDS[:rows]


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("form", [form for form in FILES if FILES[form]])
def test_a_directory_with_anything_that_no_export_wrote_is_not_replaced(
    output: Path, tmp_path: Path, form: str, kind: str
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    for place in [target, *(path for path in target.iterdir() if path.is_dir())]:
        make_stranger(place / "mine", kind)
        before = everything(target)
        assert export_to(output, form, target, "--overwrite") == 2
        assert everything(target) == before
        if kind == "full directory":
            (place / "mine" / "mine").unlink()
        (place / "mine").rmdir() if "directory" in kind and "link" not in kind else (place / "mine").unlink()


@pytest.mark.parametrize("form", [form for form in FILES if FILES[form]])
def test_files_of_others_are_never_removed(output: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    (target / "deep").mkdir()
    (target / "deep" / "mine").touch()
    assert export_to(output, form, target, "--overwrite") == 2
    assert (target / "deep" / "mine").exists()
    assert load(form, target)[0] == WORDS


@pytest.mark.parametrize("form", FILES)
def test_a_walk_that_fails_leaves_what_was_there(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    before = load(form, target)
    capsys.readouterr()

    def fails(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    assert export_to(output, form, target, "--overwrite") == 75
    assert capsys.readouterr().err == f"export.py: {target}: could not be written (the disk is full).\n"
    monkeypatch.undo()
    after = load(form, target)
    assert (before[0], before[1].tobytes()) == (after[0], after[1].tobytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "to"]


def test_a_sum_that_is_not_finite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = np.full((1, 2), 3e38, np.float32)
    output = finish(tmp_path / "out", ["king"], large, large)
    assert export_to(output, "npy", tmp_path / "to", "--vectors", "sum") == 2
    assert "is not finite" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_matrices_of_two_runs_are_not_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))
    other = finish(tmp_path / "other", WORDS[:5], *matrices(5))
    for path in (output / "context").iterdir():
        path.unlink()
    for path in (other / "context").iterdir():
        path.rename(output / "context" / path.name)
    assert export_to(output, "npy", tmp_path / "to", "--vectors", "sum") == 2
    assert "are of two runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["OUT", "--to", "DIR/to"], "required: --format"),
        (["OUT", "--format", "npy"], "required: --to"),
        (["OUT", "--format", "pickle\x1b[31m", "--to", "DIR/to"], "invalid choice: 'pickle\\x1b[31m'"),
        (["OUT", "--format", "npy", "--to", "DIR/to", "--vectors", "output"], "invalid choice: 'output'"),
        (["OUT", "--format", "npy", "--to", ""], "is not a path"),
        (["OUT", "--format", "npy", "--to", "/"], "is the root of a file system"),
        (["OUT", "--format", "npy", "--to", "s3://bucket/to"], "is not on this host"),
        (["s3://bucket/out?key=1", "--format", "npy", "--to", "DIR/to"], "takes no options after a question mark"),
        (["OUT", "--format", "npy", "--to", "DIR/no/to"], "is not a directory"),
        (["OUT", "--format", "npy", "--to", "DIR/file/to"], "is not a directory"),
        (["OUT", "--format", "npy", "--to", "DIR/file", "--overwrite"], "is a file, and npy is a directory"),
        (["OUT", "--format", "npy", "--to", "DIR/full", "--overwrite"], "holds mine, which no export to npy wrote"),
        (
            ["OUT", "--format", "word2vec-text", "--to", "DIR/full", "--overwrite"],
            "is a directory, and word2vec-text is a file",
        ),
        (["OUT", "--format", "word2vec-text", "--to", "DIR/to.gz"], "readers would take it for a packed file"),
        (["OUT", "--format", "word2vec-text", "--to", "OUT/to"], "is inside of"),
        (["OUT", "--format", "npy", "--to", "OUT", "--overwrite"], "is inside of"),
        (["OUT", "--format", "npy", "--to", "DIR", "--overwrite"], "which no export to npy wrote"),
        (["DIR/nowhere\x1b[31m", "--format", "npy", "--to", "DIR/to"], "nowhere\\x1b[31m: no such directory"),
        (["OUT/embeddings", "--format", "npy", "--to", "DIR/to"], "has no _SUCCESS"),
    ],
)
def test_a_mistake_costs_one_sentence_and_exit_code_2(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    given = [a.replace("OUT", str(output)).replace("DIR", str(tmp_path)) for a in arguments]
    assert sentence in refused_in_one_sentence(export.main, given, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "out"]
    assert (tmp_path / "full" / "mine").exists()


@pytest.mark.parametrize(("form", "name"), [("word2vec-text", "to"), ("npy", "embeddings/deep/to")])
def test_nothing_is_written_into_another_finished_run(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    other = make_run(tmp_path / "other")
    (other / name).parent.mkdir(parents=True, exist_ok=True)
    assert export_to(output, form, other / name) == 2
    assert f"to: is inside of {other}, which holds a run and nothing else" in capsys.readouterr().err
    assert not (other / name).exists()


def test_a_damaged_output_is_refused_whole(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [part] = (output / "embeddings").iterdir()
    content = bytearray(part.read_bytes())
    content[200:400] = bytes(200)
    part.write_bytes(content)
    assert export_to(output, "npy", tmp_path / "to") == 2
    assert "cannot be read, perhaps it is damaged" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
