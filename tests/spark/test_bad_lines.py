"""Lines that cannot be read are counted, named and explained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import config, pipeline
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, session, vocabulary
from spark_w2v.text.bad_lines import check_counters
from spark_w2v.text.summary import summary
from tests.support.bad_input import checked, tallied
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LATIN = "El niño comió mañana. "


def test_blank_lines_alone_have_no_words(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n\t\n\u3000\n")
    assert tallied(spark, tmp_path) == {"lines": 4, "blank_lines": 4}
    with pytest.raises(UserError, match="the corpus has no words"):
        vocabulary.count_words(corpus.read(spark, [str(tmp_path)], config.Corpus()), min_count=1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_than_utf_8_is_counted_as_binary(spark: "SparkSession", tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("one two\nthree four\n".encode(encoding))
    found = tallied(spark, tmp_path)
    assert found["binary_lines"] == found["lines"] >= 2
    assert "words" not in found


def test_random_bytes_never_pass_for_a_corpus(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(np.random.default_rng(0).bytes(200_000))
    found = vocabulary.counters(corpus.read(spark, [str(tmp_path)], config.Corpus()))
    with pytest.raises(UserError, match=r"lines are bad \(.*binary lines.*invalid utf8 lines\).*max_bad_fraction"):
        check_counters(found, config.Corpus())


def test_invalid_utf8_is_replaced_and_counted(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait\nfine\n")
    found = tallied(spark, tmp_path)
    assert found == {"lines": 2, "words": 4, "sentences": 2, "lines_with_words": 2, "invalid_utf8_lines": 1}


def unreadable(values: list[Any]) -> pa.Array:
    """Strings that need not be UTF-8, as other programs leave them in Parquet."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_ready_made_words_that_are_not_utf8_are_replaced_counted_and_named(
    spark: "SparkSession", tmp_path: Path
) -> None:
    words = unreadable([b"one", b"caf\xe9", None, b"caf\xe9", b"two", "caf\ufffd".encode(), b"\xff", b"a"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 1, 4, 6, 8], pa.int32()), words)
    pq.write_table(pa.table({"words": lists}), tmp_path / "a.parquet")
    found = tallied(spark, tmp_path, format="parquet", column="words", tokenizer="none")
    assert found == {
        "lines": 5, "words": 7, "sentences": 4, "lines_with_words": 4, "wordless_lines": 1, "null_words": 1,
        "invalid_utf8_lines": 2,
    }  # fmt: skip
    segments = corpus.read(spark, [str(tmp_path)], config.Corpus(format="parquet", column="words", tokenizer="none"))
    assert sentences(segments) == ["one", "caf\ufffd caf\ufffd", "two caf\ufffd", "\ufffd a"]
    sentence = checked(spark, tmp_path, format="parquet", column="words", tokenizer="none")
    assert f"the first are {tmp_path}/a.parquet:3, {tmp_path}/a.parquet:5; the text looks like Latin-1" in sentence


def test_words_of_events_that_are_not_utf8_are_replaced_and_counted(spark: "SparkSession", tmp_path: Path) -> None:
    events = {"s": pa.array([1, 1, 2]), "item": unreadable([b"a", b"caf\xe9", b"b"])}
    pq.write_table(pa.table(events), tmp_path / "a.parquet")
    keys = {"format": "parquet", "column": "item", "tokenizer": "none", "group_by": "s"}
    segments = corpus.read(spark, [str(tmp_path)], config.from_dict({"corpus": keys}).corpus)
    assert sorted(sentences(segments)) == ["a caf\ufffd", "b"]
    assert vocabulary.counters(segments)["invalid_utf8_lines"] == 1


@pytest.mark.slow
def test_text_of_csv_that_is_not_utf8_is_counted_and_named(spark: "SparkSession", tmp_path: Path) -> None:
    rows = ["text,n", "uno dos,1", "ma\u00f1ana caf\u00e9,2", '"a, b",\u00e9', "x,3,caf\u00e9"]
    (tmp_path / "a.csv").write_bytes("\n".join(rows).encode("latin-1"))
    keys = {"format": "csv", "column": "text"}
    assert tallied(spark, tmp_path, **keys) == {
        "lines": 4, "words": 7, "sentences": 3, "lines_with_words": 3, "malformed_lines": 1, "invalid_utf8_lines": 1,
    }  # fmt: skip
    (tmp_path / "a.csv").write_bytes(f"text\nuno\n{LATIN * 3}\n".encode("latin-1"))
    sentence = checked(spark, tmp_path, **keys)
    assert f"the first are {tmp_path}/a.csv:3; the text looks like Latin-1" in sentence


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_events_that_are_not_utf8_are_bad_rows_and_not_one_word_or_session(
    spark: "SparkSession", tmp_path: Path, kind: str
) -> None:
    rows = [("s", "a"), ("s", "x\u00e9"), ("s", "x\u00e8"), ("\u00e9", "b"), ("\u00e8", "c"), ("s", "d")]
    if kind == "csv":
        lines = ["session,item,other", *(",".join([*row, "\u00e9"]) for row in rows)]
    else:
        lines = [f'{{"session": "{session}", "item": "{item}"}}' for session, item in rows]
    (tmp_path / "a").write_bytes("\n".join(lines).encode("latin-1"))
    keys = {"format": kind, "column": "item", "tokenizer": "none", "group_by": "session"}
    assert tallied(spark, tmp_path, **keys) == {
        "lines": 5, "words": 2, "sentences": 1, "lines_with_words": 1, "invalid_utf8_lines": 4,
    }  # fmt: skip
    assert checked(spark, tmp_path, **keys).startswith("4 of 6 rows are bad (4 invalid utf8 lines), 66.7%; ")


