"""Words that are whole numbers: which columns have ids, and what does not go with them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from spark_w2v import config, pipeline
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, vocabulary
from spark_w2v.spark.tables import id_type_of
from spark_w2v.text.encoding import ids_of
from spark_w2v.text.phrases import PHRASES
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def settings(**keys: Any) -> config.Corpus:
    """With defaults for the rest, and checked as a file is."""
    return config.from_dict({"corpus": keys}).corpus


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("kind", ["tinyint", "smallint", "int", "bigint"])
def test_words_of_whole_numbers_are_known_by_their_type(spark: "SparkSession", kind: str) -> None:
    rows = spark.sql(f"select array(cast(1 as {kind}), cast(-7 as {kind})) as items")
    segments = corpus.read_text_frame(rows, settings(format="parquet", column="items", tokenizer="none"))
    assert id_type_of(segments) == kind
    assert sentences(segments) == ["1 -7"]
    found = vocabulary.count_words(segments, 1)
    assert ids_of(found.words, kind).to_pylist() == [int(word) for word in found.words.to_pylist()]


@pytest.mark.parametrize("items", ["array('007', '7')", "array(cast(7 as decimal(20, 0)))"])
def test_only_columns_of_whole_numbers_have_ids(spark: "SparkSession", items: str) -> None:
    rows = spark.sql(f"select {items} as items")
    segments = corpus.read_text_frame(rows, settings(format="parquet", column="items", tokenizer="none"))
    assert id_type_of(segments) is None


def test_numbers_in_json_have_ids_as_events_alone(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "arrays.jsonl").write_text('{"items": [7, 8]}\n')
    (tmp_path / "events.jsonl").write_text('{"items": 7, "s": 1}\n{"items": 8, "s": 1}\n')
    keys = {"format": "jsonl", "column": "items", "tokenizer": "none"}
    arrays = corpus.read(spark, [str(tmp_path / "arrays.jsonl")], settings(**keys))
    events = corpus.read(spark, [str(tmp_path / "events.jsonl")], settings(**keys, group_by="s"))
    assert (sentences(arrays), sentences(events)) == (["7 8"], ["7 8"])
    assert (id_type_of(arrays), id_type_of(events)) == (None, "bigint")


def test_a_word_of_an_earlier_run_that_is_no_number_is_named() -> None:
    with pytest.raises(UserError, match='the earlier run have "foo", which is not a number of the type int, as those'):
        ids_of(pa.array(["1", "foo"]), "int")
    with pytest.raises(UserError, match='have "4000000000"'):
        ids_of(pa.array(["4000000000"]), "int")
    for word in ("007", "00", "-0", "0x10", "+1", ""):
        with pytest.raises(UserError, match=f'the earlier run have "{re.escape(word)}", which is not a number'):
            ids_of(pa.array(["1", word]), "int")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"phrases\.passes: the words are numbers of the type bigint"),
        ({"listed": PHRASES.empty_table()}, r"phrases\.list: the words are numbers"),
        ({"windows": pa.table({"word": ["7", "x"]})}, '--init: the rare words of the earlier run have "x"'),
        ({"lists": vocabulary.WordLists(known=pa.array(["7", "the", "x"]), stop=pa.array(["the"]))}, 'keep_.* "x"'),
    ],
)
def test_what_does_not_go_with_numbers_is_refused_before_they_are_read(
    spark: "SparkSession", given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = spark.range(1).selectExpr("array(id) as text")
    monkeypatch.setattr(pipeline, "check_text", lambda *_: pytest.fail("was read"))
    keys = {"corpus": {"format": "parquet", "tokenizer": "none"}, "phrases": {"passes": 0 if given else 1}}
    segments = corpus.read_text_frame(rows, config.from_dict(keys).corpus)
    with pytest.raises(UserError, match=message):
        pipeline.prepare(segments, config.from_dict(keys), **given)
