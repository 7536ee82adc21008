"""Windows of rare words in an output come back as they were; damaged ones are refused."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.errors import OutputError
from spark_w2v.given import rare_windows
from spark_w2v.given.rare_windows import FILE, FOLDER, read_windows, write_windows
from spark_w2v.text.rare_windows import WINDOWS

ROWS = [
    {"word": "kiwi", "sentence": ["a", "kiwi", "é"], "weight": 65536},
    {"word": "lemon", "sentence": ["lemon"], "weight": 1},
]


def test_windows_come_back(tmp_path: Path) -> None:
    for name, rows in (("some", ROWS), ("none", [])):
        (tmp_path / name).mkdir()
        windows = pa.Table.from_pylist(rows, schema=WINDOWS)
        write_windows(tmp_path / name, windows)
        found = read_windows(tmp_path / name)
        assert found is not None
        assert found.equals(windows)


def test_an_output_without_windows_has_none(tmp_path: Path) -> None:
    assert read_windows(tmp_path) is None


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"kiwi")
    content[at] ^= 1
    path.write_bytes(content)


def of_others(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def not_utf8(path: Path) -> None:
    words = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"word": words, "sentence": [["a"]], "weight": pa.array([1], pa.int32())}), path)


def with_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read as windows of rare words"),
        (lambda path: path.write_text("kiwi"), "cannot be read as windows of rare words"),
        (lambda path: path.unlink(), "cannot be read as windows of rare words"),
        (with_fifo, "cannot be read as windows of rare words"),
        (not_utf8, "cannot be read as windows of rare words, perhaps it is damaged .*UTF8"),
        (lambda path: of_others(path, [{"word": "kiwi"}]), "cannot be read as windows of rare words"),
        (lambda path: of_others(path, [{**ROWS[0], "weight": -1}]), "has nulls or negative weights"),
        (lambda path: of_others(path, [{**ROWS[0], "word": None}, ROWS[1]]), "cannot be read as|has nulls"),
        (lambda path: of_others(path, [{**ROWS[0], "sentence": ["a", None]}]), "cannot be read as|has nulls"),
    ],
)
def test_damaged_windows_are_refused(tmp_path: Path, change: Any, says: str) -> None:
    write_windows(tmp_path, pa.Table.from_pylist(ROWS, schema=WINDOWS))
    change(tmp_path / FOLDER / FILE)
    with pytest.raises(OutputError, match=says) as raised:
        read_windows(tmp_path)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / FOLDER / FILE) in str(raised.value)


def test_a_changed_bit_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not compressed, so that a word can be found in the file.
    plain = partial(pq.write_table, compression="none", write_page_checksum=True)
    monkeypatch.setattr(pq, "write_table", lambda table, path, **others: plain(table, path))
    write_windows(tmp_path, pa.Table.from_pylist(ROWS, schema=WINDOWS))
    damaged(tmp_path / FOLDER / FILE)
    with pytest.raises(OutputError, match="cannot be read as windows"):
        read_windows(tmp_path)


def test_too_many_windows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_windows, "MOST_WINDOWS", 1)
    write_windows(tmp_path, pa.Table.from_pylist(ROWS, schema=WINDOWS))
    with pytest.raises(OutputError, match="has more than 1 windows"):
        read_windows(tmp_path)
