"""What is written is what everybody reads: bit for bit, in order, by Spark, pandas, DuckDB, MLlib and ourselves."""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from spark_w2v.analysis import warm_start
from spark_w2v.errors import OutputError, StorageError
from spark_w2v.runs import embedding_files, embedding_writer, embeddings
from spark_w2v.runs.embedding_writer import Facts, write
from spark_w2v.runs.embeddings import facts, read, read_context
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles
from spark_w2v.runs.run import open_run, output_of
from spark_w2v.storage.files import reason
from tests.support.runs import CODES, faults

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]
STRANGE = ["NULL", "nan", "</s>", '"', "a\tb", "e\u0301", "Straße", "हिन्दी", "🚀", "", " ", "it's", "שלום", "0"]
FACTS: Facts = {"seed": 1, "loss": 2.25, "corpus": "süß"}


class Parameters(NamedTuple):
    words: pa.StringArray
    counts: NDArray[np.int64]
    center: NDArray[np.float32]
    context: NDArray[np.float32]


def parameters(rows: int = 40, dimensions: int = 6, seed: int = 1) -> Parameters:
    """Words that break formats, and every kind of finite float32: zeros of both signs, subnormal, the largest."""
    rng = np.random.default_rng([seed, rows, dimensions])
    words = [*STRANGE, *(f"word{i}" for i in range(rows))][:rows]
    counts = np.sort(rng.integers(1, 2**40, rows))[::-1].copy()
    bits = rng.integers(0, 2**32, (2, rows, dimensions), np.uint32).view(np.float32)
    center, context = np.where(np.isfinite(bits), bits, np.float32(-0.0))
    return Parameters(pa.array(words, pa.string()), counts, center, context)


