"""Find the nearest words of every word with Spark: all_neighbors.py OUTPUT --to DIR [--top 20] [--words FILE]."""

import argparse
import contextlib
import logging
from collections.abc import Sequence

from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.command_line import EXIT_CODES, LARGEST_TOP, OUTPUT_HELP, Parser, whole_number
from spark_w2v.given.word_lists import read_words
from spark_w2v.job import add_log_options, run_job, session_of_job
from spark_w2v.runs.embeddings import iter_vectors
from spark_w2v.runs.ids import directory_of
from spark_w2v.spark.all_neighbors import all_neighbors, known_rows, with_ids
from spark_w2v.spark.catalog_tables import check_table, write_table
from spark_w2v.spark.result_directories import check_directory, write_directory
from spark_w2v.spark.slots import tasks_of
from spark_w2v.terminal import PhaseClock, StatusLine
from spark_w2v.text.encoding import id_type_name
from spark_w2v.text.messages import counted

log = logging.getLogger("spark_w2v")

COLUMNS = ("word", "neighbor", "rank", "cosine")  # and those of ids, where words have them


def main(arguments: Sequence[str] | None = None, program: str = "all_neighbors.py") -> int:
    """Run the command; return the exit code, as EXIT_CODES describes it."""
    parser = Parser(
        prog=program, description="The nearest words of every word, by the cosine of their vectors.", epilog=EXIT_CODES
    )
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--to", metavar="DIR", help="a directory for Parquet files, in any file system of Hadoop's")
    to.add_argument("--to-table", metavar="NAME", help="a table of Spark's catalog")
    parser.add_argument(
        "--top", type=whole_number(LARGEST_TOP), default=20, metavar="N", help="neighbors of a word (20)"
    )
    parser.add_argument("--words", metavar="FILE", help="only for these words, one a line")
    parser.add_argument("--overwrite", action="store_true", help="replace the directory of an earlier result")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    return run_job(program, options, lambda line, cleanup: _find(options, line, cleanup))


def _find(options: argparse.Namespace, line: StatusLine, cleanup: contextlib.ExitStack) -> None:
    asked = None if options.words is None else read_words(options.words, "--words")
    output = directory_of(options.output)
    found = iter_vectors(output)
    rows = None if asked is None else known_rows(found.words, asked)
    session = session_of_job(line, cleanup)
    clock = PhaseClock(line, lambda: tasks_of(session.sparkContext))
    if options.to is not None:
        check_directory(session, options.to, options.overwrite, COLUMNS)
    else:
        check_table(session, options.to_table)
    clock.begin("sending the vectors")
    neighbors = all_neighbors(
        session, found.words, map(unit_vectors, found.chunks), found.dimensions, options.top, rows
    )
    neighbors = with_ids(neighbors, id_type_name(found.id_type))
    session.sparkContext.setJobDescription("neighbors: finding the nearest words of every word")
    clock.begin("finding the neighbors")
    if options.to is not None:
        write_directory(neighbors, options.to, options.overwrite, COLUMNS)
    else:
        check_table(session, options.to_table, neighbors.schema)
        write_table(neighbors, options.to_table, output.name, "run the command again")
    clock.end()
    count = len(found.words) if rows is None else rows.size
    log.info(
        "the %d nearest of %s in %s, after %s",
        min(options.top, len(found.words) - 1), counted(count, "word"), options.to or options.to_table,
        f"{sum(clock.seconds.values()):.1f} s",
    )  # fmt: skip
