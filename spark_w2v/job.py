"""The training job: its arguments, what the user sees of it, and its exit code."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TextIO

from spark_w2v import config as configuration
from spark_w2v.command_line import (
    EXIT_CODES,
    INTERRUPTED,
    STOPS,
    TRY_AGAIN,
    USERS_MISTAKE,
    Parser,
    check_argument,
    exit_code_of,
    handle_stops,
    whole_number,
)
from spark_w2v.config import LARGEST_INT
from spark_w2v.errors import RefusedError, SparkLostError, UserError, printable
from spark_w2v.run_request import Request
from spark_w2v.spark.hadoop_files import is_utf8
from spark_w2v.spark.java_errors import is_interruption, lost, translate_error
from spark_w2v.spark.session import SparkSession, is_running, start_session, stop_session, system_property
from spark_w2v.terminal import StatusLine, fitted, handler, screen, width_of
from spark_w2v.training_run import STARTING, TrainingRun

log = logging.getLogger("spark_w2v")

INPUT_HELP = "files, directories or globs; with corpus.format=table names of tables of Spark's catalog"

ENDING = 300.0  # seconds that Spark has to stop, which waits for a lost cluster without a limit

_stopped_by = INTERRUPTED  # the exit code of an interruption


def train(arguments: Sequence[str] | None = None, program: str = "train.py") -> int:
    """Train embeddings from the command line; return the exit code, as EXIT_CODES describes it.

    Args:
        program: what the command is called in messages.
    """
    options = _options(arguments, program)
    requests: list[Request] = []

    def work(line: StatusLine, cleanup: contextlib.ExitStack) -> None:
        requests.append(_request(options))
        run = TrainingRun(requests[0], line)  # checks what can be checked without Spark
        run.clock.begin(STARTING)
        run.run(_started(cleanup))

    return run_job(program, options, work, lambda: any(request.begun for request in requests), can_resume=True)


def run_job(
    program: str,
    options: argparse.Namespace,
    work: Callable[[StatusLine, contextlib.ExitStack], None],
    has_begun: Callable[[], bool] = lambda: False,
    can_resume: bool = False,
) -> int:
    """Do the work of a command that uses Spark; return the exit code.

    Args:
        program: what the command is called in messages.
        options: with those of `add_log_options`.
        work: gets the line that says how far it is, and where to register what has to be done at the end.
        has_begun: whether a store has let the command write to it.
        can_resume: the command has the option --resume.
    """
    stream = screen()
    _log_to(stream, options.log_format, options.quiet)
    handle_stops(_stop)
    has_line = width_of(stream) is not None and options.log_format != "json" and not options.quiet
    with StatusLine(stream, has_line) as line, _ending() as end, contextlib.ExitStack() as cleanup:
        status = 1
        try:
            for given in vars(options).values():
                for path in given if isinstance(given, list) else [given]:
                    check_argument(str(path))
            _check_names(options)
            work(line, cleanup)
            status = 0
        except (Exception, KeyboardInterrupt) as error:
            told = _told(error, has_begun(), can_resume)
            if told is None:
                raise
            sentence, status = told
            line.close()
            _print_error(program, sentence, options.log_format, stream)
        finally:
            end(status)
    return status


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that use Spark."""
    parser.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="json: one object a line, for a log collector"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")


