"""What the training job does: its arguments, its session, the steps in turn, and what the user sees of them."""

import argparse
import contextlib
import logging
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pyarrow as pa
from tqdm import tqdm

from spark_w2v import config as configuration
from spark_w2v import pipeline
from spark_w2v.analysis import report, warm_start
from spark_w2v.analysis.warm_start import PreviousModel
from spark_w2v.command_line import EXIT_CODES, FAILED, TRY_AGAIN, USERS_MISTAKE, Parser, whole_number
from spark_w2v.config import LARGEST_INT, Config
from spark_w2v.errors import (
    BusyError,
    DivergedError,
    NoPairsError,
    NotEnoughMemoryError,
    OutputError,
    RefusedError,
    SparkLostError,
    StorageError,
    UserError,
)
from spark_w2v.runs import embeddings, ids, stored
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.runs.run import Output, Run, open_run, output_of
from spark_w2v.runs.run_log import JsonFormatter, TensorBoardWriter, check_tensorboard
from spark_w2v.spark import corpus, inputs
from spark_w2v.spark.java_errors import is_interruption, lost, translate_error
from spark_w2v.spark.session import SparkSession, start_session, system_property
from spark_w2v.spark.training import Training
from spark_w2v.storage.store import needs_jvm
from spark_w2v.text.tokenizer import check_tokenizer

log = logging.getLogger("spark_w2v")


def train(arguments: Sequence[str] | None = None) -> int:
    """Train embeddings from the command line; the exit code, as EXIT_CODES describes it."""
    parser = Parser(prog="train.py", description="Train word embeddings on text, with Spark.", epilog=EXIT_CODES)
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, such as conf/local.toml")
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
    screen = _screen()
    _log_to(screen, options.log_format)
    signal.signal(signal.SIGTERM, _stop)
    session: SparkSession | None = None
    options.begun = False
    try:
        _check_names(sys.argv[1:] if arguments is None else arguments)
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
        if place is None:
            place = _place(options)
        options.output = place.name
        _train(session, settings, options, place, screen)
        if options.run_id is not None:
            _move_current(directory, options)
        return 0
    except RefusedError as error:  # by a store that let us write before: permissions expire
        _print_error(str(error), options.log_format)
        return TRY_AGAIN if options.begun else USERS_MISTAKE
    except (BusyError, StorageError) as error:
        _print_error(str(error), options.log_format)
        return TRY_AGAIN
    except (UserError, OutputError, NoPairsError, NotEnoughMemoryError) as error:
        _print_error(str(error), options.log_format)
        return USERS_MISTAKE
    except SparkLostError as error:
        _print_error(f"{error}; try again, with --resume to go on from the last checkpoint.", options.log_format)
        return TRY_AGAIN
    except DivergedError as error:
        _print_error(str(error), options.log_format)
        return FAILED
    except KeyboardInterrupt:
        _print_error("stopped; --resume goes on from the last checkpoint.", options.log_format)
        return FAILED
    except Exception as error:
        if is_interruption(error):
            _print_error("stopped; --resume goes on from the last checkpoint.", options.log_format)
            return FAILED
        if (reason := lost(error)) is not None:
            _print_error(f"{reason}; try again, with --resume to go on from the last checkpoint.", options.log_format)
            return TRY_AGAIN
        sentence = translate_error(error)
        if sentence is None:
            raise
        _print_error(sentence, options.log_format)
        return USERS_MISTAKE
    finally:
        if session is not None:
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
    if not inputs.is_utf8(encoding):
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


def _print_error(sentence: str, log_format: str) -> None:
    """Say on stderr what is wrong, in the format of all other lines."""
    if log_format == "json":
        log.error(sentence)
    else:
        print(f"train.py: {sentence}", file=sys.stderr)


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _earlier(output: str, dimensions: int) -> PreviousModel:
    return warm_start.read(ids.directory_of(output), dimensions)


