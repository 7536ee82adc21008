"""Pairs against a slow enumeration; then what is drawn, where pairs go, and what is never trained on."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram import pairs
from spark_w2v.skipgram.pairs import PairCodec, PairSampler, draw_reach, keep_words, number_pairs, pairs_by_distance
from spark_w2v.skipgram.parameters import Blocks, assign_blocks
from spark_w2v.skipgram.schedule import epoch_edges
from spark_w2v.types import Int32Array, UInt64Array

examples = settings(max_examples=80)
WHOLE = np.array([0.0, 1.0])  # the edges of an epoch in one sweep
PLACE = (3, 1 << 40, 7)  # file, start and number of a segment


class Pair(NamedTuple):
    """A pair's number taken apart: its slice, its blocks, its words."""

    slice: int
    center_block: int
    context_block: int
    center: int
    context: int


def take_apart(number: int, blocks: Blocks) -> Pair:
    """By the description at the top of pairs.py, in Python's own integers."""
    codec = PairCodec.of(blocks)
    number, context_row = divmod(number, 1 << codec.row)
    number, center_row = divmod(number, 1 << codec.row)
    number, context_block = divmod(number, 1 << codec.block)
    slice_number, center_block = divmod(number, 1 << codec.block)
    center = int(blocks.of(blocks.order, center_block)[center_row])
    context = int(blocks.of(blocks.order, context_block)[context_row])
    return Pair(slice_number, center_block, context_block, center, context)


def words_of(numbers: UInt64Array, blocks: Blocks) -> Counter[tuple[int, int]]:
    """How often each (center, context) is among the numbers."""
    return Counter((pair.center, pair.context) for pair in (take_apart(int(n), blocks) for n in numbers))


def enumerate_pairs(sentences: list[list[int]], reach: list[int]) -> Counter[tuple[int, int]]:
    """For each sentence, each center, every other position no farther than its reach."""
    found: Counter[tuple[int, int]] = Counter()
    passed = 0
    for sentence in sentences:
        for position, center in enumerate(sentence):
            for other, context in enumerate(sentence):
                if other != position and abs(other - position) <= reach[passed + position]:
                    found[center, context] += 1
        passed += len(sentence)
    return found


def flat(sentences: list[list[int]]) -> tuple[Int32Array, Int32Array]:
    """Ids and lengths."""
    return np.array([word for s in sentences for word in s], np.int32), np.array([len(s) for s in sentences], np.int32)


def some_blocks(words: int, count: int, seed: int = 0) -> Blocks:
    return assign_blocks(np.random.default_rng(seed).random(words) + 0.1, count)


VOCABULARY = 11


@examples
@given(
    sentences=st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=9), max_size=6),
    window=st.integers(1, 15),
    count=st.integers(1, VOCABULARY),
    data=st.data(),
)
def test_pairs_equal_a_plain_enumeration(
    sentences: list[list[int]], window: int, count: int, data: st.DataObject
) -> None:
    ids, lengths = flat(sentences)
    reach = data.draw(st.lists(st.integers(1, window), min_size=ids.size, max_size=ids.size))
    slices = data.draw(st.lists(st.integers(0, 5), min_size=ids.size, max_size=ids.size))
    blocks = some_blocks(VOCABULARY, count)
    sentence = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
    parts = number_pairs(ids, sentence, np.array(reach, np.int16), window, np.array(slices, np.uint64), blocks)
    numbers = np.concatenate(list(parts))
    assert numbers.dtype == np.uint64
    assert words_of(numbers, blocks) == enumerate_pairs(sentences, reach)


def test_no_pair_crosses_the_end_of_a_sentence() -> None:
    sentence = np.repeat(np.arange(50, dtype=np.int32), np.random.default_rng(0).integers(1, 8, 50))
    found = list(pairs_by_distance(sentence, np.full(sentence.size, 20, np.int16), 20))
    assert sum(forth.size + back.size for _, forth, back in found) == sum(n * (n - 1) for n in np.bincount(sentence))
    for d, forth, back in found:
        for place in (forth, back):
            assert (sentence[place] == sentence[place + d]).all()


def test_a_window_larger_than_the_sentence_pairs_all_of_its_words() -> None:
    blocks = some_blocks(4, 1)
    sampler = PairSampler(np.ones(4, np.float32), 1000, 1, 0.0, blocks)
    ids, lengths = flat([[0, 1], [2, 3]] * 50)
    found = words_of(sampler.pairs(PLACE, ids, lengths, 0, WHOLE)[0], blocks)
    assert found == {(0, 1): 50, (1, 0): 50, (2, 3): 50, (3, 2): 50}


