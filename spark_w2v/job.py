"""The training job: its arguments, its run directory, what the user sees of it, and its exit code."""

import argparse
import contextlib
import logging
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pyarrow as pa

from spark_w2v import __version__, pipeline
from spark_w2v import config as configuration
from spark_w2v.analysis import report, warm_start
from spark_w2v.analysis.warm_start import PreviousModel
from spark_w2v.command_line import EXIT_CODES, FAILED, TRY_AGAIN, USERS_MISTAKE, Parser, exit_code_of, whole_number
from spark_w2v.config import LARGEST_INT, Config
from spark_w2v.epoch_observer import EpochObserver
from spark_w2v.errors import NoPairsError, RefusedError, SparkLostError, UserError
from spark_w2v.runs import embedding_writer, ids, stored
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.runs.run import Output, Run, open_run, output_of
from spark_w2v.runs.run_log import JsonFormatter, check_tensorboard
from spark_w2v.spark import corpus, inputs
from spark_w2v.spark.hadoop_files import is_utf8
from spark_w2v.spark.java_errors import is_interruption, lost, translate_error
from spark_w2v.spark.session import SparkSession, start_session, system_property
from spark_w2v.spark.training import Training
from spark_w2v.storage.store import needs_jvm
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.tokenizer import check_tokenizer

log = logging.getLogger("spark_w2v")


def train(arguments: Sequence[str] | None = None, program: str = "train.py") -> int:
    """Train embeddings from the command line; return the exit code, as EXIT_CODES describes it.

    Args:
        program: what the command is called in messages.
    """
    options = _options(arguments, program)
    screen = _screen()
    _log_to(screen, options.log_format)
    signal.signal(signal.SIGTERM, _stop)
    options.begun = False
    with contextlib.ExitStack() as cleanup:
        try:
            _check_names(sys.argv[1:] if arguments is None else arguments)
            _run(options, screen, cleanup)
        except (Exception, KeyboardInterrupt) as error:
            told = _told(error, options.begun)
            if told is None:
                raise
            sentence, status = told
            _print_error(program, sentence, options.log_format)
            return status
    return 0


def _options(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = Parser(prog=program, description="Train word embeddings on text, with Spark.", epilog=EXIT_CODES)
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, such as conf/local.toml (defaults)")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="files, directories or globs")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the embeddings go")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="wins over the file; any number of times",
    )
    parser.add_argument("--init", metavar="OUTPUT", help="begin with the vectors of an earlier run's output")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished output, once the new one is whole")
    parser.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="json: one object a line, for a log collector"
    )
    parser.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard there, after each epoch")
    parser.add_argument(
        "--run-id",
        metavar="ID",
        help="write to DIR/runs/ID, then move DIR/current there; nothing to do where that run is finished already",
    )
    parser.add_argument(
        "--keep-runs",
        metavar="N",
        type=whole_number(LARGEST_INT),
        help="once this run is published, remove all finished runs but the N newest; short for output.keep_runs",
    )
    parser.add_argument("--no-publish", action="store_true", help="with --run-id: leave DIR/current where it is")
    options = parser.parse_args(arguments)
    if options.no_publish and options.run_id is None:
        parser.error("--no-publish is for runs with --run-id")
    return options


def _told(error: BaseException, begun: bool) -> tuple[str, int] | None:
    """Return the sentence that the user gets, and the exit code; None for our own mistakes.

    Args:
        begun: the output is open, so a store has let us write to it.
    """
    try_again = "; try again, with --resume to go on from the last checkpoint."
    if isinstance(error, RefusedError):  # by a store that let us write before: permissions expire
        return str(error), TRY_AGAIN if begun else USERS_MISTAKE
    if isinstance(error, SparkLostError):
        return f"{error}{try_again}", TRY_AGAIN
    if (status := exit_code_of(error)) is not None:
        return str(error), status
    if not isinstance(error, Exception) or is_interruption(error):
        return "stopped; --resume goes on from the last checkpoint.", FAILED
    if (reason := lost(error)) is not None:
        return f"{reason}{try_again}", TRY_AGAIN
    sentence = translate_error(error)
    return None if sentence is None else (sentence, USERS_MISTAKE)


def _run(options: argparse.Namespace, screen: TextIO, cleanup: contextlib.ExitStack) -> None:
    """Check what can be checked without Spark, then train and move the pointer to the current run.

    Args:
        cleanup: stops Spark.
    """
    if options.keep_runs is not None:
        options.set.append(f"output.keep_runs={options.keep_runs}")
    settings = configuration.load(options.config, options.set)
    options.keep_runs = settings.output.keep_runs
    check_tokenizer(settings.corpus)
    _refuse_passwords([*options.input, options.output])
    directory = options.output
    place = None if needs_jvm(directory) else _place(options)
    if options.tensorboard is not None:
        check_tensorboard(options.tensorboard)
    written = [directory] if options.tensorboard is None else [directory, options.tensorboard]
    options.outputs = [str(local_path(path)) if is_local(path) else path.rstrip("/") for path in written]
    session = start_session()
    cleanup.callback(_stop_session, session)
    if place is None:
        place = _place(options)
    options.output = place.name
    _train(session, settings, options, place, screen)
    if options.run_id is not None:
        _move_current(directory, options)


def _stop_session(session: SparkSession) -> None:
    with contextlib.suppress(Exception):  # the JVM may be gone before us, and there is nothing left to lose
        session.stop()


def _place(options: argparse.Namespace) -> Output:
    """Where the run writes to, checked before any work is done."""
    place = output_of(options.output, options.run_id, move_pointer=not options.no_publish, keep_runs=options.keep_runs)
    if options.no_publish and options.overwrite and ids.current(options.output) == options.run_id:
        raise UserError(
            f"{place.name}: is the run that readers get, so --overwrite would publish it; leave --no-publish out, or "
            "give another run id."
        )
    # With a run id a finished output is no mistake yet.
    place.check(overwrite=options.overwrite, resume=options.resume or options.run_id is not None)
    return place


def _refuse_passwords(paths: Sequence[str]) -> None:
    """Paths are logged, and kept in run.json."""
    for path in paths:
        if found := re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*:[^/@]*@", path):
            raise UserError(
                f"{found[1]}...: has a password in it, which would be in the log and in run.json; give it to Spark's "
                "configuration or to the environment."
            )


def _check_names(arguments: Sequence[str]) -> None:
    """Refuse arguments that spark-submit's Java could not read.

    Where its locale is not UTF-8 it hands over one ? for each byte beyond ASCII, so at least two for each character.
    """
    lost = [argument for argument in arguments if "??" in argument or "\N{REPLACEMENT CHARACTER}" in argument]
    if not lost or "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    encoding = system_property("sun.jnu.encoding")
    if not is_utf8(encoding):
        raise UserError(
            f"{lost[0]}: is what Java made of a name or a word in this locale, whose encoding is {encoding}; set "
            "LC_ALL=C.UTF-8 in the environment of spark-submit."
        )