def test_a_word_of_a_million_characters_is_skipped_and_counted(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a " + "b" * 1_000_000 + " c " + "é" * 10_000)
    found = tallied(spark, tmp_path)
    assert (found["words"], found["long_words"]) == (2, 2)


def test_json_lines_are_skipped_by_reason(spark: "SparkSession", tmp_path: Path) -> None:
    lines = [
        b'{"text": "a b"}', b'{"text": 5}', b'{"text": {"x": 1}}', b'{"text": ["a"]}', b'{"text": true}',
        b'{"text": null}', b"{}", b'{"other": "x"}', b"{broken", b"[1]", b'"x"', b"", b" \t", b'{"text": ""}',
        b'{"text": "--"}', b'{"text": "caf\xe9"}', b'{"te\0xt": 1}', b'{"text": "a\\u0000b"}', b'{"text": "\\ud83d"}',
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert tallied(spark, tmp_path, format="jsonl") == {
        "lines": 19, "words": 3, "sentences": 2, "lines_with_words": 2, "blank_lines": 3, "wordless_lines": 1,
        "wrong_type_lines": 4, "missing_lines": 3, "malformed_lines": 4, "binary_lines": 2, "invalid_utf8_lines": 1,
    }  # fmt: skip


def test_json_arrays_are_skipped_by_reason(spark: "SparkSession", tmp_path: Path) -> None:
    lines = ['{"text": ["a b", null, ""]}', '{"text": []}', '{"text": null}', '{"text": [1, 2.50, "3"]}']
    wrong = [
        '"a b"',
        "[[1]]",
        '["a", {"b": 1}, 3]',
        '[{"id": 1}, {"id": 2}]',
        '[["a"], "b"]',
        "[true]",
        '["a", 1e3]',
        "{}",
    ]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, *(f'{{"text": {value}}}' for value in wrong)]))
    assert tallied(spark, tmp_path, format="jsonl", tokenizer="none") == {
        "lines": 12, "words": 4, "sentences": 2, "lines_with_words": 2, "wordless_lines": 1, "missing_lines": 1,
        "wrong_type_lines": 8, "null_words": 2,
    }  # fmt: skip


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a"}, "line": {"text": "b"}',
        '{"text": "a"}, "meta": {"id": 1}',
        '{"text": "a"}], "meta": [1',
        '{"text": "a"}], "line": [{"text": "b"}, null',
        '{"text": "a"}, {"text": "b"}], "meta": [1',
        '{"text": "a"}]}',
        '{"text": "a"},',
        '{"text": "a"}}{"text": "b"}',
        '{"text": "a"}{"text": "b"}',
        '{"text": "a"} x',
        '{"text": "a"}, {"text": "b"}',
        "null",
    ],
)
def test_what_follows_the_object_of_a_json_line_is_not_left_out_in_silence(
    spark: "SparkSession", tmp_path: Path, line: str
) -> None:
    (tmp_path / "a.jsonl").write_text(f'\ufeff{{"text": "one"}}\n{line}\n{{"text": "}} two {{"}}  \n')
    found = tallied(spark, tmp_path, format="jsonl")
    assert found == {"lines": 3, "words": 2, "sentences": 2, "lines_with_words": 2, "malformed_lines": 1}


