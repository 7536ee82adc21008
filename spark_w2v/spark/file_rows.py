"""Files of each format → rows with columns, or lines with what was found in them."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyspark
import pyspark.sql.functions as F
import pyspark.sql.types as T
from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.sql import Column

from spark_w2v.errors import UserError
from spark_w2v.spark import columns
from spark_w2v.spark.columns import CORRUPT, EXACT, EXACT_TYPE, INVALID, TOKEN, WRONG_TYPE
from spark_w2v.spark.file_types import check_types
from spark_w2v.spark.inputs import Inputs
from spark_w2v.spark.java_errors import OTHER_NAMES
from spark_w2v.text.messages import path_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, DataFrameReader, SparkSession

    from spark_w2v.config import Corpus

FORMAT_NAMES = {"parquet": "Parquet", "orc": "ORC", "csv": "CSV", "avro": "Avro"}
PARSED, LINE, NOT_JSON = f"parsed json {TOKEN}", f"line {TOKEN}", "not json"
FILE_SCHEME = "^file:/+"
MOST_CHARACTERS = str(2**31 - 1)  # of a string of JSON: lines have a limit of their own
# Of a line of CSV; more end the run, so a bad line may have some. Spark's parser makes room for all of them
# for each file.
MOST_FIELDS = 100_000
PATH_STEP = re.compile(r"""[^\[]+|[^'?]+|[^"?]+""")  # what the path of a variant can name: .a, ['a'] or ["a"]
PARTITION = re.compile("/[^/=]+=[^/]+(?=/)")  # in the path of a file: a directory that is a value of a column


def file_rows(session: "SparkSession", found: Inputs, corpus_config: "Corpus") -> "DataFrame":
    """The rows of files; of CSV and JSON also CORRUPT, where a line is none, and INVALID; of JSON also WRONG_TYPE.

    Raises:
        UserError: Spark has no reader of the format.
    """
    if corpus_config.format == "csv":
        # Times without a zone as they are written. In a time zone with summer time, some are the same as later ones.
        session.conf.set("spark.sql.timestampType", "TIMESTAMP_NTZ")
    rows = _all_rows(session, found, corpus_config)
    check_types(session, _reader(session, found, recursive=True), found, rows.schema, corpus_config)
    if not corpus_config.group_by:
        return rows  # which are told by their files
    listed = {_plain(unquote(file.path)) for file in found.files}
    if late := [_plain(uri) for uri in _input_files(rows) if _plain(unquote(uri)) not in listed]:
        path = F.regexp_replace(_path_of(rows), FILE_SCHEME, "file:/")
        rows = rows.where(~path.isin(late))  # files that came since they were listed
    return rows


def _all_rows(session: "SparkSession", found: Inputs, corpus_config: "Corpus") -> "DataFrame":
    c = corpus_config
    # Directories such as day=2026-01-31 are a column where a key names it: Spark leaves out other files then.
    named = [name for name in _directory_names(found) if columns.is_named(name, c)]
    roots = _roots_of_partitions(found, named[0]) if named else []
    if roots:
        reader = _reader(session, found, recursive=False)
        if found.are_roots:
            rows = _rows(reader, roots, c)
        else:  # a link or a second name of a file is in the way: the files one by one
            rows = _rows(reader.option("basePath", _unescaped(roots[0])), found.paths, c)
        there = {_plain(unquote(uri)) for uri in _input_files(rows)}
        if all(_plain(unquote(file.path)) in there for file in found.files):
            return rows
    # Where Spark finds no columns in the names of directories, it would read the files next to each root alone.
    return _rows(_reader(session, found, recursive=True), found.paths, c)


def _rows(reader: "DataFrameReader", paths: list[str], corpus_config: "Corpus") -> "DataFrame":
    c = corpus_config
    match c.format:
        case "jsonl":
            return _json(reader, paths, c)
        case "csv":
            return _csv(reader, paths, c)
        case "avro":
            try:
                return _columnar(reader.format("avro"), paths, c)
            except Exception as error:
                if "Failed to find data source: avro" not in str(error):
                    raise
                raise UserError(
                    'corpus.format: Spark has no reader of "avro"; add it with --packages '
                    f"org.apache.spark:spark-avro_2.13:{pyspark.__version__}, or convert the files to Parquet."
                ) from None
        case kind:
            return _columnar(reader.format(kind), paths, c)


def _columnar(reader: "DataFrameReader", paths: list[str], corpus_config: "Corpus") -> "DataFrame":
    rows = reader.load(paths)
    if not corpus_config.group_by:
        return rows
    schema = _with_texts(rows.schema, corpus_config, _directories(rows))
    return rows if schema == rows.schema else reader.schema(schema).load(paths)


def _directories(rows: "DataFrame") -> list[str]:
    """The columns that stand for directories."""
    plan = rows._jdf.queryExecution().analyzed()
    try:
        return list(plan.relation().partitionSchema().fieldNames())
    except Py4JError:  # of version 2 of Spark's readers, which spark.sql.sources.useV1SourceList switches on
        return [column.references()[0].fieldNames()[0] for column in plan.table().partitioning()]


def _with_texts(schema: T.StructType, corpus_config: "Corpus", directories: Iterable[str]) -> T.StructType:
    """The same schema, in which directories that are groups or words are text.

    As numbers, 007 and 7 would be one group; as times, those that a time zone with summer time takes for the same.
    """
    names = [corpus_config.column, *columns.names_in(schema, corpus_config.group_by)]
    texts = set(directories).intersection(names)

    def kind(field: T.StructField) -> T.DataType:
        return T.StringType() if field.name in texts else field.dataType

    return T.StructType([T.StructField(field.name, kind(field), field.nullable, field.metadata) for field in schema])


def file_lines(session: "SparkSession", found: Inputs) -> "DataFrame":
    """The lines of files, in the column `value`."""
    return _reader(session, found, recursive=True).text(found.paths)


def _reader(session: "SparkSession", found: Inputs, *, recursive: bool) -> "DataFrameReader":
    return session.read.options(**found.options).option("recursiveFileLookup", recursive)


def _directory_names(found: Inputs) -> list[str]:
    """The names of columns whose values stand in the paths of files, as in day=2026-01-31."""
    paths = (_plain(unquote(file.path)) for file in found.files)
    return sorted({match[0][1:].partition("=")[0] for path in paths for match in PARTITION.finditer(path)})


def _roots_of_partitions(found: Inputs, name: str) -> list[str]:
    """Paths for Spark's readers if directories below them are values of a column, none of them inside of another.

    Of files that are read one by one Spark takes a single one.

    Args:
        name: of a column that stands in the paths of some files.

    Raises:
        UserError: others have none below these paths, and Spark would leave them out.
    """
    roots = {_plain(_unescaped(path)): path for path in found.roots}

    def above(path: str) -> Iterator[str]:
        while (cut := path.rfind("/")) > 0:
            path = path[:cut]
            yield path

    def has_columns(path: str) -> bool:
        return any(not roots.keys().isdisjoint(above(path[: at.end()])) for at in PARTITION.finditer(path))

    without = [file.path for file in found.files if not has_columns(_plain(unquote(file.path)))]
    if len(without) == len(found.files):
        return []
    if without:
        raise UserError(
            f"{path_text(without[0])}: is not in a directory such as {name}=..., as others are, so it has no column "
            f"{name}; give it in a run of its own, or leave out what names the column."
        )
    outer = [path for root, path in roots.items() if roots.keys().isdisjoint(above(root))]
    return outer if found.are_roots or len(outer) == 1 else []


def _unescaped(glob: str) -> str:
    """The path that escape_glob was given."""
    return re.sub(r"\\(.)", r"\1", glob)


def _plain(path: str) -> str:
    """A path as text, the same one for all ways to begin it with a scheme."""
    return re.sub(FILE_SCHEME, "file:/", path).rstrip("/")


def _input_files(rows: "DataFrame") -> list[str]:
    """URIs of the files that are read, in one call of Java; PySpark makes one for each."""
    jvm: Any = rows.sparkSession._jvm
    return str(jvm.org.apache.hadoop.util.StringUtils.join("\n", rows._jdf.inputFiles())).splitlines()


def _json(reader: "DataFrameReader", paths: list[str], corpus_config: "Corpus") -> "DataFrame":
    """Rows of JSON lines; Spark's own reader leaves out what follows the first object of a line."""
    c = corpus_config
    lines = reader.text(paths)
    directories = lines.columns[1:]  # what they stand for
    inferring = reader.options(columnNameOfCorruptRecord=CORRUPT, maxStringLen=MOST_CHARACTERS)
    inferred = inferring.json(paths).schema
    if (of_lines := _with_texts(lines.schema, c, directories)) != lines.schema:
        lines = reader.schema(of_lines).text(paths)
    schema = T.StructType([field for field in inferred if field.name not in (*directories, CORRUPT)])
    line = _parsed_line()
    parsed, wrong, exact = schema, F.lit(False), []
    groups, orders = (columns.names_in(schema, names) for names in (c.group_by, c.order_by))
    for name in dict.fromkeys([c.column, *groups, *orders]):
        found = columns.find_column(schema, name)
        # What is not always of one type Spark takes for a string, and an object or true in JSON for a word.
        is_text = found is not None and isinstance(found.kind, T.StringType) and name in (c.column, *groups)
        # Beyond 2^53, different whole numbers are the same double.
        is_double = found is not None and isinstance(found.kind, T.DoubleType) and name in (*groups, *orders)
        if is_text or is_double:
            path = [name] if name in schema.names else name.split(".")
            parsed = _with_variant(parsed, path)
            value = functools.reduce(Column.getField, path, line)
            if is_text:
                wrong = wrong | ~is_json_word(F.schema_of_variant(value))
            else:
                exact.append(F.try_variant_get(value, "$", EXACT_TYPE).alias(f"{EXACT}{name}"))
            quoted = ".".join(f"`{field.replace('`', '``')}`" for field in path)
            line = line.withField(quoted, F.try_variant_get(value, "$", "string" if is_text else "double"))
    return _parsed(lines.where(F.col("value").rlike(r"\S")), parsed.fields).select(
        *(line.getField(field.name).alias(field.name) for field in schema),
        *map(columns.column_named, directories),
        F.when(is_malformed_json(), F.col("value")).alias(CORRUPT),
        wrong.alias(WRONG_TYPE),
        (~F.is_valid_utf8("value")).alias(INVALID),
        *exact,
    )


def _with_variant(schema: T.StructType, path: Sequence[str]) -> T.StructType:
    """A structure whose field at a path is a variant."""
    first, *others = path
    kinds = {field.name: field.dataType for field in schema}
    inside = kinds[first]
    kinds[first] = _with_variant(inside, others) if isinstance(inside, T.StructType) else T.VariantType()
    return T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])


