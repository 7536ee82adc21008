"""The gate that a worse run does not pass."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from spark_w2v.analysis import evaluation
from spark_w2v.analysis.evaluation_results import Similarity
from spark_w2v.commands import evaluate
from tests.support.evaluation import finish


def gate(output: Path, other: Path, files: tuple[str, str], share: str, *more: str) -> int:
    return evaluate.main(
        [
            str(output),
            "--pairs",
            files[0],
            "--analogies",
            files[1],
            "--compare",
            str(other),
            "--fail-below",
            share,
            *more,
        ]
    )


def test_vectors_as_good_as_the_others_pass_the_gate(
    output: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(output, output, files, "1") == 0
    assert capsys.readouterr().out.endswith("\nno score is below 1 of the other's\n")


def test_vectors_that_are_worse_by_more_than_the_limit_fail_with_a_code_of_their_own(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = finish(
        tmp_path / "worse",
        ["king", "queen", "man", "woman", "other"],
        np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0], [1, -1, -1]], np.float32),
    )
    assert gate(worse, output, files, "0.95", "--json", str(tmp_path / "report")) == 3
    told = capsys.readouterr()
    assert f"evaluate.py: {files[0]}: Spearman is " in told.err
    assert f"{files[1]}: 3CosAdd is 0.0000, below 0.95 of 1.0000." in told.err
    assert (tmp_path / "report").exists(), "what stopped a publication can be looked into"
    assert gate(output, worse, files, "0.95") == 0


def test_what_the_other_run_cannot_answer_is_said_to_be_not_compared(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike = tmp_path / "alike.tsv"
    alike.write_text("king\tqueen\t5\nman\twoman\t5\n")
    assert gate(output, output, (str(alike), files[1]), "1") == 0
    told = capsys.readouterr()
    assert told.err == f"evaluate.py: {alike}: Spearman is not compared, as the other's is not computable.\n"
    assert told.out.endswith("\nno score that is compared is below 1 of the other's\n")


def test_a_run_that_lost_words_fails_however_well_it_does_on_the_rest(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = finish(
        tmp_path / "fewer", ["king", "queen", "man"], np.array([[5, 1, 0], [5, 2, 0], [1, 1, 0]], np.float32)
    )
    assert gate(fewer, output, files, "0.9") == 3
    said = capsys.readouterr().err
    assert "pairs used is 1, below 0.9 of 3." in said
    assert "questions used is 0, below 0.9 of 1." in said
    assert "Spearman is not computable, below 0.9 of 1.0000." in said


def test_the_first_run_of_all_has_nothing_to_be_worse_than(
    output: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept" / "runs").mkdir(parents=True)
    assert gate(output, tmp_path / "kept", files, "0.95") == 0
    assert "has no current run yet" in capsys.readouterr().out
    assert gate(output, tmp_path / "kept" / "current", files, "0.95") == 2, "a path that is none is a mistake"


@pytest.mark.parametrize(("score", "is_worse"), [(0.75, True), (0.77, False), (0.9, False)])
def test_a_score_may_fall_as_far_as_the_limit(score: float, is_worse: bool) -> None:
    other = Similarity("f", 9, 9, 0.8, 0.8)
    assert bool(evaluation.worse(msgspec.structs.replace(other, spearman=score), other, 0.95)) == is_worse


def test_a_score_of_the_other_that_is_not_above_0_demands_nothing(files: tuple[str, str]) -> None:
    this = Similarity("f", 9, 9, None, None)
    assert evaluation.worse(this, msgspec.structs.replace(this, spearman=-0.1), 0.95) == []
    assert evaluation.worse(this, msgspec.structs.replace(this, spearman=0.1), 0.95) == [
        "f: Spearman is not computable, below 0.95 of 0.1000."
    ]


def test_files_that_are_pipes_are_read_once_for_both_runs(
    output: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    ends = []
    for file in files:
        reader, writer = os.pipe()
        os.write(writer, Path(file).read_bytes())
        os.close(writer)
        ends.append(reader)
    try:
        assert gate(output, output, (f"/dev/fd/{ends[0]}", f"/dev/fd/{ends[1]}"), "1") == 0
    finally:
        for reader in ends:
            os.close(reader)
    assert capsys.readouterr().out.endswith("\nno score is below 1 of the other's\n")
