"""Many updates of many rows, applied once, in a fixed order; and many values brought to their groups.

R rows of the matrix, D dimensions, G sources, n updates.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spark_w2v.types import Float32Array, Int32Array

try:
    # The public functions make matrices of these arrays first, and check them, for each batch.
    from scipy.sparse._sparsetools import coo_tocsr, csc_matvecs, csr_matvecs
except ImportError as error:
    raise ImportError(
        "spark_w2v needs functions of scipy.sparse._sparsetools that this SciPy lacks, as SciPy may change them; "
        "install SciPy 1.17, with which it was tested, or a newer spark_w2v."
    ) from error

Scalar = TypeVar("Scalar", bound=np.generic)


def counting_sort(
    groups: Int32Array, count: int, values: npt.NDArray[Scalar]
) -> tuple[Int32Array, npt.NDArray[Scalar]]:
    """Values by their group, those of one group in the order that they have.

    Args:
        groups: (n,) group of each value, all in [0, count); not checked.
        values: (n,) numbers.

    Returns:
        (count + 1,) where each group begins, and where the last one ends; (n,) the values.
    """
    # What SciPy does to make a CSR matrix of coordinates: 2 ns per value where there are some hundred groups, 10 where
    # there are half a million.
    begins, unused, ordered = np.empty(count + 1, np.int32), np.empty_like(groups), np.empty_like(values)
    coo_tocsr(count, 1, groups.size, groups, groups, values, begins, unused, ordered)
    return begins, ordered


def add_rows(
    matrix: Float32Array, rows: Int32Array, weights: Float32Array, sources: Float32Array, each: int = 1
) -> None:
    """Add `weights[k] * sources[k // each]` to row `rows[k]` of the matrix, k = 0, 1, ..., in place.

    A row that occurs n times gets n updates. The order is that of k, so that equal input gives equal bits.

    Args:
        matrix: (R, D), contiguous; changed.
        rows: (n,) row of each update, all in [0, R); not checked, as this is the innermost loop.
        weights: (n,) factor of each update.
        sources: (G, D), contiguous; n = G * each.
        each: how many consecutive updates one source serves.
    """
    # The CSC product that SciPy runs for `matrix += A @ sources`, writing into our matrix: through the public
    # operator it would fill and add a whole (R, D) array for each batch. np.add.at is 65 times slower.
    ends = np.arange(0, rows.size + 1, each, dtype=np.int32)
    csc_matvecs(
        matrix.shape[0], sources.shape[0], matrix.shape[1], ends, rows, weights, sources.ravel(), matrix.ravel()
    )


def add_sums(matrix: Float32Array, weights: Float32Array, sources: Float32Array, each: int) -> None:
    """Add `weights[k] * sources[k]` to row `k // each` of the matrix, k = 0, 1, ..., in place.

    Args:
        matrix: (R, D), contiguous; its first n / each rows are changed.
        weights: (n,) factor of each source.
        sources: (n, D), contiguous.
        each: how many consecutive sources one row gets.
    """
    ends = np.arange(0, weights.size + 1, each, dtype=np.int32)
    columns = np.arange(weights.size, dtype=np.int32)
    csr_matvecs(
        weights.size // each, weights.size, matrix.shape[1], ends, columns, weights, sources.ravel(), matrix.ravel()
    )
