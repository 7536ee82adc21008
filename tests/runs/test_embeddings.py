"""Every reader gets what was written: bit for bit, in order, by Spark, pandas, DuckDB, MLlib and ourselves."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.errors import OutputError, StorageError
from spark_w2v.runs import embedding_writer
from spark_w2v.runs.embedding_writer import write
from spark_w2v.runs.embeddings import facts, open_embeddings, read, read_context
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles
from spark_w2v.runs.run import Run
from tests.support.embeddings import FACTS, ROOT, bits, finish, parameters, small_pieces


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


def test_what_the_vectors_were_trained_on_is_next_to_those_of_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    given = parameters()
    trained = np.arange(40, dtype=np.int64) * 2**35
    write(tmp_path / "one", *given, FACTS, trained=trained)
    (tmp_path / "one" / "_SUCCESS").touch()
    assert pq.read_schema(next((tmp_path / "one" / "context").iterdir())).names == ["word_id", "trained", "vector"]
    assert pq.read_table(tmp_path / "one" / "context")["trained"].to_pylist() == trained.tolist()
    found = open_embeddings(tmp_path / "one")
    assert found.trained is not None
    assert found.trained.tolist() == trained.tolist()
    finish(tmp_path / "other", given)
    assert open_embeddings(tmp_path / "other").trained is None


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


@pytest.mark.slow
def test_neither_writing_nor_reading_holds_a_second_copy_of_the_matrix(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from spark_w2v.runs import embedding_writer, embeddings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # bytes; Linux counts in kB

embedding_writer.ROW_GROUP_BYTES = 2 << 20
rows, dimensions = 100_000, 600
words, counts = pa.array(map(str, range(rows))), np.ones(rows, np.int64)
matrix = np.random.default_rng(1).random((rows, dimensions), np.float32)
output, size = Path(sys.argv[1]), matrix.nbytes
# What libraries load once, and what the allocators of the threads take, up to 80 MB with huge pages.
few = 5000
small = matrix[:few]
embedding_writer.write(output / "first", words[:few], counts[:few], small, small, {})
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
        ({"counts": np.ones(4, np.int64)}, "one per word"),
        ({"center": np.ones((3, 2))}, "float64"),
        ({"center": np.ones((2, 2), np.float32)}, "one row per word"),
        ({"context": np.ones((3, 3), np.float32)}, "same shape"),
        ({"context": np.ones(3, np.float32)}, "one row per word"),
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


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    output = finish(tmp_path, parameters())
    read(output)  # what libraries open once
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.open(os.devnull, os.O_RDONLY))  # not their number, as some below it may be free
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
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


def test_after_an_error_no_other_file_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    monkeypatch.setattr(embedding_writer, "WRITERS", 1)
    begun: list[Path] = []

    def fail(path: Path, *others: object) -> None:
        begun.append(path)
        time.sleep(0.1 if len(begun) == 1 else 1.5)  # in which what waits for the first file comes to know of its end
        raise OSError("no more room")

    monkeypatch.setattr(embedding_writer, "_write_file", fail)
    with pytest.raises(OSError, match="no more room"):
        write(tmp_path, *parameters(2000, 50), FACTS)
    assert len(begun) <= 2, "of 20 and more files"


def test_a_reader_that_goes_on_while_runs_are_published_never_mixes_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    rows = 30

    def publish(number: int) -> None:
        words = pa.array([f"{number} {i}" for i in range(rows)])
        matrix = np.full((rows, 6), number, np.float32)
        with Run(output_of(str(tmp_path / "out")), overwrite=True, resume=False, fingerprint={}) as run:
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