def _train(session: SparkSession, settings: Config, options: argparse.Namespace, place: Output, screen: TextIO) -> None:
    started = time.monotonic()
    earlier = None if options.init is None else _earlier(options.init, settings.training.dimensions)
    plan = pipeline.resolve(session, settings)
    # "init" is there without --init too, so that a run without it does not resume one with it.
    identity = {} if earlier is None else {"digest": earlier.digest}
    decisive = {section: keys for section, keys in configuration.as_dict(settings).items() if section != "exchange"}
    del decisive["output"]["keep_runs"]
    fingerprint = {"input": list(options.input), **decisive, "resolved": plan, "init": identity}
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
        known = earlier.words if earlier is not None and settings.vocabulary.keep_missing else None
        segments = corpus.read(session, options.input, settings.corpus, found)
        text = pipeline.prepare(segments, settings, known, [file.path for file in found.files])
        vocabulary, facts = text.vocabulary, text.facts
        prepared = time.monotonic() - started
        run.identify({"text": facts})  # "corpus" is the configuration's section
        for line in pipeline.summary(facts):
            log.info(line)
        for line in pipeline.warnings(facts):
            log.warning(line)
        training = pipeline.build_training(text, settings, plan, run.parameters_folder)
        init: dict[str, Any] | None = None
        if earlier is not None:
            begun = warm_start.begin(earlier, vocabulary)
            training.start_from(begun.rows)
            init = {"path": options.init, **identity, **begun.change}
            init["held_out_loss"] = training.held_out_loss()
            log.info(warm_start.summary(options.init, init))
        if (checkpoint := run.load_checkpoint()) is not None:
            position, parameters = checkpoint
            training.resume(position, parameters)
            log.info("resumed after epoch %d, sweep %d", position["epoch"], position["sweep"])
        try:
            last = _epochs(training, run, settings, options, screen)
        except NoPairsError:  # nor would there be any after a checkpoint
            run.leave_nothing()
            raise
        center, context = training.vectors()
        versions = {name: version(name) for name in ("numpy", "pyarrow", "scipy")}
        versions["pyspark"] = session.version  # a Spark that pip did not install has no metadata
        run_facts: dict[str, Any] = {
            "status": "finished",
            "configuration": configuration.as_dict(settings),
            "resolved": {**plan, "partitions_used": training.settings.partitions},
            "seed": settings.training.seed,
            "files": inputs.facts(found),
            "corpus": facts,
            "init": init,
            "last_epoch": last,
            "seconds": round(time.monotonic() - started, 1),
            "prepare_seconds": round(prepared, 1),
            "versions": {"spark_w2v": _own_version(), "python": platform.python_version(), **versions},
        }
        table_facts: dict[str, str | int | float] = {
            "words": len(vocabulary),
            "dimensions": settings.training.dimensions,
            "epochs": settings.training.epochs,
            "seed": settings.training.seed,
            "scheme": plan["scheme"],
            "partitions": plan["partitions"],
        }

        def write(directory: Path) -> None:
            words = vocabulary.words.cast(pa.string())
            embeddings.write(directory, words, vocabulary.counts, center, context, table_facts)
            if settings.output.report:
                facts = {**run_facts, "fingerprint": {"input": list(options.input)}}
                name = options.output.rstrip("/").rpartition("/")[2]
                _report(directory, report.Finished(name, words, vocabulary.counts, center, facts, run.metrics()))

        if options.run_id is not None and not options.no_publish and isinstance(place, LocalOutput):
            ids.mark_pending(options.output)
        run.publish(write, run_facts)
    log.info(
        "%d vectors of %d dimensions in %s, after %s",
        len(vocabulary), settings.training.dimensions, options.output, pipeline.duration(time.monotonic() - started),
        extra={"fields": {"output": options.output, "seconds": round(time.monotonic() - started, 1)}},
    )  # fmt: skip


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


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version("spark_w2v")
    except PackageNotFoundError:  # shipped by --py-files, or run from a checkout
        return "source"


def _epochs(
    training: Training, run: Run, settings: Config, options: argparse.Namespace, screen: TextIO
) -> dict[str, Any] | None:
    """Train, and meanwhile show where it is and keep what --resume needs; the last epoch's metrics."""
    started, last = time.monotonic(), None
    resumed = training.state.epoch / settings.training.epochs
    bar = tqdm(
        total=1.0, initial=resumed, disable=options.log_format == "json" or not screen.isatty(), file=screen,
        leave=False,
        bar_format="{percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left{postfix}",
    )  # fmt: skip
    epochs, checkpoint = settings.training.epochs, settings.output.checkpoint
    curves = TensorBoardWriter(check_tensorboard(options.tensorboard)) if options.tensorboard is not None else None
    for progress in training.run():
        doing = "drawing pairs" if progress.is_drawing else f"loss {pipeline.shown_loss(progress.loss)}"
        bar.set_postfix_str(f" epoch {progress.epoch + 1}/{epochs}, {doing}", refresh=False)
        bar.update(progress.done - bar.n)
        if progress.metrics is not None:
            last = progress.metrics
            run.append_metrics(last)
            if curves is not None:
                curves.add(last)
            left = (time.monotonic() - started) * (1 - progress.done) / max(progress.done - resumed, 1e-9)
            with tqdm.external_write_mode(file=screen):
                log.info(pipeline.epoch_line(progress, epochs, left), extra={"fields": last})
        ended = progress.metrics is not None
        if progress.is_saved and progress.done < 1 and (checkpoint == "sweep" or (checkpoint == "epoch" and ended)):
            run.save_checkpoint(training.state.position(), training.state.parameters)
    bar.close()
    if curves is not None:
        curves.close()
    return last
