"""Phrases on a real Spark are those of gensim, whatever the partitioning."""

import contextlib
import itertools
import pickle
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from spark_w2v import config
from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.spark import corpus, phrases
from spark_w2v.spark.memory import Given
from spark_w2v.spark.phrases import with_phrases
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.phrases import PHRASES, join_batch
from spark_w2v.text.spellings import packed_words
from spark_w2v.text.weights import UNITS
from tests.support.peak_memory import peak_of
from tests.support.segments import sentences

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

THRESHOLDS = {"default": 0.05, "npmi": 0.05}


def text() -> list[list[str]]:
    """Sentences of words of a Zipf distribution, of which some follow others often."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(1500):
        words = [f"w{n}" for n in np.minimum(rng.zipf(1.4, 12), 400)]
        for at in range(11):
            if words[at] in ("w3", "w5", "w8") and rng.random() < 0.7:
                words[at + 1] = f"x{words[at]}"
        found.append(words)
    return found


TEXT = text()


@pytest.fixture(scope="module")
def segments(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> "DataFrame":
    folder = tmp_path_factory.mktemp("text")
    for number in range(3):
        lines = [" ".join(words) for words in TEXT[number * 500 : number * 500 + 500]]
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")
    return corpus.read(spark, [str(folder)], config.Corpus(tokenizer="whitespace")).persist()


@contextlib.contextmanager
def found(segments: "DataFrame", listed: pa.Table | None = None, weighted: bool = False, **keys: Any) -> Iterator[Any]:
    settings = config.from_dict({"phrases": {"passes": 0 if listed else 1, **keys}}).phrases
    with contextlib.ExitStack() as held:
        yield with_phrases(segments, settings, listed, held, held, weighted)


@pytest.fixture(scope="module")
def every(segments: "DataFrame") -> pa.Table:
    """All phrases of the text."""
    with found(segments, threshold=0.05) as joined:
        listed: pa.Table = joined.phrases
    return listed


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("score", ["default", "npmi"])
@pytest.mark.parametrize("min_count", [1, 5])
def test_phrases_and_scores_are_those_of_gensim(segments: "DataFrame", score: str, min_count: int) -> None:
    phrases_of_gensim = pytest.importorskip("gensim.models.phrases").Phrases
    gensim = phrases_of_gensim(TEXT, min_count=min_count, threshold=THRESHOLDS[score], scoring=score)
    with found(segments, score=score, min_count=min_count, threshold=THRESHOLDS[score]) as joined:
        ours = dict(zip(joined.phrases["phrase"].to_pylist(), joined.phrases["score"].to_pylist(), strict=True))
        expected = gensim.export_phrases()
        assert len(expected) > 10
        if score == "default":
            assert ours == expected
        else:
            assert ours == pytest.approx(expected, rel=1e-12)
        assert list(ours.values()) == sorted(ours.values(), reverse=True)
        counts = dict(zip(joined.phrases["phrase"].to_pylist(), joined.phrases["count"].to_pylist(), strict=True))
        assert counts == {name: gensim.vocab[name] for name in expected}
        # The text is joined as gensim joins it.
        assert sentences(joined.segments) == [" ".join(gensim[words]) for words in TEXT]
        pairs = Counter(pair for words in TEXT for pair in itertools.pairwise(words))
        (facts,) = joined.facts
        assert facts["pairs"] == (len(pairs) if score == "default" else None)
        assert facts["frequent_pairs"] == sum(n >= min_count for n in pairs.values())
        assert facts["rare_occurrences"] == sum(n for n in pairs.values() if n < min_count)


def test_the_list_is_the_same_for_any_partitioning(segments: "DataFrame", every: pa.Table) -> None:
    for parts in (segments.coalesce(1), segments.repartition(5)):
        with found(parts, threshold=0.05) as joined:
            assert joined.phrases == every
    assert every.schema == PHRASES


def test_the_best_ones_are_kept_and_the_others_counted(segments: "DataFrame", every: pa.Table) -> None:
    with found(segments, threshold=0.05, max_phrases=4) as joined:
        assert joined.phrases == every.slice(0, 4)
        assert joined.facts[0]["left_out"] == len(every) - 4 > 2


@pytest.mark.slow
def test_a_second_pass_joins_phrases_and_a_list_of_both_gives_the_same_text(
    spark: "SparkSession", tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("a b new york city c\nd new york city e\nf g\nnew york city\n" * 4)
    read = corpus.read(spark, [str(tmp_path)], config.Corpus()).persist()
    with found(read, passes=3, min_count=10, threshold=0.01) as joined:
        assert joined.phrases["phrase"].to_pylist() == ["new_york", "york_city", "new_york_city"]
        assert [facts["pass"] for facts in joined.facts] == [1, 2, 3]
        assert joined.facts[2]["phrases"] == 0
        of_text = sentences(joined.segments)
        assert of_text[0] == "a b new_york_city c"
        listed = joined.phrases
    with found(read, listed) as again:
        assert sentences(again.segments) == of_text
        assert again.phrases == listed


def test_a_list_without_its_first_pass_is_joined(
    spark: "SparkSession", tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "t.txt").write_text("a b c\n")
    read = corpus.read(spark, [str(tmp_path)], config.Corpus()).persist()
    row = {"phrase": ["b_c"], "first": ["b"], "second": ["c"], "count": [None], "score": [None], "pass": [3]}
    with found(read, pa.table(row, schema=PHRASES)) as joined:
        assert sentences(joined.segments) == ["a b_c"]
        assert joined.phrases["phrase"].to_pylist() == ["b_c"]
        assert caplog.messages.count("joining 1 phrase of a list") == 1


@pytest.mark.slow
def test_weights_count_as_copies(spark: "SparkSession", tmp_path: Path) -> None:
    lines = [(" ".join(words), float(number % 4)) for number, words in enumerate(TEXT[:400])]
    # Words and pairs of their own, which are in no copy: their number is part of the score.
    lines += [(f"only{number} here{number}", 0.0) for number in range(1000)]
    copies = [(line,) for line, weight in lines for _ in range(int(weight))]
    spark.createDataFrame(lines, "text string, weight double").write.parquet(str(tmp_path / "weighted"))
    spark.createDataFrame(copies, "text string").write.parquet(str(tmp_path / "copied"))
    keys: dict[str, Any] = {"format": "parquet", "tokenizer": "whitespace"}
    weighted = corpus.read(spark, [str(tmp_path / "weighted")], config.Corpus(**keys, weight="weight")).persist()
    copied = corpus.read(spark, [str(tmp_path / "copied")], config.Corpus(**keys)).persist()
    for more in ({}, {"min_count": 100_000}):
        keys = {"threshold": 0.05, **more}
        with found(weighted, **keys, weighted=True) as one, found(copied, **keys) as other:
            assert one.facts == other.facts
            assert (len(one.phrases) > 5) == (not more)
            assert one.phrases == other.phrases


def test_a_text_without_a_frequent_word_has_no_phrase(segments: "DataFrame") -> None:
    with found(segments, min_count=1_000_000) as joined:
        assert len(joined.phrases) == 0
        assert joined.segments is segments
        (facts,) = joined.facts
        assert facts == {
            "pass": 1, "pairs": None, "rare_occurrences": sum(len(words) - 1 for words in TEXT),
            "frequent_pairs": 0, "phrases": 0, "left_out": 0,
        }  # fmt: skip
        assert phrases.summary(facts, config.Phrases(min_count=1_000_000)) == (
            "phrases, pass 1: 0 pairs 1,000,000 times or more, 0 phrases above 10; 16,500 occurrences of rarer pairs "
            "left out"
        )


def test_tasks_that_do_not_fit_are_refused_before_pairs_are_counted(
    segments: "DataFrame", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrases, "given_by", lambda context: Given(1 << 40, executor=1 << 20, key="some.memory"))
    with pytest.raises(NotEnoughMemoryError, match=r"a task needs \d+ MB in Python"), found(segments):
        pass


def test_phrases_that_do_not_fit_in_a_task_are_refused_before_they_are_joined(
    segments: "DataFrame", monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"phrase": ["a_b"], "first": ["a"], "second": ["b"], "count": [1], "score": [1.0], "pass": [1]}
    monkeypatch.setattr(phrases, "given_by", lambda context: Given(1 << 40, executor=1 << 20, key="some.memory"))
    with (
        pytest.raises(NotEnoughMemoryError, match=r"raise it to .* MB, or join fewer phrases, by phrases\.max_phrases"),
        found(segments, pa.table(row, schema=PHRASES)),
    ):
        pass


# Memory


WORDS = 3000  # of a text in which all pairs differ


def vocabulary_of(words: int) -> Vocabulary:
    return Vocabulary(pa.array([f"w{n}" for n in range(words)], pa.large_string()), np.full(words, 9), words, 9 * words)


def segments_of_pairs(pairs: int, is_weighted: bool = False) -> Iterator[pa.RecordBatch]:
    """SEGMENTS of sentences of two words."""
    words, ends = packed_words(pa.array([f"w{n}" for n in range(WORDS)]))
    for begin in range(0, pairs, 20_000):
        codes = np.stack(np.divmod(np.arange(begin, begin + 20_000), WORDS), axis=1).astype("<i4")
        weights = np.full(is_weighted * 20_000, UNITS, "<i4")
        row = {
            "codes": codes,
            "lengths": np.full(20_000, 2, "<i4"),
            "counts": np.ones(WORDS, "<i8"),
            "weights": weights,
        }
        columns = {name: [array.tobytes()] for name, array in row.items()}
        yield pa.RecordBatch.from_pydict({"words": [words], "ends": [ends], **columns})


def records_of_pairs(pairs: int) -> Iterator[pa.RecordBatch]:
    for keys in np.array_split(np.random.default_rng(1).permutation(pairs), pairs // phrases.RECORD):
        row = {"bucket": [0], "keys": [keys.astype("<i8").tobytes()], "counts": [np.full(keys.size, 9).tobytes()]}
        yield pa.RecordBatch.from_pydict(row, phrases.COUNTS_ARROW)


@pytest.mark.parametrize("case", ["counted", "counted with weights", "scored", "scored, all too rare"])
def test_a_pair_takes_the_memory_that_is_asked_for(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "RECORD", 4000)
    sent: Any = SimpleNamespace(value=vocabulary_of(WORDS))

    def run(pairs: int) -> None:
        monkeypatch.setattr(phrases, "CHUNK", pairs)
        if "counted" in case:
            found = phrases._counted(segments_of_pairs(pairs, "weights" in case), sent.value, 4, True)
        else:
            score = phrases._score_with(sent, "default", 10 if "rare" in case else 1, False)
            found = score(records_of_pairs(pairs))
        deque(found, maxlen=0)

    run(20_000)  # imports what it needs
    few, many = (peak_of(partial(run, pairs)) for pairs in (100_000, 300_000))
    assert phrases.PAIR_BYTES / 4 < (many - few) / 200_000 < phrases.PAIR_BYTES


def test_a_word_of_the_vocabulary_takes_the_memory_that_is_asked_for() -> None:
    def run(packed: bytes) -> None:
        deque(phrases._counted(segments_of_pairs(20_000), pickle.loads(packed), 4, True), maxlen=0)

    found, need = [], []
    for words in (10_000, 100_000, 250_000):
        vocabulary = vocabulary_of(words)
        need.append(phrases.task_bytes(words, vocabulary.words.nbytes))
        found.append(peak_of(partial(run, pickle.dumps(vocabulary, 5))))
    (more, most), (asked, asked_most) = (np.subtract(column[1:], column[0]).tolist() for column in (found, need))
    assert asked / 4 < more < asked
    assert asked_most / 4 < most < asked_most


@pytest.mark.parametrize("each", [1, 2])  # phrases that a word begins or ends
def test_a_phrase_takes_the_memory_that_is_asked_for(each: int) -> None:
    batch = next(segments_of_pairs(20_000))

    def run(packed: bytes) -> None:
        join_batch(batch, pickle.loads(packed))

    found, need = [], []
    for number in (10_000, 60_000, 160_000):
        first, second = (
            pa.array([f"{side}{n}" for n in places.tolist()])
            for side, places in (("a", np.arange(number) % (number // each)), ("b", np.arange(number) // each))
        )
        names = pc.binary_join_element_wise(first, second, "_")
        numbers = [pa.array(np.ones(number), kind) for kind in (pa.int64(), pa.float64(), pa.int32())]
        table = pa.table([names, first, second, *numbers], schema=PHRASES)
        need.append(phrases.join_bytes(table.nbytes))
        found.append(peak_of(partial(run, pickle.dumps(phrases.phrase_table(table), 5))))
    (more, most), (asked, asked_most) = (np.subtract(column[1:], column[0]).tolist() for column in (found, need))
    assert asked / 4 < more < asked
    assert asked_most / 4 < most < asked_most
