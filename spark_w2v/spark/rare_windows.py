"""SEGMENTS → windows of rare words, for a later run, and windows of an earlier run → rows of ENCODED."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F

from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.induction import WIDE_WINDOW
from spark_w2v.spark.memory import Given, format_bytes, given_by
from spark_w2v.spark.session import create_frame
from spark_w2v.spark.tables import ENCODED, ENCODED_ARROW, WINDOWS_FILE
from spark_w2v.spark.vocabulary import words_in
from spark_w2v.text.rare_windows import (
    ALL_HASHES,
    WINDOWS,
    Rare,
    assemble,
    count_rare,
    encode_windows,
    find_windows,
    newest_words,
    window_counts,
)
from spark_w2v.text.spellings import word_hashes
from spark_w2v.text.weights import BITS, UNITS
from spark_w2v.text.word_counts import rounded_counts
from spark_w2v.types import Int64Array

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_w2v.text.encoding import Vocabulary

# Of a window as it is kept: offsets and weight; each of its words.
WINDOW_BYTES, WORD_BYTES = 64, 12
BIN_BITS = 12  # hashes that are left out together: of 2^32, so that there are a million bins
RECORDS = "file int, start bigint, segment int, rows binary"


class Trained(NamedTuple):
    """A text in word ids with the windows of an earlier run whose words are no longer rare.

    Args:
        encoded: ENCODED.
        added: (V,) occurrences of each word in the windows that its count does not have: as a word around a rare one.
        still_rare: WINDOWS of words that have no vector yet.
        facts: JSON-able.
    """

    encoded: "DataFrame"
    added: Int64Array
    still_rare: pa.Table
    facts: dict[str, Any]


def with_windows(
    encoded: "DataFrame", windows: pa.Table, vocabulary: "Vocabulary", stop: pa.Array | None, weighted: bool
) -> Trained:
    """Add the windows of an earlier run to ENCODED, as sentences, if their words are in the vocabulary now.

    Args:
        windows: WINDOWS.
        stop: words that get no vector, and are not rare.
        weighted: whether the corpus has weights.
    """
    frequent, still_rare = split(windows, vocabulary, stop)
    rows, units = [], np.zeros(len(vocabulary), np.int64)
    for number, row in enumerate(encode_windows(frequent, vocabulary.words, weighted)):
        ids, lengths, weights = (np.frombuffer(column, "<i4") for column in row)
        of_word = np.repeat(weights, lengths) if weighted else np.full(ids.size, UNITS)
        units += np.bincount(ids, of_word, len(vocabulary)).astype(np.int64)
        rows.append(pa.table([[value] for value in (WINDOWS_FILE, 0, number, *row)], schema=ENCODED_ARROW))
    own = window_counts(frequent, weighted)
    places = pc.index_in(own["word"].cast(vocabulary.words.type), value_set=vocabulary.words).to_numpy()
    units[places] -= own["count"].to_numpy() * (1 if weighted else UNITS)
    if rows:
        # A chunk for each row, which Spark sends to the tasks one by one.
        encoded = encoded.union(create_frame(encoded.sparkSession, pa.concat_tables(rows), ENCODED))
    facts = {
        "earlier_windows": len(windows),
        "earlier_rare_words": len(windows["word"].unique()),
        "trained_windows": len(frequent),
        "trained_occurrences": int(rounded_counts(own, weighted)["count"].to_numpy().sum()),
        "no_longer_rare_words": len(own),
    }
    return Trained(encoded, units + UNITS // 2 >> BITS, still_rare, facts)


def split(windows: pa.Table, vocabulary: "Vocabulary", stop: pa.Array | None) -> tuple[pa.Table, pa.Table]:
    """Return WINDOWS of words that have vectors now, and of those that are still rare."""
    words = windows["word"].cast(vocabulary.words.type)
    is_known = pc.is_in(words, value_set=vocabulary.words)
    is_rare = pc.invert(is_known)
    if stop is not None:
        is_rare = pc.and_(is_rare, pc.invert(pc.is_in(words, value_set=stop.cast(words.type))))
    return windows.filter(is_known), windows.filter(is_rare)


def collect_windows(
    segments: "DataFrame",
    encoded: "DataFrame",
    vocabulary: "Vocabulary",
    stop: pa.Array | None,
    window: int | str,
    most: int,
    earlier: pa.Table | None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Find the windows of rare words, and add them to those of an earlier run.

    A word is kept with all of its windows or with none. Where the text has more than the windows of earlier runs leave
    room for, which is half of the most at least, words that have more alone are left out, and others by their hashes,
    until there is room. Then the words leave that have not occurred for longest.

    Args:
        segments, encoded: SEGMENTS and ENCODED of the same text, persisted by the caller.
        stop: words that get no vector and are not rare.
        window: training.window.
        most: windows that are kept.
        earlier: WINDOWS of an earlier run, of words that are still rare.

    Returns:
        WINDOWS, the oldest first, and what run.json says of them.

    Raises:
        NotEnoughMemoryError: the driver has no room for them.
    """
    earlier = WINDOWS.empty_table() if earlier is None else earlier
    before = len(earlier)
    context, none = segments.sparkSession.sparkContext, pa.array([], vocabulary.words.type)
    reach = min(window, WIDE_WINDOW) if isinstance(window, int) else WIDE_WINDOW
    rare = Rare(vocabulary.words, none if stop is None else stop.cast(vocabulary.words.type), reach)
    columns = segments.select("file", "start", "segment", "words", "ends", "codes", "lengths", "weights")
    # Words without a vector; stop words are among them.
    found = chosen = words_in(segments, "codes") - words_in(encoded.where(F.col("file") != WINDOWS_FILE), "ids")
    room = most - min(before, most // 2)
    if found > room or stop is not None:
        of_earlier = word_hashes(earlier["word"].combine_chunks())
        counted = _count(columns, rare, of_earlier, room)
        found = int(counted["windows"].to_numpy().sum())
        rare, chosen = _choose(rare, counted, room)
        # What is left out of the text is left out of the nights before: it would not be all windows of its word.
        occur = np.unique(pc.drop_null(counted["word"]).to_numpy())
        is_whole = ~np.isin(of_earlier, occur[~rare.chosen(occur)])
        earlier = earlier.filter(pa.array(is_whole))
    _check_memory(chosen + len(earlier), reach, given_by(context))
    to_find = send(context, rare)
    try:
        records = columns.mapInArrow(lambda batches: find_windows(batches, to_find.value), RECORDS).toArrow()
    finally:
        to_find.destroy()
    fresh = assemble(records, vocabulary.words)
    kept = newest_words(pa.concat_tables([earlier, fresh]), most)
    facts = {
        "kept_windows": len(kept),
        "kept_rare_words": len(kept["word"].unique()),
        "dropped_windows": before + found - chosen + len(fresh) - len(kept),
    }
    return kept, facts


def _count(columns: "DataFrame", rare: Rare, earlier: Int64Array, room: int) -> pa.Table:
    """Count the windows in the text of all words together that have hashes next to each other.

    Args:
        earlier: word_hashes of words that have windows already.

    Returns:
        `word`, the hash of an earlier word or of one that has more windows than there is room for; of all others null,
        and `bin`, their hashes of 2^32 without BIN_BITS; `windows`.
    """
    sent = send(columns.sparkSession.sparkContext, (rare, np.unique(earlier)))
    kind = "hash bigint, windows bigint, is_earlier boolean"
    try:
        counted = columns.mapInArrow(lambda batches: count_rare(batches, *sent.value), kind)
        of_word = counted.groupBy("hash").agg(F.sum("windows").alias("windows"), F.max("is_earlier").alias("alone"))
        alone = F.col("alone") | (F.col("windows") > room)
        bins = F.shiftright(F.col("hash").bitwiseAND(F.lit(ALL_HASHES - 1)), BIN_BITS)
        keys = F.when(alone, F.col("hash")).alias("word"), F.when(~alone, bins).alias("bin")
        return of_word.groupBy(*keys).agg(F.sum("windows").alias("windows")).toArrow()
    finally:
        sent.destroy()


def _choose(rare: Rare, counted: pa.Table, room: int) -> tuple[Rare, int]:
    """Return the rare words that are kept, and how many windows of the text they have, no more than the room.

    Args:
        counted: of _count.
    """
    windows, is_word = counted["windows"].to_numpy(), pc.is_valid(counted["word"]).to_numpy()
    words = pc.fill_null(counted["word"], 0).to_numpy()
    bins = np.where(is_word, words.view(np.uint64) % np.uint64(ALL_HASHES) >> np.uint64(BIN_BITS), 0)
    bins = np.where(is_word, bins.astype(np.int64), pc.fill_null(counted["bin"], 0).to_numpy())
    is_small = ~is_word | (windows <= room)
    total = np.cumsum(np.bincount(bins[is_small], windows[is_small], ALL_HASHES >> BIN_BITS).astype(np.int64))
    fit = int(np.searchsorted(total, room, side="right"))
    return replace(rare, hashes=fit << BIN_BITS, too_many=np.sort(words[~is_small])), int(total[fit - 1]) if fit else 0


def _check_memory(windows: int, reach: int, given: Given) -> None:
    need = windows * (WINDOW_BYTES + 2 * reach * WORD_BYTES)
    limits = {
        "the driver's machine has {} left": given.machine,
        "half of spark.driver.memory is {}": given.heap // 2,
        "spark.driver.maxResultSize is {}": given.results,
    }
    for says, limit in limits.items():
        if limit is not None and need > limit:
            raise NotEnoughMemoryError(
                f"vocabulary.rare_windows: {windows:,} windows of rare words may take {format_bytes(need)} on the "
                f"driver, and {says.format(format_bytes(limit))}; raise it, or lower vocabulary.rare_windows."
            )
