"""Files → SEGMENTS: which lines are read, what a word is, and what was skipped.

The JVM reads lines and hands them over as Arrow batches; everything after that is vectorised, so that no word and no
line is ever a Python object. The word pattern runs over the distinct words of a batch, which are a tenth of its words.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.spark import inputs
from spark_w2v.spark.hadoop_files import File, UnreadablePathError, escape_glob
from spark_w2v.spark.java_errors import reason_of, text_of, translate_error
from spark_w2v.spark.session import SPLIT_BYTES, in_own_session, reading_session
from spark_w2v.spark.tables import SEGMENTS
from spark_w2v.text.bad_lines import BadLine
from spark_w2v.text.counters import BAD_LINES, COUNTERS
from spark_w2v.text.messages import name_hint, path_text, refuse, some
from spark_w2v.text.segments import EXCERPT, NAMED_PER_SPLIT, cut
from spark_w2v.text.tokenizer import NO_REASON, SEGMENT_WORDS, Tokenizer, check_tokenizer

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus

log = logging.getLogger(__name__)

Result = TypeVar("Result")


# Words of a bucket of a DataFrame's rows, which stands for a file. Part of a segment's identity, as SEGMENT_WORDS is.
BUCKET_WORDS = 10 * SEGMENT_WORDS
WORD_CHARACTERS = 6  # about, of a word of text and the space after it

MOST_SCHEMAS = 100  # Parquet files that are looked at one by one, where something is wrong


LARGEST_WORD = 2**31 - 1  # characters: no limit


def list_files(
    spark: "SparkSession", paths: Sequence[str], kind: str = "text", outputs: Sequence[str] = ()
) -> inputs.Inputs:
    """All files with content under the paths, as inputs.list_files finds them.

    Raises:
        ConfigError: as there; and what Hadoop says of a path that it cannot open.
    """
    session = reading_session(spark)
    return _explained(lambda: inputs.list_files(session, paths, kind, outputs))


def read(
    spark: "SparkSession", paths: Sequence[str], corpus_config: "Corpus", found: inputs.Inputs | None = None
) -> "DataFrame":
    """SEGMENTS of all files under the paths. Lists the files and reads Parquet's schemas; the rest is lazy.

    The DataFrame belongs to a session of its own, so that how files are split does not depend on the caller's.

    Args:
        paths: files, directories (read with everything below them) or globs, of any file system that Hadoop knows.
        found: of list_files, where the paths are listed already.

    Raises:
        ConfigError: nothing to read, no such column, a pattern that is none.
    """
    check_tokenizer(corpus_config)
    session = reading_session(spark)
    found = list_files(spark, paths, corpus_config.format) if found is None else found
    session.conf.set("spark.sql.files.openCostInBytes", min(found.open_bytes, SPLIT_BYTES))
    lines = _explained(lambda: _lines(session, found, corpus_config))
    hashes = [file.path_hash for file in found.files]
    assert len(set(hashes)) == len(hashes), "two paths of one hash"
    places = {path_hash: place for place, path_hash in enumerate(hashes)}
    return lines.mapInArrow(_cut_with(_tokenizer(corpus_config), places), SEGMENTS)


def _tokenizer(corpus_config: "Corpus") -> Tokenizer:
    return Tokenizer(
        corpus_config.tokenizer,
        corpus_config.pattern,
        corpus_config.lower_case,
        corpus_config.max_sentence_words,
        corpus_config.max_word_length,
        corpus_config.unspaced,
    )


def read_frame(sentences: "DataFrame", column: str, max_sentence_words: int) -> "DataFrame":
    """SEGMENTS of a column of ready-made words. Counts the words; the rest is lazy, so the DataFrame is computed twice.

    Args:
        column: an array of strings or of whole numbers.

    Rows of a DataFrame have neither a place nor an order that hold until tomorrow, and whatever is drawn at random for
    a segment is seeded by its place. So rows are dealt to buckets by a hash of their words, and sorted there: segments
    depend on the rows alone, not on their order, nor on how they were partitioned. They are those of files that have
    the same rows in the same order, one file a bucket.
    """
    lines, buckets = frame_in_order(in_own_session(sentences), column)
    tokenizer = Tokenizer("none", "", False, max_sentence_words, LARGEST_WORD)
    return lines.mapInArrow(_cut_with(tokenizer, {bucket: bucket for bucket in range(buckets)}), SEGMENTS)


def read_text_frame(rows: "DataFrame", corpus_config: "Corpus") -> "DataFrame":
    """SEGMENTS of a column of a DataFrame: of text, or of ready-made words where corpus.tokenizer is "none".

    Segments depend on the rows alone, as those of read_frame do.

    Raises:
        ConfigError: no such column, or it holds something else.
    """
    check_tokenizer(corpus_config)
    column, ready_made = corpus_config.column, corpus_config.tokenizer == "none"
    if column not in rows.schema.names:
        refuse(f'corpus.column: the DataFrame has no column "{column}"; {name_hint(column, rows.schema.names)}')
    _check_type(column, rows.schema[column].dataType, ready_made)
    lines, buckets = frame_in_order(in_own_session(rows), column, is_text=not ready_made)
    places = {bucket: bucket for bucket in range(buckets)}
    return lines.mapInArrow(_cut_with(_tokenizer(corpus_config), places), SEGMENTS)


def column_named(name: str) -> "Column":
    """The column of this name, whatever characters are in it."""
    # Quoted only where it must be: spark.sql.parser.quotedRegexColumnNames takes what is quoted for a pattern.
    return F.col(name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"`{name.replace('`', '``')}`")


def frame_in_order(sentences: "DataFrame", column: str, is_text: bool = False) -> tuple["DataFrame", int]:
    """LINES of a DataFrame, partition b with the rows of bucket b in order, and how many buckets there are.

    Args:
        is_text: the column holds text, and not words.
    """
    value = column_named(column)
    words = sentences.select(value.cast(T.StringType() if is_text else T.ArrayType(T.StringType())).alias("value"))
    size = F.ceil(F.length("value") / WORD_CHARACTERS) if is_text else F.size("value").cast("long")
    counted = words.agg(F.coalesce(F.sum(F.when(F.col("value").isNotNull(), size)), F.lit(0))).first()
    assert counted is not None, "an aggregate without groups has one row"
    buckets = max(1, -(-int(counted[0]) // BUCKET_WORDS))
    lines = words.select(
        F.pmod(F.xxhash64("value"), F.lit(buckets)).alias("path_hash"),
        F.lit(0).cast("long").alias("start"),
        "value",
        F.lit(NO_REASON).alias("reason"),
    )
    # By a hash first, because comparing longs is faster; rows with the same hash and the same words are alike.
    lines = lines.repartitionById(buckets, F.col("path_hash").cast("int"))
    return lines.sortWithinPartitions("path_hash", F.xxhash64("value"), "value"), buckets


def _cut_with(
    tokenizer: Tokenizer, files: dict[int, int]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: cut(batches, tokenizer, files)


def _explained(step: Callable[[], Result]) -> Result:
    """Return the result of a step; Spark's errors on the user's files become one sentence."""
    try:
        return step()
    except UnreadablePathError as error:
        cause = error.__cause__
        assert cause is not None, "it is raised from one"
        refuse(translate_error(cause) or f"{error.path}: cannot be opened ({reason_of(text_of(cause))}).")
    except Exception as error:
        sentence = translate_error(error)
        if sentence is None:
            raise
        refuse(sentence)


def _lines(session: "SparkSession", found: inputs.Inputs, corpus_config: "Corpus") -> "DataFrame":
    """LINES: path_hash and start of the split, value as `tokenize` wants it, reason and beginning as it wants them."""
    column = corpus_config.column
    ready_made = corpus_config.tokenizer == "none"
    kind = T.ArrayType(T.StringType()) if ready_made else T.StringType()
    reason, beginning = F.lit(NO_REASON), None
    reader = session.read.options(**found.options).option("recursiveFileLookup", True)
    if corpus_config.format == "parquet":
        lines = reader.parquet(*found.paths)
        _check_column(lines.schema, column, ready_made, lambda: _schemas(session, found.files))
        value = column_named(column).cast(kind)
    else:
        lines = reader.text(found.paths)
        value = F.col("value")
    # Not F.col("_metadata"), which the column of that name of somebody's Parquet hides.
    metadata = lines.metadataColumn("_metadata")
    if corpus_config.format == "text" and ready_made:
        refuse('corpus.tokenizer: "none" needs a column of ready-made words; text has none, use "whitespace".')
    if corpus_config.format == "jsonl":
        # As variant, because as string a number or an object would pass for text.
        corrupt = f"not {column}"  # whatever the field is called, this is another
        field = T.StructType([T.StructField(column, T.VariantType()), T.StructField(corrupt, T.StringType())])
        parsed = F.from_json("value", field, {"columnNameOfCorruptRecord": corrupt})
        lines = lines.withColumn("parsed", parsed)
        field_found = F.col("parsed").getField(column)
        type_found = F.schema_of_variant(field_found)
        fits = _is_array_of_words(field_found) if ready_made else type_found == "STRING"
        value = F.when(fits, F.try_variant_get(field_found, "$", kind.simpleString()))
        reason = (
            F.when(F.trim("value") == "", COUNTERS.index("blank_lines"))
            .when(F.col("value").contains("\0"), COUNTERS.index("binary_lines"))
            .when(F.col("parsed").getField(corrupt).isNotNull(), COUNTERS.index("malformed_lines"))
            .when(field_found.isNull() | (type_found == "VOID"), COUNTERS.index("missing_lines"))
            .when(value.isNull(), COUNTERS.index("wrong_type_lines"))
            .when(~F.is_valid_utf8("value"), COUNTERS.index("invalid_utf8_lines"))
            .otherwise(NO_REASON)
        )
        # Of a line without the field, the names of those that it has.
        beginning = F.when(
            reason == COUNTERS.index("missing_lines"), F.array_join(F.json_object_keys("value"), "\n").cast("binary")
        ).when(reason != NO_REASON, F.col("value").cast("binary"))
    columns = [
        F.xxhash64(metadata.getField("file_path")).alias("path_hash"),
        metadata.getField("file_block_start").alias("start"),
        value.alias("value"),
        reason.alias("reason"),
    ]
    if beginning is not None:
        columns.append(F.substring(beginning, 1, EXCERPT).alias("beginning"))
    return lines.select(*columns)


def _is_array_of_words(found: "Column") -> "Column":
    """Whether a variant is an array whose elements are strings, numbers with all their digits, or null."""

    def fits(type_found: "Column") -> "Column":
        return type_found.isin("STRING", "VOID", "BIGINT") | type_found.startswith("DECIMAL")

    array = F.schema_of_variant(found)
    elements = F.try_variant_get(found, "$", "array<variant>")
    same = array.startswith("ARRAY<") & fits(F.regexp_extract(array, "^ARRAY<(.*)>$", 1))
    return F.when(array == "ARRAY<VARIANT>", F.forall(elements, lambda e: fits(F.schema_of_variant(e)))).otherwise(same)


def is_array_of_words(kind: T.DataType) -> bool:
    """Whether a column has ready-made words: strings, or whole numbers, which are words in decimal."""
    if not isinstance(kind, T.ArrayType):
        return False
    element = kind.elementType
    whole = isinstance(element, T.IntegralType) or (isinstance(element, T.DecimalType) and element.scale == 0)
    return whole or isinstance(element, T.StringType)


def _check_column(
    schema: T.StructType, column: str, ready_made: bool, schemas: Callable[[], Iterator[tuple[str, T.StructType]]]
) -> None:
    """Refuse a column that is not there, or holds something else.

    Args:
        schemas: the paths and schemas of the files one by one, as far as it is worth looking.
    """
    if column not in schema.names:
        lacking = others = None
        for path, own in schemas():
            if column in own.names:
                others = others or path
            else:
                lacking = lacking or (path, own.names)
            if lacking and others:
                names = some(lacking[1])
                refuse(
                    f'corpus.column: {path_text(lacking[0])} has no column "{column}", it has {names}; '
                    f"{path_text(others)} has it. Leave files without it out of --input."
                )
        refuse(f'corpus.column: the Parquet files have no column "{column}"; {name_hint(column, schema.names)}')
    _check_type(column, schema[column].dataType, ready_made)


def _check_type(column: str, found: T.DataType, ready_made: bool) -> None:
    """Refuse a column that does not hold what the tokenizer takes."""
    if ready_made and not is_array_of_words(found):
        refuse(
            f'corpus.column: "{column}" is {found.simpleString()}, ready-made words are array<string>, or an array of '
            "whole numbers; give another column or another corpus.tokenizer."
        )
    if not ready_made and not isinstance(found, T.StringType):
        change = 'set corpus.tokenizer to "none".' if is_array_of_words(found) else "give another column."
        refuse(f'corpus.column: "{column}" is {found.simpleString()}, text is string; {change}')


def _schemas(session: "SparkSession", files: Sequence[File]) -> Iterator[tuple[str, T.StructType]]:
    for file in files[:MOST_SCHEMAS]:
        yield file.path, session.read.parquet(escape_glob(unquote(file.path))).schema


def bad_lines(segments: "DataFrame", counters: dict[str, int], files: Sequence[str]) -> dict[str, list[BadLine]]:
    """The first bad lines of each kind of which there are any; of SEGMENTS that are persisted."""
    found: dict[str, list[Any]] = {}
    bad = segments.select("file", "start", F.inline("bad"))
    for name in BAD_LINES:
        if files and counters[name]:
            place = F.col("place") == COUNTERS.index(name)
            found[name] = bad.where(place).orderBy("file", "start", "line").limit(NAMED_PER_SPLIT).collect()
    # How many lines the splits of these files have.
    named = sorted({row["file"] for rows in found.values() for row in rows})
    lines = F.sum(F.col("counters")[COUNTERS.index("lines")]).alias("lines")
    splits = segments.where(F.col("file").isin(named)).groupBy("file", "start").agg(lines).collect() if named else []

    def bad_line(row: Any) -> BadLine:
        before = sum(s["lines"] for s in splits if s["file"] == row["file"] and s["start"] < row["start"])
        return BadLine(files[row["file"]], before + row["line"] + 1, bytes(row["beginning"]))

    return {name: [bad_line(row) for row in rows] for name, rows in found.items()}
