"""A file of words is read as it is meant; one that is something else gets one sentence."""

from pathlib import Path
from typing import Any

import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.given import word_lists
from spark_w2v.given.word_lists import read_words
from spark_w2v.run_request import Request


def test_words_are_read_once_each_in_their_order_without_blanks(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes("\ufeffb\r\n a \n\nb\nc d\n é".encode())
    assert read_words(str(tmp_path / "w"), "--words").to_pylist() == ["b", "a", "c d", "é"]


@pytest.mark.parametrize("tokenizer", ["words", "whitespace", "none"])
def test_words_are_composed_as_the_text_is(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "w").write_text("caf\u00e9\ncafe\u0301\n")
    corpus = {"tokenizer": tokenizer, "format": "parquet"}
    keys = {"corpus": corpus, "vocabulary": dict.fromkeys(("words", "stop_words"), f"{tmp_path}/w")}
    lists = Request(config.from_dict(keys), [], "out").word_lists
    expected = ["caf\u00e9", "cafe\u0301"] if tokenizer == "none" else ["caf\u00e9"]
    for found in (lists.given, lists.stop):
        assert found is not None
        assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({}, [0, 1]),
        ({"corpus": {"lower_case": False, "tokenizer": "whitespace"}}, [1]),
        ({"corpus": {"tokenizer": "regex", "pattern": "[a-z ]+"}}, [0]),
        ({"corpus": {"tokenizer": "none", "format": "parquet"}}, []),
        ({"phrases": {"list": "its own spellings"}}, []),
    ],
)
@pytest.mark.parametrize("name", ["words", "stop_words"])
def test_words_that_no_text_can_have_are_warned_of(
    tmp_path: Path, name: str, keys: dict[str, Any], warned: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w").write_text("the\nÉtat\nNASA\nnew york\nà\u00a0la\n12\n")
    settings = config.from_dict({"vocabulary": {name: f"{tmp_path}/w"}, **keys})
    assert len(getattr(Request(settings, [], "out").word_lists, "given" if name == "words" else "stop")) == 6
    sentences = [
        "2 words can never occur, as corpus.lower_case leaves no upper case, such as État, NASA",
        f'2 words can never occur, as corpus.tokenizer = "{settings.corpus.tokenizer}" cuts at white space, such as '
        "new york, à\\xa0la",
    ]
    assert caplog.messages == [f"vocabulary.{name}: {sentences[number]}" for number in warned]


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
