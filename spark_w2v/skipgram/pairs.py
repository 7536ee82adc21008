"""Which words train together, and in which bucket.

n words of some sentences, P pairs, B blocks.

A pair is one unsigned 64-bit number: slice, center block, context block, center row, context row, from the highest
bits down. So sorting plain numbers brings pairs to their buckets, and there to the order by center that the kernel
wants, whatever order they arrived in.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.parameters import Blocks
from spark_w2v.skipgram.sampling import HELD_OUT, PAIRS, generator
from spark_w2v.skipgram.scatter import counting_sort
from spark_w2v.types import BoolArray, Float32Array, Float64Array, Int32Array, UInt64Array

Keys = UInt64Array
Numbers = npt.NDArray[np.unsignedinteger]  # with what is above the rows, or without


COUNTED = 4  # pairs per row of a bucket from which on counting may be cheaper than sorting
SLOW = 12e-9  # seconds per number
SEARCHED = 4  # pairs per center row of a bucket from which on centers are searched for in the pairs


class Runs(NamedTuple):
    """Consecutive pairs of one center each, among sorted pairs; centers rise, none is there twice."""

    center: Int32Array  # (r,) center rows
    first: Int32Array  # (r,) place of each one's first pair
    pairs: Int32Array  # (r,) how many, > 0

    def among(self, chosen: BoolArray) -> "Runs":
        """Some of them."""
        return Runs(*(column[chosen] for column in self))


@dataclass(frozen=True)
class PairCodec:
    """How many bits of a pair's number each part has.

    Args:
        row: bits of a row within its block.
        block: bits of a block.
    """

    row: int
    block: int

    @classmethod
    def of(cls, blocks: Blocks) -> "PairCodec":
        """The codec for these blocks. 2 * (row + block) bits; with 31 bits for a word id, 62 at most."""
        return cls(blocks.bits, (blocks.count - 1).bit_length())

    @property
    def dtype(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
        """Of the rows of a pair, without slice and blocks."""
        return np.dtype(np.uint32) if 2 * self.row <= 32 else np.dtype(np.uint64)

    def shortened(self, pairs: Keys) -> Numbers:
        """The same pairs in as few bytes as hold their rows; what is left of blocks is the same in all of a bucket."""
        short: Numbers = pairs.astype(self.dtype)
        return short

    def sort(self, pairs: Numbers, centers: int, contexts: int) -> Numbers:
        """The pairs of one bucket, sorted; the array that is given may be changed.

        Args:
            pairs: (P,) in any order.
            centers, contexts: rows.
        """
        if pairs.size < COUNTED * max(centers, contexts) or not is_sorting_slow():
            pairs.sort()
            return pairs
        # By context, then by center: the second sort keeps the order of the first.
        row, mask = pairs.dtype.type(self.row), pairs.dtype.type((1 << self.row) - 1)
        above = pairs[0] >> (row + row) << (row + row) if 2 * self.row < 8 * pairs.itemsize else pairs.dtype.type(0)
        context, center = (pairs & mask).astype(np.int32), (pairs >> row & mask).astype(np.int32)
        both = above | center.astype(pairs.dtype) << row | context.astype(pairs.dtype)
        _, both = counting_sort(context, contexts, both)
        ordered: Numbers = counting_sort((both >> row & mask).astype(np.int32), centers, both)[1]
        return ordered

    def contexts(self, pairs: Numbers) -> Int32Array:
        """Context row of each pair, whatever stands in the higher bits."""
        return (pairs & pairs.dtype.type((1 << self.row) - 1)).astype(np.int32)

    def runs(self, pairs: Numbers, centers: int, frequent: int) -> tuple[Runs, Runs]:
        """The pairs of each center with the first `frequent` context rows, and those with the others.

        Args:
            pairs: (P,) sorted, P > 0, and all of one bucket: the higher bits are the same in all of them.
            centers: rows.
            frequent: context rows.
        """
        row, both = pairs.dtype.type(self.row), pairs.dtype.type(2 * self.row)
        if pairs.size < SEARCHED * centers:
            # Of few pairs, no pass over all rows: where the center changes, or the kind of context.
            center = pairs >> row
            changes = center[1:] != center[:-1]
            if cut := frequent < 1 << self.row:
                other = self.contexts(pairs) >= frequent
                changes |= other[1:] != other[:-1]
            edges = np.zeros(np.count_nonzero(changes) + 2, np.int32)
            edges[1:-1] = np.flatnonzero(changes)
            edges[1:-1] += 1
            edges[-1] = pairs.size
            first: Int32Array = edges[:-1]
            rows = center[first].astype(np.int32) & np.int32((1 << self.row) - 1)
            found = Runs(rows, first, np.diff(edges))
            if not cut:
                return found, Runs(*(column[:0] for column in found))
            kinds = other[first]
            return found.among(~kinds), found.among(kinds)
        above = pairs[0] >> both << both if 2 * self.row < 8 * pairs.itemsize else pairs.dtype.type(0)
        least = above | np.arange(centers, dtype=pairs.dtype) << row  # of each center
        begins = np.searchsorted(pairs, least)
        ends = np.append(begins[1:], pairs.size)
        # Sums that would not fit the type are those that are not wanted.
        middle = np.searchsorted(pairs, least + pairs.dtype.type(frequent)) if frequent < 1 << self.row else ends
        return _runs_between(begins, middle), _runs_between(middle, ends)


@cache
def is_sorting_slow() -> bool:
    """Whether NumPy sorts slowly on this processor, which decides how pairs are sorted, and no bit of the result.

    With AVX-512 NumPy sorts 32-bit numbers at 3 ns each on Intel's processors, and at 30 on AMD's Zen 4, whose
    instruction that it relies on is slow; with AVX2 at 5.
    """
    numbers = np.arange(1 << 15, dtype=np.uint32) * np.uint32(2654435761)
    best = 1.0
    for _ in range(3):
        begun = time.perf_counter()
        np.sort(numbers)
        best = min(best, time.perf_counter() - begun)
    return best > SLOW * numbers.size


def _runs_between(first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]) -> Runs:
    center = np.flatnonzero(last > first)
    return Runs(center.astype(np.int32), first[center].astype(np.int32), (last - first)[center].astype(np.int32))


def keep_words(
    ids: Int32Array, lengths: Int32Array, keep: Float32Array, rng: np.random.Generator, out: BoolArray | None = None
) -> tuple[Int32Array, Int32Array]:
    """Skip occurrences of frequent words.

    Args:
        ids: (n,) words of all sentences, one after the other.
        lengths: words of each sentence; sums to n.
        keep: (V,) probability that an occurrence stays.
        out: (n,) words that do not stay in any case.

    Returns:
        (m,) the words that stay and (m,) the sentence of each.
    """
    sentence = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
    stays = rng.random(ids.size, dtype=np.float32) < keep[ids]
    if out is not None:
        stays &= ~out
    kept = np.flatnonzero(stays)  # indexing with the mask itself takes three times as long
    return ids[kept], sentence[kept]


def draw_reach(words: int, window: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """How far each center looks this time: 1 to window, all equally likely."""
    return rng.integers(1, window + 1, words, dtype=np.int16)


def looks(
    sentence: Int32Array, reach: npt.NDArray[np.int16], window: int
) -> Iterator[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Which words are a pair, by distance d: all i that look as far as word i + d, and all that are looked back at.

    Args:
        sentence: (m,) sentence of each word, rising.
        reach: (m,) how far each word looks as a center.
        window: largest reach.

    Yields:
        d, and places in (0, m - d).
    """
    for distance in range(1, min(window, sentence.size - 1) + 1):
        together = sentence[distance:] == sentence[:-distance]
        if not together.any():
            return
        far = reach >= distance
        yield distance, np.flatnonzero(together & far[:-distance]), np.flatnonzero(together & far[distance:])


