"""Textbook losses and gradients of word2vec, one example at a time, in float64.

Slow and plain on purpose: these functions are the oracle that the fast kernel is tested against.

    V   words of the vocabulary
    D   dimensions of a vector
    K   negatives drawn for one pair
    v   (D,) vector of the center word c, a row of center_vectors
    u_w (D,) vector of the outside word w, row w of outside_vectors; o is the outside word that was observed

Notation of Stanford's CS224n; the losses are those of Mikolov et al. 2013, "Distributed Representations of Words and
Phrases and their Compositionality", equation 2 (softmax) and equation 4 (negative sampling), with the sign turned so
that learning makes the loss fall. Every function takes integers or any float type, computes in float64, and leaves its
inputs as they are.
"""

from collections.abc import Callable
from operator import index
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from spark_w2v.types import Float64Array, Int64Array

LossAndGradient = Callable[[Float64Array, int, Float64Array], tuple[float, Float64Array, Float64Array]]

# Above this, the rounding of a central difference, eps^(2/3) = 4e-11 times the value, is under 1e-7 of the gradient.
SMALLEST_GRADIENT_TO_COMPARE = 1e-3


def sigmoid(x: npt.ArrayLike) -> Float64Array:
    """Logistic function σ(x) = 1 / (1 + e^-x), of any shape.

    Written with e^-|x|, which cannot overflow and is as precise for x = -700, where σ is 1e-304, as elsewhere.
    """
    scores = np.asarray(x, dtype=np.float64)
    with np.errstate(under="ignore"):  # e^-1000 is 0 in float64, and 0 is the right answer
        tail = np.exp(-np.abs(scores))
    result: Float64Array = np.where(scores >= 0, 1.0, tail) / (1.0 + tail)
    return result


def sigmoid_derivative(x: npt.ArrayLike) -> Float64Array:
    """Derivative σ'(x) = σ(x)(1 - σ(x)), of any shape; x is the score, not σ(x).

    Computed as σ(x) σ(-x): 1 - σ(x) is rounded to 0 from x = 37 on.
    """
    scores = np.asarray(x, dtype=np.float64)
    return sigmoid(scores) * sigmoid(-scores)


def softmax(x: npt.ArrayLike) -> Float64Array:
    """Probabilities e^x_i / Σ_j e^x_j over the last axis; the shape stays.

    Raises:
        ValueError: the last axis is empty.
    """
    scores = np.asarray(x, dtype=np.float64)
    if scores.ndim > 0 and scores.shape[-1] == 0:
        raise ValueError(f"softmax got scores of shape {scores.shape}; the last axis needs at least one score")
    with np.errstate(under="ignore"):
        exponentials = np.exp(_shifted(scores))
        probabilities: Float64Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def naive_softmax_loss_and_gradient(
    center_vector: npt.ArrayLike, outside_index: SupportsIndex, outside_vectors: npt.ArrayLike
) -> tuple[float, Float64Array, Float64Array]:
    """Loss of one pair under the full softmax, and its gradients.

        f = U v,  p = softmax(f),  y = 1 at o and 0 elsewhere
        L      = -log p_o
        ∂L/∂f  = p - y
        ∂L/∂v  = Uᵀ (p - y)
        ∂L/∂U  = (p - y) vᵀ

    Args:
        center_vector: (D,) v.
        outside_index: o, in [0, V).
        outside_vectors: (V, D) U, one row per word.

    Returns:
        Loss, center gradient (D,), outside gradients (V, D). The loss is finite even where p_o is 0 in float64.

    Raises:
        ValueError: shapes do not match, or outside_index is not a row of outside_vectors.
    """
    center, outside = _checked_vectors(center_vector, outside_vectors)
    observed = _checked_index("outside_index", outside_index, len(outside))

    scores = outside @ center
    with np.errstate(under="ignore"):
        shifted = _shifted(scores)
        loss = np.log(np.exp(shifted).sum()) - shifted[observed]
    score_gradients = softmax(scores)
    score_gradients[observed] -= 1.0
    return float(loss), outside.T @ score_gradients, np.outer(score_gradients, center)