def test_one_slice_alone_is_what_it_is_among_all() -> None:
    blocks, rng = some_blocks(600, 1), np.random.default_rng(3)
    ids, lengths = rng.integers(0, 600, 2000).astype(np.int32), np.full(200, 10, np.int32)
    sampler = PairSampler(np.full(600, 0.7, np.float32), 4, 1, 0.1, blocks)
    edges = epoch_edges(0, 2, 3, 1e9)
    slices = edges.size - 1
    numbers, words = sampler.pairs(PLACE, ids, lengths, 1, edges)
    part = numbers >> np.uint64(2 * blocks.bits)
    alone = [sampler.pairs(PLACE, ids, lengths, 1, edges, only=k) for k in range(slices)]
    assert sum(found.size > 0 for found, _ in alone) > 4
    assert [found.tolist() for found, _ in alone] == [numbers[part == k].tolist() for k in range(slices)]
    assert sum(drawn for _, drawn in alone) == words


@pytest.mark.parametrize("sentences", [[], [[]], [[1]], [[1], [], [2], [3]]])
def test_sentences_of_one_word_have_no_pairs(sentences: list[list[int]]) -> None:
    sampler = PairSampler(np.ones(4, np.float32), 5, 1, 0.0, some_blocks(4, 2))
    ids, lengths = flat(sentences)
    numbers, words = sampler.pairs(PLACE, ids, lengths, 0, epoch_edges(1, 1, 3, 1e9))
    assert numbers.dtype == np.uint64
    assert (numbers.size, words) == (0, ids.size)


def test_a_center_is_paired_with_all_of_its_sentence_within_one_reach() -> None:
    window, blocks = 4, some_blocks(600, 3)
    # No word occurs twice, so that positions can be read off the pairs.
    sampler = PairSampler(np.ones(600, np.float32), window, 9, 0.0, blocks)
    lengths = np.random.default_rng(2).multinomial(600, np.full(60, 1 / 60)).astype(np.int32)
    ids = np.arange(600, dtype=np.int32)
    found = words_of(sampler.pairs(PLACE, ids, lengths, 0, WHOLE)[0], blocks)
    reach = [1] * 600
    for center, context in found:
        reach[center] = max(reach[center], abs(center - context))
    assert max(reach) == window
    ends = np.cumsum(lengths)
    sentences = [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
    assert found == enumerate_pairs(sentences, reach)


def test_a_window_that_does_not_shrink_reaches_to_its_end_from_every_center() -> None:
    window, blocks = 4, some_blocks(600, 3)
    sampler = PairSampler(np.ones(600, np.float32), window, 9, 0.0, blocks, shrinks=False)
    lengths = np.random.default_rng(2).multinomial(600, np.full(60, 1 / 60)).astype(np.int32)
    found = words_of(sampler.pairs(PLACE, np.arange(600, dtype=np.int32), lengths, 0, WHOLE)[0], blocks)
    ends = np.cumsum(lengths)
    sentences = [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
    assert found == enumerate_pairs(sentences, [window] * 600)


def test_the_mean_reach_is_half_of_the_window_and_one() -> None:
    for window in (1, 2, 5, 10):
        reach = draw_reach(100_000, window, np.random.default_rng(window))
        assert set(reach.tolist()) == set(range(1, window + 1))
        sigma = np.sqrt((window**2 - 1) / 12 / reach.size)
        assert abs(reach.mean() - (window + 1) / 2) <= 3 * sigma


def test_words_are_kept_as_often_as_their_probability_says() -> None:
    keep = np.array([0.01, 0.3, 0.9, 1.0], np.float32)
    each = 50_000
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(4, dtype=np.int32), each))
    words, _ = keep_words(ids, np.array([ids.size], np.int32), keep, np.random.default_rng(1))
    kept = np.bincount(words)
    assert (np.abs(kept - each * keep) <= 3 * np.sqrt(each * keep * (1 - keep))).all()
    assert kept[3] == each


def test_words_that_stay_keep_their_order_and_their_sentence() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 200).astype(np.int32)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    out = rng.random(ids.size) < 0.5
    words, sentence = keep_words(ids, lengths, np.full(ids.size, 0.5, np.float32), rng, out)
    assert 0 < words.size < ids.size
    assert (np.diff(words) > 0).all()
    assert np.array_equal(sentence, np.repeat(np.arange(200), lengths)[words])
    assert not out[words].any()


