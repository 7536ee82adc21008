"""Output of a run while it goes on: log lines that fit the screen, and one line that moves."""

import contextlib
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from tqdm import tqdm

from spark_w2v.errors import printable
from spark_w2v.runs.run_log import JsonFormatter
from spark_w2v.text.messages import columns

LOGGER = "spark_w2v"
PERIOD = 0.5  # seconds between two states of the moving line
LEAST_PERIOD = 0.1  # where the training has news
SPINNER = "|/-\\"
LEAST_WIDTH = 40  # columns that a line takes, however narrow the terminal


def screen() -> TextIO:
    """Where the user reads: spark-submit's terminal, where it has one; else our own stderr.

    spark-submit passes on what we write through a pipe, and a bar must not be drawn into a pipe.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ and not is_terminal(sys.stderr):
        with contextlib.suppress(OSError):
            # Not with open, which would empty it where it is a file.
            descriptor = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_NOCTTY)
            if os.isatty(descriptor):
                return os.fdopen(descriptor, "w", errors="backslashreplace")
            os.close(descriptor)
    return sys.stderr


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose stderr is drawn below a cell."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream, which a program may have replaced by anything, says that it is a terminal."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream is not None and stream.isatty()
    return False


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None where the stream is not one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.isatty():
            width = os.get_terminal_size(stream.fileno()).columns
            return max(LEAST_WIDTH, width or shutil.get_terminal_size().columns)
    return None


def fitted(text: str, width: int | None, indent: int = 0) -> str:
    """Return a text whose lines are narrower than the terminal, broken between words.

    Not by textwrap, which counts characters: a terminal draws those of Chinese two columns wide.

    Args:
        indent: of the lines after the first.
    """
    if width is None:
        return text
    return "\n".join("\n".join(_broken(line, width, indent)) for line in text.split("\n"))


def _broken(line: str, width: int, indent: int) -> Iterator[str]:
    begun = ""
    for number, word in enumerate(line.split(" ")):
        longer = f"{begun} {word}" if number else word
        if begun.strip() and columns(longer) >= width:
            yield begun
            longer = " " * indent + word
        begun = longer
    yield begun


class _Handler(logging.StreamHandler[TextIO]):
    """Writes log lines above the line that moves, printable and no wider than the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if isinstance(self.formatter, JsonFormatter):
            return text
        text = re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text)  # a traceback has lines, and tabs if Java's
        return fitted(text, width_of(self.stream), indent=9)


def handler(stream: TextIO, log_format: str = "text") -> logging.Handler:
    """Return what writes log lines for a user to the stream.

    Args:
        log_format: "text" or "json".
    """
    made = _Handler(stream)
    # py4j logs a traceback where SIGTERM interrupts it, and in every run that it closes; some to the root logger.
    made.addFilter(lambda record: "py4j" not in record.pathname)
    text = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    made.setFormatter(JsonFormatter() if log_format == "json" else text)
    return made


