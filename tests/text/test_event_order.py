"""Rows of events come out of their bucket in order, whether they fit in memory or not."""

import math
from decimal import Decimal
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_w2v.text import event_order, records
from spark_w2v.text.event_order import sorted_rows
from spark_w2v.text.records import pack_rows

examples = settings(max_examples=60)

groups = st.one_of(st.none(), st.integers(-4, 4), st.integers(-(2**63), 2**63 - 1))
times = st.one_of(st.none(), st.floats())
words = st.one_of(st.none(), st.sampled_from(["b", "a", "ab", "é", "\U0001f600", ""]))
SCHEMA = pa.schema([("group", pa.int64()), ("order0", pa.float64()), ("word", pa.string())])


def batches_of(rows: list[tuple[Any, ...]], size: int, schema: pa.Schema = SCHEMA) -> list[pa.RecordBatch]:
    return [
        pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows[at : at + size]], schema)
        for at in range(0, len(rows), size)
    ]


def key_of(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Nulls first, NaN last, strings by their bytes."""
    group, time, word = row
    of_time = (0, 0.0) if time is None else (2, 0.0) if math.isnan(time) else (1, time)
    return (group is not None, group or 0), of_time, (word is not None, (word or "").encode())


def rows_of(batches: list[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def in_buckets(rows: list[tuple[Any, ...]], size: int, buckets: int, directory: str) -> dict[int, Any]:
    """Packed in two tasks, shuffled, and sorted in one task for each bucket."""
    packed = []
    for task in (rows[::2], rows[1::2]):
        for batch in pack_rows(iter(batches_of(task, size)), buckets):
            packed += [(bucket.as_py(), batch.slice(at, 1)) for at, bucket in enumerate(batch.column("bucket"))]
    packed.sort(key=lambda record: record[0])
    keys = ["group", "order0", "word"]
    return {
        bucket: rows_of(list(sorted_rows((record for _, record in some), keys, directory)))
        for bucket, some in groupby(packed, key=lambda record: record[0])
    }


@pytest.mark.parametrize(("sorted_bytes", "most_runs"), [(1 << 20, 64), (1, 64), (1, 2), (1500, 3)])
@pytest.mark.parametrize("packed_bytes", [1, 1 << 20])
def test_rows_of_a_bucket_are_sorted_in_memory_or_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, sorted_bytes: int, most_runs: int, packed_bytes: int
) -> None:
    monkeypatch.setattr(records, "PACKED_BYTES", packed_bytes)
    monkeypatch.setattr(event_order, "SORTED_BYTES", sorted_bytes)
    monkeypatch.setattr(event_order, "BATCH_ROWS", 3)
    monkeypatch.setattr(event_order, "MOST_RUNS", most_runs)

    @examples
    @given(st.lists(st.tuples(groups, times, words), max_size=50), st.integers(1, 12), st.integers(1, 5))
    def are_sorted(rows: list[tuple[Any, ...]], size: int, buckets: int) -> None:
        expected: dict[int, Any] = {}
        for row in sorted(rows, key=key_of):
            expected.setdefault((row[0] or 0) % buckets, []).append(key_of(row))
        found = in_buckets(rows, size, buckets, str(tmp_path))
        assert {bucket: [key_of(row) for row in some] for bucket, some in found.items()} == expected

    are_sorted()
    assert not list(tmp_path.iterdir())  # files without a name


@pytest.mark.parametrize("most_runs", [2, 5, 64])
def test_many_runs_on_disk_are_merged_a_few_batches_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, most_runs: int
) -> None:
    monkeypatch.setattr(event_order, "SORTED_BYTES", 4000)
    monkeypatch.setattr(event_order, "BATCH_ROWS", 7)
    monkeypatch.setattr(event_order, "MOST_RUNS", most_runs)
    merged, held = [], []
    merge, order = event_order._merged, event_order._order

    def merge_seen(runs: list[Any], keys: list[str], most_bytes: int) -> Any:
        merged.append(len(runs))
        return merge(runs, keys, most_bytes)

    def order_seen(rows: pa.RecordBatch, keys: list[str]) -> Any:
        held.append(len(rows))
        return order(rows, keys)

    monkeypatch.setattr(event_order, "_merged", merge_seen)
    monkeypatch.setattr(event_order, "_order", order_seen)
    rng = np.random.default_rng(5)
    rows = [(int(group), float(time), "a") for group, time in rng.integers(0, 30, (1500, 2))]
    packed = [batch for batch in batches_of(rows, 30) for batch in pack_rows(iter([batch]), 1)]
    batches = list(sorted_rows(iter(packed), ["group", "order0", "word"], str(tmp_path)))
    assert rows_of(batches) == sorted(rows)
    assert max(len(batch) for batch in batches) == 7
    sorted_at_once = 6 * 30  # records of 30 rows of 24 bytes or more, until there are 4,000 bytes
    assert max(held) <= max(sorted_at_once, 2 * 7 * max(merged))  # two batches of a run
    assert max(merged) <= most_runs
    assert (len(merged) > 1) == (most_runs < 64)


def test_wide_rows_are_merged_in_as_few_bytes_as_narrow_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(event_order, "SORTED_BYTES", 64_000)
    monkeypatch.setattr(event_order, "BATCH_BYTES", 8_000)
    monkeypatch.setattr(event_order, "FILED_BYTES", 2_000)
    held = []
    order = event_order._order

    def order_seen(rows: pa.RecordBatch, keys: list[str]) -> Any:
        held.append(rows.nbytes)
        return order(rows, keys)

    monkeypatch.setattr(event_order, "_order", order_seen)
    rng = np.random.default_rng(5)
    rows = [(int(group), float(time), "a" * 500) for group, time in rng.integers(0, 30, (1500, 2))]
    packed = [batch for batch in batches_of(rows, 30) for batch in pack_rows(iter([batch]), 1)]
    batches = list(sorted_rows(iter(packed), ["group", "order0", "word"], str(tmp_path)))
    assert rows_of(batches) == sorted(rows)
    runs = 1500 * 530 // 64_000 + 1
    assert max(held[-10:]) <= runs * 2 * 2_100
    assert 4_000 < max(batch.nbytes for batch in batches) <= 8_000


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.decimal128(10, 2), [None, Decimal("-3.10"), Decimal("1.50")]),
        (pa.timestamp("us", "UTC"), [None, -5, 7, 1 << 60]),
        (pa.date32(), [None, -5, 7]),
        (pa.bool_(), [None, False, True]),
        (pa.binary(), [None, b"", b"\xff"]),
        (pa.duration("us"), [None, -5, 7]),
        (pa.int8(), [-5, 7]),
    ],
)
def test_rows_are_ordered_by_values_of_many_types(kind: pa.DataType, values: list[Any]) -> None:
    schema = pa.schema([("group", pa.int64()), ("order0", kind)])
    column = pa.array(values, kind)
    rows = pa.RecordBatch.from_arrays([pa.array([1] * len(values), pa.int64()), column], schema=schema)
    records = pack_rows(iter([rows.take(pa.array(list(reversed(range(len(values))))))]), 1)
    found = pa.concat_batches(list(sorted_rows(records, ["group", "order0"], ".")))
    assert found.column("order0").equals(column)


@examples
@given(st.lists(st.tuples(st.integers(-2, 2), st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)))))
@example([(1, 3), (0, 5), (1, 1 << 59), (0, 0), (1, 7), (0, 1 << 59), (1, 0)])  # no bits are left for a place
def test_whole_numbers_are_ordered_in_their_group_whatever_they_span(rows: list[tuple[int, int]]) -> None:
    schema = pa.schema([("group", pa.int64()), ("order0", pa.int64())])
    records = pack_rows(iter(batches_of(rows, 100, schema)), 1)
    assert rows_of(list(sorted_rows(records, ["group", "order0"], "."))) == sorted(rows)