def _csv(reader: "DataFrameReader", paths: list[str], corpus_config: "Corpus") -> "DataFrame":
    """Rows of CSV; the words stay as they are written, also where they look like numbers."""
    c = corpus_config
    reader = reader.option("header", True)
    reader = reader.option("escape", '"')  # a quote in quotes is doubled, as everybody but Spark writes it
    typed = bool(c.where or c.order_by)  # of text, "10" would be before "9"
    reader = reader.option("maxColumns", MOST_FIELDS)
    fields = reader.option("inferSchema", typed).csv(paths).schema.fields
    is_missing = columns.find_column(T.StructType(list(fields)), c.column) is None
    if is_missing and (found := re.search(r"[;\t|]", fields[0].name)):
        raise UserError(
            f"--input: the CSV files separate fields by {found[0]!r}; write them with commas, or give Parquet."
        )
    made_up = _made_up_names(reader, paths, fields, c)
    # Nor are the sessions 007 and 7 the same one.
    groups, orders = (columns.names_in(T.StructType(list(fields)), names) for names in (c.group_by, c.order_by))
    texts = {c.column, *groups}
    # Of bytes that are not UTF-8 Spark's reader hands over U+FFFD, so that different words and sessions become one.
    replaced = [columns.column_named(field.name).contains("\ufffd") for field in fields if field.name in texts]
    are_doubles = {field.name for field in fields if isinstance(field.dataType, T.DoubleType)}
    doubles = [name for name in orders if name in are_doubles and name not in texts]
    texts.update(doubles)
    as_text = [T.StructField(field.name, T.StringType()) if field.name in texts else field for field in fields]
    schema = T.StructType([*as_text, T.StructField(CORRUPT, T.StringType())])
    # Spark takes the columns by their place in the line. Unless this is False, it does not look what a file calls them.
    reader = reader.option("header", True).option("enforceSchema", bool(made_up))
    rows = reader.schema(schema).option("columnNameOfCorruptRecord", CORRUPT).csv(paths)
    rows = rows.withColumn(INVALID, functools.reduce(Column.__or__, replaced, F.lit(False))).drop(*made_up)
    if not doubles:
        return rows
    values = {name: columns.column_named(name) for name in doubles}
    exact = {f"{EXACT}{name}": value.try_cast(EXACT_TYPE) for name, value in values.items()}
    return rows.withColumns({**{name: value.try_cast("double") for name, value in values.items()}, **exact})


