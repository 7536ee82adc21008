"""Files, tables and DataFrames → SEGMENTS: what is read, and what was skipped.

The JVM reads lines and hands them over as Arrow batches; everything after that is vectorised, so that no word and no
line is ever a Python object. The word pattern runs over the distinct words of a batch, which are a tenth of its words.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.errors import UserError
from spark_w2v.runs.places import absolute
from spark_w2v.spark import columns, inputs
from spark_w2v.spark.file_rows import (
    FORMAT_NAMES,
    file_lines,
    file_rows,
    is_json_word,
    is_malformed_json,
    json_field,
    json_number,
    parsed_json,
)
from spark_w2v.spark.file_types import schemas
from spark_w2v.spark.hadoop_files import UnreadablePathError
from spark_w2v.spark.java_errors import message_of, reason_of, text_of, translate_error
from spark_w2v.spark.rows import OrderedLines, events_in_order, sentences_in_order
from spark_w2v.spark.session import SPLIT_BYTES, check_batch, in_own_session, reading_session
from spark_w2v.spark.tables import segments_with
from spark_w2v.text.bad_lines import BadLine
from spark_w2v.text.counters import BAD_LINES, COUNTERS
from spark_w2v.text.messages import path_text, some
from spark_w2v.text.records import Batches
from spark_w2v.text.segments import EXCERPT, NAMED_PER_SPLIT, cut
from spark_w2v.text.tokenizer import NO_REASON, Tokenizer, check_tokenizer

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus

log = logging.getLogger("spark_w2v")

Result = TypeVar("Result")


FILES_HAVE = "the files have"  # the beginning of a sentence on a column that they do not have

LARGEST_WORD = 2**31 - 1  # characters: no limit


def list_files(spark: "SparkSession", paths: Sequence[str], kind: str, outputs: Sequence[str] = ()) -> inputs.Inputs:
    """All files with content under the paths, as inputs.list_files finds them.

    Raises:
        UserError: as there; and what Hadoop says of a path that it cannot open.
    """
    session = reading_session(spark)
    return _explained(lambda: inputs.list_files(session, paths, kind, outputs))


def read(
    spark: "SparkSession", paths: Sequence[str], corpus_config: "Corpus", found: inputs.Inputs | None = None
) -> "DataFrame":
    """SEGMENTS of all files under the paths. Lists the files and reads their schemas; the rest is lazy.

    The DataFrame belongs to a session of its own, so that how files are split does not depend on the caller's.

    Args:
        paths: files, directories (read with everything below them) or globs, of any file system that Hadoop knows.
        found: of list_files, where the paths are listed already.

    Raises:
        UserError: nothing to read, no such column, a pattern that is none.
    """
    check_tokenizer(corpus_config)
    session = reading_session(spark)
    found = list_files(spark, paths, corpus_config.format) if found is None else found
    session.conf.set("spark.sql.files.openCostInBytes", min(found.open_bytes, SPLIT_BYTES))
    if corpus_config.group_by:
        return _explained(lambda: _of_rows(file_rows(session, found, corpus_config), corpus_config, FILES_HAVE))
    lines, id_type = _explained(lambda: _lines(session, found, corpus_config))
    hashes = [file.path_hash for file in found.files]
    assert len(set(hashes)) == len(hashes), "two paths of one hash"
    places = {path_hash: place for place, path_hash in enumerate(hashes)}
    return _cut(lines, Tokenizer.of(corpus_config), places, id_type)


def read_text(
    session: "SparkSession", paths: Sequence[str], corpus_config: "Corpus", outputs: Sequence[str] = ()
) -> tuple["DataFrame", inputs.Inputs | None]:
    """SEGMENTS of files or tables, and the files.

    Args:
        outputs: paths or URIs that are written to, and may not be read.

    Raises:
        UserError: there is nothing to read.
    """
    if corpus_config.format == "table":
        return read_tables(session, paths, corpus_config), None
    found = list_files(session, paths, corpus_config.format, [absolute(output) for output in outputs])
    for line in inputs.summary(found):
        log.info(line)
    return read(session, paths, corpus_config, found), found


def check_unchanged(spark: "SparkSession", found: inputs.Inputs | None, kind: str) -> None:
    """Refuse files that changed since they were listed, as inputs.check_unchanged does."""
    if found is not None:
        _explained(lambda: inputs.check_unchanged(reading_session(spark), found, kind))


def read_tables(spark: "SparkSession", names: Sequence[str], corpus_config: "Corpus") -> "DataFrame":
    """SEGMENTS of tables or views that a session knows by their names; several are read as one.

    Raises:
        UserError: no such table or column, or it holds something else.
    """
    check_tokenizer(corpus_config)

    def segments() -> "DataFrame":
        rows = _table(spark, names[0])
        for name in names[1:]:
            rows = _joint(rows, _table(spark, name), names[0], name, corpus_config)
        return _of_rows(in_own_session(rows), corpus_config, f"{some(names)} has")

    return _explained(segments)


def _table(spark: "SparkSession", name: str) -> "DataFrame":
    try:
        rows = spark.table(name)
    except Exception as error:
        reason = translate_error(error) or message_of(error)
        if reason is None:
            raise
        raise UserError(
            f"{name}: cannot be read as a table ({reason.rstrip('.')}); give --input the names of tables."
        ) from None
    check_batch(rows, name)
    return rows


def _joint(rows: "DataFrame", others: "DataFrame", first: str, name: str, corpus_config: "Corpus") -> "DataFrame":
    """The rows of the first tables, and those of a further one.

    Raises:
        UserError: they have other columns, or columns of other types that would be changed to one in silence.
    """
    c = corpus_config
    used = (c.column, *columns.names_in(rows.schema, c.group_by), *columns.names_in(rows.schema, c.order_by))
    for column in used:
        kinds = [found.kind for frame in (rows, others) if (found := columns.find_column(frame.schema, column))]
        if len(kinds) == 2 and not columns.are_joined_as_they_are(*kinds):
            raise UserError(
                f'{name}: its column "{column}" is of type {kinds[1].simpleString()}, and that of {first} of type '
                f"{kinds[0].simpleString()}; give --input views that cast them to the same type."
            )
    try:
        return rows.unionByName(others)
    except Exception as error:
        if (reason := message_of(error)) is None:
            raise
        raise UserError(
            f"{name}: has other columns than {first} ({reason}); give --input views with the same columns."
        ) from None


def read_frame(
    sentences: "DataFrame", words: columns.FoundColumn, max_sentence_words: int, weight: "Column | None"
) -> "DataFrame":
    """SEGMENTS of a column of ready-made words. Counts the words; the rest is lazy, so the DataFrame is computed twice.

    Args:
        words: an array of strings or of whole numbers.
        weight: of each sentence.
    """
    rows = in_own_session(sentences)
    tokenizer = Tokenizer("none", "", False, max_sentence_words, LARGEST_WORD)
    ordered = sentences_in_order(rows, words.value, weight=weight)
    return _cut_ordered(ordered, tokenizer, columns.id_type_of(words.kind))


def read_text_frame(rows: "DataFrame", corpus_config: "Corpus") -> "DataFrame":
    """SEGMENTS of a column of a DataFrame: of text, or of ready-made words where corpus.tokenizer is "none".

    Raises:
        UserError: no such column, or it holds something else.
    """
    check_tokenizer(corpus_config)
    return _explained(lambda: _of_rows(in_own_session(rows), corpus_config, "the DataFrame has"))


def _of_rows(rows: "DataFrame", corpus_config: "Corpus", table: str) -> "DataFrame":
    """SEGMENTS of rows that have no place.

    Args:
        table: what has no such column, for a message.
    """
    c, tokenizer = corpus_config, Tokenizer.of(corpus_config)
    rows = columns.where(rows, c.where)
    value = columns.need_column(rows.schema, c.column, "corpus.column", table)
    id_type = columns.id_type_of(value.kind) if c.tokenizer == "none" else None
    if c.group_by:
        return _cut_ordered(events_in_order(rows, c, table), tokenizer, id_type)
    ready_made = c.tokenizer == "none"
    columns.check_type(c.column, value.kind, ready_made)
    weight = columns.need_weight(rows.schema, c.weight, table) if c.weight else None
    return _cut_ordered(sentences_in_order(rows, value.value, not ready_made, weight), tokenizer, id_type)


def _cut_ordered(ordered: OrderedLines, tokenizer: Tokenizer, id_type: str | None) -> "DataFrame":
    places = {bucket: bucket for bucket in range(ordered.buckets)}
    return _cut(ordered.lines, tokenizer, places, id_type, ordered.prepare)


def _cut(
    lines: "DataFrame",
    tokenizer: Tokenizer,
    files: dict[int, int],
    id_type: str | None,
    prepare: Callable[[Batches], Batches] = iter,
) -> "DataFrame":
    """SEGMENTS of LINES, which `prepare` makes of the batches of `lines`."""
    return lines.mapInArrow(lambda batches: cut(prepare(batches), tokenizer, files), segments_with(id_type))


def _explained(step: Callable[[], Result]) -> Result:
    """Return the result of a step; Spark's errors on the user's files become one sentence."""
    try:
        return step()
    except UnreadablePathError as error:
        cause = error.__cause__
        assert cause is not None, "it is raised from one"
        raise UserError(
            translate_error(cause) or f"{error.path}: cannot be opened ({reason_of(text_of(cause))})."
        ) from None
    except Exception as error:
        sentence = translate_error(error)
        if sentence is None:
            raise
        raise UserError(sentence) from None


def _lines(session: "SparkSession", found: inputs.Inputs, corpus_config: "Corpus") -> "tuple[DataFrame, str | None]":
    """LINES of files: path_hash and start of the split, value as `tokenize` wants it, reason, beginning, weight.

    And the type of the ids that the words are.
    """
    c, ready_made = corpus_config, corpus_config.tokenizer == "none"
    kind = T.ArrayType(T.StringType()) if ready_made else T.StringType()
    reason, beginning, units, id_type = columns.no_reason(), None, None, None
    if c.format == "text":
        if ready_made:
            raise UserError(
                'corpus.tokenizer: "none" needs a column of ready-made words; text has none, use "whitespace".'
            )
        lines, value = file_lines(session, found), F.col("value")
    elif c.format == "jsonl":
        lines = parsed_json(file_lines(session, found), [c.column, c.weight])
        field_found, units = json_field(c.column), columns.weight_units(json_number(c.weight)) if c.weight else None
        type_found = F.schema_of_variant(field_found)
        fits = _is_array_of_words(field_found) if ready_made else type_found == "STRING"
        value = F.when(fits & ~is_malformed_json(), F.try_variant_get(field_found, "$", kind.simpleString()))
        reason = (
            F.when(~F.col("value").rlike(r"\S"), COUNTERS.index("blank_lines"))
            .when(F.col("value").contains("\0"), COUNTERS.index("binary_lines"))
            .when(is_malformed_json(), COUNTERS.index("malformed_lines"))
            .when(field_found.isNull() | (type_found == "VOID"), COUNTERS.index("missing_lines"))
            .when(value.isNull(), COUNTERS.index("wrong_type_lines"))
            .when(~F.is_valid_utf8("value"), COUNTERS.index("invalid_utf8_lines"))
            .otherwise(NO_REASON)
        )
        # Of a line without the field, the names of those that it has.
        beginning = F.when(
            reason == COUNTERS.index("missing_lines"), F.array_join(F.json_object_keys("value"), "\n").cast("binary")
        ).when(reason != NO_REASON, F.col("value").cast("binary"))
    else:
        lines = file_rows(session, found, c)
        of_file = _check_column(lines.schema, c, lambda: schemas(session, found.files, c.format))
        lines = columns.where(lines, c.where)
        value, id_type = of_file.value.cast(kind), columns.id_type_of(of_file.kind)
        reason = columns.reason_of_rows(lines.schema)
        if c.format == "csv":  # which has no null, and Spark's reader makes one of an empty field
            value = F.coalesce(value, F.lit(""))
        value = F.when(columns.is_read(reason), value)
        if c.weight:
            units = columns.weight_units(columns.need_weight(lines.schema, c.weight, FILES_HAVE))
    # Not F.col("_metadata"), which the column of that name of somebody's Parquet hides.
    metadata = lines.metadataColumn("_metadata")
    if units is not None:
        reason = columns.with_reason_of_weight(reason, units)
        value = F.when(reason != COUNTERS.index("bad_weight_lines"), value)
    selected = [
        F.xxhash64(metadata.getField("file_path")).alias("path_hash"),
        metadata.getField("file_block_start").alias("start"),
        value.alias("value"),
        reason.alias("reason"),
    ]
    if beginning is not None:
        selected.append(F.substring(beginning, 1, EXCERPT).alias("beginning"))
    if units is not None:
        selected.append(F.coalesce(units, F.lit(0)).alias("weight"))
    return lines.select(*selected), id_type


def _is_array_of_words(found: "Column") -> "Column":
    """Whether a variant is an array whose elements are words, or null."""
    array = F.schema_of_variant(found)
    elements = F.try_variant_get(found, "$", "array<variant>")
    same = array.startswith("ARRAY<") & is_json_word(F.regexp_extract(array, "^ARRAY<(.*)>$", 1))
    mixed = F.forall(elements, lambda element: is_json_word(F.schema_of_variant(element)))
    return F.when(array == "ARRAY<VARIANT>", mixed).otherwise(same)


def _check_column(
    schema: T.StructType, corpus_config: "Corpus", schemas: Callable[[], Iterator[tuple[str, T.StructType]]]
) -> columns.FoundColumn:
    """Return the column of the words; refuse one that is not there, or holds something else.

    Args:
        schemas: the paths and schemas of the files one by one, as far as it is worth looking.
    """
    column = corpus_config.column
    if columns.find_column(schema, column) is None:
        lacking = others = None
        for path, own in schemas():
            if columns.find_column(own, column) is not None:
                others = others or path
            else:
                lacking = lacking or (path, own.names)
            if lacking and others:
                names = some(lacking[1])
                raise UserError(
                    f'corpus.column: {path_text(lacking[0])} has no column "{column}", it has {names}; '
                    f"{path_text(others)} has it. Leave files without it out of --input."
                )
    found = columns.need_column(schema, column, "corpus.column", f"the {FORMAT_NAMES[corpus_config.format]} files have")
    columns.check_type(column, found.kind, corpus_config.tokenizer == "none")
    return found


def bad_lines(
    segments: "DataFrame", counters: dict[str, int], found: inputs.Inputs | None, corpus_config: "Corpus"
) -> dict[str, list[BadLine]]:
    """The first bad lines of each kind of which there are any; of SEGMENTS that are persisted."""
    # Events are read in an order of their own, in which a bad one has no place in a file.
    files = [] if found is None or corpus_config.group_by else [file.path for file in found.files]
    first = 2 if corpus_config.format == "csv" else 1  # after the names of the columns
    rows_of: dict[str, list[Any]] = {}
    bad = segments.select("file", "start", F.inline("bad"))
    for name in BAD_LINES:
        if files and counters[name]:
            place = F.col("place") == COUNTERS.index(name)
            rows_of[name] = bad.where(place).orderBy("file", "start", "line").limit(NAMED_PER_SPLIT).collect()
    # How many lines the splits of these files have.
    named = sorted({row["file"] for rows in rows_of.values() for row in rows})
    lines = F.sum(F.col("counters")[COUNTERS.index("lines")]).alias("lines")
    splits = segments.where(F.col("file").isin(named)).groupBy("file", "start").agg(lines).collect() if named else []

    def bad_line(row: Any) -> BadLine:
        before = sum(s["lines"] for s in splits if s["file"] == row["file"] and s["start"] < row["start"])
        # Which lines a condition has left out, nobody knows.
        line = None if corpus_config.where else before + row["line"] + first
        return BadLine(files[row["file"]], line, bytes(row["beginning"]))

    return {name: [bad_line(row) for row in rows] for name, rows in rows_of.items()}
