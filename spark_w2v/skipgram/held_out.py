"""The loss of pairs that are never trained on.

n pairs, K negatives, D dimensions, V words.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from spark_w2v.skipgram.pairs import PairSampler, keep_words, pairs_by_distance, pairs_of_sentences
from spark_w2v.skipgram.sampling import SAMPLE, copy_in_pieces, draw_copies, generator
from spark_w2v.types import Float32Array, Float64Array, Int32Array

MOST_PAIRS = 20_000
CHUNK = 2_000  # most pairs whose rows are gathered at a time, = 5.6 MB at K = 5 and D = 100
CHUNK_BYTES = 32 << 20  # of these rows, where K or D is large
DRAWN = 1 << 20  # noise words that are drawn at a time


@dataclass(frozen=True)
class Sample:
    """Held-out pairs and their noise words, drawn once from the seed.

    They are the same for every scheme and number of partitions.
    """

    center: Int32Array  # (n,) word ids
    context: Int32Array  # (n,)
    noise: Int32Array  # (n, K)

    def loss(self, center_vectors: Float32Array, context_vectors: Float32Array) -> float | None:
        """Return the mean negative-sampling loss per pair, summed in float64; None without pairs.

        Args:
            center_vectors, context_vectors: (V, D), with the row numbers of `center`, `context` and `noise`.
        """
        if not self.center.size:
            return None
        total = 0.0
        step = min(CHUNK, max(1, CHUNK_BYTES // (4 * center_vectors.shape[1] * (self.noise.shape[1] + 3))))
        for a in range(0, self.center.size, step):
            part = slice(a, a + step)
            center = center_vectors[self.center[part]].astype(np.float64)
            positive = np.einsum("nd,nd->n", center, context_vectors[self.context[part]])
            negative = np.einsum("nd,nkd->nk", center, context_vectors[self.noise[part]])
            total += float(np.logaddexp(0, -positive).sum() + np.logaddexp(0, negative).sum())
        return total / self.center.size

    def moved(self, places: Int32Array) -> "Sample":
        """Return the same sample for matrices in which word i has row places[i]; places is (V,)."""
        return Sample(places[self.center], places[self.context], places[self.noise])


def sentences_held_out(
    rows: Iterable[tuple[tuple[int, ...], Int32Array, Int32Array, Float64Array]], sampler: PairSampler
) -> list[tuple[Int32Array, Int32Array]]:
    """Return ids and lengths of the sentences that are not trained on, in the order of their segments.

    Args:
        rows: place, ids, lengths and weights of each segment, as in PairSampler.pairs. A sentence is there as often as
            its weight says.
    """
    found: list[tuple[Int32Array, Int32Array]] = []
    for place, ids, lengths, weights in sorted(rows, key=lambda row: row[0]):
        out = sampler.held_out_sentences(place, lengths.size)
        some_ids, some = ids[np.repeat(out, lengths)], lengths[out]
        if weights.size:
            copies = draw_copies(weights[out], generator(sampler.seed, SAMPLE, *place))
            found.extend(copy_in_pieces(some_ids, some, copies))
        else:
            found.append((some_ids, some))
    return found


def draw_sample(
    sentences: list[tuple[Int32Array, Int32Array]], sampler: PairSampler, noise: Float64Array, negatives: int
) -> Sample:
    """Draw at most MOST_PAIRS pairs of some sentences, and K noise words for each, never the context word itself.

    With a vocabulary of one word, that word is the noise.

    Args:
        sentences: ids and lengths.
        noise: (V,) probability of each word as a noise word.
        negatives: K.
    """
    rng = generator(sampler.seed, SAMPLE)
    ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in sentences)])
    lengths = np.concatenate([np.empty(0, np.int32), *(lengths for _, lengths in sentences)])
    words, sentence = keep_words(ids, lengths, sampler.keep, rng)
    drawn = sampler.draw(words.size, rng)

    def parts() -> Iterator[tuple[Int32Array, Int32Array]]:
        if sampler.max_contexts:
            for of_centers, of_contexts in pairs_of_sentences(sentence, drawn, sampler.max_contexts):
                yield words[of_centers], words[of_contexts]
        else:
            for d, forth, back in pairs_by_distance(sentence, drawn, sampler.window):
                yield words[:-d][forth], words[d:][forth]
                yield words[d:][back], words[:-d][back]

    # Twice, as all pairs of a wide window may take gigabytes.
    total = sum(center.size for center, _ in parts())
    some = np.sort(rng.choice(total, MOST_PAIRS, replace=False)) if total > MOST_PAIRS else np.arange(total)
    centers, contexts, begin = [words[:0]], [words[:0]], 0
    for center, context in parts():
        first, end = np.searchsorted(some, (begin, begin + center.size))
        centers.append(center[some[first:end] - begin])
        contexts.append(context[some[first:end] - begin])
        begin += center.size
    center, context = np.concatenate(centers), np.concatenate(contexts)
    edges = np.cumsum(noise)
    drawn, step = np.empty((center.size, negatives), np.int32), max(1, DRAWN // negatives)
    for a in range(0, center.size, step):
        some = drawn[a : a + step]
        some[:] = _words_at(rng.random(some.shape) * edges[-1], edges)
    for a in range(0, center.size, step):
        some, of_context = drawn[a : a + step], context[a : a + step, None]
        if (same := some == of_context).any():
            some[same] = _draw_others(np.broadcast_to(of_context, some.shape)[same], edges, rng)
    return Sample(center, context, drawn)


def _draw_others(words: Int32Array, edges: Float64Array, rng: np.random.Generator) -> Int32Array:
    """Draw a noise word for each of some words, (n,), other than the word itself, where there is another.

    Args:
        edges: (V,) cumulative probabilities of the noise.
    """
    begin, end = np.where(words > 0, edges[words - 1], 0.0), edges[words]
    others = edges[-1] - (end - begin)
    # Places on the line of all noise without that of the word.
    place = rng.random(words.size) * np.where(others > 0, others, edges[-1])
    place += np.where((others > 0) & (place >= begin), end - begin, 0.0)
    return _words_at(place, edges)


def _words_at(places: Float64Array, edges: Float64Array) -> Int32Array:
    last = int(np.searchsorted(edges, edges[-1]))  # rounding may lead past the last word that occurs
    words: Int32Array = np.minimum(np.searchsorted(edges, places, side="right"), last).astype(np.int32)
    return words
