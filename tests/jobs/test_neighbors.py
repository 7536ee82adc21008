"""jobs/neighbors.py as a person at a terminal meets it, and the arithmetic below it against plain definitions."""

import json
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.analysis.neighbors import analogy, closest_spellings, edit_distances, nearest, unit_vectors, word_id
from spark_w2v.commands import neighbors
from spark_w2v.runs.embedding_writer import write
from tests.support.commands import refused_in_one_sentence

ROOT = Path(__file__).resolve().parents[2]
examples = settings(max_examples=100)


def finish(output: Path, words: list[str], vectors: "np.typing.NDArray[np.float32]") -> Path:
    counts = np.arange(len(words), 0, -1).astype(np.int64) * 1000
    write(output, pa.array(words, pa.string()), counts, vectors, vectors, {})
    (output / "_SUCCESS").touch()
    return output


@pytest.fixture
def output(tmp_path: Path) -> Path:
    words = ["king", "queen", "man", "woman", "mexico", "日本", "e\u0301te\u0301", "\x1b[31m"]
    vectors = [[5, 1, 0], [5, 9, 0], [1, 1, 0], [1, 9, 0], [0, 0, 1], [0, 1, 9], [1, 0, 9], [0, 0.5, 1]]
    return finish(tmp_path / "out", words, np.array(vectors, np.float32))


