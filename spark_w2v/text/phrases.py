"""Pairs of words that follow each other: counting them, and joining those that are phrases.

V words, n words of a segment, P parts of phrases.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.text.spellings import ODD, codes_of, packed_words, words_of
from spark_w2v.types import BoolArray, Float64Array, Int32Array, Int64Array

PHRASES = pa.schema(
    [
        ("phrase", pa.string()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("count", pa.int64()),
        ("score", pa.float64()),
        ("pass", pa.int32()),
    ]
)
OF_RARE_WORDS = -1  # key of all pairs with rare words, where they are not told apart
OTHER_ODD = np.uint64(0xC2B2AE3D27D4EB4F)  # of xxHash


class PairCounts(NamedTuple):
    """Pairs and how often they are there.

    A pair of two of V words is first * V + second. One with another word is a negative hash, which tells it from
    others but not what it is, or OF_RARE_WORDS for all of them.

    Args:
        keys: (k,) ascending, unique.
        counts: (k,) > 0.
    """

    keys: Int64Array
    counts: Int64Array


def pair_keys(ids: Int64Array, words: int, hashes: Int64Array | None) -> Int64Array:
    """Return the keys of the pairs at positions 0 to n - 2.

    Args:
        ids: (n,) id of each word; -1 for one that is too rare.
        words: V.
        hashes: (n,) of the words, to tell pairs with rare words apart; None to count these together.
    """
    first, second = ids[:-1], ids[1:]
    are_known = (first >= 0) & (second >= 0)
    keys: Int64Array = first * np.int64(words) + second
    if hashes is None:
        keys[~are_known] = OF_RARE_WORDS
        return keys
    rare = np.flatnonzero(~are_known)
    mixed = hashes[rare].view(np.uint64) * ODD ^ (hashes[rare + 1].view(np.uint64) * OTHER_ODD)
    mixed ^= mixed >> np.uint64(32)
    keys[rare] = -1 - (mixed * ODD >> np.uint64(1)).astype(np.int64)
    return keys


def inside_sentences(lengths: Int32Array) -> BoolArray:
    """Return (n - 1,) whether a word and the next one are in one sentence."""
    inside = np.ones(int(lengths.sum()), np.bool_)
    inside[np.cumsum(lengths) - 1] = False
    return inside[:-1]


def summed(keys: Int64Array, counts: Int64Array | None = None) -> PairCounts:
    """Return each key once, with the sum of its counts.

    Args:
        counts: of each key; None where all are 1. The keys may be changed then.
    """
    if counts is None:
        keys.sort()
    else:
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        del order
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    if counts is None:
        return PairCounts(keys[starts], np.diff(starts, append=keys.size))
    return PairCounts(keys[starts], np.add.reduceat(counts, starts) if starts.size else counts)


def bucket_of(keys: Int64Array, buckets: int) -> Int32Array:
    """Return the bucket of each key, which follows from the key alone; the buckets get about as many keys each."""
    mixed: Int32Array = ((keys.view(np.uint64) * ODD >> np.uint64(32)) % np.uint64(buckets)).astype(np.int32)
    return mixed


def scores(
    score: str, pairs: Int64Array, first: Int64Array, second: Int64Array, least: int, words: int
) -> Float64Array:
    """Return the scores of some pairs, those of gensim's original_scorer or npmi_scorer.

    The former is still to be multiplied by the number of distinct words and pairs.

    Args:
        score: "default" or "npmi".
        pairs, first, second: occurrences of the pairs and of their words.
        least: min_count.
        words: of the whole text.
    """
    if score == "default":
        found: Float64Array = (pairs - least) / (first.astype(np.float64) * second.astype(np.float64))
        return found
    total = float(words)
    p = pairs / total
    with np.errstate(divide="ignore", invalid="ignore"):
        npmi: Float64Array = np.log(p / ((first / total) * (second / total))) / -np.log(p)
    return npmi


class PhraseTable(NamedTuple):
    """Phrases of one pass, to be looked up.

    Args:
        parts: (P,) large_string, the first and second words of phrases, each once.
        keys: (k,) ascending, first * P + second.
        phrases: (k,) large_string.
    """

    parts: pa.LargeStringArray
    keys: Int64Array
    phrases: pa.LargeStringArray

    @classmethod
    def of(cls, first: pa.Array, second: pa.Array, phrases: pa.Array) -> "PhraseTable":
        """Return the table of phrases, whose pairs are unique, in any order."""
        first, second = first.cast(pa.large_string()), second.cast(pa.large_string())
        parts = pa.concat_arrays([first, second]).unique()
        a, b = (pc.index_in(side, value_set=parts).to_numpy().astype(np.int64) for side in (first, second))
        keys = a * len(parts) + b
        order = np.argsort(keys)
        return cls(parts, keys[order], phrases.cast(pa.large_string()).take(pa.array(order)))


def joined_pairs(ids: Int64Array, inside: BoolArray, table: PhraseTable) -> tuple[npt.NDArray[np.intp], Int64Array]:
    """Return the positions of the first words of phrases, ascending, and the place in the table of each.

    Of phrases that overlap the one that begins first is taken, as in gensim.

    Args:
        ids: (n,) each word's place in table.parts; -1 for one that is in no phrase.
        inside: (n - 1,) as inside_sentences returns it.
    """
    candidates = np.flatnonzero(inside & (ids[:-1] >= 0) & (ids[1:] >= 0))
    keys = ids[candidates] * np.int64(len(table.parts)) + ids[candidates + 1]
    places = np.minimum(np.searchsorted(table.keys, keys), table.keys.size - 1)
    hits = table.keys[places] == keys
    starts, places = candidates[hits], places[hits]
    # Phrases that begin at consecutive words overlap: every other one is taken.
    begins = np.diff(starts, prepend=-2) > 1
    number = np.arange(starts.size)
    taken = (number - np.maximum.accumulate(np.where(begins, number, 0))) % 2 == 0
    return starts[taken], places[taken]


def join_batch(batch: pa.RecordBatch, table: PhraseTable) -> pa.RecordBatch:
    """Return rows of SEGMENTS in which the pairs of a table are one word each."""
    spellings, begins = words_of(batch)
    found = pc.index_in(spellings.cast(table.parts.type), value_set=table.parts)
    id_of = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    columns: dict[str, list[bytes]] = {"words": [], "ends": [], "counts": [], "codes": [], "lengths": []}
    for (begin, end), (codes, lengths, units) in zip(pairwise(begins.tolist()), codes_of(batch), strict=True):
        words = spellings[begin:end]
        if codes.size:
            starts, places = joined_pairs(id_of[begin:end][codes], inside_sentences(lengths), table)
            words, codes, lengths = _joined(words, codes, lengths, starts, table.phrases.take(pa.array(places)))
        weights = np.repeat(units, lengths) if units.size else None
        counts = np.bincount(codes, weights, len(words)).astype("<i8")
        packed = (*packed_words(words), counts.tobytes(), codes.tobytes(), lengths.tobytes())
        for name, value in zip(columns, packed, strict=True):
            columns[name].append(value)
    for name, values in columns.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(values, pa.binary()))
    return batch


def _joined(
    words: pa.Array, codes: Int32Array, lengths: Int32Array, starts: npt.NDArray[np.intp], phrases: pa.Array
) -> tuple[pa.Array, Int32Array, Int32Array]:
    """Return words, codes and lengths of a segment with phrases, words in order of first appearance.

    Args:
        starts: positions of the first words of the phrases.
        phrases: spelling of each.
    """
    # A phrase may be spelled as a word that is there already.
    joint = pa.concat_arrays([words, phrases.cast(words.type)]).dictionary_encode()
    code_of = joint.indices.to_numpy()
    everywhere = code_of[codes]
    everywhere[starts] = code_of[len(words) :]
    second = np.zeros(codes.size, np.bool_)
    second[starts + 1] = True
    encoded = pa.array(everywhere[~second], pa.int32()).dictionary_encode()
    before = np.concatenate([[0], np.cumsum(second)])
    sentence_ends = np.concatenate([[0], np.cumsum(lengths)])
    left = lengths - np.diff(before[sentence_ends])
    found = joint.dictionary.take(encoded.dictionary)
    return found, encoded.indices.to_numpy().astype("<i4"), left.astype("<i4")
