"""jobs/export.py --format usearch and faiss: what those libraries find in the indexes, loaded as they are."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest
from usearch.index import Index

from spark_w2v.analysis.neighbors import nearest, unit_vectors
from spark_w2v.commands import export
from spark_w2v.runs import index_formats
from spark_w2v.runs.index_formats import CONNECTIVITY, EXPANSION_SEARCH, LIBRARIES
from spark_w2v.skipgram import nearest_rows
from spark_w2v.types import Float32Array, Float64Array, Int64Array
from tests.support.commands import refused_in_one_sentence
from tests.support.exports import export_to, finish

ROWS, DIMENSIONS, TOP = 3000, 20, 10


@pytest.fixture(scope="module")
def vectors() -> Float32Array:
    """Clusters, of lengths that only a cosine does not see, and words that were never trained."""
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(100, DIMENSIONS))
    found = centers[rng.integers(0, 100, ROWS)] + rng.normal(size=(ROWS, DIMENSIONS))
    found *= rng.lognormal(sigma=2, size=(ROWS, 1))
    found[-50:] = 0
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def output(vectors: Float32Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [f"w{i}" for i in np.random.default_rng(6).permutation(ROWS)]
    return finish(tmp_path_factory.mktemp("run") / "out", words, vectors, vectors)


def search(form: str, target: Path, queries: Float32Array, top: int) -> tuple[Int64Array, Float32Array]:
    """Keys and cosines, (n, top), by the library with nothing set."""
    if form == "usearch":
        index = Index.restore(str(target / "vectors.usearch"))
        assert index is not None
        found = index.search(queries, top)
        keys, distances = np.asarray(found.keys, np.int64), np.asarray(found.distances)
        return keys.reshape(len(queries), -1), 1 - distances.reshape(len(queries), -1)  # of one query, it gives one row
    cosines, keys = faiss.read_index(str(target / "vectors.faiss")).search(unit_vectors(queries), top)
    return keys, cosines


@pytest.mark.parametrize("form", LIBRARIES)
def test_the_library_finds_the_nearest_words_of_exact_search(
    output: Path, vectors: Float32Array, tmp_path: Path, form: str
) -> None:
    assert export_to(output, form, tmp_path / "to") == 0
    asked = np.arange(0, ROWS - 50, 5)
    keys, cosines = search(form, tmp_path / "to", vectors[asked], TOP)
    words = (tmp_path / "to" / "words.txt").read_text().splitlines()
    assert [words[key] for key in keys[:, 0]] == [words[i] for i in asked]  # each is nearest to itself
    units = unit_vectors(vectors)
    exact = [dict(nearest(units, vectors[i], [], TOP)) for i in asked]
    hits = sum(len(right.keys() & set(found)) for right, found in zip(exact, keys.tolist(), strict=True))
    assert hits / (TOP * len(asked)) >= 0.95
    for right, found, near in zip(exact, keys.tolist(), cosines, strict=True):
        assert [right[key] for key in found if key in right] == pytest.approx(
            [cosine for key, cosine in zip(found, near, strict=True) if key in right], abs=1e-5
        )


@pytest.mark.parametrize("form", LIBRARIES)
def test_the_same_vectors_give_the_same_bytes(
    output: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert export_to(output, form, tmp_path / name) == 0
        before, after, done = capsys.readouterr().out.splitlines()
        assert before.startswith(f"{tmp_path / name}: building the index of 3,000 words on one core")
        assert after.startswith(f"{tmp_path / name}: built in ")
        assert done == f"{tmp_path / name}: 3,000 words of 20 dimensions, {form}"
    file = f"vectors.{form}"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_faiss_adds_on_one_thread_and_has_its_own_number_afterwards(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not seen in the bytes: Faiss 1.15.1 made the same of these with three threads, which it does not promise."""
    seen = []

    def watched(chunk: Float32Array) -> Float64Array:
        seen.append(faiss.omp_get_max_threads())
        return nearest_rows.unit_rows(chunk)

    monkeypatch.setattr(index_formats, "unit_rows", watched)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        assert export_to(output, "faiss", tmp_path / "to") == 0
        assert (seen, faiss.omp_get_max_threads()) == ([1], 3)
    finally:
        faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize("form", LIBRARIES)
