"""Scattering: updates added to many rows of a matrix in a fixed order, and values sorted by group.

R rows of the matrix, D dimensions, G sources, n updates.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from spark_w2v.types import Float32Array, Int32Array

try:
    # The public functions would build matrices of these arrays and check them, in every batch.
    from scipy.sparse._sparsetools import coo_tocsr, csc_matvecs, csr_matvecs, csr_tocsc
except ImportError as error:
    raise ImportError(
        "spark_w2v needs functions of scipy.sparse._sparsetools that this SciPy lacks, as SciPy may change them; "
        "install SciPy 1.17, with which it was tested, or a newer spark_w2v."
    ) from error

Scalar = TypeVar("Scalar", bound=np.generic)


def counting_sort(
    groups: Int32Array, count: int, values: npt.NDArray[Scalar]
) -> tuple[Int32Array, npt.NDArray[Scalar]]:
    """Sort values by group; those of one group keep their order.

    Args:
        groups: (n,) group of each value, all in [0, count); not checked.
        values: (n,) numbers.

    Returns:
        (count + 1,) where each group begins, and where the last one ends; (n,) values, group after group.
    """
    # The function with which SciPy makes a CSR matrix from coordinates: 2 ns per value with some hundred groups, 10 ns
    # with half a million.
    begins, unused, ordered = np.empty(count + 1, np.int32), np.empty_like(groups), np.empty_like(values)
    coo_tocsr(count, 1, groups.size, groups, groups, values, begins, unused, ordered)
    return begins, ordered


def sort_places(rows: Int32Array, columns: Int32Array, shape: tuple[int, int], room: Int32Array) -> Int32Array:
    """Sort places of a matrix by row, then by column, in place.

    Args:
        rows, columns: (n,) of each place, all within the shape; not checked. The columns are those of the sorted places
            then.
        shape: of the matrix.
        room: (n,) is overwritten.

    Returns:
        (shape[0] + 1,) where each row begins, and where the last one ends.
    """
    # As SciPy makes a sparse matrix from coordinates, by its columns, and transposes it. A value moves with each place,
    # here the smallest that there is; as all are the same, they may move within one array.
    values = np.zeros(rows.size, np.int8)
    begins, row_begins = np.empty(shape[1] + 1, np.int32), np.empty(shape[0] + 1, np.int32)
    coo_tocsr(shape[1], shape[0], rows.size, columns, rows, values, begins, room, values)
    csr_tocsc(shape[1], shape[0], begins, room, values, row_begins, columns, values)
    return row_begins


@lru_cache(maxsize=32)
def _multiples(n: int, of: int) -> Int32Array:
    """Return 0, of, 2 of, ..., up to n; all full batches have the same ones."""
    numbers = np.arange(0, n + 1, of, dtype=np.int32)
    numbers.flags.writeable = False
    return numbers


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
        each: number of consecutive updates that use one source.
    """
    # The CSC product that SciPy runs for `matrix += A @ sources`, here written directly into the matrix: the public
    # operator would fill and add a whole (R, D) array in every batch. np.add.at is 65 times slower.
    csc_matvecs(
        matrix.shape[0],
        sources.shape[0],
        matrix.shape[1],
        _multiples(rows.size, each),
        rows,
        weights,
        sources.ravel(),
        matrix.ravel(),
    )


def add_sums(matrix: Float32Array, weights: Float32Array, sources: Float32Array, each: int) -> None:
    """Add `weights[k] * sources[k]` to row `k // each` of the matrix, k = 0, 1, ..., in place.

    Args:
        matrix: (R, D), contiguous; its first n / each rows are changed.
        weights: (n,) factor of each source.
        sources: (n, D), contiguous.
        each: number of consecutive sources that are added to one row.
    """
    ends, columns = _multiples(weights.size, each), _multiples(weights.size, 1)
    csr_matvecs(
        weights.size // each, weights.size, matrix.shape[1], ends, columns, weights, sources.ravel(), matrix.ravel()
    )
