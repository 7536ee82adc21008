"""Windows of rare words: what stands around words that have no vector yet, kept until they occur often enough.

W windows.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.text.arrow_arrays import booleans, composed, flatten_lists, offsets_of, string_bytes, string_offsets
from spark_w2v.text.encoding import together
from spark_w2v.text.records import Batches
from spark_w2v.text.spellings import codes_of, word_hashes, words_of
from spark_w2v.text.tokenizer import SEGMENT_WORDS
from spark_w2v.text.weights import UNITS, loads_of
from spark_w2v.types import BoolArray, Int32Array, Int64Array

# One row for each occurrence.
WINDOWS = pa.schema(
    [
        pa.field("word", pa.string(), nullable=False),
        # The word, between those to its left and right that have vectors, in text order.
        pa.field("sentence", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
        pa.field("weight", pa.int32(), nullable=False),  # of the sentence in the text, in units (weights.py)
    ]
)
# The same with the ids of the words that have vectors.
FOUND = pa.schema([("word", pa.string()), ("sentence", pa.list_(pa.int32())), ("weight", pa.int32())])
OWN = -1  # id of the rare word itself there
AT_A_TIME = 1 << 14  # windows that a task finds at a time
ALL_HASHES = 1 << 32
NO_HASHES = np.empty(0, np.int64)
DIGESTED = 1 << 16  # windows that go into the digest at a time


def composed_windows(windows: pa.Table) -> pa.Table:
    """Return WINDOWS with words in Unicode's NFC; nothing is copied where all are."""
    batches = [WINDOWS.empty_table(), *map(_composed_batch, windows.to_batches())]
    return pa.concat_tables(batches)


def _composed_batch(batch: pa.RecordBatch) -> pa.Table:
    sentence = batch.column("sentence")
    words, around = composed(batch.column("word")), composed(sentence.values)
    if not words.equals(batch.column("word")) or not around.equals(sentence.values):
        sentences = pa.ListArray.from_arrays(sentence.offsets, around, type=sentence.type)
        batch = pa.RecordBatch.from_arrays([words, sentences, batch.column("weight")], schema=WINDOWS)
    return pa.Table.from_batches([batch])


@dataclass(frozen=True)
class Rare:
    """Which words are rare, and how much of the text around them is kept.

    Args:
        words: large_string, those that have vectors.
        stop: words that never get one, large_string.
        reach: words with vectors to either side.
        hashes: of 2^32, those whose words are kept: a word is kept with all of its windows, or not at all, in whatever
            text it is.
        too_many: word_hashes of words that are left out, as they have too many windows.
    """

    words: pa.Array
    stop: pa.Array
    reach: int
    hashes: int = ALL_HASHES
    too_many: Int64Array = field(default_factory=lambda: NO_HASHES)

    def chosen(self, hashes: Int64Array) -> BoolArray:
        """Return which of some word_hashes are those of words that are kept if they are rare."""
        below: BoolArray = hashes.view(np.uint64) % np.uint64(ALL_HASHES) < np.uint64(self.hashes)
        return below & ~np.isin(hashes, self.too_many)

    def look_up(self, batch: pa.RecordBatch) -> tuple[pa.StringArray, Int64Array, Int32Array, BoolArray]:
        """Return words of rows of SEGMENTS, where those of each row begin, their ids or -1, and which are rare."""
        spellings, begins = words_of(batch)
        large = spellings.cast(self.words.type)
        id_of = pc.fill_null(pc.index_in(large, value_set=self.words), -1).to_numpy()
        is_rare = (id_of < 0) & ~booleans(pc.is_in(large, value_set=self.stop))
        if self.hashes < ALL_HASHES or self.too_many.size:
            is_rare &= self.chosen(word_hashes(spellings))
        return spellings, begins, id_of, is_rare


def _rare_places(codes: Int32Array, lengths: Int32Array, weights: Int32Array, is_rare: BoolArray) -> Int64Array:
    """Return the places of rare words in a segment, in sentences that have a weight."""
    there = is_rare[codes]
    if weights.size:
        there &= np.repeat(weights > 0, lengths)
    return np.flatnonzero(there)


