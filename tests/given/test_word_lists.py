"""A file of words is read as it is meant; one that is something else gets one sentence."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.given import word_lists
from spark_w2v.given.word_lists import read_words
from spark_w2v.run_request import Request
from spark_w2v.text.phrases import PHRASES


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


def test_phrases_of_a_list_that_no_text_can_have_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"count": 1, "score": 1}
    phrases = [
        {**row, "phrase": "New York", "first": "New", "second": "York", "pass": 1},
        {**row, "phrase": "big New York", "first": "big", "second": "New York", "pass": 2},
    ]
    pq.write_table(pa.Table.from_pylist(phrases, PHRASES), tmp_path / "phrases")
    for lower_case in (False, True):
        keys = {"phrases": {"list": str(tmp_path / "phrases")}, "corpus": {"lower_case": lower_case}}
        assert Request(config.from_dict(keys), [], "out").phrases is not None
    assert caplog.messages == [
        'phrases.list: 2 words can never occur, as corpus.tokenizer = "words" with corpus.lower_case does not leave '
        "them as they are, such as New, York"
    ]


@pytest.mark.parametrize(
    ("keys", "number", "first"),
    [
        ({}, 9, "État, NASA, new york, à\\xa0la, c++"),
        ({"corpus": {"lower_case": False}}, 7, "new york, à\\xa0la, c++, co\\xadop, big_c++"),
        ({"corpus": {"lower_case": False, "tokenizer": "whitespace"}}, 3, f"new york, à\\xa0la, {'x' * 57}..."),
        ({"corpus": {"tokenizer": "regex", "pattern": "[a-z ]+"}}, 9, "État, NASA, à\\xa0la, 12, c++"),
        ({"corpus": {"tokenizer": "none", "format": "parquet"}}, 0, ""),
        ({"phrases": {"passes": 1}}, 8, "État, NASA, new york, à\\xa0la, c++"),  # not los_angeles
        ({"phrases": {"list": "phrases"}}, 8, "État, NASA, à\\xa0la, c++, co\\xadop"),
    ],
)
@pytest.mark.parametrize("name", ["words", "stop_words"])
def test_words_that_no_text_can_have_are_warned_of(
    tmp_path: Path,
    name: str,
    keys: dict[str, Any],
    number: int,
    first: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    phrase = {"phrase": "new york", "first": "new", "second": "york", "count": 1, "score": 1, "pass": 1}
    pq.write_table(pa.Table.from_pylist([phrase], PHRASES), "phrases")
    words = [
        "the",
        "État",
        "NASA",
        "new york",
        "à\u00a0la",
        "12",
        "c++",
        "co\u00adop",
        "big_c++",
        "los_angeles",
        "x" * 101,
    ]
    Path("w").write_text("\n".join(words))
    settings = config.from_dict({"vocabulary": {name: "w"}, **keys})
    assert len(getattr(Request(settings, [], "out").word_lists, "given" if name == "words" else "stop")) == 11
    tokenizer = f'"{settings.corpus.tokenizer}"{" with corpus.lower_case" if settings.corpus.lower_case else ""}'
    assert caplog.messages == [
        f"vocabulary.{name}: {number} words can never occur, as corpus.tokenizer = {tokenizer} does not leave them as "
        f"they are, such as {first}"
    ] * bool(number)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b" \n\n", "holds no word"),
        (b"a\n\xff\n", "line 2 is not UTF-8"),
        (b"\xef\xbb\xbfab\n\xff\n", "line 2 is not UTF-8"),
        (b"a\0b\0\n\0", "holds bytes that no text has, so it is UTF-16 or no text"),
        (b"a" * 200, "is larger than"),
    ],
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
