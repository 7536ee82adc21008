"""Files of an evaluation that no layout fits."""

import os
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from spark_w2v.analysis import evaluation
from spark_w2v.commands import evaluate
from tests.support.evaluation import space_of


def test_a_carriage_return_inside_of_a_quoted_line_is_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(b'a,b,1\n"a"\rx,"b",2\n')
    found = evaluation.similarity(space_of(["a", "b"], np.eye(2, dtype=np.float32)), path)
    assert (found.pairs, found.used) == (2, 1)


def test_a_file_that_is_not_there_is_found_before_any_is_evaluated(
    output: Path, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "read", lambda _: pytest.fail("the vectors were read"))
    for missing in (["--pairs", files[0], "nowhere"], ["--pairs", files[0], "--analogies", "nowhere"]):
        assert evaluate.main([str(output), *missing]) == 2
        assert "nowhere: cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_pipe_is_read_once(output: Path, files: tuple[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[Path(files[0]).read_bytes()])
    writer.start()
    assert evaluate.main([str(output), "--compare", str(output), "--pairs", str(tmp_path / "pipe")]) == 0
    writer.join()
