"""Which words train together, and in which bucket.

n words of some sentences, P pairs, B blocks.

A pair is one unsigned 64-bit number: slice, center block, context block, center row, context row, from the highest
bits down. A slice is what one sweep of `blocks` or one sync of `replicas` trains on. The upper bits say to which bucket
a pair goes; sorted as plain numbers, the pairs of a bucket are in the order by center that the kernel needs, whatever
order they arrived in.
"""

import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spark_w2v.skipgram.parameters import Blocks
from spark_w2v.skipgram.sampling import HELD_OUT, PAIRS, copy_in_pieces, draw_copies, generator
from spark_w2v.skipgram.scatter import sort_places
from spark_w2v.types import BoolArray, Float32Array, Float64Array, Int32Array, UInt64Array

PairArray = npt.NDArray[np.unsignedinteger]  # pairs as numbers, with slice and blocks above the rows or without


COUNTED = 4  # pairs per row of a bucket; from here on counting may be cheaper than sorting
PART = 1 << 20  # pairs of a segment that are drawn at a time; with a window of 5 it has some 1.5 million in all
STORED_BITS = 32  # of a pair on its way to the task that trains it
MOST_STRIPS = 1 << 19  # of an epoch: each record has the sizes of all those of its task
SLOW_SORT = 12e-9  # seconds per number
SEARCHED = 4  # pairs per center row of a bucket; from here on centers are searched for in the pairs


class Runs(NamedTuple):
    """Runs of consecutive pairs of one center, among sorted pairs. Centers are ascending and unique."""

    center: Int32Array  # (r,) center rows
    first: Int32Array  # (r,) position of the first pair of each run
    pairs: Int32Array  # (r,) pairs of each run, > 0

    def among(self, chosen: BoolArray) -> "Runs":
        """Return the runs for which `chosen`, (r,), is true."""
        return Runs(*(column[chosen] for column in self))


