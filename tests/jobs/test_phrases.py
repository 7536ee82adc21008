"""jobs/phrases.py on a real Spark: a list that a run takes, and nothing of the user's replaced."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v import pipeline
from spark_w2v.commands import phrases as command
from spark_w2v.errors import UserError
from spark_w2v.given import phrase_lists
from spark_w2v.given.phrase_lists import read_phrases
from spark_w2v.text.phrases import PHRASES

TEXT = "we went to new york city\nnew york is new\nlos angeles and new york\nthe los angeles of old\nto the city\n" * 4
FIND = ["--set", "phrases.min_count=4", "--set", "phrases.threshold=1.5"]


@pytest.fixture
def run(job_here: None) -> Any:
    return lambda *arguments: command.main(["--quiet", *map(str, arguments)])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@pytest.mark.slow
def test_the_list_is_parquet_that_a_run_can_take(run: Any, text: Path, tmp_path: Path) -> None:
    assert run("--input", text, "--to", tmp_path / "list", *FIND) == 0
    table = pq.read_table(tmp_path / "list")
    assert table.schema.names == ["phrase", "first", "second", "count", "score", "pass"]
    found = {row["phrase"]: (row["first"], row["second"], row["count"]) for row in table.to_pylist()}
    assert found["los_angeles"] == ("los", "angeles", 8)
    assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
    assert read_phrases(str(tmp_path / "list"))["phrase"].to_pylist() == table["phrase"].to_pylist()
    (file,) = (tmp_path / "list").glob("*.parquet")
    assert read_phrases(str(file)).num_rows == len(table)


@pytest.mark.slow
def test_a_list_that_is_there_is_kept_unless_it_may_be_replaced(
    run: Any, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--input", text, "--to", tmp_path / "list", *FIND) == 0
    assert run("--input", text, "--to", tmp_path / "list", *FIND) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert run("--input", text, "--to", tmp_path / "list", "--overwrite", *FIND, "--set", "phrases.min_count=99") == 0
    assert len(read_phrases(str(tmp_path / "list"))) == 0


def test_a_list_to_join_is_refused(run: Any, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--input", text, "--to", tmp_path / "list", "--set", "phrases.list=x") == 2
    assert "phrases.list: names phrases that are there already" in capsys.readouterr().err


def test_numbers_are_refused_before_they_are_read(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": [[1, 2]]}), tmp_path / "numbers.parquet")
    monkeypatch.setattr(pipeline, "check_text", lambda *_: pytest.fail("was read"))
    ready_made = ["--set", "corpus.format=parquet", "--set", "corpus.tokenizer=none"]
    assert run("--input", tmp_path / "numbers.parquet", "--to", tmp_path / "list", *ready_made) == 2
    assert "phrases.passes: the words are numbers of the type bigint" in capsys.readouterr().err


def test_a_password_in_a_path_is_refused_and_not_repeated(
    run: Any, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--input", text, "--to", "s3a://key:hush@bucket/list", *FIND) == 2
    said = capsys.readouterr().err
    assert "has a password in it" in said
    assert "hush" not in said


@pytest.mark.parametrize("spelling", ["{}", "file:{}", "{}/", "{}/../text"])
def test_the_text_is_not_replaced_by_its_phrases(
    run: Any, tmp_path: Path, spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").mkdir()
    columns = {name: TEXT.split("\n") for name in ("text", *PHRASES.names)}
    pq.write_table(pa.table(columns), tmp_path / "text" / "part-00000.parquet")
    place = spelling.format(tmp_path / "text")
    assert run("--input", tmp_path / "text", "--to", place, "--overwrite", "--set", "corpus.format=parquet", *FIND) == 2
    assert "is inside" in capsys.readouterr().err
    assert pq.read_table(tmp_path / "text").num_rows == len(TEXT.split("\n"))


@pytest.mark.slow
def test_bad_lines_are_counted(run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "text.txt").write_text(TEXT * 10 + "a\0b\n")
    assert run("--input", tmp_path / "text.txt", "--to", tmp_path / "list", *FIND) == 0
    assert "1 binary lines" in caplog.text


NOT_UTF8 = pa.array([b"caf\xe9"]).view(pa.string())
ROW: dict[str, Any] = {"phrase": ["a_b"], "first": ["a"], "second": ["b"], "pass": [1]}


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"phrase": ["a_b"]}, "has no column first"),
        ({**ROW, "pass": [9]}, "has a pass that is not between 1 and 8"),
        ({**ROW, "pass": [0]}, "has a pass that is not between 1 and 8"),
        ({**ROW, "pass": ["x"]}, "cannot be read"),
        ({**ROW, "phrase": [["a_b"]]}, "cannot be read"),
        ({**ROW, "pass": [{"number": 1}]}, "cannot be read"),
        ({**ROW, "phrase": NOT_UTF8}, "cannot be read .*UTF8.*; give the phrases of a run"),
        ({**ROW, "first": [None]}, "has an empty value in column first"),
        ({**ROW, "phrase": [""]}, "has an empty value in column phrase"),
        ({name: 2 * values for name, values in ROW.items()}, "has a phrase twice"),
        ({name: 9 * values for name, values in ROW.items()}, "has more than 8 phrases"),
    ],
)
def test_a_file_that_is_no_list_gets_one_sentence(
    tmp_path: Path, columns: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrase_lists, "MOST_PHRASES", 8)
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=sentence) as refused:
        read_phrases(str(tmp_path / "list.parquet"))
    assert str(refused.value).startswith(f"phrases.list {tmp_path}/list.parquet: ")
    assert "\\n" not in str(refused.value), "a line end that was escaped"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"word\n", None])
def test_what_is_not_parquet_gets_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(
        UserError, match=r"list: cannot be read \(.*\); give the phrases of a run or of jobs/phrases.py"
    ):
        read_phrases(str(tmp_path / "list"))


def test_a_directory_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no part-\*\.parquet"):
        read_phrases(str(tmp_path))
