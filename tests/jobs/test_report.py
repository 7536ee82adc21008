"""jobs/report.py and evaluate.py --report, as a person at a terminal meets them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.analysis import report
from spark_w2v.commands import evaluate
from spark_w2v.commands import report as job
from spark_w2v.runs import embedding_writer, embeddings
from tests.support.runs import make_run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output of a finished run."""
    target = tmp_path / "vectors <1>"
    rng = np.random.default_rng(1)
    matrices = [rng.normal(size=(60, 8)).astype(np.float32) for _ in range(2)]
    words = pa.array([*(f"w{i}" for i in range(59)), "</script>"])
    embedding_writer.write(target, words, np.arange(60, 0, -1, dtype=np.int64), matrices[0], matrices[1], {})
    (target / "run.json").write_text(json.dumps({"corpus": {"words": 1830}, "fingerprint": {"input": ["in"]}}))
    (target / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.5}\n{"epoch": 2, "loss": 2.25}\n')
    (target / "_SUCCESS").touch()
    return target


def test_a_page_is_made_in_the_output_and_renewed(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(output)]) == 0
    first = (output / "report.html").read_text(encoding="utf-8")
    assert '"loss":2.25' in first
    assert "\\u003c/script\\u003e" in first
    assert capsys.readouterr().out == f"{output / 'report.html'}: 0.1 MB\n"
    assert job.main([str(output)]) == 0
    assert (output / "report.html").read_text(encoding="utf-8") == first


