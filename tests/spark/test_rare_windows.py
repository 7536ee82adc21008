"""Which windows of rare words a run keeps, whatever the partitioning, and how much of them."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v import config
from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.spark import corpus, rare_windows, vocabulary
from spark_w2v.spark.memory import Given
from spark_w2v.spark.rare_windows import collect_windows, split, with_windows
from spark_w2v.spark.tables import WINDOWS_FILE
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.rare_windows import WINDOWS, newest_words
from spark_w2v.text.weights import UNITS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Collect = Callable[..., tuple[pa.Table, dict[str, Any]]]


class Text:
    """A text of Zipf's words; those with 5 occurrences or more are its vocabulary."""

    def __init__(self, spark: "SparkSession", folder: Path) -> None:
        rng = np.random.default_rng(1)
        self.lines = []
        for name in "ab":
            drawn = rng.zipf(1.5, size=3000) % 3000
            lines = [[f"w{word}" for word in drawn[at : at + 30]] for at in range(0, 3000, 30)]
            (folder / f"{name}.txt").write_text("\n".join(map(" ".join, lines)))
            self.lines += lines
        self.segments = corpus.read(spark, [str(folder)], config.Corpus())
        self.vocabulary = vocabulary.count_words(self.segments, min_count=5)
        known = set(self.vocabulary.words.to_pylist())
        self.rare = [word for line in self.lines for word in line if word not in known]

    def collect(self, most: int, partitions: int = 2, **more: Any) -> tuple[pa.Table, dict[str, Any]]:
        divided = self.segments.repartition(partitions).persist()
        words = divided.sparkSession.sparkContext.broadcast(self.vocabulary.words)
        encoded = vocabulary.encode(divided, words)
        given = {"stop": None, "window": 3, "earlier": None, **more}
        try:
            return collect_windows(divided, encoded, self.vocabulary, most=most, **given)
        finally:
            divided.unpersist()


@pytest.fixture(scope="module")
def text(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> Text:
    return Text(spark, tmp_path_factory.mktemp("text"))


def windows_of(words: list[str]) -> pa.Table:
    rows = [{"word": word, "sentence": ["w1", word, "gone"], "weight": UNITS} for word in words]
    return pa.Table.from_pylist(rows, schema=WINDOWS)


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("most", [1_000_000, 400])
def test_windows_do_not_depend_on_partitioning(text: Text, most: int) -> None:
    assert len(text.rare) > 500
    (one, facts), (other, other_facts) = text.collect(most, 1), text.collect(most, 5)
    assert one.equals(other)
    assert facts == other_facts
    assert facts["kept_windows"] == len(one)
    assert facts["kept_windows"] + facts["dropped_windows"] == len(text.rare)
    chosen = set(one["word"].to_pylist())
    assert one["word"].to_pylist() == [word for word in text.rare if word in chosen], "in the order of the text"
    assert (len(one) == len(text.rare)) == (most > len(text.rare))
    assert len(one) <= most
    assert len(one) > 0.8 * min(most, len(text.rare))


def test_words_that_have_not_occurred_for_longest_leave_first(text: Text) -> None:
    earlier = windows_of(["old", "once", "old", text.rare[0], "late"])
    kept, facts = text.collect(2 * len(text.rare), earlier=earlier)
    assert kept["word"].to_pylist() == ["old", "once", "old", text.rare[0], "late", *text.rare]
    assert kept["sentence"][0].as_py() == ["w1", "old", "gone"]
    few = newest_words(windows_of(["old", "once", "old", "again", "late", "again"]), 4)
    assert few["word"].to_pylist() == ["again", "late", "again"], "a word with all of its windows"
    assert facts["dropped_windows"] == 0


def test_words_of_the_nights_before_leave_only_where_there_is_no_room(text: Text) -> None:
    """Unless they occur in the text and are left out there: then their windows would not be all."""
    names = [f"old{number}" for number in range(400)]
    kept, facts = text.collect(600, earlier=windows_of(names))
    words = kept["word"].to_pylist()
    of_before = [word for word in words if word in names]
    assert of_before == names[len(names) - len(of_before) :], "the last ones"
    assert 270 < len(words) - len(of_before) <= 300
    assert 590 < len(words) <= 600
    assert facts["dropped_windows"] == len(names) + len(text.rare) - len(words)

    both = list(dict.fromkeys(text.rare))[:200]
    kept, facts = text.collect(600, earlier=windows_of([*both, *names[:200]]))
    found = Counter(kept["word"].to_pylist())
    some = Counter(text.rare)
    assert {word for word in both if word in found} == {word for word in both if found[word] == 1 + some[word]}
    assert 20 < sum(word in found for word in both) < 180
    assert facts["dropped_windows"] == 400 + len(text.rare) - len(kept)


def test_a_word_that_is_too_many_alone_takes_no_other_word_along(text: Text) -> None:
    known = text.vocabulary.words.to_pylist()
    frequent = max(known, key=Counter(word for line in text.lines for word in line).__getitem__)
    index = known.index(frequent)
    words = pa.concat_arrays([text.vocabulary.words.slice(0, index), text.vocabulary.words.slice(index + 1)])
    counts = np.delete(text.vocabulary.counts, index)
    of_others = len(text.rare)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text, "vocabulary", dataclasses.replace(text.vocabulary, words=words, counts=counts))
        kept, facts = text.collect(of_others + 5)
        earlier, _ = text.collect(of_others + 5, earlier=windows_of([frequent, "old"]))
    assert kept["word"].to_pylist() == text.rare
    assert facts["dropped_windows"] > 1000
    assert earlier["word"].to_pylist() == ["old", *text.rare], "its windows of before would not be all"


