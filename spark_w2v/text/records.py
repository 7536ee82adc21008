"""Rows that a task deals to buckets, packed in one record for each bucket.

Spark shuffles the records. To shuffle the rows one by one took most of the time of reading events and of counting
words (docs/measurements.md).
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.types import Int64Array

PACKED_BYTES = 16 << 20  # of rows that are packed at a time

Batches = Iterator[pa.RecordBatch]


def groups_of(rows: pa.RecordBatch) -> Int64Array:
    """Return (rows,) the group of each row, 0 of a bad one, which has none."""
    return np.asarray(pc.fill_null(rows.column("group"), 0).to_numpy(), np.int64)


def pack_rows(batches: Batches, buckets: int) -> Batches:
    """Yield the rows as records: `bucket` and `rows`, an Arrow stream of rows of that bucket.

    Args:
        batches: rows with a column `group`.
        buckets: number of buckets, to which the groups are dealt by what is left of their division by it.
    """
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= PACKED_BYTES:
            rows = pa.concat_batches(waiting)
            waiting, size = [], 0
            yield _packed(rows, buckets)
    if waiting:
        yield _packed(pa.concat_batches(waiting), buckets)


def _packed(rows: pa.RecordBatch, buckets: int) -> pa.RecordBatch:
    of_row = (groups_of(rows) % buckets).astype(np.min_scalar_type(buckets))  # a small type is sorted by its digits
    sizes = np.bincount(of_row, minlength=buckets)
    rows = rows.take(pa.array(np.argsort(of_row, kind="stable")))
    starts, filled = np.cumsum(sizes) - sizes, np.flatnonzero(sizes)
    sink, ends = pa.BufferOutputStream(), [0]
    for bucket in filled.tolist():
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows.slice(starts[bucket], sizes[bucket]))
        ends.append(sink.tell())
    records = pa.Array.from_buffers(
        pa.binary(), len(filled), [None, pa.py_buffer(np.array(ends, np.int32)), sink.getvalue()]
    )
    return pa.RecordBatch.from_arrays([pa.array(filled, pa.int32()), records], ["bucket", "rows"])


def rows_of(records: Batches) -> Batches:
    """Yield the rows of records."""
    for batch in records:
        for record in batch.column("rows"):
            with pa.ipc.open_stream(record.as_buffer()) as stream:
                yield from stream
