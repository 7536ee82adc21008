"""Rows of one word each → LINES, one for each group of rows."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from spark_w2v.text.tokenizer import NO_REASON, SEGMENT_WORDS
from spark_w2v.types import Int64Array


def join_rows(batches: Iterator[pa.RecordBatch], longest: int) -> Iterator[pa.RecordBatch]:
    """LINES of sorted rows, from batches that may end anywhere.

    A row that is bad is a line of its own. A group of more than SEGMENT_WORDS rows is several lines, which are cut
    where a sentence ends anyway; no more rows are held at a time.

    Args:
        batches: path_hash, first, second: the group; word, reason; and weight if there are any.
        longest: words of the longest sentence.
    """
    most = max(longest, SEGMENT_WORDS // longest * longest)
    waiting: pa.RecordBatch | None = None
    for batch in batches:
        rows = batch if waiting is None else _joint(waiting, batch)
        if not len(rows):
            continue
        starts = _starts(rows, most)
        if starts[-1]:
            yield _lines(rows.slice(0, starts[-1]), starts[:-1])
        waiting = rows.slice(starts[-1])
    if waiting is not None:
        yield _lines(waiting, _starts(waiting, most))


def _joint(one: pa.RecordBatch, other: pa.RecordBatch) -> pa.RecordBatch:
    columns = [pa.concat_arrays(pair) for pair in zip(one.columns, other.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=one.schema)


def _starts(rows: pa.RecordBatch, most: int) -> Int64Array:
    """(lines,) the row at which each line starts."""
    reason = rows.column("reason").to_numpy()
    bad = reason != NO_REASON
    changes = bad[1:] | bad[:-1]
    for name in ("path_hash", "first", "second"):
        column = rows.column(name).to_numpy()
        changes |= column[1:] != column[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    sizes = np.diff(starts, append=len(rows))
    if (sizes > most).any():
        lines = -(-sizes // most)
        number = np.arange(lines.sum()) - np.repeat(np.cumsum(lines) - lines, lines)
        starts = np.repeat(starts, lines) + number * most
    return np.asarray(starts, np.int64)


def _lines(rows: pa.RecordBatch, starts: Int64Array) -> pa.RecordBatch:
    reason = rows.column("reason").take(pa.array(starts))
    offsets = np.append(starts, len(rows)).astype(np.int32)
    is_bad = pa.array(reason.to_numpy() != NO_REASON)
    columns = {
        "path_hash": rows.column("path_hash").take(pa.array(starts)),
        "start": pa.array(np.zeros(len(starts), np.int64)),
        "value": pa.ListArray.from_arrays(pa.array(offsets), rows.column("word").cast(pa.string()), mask=is_bad),
        "reason": reason,
    }
    if "weight" in rows.schema.names:
        columns["weight"] = pa.array(np.maximum.reduceat(rows.column("weight").to_numpy(), starts))
    return pa.RecordBatch.from_pydict(columns)
