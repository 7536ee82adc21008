"""Pairs are counted and joined as plain loops over the words do it."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.text.phrases import (
    PhraseTable,
    bucket_of,
    inside_sentences,
    join_batch,
    pair_keys,
    summed,
)
from spark_w2v.text.segments import Segment, _rows
from tests.support.segments import unpacked

examples = settings(max_examples=100)
LETTERS = "abcde"
TEXTS = st.lists(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=8), min_size=1, max_size=6)
PAIRS = st.sets(st.tuples(st.sampled_from(LETTERS), st.sampled_from(LETTERS)), min_size=1, max_size=8)


def row_of(text: list[list[str]], weights: list[int] | None = None) -> Segment:
    """SEGMENTS of a text, which has unused words of other segments before its own in Arrow's buffers."""
    words = [word for sentence in text for word in sentence]
    encoded = pa.array(words, pa.string()).dictionary_encode()
    codes = encoded.indices.to_numpy()
    lengths = np.array([len(sentence) for sentence in text], "<i4")
    of_words = None if weights is None else np.repeat(weights, lengths)
    counts = np.bincount(codes, of_words).astype(np.int64)
    units = b"" if weights is None else np.array(weights, "<i4").tobytes()
    return Segment(
        encoded.dictionary, counts, codes.astype("<i4").tobytes(), lengths.tobytes(), units, np.zeros(1, np.int64)
    )


def batch_of(*segments: Segment) -> pa.RecordBatch:
    return _rows([((0, 0, number), segment) for number, segment in enumerate(segments)])


def texts_of(batch: pa.RecordBatch) -> list[list[list[str]]]:
    found = []
    for row in batch.to_pylist():
        codes, lengths = np.frombuffer(row["codes"], "<i4"), np.frombuffer(row["lengths"], "<i4")
        words = [unpacked(row)[0][code] for code in codes]
        ends = np.cumsum(lengths)
        found.append([words[end - length : end] for end, length in zip(ends, lengths, strict=True)])
    return found


def table_of(pairs: set[tuple[str, str]]) -> PhraseTable:
    first, second = (pa.array([pair[side] for pair in pairs]) for side in (0, 1))
    return PhraseTable.of(first, second, pa.array(["_".join(pair) for pair in pairs]))


def joined(sentence: list[str], pairs: set[tuple[str, str]]) -> list[str]:
    """From the left, as gensim does."""
    found, at = [], 0
    while at < len(sentence):
        if tuple(sentence[at : at + 2]) in pairs:
            found.append("_".join(sentence[at : at + 2]))
            at += 1
        else:
            found.append(sentence[at])
        at += 1
    return found


@examples
@given(TEXTS, TEXTS, PAIRS)
def test_phrases_are_joined_from_the_left_within_sentences(
    one: list[list[str]], other: list[list[str]], pairs: set[tuple[str, str]]
) -> None:
    empty = row_of([])
    found = join_batch(batch_of(row_of(one), empty, row_of(other)), table_of(pairs))
    expected = [[joined(sentence, pairs) for sentence in text] for text in (one, [], other)]
    assert texts_of(found) == expected
    for row, text in zip(found.to_pylist(), expected, strict=True):
        words = [word for sentence in text for word in sentence]
        spelled, counts = unpacked(row)
        assert spelled == list(dict.fromkeys(words)), "in order of first appearance"
        assert dict(zip(spelled, counts, strict=True)) == Counter(words)


def test_other_columns_stay_and_weights_count() -> None:
    text = [["a", "b", "c"], ["a", "b"]]
    batch = batch_of(row_of(text, [3, 5]))
    found = join_batch(batch, table_of({("a", "b")}))
    (row,) = found.to_pylist()
    assert dict(zip(*unpacked(row), strict=True)) == {"a_b": 8, "c": 3}
    for name in ("file", "start", "segment", "weights", "counters", "bad"):
        assert found[name].equals(batch[name])


def test_a_phrase_that_is_spelled_as_a_word_of_the_text_is_that_word() -> None:
    found = join_batch(batch_of(row_of([["a_b", "a", "b", "a_b"]])), table_of({("a", "b")}))
    (row,) = found.to_pylist()
    assert unpacked(row) == (["a_b"], [3])


@examples
@given(TEXTS, st.booleans())
def test_pairs_are_counted_within_sentences_and_those_of_rare_words_are_told_apart(
    text: list[list[str]], has_all: bool
) -> None:
    known = {"a": 0, "b": 1, "c": 2}
    words = [word for sentence in text for word in sentence]
    ids = np.array([known.get(word, -1) for word in words])
    hashes = np.array([hash(("h", word)) for word in words], np.int64) if has_all else None
    lengths = np.array([len(sentence) for sentence in text], np.int32)
    found = summed(pair_keys(ids, 3, hashes)[inside_sentences(lengths)])
    pairs: Counter[Any] = Counter(pair for sentence in text for pair in itertools.pairwise(sentence))
    frequent = {known[a] * 3 + known[b]: n for (a, b), n in pairs.items() if {a, b} <= known.keys()}
    others = sorted(n for (a, b), n in pairs.items() if not {a, b} <= known.keys())
    as_dict = dict(zip(found.keys.tolist(), found.counts.tolist(), strict=True))
    assert {key: n for key, n in as_dict.items() if key >= 0} == frequent
    together = [sum(others)] if others else []
    assert sorted(n for key, n in as_dict.items() if key < 0) == (others if has_all else together)


@examples
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), max_size=40))
def test_sums_are_those_of_a_counter(rows: list[tuple[int, int]]) -> None:
    keys, counts = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    expected: Counter[int] = Counter()
    for key, count in rows:
        expected[key] += count
    found = summed(keys.copy(), counts)
    assert dict(zip(found.keys.tolist(), found.counts.tolist(), strict=True)) == expected
    plain = summed(keys.copy())
    assert dict(zip(plain.keys.tolist(), plain.counts.tolist(), strict=True)) == Counter(keys.tolist())
    assert found.keys.tolist() == sorted(expected)


def test_buckets_get_about_as_many_keys_each() -> None:
    for keys in (np.arange(70_000), np.arange(70_000) * 50_000, -(np.arange(70_000) ** 2)):
        sizes = np.bincount(bucket_of(keys, 7), minlength=7)
        assert sizes.max() < 1.1 * 10_000