def negative_sampling_loss_and_gradient(
    center_vector: npt.ArrayLike,
    outside_index: SupportsIndex,
    outside_vectors: npt.ArrayLike,
    negative_indices: npt.ArrayLike,
) -> tuple[float, Float64Array, Float64Array]:
    """Loss of one pair against K noise words, and its gradients.

        L        = -log σ(u_oᵀ v) - Σ_k log σ(-u_kᵀ v)
        ∂L/∂v    = -σ(-u_oᵀ v) u_o + Σ_k σ(u_kᵀ v) u_k
        ∂L/∂u_o  = -σ(-u_oᵀ v) v
        ∂L/∂u_k  =  σ(u_kᵀ v) v        once for each time that k was drawn

    Args:
        center_vector: (D,) v.
        outside_index: o, in [0, V).
        outside_vectors: (V, D), one row per word.
        negative_indices: (K,) ids in [0, V); a word drawn twice counts twice. `draw_negatives` never draws o; an o
            among them is taken as it stands, because kernels that share noise words between pairs meet it.

    Returns:
        Loss, center gradient (D,), outside gradients (V, D), which are 0 except in the rows of o and of the negatives.

    Raises:
        ValueError: shapes do not match, or an id is not a row of outside_vectors.
    """
    center, outside = _checked_vectors(center_vector, outside_vectors)
    observed = _checked_index("outside_index", outside_index, len(outside))
    negatives = _checked_indices("negative_indices", negative_indices, len(outside))

    ids = np.concatenate(([observed], negatives))
    signs = np.where(np.arange(len(ids)) == 0, 1.0, -1.0)
    agreement = signs * (outside[ids] @ center)  # u_oᵀ v, then -u_kᵀ v
    with np.errstate(under="ignore"):
        loss = np.logaddexp(0.0, -agreement).sum()  # -log σ(x) = log(1 + e^-x); log(sigmoid(-1000)) would be -inf
    score_gradients = -signs * sigmoid(-agreement)

    outside_gradients = np.zeros_like(outside)
    # add.at, because outside_gradients[ids] += ... keeps only the last of the occurrences of one id
    np.add.at(outside_gradients, ids, np.outer(score_gradients, center))
    return float(loss), score_gradients @ outside[ids], outside_gradients


def draw_negatives(
    outside_index: SupportsIndex, noise_probabilities: npt.ArrayLike, negatives: int, rng: np.random.Generator
) -> Int64Array:
    """Draw noise words for one pair: independently, with replacement, from the noise distribution without o.

    P(k) = noise_k / Σ_{w ≠ o} noise_w for k ≠ o, and 0 for o. This is the distribution of "draw, and draw again while
    the word is o", without a loop that might not end.

    Args:
        outside_index: o, in [0, V).
        noise_probabilities: (V,) finite, >= 0; only their proportions count.
        negatives: K, >= 0.
        rng: advanced by the draws.

    Returns:
        (K,) ids in [0, V); never o, never a word without probability.

    Raises:
        ValueError: noise_probabilities is not such an array, no word but o has probability, or an argument is out of
            range.
    """
    noise = np.array(noise_probabilities, dtype=np.float64)  # a copy, its entry for o is set to 0
    if noise.ndim != 1:
        raise ValueError(f"noise_probabilities has shape {noise.shape}; one probability per word, (V,), is required")
    if not np.all(np.isfinite(noise) & (noise >= 0)):
        raise ValueError("noise_probabilities has entries that are negative or not finite; all must be >= 0")
    observed = _checked_index("outside_index", outside_index, len(noise))
    if negatives < 0:
        raise ValueError(f"negatives is {negatives}; a number >= 0 is required")

    noise[observed] = 0.0
    if not noise.any():
        raise ValueError(
            f"no noise word to draw: of {len(noise)} words only outside_index {observed} may have probability, "
            "at least one other is required"
        )
    noise /= noise.max()  # keeps the sum finite and away from 0, however large or small the entries
    return rng.choice(len(noise), size=negatives, p=noise / noise.sum()).astype(np.int64)


def skipgram_loss_and_gradient(
    center_index: SupportsIndex,
    outside_indices: npt.ArrayLike,
    center_vectors: npt.ArrayLike,
    outside_vectors: npt.ArrayLike,
    loss_and_gradient: LossAndGradient,
) -> tuple[float, Float64Array, Float64Array]:
    """Loss of one window, Σ_o L(v_c, o, U) over the outside words of center word c, and its gradients.

    Args:
        center_index: c, in [0, V).
        outside_indices: (N,) ids in [0, V), N >= 0; a word that occurs twice in the window counts twice.
        center_vectors: (V, D).
        outside_vectors: (V, D).
        loss_and_gradient: `naive_softmax_loss_and_gradient`, or `negative_sampling_loss_and_gradient` with its
            negatives bound; called as loss_and_gradient(center_vector, outside_index, outside_vectors) for each
            outside word, in order.

    Returns:
        Loss, center gradients (V, D), which are 0 except in row c, outside gradients (V, D).

    Raises:
        ValueError: shapes do not match, or an id is not a row of the two matrices.
    """
    centers = _checked_matrix("center_vectors", center_vectors)
    outside = _checked_matrix("outside_vectors", outside_vectors)
    if centers.shape != outside.shape:
        raise ValueError(
            f"center_vectors has shape {centers.shape} and outside_vectors {outside.shape}; both must be (V, D)"
        )
    center = _checked_index("center_index", center_index, len(centers))
    window = _checked_indices("outside_indices", outside_indices, len(outside))

    loss = 0.0
    center_gradients = np.zeros_like(centers)
    outside_gradients = np.zeros_like(outside)
    for observed in window:
        pair_loss, center_gradient, pair_outside_gradients = loss_and_gradient(centers[center], int(observed), outside)
        loss += pair_loss
        center_gradients[center] += center_gradient
        outside_gradients += pair_outside_gradients
    return loss, center_gradients, outside_gradients


