"""Many updates of one row against np.add.at."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.skipgram.scatter import add_rows, add_sums, counting_sort, sort_places

examples = settings(max_examples=80)


@examples
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 7),
    sources=st.integers(0, 20),
    each=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_rows_equal_those_of_add_at(height: int, width: int, sources: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(height, width)).astype(np.float32)
    source = rng.normal(size=(sources, width)).astype(np.float32)
    rows = rng.integers(0, height, sources * each).astype(np.int32)
    weights = rng.normal(size=rows.size).astype(np.float32)
    wanted = matrix.astype(np.float64)
    np.add.at(wanted, rows, weights[:, None].astype(np.float64) * source.repeat(each, axis=0))
    add_rows(matrix, rows, weights, source, each)
    # Up to 80 float32 sums of size 10: 80 * 10 * 2^-24.
    np.testing.assert_allclose(matrix, wanted, rtol=1e-5, atol=5e-5)


def test_a_row_that_occurs_three_times_gets_three_updates() -> None:
    matrix = np.zeros((3, 2), np.float32)
    rows, weights = np.array([1, 1, 2, 1], np.int32), np.array([1, 10, 100, 1000], np.float32)
    add_rows(matrix, rows, weights, np.array([[1, 2], [3, 4]], np.float32), 2)
    assert matrix.tolist() == [[0, 0], [1 + 10 + 3000, 2 + 20 + 4000], [300, 400]]


@pytest.mark.parametrize("updates", [1, 1000])
def test_updates_are_applied_in_their_order_so_that_equal_input_gives_equal_bits(updates: int) -> None:
    rng = np.random.default_rng(0)
    source, weights = rng.normal(size=(updates, 3)).astype(np.float32), rng.random(updates, np.float32)
    matrix, slow = np.zeros((1, 3), np.float32), np.zeros(3, np.float32)
    add_rows(matrix, np.zeros(updates, np.int32), weights, source)
    for weight, row in zip(weights, source, strict=True):
        slow += weight * row
    # The compiler may fuse a product with its sum, which rounds once instead of twice.
    np.testing.assert_allclose(matrix[0], slow, rtol=1e-5, atol=1e-5)
    again = np.zeros((1, 3), np.float32)
    add_rows(again, np.zeros(updates, np.int32), weights, source)
    assert np.array_equal(matrix, again)


def test_rows_that_are_not_named_stay_as_they_are() -> None:
    matrix = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    before = matrix.copy()
    add_rows(matrix, np.array([7, 93], np.int32), np.ones(2, np.float32), np.ones((2, 4), np.float32))
    changed = (matrix != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [7, 93]


@examples
@given(
    sums=st.integers(0, 9),
    more=st.integers(0, 3),
    width=st.integers(1, 7),
    each=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_each_row_gets_the_sum_of_its_own_sources(sums: int, more: int, width: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(sums + more, width)).astype(np.float32)
    source = rng.normal(size=(sums * each, width)).astype(np.float32)
    weights = rng.normal(size=sums * each).astype(np.float32)
    wanted = matrix.astype(np.float64)
    np.add.at(wanted, np.arange(sums).repeat(each), weights[:, None].astype(np.float64) * source)
    add_sums(matrix, weights, source, each)
    np.testing.assert_allclose(matrix, wanted, rtol=1e-5, atol=5e-6)


@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_values_come_to_their_groups_in_the_order_that_they_have(count: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, values = rng.integers(0, count, size).astype(np.int32), rng.integers(0, 2**63, size, np.uint64)
    begins, ordered = counting_sort(groups, count, values)
    expected = [[int(value) for value, group in zip(values, groups, strict=True) if group == g] for g in range(count)]
    assert [ordered[a:b].tolist() for a, b in pairwise(begins)] == expected


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_places_are_sorted_by_row_then_by_column(rows: int, columns: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, column = rng.integers(0, rows, size).astype(np.int32), rng.integers(0, columns, size).astype(np.int32)
    expected = [sorted(column[row == r].tolist()) for r in range(rows)]
    begins = sort_places(row, column, (rows, columns), np.full(size, -1, np.int32))
    assert [column[a:b].tolist() for a, b in pairwise(begins)] == expected


def test_a_scipy_without_the_functions_is_named() -> None:
    program = "import sys; sys.modules['scipy.sparse._sparsetools'] = None; import spark_w2v.skipgram.scatter"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "install SciPy 1.17, with which it was tested, or a newer spark_w2v" in ran.stderr