def add_set_option(parser: argparse.ArgumentParser, file: str) -> None:
    """Add --set.

    Args:
        file: what its values win over.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help=f"wins over {file}; any number of times",
    )


def add_input_option(parser: argparse.ArgumentParser) -> None:
    """Add --input."""
    parser.add_argument("--input", required=True, nargs="+", action="extend", metavar="PATH", help=INPUT_HELP)


def check_order(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse a configuration after --input, which takes all paths that follow it."""
    if options.config is None and (late := [path for path in options.input if _is_configuration(path)]):
        parser.error(f"{late[0]} is after --input, so it would be read as text; give the configuration before --input")


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that read a text and write a directory of Parquet files."""
    add_input_option(parser)
    parser.add_argument(
        "--to", required=True, metavar="DIR", help="a directory for Parquet files, in any file system of Hadoop's"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the directory of an earlier result")


def session_of_job(line: StatusLine, cleanup: contextlib.ExitStack) -> SparkSession:
    """Start Spark, which is stopped at the end of the command."""
    line.show(STARTING)
    return _started(cleanup)


def _started(cleanup: contextlib.ExitStack) -> SparkSession:
    """Return Spark's session, which is stopped at the end if it was not there before, as in a notebook's process."""
    was_running = is_running()
    session = start_session()
    if not was_running:
        cleanup.callback(stop_session, session)
    return session


def _options(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = Parser(prog=program, description="Train word embeddings on text, with Spark.", epilog=EXIT_CODES)
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, such as conf/local.toml (defaults)")
    add_input_option(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the embeddings go")
    add_set_option(parser, "the file")
    parser.add_argument(
        "--init",
        metavar="OUTPUT",
        help="begin with the vectors of an earlier run's output, or of a file of word2vec, fastText (.vec) or GloVe",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    parser.add_argument(
        "--tolerate-changes",
        action="store_true",
        help="where input or configuration have changed since: begin an unfinished run again, and keep a finished one",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a finished output, once the new one is whole")
    parser.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard there, after each epoch")
    parser.add_argument(
        "--mlflow", action="store_true", help="log parameters, metrics of each epoch and the report to MLflow"
    )
    add_log_options(parser)
    parser.add_argument(
        "--run-id",
        metavar="ID",
        help="write to DIR/runs/ID, then move DIR/current there; nothing to do where that run is finished already",
    )
    parser.add_argument(
        "--keep-runs",
        metavar="N",
        type=whole_number(LARGEST_INT, least=0),
        help="once this run is published, remove all finished runs but the N newest and the current one; 0: none; "
        "short for output.keep_runs",
    )
    parser.add_argument("--no-publish", action="store_true", help="with --run-id: leave DIR/current where it is")
    options = parser.parse_args(arguments)
    if options.no_publish and options.run_id is None:
        parser.error("--no-publish is for runs with --run-id")
    if options.tolerate_changes and not options.resume and options.run_id is None:
        parser.error("--tolerate-changes is for runs with --resume or --run-id")
    check_order(parser, options)
    return options


def _is_configuration(path: str) -> bool:
    return path.endswith(".toml") and os.path.isfile(path)


def _request(options: argparse.Namespace) -> Request:
    """Return what the options ask for.

    Raises:
        UserError: of the configuration.
    """
    if options.keep_runs is not None:
        options.set.append(f"output.keep_runs={options.keep_runs}")
    return Request(
        configuration.load(options.config, options.set),
        options.input,
        options.output,
        init=options.init,
        resume=options.resume,
        tolerates_changes=options.tolerate_changes,
        overwrite=options.overwrite,
        run_id=options.run_id,
        publish=not options.no_publish,
        tensorboard=options.tensorboard,
        mlflow=options.mlflow,
    )


def _log_to(stream: TextIO, log_format: str, quiet: bool) -> None:
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler(stream, log_format)])
    # It logs the end of its connections once Python has ended its threads, for which Python 3.13 prints tracebacks.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    if log_format == "json":
        logging.captureWarnings(True)


def _told(error: BaseException, begun: bool, can_resume: bool) -> tuple[str, int] | None:
    """Return the sentence that the user gets, and the exit code; None for our own mistakes.

    Args:
        begun: the output is open, so a store has let us write to it.
        can_resume: the command has the option --resume.
    """
    try_again = "; try again" + (", with --resume to go on from the last checkpoint." if can_resume else ".")
    if isinstance(error, RefusedError):  # by a store that let us write before: permissions expire
        return str(error), TRY_AGAIN if begun else USERS_MISTAKE
    if isinstance(error, SparkLostError):
        return f"{error}{try_again}", TRY_AGAIN
    if (status := exit_code_of(error)) is not None:
        return str(error), status
    if not isinstance(error, Exception) or is_interruption(error):
        return f"stopped{'; --resume goes on from the last checkpoint' if can_resume else ''}.", _stopped_by
    if (reason := lost(error)) is not None:
        return f"{reason}{try_again}", TRY_AGAIN
    sentence = translate_error(error)
    return None if sentence is None else (sentence, USERS_MISTAKE)


def _check_names(options: argparse.Namespace) -> None:
    """Refuse arguments that spark-submit's Java could not read.

    Where its locale is not UTF-8 it hands over one ? for each byte beyond ASCII, so at least two for each character.
    """
    given = [part for value in vars(options).values() for part in (value if isinstance(value, list) else [value])]
    lost = [part for part in given if isinstance(part, str) and ("??" in part or "\N{REPLACEMENT CHARACTER}" in part)]
    if not lost or "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    encoding = system_property("sun.jnu.encoding")
    if not is_utf8(encoding):
        raise UserError(
            f"{lost[0]}: is what Java made of a name or a word in this locale, whose encoding is {encoding}; set "
            "LC_ALL=C.UTF-8 in the environment of spark-submit."
        )


def _print_error(program: str, sentence: str, log_format: str, stream: TextIO) -> None:
    """Say on stderr what is wrong, in the format of all other lines."""
    if log_format == "json":
        log.error(sentence)
    else:
        print(fitted(f"{program}: {printable(sentence)}", width_of(stream)), file=sys.stderr)


@contextlib.contextmanager
def _ending() -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the exit code when the work is done or has ended, before Spark stops.

    Requests to stop are ignored from then on, and the process ends with that code if the context is not left in time.
    """
    with contextlib.ExitStack() as restored:

        def end(status: int) -> None:
            bug = sys.exception() if status == 1 else None  # Python prints it when the context has been left

            def leave() -> None:
                log.warning("Spark has not stopped within %.0f s, so the command ends without it", ENDING, exc_info=bug)
                sys.stdout.flush()
                os._exit(status)

            for number in (signal.SIGINT, *STOPS):
                restored.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
            timer = threading.Timer(ENDING, leave)
            timer.daemon = True
            restored.callback(timer.cancel)
            timer.start()

        yield end


def _stop(number: int, frame: object) -> NoReturn:
    global _stopped_by
    _stopped_by = 128 + number
    raise KeyboardInterrupt
