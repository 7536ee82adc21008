"""jobs/evaluate.py against gensim on the same vectors, and as a person at a terminal meets it."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spark_w2v.analysis import evaluation
from spark_w2v.analysis.evaluation_results import Similarity
from spark_w2v.commands import evaluate
from spark_w2v.types import Float32Array
from tests.support.commands import refused_in_one_sentence
from tests.support.evaluation import ROOT, finish, space_of
from tests.support.gensim_models import MODELS, PAIR_FILES, QUESTIONS, keyed

# Equal to gensim


@pytest.mark.parametrize("part", [1.0, 0.6])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("path", PAIR_FILES, ids=lambda path: path.name)
def test_word_similarity_equals_gensims(path: Path, name: str, part: float) -> None:
    restrict = int(part * len(MODELS[name][0]))
    found = evaluation.similarity(space_of(*MODELS[name], restrict), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pearson, spearman, unknown = keyed(*MODELS[name]).evaluate_word_pairs(str(path), restrict_vocab=restrict)
    assert found.spearman == pytest.approx(float(spearman[0]), abs=1e-6)
    assert found.pearson == pytest.approx(float(pearson[0]), abs=1e-6)
    assert 100 * found.unknown / found.pairs == pytest.approx(unknown, abs=1e-6)
    assert found.used > 1
    assert found.bad_lines == 0


def few_questions(path: Path, every: int) -> Path:
    """A part of questions-words.txt that gensim, which answers them one at a time, gets through in a second."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for i, line in enumerate(lines) if line[0] == ":" or i % every == 0) + "\n")
    return path


@pytest.mark.parametrize("part", [1.0, 0.6])
@pytest.mark.parametrize("name", MODELS)
def test_analogies_equal_gensims_section_by_section(tmp_path: Path, name: str, part: float) -> None:
    restrict = int(part * len(MODELS[name][0]))
    path = few_questions(tmp_path / "questions.txt", 13)
    found = evaluation.analogies(space_of(*MODELS[name], restrict), path)
    score, sections = keyed(*MODELS[name]).evaluate_word_analogies(str(path), restrict_vocab=restrict)
    assert [section.section for section in found.sections] == [section["section"] for section in sections[:-1]]
    for section, theirs in zip((*found.sections, found.total), sections, strict=True):
        assert section.right_add == len(theirs["correct"])
        assert section.used == len(theirs["correct"]) + len(theirs["incorrect"])
        assert section.questions == section.used + section.unknown
    assert found.total.add == pytest.approx(score, abs=1e-6)
    assert 0 < found.total.right_add < found.total.used


@pytest.mark.parametrize("name", MODELS)
def test_3cosmul_answers_as_gensims_most_similar_cosmul(tmp_path: Path, name: str) -> None:
    words, vectors = MODELS[name]
    theirs = keyed(words, vectors)
    found = evaluation.analogies(space_of(words, vectors), path := few_questions(tmp_path / "questions.txt", 30))
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.upper(), word)
    right = used = 0
    for line in path.read_text().splitlines():
        a, b, c, d = (line.upper().split() * 4)[:4]
        if line[0] != ":" and {a, b, c, d} <= set(first):
            used += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # gensim's about gensim's
                nearest = theirs.most_similar_cosmul(positive=[first[b], first[c]], negative=[first[a]], topn=10)
            right += d == next(word.upper() for word, _ in nearest if word.upper() not in (a, b, c))
    assert (found.total.right_mul, found.total.used) == (right, used)
    assert 0 < right < used


def test_of_equal_vectors_the_more_frequent_word_is_the_answer() -> None:
    words = ["man", "king", "woman", "queen", "reine", "pear"]
    vectors = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1], [0, -1, 0]], np.float32)
    space = space_of(words, vectors)
    add, mul = evaluation.answers(space, np.array([[0, 1, 2]]))
    assert (add.tolist(), mul.tolist()) == ([3], [3])


def test_no_spelling_of_the_three_words_is_an_answer() -> None:
    words = ["man", "king", "woman", "Woman", "KING", "Man", "queen", "Queen"]
    vectors = np.tile(np.array([[1.0, 2.0]], np.float32), (8, 1))
    add, mul = evaluation.answers(space_of(words, vectors), np.array([[0, 1, 2], [0, 1, 6]]))
    assert add.tolist() == mul.tolist() == [6, 2]


