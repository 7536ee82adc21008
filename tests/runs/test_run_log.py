"""Log lines as JSON, and curves that TensorBoard's own format holds."""

import importlib.util
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.errors import UserError
from spark_w2v.runs.run_log import JsonFormatter, TensorBoardWriter, check_tensorboard
from tests.support.training_job import scalars


def lines_of(*records: tuple[int, str, dict[str, Any] | None]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for level, message, fields in records:
        logger.log(level, message, extra={"fields": fields} if fields else None)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json_whatever_is_in_it() -> None:
    first, second = lines_of(
        (logging.INFO, "epoch 1\nof \u2028 2", {"epoch": 1, "loss": 2.5, "path": Path("a")}),
        (logging.WARNING, '"', None),
    )
    assert first["message"] == "epoch 1\nof \u2028 2"
    assert (first["level"], first["epoch"], first["loss"], first["path"]) == ("info", 1, 2.5, "a")
    assert first["time"].endswith("Z")
    assert set(second) == {"time", "level", "message"}
    assert second["level"] == "warning"


def test_an_exception_stays_on_the_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), (type(error), error, error.__traceback__))
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: bad" in json.loads(line)["exception"]


def metrics(epoch: int, held_out: float | None) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 3.0 - epoch, "held_out_loss": held_out, "learning_rate": 0.5, "words_per_second": 7}


def test_an_epoch_is_on_the_disk_when_it_was_added(tmp_path: Path) -> None:
    target = check_tensorboard(str(tmp_path / "new" / "curves"))
    assert not target.exists()
    curves = TensorBoardWriter(target)
    curves.add(metrics(1, 2.25))
    assert scalars(target) == [
        ("loss/training", 1, 2.0), ("loss/held_out", 1, 2.25), ("training/learning_rate", 1, 0.5),
        ("training/words_per_second", 1, 7.0),
    ]  # fmt: skip
    curves.add(metrics(2, None))
    assert [(tag, step) for tag, step, _ in scalars(target)[4:]] == [
        ("loss/training", 2), ("training/learning_rate", 2), ("training/words_per_second", 2),
    ]  # fmt: skip
    curves.close()


def test_what_the_disk_refuses_costs_the_curves_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "curves"
    curves = TensorBoardWriter(target)
    target.write_text("a file where the directory should be")
    curves.add(metrics(1, 2.25))
    curves.add(metrics(2, 2.25))
    curves.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="tensorboardX, which is not installed"):
        check_tensorboard(str(tmp_path))


def test_a_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), str(tmp_path / "file" / "x"), "hdfs://host/x"):
        with pytest.raises(UserError, match="--tensorboard"):
            check_tensorboard(place)


@pytest.mark.parametrize("name", ["out", "out/curves", "out/a/b", "./x/../out/curves"])
def test_curves_inside_of_the_output_are_refused(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(UserError, match="is inside of the output"):
        check_tensorboard(f"{tmp_path}/{name}", str(output))
    assert check_tensorboard(str(tmp_path / "output-curves"), str(output)) == (tmp_path / "output-curves").resolve()
    assert check_tensorboard(str(output), "s3://bucket/out") == output.resolve()
