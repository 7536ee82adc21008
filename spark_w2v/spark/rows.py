"""Rows of a table → LINES, in an order that follows from the rows alone.

Rows of a table have neither a place nor an order that hold until tomorrow, and whatever is drawn at random for a
segment is seeded by its place. So they are dealt to buckets by a hash of what they hold, and sorted there: segments
depend on the rows alone, not on their order, nor on how they were partitioned. A bucket stands for a file.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pyspark.sql.functions as F
import pyspark.sql.types as T
from pyspark import TaskContext

from spark_w2v.spark import columns
from spark_w2v.spark.local_disk import local_directory
from spark_w2v.spark.orders import count_rows
from spark_w2v.spark.session import shuffled_without_limit_of_bytes
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.event_order import sorted_rows
from spark_w2v.text.events import join_rows
from spark_w2v.text.records import Batches, pack_rows
from spark_w2v.text.tokenizer import NO_REASON, SEGMENT_WORDS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from spark_w2v.config import Corpus

# Words of a bucket. Part of a segment's identity, as SEGMENT_WORDS is.
BUCKET_WORDS = 10 * SEGMENT_WORDS
BUCKET_EVENTS = 2 * SEGMENT_WORDS  # rows of one word each, which are sorted in memory where they are so few
SHORT_WORD = 200  # characters; of such words 20,000 rows have 16 MB at most
WORD_CHARACTERS = 6  # about, of a word of text and the space after it


class OrderedLines(NamedTuple):
    """LINES of a table.

    Args:
        lines: partition b has the lines of bucket b, in order.
        buckets: how many there are.
        prepare: what makes batches of LINES of batches of `lines`.
    """

    lines: "DataFrame"
    buckets: int
    prepare: Callable[[Batches], Batches]


def sentences_in_order(
    rows: "DataFrame", value: "Column", is_text: bool = False, weight: "Column | None" = None
) -> OrderedLines:
    """LINES of rows that hold a sentence each.

    Args:
        value: text or an array of words.
        is_text: it is text.
        weight: of each sentence.
    """
    kind = T.StringType() if is_text else T.ArrayType(T.StringType())
    units = [] if weight is None else [columns.weight_units(weight).alias("weight")]
    words = rows.select(value.cast(kind).alias("value"), *units)
    size = F.ceil(F.length("value") / WORD_CHARACTERS) if is_text else F.size("value").cast("long")
    (counted,) = words.agg(F.coalesce(F.sum(F.when(F.col("value").isNotNull(), size)), F.lit(0))).collect()
    buckets = max(1, -(-int(counted[0]) // BUCKET_WORDS))
    reason, of_line = columns.no_reason(), []
    if weight is not None:
        # A row without a sentence, as of an outer join, often has no weight either.
        reason = F.when(F.col("value").isNull(), COUNTERS.index("missing_lines")).otherwise(reason)
        reason = columns.with_reason_of_weight(reason, F.col("weight"))
        of_line = [F.coalesce("weight", F.lit(0)).alias("weight")]
    lines = words.select(
        F.pmod(F.xxhash64("value"), F.lit(buckets)).alias("path_hash"),
        F.lit(0).cast("long").alias("start"),
        F.when(reason == NO_REASON, F.col("value")).alias("value"),
        reason.alias("reason"),
        *of_line,
    )
    # By a hash first, because comparing longs is faster; rows with the same hash, words and weight are alike.
    lines = lines.repartitionById(buckets, F.col("path_hash").cast("int"))
    order = [F.col("path_hash"), F.xxhash64("value"), F.col("value"), F.col("reason")]
    if of_line:
        order.append(F.col("weight"))
    return OrderedLines(lines.sortWithinPartitions(*order), buckets, lambda batches: batches)


def _shortened(word: "Column", longest: int) -> "Column":
    """Cut words of more bytes than `longest` characters can have to `longest` + 1, so that they are still too long."""
    too_long = F.octet_length(word) > 4 * longest  # a character has 4 bytes at most
    return F.when(too_long, F.substring(word, 1, longest + 1)).otherwise(word)


def events_in_order(rows: "DataFrame", corpus_config: "Corpus", table: str) -> OrderedLines:
    """LINES of rows that hold a word each: a line is all words of a group.

    The tasks pack their rows in records, and sort those of a bucket outside the JVM, on disk where they are too many
    for memory. So a group may have any size.

    Args:
        table: what has no such column, for a message.

    Raises:
        UserError: no such column, or it holds something else.
    """
    schema, c = rows.schema, corpus_config
    word = columns.need_column(schema, c.column, "corpus.column", table)
    columns.check_word(c.column, word.kind)
    groups = columns.need_columns(schema, c.group_by, "corpus.group_by", table)
    columns.check_groups(c.group_by, groups)
    orders = columns.need_columns(schema, c.order_by, "corpus.order_by", table)
    columns.check_order(c.order_by, orders)
    count, orders = count_rows(rows, c, orders)
    reason = columns.reason_of_rows(schema)
    for group in groups:
        is_missing = (reason == NO_REASON) & group.value.isNull()
        reason = F.when(is_missing, COUNTERS.index("missing_lines")).otherwise(reason)
    of_row: list[Column] = []
    has_other_reasons = bool(c.weight) or columns.CORRUPT in schema.names
    if c.weight:
        units = columns.weight_units(columns.need_weight(schema, c.weight, table))
        reason = columns.with_reason_of_weight(reason, units)
        of_row = [F.coalesce(units, F.lit(0)).alias("weight")]
    buckets = max(1, -(-count // BUCKET_EVENTS))
    are_short = not any(isinstance(order.kind, T.StringType | T.BinaryType) for order in orders)
    words = word.value
    if not isinstance(word.kind, T.IntegralType):
        are_short = are_short and c.max_word_length <= SHORT_WORD
        text = words.cast("string")
        # As bytes, because Arrow's writer of strings makes an object of each.
        words = _shortened(text, c.max_word_length).cast("binary")
    # Handing rows to Python takes most of the time, a sixth of it for each column, so a row has no more than it needs.
    # A hash of 64 bits tells groups apart: of a hundred million, the odds that two are taken for one are 1 to 4,000.
    of_group = [*(group.value for group in groups), *columns.exact_values(schema, columns.names_in(schema, c.group_by))]
    kept = rows.select(
        F.when(reason == NO_REASON, F.xxhash64(*of_group)).alias("group"),
        *(order.value.alias(f"order{number}") for number, order in enumerate(orders)),
        words.alias("word"),
        *([reason.cast("byte").alias("reason")] if has_other_reasons else []),
        *of_row,
    )
    # Rows of a group that are equal in all of these make the same lines in any order: a long group is several, each of
    # which has the largest weight of its rows.
    keys = ["group", *(f"order{number}" for number in range(len(orders))), "word", *(["weight"] if c.weight else [])]
    records = kept.mapInArrow(lambda batches: pack_rows(batches, buckets), "bucket int, rows binary")
    records = records.repartitionById(buckets, F.col("bucket"))
    if are_short:
        records = shuffled_without_limit_of_bytes(records)
    longest = min(c.max_sentence_words, SEGMENT_WORDS)

    def lines(records: Batches) -> Batches:
        context = TaskContext.get()
        assert context is not None, "a task runs it"
        return join_rows(sorted_rows(records, keys, local_directory(context.partitionId())), longest, buckets)

    return OrderedLines(records, buckets, lines)
