"""Rows of one word each, sorted outside the JVM in the buckets that they were dealt to.

The task of a bucket sorts SORTED_BYTES of rows at a time in memory, and merges what it has sorted from its local disk,
so a bucket may have any size.
"""

import tempfile
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.text.records import Batches
from spark_w2v.types import Int64Array

SORTED_BYTES = 32 << 20  # of rows that are sorted at a time. With its copies, a task took 250 MB at most
MOST_RUNS = 64  # that are merged at a time
# A batch of sorted rows has no more of either. Of a file, as two batches of each of MOST_RUNS are held at a time.
BATCH_ROWS, BATCH_BYTES = 1 << 15, 4 << 20
FILED_BYTES = SORTED_BYTES // (2 * MOST_RUNS)


def sorted_rows(records: Batches, keys: list[str], directory: str) -> Batches:
    """Yield the rows of a bucket by rising `keys`, nulls first, NaN last, strings by their bytes.

    Args:
        records: of pack_rows, all of one bucket.
        keys: columns to sort by; rows that are equal in all of them come in any order.
        directory: for files of rows that do not fit in memory. They have no names, so that nothing is left of them.
    """
    waiting: list[pa.RecordBatch] = []
    size = 0
    runs: list[BinaryIO] = []
    for batch in records:
        for record in batch.column("rows"):
            with pa.ipc.open_stream(record.as_buffer()) as stream:
                waiting += stream
            size += len(record.as_buffer())
            if size >= SORTED_BYTES:
                rows = pa.concat_batches(waiting)
                waiting, size = [], 0
                runs.append(_filed(_sorted(rows, keys, FILED_BYTES), directory))
                if len(runs) == MOST_RUNS:
                    runs = [_filed(_merged(runs, keys, FILED_BYTES), directory)]
    if waiting and runs:
        runs.append(_filed(_sorted(pa.concat_batches(waiting), keys, FILED_BYTES), directory))
        waiting = []
    if runs:
        yield from _merged(runs, keys, BATCH_BYTES)
    elif waiting:
        yield from _sorted(pa.concat_batches(waiting), keys, BATCH_BYTES)


def _sorted(rows: pa.RecordBatch, keys: list[str], most_bytes: int) -> Batches:
    yield from _cut(rows.take(pa.array(_order(rows, keys))), most_bytes)


def _cut(rows: pa.RecordBatch, most_bytes: int) -> Batches:
    step = max(1, min(BATCH_ROWS, len(rows) * most_bytes // max(1, rows.nbytes)))
    for at in range(0, len(rows), step):
        yield rows.slice(at, step)


def _order(rows: pa.RecordBatch, keys: list[str]) -> npt.NDArray[np.intp]:
    """Return the places of the rows in their order."""
    values = _numbers(rows.column(keys[0]))
    order = _places(values)
    values = values[order]
    same = values[1:] == values[:-1]  # whether a row and the next one are equal in all keys so far
    for key in keys[1:]:
        at = np.flatnonzero(np.append(same, False) | np.append(False, same))  # only these are still to be sorted
        if not at.size:
            break
        some = order[at]
        values = _numbers(rows.column(key).take(pa.array(some)))
        run = np.cumsum(np.append(True, ~same))[at]
        within = _order_in_runs(run, values)
        order[at], values = some[within], values[within]
        same[at[:-1]] &= values[1:] == values[:-1]
    return order


def _order_in_runs(run: Int64Array, values: Int64Array) -> npt.NDArray[np.intp]:
    """Return the order by run, which rises, and then by value; any order of those that are equal in both."""
    if run[0] == run[-1]:
        return _places(values)
    least = int(values.min())
    span = int(values.max()) - least + 1
    if (int(run[-1]) + 1) * span >= 1 << 63:
        return np.lexsort((values, run))
    numbers = run * span + (values - least)  # which sort as both do, in half of the time
    place = run.size.bit_length()
    if (int(run[-1]) + 1) * span >= 1 << 63 - place:
        return np.argsort(numbers)
    # With its place below it, a number is sorted in a third of the time of its place.
    numbers = numbers << place | np.arange(run.size)
    numbers.sort()
    return numbers & (1 << place) - 1


def _places(values: Int64Array) -> npt.NDArray[np.intp]:
    """Return the order by value; any order of those that are equal."""
    # With its place in its lowest bits a number is sorted in half of the time of its place. What these bits hide are
    # mostly equal hashes.
    place = values.size.bit_length()
    numbers = values & -1 << place | np.arange(values.size)
    numbers.sort()
    order = numbers & (1 << place) - 1
    found = values[order]
    return order if (found[1:] >= found[:-1]).all() else np.argsort(values)


def _numbers(values: pa.Array) -> Int64Array:
    """Return numbers that are ordered as values of any type; that of a null is the least one."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())  # the same bytes
    if pa.types.is_integer(values.type) and not values.null_count:
        return np.asarray(values.to_numpy(), np.int64)
    ranks: Int64Array = pc.rank(values, tiebreaker="dense").to_numpy().astype(np.int64)
    ranks[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return ranks


def _filed(batches: Batches, directory: str) -> BinaryIO:
    """Write sorted rows to a file."""
    file: BinaryIO = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # lives as long as the run
    writer = None
    for batch in batches:
        if writer is None:
            writer = pa.ipc.new_stream(file, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()
    file.seek(0)
    return file


def _merged(runs: list[BinaryIO], keys: list[str], most_bytes: int) -> Batches:
    """Merge files of sorted rows, which it closes, to batches of so many bytes."""
    readers = [iter(pa.ipc.open_stream(file)) for file in runs]
    left = np.zeros(len(runs), np.int64)  # rows of each run that are held
    newest = np.ones(len(runs), np.int64)  # rows of its batch that was read last
    is_over = np.zeros(len(runs), bool)
    rows: pa.RecordBatch | None = None
    run_of = np.empty(0, np.int64)
    while True:
        held = [] if rows is None else [rows]
        for number in np.flatnonzero(~is_over & (left < newest)).tolist():
            batch = next(readers[number], None)
            if batch is None:
                is_over[number] = True
                runs[number].close()
            else:
                held.append(batch)
                newest[number] = len(batch)
                run_of = np.append(run_of, np.full(len(batch), number))
        if not held:
            return
        rows = pa.concat_batches(held)
        order = _order(rows, keys)
        rows, run_of = rows.take(pa.array(order)), run_of[order]
        # What comes after the last row of a run that goes on may come after rows of its next batch.
        last = np.zeros(len(runs), np.int64)
        last[run_of] = np.arange(len(rows))
        end = len(rows) if is_over.all() else int(last[~is_over].min()) + 1
        yield from _cut(rows.slice(0, end), most_bytes)
        rows, run_of = (None if end == len(rows) else rows.slice(end)), run_of[end:]
        left = np.bincount(run_of, minlength=len(runs))