def test_stop_words_are_not_rare(text: Text) -> None:
    stop = text.rare[0]
    kept, facts = text.collect(1_000_000, stop=pa.array([stop]))
    assert kept["word"].to_pylist() == [word for word in text.rare if word != stop]
    assert facts["dropped_windows"] == 0


def test_stop_words_need_no_memory(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_windows, "WINDOW_BYTES", 1 << 10)
    monkeypatch.setattr(rare_windows, "given_by", lambda context: Given(2 * len(text.rare) * (1100)))
    some = text.vocabulary.words.slice(0, 40)
    words = dataclasses.replace(
        text.vocabulary, words=text.vocabulary.words.slice(40), counts=text.vocabulary.counts[40:]
    )
    monkeypatch.setattr(text, "vocabulary", words)
    assert len(text.collect(1_000_000, stop=some)[0]) == len(text.rare)


def test_windows_are_divided_by_the_new_vocabulary() -> None:
    words = Vocabulary(pa.array(["w1", "b"], pa.large_string()), np.array([9, 5]), 14, 2)
    known, rare = split(windows_of(["a", "b", "c", "b"]), words, pa.array(["c"]))
    assert known["word"].to_pylist() == ["b", "b"]
    assert rare["word"].to_pylist() == ["a"]


def test_windows_of_frequent_words_are_sentences_of_the_text(text: Text) -> None:
    words = text.segments.sparkSession.sparkContext.broadcast(text.vocabulary.words)
    encoded = vocabulary.encode(text.segments, words)
    frequent = text.vocabulary.words[3].as_py()

    def rows(some: "DataFrame") -> list[Any]:
        return sorted(some.collect())

    known = text.vocabulary.words.to_pylist()
    windows = pa.concat_tables([windows_of([frequent]), windows_of(["still"])])
    made = with_windows(encoded, windows, text.vocabulary, pa.array(["stop"]), weighted=False)
    *others, (*place, ids, lengths, weights) = rows(made.encoded)
    assert others == rows(encoded)
    assert place == [WINDOWS_FILE, 0, 0]
    assert [known[number] for number in np.frombuffer(ids, "<i4")] == ["w1", frequent]
    assert (np.frombuffer(lengths, "<i4").tolist(), weights) == ([2], b"")
    # The count of the word that was rare has its windows already.
    assert {known[place]: made.added[place] for place in np.flatnonzero(made.added)} == {"w1": 1}
    assert made.still_rare["word"].to_pylist() == ["still"]
    none = with_windows(encoded, windows_of([]), text.vocabulary, None, weighted=False)
    assert rows(none.encoded) == others
    assert not none.added.any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Given(1 << 10), "half of spark.driver.memory is 0 MB"),
        (Given(1 << 40, machine=200 << 20), "the driver's machine has 210 MB left"),
        (Given(1 << 40, results=1000), "spark.driver.maxResultSize is 0 MB"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    text: Text, monkeypatch: pytest.MonkeyPatch, given: Given, says: str
) -> None:
    monkeypatch.setattr(rare_windows, "given_by", lambda context: given)
    monkeypatch.setattr(rare_windows, "WINDOW_BYTES", 1 << 20)
    with pytest.raises(NotEnoughMemoryError, match=f"vocabulary.rare_windows: .* and {says}; raise it, or lower"):
        text.collect(1_000_000)
