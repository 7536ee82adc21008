"""Vectors → a map of them: places in the plane where words that are near in D dimensions stand together.

The method is t-SNE (van der Maaten and Hinton 2008) with a word's few nearest words as its only partners, all of one
weight. Böhm, Berens and Kobak (2022) found such maps hardly different from those of calibrated weights; they need no
search for bandwidths. Two dimensions of PCA hold a tenth of what 100 dimensions say, and show one cloud.

Letters: N words of the map, D dimensions, K partners of a word.
"""

import numpy as np
from scipy import sparse

from spark_w2v.analysis.neighbors import nearest_rows
from spark_w2v.types import Float32Array

LANDMARKS = 1200  # words that find their places by themselves; all others stand next to those
BESIDE = 3  # landmarks that place another word
PARTNERS = 12  # K. Fewer tear groups apart, more blur them
EARLY, LATE = 75, 175  # steps: groups are gathered first, then each is spread out. 400 steps do no better
EARLY_EXAGGERATION = 12.0  # how much stronger than in its own gradient attraction is at first; the paper's
EARLY_MOMENTUM, LATE_MOMENTUM = 0.5, 0.8  # the paper's
LEAST_GAIN = 0.01
ROWS = 128  # of distances at a time; 0.6 MB for 1,200 words


def word_map(units: Float32Array) -> Float32Array:
    """(N, 2) places, centered; the largest distance from the center along an axis is 1.

    The same vectors give the same map on the same machine. Time and memory grow with N squared: 1,200 words take a
    second or two and 30 MB.

    Args:
        units: (N, D) of length 1, or 0.
    """
    if not len(units):
        return np.zeros((0, 2), np.float32)
    first = units[:LANDMARKS]
    landmarks = principal_axes(first)
    if len(first) > 2 * PARTNERS:  # or everyone is everyone's partner
        landmarks = _gathered(landmarks, _partners(first))
    places = np.concatenate([landmarks, _beside(landmarks, first, units[LANDMARKS:])])
    places -= places.mean(axis=0)
    return np.asarray(places / max(float(np.abs(places).max()), 1e-30), np.float32)


def principal_axes(units: Float32Array) -> Float32Array:
    """(N, 2): where the vectors are along the two directions in which they differ most (PCA)."""
    places = np.zeros((len(units), 2), np.float32)
    centered = np.asarray(units - units.mean(axis=0), np.float64)
    if centered.shape[1] <= len(units):  # the smaller of two products has the same answer
        _, directions = np.linalg.eigh(centered.T @ centered)
        axes = centered @ directions[:, ::-1][:, :2]
    else:
        squares, directions = np.linalg.eigh(centered @ centered.T)
        axes = (directions * np.sqrt(np.maximum(squares, 0)))[:, ::-1][:, :2]
    places[:, : axes.shape[1]] = axes
    for axis in places.T:
        if axis[np.argmax(np.abs(axis))] < 0:  # either sign is right; one of them has to be chosen
            axis *= -1
    return places


def _beside(landmarks: Float32Array, first: Float32Array, others: Float32Array) -> Float32Array:
    """(n, 2): each of the others stands amid the landmarks that its vector is nearest to, the nearest counting most."""
    cosines = others @ first.T
    near = min(BESIDE, len(first))
    top = np.argpartition(-cosines, near - 1, axis=1)[:, :near] if len(others) else np.zeros((0, near), np.int64)
    weights = np.exp(20 * np.take_along_axis(cosines, top, axis=1))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nk,nkd->nd", weights, landmarks[top]), np.float32)


def _partners(units: Float32Array) -> "sparse.coo_array":
    """(N, N) weights that sum to 1: who attracts whom, in both directions; N > K."""
    n = len(units)
    ids, _ = nearest_rows(units, np.arange(n), PARTNERS)
    rows = np.repeat(np.arange(n), PARTNERS)
    one_way = sparse.csr_array((np.ones(ids.size, np.float32), (rows, ids.reshape(-1))), shape=(n, n))
    both = (one_way + one_way.T).tocoo()
    both.data /= 2 * ids.size
    return both


def _gathered(start: Float32Array, partners: "sparse.coo_array") -> Float32Array:
    """Places moved down the gradient of t-SNE's loss, from a start that has the large shape right."""
    n = len(start)
    y = np.asarray(start * (1e-2 / max(float(start.std()), 1e-30)), np.float32)
    first, second, weight = partners.row, partners.col, partners.data
    step = np.zeros_like(y)
    gains = np.ones_like(y)
    rate = n / EARLY_EXAGGERATION  # Belkina et al. 2019
    for number in range(EARLY + LATE):
        early = number < EARLY
        between = y[first] - y[second]
        pull = weight / (1 + np.einsum("pd,pd->p", between, between))
        attraction = np.stack([np.bincount(first, pull * between[:, d], n) for d in (0, 1)], axis=1)
        gradient = 4 * ((EARLY_EXAGGERATION if early else 1.0) * attraction - _repulsion(y))
        gains = np.maximum(np.where(gradient * step < 0, gains + 0.2, gains * 0.8), LEAST_GAIN)
        step = (EARLY_MOMENTUM if early else LATE_MOMENTUM) * step - rate * gains * gradient
        y = np.asarray(y + step, np.float32)
        y -= y.mean(axis=0)
    return y


def _repulsion(y: Float32Array) -> Float32Array:
    """(N, 2): how each place is pushed away from all others, in blocks of rows that stay in a core's cache."""
    n = len(y)
    squares = np.einsum("nd,nd->n", y, y)
    one = np.ones(n, np.float32)
    # Their product is 1 + the squared distance of two places.
    left, right = np.column_stack([-2 * y, squares + 1, one]), np.vstack([y.T, one, squares])
    sums, total = np.empty((n, 3), np.float32), 0.0
    summed = np.column_stack([y, one])
    room = np.empty((min(n, ROWS), n), np.float32)
    for begin in range(0, n, ROWS):
        closeness = np.matmul(left[begin : begin + ROWS], right, out=room[: n - begin])
        np.maximum(closeness, 1, out=closeness)  # rounding may leave a little less
        np.reciprocal(closeness, out=closeness)
        total += float(closeness.sum())
        np.square(closeness, out=closeness)
        np.matmul(closeness, summed, out=sums[begin : begin + ROWS])
    total -= n  # a word is not its own neighbour
    return (y * sums[:, 2:] - sums[:, :2]) / np.float32(max(total, 1e-30))