def test_the_settings_that_a_library_stores_are_in_the_file(output: Path, tmp_path: Path, form: str) -> None:
    assert export_to(output, form, tmp_path / "to") == 0
    if form == "usearch":
        found = Index.restore(str(tmp_path / "to" / "vectors.usearch"))
        assert found is not None
        assert found.connectivity == CONNECTIVITY
    else:
        graph: Any = faiss.read_index(str(tmp_path / "to" / "vectors.faiss"))
        assert graph.hnsw.nb_neighbors(1) == CONNECTIVITY
        assert graph.hnsw.efSearch == EXPANSION_SEARCH


@pytest.mark.parametrize("form", LIBRARIES)
@pytest.mark.parametrize("zeros", [2000, 1])
def test_vectors_that_are_all_zero_are_a_cosine_of_0_from_everything(tmp_path: Path, form: str, zeros: int) -> None:
    matrix = np.zeros((zeros, 5), np.float32)
    output = finish(tmp_path / "out", [f"w{i}" for i in range(zeros)], matrix, matrix)
    assert export_to(output, form, tmp_path / "to") == 0
    keys, cosines = search(form, tmp_path / "to", np.ones((1, 5), np.float32), 1)
    assert 0 <= keys[0, 0] < zeros
    assert cosines[0, 0] == 0


@pytest.mark.parametrize("form", LIBRARIES)
@pytest.mark.parametrize("kind", [pa.int8(), pa.int64()], ids=str)
def test_ids_of_words_that_are_numbers_are_next_to_them_in_their_type(
    tmp_path: Path, form: str, kind: pa.DataType
) -> None:
    numbers = [7, -3, 127] if kind == pa.int8() else [7, -3, 2**62 + 1]
    matrix = np.eye(3, dtype=np.float32)
    output = finish(tmp_path / "out", [str(n) for n in numbers], matrix, matrix, pa.array(numbers, kind))
    assert export_to(output, form, tmp_path / "to") == 0
    ids = np.load(tmp_path / "to" / "ids.npy", allow_pickle=False)
    assert ids.dtype == kind.to_pandas_dtype()
    assert ids.tolist() == numbers
    assert (tmp_path / "to" / "words.txt").read_text().splitlines() == [str(n) for n in numbers]
    words = finish(tmp_path / "words", ["007", "-3", "a"], matrix, matrix)
    assert export_to(words, form, tmp_path / "to", "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [f"vectors.{form}", "words.txt"]


def test_ids_that_the_words_are_not_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = np.eye(2, dtype=np.float32)
    output = finish(tmp_path / "out", ["7", "seven"], matrix, matrix, pa.array([7, 7], pa.int32()))
    assert export_to(output, "faiss", tmp_path / "to") == 2
    assert "has a column id of int32, and words that are no such numbers" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", LIBRARIES)
def test_without_its_library_a_format_is_refused_before_anything_is_written(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    module, package = LIBRARIES[form]
    monkeypatch.setitem(sys.modules, module, None)
    told = refused_in_one_sentence(export.main, [str(output), "--format", form, "--to", str(tmp_path / "to")], capsys)
    assert f"--format {form}: needs the package {package}, which cannot be imported" in told
    assert told.endswith(f"; pip install {package}.\n")
    assert list(tmp_path.iterdir()) == []
    assert export_to(output, "npy", tmp_path / "to") == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may have more than 100,000 bytes: words.txt fits, an index does not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("form", LIBRARIES)
def test_an_index_that_does_not_fit_leaves_nothing(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    assert export_to(output, form, tmp_path / "to") == 75
    told = capsys.readouterr().err
    assert told.startswith(f"export.py: {tmp_path / 'to'}: could not be written (a file may not be so large)")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
