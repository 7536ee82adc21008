"""Counts of words: those of many segments are added up, dealt to buckets, and added up there.

Spark's own aggregation took longer than reading the text (docs/measurements.md).
"""

from collections.abc import Iterator

import pyarrow as pa

from spark_w2v.text.arrow_arrays import string_bytes
from spark_w2v.text.records import Batches, pack_rows, rows_of
from spark_w2v.text.spellings import word_hashes, words_of
from spark_w2v.text.weights import BITS, UNITS

WORD_BYTES = 16  # of a word besides its UTF-8: where it ends, its count and half of its hash
# Bytes of words that a task adds up at a time, and of those of all segments that share a bucket. Where all words
# differ, the process of a task takes up to 384 MB.
ADDED_BYTES, BUCKET_BYTES = 8 << 20, 16 << 20
ROWS = 20_000  # that go to the JVM together


def buckets_of(size: int, least: int) -> int:
    """Return the number of buckets, so that what a task adds up is bounded.

    Args:
        size: bytes of the words of all segments, added up, with WORD_BYTES for each.
        least: buckets.
    """
    return max(1, least, -(-size // BUCKET_BYTES))


def count_records(batches: Batches, buckets: int) -> Batches:
    """Yield the counts of some SEGMENTS as records of pack_rows: `group`, a hash of the word, `word` and `count`."""
    return pack_rows(_added(batches), buckets)


def records_of(counts: pa.Table, buckets: int) -> Batches:
    """Yield counts that are there already, `word` and `count`, as count_records does those of segments."""
    slices = (counts.slice(start, ROWS) for start in range(0, len(counts), ROWS))
    return pack_rows((batch for some in slices for batch in _with_hashes([some])), buckets)


def _added(batches: Batches) -> Batches:
    waiting: list[pa.Table] = []
    waits = 0
    for batch in batches:
        words, _ = words_of(batch)
        counts = string_bytes(batch.column("counts")).view("<i8").copy()  # which aligns them
        waiting.append(pa.table({"word": words, "count": counts}))
        waits += batch.column("words").nbytes + len(words) * WORD_BYTES
        if waits >= ADDED_BYTES:
            yield from _with_hashes(waiting)
            waiting, waits = [], 0
    if waits:
        yield from _with_hashes(waiting)


def _with_hashes(tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
    found = _summed(pa.concat_tables(tables)).combine_chunks()
    for batch in found.to_batches():
        yield batch.append_column("group", pa.array(word_hashes(batch.column("word"))))


def _summed(counts: pa.Table) -> pa.Table:
    """Return each word once, with the sum of its counts."""
    # Of strings, not of Arrow's large ones, which take several times as long.
    found = counts.group_by("word", use_threads=False).aggregate([("count", "sum")])
    return found.select(["word", "count_sum"]).rename_columns(["word", "count"])


def add_records(records: Batches, weighted: bool) -> Batches:
    """Yield each word of some buckets once, with its count.

    Args:
        records: of count_records.
        weighted: counts are sums of weights, in units, and are rounded to whole occurrences.
    """
    found = list(rows_of(records))
    if not found:
        return
    counts = _summed(pa.Table.from_batches(found).select(["word", "count"]))
    yield from rounded_counts(counts, weighted).to_batches(ROWS)


def rounded_counts(counts: pa.Table, weighted: bool) -> pa.Table:
    """Return `word` and `count` with sums of weights, in units, as whole occurrences; others are whole already."""
    if not weighted:
        return counts
    return counts.set_column(1, "count", pa.array(counts["count"].to_numpy() + UNITS // 2 >> BITS))
