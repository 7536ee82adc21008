"""Find phrases with Spark: phrases.py CONFIG --input PATH ... --to DIR [--overwrite]."""

import argparse
import contextlib
import logging
from collections.abc import Sequence

import msgspec

from spark_w2v import config as configuration
from spark_w2v import pipeline
from spark_w2v.command_line import EXIT_CODES, Parser
from spark_w2v.config import KEYS, Config
from spark_w2v.errors import UserError
from spark_w2v.job import add_log_options, add_set_option, add_text_options, check_order, run_job, session_of_job
from spark_w2v.spark import corpus
from spark_w2v.spark.id_checks import check_ids
from spark_w2v.spark.phrases import with_phrases
from spark_w2v.spark.result_directories import check_directory, write_directory
from spark_w2v.spark.slots import check_local_disks, exchange_of, tasks_of
from spark_w2v.spark.tables import SEGMENTS_LEVEL
from spark_w2v.terminal import PhaseClock, StatusLine
from spark_w2v.text.messages import counted
from spark_w2v.text.phrases import PHRASES
from spark_w2v.text.summary import shown, skipped, warnings
from spark_w2v.text.tokenizer import check_tokenizer

log = logging.getLogger("spark_w2v")


def main(arguments: Sequence[str] | None = None, program: str = "phrases.py") -> int:
    """Run the command; return the exit code, as EXIT_CODES describes it."""
    parser = Parser(
        prog=program,
        description="Find pairs of words that are phrases; a run joins them with phrases.list.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, as of the training (defaults)")
    add_text_options(parser)
    add_set_option(parser, "the file")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    check_order(parser, options)
    return run_job(program, options, lambda line, cleanup: _find(options, line, cleanup))


def _settings(options: argparse.Namespace) -> Config:
    """Return the configuration, with one pass at least."""
    # It finds phrases where phrases.passes is 0 too.
    settings = configuration.load(options.config, options.set, [key for key in KEYS if key.startswith("phrases.")])
    if settings.phrases.list:
        raise UserError(
            "phrases.list: names phrases that are there already, and this command finds them; leave it out, or train."
        )
    check_tokenizer(settings.corpus)
    return msgspec.structs.replace(
        settings, phrases=msgspec.structs.replace(settings.phrases, passes=max(1, settings.phrases.passes))
    )


def _find(options: argparse.Namespace, line: StatusLine, cleanup: contextlib.ExitStack) -> None:
    settings = _settings(options)
    session = session_of_job(line, cleanup)
    clock = PhaseClock(line, lambda: tasks_of(session.sparkContext))
    check_local_disks(session.sparkContext, exchange_of(settings), settings.corpus.group_by)
    check_directory(session, options.to, options.overwrite, PHRASES.names)
    clock.begin("reading the text")
    segments, files = corpus.read_text(session, options.input, settings.corpus, [options.to])
    check_ids(segments, "phrases.passes")
    segments = segments.persist(SEGMENTS_LEVEL)
    counters, bad_lines, _ = pipeline.check_text(segments, settings, files)
    facts = {**counters, "first_bad_lines": shown(bad_lines)}
    for message in skipped(facts):
        log.info(message)
    for message in warnings(facts, bool(settings.corpus.group_by)):
        log.warning(message)
    clock.begin("finding phrases")
    joined = with_phrases(
        segments, settings.phrases, None, cleanup, cleanup, bool(settings.corpus.weight), is_joined=False
    )
    clock.begin("writing the phrases")
    write_directory(session.createDataFrame(joined.phrases).coalesce(1), options.to, options.overwrite, PHRASES.names)
    clock.end()
    log.info(
        "%s in %s, after %s",
        counted(len(joined.phrases), "phrase"), options.to, f"{sum(clock.seconds.values()):.1f} s",
    )  # fmt: skip