def _made_up_names(
    reader: "DataFrameReader", paths: list[str], fields: Sequence[T.StructField], corpus_config: "Corpus"
) -> list[str]:
    """The names that Spark makes up for columns of CSV: _c0 of one without a name, item2 where there are two items.

    Raises:
        UserError: a name that is there twice is asked for, or the files have other first lines.
    """
    if not any(field.name.endswith(str(place)) for place, field in enumerate(fields)):
        return []  # a name that is made up ends with the place of its column
    rows = reader.option("header", False).option("inferSchema", False).csv(paths)
    row = rows.select(*(name for name in rows.columns if re.fullmatch(r"_c\d+", name)), _path_of(rows)).first()
    *names, path = row or [None]
    found = {field.name: name or "" for field, name in zip(fields, names, strict=False)}
    made_up = {name: own for name, own in found.items() if name.casefold() != own.casefold()}
    _check_asked({own.casefold() for own in made_up.values() if own}, T.StructType(list(fields)), corpus_config)
    if made_up:  # and in no file, so that Spark cannot compare the names
        _check_first_lines(reader.text(paths), path)
    return list(made_up)


def _check_asked(twice: set[str], schema: T.StructType, corpus_config: "Corpus") -> None:
    """Refuse a configuration that names one of these columns, of which there are two."""
    c = corpus_config
    in_condition = re.findall(r"\w+", re.sub(r"'[^']*'|\"[^\"]*\"", "", c.where))
    asked = {key: columns.names_in(schema, getattr(c, key)) for key in ("column", "group_by", "order_by", "weight")}
    for key, names in {**asked, "where": in_condition}.items():
        for name in names:
            if name.casefold() in twice:
                raise UserError(
                    f'corpus.{key}: the CSV files have two columns "{name}", as Spark reads names; rename one.'
                )


