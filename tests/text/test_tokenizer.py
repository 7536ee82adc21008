"""Words, sentences and counters of lines."""

import re
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.text import arrow_arrays
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.tokenizer import tokenize
from tests.support.lines import REASONS, WORDS, slow_words, tallied, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Café", ["café"]),
        ("cafe\u0301", ["café"]),
        ("naïve", ["naïve"]),
        ("don't", ["don't"]),
        ("don’t", ["don’t"]),
        ("l'été", ["l'été"]),
        ("Straße", ["straße"]),
        ("МОСКВА", ["москва"]),
        ("हिन्दी", ["हिन्दी"]),
        ("क्\u200dष", ["क्\u200dष"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("العَرَبِيَّة", ["العَرَبِيَّة"]),
        ("col·lecció", ["col·lecció"]),
        ("צה״ל", ["צה״ל"]),
        ("ג׳ירפה", ["ג׳ירפה"]),
        ("ʻokina Hawaiʻi", ["ʻokina", "hawaiʻi"]),
        ("İstanbul IŞIK", ["istanbul", "işik"]),
        ("한국어", ["한국어"]),
        ("日本語", ["日本語"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("ﷺ ½ ²", ["ﷺ", "½", "²"]),
        ("co\u00adoperate", ["cooperate"]),
        ("e\u034f\u0301a", ["éa"]),
        ("'quoted'", ["quoted"]),
        ("“quoted”, ‘too’", ["quoted", "too"]),
        ("rock''n''roll", ["rock", "n", "roll"]),
        ("dogs' tails’", ["dogs", "tails"]),
        ("a-b_c/d.e", ["a", "b", "c", "d", "e"]),
        ("1990–95", ["1990", "95"]),
        ("NULL nan </s> \t<unk>", ["null", "nan", "s", "unk"]),
        ("x\u00a0y\u3000z\u2028w", ["x", "y", "z", "w"]),
        ("a\u200bb\ufeffc\u0007d\x01e\u202ef", ["a", "b", "c", "d", "e", "f"]),
        ("\u200cword\u200d", ["word"]),
        ("\u0301loose \u0301", ["loose"]),
        ("👍 ❤\ufe0f 1\ufe0f", ["1"]),
        ("\ufffd", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_marks_and_digits_with_their_inner_marks(text: str, words: list[str]) -> None:
    assert words_of([text]) == [words]


@given(
    st.lists(
        st.text(st.sampled_from("aBé\u0301'’·-_ .1\u200d\u00ad\u3000Мि日\x01\n\t,“\u0308"), max_size=30), max_size=5
    )
)
def test_words_equal_those_found_one_character_at_a_time(texts: list[str]) -> None:
    assert words_of(texts) == [slow_words(text) for text in texts]


def test_case_is_kept_when_lower_case_is_off() -> None:
    assert words_of(["Don't ÉTÉ"], WORDS._replace(lower_case=False)) == [["Don't", "ÉTÉ"]]


def test_whitespace_keeps_whatever_stands_between_white_space() -> None:
    tokenizer = WORDS._replace(kind="whitespace")
    text = " </s>\t#Tag\u3000e\u0301,\u00a0(x)  a\u200bb \u0007 "
    assert words_of([text, ""], tokenizer) == [["</s>", "#tag", "é,", "(x)", "a", "b"], []]


def test_whitespace_ends_words_at_what_is_there_to_end_them_and_drops_marks_that_nobody_sees() -> None:
    tokenizer = WORDS._replace(kind="whitespace")
    assert words_of(["កា\u200bរ one\x01two\x1fthree \u200b"], tokenizer) == [["កា", "រ", "one", "two", "three"]]
    assert words_of(["\ufeffa\u2060b\u200ec e\u2060\u0301"], tokenizer) == [["abc", "é"]]


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (r"#\w+", "a #Tag and #more", ["#tag", "#more"]),
        (r"[a-z]", "abc", ["a", "b", "c"]),
        (r"(new) york|\w+", "in new york", ["in", "new york"]),
        (r"[^ ]+", "a\x01b c", ["a", "b", "c"]),
        (r"x*", "axxb", ["xx"]),
        (r"\pL+", "e\u0301té", ["été"]),
        (r"z", "abc", []),
    ],
)
def test_regex_takes_what_the_pattern_matches(pattern: str, text: str, words: list[str]) -> None:
    assert words_of(["", text, text], WORDS._replace(kind="regex", pattern=pattern)) == [[], words, words]


@pytest.mark.parametrize("kind", ["words", "whitespace", "regex"])
def test_words_are_composed_after_they_are_in_lower_case(kind: str) -> None:
    tokenizer = WORDS._replace(kind=kind, pattern=r"[\pL\pM]+")
    assert words_of(["H\u0331amra ẖamra", "Ϊ\u0301ς ΐς"], tokenizer) == [["ẖamra", "ẖamra"], ["ΐς", "ΐς"]]


@pytest.mark.parametrize("kind", ["words", "whitespace", "regex"])
def test_an_i_with_a_dot_is_one_word_however_it_is_written(kind: str) -> None:
    assert words_of(["İl I\u0307l il"], WORDS._replace(kind=kind, pattern=r"[\pL\pM]+")) == [["il", "il", "il"]]


def test_ready_made_words_are_taken_as_they_are() -> None:
    tokenizer = WORDS._replace(kind="none")
    lines = [["A-1", "b c", "A-1"], [None, "", "x"], [], None, [None]]
    assert words_of(lines, tokenizer) == [["A-1", "b c", "A-1"], ["x"], [], [], []]
    found = tallied(pa.array(lines, pa.list_(pa.string())), tokenizer)
    assert found == {
        "lines": 5, "words": 4, "sentences": 2, "lines_with_words": 2, "wordless_lines": 2, "missing_lines": 1,
        "null_words": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("unspaced", "words"),
    [
        ("whole", ["abc東京都x", "中", "don't", "スーパー", "ผู้ใหญ่"]),
        ("characters", ["abc", "東", "京", "都", "x", "中", "don't", "ス", "ー", "パ", "ー", "ผู้", "ใ", "ห", "ญ่"]),
        ("bigrams", ["abc", "東京", "京都", "x", "中", "don't", "スー", "ーパ", "パー", "ผู้ใ", "ให", "หญ่"]),
    ],
)
def test_letters_without_spaces_between_words_are_cut_as_configured(unspaced: str, words: list[str]) -> None:
    tokenizer = WORDS._replace(unspaced=unspaced)
    text = "abc東京都x '中' don't スーパー、ผู้ใหญ่"
    assert words_of([text, "", "plain", text], tokenizer) == [words, [], ["plain"], words]


# Three runs of the tokenizer, whose patterns of whole scripts take a while to compile: fewer examples of more texts.
@settings(max_examples=50)
@given(st.lists(st.text(st.sampled_from("東のーก่ a'\u200b、"), max_size=12), max_size=20))
def test_characters_and_bigrams_equal_those_found_one_word_at_a_time(texts: list[str]) -> None:
    def slow(word: str, width: int) -> list[str]:
        result: list[str] = []
        for run in re.findall("(?:[東のーก]\u0e48*)+|[^東のーก]+", word):
            if run[0] not in "東のーก":
                between = re.sub("^['\u0e48]+|'+$", "", run)
                result += [between] if between else []
                continue
            characters = re.findall("[東のーก]\u0e48*", run)
            pairs = ["".join(pair) for pair in pairwise(characters)]
            result += characters if width == 1 or not pairs else pairs
        return result

    whole = words_of(texts)
    for unspaced, width in (("characters", 1), ("bigrams", 2)):
        expected = [[part for word in line for part in slow(word, width)] for line in whole]
        assert words_of(texts, WORDS._replace(unspaced=unspaced)) == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("これは短い文です。単語の間に空白はありません。", 1),
        ("我喜欢吃苹果。今天天气很好。", 1),
        ("ภาษาไทยเป็นภาษาที่ไม่มีการเว้นวรรคระหว่างคำ", 1),
        ("ภาษาไทยเป็นภาษาที่ไม่มีการเว้นวรรคระหว่างคำ" * 3, 1),  # longer than a word may be
        ("ភាសាខ្មែរជាភាសាផ្លូវការរបស់ព្រះរាជាណាចក្រកម្ពុជា", 1),
        ("OpenAIは新しいモデルを発表した GPT-4", 1),
        ("これ は 短い 文 です 。 単語 の 間 に 空白 は あり ませ ん", 0),
        ("インターネット サーバー コンピューター", 0),
        ("我 喜欢 吃 苹果 中华人民共和国 今天 天气 很 好", 0),
        ("한국어는 띄어쓰기가 있는 언어입니다", 0),
        ("plain text with internationalization in it", 0),
    ],
)
@pytest.mark.parametrize("kind", ["words", "whitespace"])
def test_lines_whose_clauses_become_words_are_counted(kind: str, text: str, lines: int) -> None:
    assert tallied(pa.array([text, "one"]), WORDS._replace(kind=kind)).get("unspaced_lines", 0) == lines
    cut = WORDS._replace(unspaced="characters")
    assert "unspaced_lines" not in tallied(pa.array([text]), cut)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_words_are_the_same_whatever_type_of_arrow_strings_have(kind: pa.DataType) -> None:
    raw = pa.array([b"one\xfftwo", b"left out", None, b"caf\xc3\xa9 au lait", b""])
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), null_count=raw.null_count)
    binary = {pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}.get(kind, pa.binary())
    other = pa.Array.from_buffers(kind, len(raw), raw.cast(binary).buffers(), null_count=raw.null_count)
    for kept in (WORDS, WORDS._replace(kind="whitespace"), WORDS._replace(kind="regex", pattern=r"\pL+")):
        for start in (0, 2):
            expected, found = (tokenize(array.slice(start), kept) for array in (text, other))
            assert found.words.to_pylist() == expected.words.to_pylist()
            assert found.codes.tolist() == expected.codes.tolist()
            assert found.counters.tolist() == expected.counters.tolist()