def check_gradient(function: Callable[[Float64Array], tuple[float, npt.ArrayLike]], point: npt.ArrayLike) -> float:
    """Largest relative error of a gradient against central differences, (f(x + h) - f(x - h)) / 2h.

    The error of one entry is |analytic - numeric| / max(|analytic|, |numeric|, 1e-3 max(1, |f|)); the last term because
    a difference of two values says nothing about gradients near its own rounding. A right gradient of a smooth function
    comes out under 1e-6.

    Args:
        function: point -> (value, gradient of the point's shape). Must give one value for one point: bind the
            negatives, or seed their draw inside.
        point: of any shape, left as it is; each call gets a copy.

    Returns:
        The largest error over all entries; 0 for a point without entries, inf if a value or gradient is not finite.

    Raises:
        ValueError: the gradient has another shape than the point.
    """
    point = np.asarray(point, dtype=np.float64)
    value, gradient = function(point.copy())
    analytic = np.asarray(gradient, dtype=np.float64)
    if analytic.shape != point.shape:
        raise ValueError(f"the gradient has shape {analytic.shape}; the point's shape {point.shape} is required")

    numeric = np.empty_like(point)
    for entry in np.ndindex(point.shape):
        # eps^(1/3) balances rounding, which grows as 1/h, and the difference's own error, which grows as h²
        step = np.cbrt(np.finfo(np.float64).eps) * max(1.0, abs(float(point[entry])))
        above, below = point.copy(), point.copy()
        above[entry] += step
        below[entry] -= step
        width = above[entry] - below[entry]  # 2h as float64 took it, not as it was asked for
        numeric[entry] = (function(above)[0] - function(below)[0]) / width

    if not (np.isfinite(value) and np.isfinite(analytic).all() and np.isfinite(numeric).all()):
        return float("inf")
    floor = SMALLEST_GRADIENT_TO_COMPARE * max(1.0, abs(value))
    scale = np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), floor)
    return float(np.max(np.abs(analytic - numeric) / scale, initial=0.0))


def _shifted(scores: Float64Array) -> Float64Array:
    """Scores less the largest of their row: the same softmax, and no exponential above 1."""
    shifted: Float64Array = scores - scores.max(axis=-1, keepdims=True)
    return shifted


def _checked_matrix(name: str, vectors: npt.ArrayLike) -> Float64Array:
    matrix = np.asarray(vectors, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}; one row per word, (V, D), is required")
    return matrix


def _checked_vectors(center_vector: npt.ArrayLike, outside_vectors: npt.ArrayLike) -> tuple[Float64Array, Float64Array]:
    center = np.asarray(center_vector, dtype=np.float64)
    outside = _checked_matrix("outside_vectors", outside_vectors)
    if center.shape != outside.shape[1:]:
        raise ValueError(
            f"center_vector has shape {center.shape}; ({outside.shape[1]},) is required, "
            f"as outside_vectors has shape {outside.shape}"
        )
    return center, outside


def _checked_index(name: str, word_id: SupportsIndex, words: int) -> int:
    try:
        position = index(word_id)
    except TypeError:
        raise ValueError(f"{name} is {word_id!r}; one whole number is required") from None
    if not 0 <= position < words:
        # -1 is refused too: as an index into an array it would silently be the last word
        raise ValueError(f"{name} is {position}; with V = {words} words, 0 <= id < {words} is required")
    return position


def _checked_indices(name: str, word_ids: npt.ArrayLike, words: int) -> Int64Array:
    ids = np.asarray(word_ids)
    if ids.ndim != 1:
        raise ValueError(f"{name} has shape {ids.shape}; a list of ids, one dimension, is required")
    if ids.size == 0:
        return np.empty(0, dtype=np.int64)  # np.asarray([]) is float64
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name} holds {ids.dtype} values; whole numbers are required")
    for word_id in ids:
        _checked_index(name, word_id, words)
    return ids.astype(np.int64)
