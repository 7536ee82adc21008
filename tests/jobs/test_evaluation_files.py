"""Files of an evaluation that no layout fits."""

import os
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.analysis import evaluation
from spark_w2v.analysis.neighbors import word_id
from spark_w2v.commands import evaluate
from spark_w2v.errors import UserError
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


def test_words_are_found_in_nfc_too() -> None:
    space = space_of(["caf\u00e9", "tea", "cafe\u0301s"], np.eye(3, dtype=np.float32))
    known = [
        evaluation._id_of(space, word) for word in ("cafe\u0301", "CAFE\u0301", "TEA", "cafe\u0301s", "caf\u00e9s", "x")
    ]
    assert known == [0, 0, 1, 2, None, None]
    words = pa.array(["caf\u00e9", "cafe\u0301s"])
    found = [word_id(words, word) for word in ("cafe\u0301", "cafe\u0301s", "caf\u00e9s", "\udcff")]
    assert found == [0, 1, None, None]


def test_an_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LARGEST_FILE", 1 << 20)
    with pytest.raises(UserError, match=r"^/dev/zero: is larger than 256 MiB; give a file of pairs or questions"):
        evaluation.read_lines(Path("/dev/zero"))
