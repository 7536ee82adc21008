"""jobs/export.py: every format opened by its own reader, and what must not be written is not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.runs import embedding_writer, embeddings
from spark_w2v.runs import export_formats as formats
from spark_w2v.runs.export_formats import FILES
from spark_w2v.runs.index_formats import LIBRARIES
from tests.support.exports import ROOT, SPACED, WORDS, equal_bits, export_to, finish, load, matrices, stored
from tests.support.gensim_parts import keyed_vectors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return finish(tmp_path / "out", WORDS, *matrices(len(WORDS)))


@pytest.mark.parametrize("vectors", ["center", "context", "sum"])
@pytest.mark.parametrize("form", FILES)
def test_every_reader_finds_every_word_and_every_bit(output: Path, tmp_path: Path, form: str, vectors: str) -> None:
    center, context = matrices(len(WORDS))
    assert export_to(output, form, tmp_path / "to", "--vectors", vectors) == 0
    words, found = load(form, tmp_path / "to")
    assert words == WORDS
    expected = {"center": center, "context": context, "sum": center + context}[vectors]
    assert equal_bits(found, stored(form, expected))
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
    assert equal_bits(vectors, stored(form, center + context))


@settings(max_examples=100)
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
        ("usearch", ["New York", "tab\tin", "", "a\u00a0b"]),
        ("faiss", ["New York", "tab\tin", "", "a\u00a0b"]),
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
    assert equal_bits(vectors, stored(form, matrices(len(words))[0]))
    assert len(set(found)) == len(words)
    for word, written in zip(words, found, strict=True):
        expected = "".join("_" if c.isspace() else c for c in word)
        assert written == word if word in held else written.rstrip("_") == expected.rstrip("_")
    if form == "word2vec-text":
        assert found[:2] == ["_", "New_York_"]


@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary"])
def test_gensim_reads_the_counts_next_to_the_vectors(output: Path, tmp_path: Path, form: str) -> None:
    counts = tmp_path / "counts.txt"
    options = ["--white-space", "replace", "--counts", str(counts)]
    assert export_to(output, form, tmp_path / "to", *options) == 0
    found = keyed_vectors().load_word2vec_format(
        str(tmp_path / "to"), fvocab=str(counts), binary=form.endswith("binary")
    )
    expected = embeddings.read(output).counts.tolist()
    assert [found.get_vecattr(word, "count") for word in found.index_to_key] == expected
    assert export_to(output, form, tmp_path / "to", *options) == 2
    assert export_to(output, form, tmp_path / "to", *options, "--overwrite") == 0


@pytest.mark.parametrize(
    ("form", "counts", "says"),
    [
        ("npy", "counts.txt", "is for the formats of word2vec"),
        ("word2vec-text", "to", "to: is --to and --counts; give two files"),
        ("word2vec-text", "elsewhere/counts.txt", "is not next to"),
        ("word2vec-text", "notes.txt", "no export wrote it"),
        ("word2vec-text", "vectors.txt", "no export wrote it"),
        ("word2vec-text", "s3://bucket/counts.txt", "is not on this host"),
    ],
)
def test_counts_that_cannot_be_written_are_refused_and_nothing_is(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, counts: str, says: str
) -> None:
    (tmp_path / "notes.txt").write_text("my own notes\n")
    (tmp_path / "vectors.txt").write_text("2 3\na 1 2 3\nb 4 5 6\n")  # begins as counts of a word "2" would
    before = sorted(tmp_path.rglob("*"))
    options = [
        "--white-space",
        "replace",
        "--overwrite",
        "--counts",
        counts if ":" in counts else str(tmp_path / counts),
    ]
    assert export_to(output, form, tmp_path / "to", *options) == 2
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


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


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in FILES if form not in LIBRARIES])
def test_export_holds_a_piece_and_not_the_matrix(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(formats, "CHUNK_BYTES", 1 << 18)
    rows = 20_000  # x 500 x 4 bytes = 40 MB
    vectors = np.random.default_rng(1).normal(size=(rows, 500)).astype(np.float32)
    output = finish(tmp_path / "out", [f"w{i}" for i in range(rows)], vectors, vectors)
    program = (
        f"import sys, resource; sys.path.insert(0, {str(ROOT)!r})\n"
        "from spark_w2v.commands import export\n"
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