def _screen() -> TextIO:
    """Where the user reads: spark-submit's terminal, where it has one; else our own stderr.

    spark-submit passes on what we write through a pipe, and a bar must not be drawn into a pipe.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ and not sys.stderr.isatty():
        with contextlib.suppress(OSError):
            # Not with open, which would empty it where it is a file.
            descriptor = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_NOCTTY)
            if os.isatty(descriptor):
                return os.fdopen(descriptor, "w")
            os.close(descriptor)
    return sys.stderr


def _log_to(screen: TextIO, log_format: str) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=screen)
    for handler in logging.getLogger().handlers:
        # py4j logs a traceback where SIGTERM interrupts it, and in every run that it closes; some to the root logger.
        handler.addFilter(lambda record: "py4j" not in record.pathname)
        if log_format == "json":
            handler.setFormatter(JsonFormatter())
    if log_format == "json":
        logging.captureWarnings(True)


def _print_error(program: str, sentence: str, log_format: str) -> None:
    """Say on stderr what is wrong, in the format of all other lines."""
    if log_format == "json":
        log.error(sentence)
    else:
        print(f"{program}: {sentence}", file=sys.stderr)


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _earlier(output: str, dimensions: int) -> PreviousModel:
    return warm_start.read(ids.directory_of(output), dimensions)


def _train(session: SparkSession, settings: Config, options: argparse.Namespace, place: Output, screen: TextIO) -> None:
    started = time.monotonic()
    earlier = None if options.init is None else _earlier(options.init, settings.training.dimensions)
    resolved = pipeline.resolve(session, settings)
    # "init" is there without --init too, so that a run without it does not resume one with it.
    identity = {} if earlier is None else {"digest": earlier.digest}
    decisive = {section: keys for section, keys in configuration.as_dict(settings).items() if section != "exchange"}
    del decisive["output"]["keep_runs"]
    fingerprint = {"input": list(options.input), **decisive, "resolved": resolved.facts(), "init": identity}
    # Of a finished run with an id only the fingerprint is looked at: the same one is done, another one is refused.
    is_done = options.run_id is not None and not options.overwrite and place.is_finished()
    options.begun = True
    with open_run(place, overwrite=options.overwrite, resume=options.resume or is_done, fingerprint=fingerprint) as run:
        describe = session.sparkContext.setJobGroup  # what Spark's interface shows of the jobs to come
        describe("corpus", "corpus: listing the input")
        found = corpus.list_files(session, options.input, settings.corpus.format, options.outputs)
        run.identify({"files": inputs.identity(found.files)})
        if run.is_published:
            log.info("%s is finished already: nothing to do.", options.output)
            return
        log.info("reading %s", " ".join(options.input))
        for line in inputs.summary(found):
            log.info(line)
        prepared, init = 0.0, None

        def on_corpus(text: pipeline.EncodedCorpus) -> None:
            nonlocal prepared
            prepared = time.monotonic() - started
            run.identify({"text": text.facts})  # "corpus" is the configuration's section

        def on_training(text: pipeline.EncodedCorpus, training: Training) -> None:
            nonlocal init
            if earlier is not None:
                init = _start_from(training, earlier, text.vocabulary, options.init)
            if (checkpoint := run.load_checkpoint()) is not None:
                position, parameters = checkpoint
                training.resume(position, parameters)
                log.info("resumed after epoch %d, sweep %d", position["epoch"], position["sweep"])
            observer.begin(training.state.epoch / settings.training.epochs)

        observer = EpochObserver(run, settings, options, screen)
        try:
            text, training = pipeline.train(
                corpus.read(session, options.input, settings.corpus, found),
                resolved,
                run.parameters_folder,
                on_corpus=on_corpus,
                on_training=on_training,
                on_progress=observer.on_progress,
                known=earlier.words if earlier is not None and settings.vocabulary.keep_missing else None,
                files=[file.path for file in found.files],
            )
        except NoPairsError:  # nor would there be any after a checkpoint
            run.leave_nothing()
            raise
        observer.close()
        run_facts: dict[str, Any] = {
            "status": "finished",
            "configuration": configuration.as_dict(settings),
            "resolved": {**resolved.facts(), "partitions_used": training.settings.partitions},
            "seed": settings.training.seed,
            "files": inputs.facts(found),
            "corpus": text.facts,
            "init": init,
            "last_epoch": observer.last,
            "seconds": round(time.monotonic() - started, 1),
            "prepare_seconds": round(prepared, 1),
            "versions": _versions(session),
        }
        if options.run_id is not None and not options.no_publish and isinstance(place, LocalOutput):
            ids.mark_pending(options.output)
        write = _writer(run, options.output, resolved, text.vocabulary, training, run_facts, options.input)
        run.publish(write, run_facts)
    log.info(
        "%d vectors of %d dimensions in %s, after %s",
        len(text.vocabulary), settings.training.dimensions, options.output,
        pipeline.duration(time.monotonic() - started),
        extra={"fields": {"output": options.output, "seconds": round(time.monotonic() - started, 1)}},
    )  # fmt: skip


def _start_from(training: Training, earlier: PreviousModel, vocabulary: Vocabulary, path: str) -> dict[str, Any]:
    """Begin the training with the vectors of an earlier run; return what run.json says of it."""
    begun = warm_start.begin(earlier, vocabulary)
    training.start_from(begun.rows)
    init = {"path": path, "digest": earlier.digest, **begun.change}
    init["held_out_loss"] = training.held_out_loss()
    log.info(warm_start.summary(path, init))
    return init


def _writer(
    run: Run,
    output: str,
    resolved: pipeline.ResolvedConfig,
    vocabulary: Vocabulary,
    training: Training,
    run_facts: dict[str, Any],
    paths: Sequence[str],
) -> Callable[[Path], None]:
    """Return the function that writes the vectors and the report to a directory."""
    center, context = training.vectors()
    settings = resolved.settings
    table_facts: dict[str, str | int | float] = {
        "words": len(vocabulary),
        "dimensions": settings.training.dimensions,
        "epochs": settings.training.epochs,
        "seed": settings.training.seed,
        "scheme": resolved.scheme,
        "partitions": resolved.partitions,
    }

    def write(directory: Path) -> None:
        words = vocabulary.words.cast(pa.string())
        embedding_writer.write(directory, words, vocabulary.counts, center, context, table_facts)
        if settings.output.report:
            facts = {**run_facts, "fingerprint": {"input": list(paths)}}
            name = output.rstrip("/").rpartition("/")[2]
            _report(directory, report.Finished(name, words, vocabulary.counts, center, facts, run.metrics()))

    return write


def _report(directory: Path, run: report.Finished) -> None:
    try:
        report.write(directory / report.NAME, report.page(run))
    except Exception as error:  # the vectors are what the run is for
        log.warning("%s was not made (%s: %s); jobs/report.py makes it", report.NAME, type(error).__name__, error)


def _move_current(directory: str, options: argparse.Namespace) -> None:
    """Move DIR/current to a run that has just finished; to one that had finished before, only if it was prevented.

    In a store a run moves the pointer while it holds the lock, or the next run does.
    """
    if not is_local(directory):
        log.info("%s/%s is run %s", directory, stored.CURRENT, ids.current(directory) or "none")
    elif not options.no_publish and ids.is_pending(options.output):
        before = ids.move_current(directory, options.run_id)
        log.info("%s/%s is run %s, it was %s", directory, ids.CURRENT, options.run_id, before or "none")
        if options.keep_runs:
            ids.remove_old(directory, options.keep_runs)
    else:
        log.info("%s/%s is left as it was: %s", directory, ids.CURRENT, ids.current(directory) or "none")


def _versions(session: SparkSession) -> dict[str, str]:
    libraries = {name: version(name) for name in ("numpy", "pyarrow", "scipy")}
    # A Spark that pip did not install has no metadata.
    return {"spark_w2v": __version__, "python": platform.python_version(), **libraries, "pyspark": session.version}