def run(*arguments: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """The job as a person starts it: by its path, from anywhere, our package on no path."""
    return subprocess.run(
        [sys.executable, ROOT / "jobs" / "neighbors.py", *arguments],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", ["OUT king --top 2", "OUT --top 2 king", "--top 2 OUT -- king", "--top 2 -- OUT king"]
)
def test_words_may_come_before_and_after_options(
    output: Path, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    assert neighbors.main([argument.replace("OUT", str(output)) for argument in arguments.split()]) == 0
    first, *found = capsys.readouterr().out.splitlines()
    assert first == "king (8,000 times)"
    assert len(found) == 2


def test_the_nearest_words_are_printed_in_an_aligned_table(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "mexico", "king", "--top", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mexico (4,000 times)",
        "  日本       0.994  3,000",
        "  e\u0301te\u0301        0.994  2,000",
        "  \\x1b[31m   0.894  1,000",
        "",
        "king (8,000 times)",
        "  man     0.832  6,000",
        "  queen   0.648  7,000",
        "  woman   0.303  5,000",
    ]


def test_an_analogy_leaves_out_its_own_three_words(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "--top", "1", "--analogy", "man", "king", "woman"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "man is to king as woman is to"
    assert lines[1].split()[0] == "queen"
    assert len(lines) == 2


def test_more_neighbours_than_words_are_all_words_but_the_one_asked(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neighbors.main([str(output), "king", "--top", "100"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 7


def test_an_unknown_word_gets_the_closest_spellings(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "Mexico", "king", "--top", "1"]) == 0  # one of the two is known
    told = capsys.readouterr()
    assert told.err == "neighbors.py: Mexico has no vector; close to it: mexico\n"
    assert told.out.splitlines()[0] == "king (8,000 times)"
    assert neighbors.main([str(output), "qeuen", "zzzzzzzz"]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "neighbors.py: qeuen has no vector; close to it: queen",
        "neighbors.py: zzzzzzzz has no vector; nothing is close",
    ]
    assert told.out == ""


def test_a_word_may_look_like_an_address_with_a_password(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "http://a:b@c", "king"]) == 0
    assert "http://a:b@c has no vector" in capsys.readouterr().err


def test_an_analogy_with_an_unknown_word_is_not_answered(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "--analogy", "man", "kink", "woman"]) == 2
    assert capsys.readouterr().err == "neighbors.py: kink has no vector; close to it: king\n"


@pytest.mark.slow
def test_nothing_that_a_terminal_obeys_is_printed(output: Path) -> None:
    for arguments in (["\x1b[31m", "mexico"], ["\x07\u202eevil\n", "king"], ["--analogy", "king", "queen", "\x9b0m"]):
        told = run(output, *arguments)
        assert told.returncode in (0, 2)
        assert not {c for c in told.stdout + told.stderr if not c.isprintable()} - {"\n"}
        assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["OUT"], "no word is given"),
        ([], "the following arguments are required: OUTPUT"),
        (["OUT", "king", "--top", "0"], "'0' is not a whole number from 1 to 10,000"),
        (["OUT", "king", "--top", "1e3"], "'1e3' is not a whole number"),
        (["OUT", "--analogy", "man", "king"], "expected 3 arguments"),
        (["nowhere", "king"], "nowhere: no such directory"),
        (["OUT/embeddings", "king"], "has no _SUCCESS"),
        (["s3://bucket/out?key=1", "king"], "takes no options after a question mark"),
        (["file://far/out", "king"], "names the host far"),
        (["", "king"], ": '' is not a path; give one."),
        (["s3a://key:hush@bucket/out", "king"], "s3a://...: has a password in it"),
    ],
)
def test_a_mistake_costs_one_sentence_and_exit_code_2(
    output: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    given = [argument.replace("OUT", str(output)) for argument in arguments]
    assert sentence in refused_in_one_sentence(neighbors.main, given, capsys)


def test_it_runs_from_any_directory(output: Path, tmp_path: Path) -> None:
    told = run(output, "king", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("king (8,000 times)\n")


def test_a_reader_that_has_seen_enough_is_no_error(output: Path) -> None:
    program = [sys.executable, str(ROOT / "jobs" / "neighbors.py"), str(output), *["king"] * 3000]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_a_terminal_without_unicode_gets_escapes(output: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": ""}
    told = subprocess.run(
        [sys.executable, ROOT / "jobs" / "neighbors.py", output, "mexico"],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert b"\\u65e5\\u672c" in told.stdout


def test_an_answer_out_of_70000_words_takes_about_a_second(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (70_000, 9))
    words = [f"{''.join(row[: 2 + number % 7])}{number % 1000}x{number}" for number, row in enumerate(letters)]
    output = finish(tmp_path / "out", words, rng.normal(size=(70_000, 100)).astype(np.float32))
    start = time.perf_counter()
    told = run(output, words[5], "abcdfg5x5")
    seconds = time.perf_counter() - start
    assert told.returncode == 0, told.stderr
    assert seconds < 10  # 1.3 on an idle core


# The arithmetic


@examples
@given(seed=st.integers(0, 2**32), top=st.integers(1, 12), excluded=st.sets(st.integers(0, 9), max_size=10))
def test_nearest_is_the_order_of_all_cosines(seed: int, top: int, excluded: set[int]) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (10, 2)).astype(np.float32)  # with ties and zero vectors
    direction = rng.integers(-2, 3, 2).astype(np.float32)

    def cosine(vector: "np.typing.NDArray[np.float32]") -> float:
        lengths = float(np.linalg.norm(vector) * np.linalg.norm(direction))
        return float(vector @ direction) / lengths if lengths else 0.0

    expected = sorted(set(range(10)) - excluded, key=lambda row: (-round(cosine(vectors[row]), 6), row))[:top]
    found = nearest(unit_vectors(vectors), direction, sorted(excluded), top)
    assert [pytest.approx(cosine(vectors[row]), abs=1e-6) for row in expected] == [cosine for _, cosine in found]
    assert {row for row, _ in found}.isdisjoint(excluded)
    assert len({row for row, _ in found}) == len(expected)


def test_vectors_of_any_size_become_unit_vectors_and_zero_stays_zero() -> None:
    sizes = np.array([1e-40, 1e-35, 1e-20, 1e-3, 1, 1e18, 3e38, 0], np.float32)
    units = unit_vectors(np.outer(sizes, np.array([0.6, 0.8])).astype(np.float32))
    assert units[0] == pytest.approx([0.6, 0.8], abs=1e-4)  # such a small number has few digits
    assert units[1:7] == pytest.approx(np.array([[0.6, 0.8]] * 6), abs=1e-6)
    assert units[7].tolist() == [0, 0]
    assert units.dtype == np.float32


def test_an_analogy_adds_and_subtracts_unit_vectors() -> None:
    units = unit_vectors(np.array([[1, 0], [10, 10], [0, 3], [-1, 5], [1, 1]], np.float32))
    sums = units[1] - units[0] + units[2]
    expected = units[3:] @ (sums / np.linalg.norm(sums))
    found = analogy(units, 0, 1, 2, 5)
    assert dict(found) == pytest.approx({3: float(expected[0]), 4: float(expected[1])}, abs=1e-6)


def plain_distance(a: str, b: str) -> int:
    """Edit distance with swaps, as the recurrence is written in books."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 2 : j][::-1]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(a), len(b)]


few_letters = st.text("abé🚀\0", max_size=7)


@examples
@given(candidates=st.lists(few_letters, max_size=6), word=few_letters)
def test_edit_distances_equal_the_recurrence_one_word_at_a_time(candidates: list[str], word: str) -> None:
    assert edit_distances(candidates, word).tolist() == [plain_distance(word, candidate) for candidate in candidates]


def test_spellings_come_by_distance_and_then_by_frequency() -> None:
    words = pa.array(["taxis", "taxed", "tax", "taxes", "texas", "axes", "MEXICO", "mexican", "été"])
    assert closest_spellings(words, "taxs", 3) == ["taxis", "tax", "taxes"]
    assert closest_spellings(words, "mexico") == ["MEXICO", "mexican"]
    assert closest_spellings(words, "mexicn") == ["MEXICO", "mexican"]
    assert closest_spellings(words, "e\u0301te\u0301") == ["été"]
    assert closest_spellings(words, "") == []
    assert closest_spellings(words, "\udcff") == []
    assert closest_spellings(pa.array([], pa.string()), "word") == []


def test_a_word_is_found_only_as_it_is_written() -> None:
    words = pa.array(["NULL", "nan", "", "straße"])
    assert [word_id(words, word) for word in ("NULL", "nan", "", "straße", "null", "\udcff", "strasse")] == [
        0, 1, 2, 3, None, None, None
    ]  # fmt: skip


def test_json_is_one_object_on_stdout(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(output), "king", "日本", "none", "--analogy", "man", "woman", "king", "--top", "2", "--json"]
    assert neighbors.main(asked) == 0
    told = capsys.readouterr()
    assert told.out.isascii()  # valid whatever the encoding of stdout
    found = json.loads(told.out)
    assert [answer.get("word") for answer in found["answers"]] == ["king", "日本", None]
    assert found["answers"][2]["analogy"] == ["man", "woman", "king"]
    assert found["answers"][2]["neighbors"][0]["word"] == "queen"
    assert all(len(answer["neighbors"]) == 2 for answer in found["answers"])
    near = found["answers"][0]["neighbors"][0]
    assert set(near) == {"word", "cosine", "count"}
    assert found["answers"][0]["count"] == 8000
    assert list(found["unknown"]) == ["none"]
    assert "none has no vector" in told.err


def test_json_of_words_that_a_terminal_would_obey_is_json(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "\x1b[31m", "--json"]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert told.isascii()
    assert json.loads(told)["answers"][0]["word"] == "\x1b[31m"


def test_json_without_an_answer_says_so_and_exits_with_2(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neighbors.main([str(output), "kign", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"answers": [], "unknown": {"kign": ["king"]}}


def test_unit_vectors_are_made_some_rows_at_a_time_and_to_the_bit() -> None:
    vectors = np.random.default_rng(4).normal(size=(100_000, 30)).astype(np.float32)
    vectors[7] = 0
    lengths = np.sqrt(np.einsum("vd,vd->v", vectors, vectors, dtype=np.float64))
    expected = (vectors / np.maximum(lengths, 1e-30)[:, None]).astype(np.float32)
    tracemalloc.start()
    try:
        found = unit_vectors(vectors)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tobytes() == expected.tobytes()
    assert most < 2 * vectors.nbytes  # the result, lengths, and some rows of 64 bits