def test_json_lines_without_the_field_are_refused(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n\n{"body": "y"}')
    found = vocabulary.counters(corpus.read(spark, [str(tmp_path)], config.Corpus(format="jsonl")))
    with pytest.raises(UserError, match='none of 3 lines has a field "text"'):
        check_counters(found, config.Corpus(format="jsonl", max_bad_fraction=1.0))
    assert checked(spark, tmp_path, format="jsonl").endswith('has a field "text"; they have body.')
    (tmp_path / "a.jsonl").write_text('{"id": 1, "Text": "x"}\n{"Text": null, "n": 1}')
    assert checked(spark, tmp_path, format="jsonl").endswith('has a field "text"; did you mean Text?')


@pytest.mark.fast_cases(5)
@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        (
            "a.txt",
            (LATIN * 3 + "\n").encode("latin-1") * 2,
            "looks like Latin-1 or Windows-1252, convert it (iconv -f WINDOWS",
        ),
        ("a.txt", ("word " * 500 + "“é”\n").encode("cp1252") * 2, "looks like Latin-1 or Windows-1252"),
        ("a.txt", "Съешь же ещё этих мягких булок\n".encode("cp1251") * 2, "another encoding, such as Windows-1251"),
        ("a.txt", "単語の間に空白はありません\n".encode("shift-jis") * 2, "another encoding, such as Windows-1251"),
        ("a.txt", "Съешь ещё \n".encode() * 2 + "Съешь ещё".encode()[:-1] + b"\n", "is UTF-8 with damaged characters"),
        ("a.txt", "one two\nthree\n".encode("utf-16"), "looks like UTF-16, convert it (iconv -f UTF-16 -t UTF-8)"),
        ("a.txt", "one two\nthree\n".encode("utf-32-le"), "looks like UTF-32"),
        ("a.jsonl", b'[\n {\n  "text": "a"\n },\n', "a.jsonl is one JSON array, not one object per line (jq -c '.[]'"),
        ("a.jsonl", b'[{"text": "a"}, {"text": "b"}]', "a.jsonl is one JSON array"),
        ("a.jsonl", b'{"text": "nice \\ud83d"}\n', "a.jsonl has \\ud83d, half of a character"),
        ("a.jsonl", b'{"text": "\\ud83d\\ude00 \\ude00"}\n', "a.jsonl has \\ude00, half of a character"),
        ("a.jsonl", b'{\n  "text": "a"\n}\n', "a.jsonl has objects of several lines, not one per line (jq -c ."),
        ("a.jsonl", b'{"text": "a"}\n{"Text": "b"}', 'without the field "text", did you mean Text'),
        (
            "a.jsonl",
            b'{"text": ["a", "b"]}',
            'is not always a string; for ready-made words set corpus.tokenizer to "none"',
        ),
        ("a.jsonl", b'{"text": 5}', 'the field "text" is not always a string; fix'),
        ("a.jsonl", '{"text": "ma\u00f1ana"}'.encode("latin-1"), "looks like Latin-1 or Windows-1252"),
    ],
)
def test_what_is_probably_wrong_with_bad_lines_is_said(
    spark: "SparkSession", tmp_path: Path, name: str, content: bytes, hint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert hint in checked(spark, tmp_path, format="jsonl" if name == "a.jsonl" else "text")


def test_bad_lines_are_named_by_file_and_line(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (session, corpus):
        monkeypatch.setattr(module, "SPLIT_BYTES", 2500)  # of 7500
    lines = [b"fine and dandy" for _ in range(500)]
    for number in (3, 200, 400, 499):
        lines[number - 1] = b"caf\xe9"
    lines[250] = b"\0"
    (tmp_path / "é.txt").write_bytes(b"\n".join(lines))
    (tmp_path / "b.txt").write_bytes(b"fine\ncaf\xe9")
    sentence = checked(spark, tmp_path, max_bad_fraction=0.0)
    assert (
        "6 of 502 lines are bad (1 binary lines, 5 invalid utf8 lines), 1.2%; the first are binary lines: " in sentence
    )
    assert (
        f"binary lines: {tmp_path}/é.txt:251; invalid utf8 lines: {tmp_path}/b.txt:2, {tmp_path}/é.txt:3, " in sentence
    )
    assert f"{tmp_path}/é.txt:200; the text" in sentence
    settings = config.from_dict({"corpus": {"max_bad_fraction": 1.0}, "vocabulary": {"min_count": 1}})
    found = corpus.list_files(spark, [str(tmp_path)], settings.corpus.format)
    segments = corpus.read(spark, [str(tmp_path)], settings.corpus, found)
    text = pipeline.prepare(segments, settings, files=found)
    text.encoded.unpersist()
    assert f"the first binary lines: {tmp_path}/é.txt:251" in summary(text.facts)


def test_spark_warns_of_nothing_while_it_reads_json(spark: "SparkSession", tmp_path: Path) -> None:
    jvm: Any = spark.sparkContext._jvm
    log4j, written = jvm.org.apache.logging.log4j, jvm.java.io.StringWriter()
    appender = log4j.core.appender.WriterAppender.createAppender(None, None, written, "seen", False, True)
    appender.start()
    logger = log4j.LogManager.getRootLogger()
    (tmp_path / "a.jsonl").write_text('\ufeff\ufeff{"text": "one"}\n {"text": "two"}\n')
    spark.sparkContext.setLogLevel("WARN")
    logger.addAppender(appender)
    try:
        assert tallied(spark, tmp_path, format="jsonl")["words"] == 2
    finally:
        logger.removeAppender(appender)
        spark.sparkContext.setLogLevel("ERROR")
    assert str(written) == ""
