"""Lines to segments: whole sentences of one file, the unit of random draws."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from spark_w2v.text.arrow_arrays import offsets_of
from spark_w2v.text.counters import BAD_LINES, COUNTERS
from spark_w2v.text.spellings import packed_words
from spark_w2v.text.tokenizer import SEGMENT_WORDS, Lines, Tokenizer, tokenize
from spark_w2v.text.weights import loads_of
from spark_w2v.types import Int32Array, Int64Array

MOST_SEGMENTS = 500  # that go to the JVM together, = 250 kB of small ones

NAMED_PER_SPLIT = 3  # bad lines of each kind
EXCERPT = 1000  # bytes kept of each bad line

BAD_NAMES = ("place", "line", "beginning")
BAD_TYPE = pa.list_(pa.struct(list(zip(BAD_NAMES, (pa.int32(), pa.int64(), pa.binary()), strict=True))))
BAD_PLACES = [COUNTERS.index(name) for name in BAD_LINES]


class Segment(NamedTuple):
    """One row of SEGMENTS, without its place."""

    words: pa.Array
    counts: Int64Array
    codes: bytes
    lengths: bytes
    weights: bytes
    counters: Int64Array
    bad: Sequence[tuple[int, int, bytes]] = ()  # place in COUNTERS, line and its beginning of the first bad lines


class Cutter:
    """Cuts the lines of one split in segments, which do not depend on the batches."""

    def __init__(self) -> None:
        self._parts: list[tuple[pa.Array, Int64Array]] = []
        self._lengths: list[Int64Array] = []
        self._weights: list[Int32Array] = []
        self._words = 0  # with weights, as many as there may be in an epoch
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._bad: list[tuple[int, int, bytes]] = []

    def add(self, lines: Lines, first: int, end: int, weights: Int32Array | None = None) -> Iterator[Segment]:
        """Take in lines first to end - 1, and yield every segment that they complete.

        Args:
            weights: of all lines, in units.
        """
        counters = lines.counters[first:end].sum(axis=0)
        for place in BAD_PLACES:
            if counters[place] and self._counters[place] < NAMED_PER_SPLIT:
                found = first + np.flatnonzero(lines.counters[first:end, place])
                for line in found[: NAMED_PER_SPLIT - self._counters[place]].tolist():
                    beginning = _excerpt(lines.beginnings[line].as_py() or b"")
                    self._bad.append((place, int(self._counters[0]) + line - first, beginning))
        self._counters += counters
        codes = lines.codes[lines.word_offsets[first] : lines.word_offsets[end]]
        lengths = lines.lengths[lines.sentence_offsets[first] : lines.sentence_offsets[end]]
        loads, of_sentence = lengths, None
        if weights is not None:
            of_sentence = np.repeat(weights[first:end], np.diff(lines.sentence_offsets[first : end + 1]))
            loads = loads_of(lengths, of_sentence)
        while len(lengths):
            fit = int(np.searchsorted(np.cumsum(loads), SEGMENT_WORDS - self._words, side="right"))
            if not fit and not self._words:
                fit = 1  # a sentence that is too much alone, as its weight is large
            if fit:
                words = int(lengths[:fit].sum())
                self._parts.append((lines.words, codes[:words]))
                self._lengths.append(lengths[:fit])
                self._words += int(loads[:fit].sum())
                if of_sentence is not None:
                    self._weights.append(of_sentence[:fit])
                    of_sentence = of_sentence[fit:]
                codes, lengths, loads = codes[words:], lengths[fit:], loads[fit:]
            if len(lengths):
                yield self._segment(np.zeros(len(COUNTERS), np.int64))

    def finish(self) -> Segment:
        """Return the last segment of the split, with the counters of all its lines."""
        return self._segment(self._counters)._replace(bad=self._bad)

    def _segment(self, counters: Int64Array) -> Segment:
        parts, lengths, weights = self._parts, self._lengths, self._weights
        self._parts, self._lengths, self._weights, self._words = [], [], [], 0
        if not parts:
            return Segment(pa.array([], pa.string()), np.empty(0, np.int64), b"", b"", b"", counters)
        if len(parts) == 1:
            words, codes = parts[0]
        else:
            joint = pa.concat_arrays([words for words, _ in parts]).dictionary_encode()
            words, code_of = joint.dictionary, joint.indices.to_numpy()
            starts = offsets_of(np.array([len(part) for part, _ in parts]))
            codes = np.concatenate([code_of[codes + start] for (_, codes), start in zip(parts, starts, strict=False)])
        # Codes in order of first appearance, so that they do not depend on the batches.
        encoded = pa.array(codes, pa.int32()).dictionary_encode()
        codes = encoded.indices.to_numpy()
        sentence_lengths, of_sentence = np.concatenate(lengths), b""
        if weights:
            units = np.concatenate(weights)
            # Sums of float64, which are exact: they stay below 2^53.
            weighted = np.bincount(codes, np.repeat(units, sentence_lengths), len(encoded.dictionary))
            counts = weighted.astype(np.int64)
            of_sentence = units.astype("<i4").tobytes()
        else:
            counts = np.bincount(codes, minlength=len(encoded.dictionary)).astype(np.int64, copy=False)
        return Segment(
            words.take(encoded.dictionary),
            counts,
            codes.astype("<i4").tobytes(),
            sentence_lengths.astype("<i4").tobytes(),
            of_sentence,
            counters,
        )


def _excerpt(line: bytes) -> bytes:
    """The beginning of a bad line; or, if it is not UTF-8, the bytes around the first invalid one."""
    try:
        line.decode()
        start = 0
    except UnicodeDecodeError as error:
        start = max(0, error.start - EXCERPT // 4)
    return line[start : start + EXCERPT]


def cut(batches: Iterator[pa.RecordBatch], tokenizer: Tokenizer, files: dict[int, int]) -> Iterator[pa.RecordBatch]:
    """SEGMENTS of some splits, from batches of LINES, which may end anywhere.

    Args:
        files: index of each file among the sorted paths, by the hash of its path. Lines of other files are left out.
    """
    place: tuple[int, int] | None = None
    cutter = Cutter()
    number = words = 0
    waiting: list[tuple[tuple[int, int, int], Segment]] = []

    def keep(segment: Segment) -> None:
        nonlocal number, words
        assert place is not None
        waiting.append(((files[place[0]], place[1], number), segment))
        number += 1
        words += len(segment.codes) // 4

    for batch in batches:
        beginnings = batch.column("beginning") if "beginning" in batch.schema.names else None
        reasons = batch.column("reason").to_numpy().astype(np.int64)
        lines = tokenize(batch.column("value"), tokenizer, reasons, beginnings)
        hashes, starts = batch.column("path_hash").to_numpy(), batch.column("start").to_numpy()
        weights = batch.column("weight").to_numpy(zero_copy_only=False) if "weight" in batch.schema.names else None
        # One task reads several splits, one after the other.
        changes = np.flatnonzero((np.diff(hashes) != 0) | (np.diff(starts) != 0)) + 1
        bounds = [0, *changes.tolist(), len(hashes)]
        for first, end in pairwise(bounds):
            here = (int(hashes[first]), int(starts[first])) if end > first else place
            if here is not None and here[0] not in files:
                continue  # a file that was not there when the files were listed
            if here != place:
                if place is not None:
                    keep(cutter.finish())
                place, cutter, number = here, Cutter(), 0
            for segment in cutter.add(lines, first, end, weights):
                keep(segment)
            # Small segments go together, as a batch costs more than its contents.
            if words >= SEGMENT_WORDS or len(waiting) >= MOST_SEGMENTS:
                yield _rows(waiting)
                waiting, words = [], 0
    if place is not None:
        keep(cutter.finish())
        yield _rows(waiting)


def _rows(segments: Sequence[tuple[tuple[int, int, int], Segment]]) -> pa.RecordBatch:
    """Make rows of SEGMENTS."""
    places, found = zip(*segments, strict=True)
    files, starts, numbers = zip(*places, strict=True)
    packed = [packed_words(segment.words) for segment in found]
    columns = {
        "file": pa.array(files, pa.int32()),
        "start": pa.array(starts, pa.int64()),
        "segment": pa.array(numbers, pa.int32()),
        "words": pa.array([words for words, _ in packed], pa.binary()),
        "ends": pa.array([ends for _, ends in packed], pa.binary()),
        "counts": pa.array([segment.counts.astype("<i8").tobytes() for segment in found], pa.binary()),
        "codes": pa.array([segment.codes for segment in found], pa.binary()),
        "lengths": pa.array([segment.lengths for segment in found], pa.binary()),
        "weights": pa.array([segment.weights for segment in found], pa.binary()),
        "counters": _lists([pa.array(segment.counters) for segment in found]),
        "bad": pa.array(
            [[dict(zip(BAD_NAMES, row, strict=True)) for row in segment.bad] for segment in found],
            BAD_TYPE,
        ),
    }
    return pa.RecordBatch.from_pydict(columns)


def _lists(arrays: Sequence[pa.Array]) -> pa.Array:
    offsets = offsets_of(np.array([len(array) for array in arrays]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.concat_arrays(arrays))
