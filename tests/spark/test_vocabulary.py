"""Which words get which id, whatever the partitioning; what is left of a segment in ids."""

import pickle
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_w2v import config
from spark_w2v.errors import NotEnoughMemoryError, UserError
from spark_w2v.pipeline import prepare
from spark_w2v.spark import corpus, vocabulary
from spark_w2v.spark.memory import Given
from spark_w2v.spark.tables import ENCODED
from spark_w2v.spark.vocabulary import WordLists
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.encoding import encode_batch, encode_segment
from spark_w2v.text.spellings import packed_words
from spark_w2v.text.word_counts import BUCKET_BYTES
from tests.support.peak_memory import peak_of
from tests.support.planted import segments_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Zipf's words in several files."""
    rng = np.random.default_rng(1)
    for name in "abc":
        drawn = rng.zipf(1.5, size=3000) % 500
        lines = [" ".join(f"w{word}" for word in drawn[at : at + 30]) for at in range(0, 3000, 30)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    return tmp_path


def test_order_is_by_falling_count_then_by_code_points(spark: "SparkSession") -> None:
    segments = segments_of(spark, {"z": 2, "é": 3, "b": 3, "Z": 3}, {"😀": 3, "z": 1, "\uffee": 3, "rare": 1})
    found = vocabulary.count_words(segments, min_count=2)
    assert found.words.to_pylist() == ["Z", "b", "z", "é", "\uffee", "😀"]
    assert found.counts.tolist() == [3, 3, 3, 3, 3, 3]
    assert (found.total_words, found.distinct_words, len(found)) == (19, 7, 6)
    assert found.words.type == pa.large_string()
    assert found.counts.dtype == np.int64


@pytest.mark.parametrize("size", [None, 0, 9 * BUCKET_BYTES])
def test_the_vocabulary_does_not_depend_on_the_number_of_buckets(spark: "SparkSession", size: int | None) -> None:
    found = vocabulary.count_words(segments_of(spark, COUNTS, {}, COUNTS), min_count=2, size=size)
    expected = sorted(((-2 * count, word) for word, count in COUNTS.items()))
    assert list(zip((-found.counts).tolist(), found.words.to_pylist(), strict=True)) == expected


def test_counts_beyond_32_bits_stay_exact(spark: "SparkSession") -> None:
    many = 2**33 + 1
    found = vocabulary.count_words(segments_of(spark, {"a": many, "b": 5}, {"a": many}), min_count=1)
    assert found.counts.tolist() == [2 * many, 5]
    assert found.total_words == 2 * many + 5


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    ("max_words", "words"), [(0, "cabde"), (1, "c"), (2, "ca"), (3, "cab"), (4, "cabd"), (6, "cabde"), (9, "cabde")]
)
def test_max_words_keeps_the_first_of_the_whole_order(spark: "SparkSession", max_words: int, words: str) -> None:
    segments = segments_of(spark, {"e": 2, "d": 2, "c": 9, "b": 3, "a": 3, "f": 1, "g": 1, "h": 1})
    found = vocabulary.count_words(segments, min_count=2, max_words=max_words)
    assert "".join(found.words.to_pylist()) == words
    assert (found.total_words, found.distinct_words) == (22, 8)