def _check_first_lines(lines: "DataFrame", path: str | None) -> None:
    """Refuse files of which one begins with another line than the file of this path."""
    is_first = (lines.metadataColumn("_metadata").getField("file_block_start") == 0) & (F.trim("value") != "")
    # A task reads the lines of a split in their order.
    firsts = lines.where(is_first).groupBy(_path_of(lines).alias("path")).agg(F.first("value").alias("line"))
    found = {row["path"]: row["line"] for row in firsts.collect()}
    other = min((name for name, line in found.items() if line != found.get(path)), default=None)
    if other is not None:
        raise UserError(
            f"{path_text(other)}: cannot be read to its end ({OTHER_NAMES}); replace it, or leave it out of --input."
        )


def _path_of(rows: "DataFrame") -> Column:
    """The URI of the file that a row is from."""
    return rows.metadataColumn("_metadata").getField("file_path")


def parsed_json(lines: "DataFrame", names: Sequence[str]) -> "DataFrame":
    """Lines with the fields of these names, or paths, parsed for the functions below."""
    # As variant, because as string a number or an object would pass for text.
    wanted = list(dict.fromkeys(top for name in names if name for top in (name, name.partition(".")[0])))
    return _parsed(lines, [T.StructField(name, T.VariantType()) for name in wanted])