def count_rare(batches: Batches, rare: Rare, earlier: Int64Array = NO_HASHES) -> Batches:
    """Yield the windows that find_windows would find of each word in some rows of SEGMENTS.

    Args:
        earlier: word_hashes of words that have windows already.

    Yields:
        `hash`, of word_hashes; `windows`; `is_earlier`. A word may be several rows.
    """
    for batch in together(batches, len(rare.words)):
        spellings, begins, _, is_rare = rare.look_up(batch)
        windows = np.zeros(len(spellings), np.int64)
        for (begin, end), (codes, lengths, weights) in zip(itertools.pairwise(begins), codes_of(batch), strict=True):
            places = _rare_places(codes, lengths, weights, is_rare[begin:end])
            windows[begin:end] = np.bincount(codes[places], minlength=end - begin)
        there = np.flatnonzero(windows)
        hashes = word_hashes(spellings)[there]
        counted = {"hash": hashes, "windows": windows[there], "is_earlier": np.isin(hashes, earlier)}
        yield pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in counted.items()})


def find_windows(batches: Batches, rare: Rare) -> Batches:
    """Yield the windows of each row of SEGMENTS that has some: its place, and `rows`, an Arrow stream with ids."""
    for batch in together(batches, len(rare.words)):
        spellings, begins, id_of, is_rare = rare.look_up(batch)
        kept, streams = [], []
        rows = zip(itertools.pairwise(begins), codes_of(batch), strict=True)
        for row, ((begin, end), (codes, lengths, weights)) in enumerate(rows):
            places = _rare_places(codes, lengths, weights, is_rare[begin:end])
            if not places.size:
                continue
            ids, sink = id_of[begin:end][codes], pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, FOUND) as writer:
                for first in range(0, places.size, AT_A_TIME):
                    some = places[first : first + AT_A_TIME]
                    sentence, offsets, found = windows_at(some, ids, lengths, rare.reach)
                    columns_of = [
                        spellings.slice(begin, end - begin).take(pa.array(codes[some])),
                        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(found, pa.int32())),
                        pa.array(weights[sentence] if weights.size else np.full(some.size, UNITS, np.int32)),
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(columns_of, schema=FOUND))
            kept.append(row)
            streams.append(sink.getvalue().to_pybytes())
        taken = batch.select(["file", "start", "segment"]).take(pa.array(kept, pa.int32()))
        yield taken.append_column("rows", pa.array(streams, pa.binary()))


def windows_at(
    places: Int64Array, ids: Int32Array, lengths: Int32Array, reach: int
) -> tuple[Int64Array, Int64Array, Int32Array]:
    """Return the windows of rare words of one segment.

    Args:
        places: (W,) of the rare words in the text.
        ids: (N,) of every word of the text, or -1, as a rare one has.
        lengths: (S,) words of each sentence.
        reach: words with an id to either side, of the same sentence, at most.

    Returns:
        (W,) the sentence of each window, (W + 1,) where the windows begin, and the ids in them, OWN for the rare word
        itself.
    """
    known_before = offsets_of(ids >= 0)
    known = ids[ids >= 0]
    ends = np.cumsum(lengths)
    sentence = np.searchsorted(ends, places, side="right")
    middle = known_before[places]
    first = np.maximum(middle - reach, known_before[ends[sentence] - lengths[sentence]])
    last = np.minimum(middle + reach, known_before[ends[sentence]])
    before, offsets = middle - first, offsets_of(last - first + 1)
    number = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))  # of a word within its window
    # The rare word is none of `known`, so those behind it are one place earlier there.
    at = np.repeat(first, np.diff(offsets)) + number - (number > np.repeat(before, np.diff(offsets)))
    own = offsets[:-1] + before
    found = np.take(known, at, mode="clip") if known.size else np.full(at.size, OWN, np.int32)
    found[own] = OWN
    return sentence, offsets, found.astype(np.int32)


