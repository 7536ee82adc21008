"""Windows of rare words are found, counted and encoded as plain Python does it."""

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.text import rare_windows
from spark_w2v.text.rare_windows import (
    ALL_HASHES,
    WINDOWS,
    Rare,
    assemble,
    composed_windows,
    count_rare,
    digest_windows,
    encode_windows,
    find_windows,
    newest_words,
    window_counts,
)
from spark_w2v.text.spellings import packed_words, word_hashes
from spark_w2v.text.weights import UNITS

examples = settings(max_examples=100)
KNOWN, STOP = ["a", "b", "c"], ["s"]
SENTENCES = st.lists(st.lists(st.sampled_from("abcsxyé"), min_size=1, max_size=9), max_size=4)
TEXT = st.lists(SENTENCES, min_size=1, max_size=4)


def batch_of(text: list[list[list[str]]], weight: int = 0) -> pa.RecordBatch:
    """SEGMENTS of one file, each with some sentences; the first has the largest number."""
    rows: list[dict[str, Any]] = []
    for number, sentences in enumerate(text):
        distinct = list(dict.fromkeys(word for sentence in sentences for word in sentence))
        words, ends = packed_words(pa.array(distinct, pa.string()))
        codes = [distinct.index(word) for sentence in sentences for word in sentence]
        weights = [weight * place for place in range(len(sentences))] if weight else []
        rows.append(
            {"file": 0, "start": 0, "segment": len(text) - number, "words": words, "ends": ends}
            | {"codes": np.array(codes, "<i4").tobytes(), "weights": np.array(weights, "<i4").tobytes()}
            | {"lengths": np.array([len(sentence) for sentence in sentences], "<i4").tobytes()}
        )
    kinds = {"file": pa.int32(), "start": pa.int64(), "segment": pa.int32()}
    return pa.RecordBatch.from_pydict(
        {name: pa.array([row[name] for row in rows], kinds.get(name, pa.binary())) for name in rows[0]}
    )


def rare(reach: int = 2, hashes: int = ALL_HASHES) -> Rare:
    return Rare(pa.array(KNOWN, pa.large_string()), pa.array(STOP, pa.large_string()), reach, hashes)


def found_in(batch: pa.RecordBatch, which: Rare) -> pa.Table:
    return assemble(pa.Table.from_batches(find_windows(iter([batch]), which)), which.words)


def expected(text: list[list[list[str]]], reach: int, weight: int) -> list[dict[str, Any]]:
    windows = []
    for sentences in reversed(text):
        for number, sentence in enumerate(sentences):
            for place, word in enumerate(sentence):
                if word not in KNOWN + STOP and (number or not weight):
                    before = [other for other in sentence[:place] if other in KNOWN][-reach:]
                    after = [other for other in sentence[place + 1 :] if other in KNOWN][:reach]
                    units = weight * number if weight else UNITS
                    windows.append({"word": word, "sentence": [*before, word, *after], "weight": units})
    return windows


@examples
@given(TEXT, st.integers(1, 4), st.sampled_from([0, 70_000]))
def test_a_window_has_the_known_words_around_a_rare_one(text: list[list[list[str]]], reach: int, weight: int) -> None:
    batch, which = batch_of(text, weight), rare(reach)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rare_windows, "AT_A_TIME", 3)
        found = found_in(batch, which)
    windows = expected(text, reach, weight)
    found.validate(full=True)
    assert found.schema.equals(WINDOWS)
    assert found.to_pylist() == windows
    counted = pa.Table.from_batches(count_rare(iter([batch]), which))
    of_words: Counter[int] = Counter()
    for row in counted.to_pylist():  # a word is a row for each segment
        of_words[row["hash"]] += row["windows"]
    hashes = word_hashes(pa.array([window["word"] for window in windows], pa.string()))
    assert of_words == Counter(hashes.tolist())


