"""A run in a terminal: what moves, what fits, and how it ends."""

import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from spark_w2v import terminal
from spark_w2v.errors import StorageError
from spark_w2v.job import run_job
from spark_w2v.terminal import PhaseClock, StatusLine, fitted, screen, shown
from spark_w2v.text.messages import columns
from tests.support.pseudo_terminal import Recording, record
from tests.support.training_job import FAST_JVM, ROOT, SMALL, planted_corpus

SUBMIT = [
    Path(sys.executable).parent / "spark-submit", "--properties-file", ROOT / "conf" / "spark-defaults.conf",
    ROOT / "jobs" / "train.py",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "spark_w2v", "train"]


@pytest.fixture(scope="module")
def corpus(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "planted.txt"
    planted_corpus(path, sentences=6000)
    return path


def watched(command: list[object], corpus: Path, output: Path, width: int, **more: bytes) -> Recording:
    given = ["--input", corpus, "--output", output, *SMALL]
    return record([*command, *given], width, {**FAST_JVM, "PYTHONPATH": str(ROOT)}, more)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "width"), [(COMMAND, 80), (SUBMIT, 140)])
def test_a_run_moves_every_two_seconds_and_fits_the_terminal(
    command: list[object], width: int, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A short name: a path that is longer than a line is not broken, so that it can be copied.
    seen = watched(command, corpus, tmp_path_factory.mktemp("t") / "out", width)
    assert seen.status == 0, seen.text
    # Before that, spark-submit starts a JVM and Python, and nothing of ours runs.
    assert seen.longest_silence(b"starting Spark" if command is SUBMIT else b"") < 2
    ours = [line for line in seen.lines if line[2:3] == ":"]
    assert sum("epoch " in line for line in ours) == 5
    # What the JVM says before Python has a word does not know the width.
    own = Recording([(0, line.encode()) for line in seen.text.split("\n") if "WARN" not in line], 0)
    assert own.widest <= width
    assert any(f"|{'█' * 5}" in line for line in seen.text.split("\r"))
    for phase in ("starting Spark", "listing the input", "reading the text", "counting the words", "writing"):
        assert phase in seen.text
    left = [line for line in seen.text.split("\r") if line.count(" left") > 1]
    assert left == []


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_130_and_one_sentence(corpus: Path, tmp_path: Path) -> None:
    seen = watched(
        [*COMMAND, "--set", "training.epochs=100000"], corpus, tmp_path / "out", 80, **{"reading the text": b"\x03"}
    )
    assert seen.status == 130
    assert "spark-w2v train: stopped;" in seen.text
    assert "Traceback" not in seen.text


@pytest.mark.slow
def test_ctrl_c_under_spark_submit_ends_with_130_too(corpus: Path, tmp_path: Path) -> None:
    seen = watched(SUBMIT, corpus, tmp_path / "out", 80, **{"epoch 1/": b"\x03"})
    assert seen.status == 130
    assert "Traceback" not in seen.text


@pytest.mark.slow
def test_sigterm_ends_a_run_with_143(corpus: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "--input", corpus, "--output", tmp_path / "out", *SMALL, "--set", "training.epochs=100000"]
    environment = {**os.environ, **FAST_JVM}
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "epoch 1/" in line:
                run.terminate()
                break
        said = run.stderr.read()
    assert run.returncode == 143
    assert "stopped; --resume goes on" in said


@pytest.mark.slow
def test_a_quiet_run_says_nothing(corpus: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "--quiet", "--input", corpus, "--output", tmp_path / "out", *SMALL]
    command += ["--set", "training.partitions=1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    # Java's own line is not ours to leave out.
    assert [line for line in (done.stdout + done.stderr).splitlines() if "incubator" not in line] == []


@pytest.mark.parametrize("width", [80, 140, 40])
def test_lines_are_broken_between_words_and_not_inside_a_path(width: int) -> None:
    path = "/" + "x" * 200
    text = fitted(f"12:00:00 reading {'word ' * 60}{path} and more", width, indent=9)
    assert path in text
    assert all(len(line) < width for line in text.split("\n") if path not in line)
    assert " ".join(text.split()) == f"12:00:00 reading {'word ' * 60}{path} and more"
    assert all(line.startswith(" " * 9) for line in text.split("\n")[1:])


def test_characters_that_are_two_columns_wide_count_twice() -> None:
    lines = fitted("12:00:00 " + "日本語 " * 30, 80, indent=9).split("\n")
    assert max(map(columns, lines)) < 80
    assert len(lines) == 3


def test_where_there_is_no_terminal_lines_stay_whole() -> None:
    assert fitted("word " * 100, None) == "word " * 100


def test_no_control_character_of_a_path_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which StorageErrors, and log lines of skipped files, have in them."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    path = "/data/a\x1b]0;title\x07\u202e\ud800"

    def work(line: StatusLine, cleanup: object) -> None:
        raise StorageError(f"{path}\nfake: done: the disk is full.")

    assert run_job("train.py", SimpleNamespace(log_format="text", quiet=False), work) == 75  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert said == "train.py: /data/a\\x1b]0;title\\x07\\u202e\\ud800\\nfake: done: the disk is full.\n"

    stream = io.StringIO()
    record = logging.LogRecord("spark_w2v", logging.INFO, "", 0, "%s is kept\nand\tmore", (path,), None)
    terminal.handler(stream).emit(record)
    assert stream.getvalue()[9:] == "/data/a\\x1b]0;title\\x07\\u202e\\ud800 is kept\nand\tmore\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def frames_of(stream: Terminal) -> set[str]:
    return {frame.strip() for frame in stream.getvalue().split("\r") if frame.strip()}


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_line_moves_while_the_main_thread_is_busy() -> None:
    stream = Terminal()
    with StatusLine(stream, True) as line:
        line.show("reading", lambda: "3 of 8 tasks")
        wait_for(lambda: re.search(r"reading, 3 of 8 tasks, [1-9]\d* s", stream.getvalue()) is not None)
        wait_for(lambda: len(frames_of(stream)) >= 3)
        line.progress(0.5, "epoch 1/2")
        wait_for(lambda: "50%" in stream.getvalue())
    assert stream.getvalue().endswith("\r")


def test_what_cannot_be_told_of_a_phase_leaves_its_name() -> None:
    stream = Terminal()

    def fail() -> str:
        raise ConnectionError("no JVM")

    with StatusLine(stream, True) as line:
        line.show("reading", fail)
        assert "reading, 0 s" in stream.getvalue()


def test_a_stream_that_is_not_whole_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (SimpleNamespace(write=lambda text: len(text)), None):  # as programs put in the place of stderr
        monkeypatch.setattr(sys, "stderr", stream)
        with shown() as line:
            line.show("reading")
        assert not line.is_shown


def test_a_terminal_without_a_number_is_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()  # as the console of an editor
    monkeypatch.setattr(sys, "stderr", stream)
    with shown() as line:
        line.show("reading")
    assert "reading" in stream.getvalue()


def test_nothing_is_drawn_where_nobody_looks() -> None:
    stream = Terminal()
    with StatusLine(stream, False) as line:
        line.show("reading")
        line.progress(0.5, "epoch 1/2")
    assert stream.getvalue() == ""


def test_seconds_are_counted_by_phase() -> None:
    clock = PhaseClock(StatusLine(Terminal(), False))
    clock.begin("one")
    time.sleep(0.05)
    clock.begin("two")
    time.sleep(0.02)
    found = clock.so_far()
    assert list(found) == ["one", "two"]
    assert found["one"] >= 0.05
    time.sleep(0.05)
    clock.begin("one")
    time.sleep(0.03)
    clock.end()
    assert clock.seconds["one"] >= 0.08
    assert clock.seconds["two"] >= 0.07


def test_lines_are_shown_until_the_last_run_ends(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("spark_w2v")
    level, handlers = logger.level, list(logger.handlers)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        patch.setattr(logger, "hasHandlers", lambda: bool(logger.handlers))  # pytest's are above it
        for one in (first, second):
            one.enter_context(shown(True))
        first.close()
        logger.info("epoch 2")
        second.close()
        logger.warning("epoch 3")
    said = capsys.readouterr().err
    assert "epoch 2" in said
    assert "epoch 3" not in said
    assert (logger.level, logger.handlers) == (level, handlers)


def test_a_program_that_configured_logging_gets_the_lines_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(terminal.LOGGER)
    own = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(own)
    try:
        for is_shown in (True, False):
            with terminal.shown(is_shown):
                logger.warning("epoch %d", 1 + is_shown)
            assert logger.handlers == []
    finally:
        logging.getLogger().removeHandler(own)
    assert own.stream.getvalue() == "epoch 2\nepoch 1\n"
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")])
def test_a_duration_is_said_as_a_person_does(seconds: float, said: str) -> None:
    assert terminal.duration(seconds) == said


def test_a_line_that_the_terminal_cannot_show_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "terminal").touch()
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    open_file = os.open
    monkeypatch.setattr("spark_w2v.terminal.os.open", lambda path, flags: open_file(tmp_path / "terminal", flags))
    monkeypatch.setattr("spark_w2v.terminal.os.isatty", lambda descriptor: True)
    monkeypatch.setattr("spark_w2v.terminal.is_terminal", lambda stream: False)
    with screen() as stream:
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="latin-1", errors=stream.errors)
        stream.write("\u4e16\n")
    assert (tmp_path / "terminal").read_text() == "\\u4e16\n"
