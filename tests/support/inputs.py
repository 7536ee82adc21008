"""Files that a run lists."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spark_w2v import config
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, inputs, vocabulary
from spark_w2v.text.messages import path_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


LINE = "alpha beta gamma delta\n"


def text(path: Path, lines: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LINE * lines, encoding="utf-8")
    return path


def listed(spark: "SparkSession", *paths: Path | str, kind: str = "text", outputs: Sequence[str] = ()) -> inputs.Inputs:
    return corpus.list_files(spark, [str(path) for path in paths], kind, outputs)


def names(found: inputs.Inputs, root: Path) -> list[str]:
    return [os.path.relpath(path_text(file.path), root) for file in found.files]


def left_out(found: inputs.Inputs, root: Path) -> dict[str, list[str]]:
    return {reason: [os.path.relpath(path, root) for path in paths] for reason, paths in found.skipped.items()}


def lines_of(spark: "SparkSession", *paths: Path | str, found: inputs.Inputs | None = None, **keys: Any) -> int:
    """Lines of what is read."""
    segments = corpus.read(spark, [str(path) for path in paths], config.Corpus(**keys), found)
    return vocabulary.counters(segments)["lines"]


def refused(spark: "SparkSession", *paths: Path | str, **keys: Any) -> str:
    with pytest.raises(UserError) as error:
        listed(spark, *paths, **keys)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence
