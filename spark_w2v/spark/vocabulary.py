"""SEGMENTS → the words that get a vector, and SEGMENTS in their ids.

Ids are ranks by falling count, ties by spelling (code points), so they depend on the corpus and on the configuration,
never on partitioning.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
from pyspark.sql import Observation

from spark_w2v.errors import NoWordsError, UserError
from spark_w2v.spark.memory import PYTHON, SEGMENT
from spark_w2v.spark.session import create_frame
from spark_w2v.spark.slots import slots
from spark_w2v.spark.tables import ENCODED
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.encoding import Vocabulary, encode_batch, segment_of, segments_of, together
from spark_w2v.text.messages import counted as number_of
from spark_w2v.text.messages import some_words
from spark_w2v.text.word_counts import (
    WORD_BYTES,
    add_records,
    buckets_of,
    count_records,
    records_of,
    rounded_counts,
)

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame

log = logging.getLogger("spark_w2v")

TABLE_BYTES = 64  # per word in Arrow's hash table, next to its spelling


@dataclass(frozen=True)
class WordLists:
    """Words, strings each once, that decide on the vocabulary next to their counts.

    Args:
        known: kept in any case, also where they do not occur.
        given: the words that are kept if they occur at all, and no others; None for any word.
        stop: words that are never kept.
        given_by: what gives the given words, for messages.
    """

    known: pa.Array | None = None
    given: pa.Array | None = None
    stop: pa.Array | None = None
    given_by: str = "vocabulary.words"

    @property
    def kept(self) -> pa.Array | None:
        """The known words that are not stop words; None where none are known."""
        if self.known is None or self.stop is None:
            return self.known
        return self.known.filter(pc.invert(pc.is_in(self.known, value_set=self.stop.cast(self.known.type))))

    def allowed(self, counted: "DataFrame") -> "DataFrame":
        """Rows with a column `word`, without those of words that the lists rule out."""
        session = counted.sparkSession
        if self.given is not None:
            counted = counted.join(create_frame(session, pa.table({"word": self.given})), "word", "left_semi")
        if self.stop is not None:
            counted = counted.join(create_frame(session, pa.table({"word": self.stop})), "word", "left_anti")
        return counted


ANY_WORD = WordLists()


def count_words(
    segments: "DataFrame",
    min_count: int,
    max_words: int = 0,
    lists: WordLists = ANY_WORD,
    weighted: bool = False,
    size: int | None = None,
    earlier: pa.Table | None = None,
) -> Vocabulary:
    """The vocabulary of SEGMENTS.

    Args:
        segments: persisted by the caller, or the corpus is read once more by whatever comes next.
        min_count: occurrences that a word needs, unless words are given.
        max_words: words to keep, the most frequent first; 0 keeps all.
        weighted: the sentences have weights; a count is the sum of those of its word, rounded.
        size: of the words of the segments, as read_totals returns it; None where it is not known.
        earlier: `word` and `count` of the windows of an earlier run, as window_counts returns them, which are added.

    Raises:
        UserError: no word is left.
    """
    if size is None:
        size = read_totals(segments)[1]
    of_windows = 0 if earlier is None else earlier["word"].nbytes + WORD_BYTES * len(earlier)
    buckets = buckets_of(size + of_windows, slots(segments.sparkSession.sparkContext)[0])
    columns, kind = segments.select("words", "ends", "counts"), "bucket int, rows binary"
    records, in_windows = columns.mapInArrow(lambda batches: count_records(batches, buckets), kind), 0
    if earlier is not None and len(earlier):
        packed = pa.Table.from_batches(records_of(earlier, buckets))
        records = records.union(create_frame(segments.sparkSession, packed))
        in_windows = int(rounded_counts(earlier, weighted)["count"].to_numpy().sum())
    counted = records.repartitionById(buckets, F.col("bucket")).mapInArrow(
        lambda records: add_records(records, weighted), "word string, count long"
    )
    known = lists.kept
    if lists.given is not None:
        min_count = 1
    if max_words or known is not None:
        counted.persist()
    # What is seen of the words that are not kept, while the others come to the driver.
    seen = Observation()
    seen_allowed = seen if lists.given is None and lists.stop is None else Observation()
    numbers = [
        F.sum("count").alias("total"),
        F.max("count").alias("most"),
        F.count("*").alias("distinct"),
        F.count_if(F.col("count") > 0).alias("counted"),  # the others have weights that come to nothing
    ]
    try:
        room = 0
        if max_words:
            min_count, room = _least_count(lists.allowed(counted), min_count, max_words)
        allowed = lists.allowed(counted.observe(seen, *numbers))
        if seen_allowed is not seen:  # to observe a million words takes a second
            allowed = allowed.observe(seen_allowed, *numbers)
        rows = allowed.where(F.col("count") >= min_count).select("word", "count")
        if room:  # Spark orders strings by their bytes, as Arrow does
            ties = lists.allowed(counted).where(F.col("count") == min_count - 1).select("word", "count")
            rows = rows.unionAll(ties.orderBy("word").limit(room))
        kept = rows.toArrow()
        total, distinct = max(0, (seen.get["total"] or 0) - in_windows), seen.get["distinct"]
        if not total or (not len(kept) and (known is None or not len(known))):
            if total and not seen_allowed.get["distinct"]:
                _refuse_lists(lists)
            _refuse_empty(total, distinct if size else 0, seen_allowed.get["most"] or 0, min_count)
        if lists.stop is not None and lists.given is None:
            stopped = {name: (seen.get[name] or 0) - (seen_allowed.get[name] or 0) for name in ("distinct", "total")}
            log.info(
                "stop words: %s in the text, %s left out",
                number_of(stopped["distinct"], "word"), number_of(stopped["total"], "occurrence"),
            )  # fmt: skip
            if not stopped["distinct"]:
                log.warning("vocabulary.stop_words: none is in the text; check how they are written")
        if known is not None:
            spellings = create_frame(segments.sparkSession, pa.table({"word": known}))
            occurring = counted.join(spellings, "word", "left_semi").select("word", "count").toArrow()
            if not len(kept) and not pc.sum(occurring["count"]).as_py():
                raise UserError(
                    f"no word is left: none of the {len(known):,} words that are kept occurs in the text, such as "
                    f"{some_words(known.slice(0, 3).to_pylist())}, and no other {min_count:,} times "
                    "(vocabulary.min_count); check that they are spelled as in the text, so in lower case with "
                    "corpus.lower_case."
                )
    finally:
        counted.unpersist()
    kept = _ranked(kept)
    if known is not None:
        kept = _ranked(_with_known(kept, occurring, known))
    words = kept["word"].cast(pa.large_string()).combine_chunks()
    return Vocabulary(words, kept["count"].to_numpy().astype(np.int64), total, seen.get["counted"])


def _ranked(counts: pa.Table) -> pa.Table:
    """Rows by falling count, ties by spelling."""
    # Arrow takes more than twice as long to sort what is in many chunks.
    return counts.combine_chunks().sort_by([("count", "descending"), ("word", "ascending")])


def _least_count(counted: "DataFrame", min_count: int, max_words: int) -> tuple[int, int]:
    """Return the occurrences that a word needs to be kept whatever its spelling, and how many of one less are kept."""
    # How many words occur once, twice, ...: some thousand rows, which say where max_words cuts before any word comes to
    # the driver. Of words that occur once there may be tens of millions.
    steps = counted.groupBy("count").agg(F.count("*").alias("words")).toArrow().sort_by([("count", "descending")])
    counts, words = steps["count"].to_numpy(), steps["words"].to_numpy()
    if words[counts >= min_count].sum() <= max_words:
        return min_count, 0
    most = np.cumsum(words)
    cut = int(np.searchsorted(most, max_words, side="right"))  # the first count of which not all words have room
    return int(counts[cut]) + 1, max_words - int(most[cut - 1] if cut else 0)


def _refuse_lists(lists: WordLists) -> NoReturn:
    if lists.given is None:
        raise UserError("no word is left: every word of the text is one of vocabulary.stop_words; give other ones.")
    allowed = "" if lists.stop is None else " without being one of vocabulary.stop_words"
    raise UserError(
        f"no word is left: none of the {len(lists.given):,} words of {lists.given_by} occurs in the text{allowed}, "
        f"such as {some_words(lists.given.slice(0, 3).to_pylist())}; check the text, these words, and "
        "corpus.lower_case."
    )


def _with_known(kept: pa.Table, occurring: pa.Table, known: pa.Array) -> pa.Table:
    """The kept words, and every known word that is not among them, with its count or 0.

    Args:
        kept, occurring: word, count; all words of `occurring` are known.
    """
    missing = known.filter(pc.invert(pc.is_in(known, value_set=occurring["word"].cast(known.type))))
    absent = pa.table({"word": missing, "count": np.zeros(len(missing), np.int64)})
    every = pa.concat_tables([occurring.cast(kept.schema), absent.cast(kept.schema)])
    return pa.concat_tables([kept, every.filter(pc.invert(pc.is_in(every["word"], value_set=kept["word"])))])


def _refuse_empty(total: int, distinct: int, most: int, min_count: int) -> NoReturn:
    if distinct and not total:
        raise NoWordsError(
            f"the corpus has no words that count: {distinct:,} distinct ones, whose weights come to less than a half "
            "each; give larger weights in corpus.weight."
        )
    if not total:
        raise NoWordsError("the corpus has no words: every line is blank, bad or without a word; give --input text.")
    raise UserError(
        f"no word is left: of {total:,} words, {distinct:,} distinct, the most frequent occurs {most:,} times and "
        f"vocabulary.min_count is {min_count:,}; lower vocabulary.min_count, or give a larger corpus."
    )


def counters(segments: "DataFrame") -> dict[str, int]:
    """Return what was read, skipped and changed in the whole corpus, by the names of COUNTERS."""
    return read_totals(segments)[0]


def read_totals(segments: "DataFrame") -> tuple[dict[str, int], int]:
    """Return the counters, and the bytes of the words of all segments, added up, as buckets_of takes them."""
    sums = [F.coalesce(F.sum(F.col("counters")[place]), F.lit(0)).alias(name) for place, name in enumerate(COUNTERS)]
    size = F.octet_length("words") + F.octet_length("ends") * F.lit(WORD_BYTES // 4)
    (row,) = segments.agg(*sums, F.coalesce(F.sum(size), F.lit(0)).alias("size")).collect()
    return {name: int(row[name]) for name in COUNTERS}, int(row["size"])


def encode(segments: "DataFrame", words: "Broadcast[pa.Array]") -> "DataFrame":
    """SEGMENTS in word ids: ENCODED. Lazy; as many partitions as the segments.

    Args:
        words: of a Vocabulary; needed for as long as the result may be computed.
    """
    return segments.select("file", "start", "segment", "words", "ends", "codes", "lengths", "weights").mapInArrow(
        _encode_with(lambda: words.value), ENCODED
    )


def encoding_bytes(words: int, word_bytes: int) -> int:
    """Return the memory of a task that turns words into ids, as `encode` does.

    Args:
        words: V.
        word_bytes: of all words of the vocabulary together.
    """
    # As they are sent, and in the table, where they move to twice the room whenever they fill it.
    return PYTHON + SEGMENT + 4 * word_bytes + TABLE_BYTES * words


def contexts_of_sentences(encoded: "DataFrame", kept: float, most: float) -> float:
    """Return the expected contexts of a center that is paired with its whole sentence, or as much as fits; of ENCODED.

    Args:
        kept: share of the words that subsampling leaves.
        most: contexts of a center at most.
    """

    def sums(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for row in segments_of(batches):
            segment = segment_of(row)
            words = segment.lengths * (segment.weights if segment.weights.size else 1.0)
            pairs = words * np.minimum((segment.lengths - 1) * kept, most)
            yield pa.RecordBatch.from_pydict({"words": [float(words.sum())], "pairs": [float(pairs.sum())]})

    found = encoded.mapInArrow(sums, "words double, pairs double").toArrow()
    # Exact whatever the order of the rows, as the number of sweeps depends on it.
    words, pairs = (math.fsum(found[name].to_pylist()) for name in ("words", "pairs"))
    return pairs / max(words, 1.0)


def words_in(rows: "DataFrame", column: str) -> int:
    """Return how many numbers of 32 bits a column of binaries has, all rows together: its words."""
    (row,) = rows.agg(F.coalesce(F.sum(F.octet_length(column)), F.lit(0)).alias("bytes")).collect()
    return int(row["bytes"]) // 4


def longest_sentence(encoded: "DataFrame") -> int:
    """Return the words of the longest sentence of ENCODED."""

    def longest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for row in segments_of(batches):
            yield pa.RecordBatch.from_pydict({"words": [int(segment_of(row).lengths.max(initial=0))]})

    return max(encoded.mapInArrow(longest, "words long").toArrow()["words"].to_pylist(), default=0)


def _encode_with(
    words: Callable[[], pa.Array],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: (encode_batch(batch, words()) for batch in together(batches, len(words())))
