"""SEGMENTS → the phrases in them, and SEGMENTS in which each phrase is one word.

Tasks count the pairs of words that follow each other, and Spark shuffles the counts by pair, in large records. They are
exact, so the result depends on no partitioning, and what a task holds at a time is bounded: CHUNK pairs that it counts,
and one bucket, of which there are as many as it takes for BUCKET pairs in each.

V words.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F

from spark_w2v.errors import NoWordsError, UserError
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.memory import PYTHON, SEGMENT, check_task, given_by
from spark_w2v.spark.slots import slots
from spark_w2v.spark.tables import SEGMENTS, SEGMENTS_LEVEL
from spark_w2v.spark.vocabulary import count_words, encoding_bytes, words_in
from spark_w2v.text.encoding import Vocabulary, together
from spark_w2v.text.messages import counted
from spark_w2v.text.phrases import (
    PHRASES,
    PairCounts,
    PhraseTable,
    bucket_of,
    inside_sentences,
    join_batch,
    pair_keys,
    scores,
    summed,
)
from spark_w2v.text.records import Batches
from spark_w2v.text.spellings import codes_of, word_hashes, words_of
from spark_w2v.text.weights import BITS, UNITS
from spark_w2v.types import Int64Array

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame

    from spark_w2v.config import Phrases

log = logging.getLogger("spark_w2v")

CHUNK = 2_000_000  # pairs that a task counts at a time
BUCKET = 2_000_000  # pairs of the whole text that share a bucket
PAIR_BYTES = 60  # of a chunk or a bucket whose pairs all differ: keys, counts, order, bucket, and copies of them
COUNT_BYTES = 8  # of a word
FEWER = "join fewer phrases, by phrases.max_phrases or a shorter phrases.list"
RECORD = 1 << 17  # pairs of a record at most, and about those of a batch of records, = 2 MB
COUNTS = "bucket int, keys binary, counts binary"
COUNTS_ARROW = pa.schema([("bucket", pa.int32()), ("keys", pa.binary()), ("counts", pa.binary())])
FACTS = ("pass", "pairs", "rare_occurrences", "frequent_pairs", "phrases", "left_out")  # of a pass
PAIRS = "first int, second int, count bigint, score double, distinct bigint"


@dataclass(frozen=True)
class JoinedText:
    """A text with phrases.

    Args:
        segments: SEGMENTS in which each phrase is one word; persisted.
        phrases: PHRASES of all passes.
        facts: of each pass, JSON-able.
    """

    segments: "DataFrame"
    phrases: pa.Table
    facts: list[dict[str, Any]]


def with_phrases(
    segments: "DataFrame",
    settings: "Phrases",
    listed: pa.Table | None,
    held: contextlib.ExitStack,
    cleanup: contextlib.ExitStack,
    weighted: bool,
    is_joined: bool = True,
) -> JoinedText:
    """Find the phrases of all passes, or take those of a list, and join them.

    Args:
        segments: persisted by the caller.
        listed: PHRASES of an earlier run; None to find them.
        held: gives back what has to stay as long as something is computed from the result.
        cleanup: gives back what makes that faster.
        weighted: the sentences have weights.
        is_joined: whether the phrases of the last pass are joined, too.
    """
    context = segments.sparkSession.sparkContext
    passes = settings.passes if listed is None else max(listed["pass"].to_pylist(), default=0)
    found, facts = [PHRASES.empty_table()], []
    if listed is not None:
        log.info("joining %s of a list", counted(len(listed), "phrase"))
    for number in range(1, passes + 1):
        context.setJobDescription(f"phrases: pass {number} of {passes}")
        if listed is None:
            phrases, about = find_phrases(segments, settings, number, weighted)
            log.info(summary(about, settings))
        else:
            phrases = listed.filter(pc.equal(listed["pass"], number))
            about = {"pass": number, "phrases": len(phrases)}
        found.append(phrases)
        facts.append(about)
        if not len(phrases):
            if listed is None:
                break
            continue  # a list may have been cut by its user
        if number < passes or is_joined:
            check_task(join_bytes(phrases.nbytes), given_by(context), FEWER)
            table = send(context, phrase_table(phrases))
            held.callback(table.destroy)
            segments = join_phrases(segments, table).persist(SEGMENTS_LEVEL)
            cleanup.callback(segments.unpersist)
    return JoinedText(segments, pa.concat_tables(found), facts)


def find_phrases(
    segments: "DataFrame", settings: "Phrases", number: int, weighted: bool
) -> tuple[pa.Table, dict[str, Any]]:
    """Return PHRASES, the best ones first, and facts about the pairs that were counted.

    Args:
        segments: persisted by the caller, as it is read twice.
        number: of the pass, from 1.
        weighted: the sentences have weights.
    """
    try:
        vocabulary = count_words(segments, settings.min_count, weighted=weighted)
    except NoWordsError:
        raise
    except UserError:  # no word is there often enough, so no pair is
        vocabulary = Vocabulary(pa.array([], pa.large_string()), np.zeros(0, np.int64), 0, 0)
    context = segments.sparkSession.sparkContext
    # With weights, the words of the vocabulary are not as many as there are pairs to hold.
    words = words_in(segments, "codes") if weighted or not len(vocabulary) else vocabulary.total_words
    buckets = max(slots(context)[0], -(-words // BUCKET))
    need = task_bytes(len(vocabulary), vocabulary.words.nbytes)
    check_task(need, given_by(context), "take fewer tasks at a time")
    # The number of distinct pairs, whatever their words, is part of the score.
    needs_all = settings.score == "default" and len(vocabulary) > 0
    sent = send(context, vocabulary)
    try:
        counts = segments.select("words", "ends", "codes", "lengths", "weights").mapInArrow(
            lambda batches: _counted(batches, sent.value, buckets, needs_all), COUNTS
        )
        pairs = (
            counts.repartitionById(buckets, F.col("bucket"))
            .mapInArrow(_score_with(sent, settings.score, settings.min_count, weighted), PAIRS)
            .persist()
        )
        try:
            phrases, facts = _best(pairs, vocabulary, settings, number)
            return phrases, facts if needs_all else facts | {"pairs": None}  # which were not told apart
        finally:
            pairs.unpersist()
    finally:
        sent.destroy()


def task_bytes(words: int, word_bytes: int) -> int:
    """Return the memory of a task that counts pairs, or adds the counts of a bucket.

    Args:
        words: V.
        word_bytes: of all words of the vocabulary together.
    """
    return encoding_bytes(words, word_bytes) + COUNT_BYTES * words + PAIR_BYTES * max(CHUNK, BUCKET)


def join_bytes(phrase_bytes: int) -> int:
    """Return the memory of a task that joins phrases: as they are sent, unpacked, and in a hash table (measured: 3.3).

    Args:
        phrase_bytes: of PHRASES.
    """
    return PYTHON + SEGMENT + 4 * phrase_bytes


def _best(
    pairs: "DataFrame", vocabulary: Vocabulary, settings: "Phrases", number: int
) -> tuple[pa.Table, dict[str, Any]]:
    (sums,) = pairs.where("first < 0").agg(F.sum("distinct"), F.sum("count")).collect()
    distinct, rare = (int(value or 0) for value in sums)
    score = F.col("score")
    if settings.score == "default":
        score = score * float(vocabulary.distinct_words + distinct)
    found = pairs.where("first >= 0").withColumn("score", score)
    frequent = found.count()
    found = found.where((F.col("score") > settings.threshold) & ~F.isnan("score"))
    passed = found.count()
    best = found.orderBy(F.desc("score"), "first", "second").limit(settings.max_phrases).toArrow()
    words = vocabulary.words.cast(pa.string())
    first, second = (words.take(best[name].combine_chunks()) for name in ("first", "second"))
    phrases = pc.binary_join_element_wise(first, second, settings.delimiter)
    passes = pa.array(np.full(len(best), number, np.int32))
    columns = [phrases, first, second, best["count"], best["score"], passes]
    counts = (number, distinct, rare, frequent, len(best), passed - len(best))
    return pa.table(columns, schema=PHRASES), dict(zip(FACTS, counts, strict=True))


def summary(facts: dict[str, Any], settings: "Phrases") -> str:
    """Describe a pass in one line.

    Args:
        facts: of find_phrases.
    """
    pairs = "" if facts["pairs"] is None else f"{facts['pairs']:,} pairs, "
    of_them = "pairs" if facts["pairs"] is None else "of them"
    left = f"; {facts['left_out']:,} more are left out by phrases.max_phrases" if facts["left_out"] else ""
    return (
        f"phrases, pass {facts['pass']}: {pairs}{facts['frequent_pairs']:,} {of_them} "
        f"{counted(settings.min_count, 'time')} or more, {counted(facts['phrases'], 'phrase')} above "
        f"{settings.threshold:g}{left}; {counted(facts['rare_occurrences'], 'occurrence')} of rarer pairs left out"
    )


def _counted(batches: Batches, vocabulary: Vocabulary, buckets: int, needs_all: bool) -> Batches:
    """COUNTS of some SEGMENTS.

    Args:
        needs_all: tell pairs with rare words apart.
    """
    waiting: list[tuple[Int64Array, Int64Array | None]] = []
    waits = 0
    for batch in together(batches, len(vocabulary)):
        spellings, begins = words_of(batch)
        found = pc.index_in(spellings.cast(vocabulary.words.type), value_set=vocabulary.words)
        id_of = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        hash_of = word_hashes(spellings) if needs_all else None
        for begin, (codes, lengths, units) in zip(begins[:-1].tolist(), codes_of(batch), strict=True):
            if not codes.size:
                continue
            codes = codes + begin
            hashes = None if hash_of is None else hash_of[codes]
            inside = inside_sentences(lengths)
            keys = pair_keys(id_of[codes], len(vocabulary), hashes)[inside]
            weights = np.repeat(units, lengths)[:-1][inside].astype(np.int64) if units.size else None
            waiting.append((keys, weights))
            waits += keys.size
            if waits >= CHUNK:
                yield from _records(waiting, buckets)
                waits = 0
    if waits:
        yield from _records(waiting, buckets)


def _records(waiting: list[tuple[Int64Array, Int64Array | None]], buckets: int) -> Batches:
    """COUNTS of some pairs, which are removed from `waiting`."""
    parts, weights = [keys for keys, _ in waiting], [counts for _, counts in waiting if counts is not None]
    waiting.clear()  # which is as large as what follows
    keys, counts = np.concatenate(parts), np.concatenate(weights) if weights else None
    parts.clear()
    weights.clear()
    keys, counts = summed(keys, counts)
    bucket = bucket_of(keys, buckets)
    order = np.argsort(bucket, kind="stable")
    keys, counts, bucket = keys[order], counts[order], bucket[order]
    edges = np.searchsorted(bucket, np.arange(buckets + 1)).tolist()
    rows: list[tuple[int, bytes, bytes]] = []
    held = 0
    for number in range(buckets):
        for start in range(edges[number], edges[number + 1], RECORD):
            part = slice(start, min(start + RECORD, edges[number + 1]))
            rows.append((number, keys[part].tobytes(), counts[part].tobytes()))
            held += part.stop - part.start
            if held >= RECORD:
                yield _batch_of(rows)
                rows, held = [], 0
    if rows:
        yield _batch_of(rows)


def _batch_of(rows: list[tuple[int, bytes, bytes]]) -> pa.RecordBatch:
    number, keys, counts = (list(column) for column in zip(*rows, strict=True))
    return pa.RecordBatch.from_pydict({"bucket": number, "keys": keys, "counts": counts}, COUNTS_ARROW)


def _score_with(
    sent: "Broadcast[Vocabulary]", formula: str, min_count: int, weighted: bool
) -> Callable[[Batches], Batches]:
    # Plain values, as executors need not have what the configuration is made with.
    def score(batches: Batches) -> Batches:
        parts = [
            (np.frombuffer(keys.as_buffer(), "<i8"), np.frombuffer(counts.as_buffer(), "<i8"))
            for batch in batches
            for keys, counts in zip(batch.column("keys"), batch.column("counts"), strict=True)
        ]
        if not parts:
            return
        keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        parts.clear()
        keys, counts = summed(keys, counts)
        for start in range(0, keys.size, RECORD):
            some = PairCounts(keys[start : start + RECORD], counts[start : start + RECORD])
            yield _scored(some, sent.value, formula, min_count, weighted)

    return score


def _scored(pairs: PairCounts, vocabulary: Vocabulary, formula: str, min_count: int, weighted: bool) -> pa.RecordBatch:
    """PAIRS of some: those that are there often enough, and before them, with first = -1, a row on the others."""
    keys, counts = pairs
    if weighted:
        counts = counts + UNITS // 2 >> BITS
    stay = (keys >= 0) & (counts >= min_count)
    # Where all sentences of a pair have the weight 0, it is none.
    distinct, rare = int(np.count_nonzero(counts)), int(counts[~stay].sum())
    first, second = np.divmod(keys[stay], len(vocabulary))
    counts = counts[stay]
    of_words = vocabulary.counts
    score = scores(formula, counts, of_words[first], of_words[second], min_count, vocabulary.total_words)
    return pa.RecordBatch.from_pydict(
        {
            "first": np.concatenate([[-1], first]).astype(np.int32),
            "second": np.concatenate([[-1], second]).astype(np.int32),
            "count": np.concatenate([[rare], counts]).astype(np.int64),
            "score": np.concatenate([[0.0], score]),
            "distinct": np.concatenate([[distinct], np.zeros(counts.size)]).astype(np.int64),
        }
    )


def phrase_table(phrases: pa.Table) -> PhraseTable:
    """Return PHRASES of one pass, of which there are some, to be looked up."""
    return PhraseTable.of(*(phrases[name].combine_chunks() for name in ("first", "second", "phrase")))


def join_phrases(segments: "DataFrame", table: "Broadcast[PhraseTable]") -> "DataFrame":
    """SEGMENTS in which each phrase is one word. Lazy; the table is needed for as long as it may be computed."""
    return segments.mapInArrow(lambda batches: (join_batch(batch, table.value) for batch in batches), SEGMENTS)