def number_pairs(
    words: Int32Array,
    sentence: Int32Array,
    reach: npt.NDArray[np.int16],
    window: int,
    part: UInt64Array,
    blocks: Blocks,
) -> Keys:
    """All pairs of some sentences as numbers, unsorted.

    Args:
        words, sentence, reach: (m,) as above.
        part: (m,) slice of the epoch that each center is trained in.

    Returns:
        (P,) numbers.
    """
    codec = PairCodec.of(blocks)
    rows, each = np.uint64(codec.row), np.uint64(codec.block)
    context = blocks.numbers[words]
    center = context << rows
    if blocks.count > 1:
        row = context & np.uint64((1 << codec.row) - 1)
        center = (context - row) << each | row << rows
    center |= part << (rows + rows + each + each)
    found = [np.empty(0, np.uint64)]
    for d, forth, back in looks(sentence, reach, window):
        found.append((center[:-d] | context[d:])[forth])
        found.append((center[d:] | context[:-d])[back])
    return np.concatenate(found)


@dataclass(frozen=True)
class PairSampler:
    """How pairs are drawn from a segment of text, again in each epoch.

    Args:
        keep: (V,) probability that an occurrence of a word is trained on.
        window: largest reach.
        seed: of the run.
        held_out: share of the sentences that is never trained on.
        blocks: where a pair belongs.
    """

    keep: Float32Array
    window: int
    seed: int
    held_out: float
    blocks: Blocks

    def held_out_sentences(self, place: tuple[int, ...], sentences: int) -> BoolArray:
        """(sentences,) which of a segment's sentences are held out: the same in every epoch.

        Args:
            place: file, start and number of the segment.
        """
        return generator(self.seed, HELD_OUT, *place).random(sentences) < self.held_out

    def pairs(
        self,
        place: tuple[int, ...],
        ids: Int32Array,
        lengths: Int32Array,
        epoch: int,
        edges: Float64Array,
        only: int | None = None,
    ) -> tuple[Keys, int]:
        """The pairs of a segment in one epoch, unsorted, and how many words they come from.

        Args:
            ids, lengths: the segment, as in keep_words.
            edges: where the epoch is cut in slices, from 0 to 1; a sentence falls whole into one of them.
            only: the one slice that is wanted, the same pairs as in the sampler of all.
        """
        rng = generator(self.seed, PAIRS, epoch, *place)
        out = np.repeat(self.held_out_sentences(place, lengths.size), lengths) if self.held_out else None
        words, sentence = keep_words(ids, lengths, self.keep, rng, out)
        reach = draw_reach(words.size, self.window, rng)
        part = np.searchsorted(edges, rng.random(lengths.size), side="right").astype(np.uint64) - np.uint64(1)
        part = part[sentence]
        if only is not None:
            here = part == only
            words, sentence, reach, part = words[here], sentence[here], reach[here], part[here]
        return number_pairs(words, sentence, reach, self.window, part, self.blocks), words.size