class StatusLine:
    """The line that moves: what is done, for how long, and how far the run is.

    A thread draws it twice a second, so that it moves while Spark, or NumPy, keeps the main thread.

    Args:
        stream: where it is drawn.
        is_shown: whether it is drawn at all.
    """

    def __init__(self, stream: TextIO, is_shown: bool) -> None:
        self.is_shown = is_shown
        self._stream = stream
        self._lock = threading.Lock()
        self._text, self._since = "", time.monotonic()
        self._detail: Callable[[], str] = str
        self._done: float | None = None
        self._drawn = 0.0
        self._bar: tqdm | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, text: str, detail: Callable[[], str] = str) -> None:
        """Say what is done from now on, where nobody knows how long it takes.

        Args:
            detail: called whenever the line is drawn, in another thread; an error in it is passed over.
        """
        with self._lock:
            self._text, self._detail, self._done, self._since = text, detail, None, time.monotonic()
        self._draw()

    def progress(self, done: float, text: str) -> None:
        """Say how far the run is.

        Args:
            done: share of it, 0 to 1.
        """
        with self._lock:
            self._text, self._done = text, done
        self._draw(is_due=time.monotonic() - self._drawn >= LEAST_PERIOD)

    def close(self) -> None:
        """Remove the line."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2)  # it may wait for a JVM that does not answer
            self._thread = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, is_due: bool = True) -> None:
        if not self.is_shown or self._stop.is_set():
            return
        if self._bar is None:
            self._bar = tqdm(total=1.0, file=self._stream, leave=False, dynamic_ncols=True, bar_format="{desc}")
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_drawing, name="status line", daemon=True)
            self._thread.start()
        if is_due:
            self._refresh()

    def _keep_drawing(self) -> None:
        while not self._stop.wait(PERIOD):
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            text, detail, done, seconds = self._text, self._detail, self._done, time.monotonic() - self._since
        more = ""
        with contextlib.suppress(Exception):  # of a JVM that is gone, or not there yet
            more = detail()
        bar = self._bar
        if bar is None or self._stop.is_set():
            return
        if done is None:
            bar.bar_format = "{desc}"
            parts = [text, *([more] if more else []), f"{duration(seconds)} {SPINNER[int(seconds / PERIOD) % 4]}"]
            bar.desc = ", ".join(parts)
        else:
            # Bars of less than 10 columns say nothing; the text is cut by tqdm.
            bar.bar_format = "{percentage:3.0f}% |{bar}| {elapsed} " + text.replace("{", "{{").replace("}", "}}")
            bar.n = done
        with tqdm.get_lock():  # a refresh that Ctrl-C interrupts would keep it
            bar.refresh(nolock=True)
        self._drawn = time.monotonic()


@contextlib.contextmanager
def shown(is_shown: bool | None = None) -> Iterator[StatusLine]:
    """Show a run that a program started: its log lines and a line that moves, on stderr.

    Args:
        is_shown: None shows it in a terminal and in a notebook. Where the program configured logging, log lines go
            where it wants them, and nowhere else.
    """
    stream = sys.stderr
    wanted = (is_notebook() or is_terminal(stream)) if is_shown is None else is_shown
    with _log_lines(stream) if wanted else contextlib.nullcontext(), StatusLine(stream, wanted) as line:
        yield line


class _Shown:
    """Of the runs of this process that are shown: how many there are, and the handler of them all."""

    lock = threading.Lock()
    runs = 0
    handler: logging.Handler | None = None
    level = logging.NOTSET  # of the logger, before


@contextlib.contextmanager
def _log_lines(stream: TextIO) -> Iterator[None]:
    """Show the log's lines, until the last run ends of those that are shown at the same time."""
    logger = logging.getLogger(LOGGER)
    with _Shown.lock:
        if not _Shown.runs and not logger.hasHandlers():
            _Shown.handler, _Shown.level = handler(stream), logger.level
            logger.addHandler(_Shown.handler)
            logger.setLevel(logging.INFO)
        _Shown.runs += 1
    try:
        yield
    finally:
        with _Shown.lock:
            _Shown.runs -= 1
            if not _Shown.runs and _Shown.handler is not None:
                logger.removeHandler(_Shown.handler)
                logger.setLevel(_Shown.level)
                _Shown.handler = None


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class PhaseClock:
    """Seconds of each phase of a run, in their order; says on the line that moves which one it is.

    Args:
        line: where it is shown.
        detail: what more there is to say of a phase, as of StatusLine.show.
    """

    def __init__(self, line: StatusLine, detail: Callable[[], str] = str) -> None:
        self._line, self.detail = line, detail
        self.seconds: dict[str, float] = {}
        self._name: str | None = None
        self._since = time.monotonic()

    def begin(self, name: str) -> None:
        """End the phase before, and begin this one."""
        self.end()
        self._name, self._since = name, time.monotonic()
        self._line.show(name, lambda: self.detail())

    def end(self) -> None:
        """End the phase."""
        if self._name is not None:
            more = time.monotonic() - self._since
            self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + more, 3)
        self._name = None

    def so_far(self) -> dict[str, float]:
        """Return the seconds of each phase, the one that goes on included."""
        name = self._name
        self.end()
        if name is not None:
            self._name, self._since = name, time.monotonic()
        return dict(self.seconds)