def finish(output: Path, given: Parameters) -> Path:
    write(output, *given, FACTS)
    (output / "_SUCCESS").touch()
    return output


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 rows of 6 dimensions a row group, 2 row groups a file."""
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 3 * 6 * 4)
    monkeypatch.setattr(embedding_writer, "FILE_BYTES", 2 * 3 * 6 * 4)


def bits(matrix: Any) -> list[list[int]]:
    """Compares floats as what they are stored as: -0.0 differs from 0.0."""
    found: list[list[int]] = np.asarray(matrix, np.float32).view(np.uint32).tolist()
    return found


@pytest.mark.parametrize("is_small", [False, True])
def test_what_is_read_is_what_was_written_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_small: bool
) -> None:
    if is_small:
        small_pieces(monkeypatch)
    given = parameters()
    finish(tmp_path, given)
    assert len(list((tmp_path / "embeddings").iterdir())) == (7 if is_small else 1)
    found = read(tmp_path)
    assert found.words.equals(given.words)
    assert found.counts.tolist() == given.counts.tolist()
    assert found.counts.dtype == np.int64
    assert found.vectors.dtype == np.float32
    assert bits(found.vectors) == bits(given.center)
    assert bits(read_context(tmp_path)) == bits(given.context)
    assert facts(tmp_path) == FACTS


def test_rows_are_written_in_slices_of_any_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    turned = given._replace(center=np.asfortranarray(given.center), context=given.context[::-1])
    finish(tmp_path, turned)
    assert bits(read(tmp_path).vectors) == bits(given.center)
    assert bits(read_context(tmp_path)) == bits(given.context[::-1])


def test_a_matrix_in_block_order_is_written_in_the_order_of_word_ids_a_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    finish(tmp_path / "plain", given)
    places = np.random.default_rng(4).permutation(40).astype(np.int32)
    made = ParameterFiles.create(tmp_path / "made", 40, 6)
    made.center[places], made.context[places] = given.center, given.context
    taken: list[int] = []

    class Watched(ByWord):
        def __getitem__(self, word_ids: slice) -> Any:
            rows = super().__getitem__(word_ids)
            taken.append(len(rows))
            return rows

    write(
        tmp_path / "out", given.words, given.counts, Watched(made.center, places), Watched(made.context, places), FACTS
    )
    for path in (tmp_path / "plain").rglob("*.parquet"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "plain")).read_bytes() == path.read_bytes()
    assert max(taken) == 3
    assert sum(taken) == 40 * 4  # both matrices, once to be checked and once to be written


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (100, 1)])
def test_every_shape_goes_there_and_back(tmp_path: Path, shape: tuple[int, int]) -> None:
    given = parameters(*shape)
    assert bits(read(finish(tmp_path, given)).vectors) == bits(given.center)


def test_the_tables_have_the_columns_and_types_that_are_promised(tmp_path: Path) -> None:
    finish(tmp_path, parameters())
    vector = pa.field("vector", pa.list_(pa.field("element", pa.float32(), False), 6), False)
    word, word_id = pa.field("word", pa.string(), False), pa.field("word_id", pa.int32(), False)
    count = pa.field("count", pa.int64(), False)
    expected = {
        "embeddings": [word, word_id, count, vector],
        "context": [word_id, vector],
        "vocabulary": [word_id, word, count],
    }
    assert set(os.listdir(tmp_path)) == {*expected, "_SUCCESS"}
    for table, fields in expected.items():
        (path,) = (tmp_path / table).iterdir()
        file = pq.ParquetFile(path)
        assert file.schema_arrow.remove_metadata().equals(pa.schema(fields))
        assert json.loads(file.schema_arrow.metadata[b"spark_w2v"]) == FACTS
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert [column.column_index for column in file.metadata.row_group(0).sorting_columns] == [
            [field.name for field in fields].index("word_id")
        ]


def test_the_vocabulary_table_is_the_words_and_counts(tmp_path: Path) -> None:
    given = parameters()
    finish(tmp_path, given)
    table = pq.read_table(tmp_path / "vocabulary")
    assert table["word_id"].to_pylist() == list(range(40))
    assert table["word"].to_pylist() == given.words.to_pylist()
    assert table["count"].to_pylist() == given.counts.tolist()


def test_the_same_run_twice_writes_the_same_files(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        finish(tmp_path / name, parameters())
        written.append(
            {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.parquet")}
        )
    assert written[0] == written[1]
    finish(tmp_path / "other", parameters()._replace(center=parameters(seed=2).center))
    assert not {str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("*.parquet")} & set(
        written[0]
    )


def test_neither_writing_nor_reading_holds_a_second_copy_of_the_matrix(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from spark_w2v.runs import embedding_writer, embeddings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # bytes; Linux counts in kB

embedding_writer.ROW_GROUP_BYTES = 2 << 20
rows, dimensions = 50_000, 600
words, counts = pa.array(map(str, range(rows))), np.ones(rows, np.int64)
matrix = np.random.default_rng(1).random((rows, dimensions), np.float32)
output, size = Path(sys.argv[1]), matrix.nbytes
small = matrix[:9]
embedding_writer.write(output / "first", words[:9], counts[:9], small, small, {})  # what libraries load once
before = peak()
embedding_writer.write(output / "out", words, counts, matrix, matrix, {})
written = peak()
(output / "out" / "_SUCCESS").touch()
del matrix, small
matrix = embeddings.read(output / "out").vectors
print((written - before) / size, (peak() - written) / size)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    writing, reading = map(float, ran.stdout.split())
    assert writing < 0.5
    assert reading < 0.5


# Readers of others


def test_spark_reads_the_same_bits_in_order(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    finish(tmp_path, given)
    frame = spark.read.parquet(str(tmp_path / "embeddings"))
    assert frame.dtypes == [("word", "string"), ("word_id", "int"), ("count", "bigint"), ("vector", "array<float>")]
    rows = frame.orderBy("word_id").collect()
    assert [row.word for row in rows] == given.words.to_pylist()
    assert [row["count"] for row in rows] == given.counts.tolist()
    assert bits([row.vector for row in rows]) == bits(given.center)
    (path, *_) = sorted((tmp_path / "embeddings").iterdir())
    assert [row.word_id for row in spark.read.parquet(str(path)).collect()] == list(range(6))


def test_mllib_finds_the_synonyms_that_numpy_finds(spark: "SparkSession", tmp_path: Path) -> None:
    from pyspark.ml.feature import Word2VecModel

    given = parameters(30, 6)
    given = given._replace(center=np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32))
    finish(tmp_path / "out", given)
    (tmp_path / "model" / "metadata").mkdir(parents=True)
    (tmp_path / "out" / "embeddings").rename(tmp_path / "model" / "data")
    defaults = {
        "maxIter": 1, "maxSentenceLength": 1000, "minCount": 5, "numPartitions": 1, "outputCol": "o", "seed": 1,
        "stepSize": 0.025, "vectorSize": 100, "windowSize": 5,
    }  # fmt: skip
    metadata = {
        "class": "org.apache.spark.ml.feature.Word2VecModel", "timestamp": 1, "sparkVersion": "4.3.0",
        "uid": "Word2Vec_1", "paramMap": {"vectorSize": 6, "inputCol": "words"}, "defaultParamMap": defaults,
    }  # fmt: skip
    (tmp_path / "model" / "metadata" / "part-00000").write_text(json.dumps(metadata) + "\n")
    (tmp_path / "model" / "metadata" / "_SUCCESS").touch()
    synonyms = Word2VecModel.load(str(tmp_path / "model")).findSynonymsArray("Straße", 3)
    units = given.center / np.linalg.norm(given.center, axis=1, keepdims=True)
    cosines = units @ units[STRANGE.index("Straße")]
    expected = [i for i in np.argsort(-cosines) if i != STRANGE.index("Straße")][:3]
    assert [word for word, _ in synonyms] == [given.words[int(i)].as_py() for i in expected]
    assert [cosine for _, cosine in synonyms] == pytest.approx([cosines[i] for i in expected], abs=1e-5)


def test_pandas_reads_the_same_bits_in_order(tmp_path: Path) -> None:
    given = parameters()
    frame = pd.read_parquet(finish(tmp_path, given) / "embeddings")
    assert list(frame.columns) == ["word", "word_id", "count", "vector"]
    assert frame["word"].tolist() == given.words.to_pylist()
    assert frame["word_id"].tolist() == list(range(40))
    assert frame["vector"][0].dtype == np.float32
    assert bits(np.stack(frame["vector"].tolist())) == bits(given.center)


def test_duckdb_reads_the_same_bits_in_order(tmp_path: Path) -> None:
    import duckdb

    given = parameters()
    finish(tmp_path, given)
    query = f"select word, word_id, count, vector, typeof(vector) from '{tmp_path}/embeddings/*.parquet'"
    rows = duckdb.connect().execute(query).fetchall()
    assert [row[:3] for row in rows] == list(
        zip(given.words.to_pylist(), range(40), given.counts.tolist(), strict=True)
    )
    assert {row[4] for row in rows} == {"FLOAT[]"}
    assert bits([row[3] for row in rows]) == bits(given.center)


def test_gensim_takes_words_and_vectors_as_they_are(tmp_path: Path) -> None:
    from gensim.models import KeyedVectors

    given = parameters()._replace(center=np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32))
    found = read(finish(tmp_path, given))
    vectors = KeyedVectors(vector_size=6)
    vectors.add_vectors(found.words.to_pylist(), found.vectors)
    assert bits(vectors["Straße"]) == bits(given.center[STRANGE.index("Straße")])
    assert len(vectors) == 40


# What is refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("matrix", ["center", "context"])
def test_values_that_are_not_finite_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matrix: str, bad: float
) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    getattr(given, matrix)[17, 3] = bad
    with pytest.raises(OutputError, match=f'the {matrix} vector of "word3" has values that are not finite'):
        write(tmp_path, *given, FACTS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"words": pa.array(["a", None, "b"])}, "1 nulls"),
        ({"words": pa.array(["a", "b", "a"])}, "must not repeat: 3 words, of which 2 differ"),
        ({"words": pa.array([1, 2, 3])}, "not int64"),
        ({"counts": np.ones(3, np.int32)}, "int32"),
        ({"counts": np.ones(4, np.int64)}, "one a word"),
        ({"center": np.ones((3, 2))}, "float64"),
        ({"center": np.ones((2, 2), np.float32)}, "one row a word"),
        ({"context": np.ones((3, 3), np.float32)}, "same shape"),
        ({"context": np.ones(3, np.float32)}, "one row a word"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    ones = np.ones((3, 2), np.float32)
    given: dict[str, Any] = {
        "words": pa.array(["a", "b", "c"]),
        "counts": np.ones(3, np.int64),
        "center": ones,
        "context": ones,
        **change,
    }
    with pytest.raises(OutputError, match=sentence):
        write(tmp_path, **given, facts=FACTS)
    assert os.listdir(tmp_path) == []


def replace_table(output: Path, change: Any) -> None:
    """Change a table of an earlier version, which no digest guards."""
    unseal(output)
    (path,) = (output / "embeddings").iterdir()
    pq.write_table(change(pq.read_table(path)), path)


def unseal(output: Path) -> None:
    """Make an output what an earlier version wrote."""
    for path in output.rglob("*.parquet"):
        table = pq.read_table(path)
        kept = {embedding_files.METADATA_KEY: table.schema.metadata[embedding_files.METADATA_KEY]}
        pq.write_table(table.replace_schema_metadata(kept), path)


def set_column(name: str, values: pa.Array) -> Any:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


VECTOR = pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop_columns(["word"]), "has 0 columns word; it must have one, of type string"),
        (set_column("count", pa.array([1, 2, 3], pa.int32())), "column count is int32; it must be int64"),
        (set_column("vector", pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float64(), 2))), "must be fixed_size_list<float>"),
        (set_column("vector", pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32()))), "must be fixed_size_list<float>"),
        (set_column("vector", pa.array([[1.0, None]] * 3, VECTOR)), "nulls in its vectors"),
        (set_column("vector", pa.array([[1.0, 1.0], None, [1.0, 1.0]], VECTOR)), "has nulls"),
        (set_column("vector", pa.array([[1.0, np.nan]] * 3, VECTOR)), "not finite"),
        (set_column("word", pa.array(["a", None, "b"])), "has nulls"),
        (set_column("word", pa.array(["a", "b", "a"])), "has a word twice"),
        (set_column("word_id", pa.array([0, 2, 1], pa.int32())), "word_id is not 0, 1, 2"),
        (lambda table: table.slice(1), "word_id is not 0, 1, 2"),
    ],
)
def test_a_table_that_is_not_as_promised_is_refused_in_one_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    finish(tmp_path, parameters(3, 2))
    replace_table(tmp_path, change)
    with pytest.raises(OutputError) as refused:
        read(tmp_path)
    assert sentence in str(refused.value)
    assert str(refused.value).isprintable()


def test_what_is_no_finished_output_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such directory"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="no such directory"):
        read(tmp_path / "file")
    write(tmp_path / "out", *parameters(), FACTS)
    with pytest.raises(OutputError, match="has no _SUCCESS"):
        read(tmp_path / "out")
    (tmp_path / "out" / "_SUCCESS").touch()
    (path,) = (tmp_path / "out" / "context").iterdir()
    path.unlink()
    with pytest.raises(OutputError, match=r"has no part-\*\.parquet"):
        read_context(tmp_path / "out")
    with pytest.raises(OutputError, match="nowhere"):
        facts(tmp_path / "nowhere\n\x1b[31m")


def test_a_damaged_file_is_an_error_of_one_sentence_or_reads_as_it_was_written(tmp_path: Path) -> None:
    given = parameters(20, 3)
    finish(tmp_path, given)
    (path,) = (tmp_path / "embeddings").iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    damaged = [b"", whole[:-1], whole[: len(whole) // 2], b"PAR1" * 10]
    for _ in range(400):
        position = int(rng.integers(len(whole)))
        damaged.append(
            whole[:position] + bytes([whole[position] ^ (1 << int(rng.integers(8)))]) + whole[position + 1 :]
        )
    sentences = []
    for content in damaged:
        path.write_bytes(content)
        try:
            found = read(tmp_path)
        except OutputError as error:
            sentences.append(str(error))
        else:  # in what nobody needs, such as statistics
            assert found.words.equals(given.words)
            assert found.counts.tolist() == given.counts.tolist()
            assert bits(found.vectors) == bits(given.center)
    assert len(sentences) > 200
    assert all(map(str.isprintable, sentences))


def rewrite(path: Path, change: Any) -> None:
    """Change a table and leave its metadata, as no flipped bit of a disk could, and a program can."""
    table = pq.read_table(path)
    pq.write_table(change(table), path, row_group_size=3)


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_suffix(".swapped"))
    other.rename(one)
    one.with_suffix(".swapped").rename(other)


def files_of(output: Path, table: str) -> list[Path]:
    return sorted((output / table).iterdir())


@pytest.mark.parametrize("table", ["embeddings", "context"])
@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("missing first", "so a file is missing or there twice"),
        ("missing last", "so a file is missing or there twice"),
        ("doubled", "so a file is missing or there twice"),
        ("swapped part", "are of two runs"),
        ("swapped table", "are of two runs"),
        ("changed vector", "are not those that the run wrote"),
        ("changed facts", "its metadata has been changed"),
        ("no seal", "are of two runs"),
        ("FIFO", "is a FIFO, not a file"),
        ("directory", "is a directory, not a file"),
    ],
)
def test_an_output_that_is_not_whole_is_refused_whatever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, harm: str, sentence: str
) -> None:
    small_pieces(monkeypatch)
    output, other = finish(tmp_path / "out", parameters()), finish(tmp_path / "other", parameters(seed=2))
    first, *_, last = files_of(output, table)
    match harm:
        case "missing first":
            first.unlink()
        case "missing last":
            last.unlink()
        case "doubled":
            (output / table / "part-00000-copy.parquet").write_bytes(first.read_bytes())
        case "swapped part":
            swap(first, files_of(other, table)[0])
        case "swapped table":
            swap(output / table, other / table)
        case "changed vector":
            changed = pa.array([[1.0] * 6] * 6, first_type(first))
            rewrite(
                first,
                lambda found: found.set_column(
                    found.schema.get_field_index("vector"), found.schema.field("vector"), changed
                ),
            )
        case "changed facts":
            metadata = pq.read_schema(first).metadata
            metadata[embedding_files.METADATA_KEY] = metadata[embedding_files.METADATA_KEY].replace(b"2.25", b"2.26")
            rewrite(first, lambda found: found.replace_schema_metadata(metadata))
        case "no seal":
            rewrite(first, lambda found: found.replace_schema_metadata(None))
        case "FIFO":
            first.unlink()
            os.mkfifo(first)
        case "directory":
            first.unlink()
            first.mkdir()
    readers: dict[str, Callable[[], Any]] = {
        "read": lambda: read(output) if table == "embeddings" else read_context(output),
        "iter_vectors": lambda: list(embeddings.iter_vectors(output, "sum").chunks),
        "open_embeddings": lambda: [
            list(embeddings.open_embeddings(output).chunks(name)) for name in ("center", "context")
        ],
        "warm start": lambda: warm_start.read(output, 6),
    }
    for name, reader in readers.items():
        with pytest.raises(OutputError) as refused:
            reader()
        assert sentence in str(refused.value), name
        assert str(output) in str(refused.value)


def first_type(path: Path) -> pa.DataType:
    return pq.read_schema(path).field("vector").type


@pytest.mark.parametrize("column", ["word", "count"])
def test_words_and_counts_that_were_changed_are_refused(tmp_path: Path, column: str) -> None:
    output = finish(tmp_path, parameters())
    (path,) = files_of(output, "embeddings")

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[1], values[2] = values[2], values[1]
        field = table.schema.field(column)
        return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))

    rewrite(path, change)
    for reader in (read, embeddings.open_embeddings):
        with pytest.raises(OutputError, match="words or counts of embeddings are not those that the run wrote"):
            reader(output)


def test_an_output_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    given = parameters()
    output = finish(tmp_path, given)
    unseal(output)
    assert bits(read(output).vectors) == bits(given.center)
    assert bits(read_context(output)) == bits(given.context)
    assert facts(output) == FACTS


def test_the_digest_of_words_knows_where_one_ends() -> None:
    counts = np.ones(2, np.int64)
    digests = {
        embedding_files.words_digest(pa.array(words), counts).hexdigest()
        for words in (["ab", "c"], ["a", "bc"], ["", "abc"])
    }
    assert len(digests) == 3


@pytest.mark.parametrize("error", [*(OSError(code, os.strerror(code)) for code in CODES), MemoryError()])
@pytest.mark.parametrize("table", ["embeddings", "context"])
@pytest.mark.parametrize("what", ["ParquetFile", "batches"])
def test_an_error_that_may_pass_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, table: str, what: str
) -> None:
    output = finish(tmp_path, parameters())

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(pq if what == "ParquetFile" else embedding_files, what, fail)
        with pytest.raises(StorageError, match=f"could not be read: {reason(error)}"):
            _ = read(output) if table == "embeddings" else read_context(output)
    for name in ("_SUCCESS", table):
        if isinstance(error, OSError):
            with faults(monkeypatch, name, error.errno or 0), pytest.raises(StorageError, match=reason(error)):
                _ = read(output) if table == "embeddings" else read_context(output)
    read(output)


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    output = finish(tmp_path, parameters())
    read(output)  # what libraries open once
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        with pytest.raises(StorageError, match="Too many open files"):
            read(output)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    read(output)


def test_a_full_disk_stops_writing_with_the_systems_own_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path, *parameters(2000, 50), FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_reader_that_goes_on_while_runs_are_published_never_mixes_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    rows = 30

    def publish(number: int) -> None:
        words = pa.array([f"{number} {i}" for i in range(rows)])
        matrix = np.full((rows, 6), number, np.float32)
        with open_run(output_of(str(tmp_path / "out")), overwrite=True, resume=False, fingerprint={}) as run:
            run.publish(lambda d: write(d, words, np.full(rows, number), matrix, matrix, {"number": number}), {})

    publish(0)
    seen: list[set[int]] = []
    failures: list[BaseException] = []
    is_over = threading.Event()

    def read_on() -> None:
        while not is_over.is_set():
            try:
                found = read(tmp_path / "out")
            except BaseException as error:
                failures.append(error)
            else:
                numbers = {int(word.split()[0]) for word in found.words.to_pylist()}
                seen.append(numbers | set(found.counts.tolist()) | set(found.vectors.astype(int).ravel().tolist()))

    reader = threading.Thread(target=read_on)
    reader.start()
    for number in range(1, 21):
        publish(number)
    is_over.set()
    reader.join()
    assert not failures
    assert all(len(numbers) == 1 for numbers in seen)
    assert len({number for numbers in seen for number in numbers}) > 2
