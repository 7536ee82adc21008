"""Vectors that other programs wrote are read as those programs mean them; files that are none get one sentence."""

import bz2
import contextlib
import gzip
import io
import os
import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_w2v.errors import OutputError
from spark_w2v.given import vector_files
from spark_w2v.given.vector_files import VectorFile, open_vectors
from spark_w2v.types import Float32Array
from tests.support.gensim_parts import keyed_vectors

WORDS = ["the", "é", "new york", "日本", "_x_"]
ROWS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


def by_gensim(path: Path, is_binary: bool, words: list[str] = WORDS, rows: Float32Array = ROWS) -> Path:
    vectors = keyed_vectors()(rows.shape[1])
    vectors.add_vectors([word.replace(" ", "_") for word in words], rows)
    vectors.save_word2vec_format(path, binary=is_binary)
    return path


def center(file: VectorFile) -> Float32Array:
    chunks = list(file.chunks())
    assert all(not context.any() and context.shape == rows.shape for rows, context in chunks)
    return np.concatenate([rows for rows, _ in chunks])


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("is_zipped", [True, False])
@pytest.mark.parametrize("chunk", [1, 24, 1 << 20])
def test_vectors_of_gensim_are_read_to_the_bit(
    tmp_path: Path, is_binary: bool, is_zipped: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", chunk)
    path = by_gensim(tmp_path / "vectors", is_binary)
    if is_zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = open_vectors(path)
    assert found.words.to_pylist() == ["the", "é", "new_york", "日本", "_x_"]
    assert found.dimensions == 3
    assert np.array_equal(center(found), ROWS)


def test_binary_files_with_a_line_end_after_each_vector_are_those_of_the_original_program(tmp_path: Path) -> None:
    content = b"5 3\n" + b"".join(
        word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(WORDS, ROWS, strict=True)
    )
    (tmp_path / "v").write_bytes(content.replace(b"new york", b"new_york"))
    assert np.array_equal(center(open_vectors(tmp_path / "v")), ROWS)


@pytest.mark.parametrize("words", [["big ben", "paris", "big"], ["a", "new york"], ["a", "the town of york", "c"]])
@pytest.mark.parametrize("dimensions", [3, 50])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_words_with_spaces_in_a_binary_file_are_refused(
    tmp_path: Path, words: list[str], dimensions: int, end: bytes
) -> None:
    rows = np.random.default_rng(2).normal(size=(len(words), dimensions)).astype(np.float32)
    content = b"".join(word.encode() + b" " + row.tobytes() + end for word, row in zip(words, rows, strict=True))
    (tmp_path / "v").write_bytes(b"%d %d\n" % (len(words), dimensions) + content)
    place = next(place for place, word in enumerate(words, 1) if " " in word)
    with pytest.raises(OutputError) as refused:
        open_vectors(tmp_path / "v", longest=1000)
    assert str(refused.value) == (
        f"{tmp_path}/v: word {place}, {words[place - 1]}, has a space in it, and the binary format has no such words; "
        "save the vectors as text."
    )


def test_a_vector_whose_bytes_begin_as_text_is_one(tmp_path: Path) -> None:
    rows = np.frombuffer(b"ab \x7e\0\0\x80?x y=\0\0\0\0", "<f4").reshape(2, 2)
    (tmp_path / "v").write_bytes(b"2 2\na " + rows[0].tobytes() + b"\xe9cole " + rows[1].tobytes())
    found = open_vectors(tmp_path / "v")
    assert found.words.to_pylist() == ["a", None]
    assert np.array_equal(center(found), rows)


@pytest.mark.parametrize("header", ["5 3\n", ""])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_text_of_fasttext_and_of_glove_is_read_with_words_that_have_spaces(
    tmp_path: Path, header: str, end: str
) -> None:
    lines = [f"{word} {' '.join(map(repr, row.tolist()))}{end}" for word, row in zip(WORDS, ROWS, strict=True)]
    (tmp_path / "v.vec").write_text(header + "".join(lines), newline="")
    found = open_vectors(tmp_path / "v.vec")
    assert found.words.to_pylist() == WORDS
    assert np.array_equal(center(found), ROWS)


def test_a_word_that_comes_again_or_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"4 1\na 1\n\xff 2\na 3\nb 4\n")
    binary_words = b"".join(word + b" " + np.float32(1).tobytes() for word in (b"a", b"", b"\xff", b"a"))
    (tmp_path / "b").write_bytes(b"4 1\n" + binary_words)
    assert open_vectors(tmp_path / "b").words.to_pylist() == ["a", None, None, None]
    found = open_vectors(tmp_path / "v")
    assert found.words.to_pylist() == ["a", None, None, "b"]
    assert center(found).tolist() == [[1], [2], [3], [4]]


