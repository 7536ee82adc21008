"""Rows of one word each → LINES, one for each group of rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_w2v.text.arrow_arrays import booleans
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.records import groups_of
from spark_w2v.text.tokenizer import NO_REASON, SEGMENT_WORDS
from spark_w2v.types import Int64Array


def join_rows(batches: Iterator[pa.RecordBatch], longest: int, buckets: int) -> Iterator[pa.RecordBatch]:
    """LINES of sorted rows, from batches that may end anywhere.

    A row that is bad is a line of its own. A group of more than SEGMENT_WORDS rows is several lines, which are cut
    where a sentence ends anyway; no more rows are held at a time.

    Args:
        batches: group, null of a bad row; word, a string or a whole number; reason, unless the only bad rows are
            those that lack a group; and weight if there are any.
        longest: words of the longest sentence.
        buckets: number of buckets, to which the groups are dealt by what is left of their division by it.
    """
    most = max(longest, SEGMENT_WORDS // longest * longest)
    waiting: pa.RecordBatch | None = None
    for batch in batches:
        rows = batch if waiting is None else pa.concat_batches([waiting, batch])
        if not len(rows):
            continue
        starts = _starts(rows, most)
        if starts[-1]:
            yield _lines(rows.slice(0, starts[-1]), starts[:-1], buckets)
        waiting = rows.slice(starts[-1])
    if waiting is not None:
        yield _lines(waiting, _starts(waiting, most), buckets)


def _starts(rows: pa.RecordBatch, most: int) -> Int64Array:
    """(lines,) the row at which each line starts."""
    bad = _reasons(rows) != NO_REASON
    group = groups_of(rows)
    changes = bad[1:] | bad[:-1] | (group[1:] != group[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    sizes = np.diff(starts, append=len(rows))
    if (sizes > most).any():
        lines = -(-sizes // most)
        number = np.arange(lines.sum()) - np.repeat(np.cumsum(lines) - lines, lines)
        starts = np.repeat(starts, lines) + number * most
    return np.asarray(starts, np.int64)


def _reasons(rows: pa.RecordBatch) -> npt.NDArray[np.signedinteger[Any]]:
    """(rows,) why each row is bad."""
    if "reason" in rows.schema.names:
        return np.asarray(rows.column("reason").to_numpy())
    return np.where(booleans(rows.column("group").is_null()), COUNTERS.index("missing_lines"), NO_REASON)


def _lines(rows: pa.RecordBatch, starts: Int64Array, buckets: int) -> pa.RecordBatch:
    reason = _reasons(rows)[starts].astype(np.int32)
    offsets = np.append(starts, len(rows)).astype(np.int32)
    words = rows.column("word")
    words = words.cast(pa.string()) if pa.types.is_integer(words.type) else words.view(pa.string())
    columns = {
        "path_hash": pa.array(groups_of(rows)[starts] % buckets),
        "start": pa.array(np.zeros(len(starts), np.int64)),
        "value": pa.ListArray.from_arrays(pa.array(offsets), words, mask=pa.array(reason != NO_REASON)),
        "reason": pa.array(reason),
    }
    if "weight" in rows.schema.names:
        columns["weight"] = pa.array(np.maximum.reduceat(rows.column("weight").to_numpy(), starts))
    return pa.RecordBatch.from_pydict(columns)