def test_the_page_may_go_elsewhere(output: Path, tmp_path: Path) -> None:
    assert job.main([str(output), "--to", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()
    assert not (output / "report.html").exists()


def test_no_page_goes_into_another_finished_run(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other")
    assert job.main([str(output), "--to", str(other / "page.html")]) == 2
    assert f"page.html: is inside of {other}, which holds a run and nothing else" in capsys.readouterr().err
    assert not (other / "page.html").exists()


def test_a_file_that_no_command_wrote_is_not_replaced(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t1\nw3\tw4\t2\n")
    evaluated = [str(output), "--pairs", str(tmp_path / "pairs.tsv")]
    target = tmp_path / "thesis.tex"
    target.write_text("mine")
    commands: list[Callable[[], int]] = [
        lambda: job.main([str(output), "--to", str(target)]),
        lambda: evaluate.main([*evaluated, "--json", str(target)]),
    ]
    for run in commands:
        assert run() == 2
        assert "so it is not replaced" in capsys.readouterr().err
        assert target.read_text() == "mine"
        target.write_text('<!doctype html>\n<html lang="en"><body>years of work</body></html>\n')
        assert run() == 2
        assert "years of work" in target.read_text()
        capsys.readouterr()
        target.write_text("")
        assert run() == 0
        assert run() == 0  # its own is
        assert [other() for other in commands if other is not run] == [2]
        target.write_text("mine")
    (output / "report.html").symlink_to(target)
    commands = [lambda: job.main([str(output)]), lambda: evaluate.main([*evaluated, "--report"])]
    for run in commands:
        assert run() == 2
        assert (output / "report.html").is_symlink()


def test_what_evaluate_finds_goes_into_the_page(output: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t1\nw3\tw4\t2\nw5\tw6\t3\nw7\tunknown\t4\n")
    (tmp_path / "questions.txt").write_text(": letters\nw1 w2 w3 w4\n")
    asked = [str(output), "--pairs", str(tmp_path / "pairs.tsv"), "--analogies", str(tmp_path / "questions.txt")]
    found = tmp_path / "found.json"
    assert evaluate.main([*asked, "--json", str(found), "--report"]) == 0
    page = (output / "report.html").read_text(encoding="utf-8")
    assert '"pairs":[{"file":"pairs.tsv","pairs":4,"used":3,' in page
    assert '"sections":[{"section":"letters","questions":1,"used":1,' in page
    assert job.main([str(output), "--evaluation", str(found)]) == 0
    assert (output / "report.html").read_text(encoding="utf-8") == page


def test_what_evaluate_found_of_other_vectors_is_refused(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t3\nw3\tw4\t5\n")
    found = ["--pairs", str(tmp_path / "pairs.tsv"), "--json", str(tmp_path / "found.json")]
    assert evaluate.main([str(output), *found]) == 0
    assert job.main([str(output), "--evaluation", str(tmp_path / "found.json")]) == 0
    other = tmp_path / "other"
    words, counts, vectors = embeddings.read(output)
    embedding_writer.write(other, words, counts, vectors[::-1], vectors, {})
    for name in ("run.json", "metrics.jsonl", "_SUCCESS"):
        shutil.copy(output / name, other / name)
    assert job.main([str(other), "--evaluation", str(tmp_path / "found.json")]) == 2
    assert f"is the evaluation of other vectors, those of {output}; evaluate this run." in capsys.readouterr().err
    assert not (other / "report.html").exists()


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_an_output_that_is_replaced_while_it_is_read_does_not_get_the_page_of_the_one_before(
    output: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_page = report.page

    def page(*given: Any) -> str:
        os.rename(output, tmp_path / "replaced")
        shutil.copytree(tmp_path / "replaced", output)
        return make_page(*given)

    monkeypatch.setattr(report, "page", page)
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t1\nw3\tw4\t2\n")
    commands: dict[str, Callable[[], int]] = {
        "report": lambda: job.main([str(output)]),
        "evaluate": lambda: evaluate.main([str(output), "--pairs", str(tmp_path / "pairs.tsv"), "--report"]),
    }
    assert commands[command]() == 75
    assert capsys.readouterr().err.endswith(f"{output}: was replaced meanwhile; try again.\n")
    assert not (output / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/none"], "no such directory"),
        (["s3://bucket/out?key=1"], "takes no options after a question mark"),
        (["{out}", "--to", "{tmp}/no/page.html"], "nothing can be written there"),
        (["{out}", "--to", "{tmp}/pipe"], "nothing can be written there"),
        (["{out}", "--to", "{out}/run.json"], "which holds a run and nothing else"),
        (["{out}", "--to", "s3a://key:hush@bucket/page.html"], "s3a://...: has a password in it"),
        (["s3a://key:hush@bucket/out"], "s3a://...: has a password in it"),
        (["{out}", "--to", "{tmp}"], "nothing can be written there"),
        (["{out}", "--evaluation", "{tmp}/none.json"], "not a report that jobs/evaluate.py --json wrote"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], says: str, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which a rename would replace too
    given = [argument.format(tmp=tmp_path, out=output) for argument in arguments]
    assert job.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("report.py: ")
    assert says in said
    assert said.count("\n") == 1
    assert not (output / report.NAME).exists()


DAMAGED = [
    ("metrics.jsonl", '{"epoch": 1'), ("metrics.jsonl", '{"loss": NaN}'), ("metrics.jsonl", '{"loss": 1e999}'),
    ("run.json", "[]"), ("run.json", "{"), ("run.json", '{"seconds": -Infinity}'),
]  # fmt: skip


@pytest.mark.parametrize("content", ['{"init": "x"}', '{"configuration": ' + '{"a": ' * 600 + "1" + "}" * 601])
def test_facts_that_a_page_cannot_show_are_left_out(output: Path, content: str) -> None:
    (output / "run.json").write_text(content)
    assert job.main([str(output)]) == 0
    (output / "metrics.jsonl").write_text('{"epoch": ' + "[" * 600 + "]" * 600 + "}\n")
    assert job.main([str(output)]) == 0


def test_where_nothing_may_be_written_is_found_before_the_work(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "finished", lambda _: pytest.fail("the run was read"))
    monkeypatch.setattr(evaluate, "read", lambda _: pytest.fail("the vectors were read"))
    (tmp_path / "pairs.tsv").write_text("w1\tw2\t1\nw3\tw4\t2\n")
    asked = [str(output), "--pairs", str(tmp_path / "pairs.tsv")]

    def refused(said: str) -> None:
        assert job.main([str(output)]) == 2
        assert said in capsys.readouterr().err
        assert evaluate.main([*asked, "--report"]) == 2
        assert said in capsys.readouterr().err

    (output / "report.html").write_text("mine")
    refused("so it is not replaced")
    (output / "report.html").unlink()
    with monkeypatch.context() as denied:
        denied.setattr("os.access", lambda *_: False)
        refused("nothing can be written there")
        assert job.main([str(output), "--to", str(tmp_path / "page.html")]) == 2
    for length in (251, 300):
        assert job.main([str(output), "--to", str(tmp_path / ("x" * length))]) == 2
        assert "name too long" in capsys.readouterr().err


def test_what_evaluate_finds_of_a_file_with_a_name_that_is_not_utf8_goes_into_the_page(
    output: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"p\xff.tsv")
    (tmp_path / name).write_text("w1\tw2\t1\nw3\tw4\t2\n")
    found = tmp_path / "found.json"
    assert evaluate.main([str(output), "--pairs", str(tmp_path / name), "--json", str(found), "--report"]) == 0
    assert job.main([str(output), "--evaluation", str(found)]) == 0
    assert r'"file":"p\\udcff.tsv"' in (output / "report.html").read_text(encoding="utf-8")


def test_damaged_facts_are_one_sentence(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in DAMAGED:
        kept = (output / name).read_text()
        (output / name).write_text(content)
        assert job.main([str(output)]) == 2
        assert "run.json or metrics.jsonl" in capsys.readouterr().err
        (output / name).write_text(kept)