def assemble(records: pa.Table, words: pa.Array) -> pa.Table:
    """Return WINDOWS, in text order, of what find_windows yielded.

    Args:
        words: those that have vectors.
    """
    tables = [WINDOWS.empty_table()]
    # Not sort_by, which would copy all rows to one array of at most 2 GB.
    order = [("file", "ascending"), ("start", "ascending"), ("segment", "ascending")]
    for place in pc.sort_indices(records.drop_columns("rows"), order).to_pylist():
        with pa.ipc.open_stream(records["rows"][place].as_buffer()) as stream:
            found = stream.read_all().combine_chunks().to_batches()[0]
        ids = found.column("sentence").values
        own = pc.equal(ids, OWN)
        spelled = words.take(pc.if_else(own, None, ids)).cast(pa.string())
        spelled = pc.replace_with_mask(spelled, own, found.column("word"))
        sentences = pa.ListArray.from_arrays(
            found.column("sentence").offsets, spelled, type=WINDOWS.field("sentence").type
        )
        tables.append(pa.Table.from_arrays([found.column("word"), sentences, found.column("weight")], schema=WINDOWS))
    return pa.concat_tables(tables)


def newest_words(windows: pa.Table, most: int) -> pa.Table:
    """Return the WINDOWS of the words that occurred last, as many words as have no more than some windows in all.

    A word that has more alone is left out, and not all that occurred before it.

    Args:
        windows: the oldest first.
        most: windows.
    """
    if len(windows) <= most:
        return windows
    of_word = windows["word"].dictionary_encode().combine_chunks().indices.to_numpy()
    last = np.zeros(of_word.max() + 1, np.int64)
    np.maximum.at(last, of_word, np.arange(of_word.size))
    counts, newest = np.bincount(of_word), np.argsort(-last)
    newest = newest[counts[newest] <= most]
    fit = np.cumsum(counts[newest]) <= most
    is_kept = np.zeros(last.size, np.bool_)
    is_kept[newest[fit]] = True
    return windows.filter(pa.array(is_kept[of_word]))


def window_counts(windows: pa.Table, weighted: bool) -> pa.Table:
    """Return each word of WINDOWS once, `word`, with its windows, or with their weights, in units: `count`."""
    of_word = windows.select(["word", "weight"]).group_by("word", use_threads=False)
    counts = of_word.aggregate([("weight", "sum" if weighted else "count")])
    return pa.table({"word": counts["word"], "count": counts.column(1).cast(pa.int64())})


def digest_windows(windows: pa.Table) -> bytes:
    """Return a digest of WINDOWS, however they are divided in Arrow's memory."""
    digest = hashlib.sha256()
    for start in range(0, len(windows), DIGESTED):
        some = windows.slice(start, DIGESTED).combine_chunks()
        offsets, spelled = flatten_lists(some["sentence"].combine_chunks())
        digest.update(offsets.tobytes())
        for words in (some["word"].combine_chunks(), spelled):
            digest.update(np.diff(string_offsets(words)).tobytes())
            digest.update(string_bytes(words).tobytes())
        digest.update(some["weight"].to_numpy().tobytes())
    return digest.digest()


def encode_windows(windows: pa.Table, words: pa.Array, weighted: bool) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield ids, sentence lengths and weights of some windows at a time, as a row of ENCODED has them.

    Args:
        words: of the vocabulary.
        weighted: whether the corpus has weights.
    """
    for begin in range(0, len(windows), SEGMENT_WORDS):
        some = windows.slice(begin, SEGMENT_WORDS).combine_chunks()
        offsets, spelled = flatten_lists(some["sentence"].combine_chunks())
        ids = pc.fill_null(pc.index_in(spelled.cast(words.type), value_set=words), -1).to_numpy()
        units = some["weight"].to_numpy().astype(np.int32)
        known = offsets_of(ids >= 0)[offsets]
        lengths = np.diff(known)
        loads = offsets_of(loads_of(lengths, units) if weighted else lengths)
        ids = ids[ids >= 0]
        first = 0
        while first < lengths.size:
            last = max(first + 1, int(np.searchsorted(loads, loads[first] + SEGMENT_WORDS, side="right")) - 1)
            there = lengths[first:last] > 0
            if there.any():
                yield (
                    ids[known[first] : known[last]].astype("<i4").tobytes(),
                    lengths[first:last][there].astype("<i4").tobytes(),
                    units[first:last][there].astype("<i4").tobytes() if weighted else b"",
                )
            first = last