@pytest.mark.parametrize("header", ["7 2\n", ""])
def test_white_space_around_a_word_is_no_part_of_it_and_a_word_of_nothing_else_is_left_out(
    tmp_path: Path, header: str
) -> None:
    lines = ["the 1 1", "a  1 2", " b 3 4", "\tc 5 6", "d e  7 8", " 9 10", "  11 12"]
    (tmp_path / "v").write_text(header + "".join(f"{line}\n" for line in lines))
    found = open_vectors(tmp_path / "v")
    assert found.words.to_pylist() == ["the", "a", "b", "c", "d e", None, None]
    assert center(found).ravel().tolist() == [1, 1, *range(1, 13)]


@pytest.mark.parametrize("header", ["2 2\n", "2\t2\n", ""])
def test_tabs_between_a_word_and_its_numbers_are_spaces(tmp_path: Path, header: str) -> None:
    (tmp_path / "v").write_text(f"{header}a\t1\t2\nb\t3\t4\n")
    found = open_vectors(tmp_path / "v")
    assert found.words.to_pylist() == ["a", "b"]
    assert center(found).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("is_binary", [True, False])
def test_empty_lines_after_the_first_one_are_left_out(tmp_path: Path, is_binary: bool) -> None:
    path = by_gensim(tmp_path / "v", is_binary)
    path.write_bytes(path.read_bytes().replace(b"5 3\n", b"5 3\n\n \r\n", 1))
    found = open_vectors(path)
    assert found.words.to_pylist() == ["the", "é", "new_york", "日本", "_x_"]
    assert np.array_equal(center(found), ROWS)


def test_a_word_that_begins_as_an_archive_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"BZhang 1 2\nb 3 4\n")
    assert open_vectors(tmp_path / "v").words.to_pylist() == ["BZhang", "b"]


def test_a_word_that_ends_with_a_number_is_kept_where_the_first_line_says_the_dimensions(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"2 2\na 1 2\nwindows 3.1 3 4\n")
    found = open_vectors(tmp_path / "v")
    assert found.words.to_pylist() == ["a", "windows 3.1"]
    assert center(found).tolist() == [[1, 2], [3, 4]]


def test_a_word_that_ends_with_a_number_is_kept_at_the_end_of_a_long_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", 4 * 4 * 2)  # four rows of two numbers at a time
    (tmp_path / "v").write_bytes(b"5 2\n" + b"a 1 2\n" * 4 + b"windows 3.1 3 4\n")
    assert open_vectors(tmp_path / "v").words[4].as_py() == "windows 3.1"


@pytest.mark.parametrize("header", ["6 2\n", ""])
def test_words_of_glove_with_spaces_are_no_numbers(tmp_path: Path, header: str) -> None:
    words = ["the", ". . .", "at name@domain.com", "to 2", "on ..", "a 1e999"]
    (tmp_path / "v").write_text(header + "".join(f"{word} 0.5 -1.5\n" for word in words))
    assert open_vectors(tmp_path / "v").words.to_pylist() == words


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("is_zipped", [True, False])
def test_a_byte_order_mark_is_not_a_part_of_the_first_line(tmp_path: Path, is_binary: bool, is_zipped: bool) -> None:
    path = by_gensim(tmp_path / "v", is_binary)
    for content in (path.read_bytes(), *(() if is_binary else (path.read_bytes().partition(b"\n")[2],))):
        marked = b"\xef\xbb\xbf" + content
        path.write_bytes(gzip.compress(marked) if is_zipped else marked)
        found = open_vectors(path)
        assert found.words.to_pylist() == ["the", "é", "new_york", "日本", "_x_"]
        assert np.array_equal(center(found), ROWS)


def test_a_first_word_that_is_a_byte_order_mark_is_kept(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"\xef\xbb\xbf 1 2\na 3 4\n")
    assert open_vectors(tmp_path / "v").words.to_pylist() == ["\ufeff", "a"]


def test_the_digest_changes_with_a_word_and_with_a_number(tmp_path: Path) -> None:
    digests = set()
    for content in (b"a 1 2\nb 3 4\n", b"a 1 2\nc 3 4\n", b"a 1 2\nb 3 5\n", b"b 1 2\na 3 4\n"):
        (tmp_path / "v").write_bytes(content)
        digests.add(open_vectors(tmp_path / "v").digest)
    assert len(digests) == 4