def test_skipped_words_bring_their_neighbours_together() -> None:
    blocks = some_blocks(3, 1)
    sampler = PairSampler(np.array([1, 0, 1], np.float32), 1, 1, 0.0, blocks)
    ids, lengths = flat([[0, 1, 2]])
    numbers, words = sampler.pairs(PLACE, ids, lengths, 0, WHOLE)
    assert words_of(numbers, blocks) == {(0, 2): 1, (2, 0): 1}
    assert words == 2


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_sorted_numbers_are_in_order_of_slice_bucket_and_center(count: int) -> None:
    blocks = some_blocks(40, count)
    sampler = PairSampler(np.ones(40, np.float32), 3, 1, 0.0, blocks)
    ids = np.random.default_rng(1).integers(0, 40, 2000).astype(np.int32)
    numbers, _ = sampler.pairs(PLACE, ids, np.full(200, 10, np.int32), 0, epoch_edges(1, 1, 4, 1e9))
    pairs = [take_apart(int(number), blocks) for number in np.sort(numbers)]
    assert {pair.slice for pair in pairs} == {0, 1, 2, 3}
    for pair in pairs:
        assert (blocks.block[pair.center], blocks.block[pair.context]) == (pair.center_block, pair.context_block)
    wanted = [
        (p.slice, p.center_block, p.context_block, int(blocks.row[p.center]), int(blocks.row[p.context])) for p in pairs
    ]
    assert wanted == sorted(wanted)


@examples
@given(words=st.integers(1, 3000), data=st.data())
def test_rows_come_back_out_of_a_number(words: int, data: st.DataObject) -> None:
    blocks = some_blocks(words, data.draw(st.integers(1, min(words, 70))))
    codec = PairCodec.of(blocks)
    assert np.diff(blocks.ends).max() <= 1 << codec.row
    assert blocks.count <= 1 << codec.block
    ids = np.array(data.draw(st.lists(st.integers(0, words - 1), min_size=2, max_size=8)), np.int32)
    sentence, slices = np.zeros(ids.size, np.int32), np.full(ids.size, 5, np.uint64)
    (numbers,) = number_pairs(ids, sentence, np.full(ids.size, 8, np.int16), 8, slices, blocks)
    pairs = [take_apart(int(number), blocks) for number in numbers]
    assert codec.contexts(numbers).dtype == np.int32
    assert codec.contexts(numbers).tolist() == [blocks.row[pair.context] for pair in pairs]
    for numbered in (numbers, codec.shorten(numbers)):
        assert codec.contexts(numbered).tolist() == codec.contexts(numbers).tolist()
    assert {pair.slice for pair in pairs} == {5}


@pytest.mark.parametrize(
    ("row", "strip", "size"), [(15, 0, 4), (16, 0, 4), (17, 2, 4), (23, 14, 4), (17, 0, 8), (31, 0, 8)]
)
def test_pairs_come_back_whole_from_what_is_stored(row: int, strip: int, size: int) -> None:
    codec = PairCodec(row, 1, strip)
    assert codec.stored.itemsize == size
    rng = np.random.default_rng(row)
    # Sorted, so that the strips of each of two runs follow one another.
    whole = np.sort(rng.integers(0, 1 << 2 * row, (2, 50), np.uint64), axis=1)
    whole[0, -1] = (1 << 2 * row) - 1
    places = (whole >> np.uint64(2 * row - strip)).astype(np.int64) if strip else np.zeros(whole.shape, np.int64)
    sizes = np.array([np.bincount(run, minlength=1 << strip) for run in places])
    restored = codec.restore(whole.ravel().astype(codec.stored), sizes)
    assert restored.dtype == codec.dtype
    assert restored.tolist() == whole.ravel().tolist()


def test_buckets_are_cut_in_strips_where_records_have_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = some_blocks(300_000, 3)  # rows of 17 bits, blocks of 2
    assert [PairCodec.of(blocks, sweeps).strip for sweeps in (None, 1, 5)] == [0, 2, 2]
    monkeypatch.setattr(pairs, "MOST_STRIPS", 4 << 4 + 2)
    assert [PairCodec.of(blocks, sweeps).strip for sweeps in (4, 5)] == [2, 0]
    assert PairCodec.of(some_blocks(190_000, 3), 1).strip == 0  # 16 bits


@pytest.mark.parametrize("row", [15, 16, 17, 30, 31])
def test_the_largest_rows_fit_the_type_that_the_codec_names(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, largest = PairCodec(row, 1), (1 << row) - 1
    wide: UInt64Array = np.array([largest << row | largest], np.uint64)
    number: npt.NDArray[np.unsignedinteger] = wide.astype(codec.dtype)
    assert int(number[0]) == largest << row | largest
    assert codec.contexts(number).tolist() == [largest]
    for searched in (0, pairs.SEARCHED) if row <= 17 else (pairs.SEARCHED,):
        monkeypatch.setattr(pairs, "SEARCHED", searched)
        for frequent, kind in ((largest, 1), (largest + 1, 0)):
            runs = codec.runs(number, largest + 1, frequent)
            assert [column.tolist() for column in runs[kind]] == [[largest], [0], [1]]
            assert runs[1 - kind].pairs.size == 0


@examples
@given(
    drawn=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=60),
    frequent=st.integers(1, 16),
    above=st.integers(0, 5),
    searched=st.sampled_from([0, 100]),
)
def test_runs_are_of_one_center_and_one_kind_of_context_whatever_their_bucket(
    drawn: list[tuple[int, int]], frequent: int, above: int, searched: int
) -> None:
    codec = PairCodec(4, 3)
    numbers = np.sort(np.array([above << 8 | center << 4 | context for center, context in drawn], np.uint64))
    wanted = []
    for kind in (True, False):
        of_center = {
            i: [at for at, (c, o) in enumerate(sorted(drawn)) if c == i and (o < frequent) == kind] for i in range(9)
        }
        wanted.append([(center, places[0], len(places)) for center, places in of_center.items() if places])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "SEARCHED", searched)
        for numbered in (numbers, codec.shorten(numbers)):
            found = codec.runs(numbered, 9, frequent)
            assert [list(zip(*(column.tolist() for column in runs), strict=True)) for runs in found] == wanted
            assert {column.dtype for runs in found for column in runs} == {np.dtype(np.int32)}