def _parsed(lines: "DataFrame", fields: Sequence[T.StructField]) -> "DataFrame":
    """Lines with a column PARSED: these fields of the object in `value`, and what is no object."""
    of_line = T.ArrayType(T.StructType(list(fields)))
    schema = T.StructType([T.StructField(LINE, of_line), T.StructField(NOT_JSON, T.StringType())])
    # Spark reads the first object of a line, and leaves out in silence what follows it, such as the first line of a
    # file that was appended to one without a last line end. In an array with null, another object is one too many, a
    # field may not follow, and the null is missing where the line closes the array or the object around it.
    text = F.expr("trim(LEADING '\ufeff' FROM value)")  # F.ltrim with a second argument makes Spark warn
    whole = F.concat(F.lit(f'{{"{LINE}":['), text, F.lit(",null]}"))
    options = {"columnNameOfCorruptRecord": NOT_JSON, "maxStringLen": MOST_CHARACTERS}
    return lines.withColumn(PARSED, F.from_json(whole, schema, options))


def _parsed_line() -> Column:
    """The object of a line, as parsed."""
    return F.get(columns.column_named(PARSED).getField(LINE), F.lit(0))


def json_field(name: str) -> Column:
    """The field of a name, or of a path such as doc.body, as variant.

    Of an array of objects, a field is the array of that field.
    """
    line = _parsed_line()
    first, *fields = name.split(".")
    if not fields or not all(PATH_STEP.fullmatch(field) for field in fields):
        return line.getField(name)
    top = line.getField(first)
    found = [line.getField(name), F.try_variant_get(top, _variant_path(fields), "variant")]
    for depth in range(len(fields)):
        above, below = _variant_path(fields[:depth]), _variant_path(fields[depth:])
        found.append(_of_elements(F.try_variant_get(top, above, "array<variant>"), below))
    return F.coalesce(*found)


def _of_elements(array: Column, path: str) -> Column:
    """What a path leads to in each element of an array, as one variant; null where it leads to nothing in any."""
    found = F.transform(array, lambda element: F.try_variant_get(element, path, "variant"))
    is_there = (F.size(array) == 0) | F.exists(found, lambda value: value.isNotNull())
    return F.when(is_there, F.to_variant_object(found))


def _variant_path(fields: Sequence[str]) -> str:
    """The path of these fields in a variant."""
    quoted = (f'["{field}"]' if "'" in field else f"['{field}']" for field in fields)
    return "$" + "".join(f".{field}" if "[" not in field else step for field, step in zip(fields, quoted, strict=True))


def json_number(name: str) -> Column:
    """The field of a name as a number; null where it is none."""
    field = json_field(name)
    # As a number, true would be 1.
    return F.when(F.schema_of_variant(field) != "BOOLEAN", F.try_variant_get(field, "$", "double"))


def is_json_word(type_found: Column) -> Column:
    """Whether the type of a variant is that of a word: a string, a number with all its digits, or null."""
    return type_found.isin("STRING", "VOID", "BIGINT") | type_found.startswith("DECIMAL")


def is_malformed_json() -> Column:
    """Whether a line is not a JSON object."""
    parsed = columns.column_named(PARSED)
    found = parsed.getField(LINE)
    is_alone = (F.size(found) == 2) & F.get(found, F.lit(1)).isNull()
    return parsed.getField(NOT_JSON).isNotNull() | _parsed_line().isNull() | ~is_alone