@pytest.mark.parametrize("words", range(1, 10))
def test_an_empty_line_at_the_end_of_a_text_is_none_of_its_rows(
    words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", 4 * 4 * 2)  # four rows of two numbers at a time
    rows = "".join(f"w{number} 1 2\n" for number in range(words))
    for end in ("", "\n", " \n", "\n" * 2, "\n" * 9):
        path = tmp_path / "vectors.txt"
        path.write_text(f"{words} 2\n{rows}{end}")
        assert len(center(open_vectors(path))) == words
    path.write_text(f"{words + 2} 2\n{rows}\nlast 1 2\n")
    with pytest.raises(OutputError, match="is not followed by 2 numbers"):
        center(open_vectors(path))
    path.write_text(f"{words} 2\n{rows}" + "\n" * (vector_files.MOST_EMPTY + 10))
    with pytest.raises(OutputError, match="empty lines after"):
        center(open_vectors(path))


def zipped(content: bytes) -> bytes:
    """The same bytes at any time, as they name the tests."""
    return gzip.compress(content, mtime=0)


def binary(rows: int, says: str) -> bytes:
    return says.encode() + b"".join(b"w%d " % row + np.array([row, 1], np.float32).tobytes() for row in range(rows))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n", "its first line says neither"),
        (b"3\n", "its first line says neither"),
        (b"hello world\nmore of it\n", "its first line says neither"),
        (b"a 1 2", "its first line says neither"),
        (b"\0" * 100_000, "its first line says neither"),
        (b"a" * 1_000_000, "its first line says neither"),
        (pickle.dumps({"a": 1}), "is a pickle, which is never opened"),
        (b"\xba\x16\x4f\x2f\x0c\0\0\0", "is a model of fastText"),
        (b"2 0\n\n", "says 2 words of 0 dimensions"),
        (b"0 2\n", "says 0 words of 2 dimensions"),
        (b"999999999999 2\na 1 2\n", "says 999,999,999,999 words of 2 dimensions"),
        (b"2 99999\na 1 2\n", "says 2 words of 99,999 dimensions"),
        (b"-5 300\na 1 2\n", "says -5 words of 300 dimensions"),
        (b"5 -300\na 1 2\n", "says 5 words of -300 dimensions"),
        (b"1234567890123456789 300\na 1 2\n", "says 1,234,567,890,123,456,789 words of 300 dimensions"),
        (b"PK\x03\x04\x14\0\n\0\n 1 2", r"is packed by zip \(unpack it, or pack it with gzip instead\)"),
        (bz2.compress(b"2 2\na 1 2\nb 3 4\n"), "is packed by bzip2"),
        (b"2 2\n" + b"\n" * 2000, "ends after 0 words, and its first line says 2"),
        (b"3 2\na 1 2\nb 3 4\n", "ends after 2 words, and its first line says 3"),
        (b"1 2\na 1 2\nb 3 4\n", "goes on after the 1 words"),
        (b"2 3\na 1 2\nb 3 4\n", "word 1 is not followed by 3 numbers"),
        (b"2 2\na 1 2\nb 3\n", "word 2 is not followed by 2 numbers"),
        (b"2 2\na 1 2\nb 3 x\n", "word 2 is not followed by 2 numbers"),
        (b"2 2\na 1 2\nb 3 nan\n", "the vector of word 2 is not finite"),
        (b"2 2\na 1 2\nb 3 1e99\n", "the vector of word 2 is not finite"),
        (b"2 2\na -1e-3 1 2\nb .5 3 4\n", "word 1 is followed by more than 2 numbers"),
        (b"3 2\na 1 2\nb 0.5 3 4\nc 0.5 3 4\n", "word 2 is followed by more than 2 numbers"),
        (b"2 2\na 1 2\nb 1_0 4\n", "word 2 is not followed by 2 numbers"),
        (b"a 1 2\nb c .5 3 4\n", "word 2 is followed by more than 2 numbers"),
        (b"2 2\na 1,5 2\nb 3 4\n", "word 1 is not followed by 2 numbers"),
        (b"2 2\na 1.5 2-\nb 3 4\n", "word 1 is not followed by 2 numbers"),
        (b"2 2\na 1,2\nb 3,4\n", "word 1 is not followed by 2 numbers"),
        (b"a" + b" 1" * 20_000 + b"\n", "its first line has 20,000 numbers"),
        (b"a 1 2\nb 3\n", "word 2 is not followed by 2 numbers"),
        (binary(2, "3 2\n"), "ends after 2 words, and its first line says 3"),
        (binary(2, "1 2\n"), "goes on after the 1 words"),
        (binary(2, "2 2\n")[:-1], "ends after 1 words, and its first line says 2"),
        (binary(1, "2 2\n") + b"x" * 20_000, "word 2 does not end within 10,000 bytes"),
        (binary(1, "2 2\n") + b"b \0\0\0\0\0\0\x80\x7f", "the vector of word 2 is not finite"),
        (zipped(binary(2, "2 2\n"))[:-5], "the gzip file is cut off"),
        (zipped(b"2 2\n" + b"a" * 10_000_000), "is not followed by 2 numbers|does not end within"),
        (zipped(b"a 1\n" + b"b" * 200_000_000), "word 2 is not followed by 1 numbers"),
        (zipped(binary(2, "2 2\n"))[:-5] + b"12345", "cannot be read"),
        (b"\x1f\x8bnonsense", "cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_or_something_else_gets_one_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "given"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=sentence) as refused:
        open_vectors(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert re.search(r"; give the output of a finished run, or vectors in .* format\.$", str(refused.value))


@pytest.mark.parametrize("is_binary", [True, False])
def test_a_vector_that_is_too_long_is_refused_by_its_word(
    tmp_path: Path, is_binary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", 24)
    rows = ROWS.copy()
    rows[3] = [900, 900, 0]
    path = by_gensim(tmp_path / "v", is_binary, rows=rows)
    assert np.array_equal(center(open_vectors(path)), rows)
    with pytest.raises(OutputError) as refused:
        open_vectors(path, longest=1000)
    assert str(refused.value) == (
        f"{path}: the vector of word 4, 日本, has the length 1,272.79, and a training takes at most 1,000; divide all "
        "vectors by the same number."
    )
    rows[3] = 3e38
    with pytest.raises(OutputError, match="the vector of word 4, 日本, has the length inf"):
        open_vectors(by_gensim(path, is_binary, rows=rows), longest=1000)


@pytest.mark.parametrize(("name", "kind"), [("fifo", "a FIFO"), ("/dev/zero", "a socket or a device"), ("/", "")])
def test_what_is_not_a_file_is_refused_and_not_read(tmp_path: Path, name: str, kind: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match=f"cannot be read .{f'it is {kind}' if kind else 'Is a directory'}"):
        open_vectors(tmp_path / name)


class Endless(io.RawIOBase):
    """Some bytes, and others again and again; an error where more than MOST of them are read."""

    MOST = 100 << 20

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first, self._again, self._place = first, again * (1 + (1 << 20) // len(again)), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._place = place + (self._place if whence == os.SEEK_CUR else 0)
        return self._place

    def readinto(self, room: Any) -> int:
        assert self._place < self.MOST, "it would be read for ever"
        later = self._place - len(self._first)
        source, place = (self._first, self._place) if later < 0 else (self._again, later % len(self._again))
        part = source[place : place + len(room)]
        room[: len(part)] = part
        self._place += len(part)
        return len(part)


@pytest.mark.parametrize(
    ("first", "again", "sentence"),
    [
        (b"", b"\0", "its first line says neither"),
        (b"", b"a", "its first line says neither"),
        (b"", b"1 ", "its first line says neither"),
        (b"", b"a 1\n", "has more than 2,000 words"),
        (b"a 1 2\n", b"\n", "empty lines after 1 words"),
        (b"a 1 2\n", b"b 1 2 ", "word 2 is not followed by 2 numbers"),
        (b"9 1\n", b"a 1\n", "goes on after the 9 words that its first line says"),
        (b"9 1\n", b" ", ""),  # nine words of nothing
        (b"9 1\n", b" " * 400_000 + b"\n", ""),
        (b"9 1\n", b"\n", "word 1 does not end within 10,000 bytes"),
        (b"9 1\n", b"\0", "word 1 does not end within 10,000 bytes"),
        (b"9 1\n", b"a \0\0\0\0", "goes on after the 9 words that its first line says"),
        (b"2001 1\n", b"a \0\0\0\0", "its first line says 2,001 words of 1 dimensions"),
        (b"2000 1\n", b"a" * 1000 + b" 1\n", "has words of more than 2 GiB"),
        (b"2000 1\n", b"a" * 1000 + b" \0\0\0\0", "has words of more than 2 GiB"),
    ],
)
def test_an_endless_file_is_refused_before_it_fills_the_memory(
    tmp_path: Path, first: bytes, again: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = by_gensim(tmp_path / "v", is_binary=False)
    open_vectors(path)  # imports what it needs
    monkeypatch.setattr(vector_files, "MOST_WORDS", 2000)
    monkeypatch.setattr(vector_files, "MOST_EMPTY", 100)
    monkeypatch.setattr(vector_files, "ALL_WORDS_BYTES", 1 << 20)
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", 4000)
    monkeypatch.setattr(vector_files, "open_file", lambda path: io.BufferedReader(Endless(first, again)))
    said = rf"{path}: .*{sentence}.*; give the output of a finished run, or vectors"
    tracemalloc.start()
    try:
        with pytest.raises(OutputError, match=said) if sentence else contextlib.nullcontext():
            open_vectors(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"a 1\nb 2\nc 3\n", b"b 2\na 1\n"])
def test_a_file_that_changed_meanwhile_is_noticed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v").write_bytes(b"a 1\nb 2\n")
    found = open_vectors(tmp_path / "v")
    (tmp_path / "other").write_bytes(content)
    os.replace(tmp_path / "other", tmp_path / "v")
    with pytest.raises(OutputError, match="has changed while it was read"):
        list(found.chunks())