@dataclass(frozen=True)
class PairCodec:
    """Number of bits of each field of a pair's number.

    Args:
        row: bits of a row within its block.
        block: bits of a block.
        strip: number of the highest bits of a center row that are not stored with a pair, as its place tells them. The
            pairs of a bucket are stored strip by strip: those of the first so many center rows, of the next ones, and
            so on. So 4 bytes hold a pair of blocks of more than 65,536 rows.
    """

    row: int
    block: int
    strip: int = 0

    @classmethod
    def of(cls, blocks: Blocks, sweeps: int | None = None) -> "PairCodec":
        """Return the codec for these blocks: 2 * (row + block) bits; with 31 bits for a word id, at most 62.

        Args:
            sweeps: of an epoch whose pairs are stored; None where none are.
        """
        row, block = blocks.bits, (blocks.count - 1).bit_length()
        strip = max(0, 2 * row - STORED_BITS)
        if sweeps is None or sweeps << 2 * block + strip > MOST_STRIPS:
            strip = 0
        return cls(row, block, strip)

    @property
    def dtype(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
        """Type of the rows of a pair, without slice and blocks."""
        return np.dtype(np.uint32) if 2 * self.row <= 32 else np.dtype(np.uint64)

    @property
    def stored(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
        """Type of the rows of a pair without the strip."""
        return np.dtype(np.uint32) if self.strip else self.dtype

    def restore(self, pairs: PairArray, sizes: npt.NDArray[np.integer[Any]]) -> PairArray:
        """Return the rows of stored pairs, (P,), in the type `dtype`.

        Args:
            sizes: (runs, strips) number of pairs of each strip, run by run.
        """
        if not self.strip:
            return pairs
        strips = np.arange(sizes.shape[1], dtype=np.uint64) << np.uint64(STORED_BITS)
        whole: PairArray = np.repeat(np.tile(strips, len(sizes)), sizes.ravel())
        whole |= pairs
        return whole

    def shorten(self, pairs: UInt64Array) -> PairArray:
        """Return the pairs in as few bytes as hold their rows; bits of the blocks, alike in a bucket, may remain."""
        short: PairArray = pairs.astype(self.dtype)
        return short

    def sort(self, pairs: PairArray, centers: int, contexts: int) -> PairArray:
        """Return the pairs of one bucket, sorted. The given array may be changed.

        Args:
            pairs: (P,) in any order.
            centers, contexts: number of rows of the center block and of the context block.
        """
        if pairs.size < COUNTED * max(centers, contexts) or not is_sorting_slow():
            pairs.sort()
            return pairs
        row, mask = pairs.dtype.type(self.row), pairs.dtype.type((1 << self.row) - 1)
        above = pairs[0] >> (row + row) << (row + row) if 2 * self.row < 8 * pairs.itemsize else pairs.dtype.type(0)
        center, context = np.empty((2, pairs.size), np.int32)
        np.bitwise_and(pairs, mask, out=context, casting="unsafe")
        pairs >>= row
        np.bitwise_and(pairs, mask, out=center, casting="unsafe")
        begins = sort_places(center, context, (centers, contexts), pairs.view(np.int32)[: pairs.size])
        # Sums of the steps from one center to the next, which take no more memory, unlike np.repeat.
        present = np.flatnonzero(np.diff(begins))
        pairs[:] = 0
        pairs[begins[present]] = np.diff(present, prepend=0).astype(pairs.dtype) << row
        pairs[0] |= above
        np.cumsum(pairs, out=pairs)
        pairs |= context.view(np.uint32)
        return pairs

    def centers(self, pairs: PairArray) -> Int32Array:
        """Return the (P,) center rows of the pairs, whatever the higher bits are."""
        return (pairs >> pairs.dtype.type(self.row) & pairs.dtype.type((1 << self.row) - 1)).astype(np.int32)

    def contexts(self, pairs: PairArray) -> Int32Array:
        """Return the (P,) context rows of the pairs, whatever the higher bits are."""
        return (pairs & pairs.dtype.type((1 << self.row) - 1)).astype(np.int32)

    def runs(self, pairs: PairArray, centers: int, frequent: int) -> tuple[Runs, Runs]:
        """Return the runs of pairs with the first `frequent` context rows, and the runs of pairs with the others.

        Args:
            pairs: (P,) sorted, P > 0, all of one bucket: the higher bits are the same in all of them.
            centers: number of center rows.
            frequent: number of context rows.
        """
        row, both = pairs.dtype.type(self.row), pairs.dtype.type(2 * self.row)
        if pairs.size < SEARCHED * centers:
            # With few pairs, a pass over all rows would cost more than one over the pairs: find where the center, or
            # the kind of context, changes.
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
        # The condition skips the sums that would overflow the type.
        middle = np.searchsorted(pairs, least + pairs.dtype.type(frequent)) if frequent < 1 << self.row else ends
        return _runs_between(begins, middle), _runs_between(middle, ends)


@cache
def is_sorting_slow() -> bool:
    """Return whether NumPy sorts slowly on this processor. This decides how pairs are sorted, not the result.

    With AVX-512 NumPy takes 3 ns per 32-bit number on Intel's processors, but 30 ns on AMD's Zen 4, where the
    instruction that it relies on is slow. With AVX2 it takes 5 ns.
    """
    numbers = np.arange(1 << 15, dtype=np.uint32) * np.uint32(2654435761)
    return min(timeit.repeat(lambda: np.sort(numbers), number=1, repeat=3)) > SLOW_SORT * numbers.size


def _runs_between(first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]) -> Runs:
    center = np.flatnonzero(last > first)
    return Runs(center.astype(np.int32), first[center].astype(np.int32), (last - first)[center].astype(np.int32))


def keep_words(
    ids: Int32Array, lengths: Int32Array, keep: Float32Array, rng: np.random.Generator, out: BoolArray | None = None
) -> tuple[Int32Array, Int32Array]:
    """Skip occurrences of frequent words at random.

    Args:
        ids: (n,) words of all sentences, one after the other.
        lengths: words of each sentence; sums to n.
        keep: (V,) probability that an occurrence stays.
        out: (n,) True where a word is left out in any case.

    Returns:
        (m,) words that stay, (m,) sentence of each.
    """
    sentence = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
    stays = rng.random(ids.size, dtype=np.float32) < keep[ids]
    if out is not None:
        stays &= ~out
    kept = np.flatnonzero(stays)  # indexing with the mask itself takes three times as long
    return ids[kept], sentence[kept]


def draw_reach(words: int, window: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Draw the reach of each center, (words,): 1 to window, all equally likely."""
    return rng.integers(1, window + 1, words, dtype=np.int16)


def pairs_by_distance(
    sentence: Int32Array, reach: npt.NDArray[np.int16], window: int
) -> Iterator[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield the pairs of words at each distance d.

    Args:
        sentence: (m,) sentence of each word, ascending.
        reach: (m,) reach of each word as a center.
        window: largest reach.

    Yields:
        d; the positions i in [0, m - d) where center i reaches context i + d; and those where center i + d reaches
        context i.
    """
    for distance in range(1, min(window, sentence.size - 1) + 1):
        together = sentence[distance:] == sentence[:-distance]
        if not together.any():
            return
        far = reach >= distance
        yield distance, np.flatnonzero(together & far[:-distance]), np.flatnonzero(together & far[distance:])


def pairs_of_sentences(
    sentence: Int32Array, rank: Float64Array, most: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield pairs of words of one sentence, each as likely as any other, whatever the order of the words.

    The words of a sentence are put in a ring in random order. Every center is paired with its neighbors in the ring,
    the nearest first: with all other words, or with `most` of them.

    Args:
        sentence: (m,) sentence of each word, ascending.
        rank: (m,) random numbers, which order the words of each ring.
        most: contexts of a center.

    Yields:
        Positions of centers and of their contexts, one context of each center at a time.
    """
    order = np.lexsort((rank, sentence))
    begins = np.flatnonzero(np.diff(sentence, prepend=-1))
    sizes = np.diff(begins, append=sentence.size)
    size, begin = np.repeat(sizes, sizes), np.repeat(begins, sizes)
    place = np.arange(sentence.size) - begin
    for number in range(1, min(most, sizes.max(initial=0) - 1) + 1):
        # To one side and to the other in turn: 1, -1, 2, -2, ..., which is each other word once.
        step = (number + 1) // 2 if number % 2 else -(number // 2)
        centers = np.flatnonzero(size > number)
        contexts = place[centers] + step
        contexts += size[centers] * ((contexts < 0).astype(np.intp) - (contexts >= size[centers]))
        yield order[centers], order[begin[centers] + contexts]


def number_pairs(
    words: Int32Array,
    sentence: Int32Array,
    drawn: npt.NDArray[Any],
    window: int,
    slices: UInt64Array,
    blocks: Blocks,
    max_contexts: int = 0,
) -> Iterator[UInt64Array]:
    """Yield all pairs of some sentences as numbers, unsorted, in parts of little more than PART.

    Args:
        words, sentence: (m,) as keep_words returns them.
        drawn: (m,) reach as draw_reach returns it, or with max_contexts the rank for pairs_of_sentences.
        slices: (m,) slice of the epoch in which each center is trained.
        max_contexts: contexts of a center among all words of its sentence; 0 for those of a window.

    Yields:
        (P,) numbers.
    """
    codec = PairCodec.of(blocks)
    rows, each = np.uint64(codec.row), np.uint64(codec.block)
    context = blocks.numbers[words]
    center = context << rows
    if blocks.count > 1:
        row = context & np.uint64((1 << codec.row) - 1)
        center = (context - row) << each | row << rows
    center |= slices << (rows + rows + each + each)
    if max_contexts:
        steps = (center[of] | context[at] for of, at in pairs_of_sentences(sentence, drawn, max_contexts))
    else:
        # Of the chosen places alone: with one long sentence among short ones, few are chosen at most distances.
        steps = (
            center[at:][places] | context[to:][places]
            for d, forth, back in pairs_by_distance(sentence, drawn, window)
            for at, to, places in ((0, d, forth), (d, 0, back))
        )
    found, size = [np.empty(0, np.uint64)], 0
    for numbers in steps:
        found.append(numbers)
        size += numbers.size
        if size >= PART:
            part, found, size = np.concatenate(found), [np.empty(0, np.uint64)], 0
            yield part
    yield np.concatenate(found)


@dataclass(frozen=True)
class PairSampler:
    """Parameters of drawing pairs from segments of text. Each epoch draws again.

    Args:
        keep: (V,) probability that an occurrence of a word is trained on.
        window: largest reach.
        seed: of the run.
        held_out: share of the sentences that are never trained on.
        blocks: block and row of each word.
        max_contexts: contexts of a center, which are drawn from its whole sentence; 0 for those of a window.
        shrinks: whether the reach of a center is drawn, and not always the largest.
    """

    keep: Float32Array
    window: int
    seed: int
    held_out: float
    blocks: Blocks
    max_contexts: int = 0
    shrinks: bool = True

    def held_out_sentences(self, place: tuple[int, ...], sentences: int) -> BoolArray:
        """Return (sentences,) True for the sentences of a segment that are held out, in every epoch the same.

        Args:
            place: file, start and number of the segment.
        """
        return generator(self.seed, HELD_OUT, *place).random(sentences) < self.held_out

    def draw(self, words: int, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return what decides on the contexts of each center, (words,): its reach, or its rank in its sentence."""
        if self.max_contexts:
            return rng.random(words)
        return draw_reach(words, self.window, rng) if self.shrinks else np.full(words, self.window, np.int16)

    def pairs(self, *segment: Any, **options: Any) -> tuple[UInt64Array, int]:
        """Return all that `parts` yields of the same arguments, at once."""
        parts, words = zip(*self.parts(*segment, **options), strict=True)
        return np.concatenate(parts), sum(words)

    def parts(
        self,
        place: tuple[int, ...],
        ids: Int32Array,
        lengths: Int32Array,
        epoch: int,
        edges: Float64Array,
        only: int | None = None,
        weights: Float64Array | None = None,
    ) -> Iterator[tuple[UInt64Array, int]]:
        """Yield the pairs of a segment in one epoch, unsorted, and the number of words that they come from.

        There are several parts where a wide window or large weights make many pairs; words count with their first.

        Args:
            place: file, start and number of the segment; of a replica's share of it, the replica too.
            ids, lengths: the segment, as in keep_words.
            edges: (slices + 1,) where the epoch is cut in slices, from 0 to 1. A whole sentence is in one slice.
            only: the one slice to return, with the same pairs as when all are returned; None for all.
            weights: of each sentence; None or empty where all are 1.
        """
        rng = generator(self.seed, PAIRS, epoch, *place)
        held_out = self.held_out_sentences(place, lengths.size) if self.held_out else None
        pieces = iter([(ids, lengths)])
        if weights is not None and weights.size:
            copies = draw_copies(weights, rng)
            if held_out is not None:
                copies[held_out], held_out = 0, None
            pieces = copy_in_pieces(ids, lengths, copies)
        for ids, lengths in pieces:
            out = None if held_out is None else np.repeat(held_out, lengths)
            words, sentence = keep_words(ids, lengths, self.keep, rng, out)
            drawn = self.draw(words.size, rng)
            slices = np.searchsorted(edges, rng.random(lengths.size), side="right").astype(np.uint64) - np.uint64(1)
            slices = slices[sentence]
            if only is not None:
                here = slices == only
                words, sentence, drawn, slices = words[here], sentence[here], drawn[here], slices[here]
            parts = number_pairs(words, sentence, drawn, self.window, slices, self.blocks, self.max_contexts)
            for number, part in enumerate(parts):
                yield part, 0 if number else words.size
