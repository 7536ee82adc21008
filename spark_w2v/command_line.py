"""Behaviour that all commands share: one sentence for a mistake, and no control characters on the terminal."""

import argparse
import functools
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from spark_w2v.config.paths import with_home
from spark_w2v.errors import (
    BusyError,
    DivergedError,
    SparkLostError,
    StorageError,
    UserError,
    printable,
)
from spark_w2v.runs.places import check_password, hide_passwords
from spark_w2v.storage.files import reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

STDERR = 2
FAILED, USERS_MISTAKE, TRY_AGAIN = 1, 2, 75  # 75: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130  # as shells say it: 128 + the number of the signal
STOPS = (signal.SIGTERM, signal.SIGHUP)  # signals that ask a process to end, as Ctrl-C does
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed; 2 a mistake that you can fix; 75 try again later: another run is at work on the "
    "output, the storage is full or failed, or Spark was lost; 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."
)
OUTPUT_HELP = "the output of a finished run, or the directory of --run-id: its current run"
LARGEST_TOP = 10_000  # neighbors of a word
PATHS = ("DIR", "FILE", "OTHER", "OUTPUT", "PATH")  # what arguments that are paths are called in --help


class Parser(argparse.ArgumentParser):
    """Says of a mistake one sentence, without the usage before it; paths may begin with ~."""

    def error(self, message: str) -> NoReturn:
        # Whatever was mistyped may have been meant as a path.
        print_error(self.prog, f"{hide_passwords(message)}; --help shows the usage.")
        sys.exit(USERS_MISTAKE)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        return self._parsed(super().parse_known_args, args, namespace)

    def parse_known_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        return self._parsed(super().parse_known_intermixed_args, args, namespace)

    def _parsed(
        self, parse: Callable[..., Any], args: Sequence[str] | None, namespace: argparse.Namespace | None
    ) -> tuple[argparse.Namespace, list[str]]:
        # Python reads names as UTF-8 in the locales C and POSIX too, unless it is told not to; PyArrow always does.
        encoding = sys.getfilesystemencoding()
        if encoding != "utf-8" and not all(map(str.isascii, sys.argv[1:] if args is None else args)):
            print_error(self.prog, f"names in this locale are {encoding}; set PYTHONUTF8=1, or LC_ALL=C.UTF-8.")
            sys.exit(USERS_MISTAKE)
        options, rest = parse(args, namespace)
        for action in self._actions:
            if action.metavar in PATHS and (given := getattr(options, action.dest, None)) is not None:
                replaced = with_home(given) if isinstance(given, str) else list(map(with_home, given))
                setattr(options, action.dest, replaced)
        return options, rest


def print_error(program: str, sentence: str) -> None:
    print(f"{program}: {printable(sentence)}", file=sys.stderr)


def whole_number(most: int, least: int = 1) -> Callable[[str], int]:
    """The type of an option that takes least to most."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:60]!r} is not a whole number from {least} to {most:,}")
        return number

    return parse


# The first that an error is an instance of decides.
EXIT_CODE_OF: tuple[tuple[type[Exception], int], ...] = (
    (BusyError, TRY_AGAIN),
    (StorageError, TRY_AGAIN),
    (SparkLostError, TRY_AGAIN),
    (DivergedError, FAILED),
    (UserError, USERS_MISTAKE),
)


def exit_code_of(error: BaseException) -> int | None:
    """Return the exit code of an error whose message is a sentence for the user; None for any other."""
    return next((code for kind, code in EXIT_CODE_OF if isinstance(error, kind)), None)


def with_exit_codes(main: Callable[[Sequence[str] | None, str], int]) -> Callable[..., int]:
    """Turn the errors of EXIT_CODE_OF into one sentence and an exit code.

    Args:
        main: a command: its arguments, and what it is called in messages (its parameter `program` has a default).
    """
    default = inspect.signature(main).parameters["program"].default

    @functools.wraps(main)
    def decorated(arguments: Sequence[str] | None = None, program: str = default) -> int:
        try:
            return main(arguments, program)
        except Exception as error:
            status = exit_code_of(error)
            if status is None:
                raise
            print_error(program, str(error))
            return status

    return decorated


def check_argument(argument: str) -> None:
    """Refuse an argument that is a URI with a password, or an option with one behind an equals sign.

    Raises:
        UserError: it is.
    """
    check_password(argument.partition("=")[2] if argument.startswith("--") else argument)


def without_passwords(main: Callable[[Sequence[str] | None, str], int]) -> Callable[[Sequence[str] | None, str], int]:
    """Refuse arguments with a password in them, before any is shown.

    Args:
        main: a command none of whose arguments is text, which may look like a path with a password.
    """

    @functools.wraps(main)
    def decorated(arguments: Sequence[str] | None, program: str) -> int:
        for argument in sys.argv[1:] if arguments is None else arguments:
            check_argument(argument)
        return main(arguments, program)

    return decorated


class _Output(io.FileIO):
    """A stream whose reader may go: `| head` has seen enough, and the work goes on, with its exit code.

    What the storage refuses of stderr, lines of a log, is dropped, too: work does not end for it. Of stdout it is an
    error, once.
    """

    is_broken = False

    def write(self, data: "Buffer", /) -> int:
        size = memoryview(data).nbytes
        if self.is_broken:
            return size
        try:
            return super().write(data)
        except BrokenPipeError:
            return size
        except OSError as error:
            if self.fileno() == STDERR:
                return size
            self.is_broken = True
            raise StorageError(f"the output of the command cannot be written ({reason(error)}).") from None


def _whose_reader_may_go(stream: Any) -> Any:
    """The same stream, which drops what nobody reads any more."""
    try:
        raw = _Output(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError):  # closed, or of a test
        return stream
    stream.flush()
    buffering = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    # With PYTHONUNBUFFERED there is no buffer below the text either.
    below: Any = raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(below, stream.encoding, "backslashreplace", **buffering)


def handle_stops(stop: Callable[[int, Any], NoReturn]) -> None:
    """Have a function called for each of STOPS, but for SIGHUP where it is ignored, as under nohup."""
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def leave(main: Callable[[], int]) -> NoReturn:
    """End the process with what main returns, whatever happens to its streams or is asked of it by a signal."""
    sys.stdout, sys.stderr = map(_whose_reader_may_go, (sys.stdout, sys.stderr))
    stopped: list[int] = []

    def stop(number: int, frame: object) -> NoReturn:
        stopped.append(number)
        raise KeyboardInterrupt  # so that what was begun is cleared away

    handle_stops(stop)
    try:
        status = main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except StorageError as error:  # of the last lines
        name = os.path.basename(sys.argv[0])
        print_error("spark-w2v" if name == "__main__.py" else name, str(error))
        status = TRY_AGAIN
    except KeyboardInterrupt:
        status = 128 + stopped[0] if stopped else INTERRUPTED
    sys.exit(status)
