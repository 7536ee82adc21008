"""What the system refuses now and may allow later is no mistake in a file that was given."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest

from spark_w2v.analysis import evaluation, report
from spark_w2v.errors import OutputError, StorageError, UserError
from spark_w2v.given import phrase_lists, rare_windows, vector_files, word_lists
from spark_w2v.text.phrases import PHRASES
from spark_w2v.text.rare_windows import WINDOWS


def failing(code: int) -> Callable[..., NoReturn]:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("module", "opens", "read"),
    [
        (word_lists, "open_file", lambda folder: word_lists.read_words(str(folder / "file"), "vocabulary.words")),
        (vector_files, "open_file", lambda folder: vector_files.open_vectors(folder / "file")),
        (rare_windows, "open_file", rare_windows.read_windows),
        (pq, "ParquetFile", lambda folder: phrase_lists.read_phrases(str(folder))),
        (evaluation, "open", lambda folder: evaluation.check_file(folder / "file")),
        (evaluation, "open", lambda folder: evaluation.read_lines(folder / "file")),
        (report, "open", lambda folder: report.evaluation(folder / "file", 1, 2, "")),
    ],
    ids=["words", "vectors", "windows", "phrases", "pairs are there", "pairs", "evaluation"],
)
def test_what_may_pass_is_to_be_tried_again(
    module: Any, opens: str, read: Callable[[Path], Any], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kiwi 1 2\n")
    rare_windows.write_windows(tmp_path, WINDOWS.empty_table())
    phrase_lists.write_phrases(tmp_path, PHRASES.empty_table())
    monkeypatch.setattr(module, opens, failing(code), raising=opens != "open")
    kind = (UserError, OutputError) if code == errno.EACCES else StorageError
    with pytest.raises(kind, match=os.strerror(code)):
        read(tmp_path)
