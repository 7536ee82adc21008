"""Which occurrences of frequent words are skipped, and which words are noise.

V words.
"""

import numpy as np
import numpy.typing as npt

Floats1d = npt.NDArray[np.float32]
Ints1d = npt.NDArray[np.int64]


def frequent_share(subsample: float, total: int) -> float:
    """t, for a corpus of so many words: at least the share of what occurs once, which is not frequent.

    In a text of fewer than 1/t words every word would be, and nearly all of it skipped.
    """
    return max(subsample, 1.0 / max(total, 1)) if subsample else 0.0


def keep_probability(counts: Ints1d, total: int, subsample: float) -> npt.NDArray[np.float32]:
    """Probability that one occurrence of each word is trained on.

    Args:
        counts: (V,) occurrences in the corpus; a word without any is kept, whenever it occurs.
        total: occurrences of all words of the vocabulary.
        subsample: t of Mikolov et al. 2013; 0 keeps everything.

    Returns:
        (V,) in (0, 1]. The formula is the released word2vec.c's, sqrt(t/f) + t/f, not the paper's 1 - sqrt(t/f).
    """
    if not subsample:
        return np.ones(counts.size, np.float32)
    ratio = subsample * total / np.maximum(counts, 1).astype(np.float64)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0).astype(np.float32)


def noise_distribution(counts: Ints1d, exponent: float) -> npt.NDArray[np.float64]:
    """Probability of each word as a noise word, count^exponent (0.75 in Mikolov et al. 2013).

    A word that does not occur is never noise, whatever the exponent: nothing would ever pull it back.

    Returns:
        (V,) float64, sums to 1.
    """
    weights: npt.NDArray[np.float64] = np.maximum(counts, 1).astype(np.float64) ** exponent
    weights[counts == 0] = 0.0
    weights /= weights.sum()
    return weights


def draw_noise(noise: npt.NDArray[np.float64], wanted: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Noise words in random order, each as often as its probability says, up to one.

    A systematic sample: one random offset and equal steps through the cumulated distribution. A word's share varies
    less than by independent draws, and searching in sorted order is several times faster.
    """
    points = (np.arange(wanted) + rng.random()) / wanted
    edges = np.cumsum(noise)
    drawn = np.searchsorted(edges / edges[-1], points, side="right").astype(np.int32)
    return rng.permutation(np.minimum(drawn, noise.size - 1))


# What a generator is for: the second of the numbers that seed it, so that no two uses share their draws.
INITIAL, HELD_OUT, PAIRS, RING, KERNEL, SAMPLE = range(6)


def generator(seed: int, use: int, *place: int) -> np.random.Generator:
    """The random numbers of one use at one place.

    Seeded by place (epoch, round, task, or file, offset, piece), not by time: a repeated task repeats what it did.
    """
    return np.random.default_rng([seed, use, *place])