def test_a_word_is_kept_with_all_of_its_windows_or_with_none() -> None:
    text = [[[f"rare{number}", "a", f"rare{number}"]] for number in range(400)]
    kept = [found_in(batch_of(text), rare(hashes=hashes)) for hashes in (0, ALL_HASHES // 4, ALL_HASHES // 2)]
    words = [set(windows["word"].to_pylist()) for windows in kept]
    assert [len(windows) for windows in kept] == [2 * len(found) for found in words]
    assert not words[0]
    assert 60 < len(words[1]) < 140 < len(words[2]) < 260
    assert words[1] < words[2]  # a word that is kept with fewer is kept with more


WINDOWS_OF = st.lists(
    st.tuples(st.sampled_from("xyz"), st.lists(st.sampled_from("abq"), max_size=4), st.integers(1, 5 * UNITS)),
    max_size=12,
)


def windows_from(rows: list[tuple[str, list[str], int]]) -> pa.Table:
    named = [{"word": word, "sentence": [word, *others], "weight": units} for word, others, units in rows]
    halves = [pa.Table.from_pylist(some, schema=WINDOWS) for some in (named[::2], named[1::2])]
    return pa.concat_tables(halves)


@examples
@given(WINDOWS_OF, st.booleans())
def test_windows_count_as_their_sentences_would(rows: list[tuple[str, list[str], int]], weighted: bool) -> None:
    windows = windows_from(rows)
    counts = {row["word"]: row["count"] for row in window_counts(windows, weighted).to_pylist()}
    sums: dict[str, int] = {}
    for word, _, units in rows:
        sums[word] = sums.get(word, 0) + (units if weighted else 1)
    assert counts == sums


@examples
@given(WINDOWS_OF, WINDOWS_OF)
def test_a_digest_is_that_of_the_windows_and_not_of_their_chunks(
    rows: list[tuple[str, list[str], int]], others: list[tuple[str, list[str], int]]
) -> None:
    windows, other = windows_from(rows), windows_from(others)
    assert digest_windows(windows) == digest_windows(windows.combine_chunks())
    assert (digest_windows(windows) == digest_windows(other)) == windows.equals(other)


@examples
@given(WINDOWS_OF, st.integers(0, 12))
def test_the_words_that_occurred_last_are_kept_whole(rows: list[tuple[str, list[str], int]], most: int) -> None:
    windows = windows_from(rows)
    words = windows["word"].to_pylist()
    kept: set[str] = set()
    for word in sorted(set(words), key=lambda word: -max(at for at, other in enumerate(words) if other == word)):
        if words.count(word) > most:
            continue
        if sum(words.count(one) for one in {*kept, word}) > most:
            break
        kept.add(word)
    assert newest_words(windows, most).to_pylist() == [row for row in windows.to_pylist() if row["word"] in kept]


def test_a_word_with_more_windows_than_there_is_room_for_takes_no_other_word_along() -> None:
    rows = [{"word": word, "sentence": [word], "weight": UNITS} for word in "xyxzzz"]
    windows = pa.Table.from_pylist(rows, schema=WINDOWS)
    assert newest_words(windows, 2)["word"].to_pylist() == ["x", "x"]


@examples
@given(rows=WINDOWS_OF, weighted=st.booleans(), most=st.sampled_from([1, 5, 250_000]))
def test_windows_are_encoded_as_sentences_of_known_words(
    rows: list[tuple[str, list[str], int]], weighted: bool, most: int
) -> None:
    windows, known = windows_from(rows), pa.array(["b", "x", "a", "y"], pa.large_string())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rare_windows, "SEGMENT_WORDS", most)
        segments = list(encode_windows(windows, known, weighted))
    ids, lengths, units = (
        np.frombuffer(b"".join(segment[column] for segment in segments), "<i4").tolist() for column in range(3)
    )
    place = {word: number for number, word in enumerate(known.to_pylist())}
    sentences = [[place[word] for word in row["sentence"] if word in place] for row in windows.to_pylist()]
    assert ids == [word for sentence in sentences for word in sentence]
    assert lengths == [len(sentence) for sentence in sentences if sentence]
    of_windows = windows["weight"].to_pylist()
    there = [weight for sentence, weight in zip(sentences, of_windows, strict=True) if sentence]
    assert units == (there if weighted else [])
    # A segment has more words than the limit only if it has one sentence; with weights, as often as they are there.
    for some_ids, some_lengths, some_units in segments:
        weights = np.frombuffer(some_units, "<i4") if weighted else np.full(len(some_lengths) // 4, UNITS)
        loads = np.frombuffer(some_lengths, "<i4") * np.maximum(-(-weights.astype(np.int64) // UNITS), 1)
        assert loads.sum() <= most or len(some_lengths) == 4
        assert some_ids


PEAK = """
import re
from pathlib import Path
import numpy as np
import pyarrow as pa
from spark_w2v.text.rare_windows import Rare, find_windows
from spark_w2v.text.spellings import packed_words
from spark_w2v.text.tokenizer import SEGMENT_WORDS

def words_of(kind):
    return pa.array([f"{kind}{number:09}" for number in range(SEGMENT_WORDS // 2)])

words, ends = packed_words(pa.concat_arrays([words_of("a"), words_of("b")]))
codes = np.arange(SEGMENT_WORDS, dtype="<i4").reshape(2, -1).T.tobytes()  # every other word is rare
columns = {"words": words, "ends": ends, "codes": codes, "lengths": np.full(250, 1000, "<i4").tobytes(), "weights": b""}
batch = pa.RecordBatch.from_pydict(
    {"file": pa.array([0], pa.int32()), "start": pa.array([0], pa.int64()), "segment": pa.array([0], pa.int32())}
    | {name: pa.array([value], pa.binary()) for name, value in columns.items()}
)
rare = Rare(words_of("a").cast(pa.large_string()), pa.array([], pa.large_string()), 25)
for _ in find_windows(iter([batch] * 3), rare):
    pass
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_task_takes_no_more_memory_than_is_said_where_every_other_word_is_rare() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    assert 160 << 20 < int(done.stdout) < 384 << 20  # of docs/how-it-works.md


def test_windows_are_composed_with_all_of_their_words() -> None:
    decomposed = {"word": "cafe\u0301", "sentence": ["a", "cafe\u0301", "e\u0301te\u0301"], "weight": 65536}
    as_they_are = {"word": "b", "sentence": ["a", "b"], "weight": 1}
    tables = [pa.Table.from_pylist([row], schema=WINDOWS) for row in (as_they_are, decomposed, as_they_are)]
    found = composed_windows(pa.concat_tables([*tables, WINDOWS.empty_table()]))
    assert found.schema == WINDOWS
    composed = {"word": "caf\u00e9", "sentence": ["a", "caf\u00e9", "\u00e9t\u00e9"], "weight": 65536}
    assert found.to_pylist() == [as_they_are, composed, as_they_are]
    assert composed_windows(pa.concat_tables(tables).slice(1, 1)).to_pylist() == [composed]
    assert len(composed_windows(WINDOWS.empty_table())) == 0
