"""Lines to segments: whole sentences of one file, the unit of random draws."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from spark_w2v.text.arrow_arrays import offsets_of
from spark_w2v.text.counters import BAD_LINES, COUNTERS
from spark_w2v.text.tokenizer import SEGMENT_WORDS, Lines, Tokenizer, tokenize
from spark_w2v.types import Int64Array

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
    counters: Int64Array
    bad: Sequence[tuple[int, int, bytes]] = ()  # place in COUNTERS, line and its beginning of the first bad lines


class Cutter:
    """Cuts the lines of one split in segments, which do not depend on the batches."""

    def __init__(self) -> None:
        self._parts: list[tuple[pa.Array, Int64Array]] = []
        self._lengths: list[Int64Array] = []
        self._words = 0
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._bad: list[tuple[int, int, bytes]] = []

    def add(self, lines: Lines, first: int, end: int) -> Iterator[Segment]:
        """Take in lines first to end - 1, and yield every segment that they complete."""
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
        while len(lengths):
            ends = np.cumsum(lengths)
            fit = int(np.searchsorted(ends, SEGMENT_WORDS - self._words, side="right"))
            if fit:
                words = int(ends[fit - 1])
                self._parts.append((lines.words, codes[:words]))
                self._lengths.append(lengths[:fit])
                self._words += words
                codes, lengths = codes[words:], lengths[fit:]
            if len(lengths):
                yield self._segment(np.zeros(len(COUNTERS), np.int64))

    def finish(self) -> Segment:
        """Return the last segment of the split, with the counters of all its lines."""
        return self._segment(self._counters)._replace(bad=self._bad)

    def _segment(self, counters: Int64Array) -> Segment:
        parts, lengths = self._parts, self._lengths
        self._parts, self._lengths, self._words = [], [], 0
        if not parts:
            return Segment(pa.array([], pa.string()), np.empty(0, np.int64), b"", b"", counters)
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
        counts = np.bincount(codes, minlength=len(encoded.dictionary))
        return Segment(
            words.take(encoded.dictionary),
            counts.astype(np.int64),
            codes.astype("<i4").tobytes(),
            np.concatenate(lengths).astype("<i4").tobytes(),
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
            for segment in cutter.add(lines, first, end):
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
    columns = {
        "file": pa.array(files, pa.int32()),
        "start": pa.array(starts, pa.int64()),
        "segment": pa.array(numbers, pa.int32()),
        "words": _lists([segment.words for segment in found]),
        "counts": _lists([pa.array(segment.counts) for segment in found]),
        "codes": pa.array([segment.codes for segment in found], pa.binary()),
        "lengths": pa.array([segment.lengths for segment in found], pa.binary()),
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