@pytest.mark.parametrize("epoch", [0, 1])
def test_slices_are_as_large_as_their_edges_say_and_sentences_stay_whole(epoch: int) -> None:
    sentences, edges = 4000, epoch_edges(epoch, 2, 4, 1e9)
    blocks = some_blocks(sentences * 2, 1)
    sampler = PairSampler(np.ones(sentences * 2, np.float32), 2, 1, 0.0, blocks)
    ids, lengths = np.arange(sentences * 2, dtype=np.int32), np.full(sentences, 2, np.int32)
    pairs = [take_apart(int(number), blocks) for number in sampler.pairs(PLACE, ids, lengths, 0, edges)[0]]
    slices = {pair.center // 2: pair.slice for pair in pairs}
    assert len(slices) == sentences
    assert all(slices[pair.center // 2] == pair.slice for pair in pairs)
    share = np.diff(edges)
    found = np.bincount(list(slices.values()), minlength=share.size)
    assert (np.abs(found - sentences * share) <= 3 * np.sqrt(sentences * share * (1 - share))).all()


def test_held_out_sentences_are_never_trained_on_and_the_same_in_every_epoch() -> None:
    sentences, share = 2000, 0.1
    blocks = some_blocks(sentences * 3, 1)
    sampler = PairSampler(np.ones(sentences * 3, np.float32), 2, 1, share, blocks)
    out = sampler.held_out_sentences(PLACE, sentences)
    assert abs(out.sum() - sentences * share) <= 3 * np.sqrt(sentences * share * (1 - share))
    ids, lengths = np.arange(sentences * 3, dtype=np.int32), np.full(sentences, 3, np.int32)
    for epoch in range(3):
        numbers, words = sampler.pairs(PLACE, ids, lengths, epoch, epoch_edges(0, 2, 2, 1e9))
        trained = {word // 3 for pair in words_of(numbers, blocks) for word in pair}
        assert trained == set(np.flatnonzero(~out).tolist())
        assert words == 3 * len(trained)
    assert not np.array_equal(out, sampler.held_out_sentences((3, 1 << 40, 8), sentences))


def test_pairs_are_the_same_at_the_same_place_and_others_in_another_epoch_or_place() -> None:
    sampler = PairSampler(np.full(50, 0.7, np.float32), 5, 1, 0.0, some_blocks(50, 2))
    ids = np.random.default_rng(1).integers(0, 50, 1000).astype(np.int32)
    lengths, edges = np.full(100, 10, np.int32), epoch_edges(1, 1, 2, 1e9)

    def draw(place: tuple[int, ...], epoch: int) -> list[int]:
        return sorted(sampler.pairs(place, ids, lengths, epoch, edges)[0].tolist())

    assert draw(PLACE, 0) == draw(PLACE, 0)
    assert draw(PLACE, 0) != draw(PLACE, 1)
    assert draw(PLACE, 0) != draw((3, 0, 7), 0)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(("words", "count", "size"), [(500, 3, 5000), (500, 3, 30), (200_000, 2, 900_000)])
def test_pairs_of_a_bucket_are_sorted_however_fast_numpy_sorts(
    words: int, count: int, size: int, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "is_sorting_slow", lambda: slow)
    blocks, rng = some_blocks(words, count), np.random.default_rng(size)
    codec, (centers, contexts) = PairCodec.of(blocks), np.diff(blocks.ends)[[count - 1, 0]].tolist()
    rows = rng.integers(0, centers, size, np.uint64) << np.uint64(codec.row) | rng.integers(
        0, contexts, size, np.uint64
    )
    keys = np.uint64((1 << codec.block | 1) << 2 * codec.row) | rows
    expected = np.sort(codec.shorten(keys))
    assert np.array_equal(codec.sort(codec.shorten(keys), centers, contexts), expected)
