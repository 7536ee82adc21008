"""A file of words is read as it is meant; one that is something else gets one sentence."""

from pathlib import Path

import pytest

from spark_w2v.errors import UserError
from spark_w2v.given import word_lists
from spark_w2v.given.word_lists import read_words


def test_words_are_read_once_each_in_their_order_without_blanks(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes("\ufeffb\r\n a \n\nb\nc d\n é".encode())
    assert read_words(str(tmp_path / "w"), "--words").to_pylist() == ["b", "a", "c d", "é"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b" \n\n", "holds no word"), (b"a\n\xff\n", "line 2 is not UTF-8"), (b"a" * 200, "is larger than")],
)
def test_a_file_that_is_no_list_is_refused(
    tmp_path: Path, content: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_lists, "LARGEST_FILE", 100)
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=f"vocabulary.words .*w: {sentence}"):
        read_words(str(tmp_path / "w"), "vocabulary.words")


@pytest.mark.parametrize("path", ["missing", ".", "/dev/zero", "a\0b"])
def test_what_is_not_a_file_is_refused(path: str) -> None:
    with pytest.raises(
        UserError, match=r"vocabulary.words .*: cannot be read \(.*\); give a file with one word a line"
    ):
        read_words(path, "vocabulary.words")
