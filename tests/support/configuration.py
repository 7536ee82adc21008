"""Configurations in files, and what a user reads of those that are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_w2v import config
from spark_w2v.config import Config
from spark_w2v.errors import UserError

Write = Callable[[str | bytes], Path]


def writer(directory: Path) -> Write:
    """Return the function that writes run.toml in a directory."""

    def write(content: str | bytes) -> Path:
        path = directory / "run.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refusal(path: str | Path, *overrides: str) -> str:
    """Return what the user reads, without the directory of a test."""
    with pytest.raises(UserError) as caught:
        config.load(path, overrides)
    return str(caught.value).removeprefix(f"{Path(path).parent}/")


def loads_or_refuses_in_one_line(attempt: Callable[[], Config]) -> None:
    """Fail unless a configuration loads, or is refused in one printable sentence."""
    try:
        loaded = attempt()
    except UserError as error:
        refused = str(error)
    else:
        assert config.from_dict(json.loads(json.dumps(config.as_dict(loaded), allow_nan=False))) == loaded
        return
    assert refused.isprintable()
    assert refused.endswith((".", "?"))