@pytest.mark.parametrize("max_words", [1, 4, 7, 8])
def test_no_more_words_than_max_words_come_to_the_driver(
    spark: "SparkSession", max_words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[int] = []
    ranked = vocabulary._ranked

    def see(counts: pa.Table) -> pa.Table:
        came.append(len(counts))
        return ranked(counts)

    monkeypatch.setattr(vocabulary, "_ranked", see)
    ties = ["z", "é", "e\u0301", "Z", "\uffee", "😀", "zz", "ß"]
    segments = segments_of(spark, {"a": 3}, *({word: 1} for word in ties), {"b": 2}, {"c": 2}).repartition(5)
    found = vocabulary.count_words(segments, 1, max_words, size=5 * BUCKET_BYTES)
    assert found.words.to_pylist() == ["a", "b", "c", *sorted(ties)][:max_words]
    assert found.counts.tolist() == [3, 2, 2, *[1] * 8][:max_words]
    assert (found.total_words, found.distinct_words) == (15, 11)
    assert came == [max_words]


def test_an_empty_vocabulary_is_refused_with_the_numbers(spark: "SparkSession") -> None:
    with pytest.raises(UserError, match="min_count is 5; lower vocabulary") as refused:
        vocabulary.count_words(segments_of(spark, {"a": 4, "b": 1}), min_count=5)
    assert "of 5 words, 2 distinct, the most frequent occurs 4 times" in str(refused.value)


def test_kept_words_of_which_none_occurs_are_no_vocabulary(spark: "SparkSession") -> None:
    kept = vocabulary.WordLists(known=pa.array(["Apple", "Pear"]))
    with pytest.raises(UserError, match="none of the 2 words that are kept occurs in the text, such as Apple, Pear"):
        vocabulary.count_words(segments_of(spark, {"apple": 2, "pear": 1}), min_count=3, lists=kept)
    for counts, words in (({"Apple": 1, "pear": 1}, ["Apple", "Pear"]), ({"apple": 3}, ["apple", "Apple", "Pear"])):
        found = vocabulary.count_words(segments_of(spark, counts), min_count=3, lists=kept)
        assert found.words.to_pylist() == words


def test_words_of_any_length_are_shown_in_one_short_sentence(spark: "SparkSession") -> None:
    given = vocabulary.WordLists(given=pa.array(["w " * 10_000]), given_by="vocabulary.words")
    with pytest.raises(UserError, match="none of the 1 words of vocabulary") as refused:
        vocabulary.count_words(segments_of(spark, {"a": 4}), min_count=1, lists=given)
    assert len(str(refused.value)) < 300


def test_tallies_are_summed_over_pieces(spark: "SparkSession") -> None:
    found = vocabulary.counters(segments_of(spark, {"a": 1}, {"b": 1}, {}))
    assert list(found) == list(COUNTERS)
    assert (found["lines"], found["words"]) == (6, 0)


def test_a_corpus_is_counted_and_encoded_like_a_plain_list(spark: "SparkSession", text: Path) -> None:
    lines = [line.split() for name in "abc" for line in (text / f"{name}.txt").read_text().split("\n")]
    counts = Counter(word for line in lines for word in line)
    order = sorted((word for word in counts if counts[word] >= 4), key=lambda word: (-counts[word], word))
    segments = corpus.read(spark, [str(text)], config.Corpus()).persist()
    found = vocabulary.count_words(segments, min_count=4)
    assert found.words.to_pylist() == order
    assert found.counts.tolist() == [counts[word] for word in order]
    assert found.total_words == sum(counts.values()) == vocabulary.counters(segments)["words"]
    assert found.distinct_words == len(counts)

    rank = {word: place for place, word in enumerate(order)}
    rows = sorted(vocabulary.encode(segments, spark.sparkContext.broadcast(found.words)).collect())
    assert [type(value) for value in rows[0]] == [int, int, int, bytes, bytes, bytes]
    assert [row[:3] for row in rows] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert len(rows[0]) == len(ENCODED)
    kept = [[rank[word] for word in line if word in rank] for line in lines]
    assert [word for row in rows for word in np.frombuffer(row[3], "<i4")] == [word for line in kept for word in line]
    assert [n for row in rows for n in np.frombuffer(row[4], "<i4")] == [len(line) for line in kept if line]
    segments.unpersist()


@pytest.mark.parametrize("length", [3, 60])
def test_a_task_that_turns_words_into_ids_takes_the_memory_that_is_asked_for(length: int) -> None:
    def run(packed: bytes) -> None:
        words = pickle.loads(packed)
        spelled, ends = packed_words(words.slice(0, 1000).cast(pa.string()))
        codes, lengths = np.arange(1000, dtype="<i4"), np.full(10, 100, "<i4")
        columns = {"codes": codes.tobytes(), "lengths": lengths.tobytes(), "weights": b""}
        places = {"file": pa.array([0], pa.int32()), "start": pa.array([0]), "segment": pa.array([0], pa.int32())}
        binaries = {"words": spelled, "ends": ends, **columns}
        encode_batch(
            pa.record_batch({**places, **{name: pa.array([value]) for name, value in binaries.items()}}), words
        )

    found, need = [], []
    for count in (10_000, 140_000, 270_000):  # just more than a table has room for, which is the worst
        words = pa.array([str(number).rjust(length, "w") for number in range(count)], pa.large_string())
        need.append(vocabulary.encoding_bytes(count, words.nbytes))
        found.append(peak_of(partial(run, pickle.dumps(words, 5))))
    for more, asked in zip(np.diff(found), np.diff(need), strict=True):
        assert asked / 3 < more < asked


def test_a_vocabulary_that_does_not_fit_a_task_is_refused_before_it_is_sent(
    spark: "SparkSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = segments_of(spark, COUNTS)
    settings = config.Config(vocabulary=config.Vocabulary(min_count=1))
    monkeypatch.setattr("spark_w2v.spark.memory.given_by", lambda context: Given(1, None, 0, 10**8, "some.memory", 2))
    with pytest.raises(NotEnoughMemoryError, match=r"and some\.memory is 100 MB; raise it to \d+ MB, or raise voc"):
        prepare(segments, settings)


def test_ids_and_rows_do_not_depend_on_partitioning(spark: "SparkSession", text: Path) -> None:
    segments = corpus.read(spark, [str(text)], config.Corpus())
    outcomes = []
    for partitions in (1, 7):
        divided = segments.repartition(partitions)
        found = vocabulary.count_words(divided, min_count=2)
        rows = sorted(vocabulary.encode(divided, spark.sparkContext.broadcast(found.words)).collect())
        outcomes.append((found.words.to_pylist(), found.counts.tolist(), rows))
    assert outcomes[0] == outcomes[1]


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), max_size=6), st.permutations([0, 1, 2, -1, -1, -1])
)
def test_a_piece_keeps_its_known_words_and_its_sentences(sentences: list[list[int]], id_of: list[int]) -> None:
    codes = np.array([code for sentence in sentences for code in sentence], np.int32)
    lengths = np.array([len(sentence) for sentence in sentences], np.int32)
    ids, left, weights = encode_segment(
        codes, lengths, np.array(id_of, np.int32), np.arange(lengths.size, dtype=np.int32)
    )
    kept = [[id_of[code] for code in sentence if id_of[code] >= 0] for sentence in sentences]
    assert np.frombuffer(ids, "<i4").tolist() == [word for sentence in kept for word in sentence]
    assert np.frombuffer(left, "<i4").tolist() == [len(sentence) for sentence in kept if sentence]
    assert np.frombuffer(weights, "<i4").tolist() == [number for number, sentence in enumerate(kept) if sentence]


def test_a_piece_without_known_words_is_left_out(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("common common")
    (tmp_path / "b.txt").write_text("rare")
    (tmp_path / "c.txt").write_text("common\nrare\ncommon rare")
    segments = corpus.read(spark, [str(tmp_path)], config.Corpus())
    words = spark.sparkContext.broadcast(vocabulary.count_words(segments, min_count=4).words)
    rows: list[Any] = sorted(vocabulary.encode(segments, words).collect())
    assert [(row[0], np.frombuffer(row[3], "<i4").tolist(), np.frombuffer(row[4], "<i4").tolist()) for row in rows] == [
        (0, [0, 0], [2]),
        (2, [0, 0], [1, 1]),
    ]


COUNTS = {"e": 2, "d": 2, "c": 9, "b": 3, "a": 3, "f": 1}


@pytest.mark.parametrize(
    ("lists", "max_words", "words"),
    [
        (WordLists(given=pa.array(["f", "d", "x", "c"])), 0, "cdf"),
        (WordLists(given=pa.array(["f", "d", "x", "c"])), 2, "cd"),
        (WordLists(stop=pa.array(["c", "x", "d"])), 0, "abe"),
        (WordLists(given=pa.array(["f", "d", "c"]), stop=pa.array(["c"])), 0, "df"),
        (WordLists(known=pa.array(["z", "c", "f"]), stop=pa.array(["c", "z"])), 0, "abdef"),
    ],
)
def test_lists_of_words_decide_on_the_vocabulary(
    spark: "SparkSession", lists: WordLists, max_words: int, words: str
) -> None:
    found = vocabulary.count_words(segments_of(spark, COUNTS), 2, max_words, lists)
    assert "".join(found.words.to_pylist()) == words
    assert found.counts.tolist() == [COUNTS[word] for word in words]
    assert (found.total_words, found.distinct_words) == (20, 6)


def test_it_is_said_how_often_stop_words_occur(spark: "SparkSession", caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    vocabulary.count_words(segments_of(spark, COUNTS), 2, lists=WordLists(stop=pa.array(["c", "x", "f"])))
    assert f"stop words: 2 words in the text, {COUNTS['c'] + COUNTS['f']} occurrences left out" in caplog.messages
    says = "vocabulary.stop_words: none is in the text; check how they are written"
    assert says not in caplog.messages
    vocabulary.count_words(segments_of(spark, COUNTS), 2, lists=WordLists(stop=pa.array(["x", "A"])))
    assert says in caplog.messages


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        (
            WordLists(given=pa.array(["X", "Y"])),
            "none of the 2 words of vocabulary.words occurs in the text, such as X, Y",
        ),
        (
            WordLists(given=pa.array(["X", "a"]), stop=pa.array(["a"]), given_by="my-vectors and --words"),
            "none of the 2 words of my-vectors and --words occurs in the text without being one of "
            "vocabulary.stop_words, such as X, a; check the text, these words, and corpus.lower_case.",
        ),
        (WordLists(stop=pa.array(list("abcdef"))), "every word of the text is one of vocabulary.stop_words"),
    ],
)
def test_lists_that_leave_no_word_are_named(spark: "SparkSession", lists: WordLists, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        vocabulary.count_words(segments_of(spark, COUNTS), 2, lists=lists)
