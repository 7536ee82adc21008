"""Damaged and foreign outputs are refused in one sentence."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.analysis import warm_start
from spark_w2v.errors import OutputError, StorageError
from spark_w2v.runs import embedding_files, embeddings
from spark_w2v.runs.embedding_writer import write
from spark_w2v.runs.embeddings import facts, read, read_context
from spark_w2v.storage.files import reason
from tests.support.embeddings import FACTS, bits, finish, parameters, small_pieces
from tests.support.runs import CODES, faults


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
        "warm start": lambda: warm_start.read(str(output), 6),
    }
    for name, reader in readers.items():
        with pytest.raises(OutputError) as refused:
            reader()
        assert sentence in str(refused.value), name
        assert str(output) in str(refused.value)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("other numbers", "the column trained of context is not what the run wrote"),
        ("no column", "has 0 columns trained; it must have one, of type int64"),
        ("other type", "column trained is int32; it must be int64"),
    ],
)
def test_occurrences_trained_on_that_were_changed_are_refused(tmp_path: Path, harm: str, sentence: str) -> None:
    write(tmp_path, *parameters(), FACTS, trained=np.arange(40))
    (tmp_path / "_SUCCESS").touch()
    (file,) = files_of(tmp_path, "context")
    place = pq.read_schema(file).get_field_index("trained")
    kind = pa.int32() if harm == "other type" else pa.int64()
    changed = pa.array(range(1, 41), kind)
    match harm:
        case "no column":
            rewrite(file, lambda found: found.remove_column(place))
        case _:
            rewrite(file, lambda found: found.set_column(place, pa.field("trained", kind, False), changed))
    with pytest.raises(OutputError, match=re.escape(sentence)):
        embeddings.open_embeddings(tmp_path)


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
