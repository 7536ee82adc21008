"""Give words vectors from a text, with Spark: induce.py OUTPUT --input PATH ... --words FILE --to DIR [--overwrite]."""

import argparse
import contextlib
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v import config as configuration
from spark_w2v import pipeline
from spark_w2v.analysis import warm_start
from spark_w2v.command_line import EXIT_CODES, Parser
from spark_w2v.config import Config
from spark_w2v.config.text_sections import Vocabulary as VocabularyKeys
from spark_w2v.errors import OutputError, UserError
from spark_w2v.given.phrase_lists import FOLDER, read_phrases
from spark_w2v.given.word_lists import read_words
from spark_w2v.job import add_log_options, add_set_option, add_text_options, run_job, session_of_job
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.schedule import kept_share
from spark_w2v.spark import corpus
from spark_w2v.spark.induction import induce, why_none
from spark_w2v.spark.result_directories import check_directory, write_directory
from spark_w2v.spark.slots import check_local_disks, exchange_of, tasks_of
from spark_w2v.spark.vector_rows import vector_rows
from spark_w2v.spark.vocabulary import WordLists
from spark_w2v.storage.files import ABSENT, raise_if_passing
from spark_w2v.terminal import PhaseClock, StatusLine
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.messages import counted, some_words
from spark_w2v.text.summary import skipped, warnings
from spark_w2v.text.tokenizer import check_tokenizer
from spark_w2v.types import Float32Array

log = logging.getLogger("spark_w2v")

# Beginnings of the keys that have an effect, or are refused for a reason of their own.
USED = (
    "corpus.", "vocabulary.", "phrases.list", "phrases.passes", "exchange.plain",
    "training.window", "training.shrink_window", "training.seed",
)  # fmt: skip

COLUMNS = ("word", "count", "vector")  # and that of ids, where words have them


def main(arguments: Sequence[str] | None = None, program: str = "induce.py") -> int:
    """Run the command; return the exit code, as EXIT_CODES describes it."""
    parser = Parser(
        prog=program,
        description="Vectors of words that a run has none of, from the contexts in which a text has them.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="the output of a run, or a file in word2vec's text or binary format"
    )
    add_text_options(parser)
    parser.add_argument("--words", required=True, metavar="FILE", help="words that get vectors, one a line")
    add_set_option(parser, "the configuration of the run, which says how the text is cut")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    return run_job(program, options, lambda line, cleanup: _induce(options, line, cleanup))


def _induce(options: argparse.Namespace, line: StatusLine, cleanup: contextlib.ExitStack) -> None:
    output = warm_start.locate(options.output)
    settings, is_joined = _settings(output, options.set)
    is_composed = settings.corpus.tokenizer != "none"
    asked = read_words(options.words, "--words", is_composed)
    model = warm_start.read(str(output), is_composed=is_composed)
    new = asked.filter(pc.invert(pc.is_in(asked, value_set=model.known)))
    if not len(new):
        raise UserError(
            f"{options.words}: {options.output} has vectors of all its words, such as "
            f"{some_words(asked[:3].to_pylist())}; give words that it has none of."
        )
    if len(new) < len(asked):
        log.info("%s of %s left out, as they have vectors", f"{len(asked) - len(new):,}", counted(len(asked), "word"))
    check_tokenizer(settings.corpus)
    listed = settings.phrases.list or (str(output) if (output / FOLDER).is_dir() else "")
    if is_joined and not listed:
        raise OutputError(
            f"{output}: its run joined phrases, and its {FOLDER}/ is not there; copy the output again, or give the "
            "list with --set phrases.list=PATH."
        )
    phrases = read_phrases(listed) if listed else None

    session = session_of_job(line, cleanup)
    clock = PhaseClock(line, lambda: tasks_of(session.sparkContext))
    check_local_disks(session.sparkContext, exchange_of(settings), settings.corpus.group_by)
    check_directory(session, options.to, options.overwrite, COLUMNS)
    segments, files = corpus.read_text(session, options.input, settings.corpus, [options.to])
    lists = WordLists(given=pa.concat_arrays([model.known, new]), given_by=f"{options.output} and --words")
    text = pipeline.prepare(segments, settings, lists, files, clock.begin, phrases)
    cleanup.callback(text.release)
    for message in skipped(text.facts):
        log.info(message)
    for message in warnings(text.facts, bool(settings.corpus.group_by)):
        log.warning(message)
    clock.begin("summing the contexts")
    found, vectors = _vectors(text, model, settings)
    spellings = found.words.cast(pa.string())
    if not len(found):
        raise UserError(
            f"{options.words}: none of {counted(len(new), 'word')} occurs in the text next to a word with a vector, "
            f"such as {some_words(new[:3].to_pylist())}; check --words, and corpus.lower_case."
        )
    if len(absent := new.filter(pc.invert(pc.is_in(new, value_set=spellings)))):
        log.warning(
            "%s without a vector, as the text has them nowhere, or next to no word with one: %s",
            counted(len(absent), "word"), some_words(absent.to_pylist()),
        )  # fmt: skip
    clock.begin("writing the vectors")
    with vector_rows(session, found, vectors) as rows:
        write_directory(rows.drop("word_id"), options.to, options.overwrite, COLUMNS)
    clock.end()
    log.info(
        "%s of %s in %s, after %s",
        counted(len(found), "vector"), counted(model.dimensions, "dimension"), options.to,
        f"{sum(clock.seconds.values()):.1f} s",
    )  # fmt: skip


