"""The nearest rows against a full sort, however the matrix is cut; and the memory that finding them takes."""

import tracemalloc

import numpy as np
import pytest

from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.skipgram import nearest_rows
from spark_w2v.skipgram.nearest_rows import NearestRows, memory_of
from spark_w2v.types import Float32Array, Int64Array


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_rows, "TILE_QUERIES", 7)
    monkeypatch.setattr(nearest_rows, "TILE_ROWS", 16)


def vectors(rows: int, dimensions: int = 8, seed: int = 1) -> Float32Array:
    return unit_vectors(np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32))


def found(units: Float32Array, rows: Int64Array, top: int, chunk: int) -> tuple[Int64Array, Float32Array]:
    nearest = NearestRows(units[rows], rows, top)
    for first in range(0, len(units), chunk):
        nearest.add(units[first : first + chunk], first)
    return nearest.result()


def sorted_rows(units: Float32Array, rows: Int64Array, top: int) -> Int64Array:
    cosines = (units[rows].astype(np.float64) @ units.T.astype(np.float64)).round(5)
    cosines[np.arange(len(rows)), rows] = -np.inf
    order: Int64Array = np.lexsort((np.broadcast_to(np.arange(len(units)), cosines.shape), -cosines))[:, :top]
    return order


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("top", [1, 5, 15, 16, 40, 199])
@pytest.mark.parametrize("chunk", [16, 64, 208])
def test_they_are_those_of_a_full_sort_however_the_matrix_is_cut(top: int, chunk: int) -> None:
    units: Float32Array = vectors(200)
    # In 64 ths: products are exact, and many are equal, so the order of ties is seen.
    units = np.asarray((units * 8).round() / 8, np.float32)
    rows = np.array([0, 3, 50, 99, 100, 101, 150, 198, 199])
    nearest, cosines = found(units, rows, top, chunk)
    assert nearest.tolist() == sorted_rows(units, rows, top).tolist()
    assert cosines.tolist() == (np.take_along_axis(units[rows] @ units.T, nearest, axis=1)).tolist()


@pytest.mark.usefixtures("small_tiles")
def test_a_row_is_not_its_own_neighbor_though_another_is_the_same() -> None:
    units = np.repeat(vectors(20), 3, axis=0)
    nearest, cosines = found(units, np.arange(60), 2, 32)
    assert [sorted([row, *near]) for row, near in enumerate(nearest.tolist())] == [
        [row - row % 3, row - row % 3 + 1, row - row % 3 + 2] for row in range(60)
    ]
    assert np.allclose(cosines, 1)


@pytest.mark.usefixtures("small_tiles")
def test_zeros_are_at_a_right_angle_to_everything() -> None:
    units = vectors(40)
    units[[3, 20]] = 0
    nearest, cosines = found(units, np.array([3, 20]), 4, 16)
    assert nearest.tolist() == [[0, 1, 2, 4], [0, 1, 2, 3]]
    assert (cosines == 0).all()


@pytest.mark.parametrize("nearer", [False, True])
def test_memory_is_that_of_the_formula_where_all_rows_are_equal_or_nearer_than_all_before(nearer: bool) -> None:
    queries, top, dimensions, chunk = 512, 5, 8, 8192
    rows = np.arange(2 * chunk)
    units = np.zeros((2 * chunk, dimensions), np.float32)
    units[:, 0] = rows / rows.size if nearer else 1.0
    nearest = NearestRows(np.eye(1, dimensions, dtype=np.float32).repeat(queries, 0), np.full(queries, -1), top)
    tracemalloc.start()
    for first in (0, chunk):
        nearest.add(units[first : first + chunk], first)
    found, _ = nearest.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found == (rows[: -top - 1 : -1] if nearer else rows[:top])).all()
    assert peak < memory_of(queries, dimensions, top, chunk)


@pytest.mark.parametrize(
    ("queries", "top", "dimensions"),
    [(1024, 20, 100), pytest.param(512, 1000, 50, marks=pytest.mark.slow), (1500, 5, 300)],
)
def test_memory_is_that_of_the_formula_and_does_not_grow_with_the_rows(queries: int, top: int, dimensions: int) -> None:
    chunk, peaks = 8192, []
    for rows in (4 * chunk, 8 * chunk):
        rng = np.random.default_rng(2)
        units = unit_vectors(rng.normal(size=(queries, dimensions)).astype(np.float32))
        tracemalloc.start()
        nearest = NearestRows(units.copy(), np.arange(queries), top)
        for first in range(0, rows, chunk):
            part = unit_vectors(np.random.default_rng(first).normal(size=(chunk, dimensions)).astype(np.float32))
            tracemalloc.reset_peak() if first == 0 else None
            nearest.add(part, first)
            del part
        nearest.result()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    bound = memory_of(queries, dimensions, top, chunk)
    # Of random numbers: float64, and what unit_vectors makes of them, which no task does.
    drawn = chunk * dimensions * 16
    assert max(peaks) < bound + drawn
    assert bound < 3 * max(peaks)
    assert peaks[1] < 1.1 * peaks[0]