@pytest.mark.parametrize("kind", [pa.large_list(pa.large_string()), pa.list_(pa.string_view())])
def test_ready_made_words_are_the_same_whatever_type_of_arrow_lists_have(kind: pa.DataType) -> None:
    tokenizer = WORDS._replace(kind="none")
    lists = pa.array([["one", "two"], None, [None, "three"]], pa.list_(pa.string()))
    for start in (0, 1):
        expected, found = (tokenize(array.slice(start), tokenizer) for array in (lists, lists.cast(kind)))
        assert (found.words.to_pylist(), found.codes.tolist()) == (expected.words.to_pylist(), expected.codes.tolist())
        assert found.counters.tolist() == expected.counters.tolist()


def test_every_line_is_counted_once() -> None:
    raw = pa.array([b"a b", b"", b" \t", b"--", b"a\x00b", b"\xff\xfea\x00", b"caf\xe9 x", None, b"a" * 101])
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), null_count=raw.null_count)
    assert tallied(text) == {
        "lines": 9, "words": 4, "sentences": 2, "lines_with_words": 2, "blank_lines": 2, "wordless_lines": 2,
        "missing_lines": 1, "binary_lines": 2, "invalid_utf8_lines": 1, "long_words": 1,
    }  # fmt: skip
    found = tokenize(text, WORDS)
    places = [COUNTERS.index(name) for name in REASONS]
    assert found.counters[:, places].sum(axis=1).tolist() == [1] * 9
    assert found.words.to_pylist() == ["a", "b", "caf", "x"]