def test_where_no_word_is_left_there_is_no_answer() -> None:
    add, mul = evaluation.answers(space_of(["a", "b", "c", "C"], np.eye(4, 2, dtype=np.float32)), np.array([[0, 1, 2]]))
    assert add.tolist() == mul.tolist() == [-1]


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = few_questions(tmp_path / "questions.txt", 20)
    words, vectors = MODELS["middle"]
    other = vectors + np.random.default_rng(1).normal(0, 0.5, vectors.shape).astype(np.float32)

    def everything() -> tuple[object, ...]:
        here, there = space_of(words, vectors), space_of(words, other)
        return (
            evaluation.analogies(here, path),
            evaluation.similarity(here, PAIR_FILES[0]).spearman,
            evaluation.neighbourhood_drift(here, there, 500, 10),
        )

    whole = everything()
    for name, value in (("QUESTIONS", 7), ("WORDS", 97), ("ROWS", 13), ("NEIGHBOURHOODS", 30)):
        monkeypatch.setattr(evaluation, name, value)
    assert everything() == whole


# Layouts


@pytest.mark.parametrize(
    "text",
    [
        "# comment\nking\tqueen\t8.5\nman\twoman\t7\nking\tman\t3\n",  # gensim's
        "Word 1,Word 2,Human (mean)\nking,queen,8.5\nman,woman,7\nking,man,3\n",  # WordSim-353 combined.csv
        "word1\tword2\tPOS\tSimLex999\tconc(w1)\nking\tqueen\tN\t8.5\t4\nman\twoman\tN\t7\t1\nking\tman\tN\t3\t1\n",
        "king queen 8.500000\nman woman 7.0\nking man 3.0\n",  # MEN natural form
        "\ufeffking;queen;8.5\r\nman;woman;7\r\nking;man;3\r\n\r\n",
        '"word 1","word 2","score"\n"king","queen","8.5"\n"man", "woman", 7\nking,man,"3"\n',
        "wort 1;wort 2;wert\nking;queen;8,5\nman;woman;7,0\nking;man;3\n",
        "king\tqueen\t8,5\nman\twoman\t7\nking\tman\t3,0\n",
        'king,queen,"8,5"\nman,woman,7\nking,man,3\n',
        "king queen 8,5\nman woman 7\nking man 3\n",
    ],
)
def test_every_layout_gives_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(text.encode())
    space = space_of(["King", "queen", "man", "woman"], np.array([[5, 1], [5, 2], [1, 1], [1, 9]], np.float32))
    found = evaluation.similarity(space, path)
    assert (found.pairs, found.used, found.unknown, found.bad_lines) == (3, 3, 0, 0)
    cosines = [
        np.dot(x, y) / np.hypot(*x) / np.hypot(*y) for x, y in (((5, 1), (5, 2)), ((1, 1), (1, 9)), ((5, 1), (1, 1)))
    ]
    assert found.pearson == pytest.approx(np.corrcoef(cosines, [8.5, 7, 3])[0, 1], abs=1e-6)


def test_words_with_spaces_and_quotes_are_read_as_csv_has_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_text('"new york","5"" disk",7\n"new york";"a;b";"2,5"\n"new york" "a;b" 3\n')
    space = space_of(["new york", '5" disk', "a;b"], np.eye(3, dtype=np.float32))
    found = evaluation.similarity(space, path)
    assert (found.pairs, found.used, found.bad_lines) == (3, 3, 0)


