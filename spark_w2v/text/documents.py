"""Documents to vectors: the mean of the vectors of a document's words.

V words, D dimensions, n documents of a batch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from spark_w2v.text.arrow_arrays import offsets_of
from spark_w2v.types import Float32Array


def mean_vectors(documents: pa.Array, words: pa.Array, vectors: Float32Array, skip_unknown: bool) -> pa.Array:
    """Mean vector of each document.

    Sums in float64, in the order of the text, and multiplies by one over the number of words, as MLlib does.

    Args:
        documents: (n,) lists of strings.
        words: (V,) strings, unique.
        vectors: (V, D).
        skip_unknown: divide by the number of words that have a vector; else by that of all words, so that unknown
            ones count as zeros.

    Returns:
        (n,) lists of D float64: zeros for a document without known words, null for a null document.
    """
    lengths = pc.fill_null(pc.list_value_length(documents), 0).to_numpy().astype(np.int64)
    found = documents.flatten().cast(words.type).dictionary_encode()
    # The words of the documents are hashed, which are few, and not all words, again for each batch.
    place = pc.index_in(words, value_set=found.dictionary)
    id_of_distinct = np.full(len(found.dictionary) + 1, -1)  # the last one of nulls
    id_of_distinct[place.drop_null().to_numpy()] = pc.indices_nonzero(place.is_valid()).to_numpy()
    id_of = id_of_distinct[pc.fill_null(found.indices, -1).to_numpy()]
    known = id_of >= 0
    ends = offsets_of(known)[offsets_of(lengths)]
    # Only the vectors that occur: all of them in float64 would take twice the memory of the model, in each worker.
    used, columns = np.unique(id_of[known], return_inverse=True)
    occurrences = csr_array((np.ones(columns.size), columns, ends), shape=(len(lengths), used.size))
    means = occurrences @ vectors[used].astype(np.float64)
    divisors = np.diff(ends) if skip_unknown else lengths
    means *= (1.0 / np.maximum(divisors, 1))[:, None]
    starts = pa.array(np.arange(len(lengths) + 1) * vectors.shape[1], pa.int32())  # raises on overflow
    return pa.ListArray.from_arrays(starts, pa.array(means.reshape(-1)), mask=documents.is_null())


def mean_vectors_with(model: Any, skip_unknown: bool) -> Callable[[pa.Array], pa.Array]:
    """Return mean_vectors as a function of a batch, for Spark.

    It is here so that executors import no more than this module needs.

    Args:
        model: a Broadcast of words and vectors.
    """

    def means(documents: pa.Array) -> pa.Array:
        words, vectors = model.value
        return mean_vectors(documents, words, vectors, skip_unknown)

    return means