def test_invalid_bytes_separate_words() -> None:
    raw = pa.array([b"one\xfftwo", b"\xe2\x82", b"fine \xf0\x9f\x91\x8d"])
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    assert [tokenize(text.slice(row, 1), WORDS).words.to_pylist() for row in range(3)] == [
        ["one", "two"],
        [],
        ["fine"],
    ]


def test_long_words_are_skipped_and_counted_wherever_they_stand() -> None:
    tokenizer = WORDS._replace(max_word_length=3)
    assert words_of(["abcd x abcd", "éééé ééé", "yy-abcde"], tokenizer) == [["x"], ["ééé"], ["yy"]]
    assert tallied(pa.array(["abcd x abcd", "éééé ééé", "yy-abcde"]), tokenizer)["long_words"] == 4


def test_long_lines_are_cut_and_lose_nothing() -> None:
    tokenizer = WORDS._replace(max_sentence_words=3)
    lines = tokenize(pa.array(["a b c d e f g", "a b c", "", "a b c d"]), tokenizer)
    assert lines.lengths.tolist() == [3, 3, 1, 3, 3, 1]
    assert lines.sentence_offsets.tolist() == [0, 3, 4, 4, 6]
    assert lines.counters.sum(axis=0)[COUNTERS.index("cut_lines")] == 2


def test_a_slice_of_an_array_is_read_like_a_copy_of_it() -> None:
    array = pa.array(["zero", "one two", None, "three\x00", "four"])
    assert tallied(array.slice(1, 3)) == tallied(pa.array(["one two", None, "three\x00"]))


@pytest.mark.parametrize("composes", [True, False])
def test_text_is_composed_whatever_arrow_makes_of_it(monkeypatch: pytest.MonkeyPatch, composes: bool) -> None:
    """Wheels of pyarrow from 19 to 25 decompose it."""
    monkeypatch.setattr(arrow_arrays, "_composes", lambda: composes)
    if not composes:
        monkeypatch.setattr(pc, "utf8_normalize", lambda *given: pytest.fail("Arrow was asked"))
    decomposed = pa.array(["cafe\u0301", None, "", "\u0958"])
    assert arrow_arrays.composed(decomposed).to_pylist() == ["caf\u00e9", None, "", "\u0915\u093c"]
    assert arrow_arrays.composed(decomposed.cast(pa.large_string())).type == pa.large_string()