@pytest.mark.parametrize("mark", [" ", "\t", ",", ";"])
def test_questions_are_read_as_csv_has_them_too(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "questions"
    path.write_text(f": family\n{mark.join(['man', 'woman', 'king', 'queen'])}\n{mark.join(['a', 'b'])}\n")
    space = space_of(["king", "queen", "man", "woman"], np.array([[5, 1], [5, 9], [1, 1], [1, 9]], np.float32))
    found = evaluation.analogies(space, path)
    assert (found.total.used, found.total.right_add, found.bad_lines) == (1, 1, 1)


def test_the_words_without_a_vector_are_listed_on_request(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(output), "--pairs", files[0], "--analogies", files[1], "--json", str(tmp_path / "found.json")]
    assert evaluate.main(asked) == 0
    assert "without a vector" not in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["this"]["pairs"][0]["missing"] == []
    assert evaluate.main([*asked, "--missing"]) == 0
    assert "pairs.tsv: words without a vector: x\n" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["this"]
    assert [found["pairs"][0]["missing"], found["analogies"][0]["missing"]] == [["x"], ["x"]]
    assert evaluate.main([*asked, "--missing", "--compare", str(output)]) == 0
    assert capsys.readouterr().out.count(f"pairs.tsv: words without a vector in {output}: x\n") == 2


def test_of_many_words_without_a_vector_the_first_are_shown(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs"
    pairs.write_text("king\tqueen\t1\nking\tman\t2\n" + "".join(f"king\tnone{i}\t1\n" for i in range(60)))
    assert evaluate.main([str(output), "--pairs", str(pairs), "--missing"]) == 0
    assert "none49 and 10 more\n" in capsys.readouterr().out


def test_a_set_of_which_nothing_can_be_used_is_an_error_after_all_else_is_done(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, questions = tmp_path / "other.tsv", tmp_path / "other.txt"
    pairs.write_text("koenig\tking\t1\nkoenig\tmann\t2\n")
    questions.write_text("koenig mann king man\n")
    asked = [str(output), "--pairs", files[0], str(pairs), "--analogies", str(questions), "--json", str(tmp_path / "r")]
    assert evaluate.main(asked) == 2
    told = capsys.readouterr()
    assert "other.tsv" in told.out
    assert f"{pairs}: none of its 2 pairs has both words in the vocabulary" in told.err
    assert f"{questions}: none of its 1 questions has all four words in the vocabulary" in told.err
    assert len(json.loads((tmp_path / "r").read_text())["this"]["pairs"]) == 2


def test_lines_of_another_layout_are_counted_and_left_out(tmp_path: Path) -> None:
    pairs, questions = tmp_path / "pairs", tmp_path / "questions"
    pairs.write_bytes(
        b"man\twoman\t1\nking\t2\n\xff\xfe\tman\t1\nman\tking\tnan\nking\tqueen\t3\n" + b"x" * 200_000 + b"\n"
    )
    questions.write_bytes(
        b"man woman king queen\n: family\nman woman king\n\xff b c d\nman woman king queen\n\na b c d e\na,b,c,\n"
    )
    space = space_of(["king", "queen", "man", "woman"], np.array([[5, 1], [5, 9], [1, 1], [1, 9]], np.float32))
    found = evaluation.similarity(space, pairs)
    assert (found.pairs, found.used, found.bad_lines) == (2, 2, 3 + 4)  # the long line is four
    answered = evaluation.analogies(space, questions)
    assert [(section.section, section.questions) for section in answered.sections] == [("", 1), ("family", 1)]
    assert answered.bad_lines == 4
    assert answered.total.right_add == 2


def test_unknown_words_are_counted_and_what_cannot_be_computed_is_none(tmp_path: Path) -> None:
    pairs, questions = tmp_path / "pairs", tmp_path / "questions"
    pairs.write_text("a\tb\t1\na\tx\t2\nx\ty\t3\n")
    questions.write_text(": one\na b c d\n: two\na b c x\n: three\n")
    space = space_of(["a", "b", "c", "d"], np.eye(4, dtype=np.float32))
    assert evaluation.similarity(space, pairs) == Similarity(
        str(pairs), 3, 1, None, None, unknown=2, missing=["x", "y"]
    )
    pairs.write_text("a\tb\t1\na\tc\t2\nb\tc\t3\n")
    assert evaluation.similarity(space, pairs) == Similarity(str(pairs), 3, 3, None, None)  # all cosines are 0
    found = evaluation.analogies(space, questions)
    assert [(s.questions, s.used, s.unknown, s.add) for s in found.sections] == [
        (1, 1, 0, 1),
        (1, 0, 1, None),
        (0, 0, 0, None),
    ]


# Two runs


def test_the_words_whose_neighbourhoods_moved_come_first() -> None:
    rng = np.random.default_rng(7)
    words = [f"w{i}" for i in range(60)]
    vectors = rng.normal(size=(60, 3)).astype(np.float32)
    vectors[5] = [100, 0, 0.1]
    changed = vectors.copy()
    changed[5] = [-100, 0, -0.1]
    order = rng.permutation(60)
    here = space_of([*words, "only", "here"], np.concatenate([vectors, vectors[:2]]))
    there = space_of(["there", *(words[i] for i in order)], np.concatenate([vectors[:1], changed[order]]))
    found = evaluation.neighbourhood_drift(here, there, 1000, 3)
    assert (found.common_words, found.only_here, found.only_there, found.among) == (60, 2, 1, 60)
    assert (found.moved[0].word, found.moved[0].shared, len(found.moved)) == ("w5", 0, 3)

    def nearest(matrix: Float32Array, i: int) -> list[str]:
        cosines = matrix @ matrix[i] / np.linalg.norm(matrix, axis=1)
        return [words[j] for j in np.argsort(-cosines) if j != i][:10]

    assert (found.moved[0].here, found.moved[0].there) == (nearest(vectors, 5), nearest(changed, 5))
    shared = [len(set(nearest(vectors, i)) & set(nearest(changed, i))) for i in range(60)]
    assert found.mean_shared == pytest.approx(np.mean(shared))
    assert [move.shared for move in found.moved] == sorted(shared)[:3]


@pytest.mark.parametrize(("one", "other"), [(["a"], ["a"]), (["a"], ["b"]), (["a", "b"], ["b", "a"])])
def test_runs_with_hardly_a_word_in_common_compare(one: list[str], other: list[str]) -> None:
    found = evaluation.neighbourhood_drift(
        space_of(one, np.ones((len(one), 2), np.float32)), space_of(other, np.ones((len(other), 2), np.float32)), 10, 5
    )
    assert found.moved == []
    assert found.mean_shared == (1.0 if len(one) == 2 else None)


# At the terminal


def test_the_tables_show_coverage_and_results(
    output: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(output), "--pairs", files[0], "--analogies", files[1]]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1:] == [
        "",
        "word similarity  pairs  used  Spearman  Pearson",
        "pairs.tsv            4     3     1.000    0.993",
        "",
        "questions.txt  questions  used  3CosAdd  3CosMul",
        "fam\\x1b[2Jily          2     1    1.000    1.000",
        "total                  2     1    1.000    1.000",
    ]
    assert told.err == f"evaluate.py: {files[0]}: lines of another layout, left out: 1.\n"


def test_two_runs_are_shown_in_two_columns(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["queen", "woman", "man", "king", "\x1b[31m"]
    other = finish(tmp_path / "other", words, np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32))
    report = tmp_path / "report.json"
    arguments = [
        str(output),
        "--pairs",
        files[0],
        "--analogies",
        files[1],
        "--compare",
        str(other),
        "--json",
        str(report),
    ]
    assert evaluate.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"this: {output}, 6 words of 3 dimensions", f"other: {other}, 5 words of 4 dimensions"]
    assert lines[3].split() == ["word", "similarity", "pairs", "used", "other", "Spearman", "other", "Pearson", "other"]
    assert "5 words in both, 1 in this one only, 0 in the other only" in lines
    found = json.loads(report.read_text())
    assert found["this"]["pairs"][0]["spearman"] == pytest.approx(1)
    assert found["other"]["output"] == str(other)
    assert found["this"]["analogies"][0]["total"]["add"] == 1
    assert (found["moves"]["common_words"], found["moves"]["near"]) == (5, 4)
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.json"]


def run(*arguments: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "jobs" / "evaluate.py", *arguments],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_it_runs_from_anywhere_and_prints_nothing_that_a_terminal_obeys(
    output: Path, files: tuple[str, str], tmp_path: Path
) -> None:
    other = finish(
        tmp_path / "other", ["\x1b[31m", "king", "man", "\u202e", "\x1b]0;x"], np.eye(5, 3, dtype=np.float32)
    )
    told = run(output, "--pairs", files[0], "--analogies", files[1], "--compare", other, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert not {c for c in told.stdout + told.stderr if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["OUT"], "nothing is asked"),
        ([], "the following arguments are required: OUTPUT"),
        (["OUT", "--pairs", "nowhere\x1b[31m"], "nowhere\\x1b[31m: cannot be read (No such file or directory)"),
        (["OUT", "--pairs", "DIR"], "cannot be read (Is a directory)"),
        (["OUT", "--pairs", "DIR/empty"], "empty: has no pair of words"),
        (["OUT", "--analogies", "DIR/empty"], "empty: has no analogy"),
        (["OUT", "--analogies", "DIR/pairs.tsv"], "pairs.tsv: has no analogy"),
        (["OUT", "--pairs", "DIR/questions.txt"], "questions.txt: has no pair of words"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--restrict", "0"], "'0' is not a whole number from 1 to"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--fail-below", "0.9"], "--fail-below needs --compare"),
        (["OUT", "--compare", "OUT", "--fail-below", "0.9"], "--fail-below needs --compare OTHER, and --pairs"),
        (["OUT", "--compare", "OUT", "--fail-below", "nan"], "'nan' is not a share above 0 and up to 1"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--json", "DIR"], "nothing can be written there"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--json", "DIR/no/report"], "nothing can be written there"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--json", "DIR/pipe"], "nothing can be written there"),
        (["OUT", "--pairs", "DIR/pairs.tsv", "--json", "OUT/run.json"], "which holds a run and nothing else"),
        (["nowhere", "--pairs", "DIR/pairs.tsv"], "nowhere: no such directory"),
        (["OUT/embeddings", "--pairs", "DIR/pairs.tsv"], "has no _SUCCESS"),
        (["OUT", "--compare", "DIR"], "has no _SUCCESS"),
        (["s3://bucket/out?key=1", "--pairs", "DIR/pairs.tsv"], "takes no options after a question mark"),
    ],
)
def test_a_mistake_costs_one_sentence_and_exit_code_2(
    output: Path,
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which a rename would replace too
    replace: Callable[[str], str] = lambda text: text.replace("OUT", str(output)).replace("DIR", str(tmp_path))  # noqa: E731
    given = [replace(argument) for argument in arguments]
    assert sentence in refused_in_one_sentence(evaluate.main, given, capsys)
