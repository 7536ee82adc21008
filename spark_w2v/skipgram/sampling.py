"""Probabilities and random draws: subsampling of frequent words, noise words, seeded generators.

V words.
"""

from collections.abc import Iterator

import numpy as np

from spark_w2v.types import Float32Array, Float64Array, Int32Array, Int64Array

# Words of sentences that are copied at a time, = 40 MB while their pairs are drawn. A segment has fewer words, copies
# and all, but one of a single sentence that has more with its weight.
COPIED = 1 << 18


def frequent_share(subsample: float, total: int) -> float:
    """Return t for a corpus of `total` words: `subsample`, or the share of a word that occurs once if that is larger.

    In a text of fewer than 1/t words every word would count as frequent, and nearly all of the text would be skipped.
    """
    return max(subsample, 1.0 / max(total, 1)) if subsample else 0.0


def keep_probability(counts: Int64Array, total: int, subsample: float) -> Float32Array:
    """Return the probability that one occurrence of each word is trained on.

    Args:
        counts: (V,) occurrences in the corpus; 0 is treated as 1, so that the word is kept whenever it occurs.
        total: occurrences of all words of the vocabulary.
        subsample: t of Mikolov et al. 2013; 0 keeps everything.

    Returns:
        (V,) in (0, 1]. The formula is the released word2vec.c's, sqrt(t/f) + t/f, not the paper's 1 - sqrt(t/f).
    """
    if not subsample:
        return np.ones(counts.size, np.float32)
    ratio = subsample * total / np.maximum(counts, 1).astype(np.float64)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0).astype(np.float32)


def draw_copies(weights: Float64Array, rng: np.random.Generator) -> Int64Array:
    """Draw how often each sentence is there in an epoch, (S,): as often as its weight says, on average.

    Args:
        weights: (S,). A whole number is met exactly; of another the fraction is the probability of one more.
    """
    return np.floor(weights + rng.random(weights.size)).astype(np.int64)


def copy_sentences(ids: Int32Array, lengths: Int32Array, copies: Int64Array) -> tuple[Int32Array, Int32Array]:
    """Return ids and lengths of sentences, each as often as it is to be there, one copy after the other.

    Args:
        ids: (n,) words of all sentences.
        lengths: (S,) words of each sentence.
        copies: (S,) of each sentence.
    """
    starts = np.repeat(np.cumsum(lengths, dtype=np.int64) - lengths, copies)
    copied = np.repeat(lengths, copies)
    ends = np.cumsum(copied, dtype=np.int64)
    # Counts up from the first word of each copy.
    places = np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - ends + copied, copied)
    return ids[places], copied


def copy_in_pieces(
    ids: Int32Array, lengths: Int32Array, copies: Int64Array, most: int = COPIED
) -> Iterator[tuple[Int32Array, Int32Array]]:
    """Yield what copy_sentences returns in pieces of whole sentences, of `most` words and less than a sentence more."""
    of = np.repeat(np.arange(lengths.size), copies)
    ends = np.cumsum(lengths[of], dtype=np.int64)
    cuts = np.flatnonzero(np.diff((ends - 1) // most)) + 1
    for some in np.split(of, cuts):
        yield copy_sentences(ids, lengths, np.bincount(some, minlength=lengths.size))


def noise_distribution(counts: Int64Array, exponent: float) -> Float64Array:
    """Return the probability of each word as a noise word: count^exponent (0.75 in Mikolov et al. 2013), normalized.

    A word that does not occur is never noise, whatever the exponent: no positive pair would ever pull it back.

    Returns:
        (V,) sums to 1.
    """
    weights: Float64Array = np.maximum(counts, 1).astype(np.float64) ** exponent
    weights[counts == 0] = 0.0
    weights /= weights.sum()
    return weights


def draw_noise_sets(
    edges: Float64Array, first: int, last: int, sets: int, words: int, rng: np.random.Generator
) -> Int32Array:
    """Draw sets of noise words. Over all sets, a row is drawn as often as expected, to within 1.

    A systematic sample: one random offset and equal steps through the cumulative distribution. Its points are
    distributed over the sets so that each set is a systematic sample too, with its words in ascending order. A word's
    share varies less than with independent draws, searching in sorted order is several times faster, and rows that are
    near in memory are read one after the other.

    Args:
        edges: (R,) cumulative probabilities of some rows, ascending to 1.
        first, last: only rows from first to last - 1 are drawn.
        sets: number of sets, > 0.
        words: number of words of a set.

    Returns:
        (sets, words), the sets in random order, because consecutive ones would have the same rare words.
    """
    low, high = edges[first - 1] if first else 0.0, edges[last - 1]
    points = np.arange(words * sets) + rng.random()
    points *= (high - low) / points.size
    points += low
    drawn = np.minimum(np.searchsorted(edges, points, side="right"), last - 1).astype(np.int32)
    return np.take(drawn.reshape(words, sets).T, rng.permutation(sets), axis=0)


# Uses of a generator: the second of the numbers that seed it, so that no two uses share their draws.
INITIAL, HELD_OUT, PAIRS, RING, KERNEL, SAMPLE, INDUCTION, REPLICA = range(8)


def generator(seed: int, use: int, *place: int) -> np.random.Generator:
    """Return the generator of random numbers of one use at one place.

    Seeded by place (epoch, round, task, or file, offset, segment), not by time: a repeated task repeats what it did.
    """
    return np.random.default_rng([seed, use, *place])
