"""The nearest rows of many rows, from the chunks of a matrix that need not be in memory at once.

V rows of the matrix, D dimensions, Q rows that are asked for, K nearest.
"""

import math

import numpy as np

from spark_w2v.types import BoolArray, Float32Array, Float64Array, Int64Array

# A tile of cosines = 8 MB: the product of two matrices is as fast as with larger ones, and the tile is still in a cache
# when its largest values are looked for.
TILE_QUERIES, TILE_ROWS = 512, 4096
# Candidates of a query that wait to be sorted, in multiples of K: with more, sorting is rarer and the limit older.
WAITING = 4


def unit_rows(vectors: Float64Array | Float32Array) -> Float64Array:
    """Return (R, D) vectors at a length of 1; those of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64))[:, None]
    found: Float64Array = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    return found


class NearestRows:
    """The K nearest rows so far, exact: by cosine, ties by the smaller row.

    The result does not depend on how the matrix is cut in chunks, as long as all but the last one have a multiple of
    TILE_ROWS rows.

    Args:
        queries: (Q, D) of length 1, or zeros.
        rows: (Q,) row of each query, which is not among its own nearest.
        top: K, less than V.
    """

    def __init__(self, queries: Float32Array, rows: Int64Array, top: int) -> None:
        self._queries, self._rows = queries, rows
        # Used for each tile: new memory would take longer than looking for the largest values.
        self._cosines = np.empty(TILE_QUERIES * TILE_ROWS, np.float32)
        self._is_chosen = np.empty(TILE_QUERIES * TILE_ROWS, bool)
        starts = range(0, len(queries), TILE_QUERIES)
        self._tiles = [_Tile(slice(a, min(a + TILE_QUERIES, len(queries))), top) for a in starts]

    def add(self, units: Float32Array, first: int) -> None:
        """Compare the queries with the next rows.

        Args:
            units: (n, D) of length 1, or zeros.
            first: number of their first row.
        """
        for start in range(0, len(units), TILE_ROWS):
            some = units[start : start + TILE_ROWS]
            at = first + start
            for tile in self._tiles:
                rows = self._rows[tile.queries]
                shape = len(rows), len(some)
                size = shape[0] * shape[1]
                cosines = np.matmul(self._queries[tile.queries], some.T, out=self._cosines[:size].reshape(shape))
                own = np.flatnonzero((rows >= at) & (rows < at + len(some)))
                cosines[own, rows[own] - at] = -math.inf
                tile.add(cosines, at, self._is_chosen[:size].reshape(shape))

    def result(self) -> tuple[Int64Array, Float32Array]:
        """Return (Q, K) rows, the nearest first, and their cosines."""
        found = [tile.result() for tile in self._tiles]
        return np.concatenate([rows for rows, _ in found]), np.concatenate([cosines for _, cosines in found])


class _Tile:
    """The nearest rows of TILE_QUERIES queries.

    Args:
        queries: which they are.
    """

    def __init__(self, queries: slice, top: int) -> None:
        self.queries, self._top = queries, top
        self._size = queries.stop - queries.start
        # A candidate below it is not among the nearest K.
        self._least = np.full((self._size, 1), -math.inf, np.float32)
        self._waiting: list[tuple[Int64Array, Int64Array, Float32Array]] = []
        self._waits = 0

    def add(self, cosines: Float32Array, first: int, is_chosen: BoolArray) -> None:
        """Take the candidates among (TILE_QUERIES, n) cosines with the rows from `first` on.

        Args:
            is_chosen: room for as many; it is overwritten.
        """
        # Of equal ones the smaller row is nearer, and those before were smaller.
        np.greater(cosines, self._least, out=is_chosen)
        if np.count_nonzero(is_chosen) > self._top * self._size:  # as in the first tile
            self._choose_nearest(cosines, is_chosen)
        chosen = np.flatnonzero(is_chosen)
        if not chosen.size:
            return
        query, row = np.divmod(chosen, cosines.shape[1])
        self._waiting.append((query, row + first, cosines.ravel()[chosen]))
        self._waits += chosen.size
        if self._waits > (WAITING + 1) * self._top * self._size:
            self._merge()

    def _choose_nearest(self, cosines: Float32Array, is_chosen: BoolArray) -> None:
        """Choose at most K candidates of each query, of more than K rows, also where many cosines are equal."""
        place = cosines.shape[1] - self._top
        least = np.partition(cosines, place, axis=1)[:, place, None].copy()
        np.greater_equal(cosines, least, out=is_chosen, where=least > self._least)
        for query in np.flatnonzero(np.count_nonzero(is_chosen, axis=1) > self._top):
            equal = np.flatnonzero(cosines[query] == least[query])
            nearer = np.count_nonzero(is_chosen[query]) - equal.size
            is_chosen[query, equal[self._top - nearer :]] = False
        self._least = np.maximum(self._least, least)

    def _merge(self) -> None:
        """Keep the nearest K of all candidates."""
        query, row, cosine = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        order = np.lexsort((row, -cosine, query))
        query = query[order]
        begins = np.searchsorted(query, np.arange(self._size))
        is_kept = np.arange(query.size) - begins[query] < self._top
        kept, query = order[is_kept], query[is_kept]
        self._waiting = [(query, row[kept], cosine[kept])]
        self._waits = kept.size
        counts = np.bincount(query, minlength=self._size)
        full = counts == self._top
        ends = np.cumsum(counts)
        self._least[full, 0] = cosine[kept][ends[full] - 1]

    def result(self) -> tuple[Int64Array, Float32Array]:
        """Return (TILE_QUERIES, K) rows, the nearest first, and their cosines."""
        self._merge()
        _, row, cosine = self._waiting[0]
        return row.reshape(self._size, self._top), cosine.reshape(self._size, self._top)


def memory_of(queries: int, dimensions: int, top: int, chunk: int) -> int:
    """Return the most bytes that finding the nearest rows takes: what a test compares with.

    Args:
        queries: Q.
        chunk: rows of a chunk.
    """
    tile = TILE_QUERIES * TILE_ROWS
    # Of a query the candidates that wait, 20 bytes each, and in one tile at a time what sorting them takes.
    waiting = (WAITING + 2) * top * 20
    return (
        4 * dimensions * (queries + 2 * chunk)  # a chunk is there twice while it is unpacked
        + 10 * tile  # cosines, those that are partitioned, which are candidates
        + queries * waiting + 4 * TILE_QUERIES * waiting
    )  # fmt: skip
