"""SEGMENTS → windows of rare words, for a later run, and windows of an earlier run → rows of ENCODED."""

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F

from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.induction import WIDE_WINDOW
from spark_w2v.spark.memory import PYTHON, Given, format_bytes, given_by
from spark_w2v.spark.tables import ENCODED, ENCODED_ARROW
from spark_w2v.text.rare_windows import (
    ALL_HASHES,
    WINDOWS,
    Rare,
    assemble,
    count_rare,
    encode_windows,
    find_windows,
)

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext
    from pyspark.sql import DataFrame

    from spark_w2v.text.encoding import Vocabulary

FILE = 2**31 - 1  # number that windows of an earlier run have in ENCODED; no text has so many files
WINDOW_BYTES, WORD_BYTES = 64, 12  # of a window as it is kept: the rare word, offsets and weight; and another word
RECORDS = "file int, start bigint, segment int, rows binary"


def reach_of(window: int | str) -> int:
    """Return the words with vectors to either side of a rare one that are kept; of training.window."""
    return window if isinstance(window, int) else WIDE_WINDOW


def split(windows: pa.Table, vocabulary: "Vocabulary", stop: pa.Array | None) -> tuple[pa.Table, pa.Table]:
    """Return WINDOWS of words that have vectors now, and of those that are still rare."""
    words = windows["word"].cast(vocabulary.words.type)
    is_known = pc.is_in(words, value_set=vocabulary.words)
    is_rare = pc.invert(is_known)
    if stop is not None:
        is_rare = pc.and_(is_rare, pc.invert(pc.is_in(words, value_set=stop.cast(words.type))))
    return windows.filter(is_known), windows.filter(is_rare)


def with_windows(encoded: "DataFrame", windows: pa.Table, vocabulary: "Vocabulary", weighted: bool) -> "DataFrame":
    """Return ENCODED and WINDOWS, which are sentences of their own."""
    rows = [
        (FILE, 0, number, *columns)
        for number, columns in enumerate(encode_windows(windows, vocabulary.words, weighted))
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(ENCODED_ARROW)
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, ENCODED_ARROW, strict=True)], schema=ENCODED_ARROW)
    return encoded.union(encoded.sparkSession.createDataFrame(table, ENCODED))


def facts_of(windows: pa.Table, frequent: pa.Table) -> dict[str, Any]:
    """Return what run.json says of the WINDOWS of an earlier run, and of those whose words have vectors now."""
    return {
        "earlier_windows": len(windows),
        "earlier_rare_words": len(windows["word"].unique()),
        "trained_windows": len(frequent),
        "no_longer_rare_words": len(frequent["word"].unique()),
    }


def collect_windows(
    segments: "DataFrame",
    encoded: "DataFrame",
    vocabulary: "Vocabulary",
    stop: pa.Array | None,
    reach: int,
    most: int,
    earlier: pa.Table | None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Find the windows of rare words, and add them to those of an earlier run.

    Args:
        segments, encoded: SEGMENTS and ENCODED of the same text, persisted by the caller.
        stop: words that get no vector and are not rare.
        reach: words with vectors to either side.
        most: windows that are kept. Where the text alone has more, those of some words are found; which ones follows
            from their hashes. Then the oldest are left out.
        earlier: WINDOWS of an earlier run, of words that are still rare.

    Returns:
        WINDOWS, the oldest first, and what run.json says of them.

    Raises:
        NotEnoughMemoryError: the driver has no room for them.
    """
    earlier = WINDOWS.empty_table() if earlier is None else earlier
    context, none = segments.sparkSession.sparkContext, pa.array([], vocabulary.words.type)
    rare = Rare(vocabulary.words, none if stop is None else stop.cast(vocabulary.words.type), reach)
    columns = segments.select("file", "start", "segment", "words", "ends", "codes", "lengths", "weights")
    # Words without a vector; stop words are among them.
    found = _words(segments, "codes") - _words(encoded.where(F.col("file") != FILE), "ids")
    with ExitStack() as sent:
        if found > most:
            found = _count(columns, rare, sent)
            rare = replace(rare, hashes=min(ALL_HASHES, ALL_HASHES * most // max(found, 1)))
        _check_memory(min(most, found) + min(most, len(earlier)), reach, given_by(context))
        to_find = _send(context, rare, sent)
        records = columns.mapInArrow(lambda batches: find_windows(batches, to_find.value), RECORDS).toArrow()
    fresh = assemble(records, vocabulary.words)
    if rare.hashes == ALL_HASHES:
        found = len(fresh)
    every = pa.concat_tables([earlier, fresh])
    kept = every.slice(max(0, len(every) - most))
    facts = {
        "kept_windows": len(kept),
        "kept_rare_words": len(kept["word"].unique()),
        "dropped_windows": len(earlier) + found - len(kept),
    }
    return kept, facts


def _words(rows: "DataFrame", column: str) -> int:
    row = rows.agg(F.coalesce(F.sum(F.octet_length(column)), F.lit(0)).alias("bytes")).first()
    assert row is not None, "an aggregate without groups has one row"
    return int(row["bytes"]) // 4


def _count(columns: "DataFrame", rare: Rare, sent: ExitStack) -> int:
    which = _send(columns.sparkSession.sparkContext, rare, sent)
    counted = columns.mapInArrow(lambda batches: count_rare(batches, which.value), "windows bigint")
    row = counted.agg(F.coalesce(F.sum("windows"), F.lit(0)).alias("windows")).first()
    assert row is not None, "an aggregate without groups has one row"
    return int(row["windows"])


def _send(context: "SparkContext", rare: Rare, sent: ExitStack) -> "Broadcast[Rare]":
    broadcast = send(context, rare)
    sent.callback(broadcast.destroy)
    return broadcast


def _check_memory(windows: int, reach: int, given: Given) -> None:
    need = windows * (WINDOW_BYTES + 2 * reach * WORD_BYTES)
    limits = {
        "the driver's machine has": None if given.machine is None else given.machine - PYTHON,
        "spark.driver.memory is": given.heap // 2,
        "spark.driver.maxResultSize is": given.results,
    }
    for says, limit in limits.items():
        if limit is not None and need > limit:
            raise NotEnoughMemoryError(
                f"vocabulary.rare_windows: {windows:,} windows of rare words take up to {format_bytes(need)} on the "
                f"driver, and {says} {format_bytes(limit)}; lower vocabulary.rare_windows."
            )
