"""Random content for everything that reads files: the fast tests have the same examples each time, these do not.

FUZZ_SECONDS in the environment sets the time for each reader.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spark_w2v import config
from spark_w2v.analysis import evaluation
from spark_w2v.errors import UserError
from spark_w2v.runs.checkpoints import newest_checkpoint
from spark_w2v.runs.embeddings import Embeddings
from spark_w2v.text.packed import damage_of_bzip2
from tests.support.configuration import loads_or_refuses_in_one_line
from tests.support.manifests import bodies, one_checkpoint, signed

SECONDS = float(os.environ.get("FUZZ_SECONDS", "8"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 4 + 120)]


def for_some_seconds(strategy: st.SearchStrategy[Any], attempt: Callable[[Any], None]) -> int:
    """Try examples of a strategy until the time is up; return their number."""
    end, tried = time.monotonic() + SECONDS, 0

    @settings(
        max_examples=500, derandomize=False, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def some(example: Any) -> None:
        nonlocal tried
        tried += 1
        attempt(example)

    logging.disable()  # a warning for each damaged checkpoint
    try:
        while time.monotonic() < end:
            some()
    finally:
        logging.disable(logging.NOTSET)
    print(f"{tried:,} examples")
    return tried


texts = st.text() | st.binary() | st.text(st.sampled_from("[]training.epochs=\n\"'0123-e:#{},_+infa"))
overrides = st.builds(
    "{}={}".format,
    st.sampled_from(sorted(config.KEYS)),
    st.text() | st.text("0123456789.-+e_xtruefalsnif'\"[]{}=\n :#"),
)


def test_no_configuration_breaks_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "any.toml"

    def attempt(content: str | bytes) -> None:
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        loads_or_refuses_in_one_line(lambda: config.load(path))

    assert for_some_seconds(texts, attempt) >= 500


def test_no_override_breaks_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    tried = for_some_seconds(
        overrides | st.text(st.characters()),
        lambda override: loads_or_refuses_in_one_line(lambda: config.load(path, [override])),
    )
    assert tried >= 500


def test_no_manifest_breaks_the_reader_of_checkpoints(tmp_path: Path) -> None:
    one_checkpoint(tmp_path)
    manifest = tmp_path / "00000000" / "manifest.json"

    def attempt(content: bytes) -> None:
        manifest.write_bytes(content)
        with contextlib.suppress(UserError):  # of another version
            found = newest_checkpoint(tmp_path)
            assert found is None or isinstance(found.position, dict)

    assert for_some_seconds(st.binary() | bodies.map(signed), attempt) >= 500


def test_no_change_of_a_checkpoints_bytes_passes(tmp_path: Path) -> None:
    one_checkpoint(tmp_path)
    files = sorted(path for path in (tmp_path / "00000000").iterdir())
    whole = {path: path.read_bytes() for path in files}

    def attempt(change: tuple[int, int, int]) -> None:
        path = files[change[0] % len(files)]
        content = bytearray(whole[path])
        content[change[1] % len(content)] ^= change[2]
        path.write_bytes(content)
        with contextlib.suppress(UserError):  # the number of the format
            assert newest_checkpoint(tmp_path) is None
        path.write_bytes(whole[path])

    changes = st.tuples(st.integers(0, 9), st.integers(0, 1 << 20), st.integers(1, 255))
    assert for_some_seconds(changes, attempt) >= 500


words = st.text(st.sampled_from("aAbéß \t,;:#0.19-+e\u0130\0\ufeff\n\r")) | st.text()
lines = st.lists(words | st.sampled_from(["a b 1.0", "a,b,2", ": one", "a b c d", "a\tb\tnan"]), max_size=20)
lists_of_words = lines.map(lambda some: "\n".join(some).encode("utf-8", "surrogatepass")) | st.binary()


@pytest.mark.parametrize("read", [evaluation.similarity, evaluation.analogies])
def test_no_list_of_words_breaks_its_reader(
    read: Callable[[evaluation.AnalogyIndex, Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "words.txt"
    known = ["a", "b", "A", "ß", "c", "d", "\u0130"]
    vectors = np.random.default_rng(1).normal(size=(len(known), 3)).astype(np.float32)
    space = evaluation.space(Embeddings(pa.array(known), np.arange(len(known), 0, -1), vectors))

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        # A list without one line of the right kind is refused; every other answer is JSON, so has no NaN.
        with contextlib.suppress(UserError):
            json.dumps(msgspec.to_builtins(read(space, path)), allow_nan=False)

    assert for_some_seconds(lists_of_words, attempt) >= 500


def test_no_bytes_break_the_check_of_bzip2() -> None:
    def attempt(content: bytes) -> None:
        segments = [content[start : start + 16] for start in range(0, len(content), 16)]
        assert damage_of_bzip2(segments) is not None

    assert for_some_seconds(st.binary(max_size=500) | st.binary().map(lambda b: b"BZh9" + b), attempt) >= 500
