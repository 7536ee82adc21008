"""jobs/export.py: every format opened by its own reader, and what must not be written is not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

from jobs import export
from spark_w2v.runs import embedding_writer
from spark_w2v.runs import export_formats as formats
from spark_w2v.runs.export_formats import FILES
from spark_w2v.types import Float32Array
from tests.support.runs import STRANGERS, everything, make_stranger

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]

# Ten scripts, emoji, combining marks, right to left, quotes, and what formats stumble over.
WORDS = [
    "king", "naïve", "ёлка", "ελπίδα", "שלום", "مرحبا", "हिन्दी", "日本語", "한국어", "ไทย", "ქართული", "አማርኛ",
    "👩‍🚀", "🇫🇷", "e\u0301te\u0301", "\u202eevil", "don't", '"quoted"', "'", '"', "#", "\\n", "\\", "a,b", "0.5",
    "NULL", "nan", "</s>", "\x1b[31m", "\x00", "\ufeff", "\u200b", "=1+1",
]  # fmt: skip
SPACED = ["New York", "tab\tin", "line\nend", "", "a\u00a0b", "\u2028", "carriage\rreturn", "New_York", "\x85", "\x1c"]


def finish(output: Path, words: list[str], center: Float32Array, context: Float32Array) -> Path:
    counts = np.arange(len(words), 0, -1).astype(np.int64) * 1000
    embedding_writer.write(output, pa.array(words, pa.string()), counts, center, context, {})
    (output / "_SUCCESS").touch()
    return output


def matrices(rows: int, dimensions: int = 7) -> tuple[Float32Array, Float32Array]:
    """Floats of all sizes, the least and the largest among them."""
    rng = np.random.default_rng(rows)
    center = (rng.normal(size=(rows, dimensions)) * 10.0 ** rng.integers(-30, 30, (rows, dimensions))).astype(
        np.float32
    )
    center[0, :7] = [0, -0.0, 1e-45, 3.4028235e38, 0.1, 16777216, -1.1754944e-38]
    return center, rng.normal(size=(rows, dimensions)).astype(np.float32)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))


def equal_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype == np.float32 and one.shape == other.shape and one.tobytes() == other.tobytes()


def load(form: str, target: Path) -> tuple[list[str], Float32Array]:
    """Words and vectors as the reader of each format gives them."""
    if form.startswith("word2vec"):
        keyed = KeyedVectors.load_word2vec_format(str(target), binary=form == "word2vec-binary")
        return keyed.index_to_key, keyed.vectors
    if form == "mllib":
        table = pd.read_parquet(target / "data")
        return table["word"].tolist(), np.stack(table["vector"].tolist())
    if form == "projector":
        # As the projector does: lines, then tabs, and nothing else has a meaning.
        heading, *lines = (target / "metadata.tsv").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        assert heading == "word\tcount"
        rows = (target / "tensors.tsv").read_text(encoding="ascii").removesuffix("\n").split("\n")
        words = [line.split("\t")[0] for line in lines]
        # It shows the quotes of CSV, and a row for each word.
        words = [word[1:-1].replace('""', '"') if word.startswith('"') else word for word in words]
        return words, np.array([row.split("\t") for row in rows]).astype(np.float32)
    words = (target / "words.txt").read_text(encoding="utf-8").splitlines()
    if form == "npy":
        return words, np.load(target / "vectors.npy", allow_pickle=False)
    with safe_open(target / "vectors.safetensors", "numpy") as file:
        assert file.metadata() == {"words": "words.txt"}
        assert list(file.keys()) == ["vectors"]
        return words, file.get_tensor("vectors")


def export_to(output: Path, form: str, target: Path, *more: str) -> int:
    return export.main([str(output), "--format", form, "--to", str(target), *more])


@pytest.mark.parametrize("vectors", ["center", "context", "sum"])
@pytest.mark.parametrize("form", FILES)
def test_every_reader_finds_every_word_and_every_bit(output: Path, tmp_path: Path, form: str, vectors: str) -> None:
    center, context = matrices(len(WORDS))
    assert export_to(output, form, tmp_path / "to", "--vectors", vectors) == 0
    words, found = load(form, tmp_path / "to")
    assert words == WORDS
    assert equal_bits(found, {"center": center, "context": context, "sum": center + context}[vectors])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "to"]


@pytest.mark.parametrize("form", FILES)
def test_pieces_and_row_groups_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    words, (center, context) = [f"w{i}" for i in range(1000)], matrices(1000)
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 4 * 7 * 130)
    monkeypatch.setattr(embedding_writer, "FILE_BYTES", 4 * 7 * 130 * 3)
    monkeypatch.setattr(formats, "CHUNK_BYTES", 4 * 7 * 37)
    output = finish(tmp_path / "out", words, center, context)
    assert len(list((output / "embeddings").iterdir())) > 1
    assert export_to(output, form, tmp_path / "to", "--vectors", "sum") == 0
    found, vectors = load(form, tmp_path / "to")
    assert found == words
    assert equal_bits(vectors, center + context)


@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_the_digits_of_any_float_lead_back_to_its_bits(bits: list[int]) -> None:
    block = np.array(bits, np.uint32).view(np.float32)
    block = block[np.isfinite(block)].reshape(1, -1)
    [line] = formats._decimals(block, " ").to_pylist()
    assert equal_bits(np.array(line.split(), np.float64).astype(np.float32).reshape(1, -1), block)
    for text, value in zip(line.split(), block[0], strict=True):
        digits = len(
            np.format_float_scientific(value, unique=True, trim="-").partition("e")[0].strip("-").replace(".", "")
        )
        assert len(text.partition("e")[0].strip("-").replace(".", "").strip("0")) <= digits


@pytest.mark.parametrize(
    ("form", "held"),
    [
        ("word2vec-text", []),
        ("word2vec-binary", []),
        ("mllib", SPACED),
        ("projector", ["New York", "", "a\u00a0b"]),
        ("safetensors", ["New York", "tab\tin", "", "a\u00a0b"]),
        ("npy", ["New York", "tab\tin", "", "a\u00a0b"]),
    ],
)
def test_words_with_white_space_are_refused_or_replaced_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, held: list[str]
) -> None:
    words = ["_", *SPACED]
    output = finish(tmp_path / "out", words, *matrices(len(words)))
    held = ["_", "New_York", *held]
    changed = [word for word in words if word not in held]
    assert export_to(output, form, tmp_path / "to") == (2 if changed else 0)
    told = capsys.readouterr()
    if changed:
        assert f"words with white space that {form} cannot hold: {len(changed)}, as {changed[0]!r}" in told.err
        assert told.err.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
        assert export_to(output, form, tmp_path / "to", "--white-space", "replace") == 0
        assert f"\nwords with _ in place of white space: {len(changed)}\n" in capsys.readouterr().out
    found, vectors = load(form, tmp_path / "to")
    assert equal_bits(vectors, matrices(len(words))[0])
    assert len(set(found)) == len(words)
    for word, written in zip(words, found, strict=True):
        expected = "".join("_" if c.isspace() else c for c in word)
        assert written == word if word in held else written.rstrip("_") == expected.rstrip("_")
    if form == "word2vec-text":
        assert found[:2] == ["_", "New_York_"]


def test_a_table_of_words_is_read_whole_by_readers_of_csv(output: Path, tmp_path: Path) -> None:
    assert export_to(output, "projector", tmp_path / "to") == 0
    with open(tmp_path / "to" / "metadata.tsv", encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file, delimiter="\t")
    assert heading == ["word", "count"]
    assert [row[0] for row in rows] == WORDS
    table = pd.read_csv(tmp_path / "to" / "metadata.tsv", sep="\t", keep_default_na=False)
    # pandas ends every string at a NUL.
    assert table["word"].tolist() == [word.partition("\0")[0] for word in WORDS]
    assert table["count"].tolist() == [int(row[1]) for row in rows] == list(range(len(WORDS) * 1000, 0, -1000))
    assert len(pd.read_csv(tmp_path / "to" / "metadata.tsv", sep="\t")) == len(WORDS)


def test_mllib_loads_it_and_answers_as_we_do(spark: "SparkSession", tmp_path: Path) -> None:
    from pyspark.ml.feature import Word2VecModel

    from spark_w2v.analysis.neighbors import nearest, unit_vectors

    words = WORDS + SPACED
    vectors = np.random.default_rng(3).normal(size=(len(words), 6)).astype(np.float32)
    output = finish(tmp_path / "out", words, vectors, vectors)
    assert export_to(output, "mllib", tmp_path / "model") == 0
    model = Word2VecModel.load(str(tmp_path / "model"))
    assert model.getVectorSize() == 6
    loaded = {row.word: row.vector.toArray() for row in model.getVectors().collect()}
    assert set(loaded) == set(words)
    assert all(equal_bits(loaded[word].astype(np.float32), vectors[i]) for i, word in enumerate(words))

    units = unit_vectors(vectors)
    for asked in ("king", "👩‍🚀", "New York"):
        i = words.index(asked)
        ours = nearest(units, units[i], [i], 5)
        theirs = model.findSynonymsArray(asked, 5)
        assert [word for word, _ in theirs] == [words[row] for row, _ in ours]
        assert [cosine for _, cosine in theirs] == pytest.approx([cosine for _, cosine in ours], abs=1e-6)

    documents = [["king", "ไทย", "nowhere"], ["שלום"], [], ["nowhere"]]
    table = spark.createDataFrame([(document,) for document in documents], "words array<string>")
    model.setInputCol("words").setOutputCol("vector")
    for row in model.transform(table).collect():
        # MLlib's mean: a word without a vector counts as zeros.
        known = [vectors[words.index(word)] for word in row.words if word in words]
        expected = np.sum(known, axis=0) / len(row.words) if known else np.zeros(6)
        assert row.vector.toArray() == pytest.approx(expected, abs=1e-6)


# What stands there already


@pytest.mark.parametrize("form", FILES)
def test_an_existing_target_is_replaced_only_when_asked(
    output: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    capsys.readouterr()
    assert export_to(output, form, target, "--vectors", "context") == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert equal_bits(load(form, target)[1], matrices(len(WORDS))[0])
    assert export_to(output, form, target, "--vectors", "context", "--overwrite") == 0
    assert equal_bits(load(form, target)[1], matrices(len(WORDS))[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "to"]


@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary"])
def test_a_file_that_no_export_wrote_is_not_replaced(
    output: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "thesis.tex"
    target.write_text("\\documentclass{book}\n")
    assert export_to(output, form, target, "--overwrite") == 2
    assert "does not begin as a file of word2vec does" in capsys.readouterr().err
    assert target.read_text() == "\\documentclass{book}\n"
    target.write_text("")  # as mktemp leaves it
    assert export_to(output, form, target, "--overwrite") == 0
    assert load(form, target)[0] == WORDS


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("form", [form for form in FILES if FILES[form]])
def test_a_directory_with_anything_that_no_export_wrote_is_not_replaced(
    output: Path, tmp_path: Path, form: str, kind: str
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    for place in [target, *(path for path in target.iterdir() if path.is_dir())]:
        make_stranger(place / "mine", kind)
        before = everything(target)
        assert export_to(output, form, target, "--overwrite") == 2
        assert everything(target) == before
        if kind == "full directory":
            (place / "mine" / "mine").unlink()
        (place / "mine").rmdir() if "directory" in kind and "link" not in kind else (place / "mine").unlink()


@pytest.mark.parametrize("form", [form for form in FILES if FILES[form]])
def test_files_of_others_are_never_removed(output: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    (target / "deep").mkdir()
    (target / "deep" / "mine").touch()
    assert export_to(output, form, target, "--overwrite") == 2
    assert (target / "deep" / "mine").exists()
    assert load(form, target)[0] == WORDS


@pytest.mark.parametrize("form", FILES)
def test_a_walk_that_fails_leaves_what_was_there(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    target = tmp_path / "to"
    assert export_to(output, form, target) == 0
    before = load(form, target)
    capsys.readouterr()

    def fails(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    assert export_to(output, form, target, "--overwrite") == 75
    assert capsys.readouterr().err == f"export.py: {target}: could not be written (the disk is full).\n"
    monkeypatch.undo()
    after = load(form, target)
    assert (before[0], before[1].tobytes()) == (after[0], after[1].tobytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "to"]


def test_a_sum_that_is_not_finite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = np.full((1, 2), 3e38, np.float32)
    output = finish(tmp_path / "out", ["king"], large, large)
    assert export_to(output, "npy", tmp_path / "to", "--vectors", "sum") == 2
    assert "is not finite" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_matrices_of_two_runs_are_not_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))
    other = finish(tmp_path / "other", WORDS[:5], *matrices(5))
    for path in (output / "context").iterdir():
        path.unlink()
    for path in (other / "context").iterdir():
        path.rename(output / "context" / path.name)
    assert export_to(output, "npy", tmp_path / "to", "--vectors", "sum") == 2
    assert "are of two runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["OUT", "--to", "DIR/to"], "required: --format"),
        (["OUT", "--format", "npy"], "required: --to"),
        (["OUT", "--format", "pickle\x1b[31m", "--to", "DIR/to"], "invalid choice: 'pickle\\x1b[31m'"),
        (["OUT", "--format", "npy", "--to", "DIR/to", "--vectors", "output"], "invalid choice: 'output'"),
        (["OUT", "--format", "npy", "--to", ""], "is not a path"),
        (["OUT", "--format", "npy", "--to", "/"], "is the root of a file system"),
        (["OUT", "--format", "npy", "--to", "s3://bucket/to"], "is not on this host"),
        (["s3://bucket/out?key=1", "--format", "npy", "--to", "DIR/to"], "takes no options after a question mark"),
        (["OUT", "--format", "npy", "--to", "DIR/no/to"], "is no directory"),
        (["OUT", "--format", "npy", "--to", "DIR/file/to"], "is no directory"),
        (["OUT", "--format", "npy", "--to", "DIR/file", "--overwrite"], "is a file, and npy is a directory"),
        (["OUT", "--format", "npy", "--to", "DIR/full", "--overwrite"], "holds mine, which no export to npy wrote"),
        (
            ["OUT", "--format", "word2vec-text", "--to", "DIR/full", "--overwrite"],
            "is a directory, and word2vec-text is a file",
        ),
        (["OUT", "--format", "word2vec-text", "--to", "DIR/to.gz"], "readers would take it for a packed file"),
        (["OUT", "--format", "word2vec-text", "--to", "OUT/to"], "is inside of"),
        (["OUT", "--format", "npy", "--to", "OUT", "--overwrite"], "is inside of"),
        (["OUT", "--format", "npy", "--to", "DIR", "--overwrite"], "which no export to npy wrote"),
        (["DIR/nowhere\x1b[31m", "--format", "npy", "--to", "DIR/to"], "nowhere\\x1b[31m: no such directory"),
        (["OUT/embeddings", "--format", "npy", "--to", "DIR/to"], "has no _SUCCESS"),
    ],
)
def test_a_mistake_costs_one_sentence_and_exit_code_2(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    try:
        status: object = export.main([a.replace("OUT", str(output)).replace("DIR", str(tmp_path)) for a in arguments])
    except SystemExit as stopped:
        status = stopped.code
    told = capsys.readouterr()
    assert status == 2
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "out"]
    assert (tmp_path / "full" / "mine").exists()


def test_a_damaged_output_is_refused_whole(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [part] = (output / "embeddings").iterdir()
    content = bytearray(part.read_bytes())
    content[200:400] = bytes(200)
    part.write_bytes(content)
    assert export_to(output, "npy", tmp_path / "to") == 2
    assert "cannot be read, perhaps it is damaged" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


# At the terminal


def run(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "jobs" / "export.py", *arguments],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_it_runs_from_anywhere(output: Path, tmp_path: Path) -> None:
    told = run(output, "--format", "mllib", "--to", "\x1b[31mmodel", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"\\x1b[31mmodel: {len(WORDS)} words of 7 dimensions, mllib\n"
    metadata = json.loads((tmp_path / "\x1b[31mmodel" / "metadata" / "part-00000").read_text())
    assert metadata["paramMap"] == {"vectorSize": 7}
    assert (tmp_path / "\x1b[31mmodel").stat().st_mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o777


def test_no_spark_is_needed(tmp_path: Path) -> None:
    program = f"import sys; sys.modules['pyspark'] = None; sys.path.insert(0, {str(ROOT)!r}); import jobs.export"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("form", FILES)
def test_export_holds_a_piece_and_not_the_matrix(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(formats, "CHUNK_BYTES", 1 << 18)
    rows = 20_000  # x 500 x 4 bytes = 40 MB
    vectors = np.random.default_rng(1).normal(size=(rows, 500)).astype(np.float32)
    output = finish(tmp_path / "out", [f"w{i}" for i in range(rows)], vectors, vectors)
    program = (
        f"import sys, resource; sys.path.insert(0, {str(ROOT)!r})\n"
        "from jobs import export\n"
        "from spark_w2v.runs import export_formats as formats\n"
        "formats.CHUNK_BYTES = 1 << 18\n"
        "import pyarrow.parquet, pyarrow.compute\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"assert export.main({[str(output), '--format', form, '--to', str(tmp_path / 'to')]!r}) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    unit = 1 if psutil.MACOS else 1024
    assert int(told.stdout.splitlines()[-1]) * unit < vectors.nbytes * 0.75