def _settings(output: Path, overrides: Sequence[str]) -> tuple[Config, bool]:
    """The configuration that cut the text of a run, without what decides on its words; and whether it joined phrases.

    Raises:
        OutputError: there is none.
        StorageError: it could not be read, and may be later.
        UserError: it does not go with the overrides.
    """
    sections, is_joined = {}, False
    if output.is_dir():
        place = f"{output}/run.json"
        try:
            found = json.loads(Path(place).read_text(encoding="utf-8"))["configuration"]
            sections = {name: dict(found[name]) for name in ("corpus", "vocabulary", "training")}
            of_phrases = dict(found.get("phrases", {}))  # which earlier versions did not have
            is_joined = bool(of_phrases.get("passes") or of_phrases.get("list"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise_if_passing(place, error, ABSENT)
            raise OutputError(f"{place}: does not say how the text was cut; give the output of a run.") from None
        # It chose the rows that the run was to read, which need not be those of this text.
        given = {one.partition("=")[0].strip() for one in overrides}
        if (where := sections["corpus"].pop("where", "")) and "corpus.where" not in given:
            log.warning("corpus.where of the run (%s) is not applied; --set corpus.where=... applies one", where)
        sections["vocabulary"] = {name: value for name, value in sections["vocabulary"].items() if name == "subsample"}
    for one in overrides:
        key = one.partition("=")[0].strip()
        if key in configuration.KEYS and not key.startswith(USED):
            raise UserError(f"--set {key}: has no effect on the vectors of words; leave it out.")
    # Earlier versions let pass what has no effect.
    settings = configuration.from_dict(sections, str(output), overrides, uses=configuration.KEYS)
    vocabulary, defaults = settings.vocabulary, VocabularyKeys()
    for key in vocabulary.__struct_fields__:
        if key != "subsample" and getattr(vocabulary, key) != getattr(defaults, key):
            raise UserError(f"--set vocabulary.{key}: the words are those of --words; leave it out.")
    if settings.phrases.passes:
        raise UserError("--set phrases.passes: phrases are those of the run, or of phrases.list; leave it out.")
    return settings, is_joined


def _vectors(
    text: pipeline.EncodedCorpus, model: warm_start.PreviousModel, settings: Config
) -> tuple[Vocabulary, Float32Array]:
    """The words that got vectors, and these, (n, D).

    Raises:
        UserError: too few known words occur.
    """
    counts, training = text.vocabulary.counts, settings.training
    initial = warm_start.begin(model, text.vocabulary)
    if (reason := why_none(counts, initial.is_known, model.dimensions)) is not None:
        raise UserError(f"{reason}; give more text with --input, such as that of the run.")

    def refuse(reason: str) -> NoReturn:
        raise UserError(f"{reason}.")

    with tempfile.TemporaryDirectory(prefix="spark_w2v-") as scratch:
        known = ParameterFiles.create(Path(scratch) / "known", len(counts), model.dimensions)
        for places, center, context in initial.rows:
            known.center[places], known.context[places] = center, context
        keep = kept_share(counts, settings.vocabulary.subsample)
        window = 0 if training.window == "sentence" else training.window
        found = [np.zeros(0, np.int64)]
        for part in induce(
            text.encoded,
            counts,
            initial.is_known,
            (known.center, known.context),
            keep,
            window,
            training.shrink_window,
            training.seed,
            fewer="give fewer words with --words",
            too_few=refuse,
        ):
            known.center[part.words] = part.center  # in a file, so that memory holds one part
            found.append(part.words)
        rows = np.concatenate(found)
        vectors = np.asarray(known.center[rows])  # a copy already, which stays when the file is gone
    v = text.vocabulary
    ids = None if v.ids is None else v.ids.take(rows)
    return Vocabulary(v.words.take(rows), v.counts[rows], v.total_words, v.distinct_words, ids), vectors
