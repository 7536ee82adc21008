"""A run of the training on files or on a DataFrame: from what is asked for to a published output."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_w2v import config as configuration
from spark_w2v import pipeline
from spark_w2v.analysis import report, warm_start
from spark_w2v.analysis.warm_start import PreviousModel
from spark_w2v.epoch_observer import EpochObserver
from spark_w2v.errors import NoPairsError, UserError
from spark_w2v.given.phrase_lists import write_phrases
from spark_w2v.given.rare_windows import write_windows
from spark_w2v.run_request import Request
from spark_w2v.runs import embedding_writer, ids, stored
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.outputs import Output, output_of
from spark_w2v.runs.places import absolute, is_local
from spark_w2v.runs.run import Run
from spark_w2v.runs.run_log import check_mlflow, check_tensorboard
from spark_w2v.skipgram.parameters import shortened
from spark_w2v.spark import corpus, inputs
from spark_w2v.spark.catalog_tables import check_table, write_table
from spark_w2v.spark.slots import check_local_disks, exchange_of, slots, tasks_of
from spark_w2v.spark.tables import id_type_of
from spark_w2v.spark.training import Training
from spark_w2v.spark.vector_rows import vector_rows, vector_schema
from spark_w2v.storage.store import needs_jvm
from spark_w2v.terminal import PhaseClock, StatusLine, duration
from spark_w2v.text.encoding import Vocabulary
from spark_w2v.text.messages import counted
from spark_w2v.text.tokenizer import check_tokenizer
from spark_w2v.versions import versions

if TYPE_CHECKING:
    from spark_w2v.spark.session import SparkSession
    from spark_w2v.spark.tables import DataFrame

log = logging.getLogger("spark_w2v")

STARTING = "starting Spark"  # the phase before run
DONE = "%s is finished already: nothing to do."


class _DoneError(Exception):
    """The run of a DataFrame was finished before."""


class TrainingRun:
    """One run; what it asks for is checked when this is made, before Spark starts.

    Args:
        line: where it says how far it is.

    Raises:
        UserError: something that is asked for cannot be.
        BusyError, StorageError, RefusedError: of the output.
    """

    def __init__(self, request: Request, line: StatusLine) -> None:
        self._request, self._line = request, line
        self._started, self._start = 0.0, datetime.now(UTC)
        self.clock = PhaseClock(line)
        check_tokenizer(request.settings.corpus)
        request.check_passwords()
        if request.init is not None:
            warm_start.check_place(request.init)
        self._lists, self._phrases = request.word_lists, request.phrases
        # Of a store that Hadoop opens, once there is a session.
        self._place = None if needs_jvm(request.output) else self._check_place()
        if request.tensorboard is not None:
            check_tensorboard(request.tensorboard, None if self._place is None else self._place.name)
        if request.mlflow:
            check_mlflow()
        # Last, as it is read to its end.
        self._earlier = None if request.init is None or needs_jvm(request.init) else self._read_init()

    def _read_init(self) -> PreviousModel:
        settings = self._request.settings
        dimensions, is_composed = settings.training.dimensions, settings.corpus.tokenizer != "none"
        return warm_start.read(str(self._request.init), dimensions, with_windows=True, is_composed=is_composed)

    def _check_place(self) -> Output:
        """Where the run writes to, checked before any work is done."""
        request = self._request
        if not request.publish and request.run_id is None:
            raise UserError("publish: False is for runs with a run_id; give one, or leave publish out.")
        place = output_of(
            request.output, request.run_id, move_pointer=request.publish, keep_runs=request.settings.output.keep_runs
        )
        if not request.publish and request.overwrite and ids.current(request.output) == request.run_id:
            raise UserError(
                f"{place.name}: is the run that readers get, so --overwrite would publish it; leave --no-publish out, "
                "or give another run id."
            )
        if not request.publish and request.settings.output.table:
            raise UserError(
                "output.table: would be replaced by a run that is not published; leave --no-publish out, or write the "
                "table from current/embeddings after publishing."
            )
        if not request.publish and request.settings.output.keep_runs:
            raise UserError(
                "output.keep_runs: earlier runs are removed when one is published; with --no-publish give --keep-runs "
                "to the command publish."
            )
        if request.settings.output.keep_runs and request.run_id is None and is_local(request.output):
            raise UserError("output.keep_runs: is for runs with a run id; give one (--run-id), or leave it out.")
        # With a run id a finished output is no mistake yet.
        place.check(overwrite=request.overwrite, resume=request.resume or request.run_id is not None)
        return place

    def run(self, session: "SparkSession") -> str:
        """Train and publish; return the path or URI of the output.

        Raises:
            UserError, DivergedError, SparkLostError: as pipeline.train.
            UserError, BusyError, StorageError: of the output.
        """
        self._started = time.monotonic()
        self.clock.detail = lambda: tasks_of(session.sparkContext)
        place = self._check_place() if self._place is None else self._place
        if not self._train(session, place) and self._request.run_id is not None:
            _move_current(self._request, place.name, is_new=False)
        return place.name

    def _train(self, session: "SparkSession", place: Output) -> bool:
        """Train, publish and move current; return False where that was done before."""
        request, settings = self._request, self._request.settings
        earlier = self._read_init() if request.init is not None and self._earlier is None else self._earlier
        resolved = pipeline.resolve(session, settings)
        if (unused := resolved.unused_key()) is not None:
            log.warning('%s is not used, as training.scheme is "%s"', unused, resolved.scheme)
        check_local_disks(session.sparkContext, exchange_of(settings), settings.corpus.group_by)
        request.begun = True
        with Run(
            place, overwrite=request.overwrite, resume=request.resume, keeps_finished=request.run_id is not None,
            fingerprint=request.fingerprint(resolved, None if earlier is None else earlier.digest),
            tolerates_changes=request.tolerates_changes,
        ) as run:  # fmt: skip
            found = self._list_files(session)
            if found is not None:
                run.identify({"files": inputs.identity(found.files)})
            if run.is_published and isinstance(request.input, Sequence):
                log.info(DONE, place.name)
                return False
            table = settings.output.table
            if table:
                check_table(session, table)
            pipeline.check_cluster(session, resolved, self.clock.begin)
            segments = self._segments(session, found)  # of events, which are read here
            if table:
                check_table(session, table, vector_schema(id_type_of(segments)))
            init: dict[str, Any] | None = None
            parameters = request.parameters() if request.mlflow and not run.is_published else None
            observer = EpochObserver(run, settings, self._line, request.callbacks, request.tensorboard, parameters)

            def on_corpus(text: pipeline.EncodedCorpus) -> None:
                texts.append(text)
                run.identify({"text": text.facts})  # "corpus" is the configuration's section
                if run.is_published:  # only the words tell whether rows are the same
                    raise _DoneError

            def on_training(text: pipeline.EncodedCorpus, training: Training) -> bool:
                nonlocal init
                if earlier is not None:
                    init = self._start_from(training, earlier, text)
                if (checkpoint := run.load_checkpoint()) is not None:
                    position, parameters = checkpoint
                    training.resume(position, parameters)
                    log.info("resumed after epoch %d, sweep %d", position["epoch"], position["sweep"])
                return observer.begin(training.state.epoch)

            texts: list[pipeline.EncodedCorpus] = []
            averages = settings.training.average_with_init and earlier is not None and earlier.trained is not None
            if earlier is not None and earlier.trained is None:
                log.info("%s does not say what its vectors were trained on, so they are not averaged", request.init)
            known = earlier.known if earlier is not None and settings.vocabulary.keep_missing else None
            try:
                text, training = pipeline.train(
                    segments,
                    resolved,
                    run.parameters_folder,
                    on_corpus=on_corpus,
                    on_checked=run.forget_earlier,
                    on_training=on_training,
                    on_progress=observer.on_progress,
                    on_phase=self.clock.begin,
                    lists=replace(self._lists, known=known),
                    averages=averages,
                    listed=self._phrases,
                    windows=None if earlier is None else earlier.windows,
                    files=found,
                    in_memory=request.in_memory,
                )
                if init is not None and training.averages:
                    self._average(training, init)
                run_facts = self._facts(session, found, resolved, text, training, init, observer)
                if request.run_id is not None and request.publish and isinstance(place, LocalOutput):
                    ids.mark_pending(place.name)
                if table:
                    self._write_table(session, text.vocabulary, training)
                run.publish(self._writer(run, place.name, resolved, text, training, run_facts), run_facts)
                observer.finish()
                if request.run_id is not None:  # before a server of MLflow is waited for
                    _move_current(request, place.name, is_new=True)
                observer.publish(place.target if isinstance(place, LocalOutput) else None)
            except _DoneError:
                log.info(DONE, place.name)
                return False
            except NoPairsError:  # nor would there be any in the same epochs again
                run.leave_nothing()
                raise
            finally:
                try:
                    for text in texts:
                        text.release()
                finally:  # last, as it may wait for a server of MLflow, and be interrupted
                    observer.close()
        seconds = time.monotonic() - self._started
        log.info(
            "%s of %s in %s, after %s",
            counted(len(text.vocabulary), "vector"), counted(settings.training.dimensions, "dimension"), place.name,
            duration(seconds),
            extra={"fields": {"output": place.name, "seconds": round(seconds, 1)}},
        )  # fmt: skip
        return True

    def _start_from(self, training: Training, earlier: PreviousModel, text: pipeline.EncodedCorpus) -> dict[str, Any]:
        """Begin the training with the vectors of an earlier run; return what run.json says of it."""
        path = str(self._request.init)
        initial = warm_start.begin(earlier, text.vocabulary)
        if (warning := warm_start.warning(path, initial.change)) is not None:
            log.warning(warning)
        training.start_from(initial.rows)
        training.count_before(initial.trained, initial.is_known)
        induced = 0
        if self._request.settings.vocabulary.induce:
            self.clock.begin("new words")
            for part in training.induce(initial.is_known):
                training.start_from([(part.words, shortened(part.center), shortened(part.context))])
                induced += part.words.size
        init = {"path": path, "digest": earlier.digest, **initial.change, "induced": induced}
        init["held_out_loss"] = training.held_out_loss()
        log.info(warm_start.summary(path, init))
        return init

    def _average(self, training: Training, init: dict[str, Any]) -> None:
        """Average what the run has made with what it began with, and add to what run.json says of it."""
        self.clock.begin("averaging")
        before = training.held_out_loss()
        training.average()
        if self._request.settings.vocabulary.induce:
            training.turn_new_words()
        init["held_out_loss_averaged"] = after = training.held_out_loss()
        losses = "" if after is None or before is None else f": held out {after:.4f} instead of {before:.4f}"
        log.info("averaged with the vectors of %s%s", init["path"], losses, extra={"fields": {"init": init}})

    def _write_table(self, session: "SparkSession", vocabulary: Vocabulary, training: Training) -> None:
        """Write the table before the output is published: a run that fails here can be resumed."""
        self.clock.begin("writing the table")
        run = self._request.run_id or self._start.strftime("%Y%m%dT%H%M%SZ")
        change = "--resume goes on from the last checkpoint, and writes it before the output"
        with vector_rows(session, vocabulary, training.vectors()[0]) as rows:
            write_table(rows, self._request.settings.output.table, run, change)

    def _list_files(self, session: "SparkSession") -> inputs.Inputs | None:
        """The files of the input; None of a DataFrame or of tables."""
        request = self._request
        if not isinstance(request.input, Sequence) or request.settings.corpus.format == "table":
            return None
        session.sparkContext.setJobDescription("corpus: listing the input")
        self.clock.begin("listing the input")
        written = [request.output] if request.tensorboard is None else [request.output, request.tensorboard]
        return corpus.list_files(session, request.paths, request.settings.corpus.format, list(map(absolute, written)))

    def _segments(self, session: "SparkSession", found: inputs.Inputs | None) -> "DataFrame":
        request = self._request
        self.clock.begin("reading the text")
        session.sparkContext.setJobDescription("corpus: reading the text and cutting it in words")
        if not isinstance(request.input, Sequence):
            log.info("reading a DataFrame")
            return corpus.read_text_frame(request.input, request.settings.corpus)
        log.info("reading %s", " ".join(request.paths))
        if found is None:
            return corpus.read_tables(session, request.paths, request.settings.corpus)
        for line in inputs.summary(found):
            log.info(line)
        return corpus.read(session, request.paths, request.settings.corpus, found)

    def _facts(
        self,
        session: "SparkSession",
        found: inputs.Inputs | None,
        resolved: pipeline.ResolvedConfig,
        text: pipeline.EncodedCorpus,
        training: Training,
        init: dict[str, Any] | None,
        observer: EpochObserver,
    ) -> dict[str, Any]:
        """Return what run.json says."""
        self.clock.begin("writing the vectors")
        phases = self.clock.so_far()
        others = (STARTING, "training", "averaging", "writing the vectors")
        return {
            "status": "finished",
            "started": self._start.isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "configuration": configuration.as_dict(self._request.settings),
            "resolved": {**resolved.facts(), "partitions_used": training.settings.partitions},
            "seed": self._request.settings.training.seed,
            "files": None if found is None else inputs.facts(found),
            "corpus": text.facts,
            "init": init,
            "last_epoch": observer.last,
            "stopped_early": observer.stopped,
            "seconds": round(time.monotonic() - self._started, 1),
            "prepare_seconds": round(sum(s for name, s in phases.items() if name not in others), 1),
            "phases": phases,
            "spark": {
                "version": session.version,
                "master": session.sparkContext.master,
                "cores": slots(session.sparkContext)[0],
            },
            "versions": versions(session.version),
        }

    def _writer(
        self,
        run: Run,
        output: str,
        resolved: pipeline.ResolvedConfig,
        text: pipeline.EncodedCorpus,
        training: Training,
        run_facts: dict[str, Any],
    ) -> Callable[[Path], None]:
        """Return the function that writes the vectors and the report to a directory."""
        center, context = training.vectors()
        settings, vocabulary = resolved.settings, text.vocabulary
        t = settings.training
        table_facts: dict[str, str | int | float] = {
            "words": len(vocabulary), "dimensions": t.dimensions, "epochs": t.epochs, "seed": t.seed,
            "scheme": resolved.scheme, "partitions": resolved.partitions,
        }  # fmt: skip

        def write(directory: Path) -> None:
            words = vocabulary.words.cast(pa.string())
            embedding_writer.write(
                directory,
                words,
                vocabulary.counts,
                center,
                context,
                table_facts,
                vocabulary.ids,
                training.trained(),
            )
            if text.phrases is not None:
                write_phrases(directory, text.phrases)
            if text.windows is not None:
                write_windows(directory, text.windows)
            if settings.output.report:
                self.clock.begin("drawing the report")
                facts = {**run_facts, "fingerprint": {"input": self._request.paths}}
                name = output.rstrip("/").rpartition("/")[2]
                _report(directory, report.Finished(name, words, vocabulary.counts, center, facts, run.metrics()))
                self.clock.begin("publishing")

        return write


def _report(directory: Path, run: report.Finished) -> None:
    try:
        report.write(directory / report.NAME, report.page(run))
    except Exception as error:  # the vectors are what the run is for
        log.warning("%s was not made (%s: %s); the command report makes it", report.NAME, type(error).__name__, error)


def _move_current(request: Request, output: str, is_new: bool) -> None:
    """Move DIR/current to a run that has just finished; to one that had finished before, only if it was prevented.

    In a store a run moves the pointer while it holds the lock, or the next run does.
    """
    directory, run_id = request.output, str(request.run_id)
    if not is_local(directory):
        log.info("%s/%s is run %s", directory, stored.CURRENT, ids.current(directory) or "none")
    elif request.publish and (is_new or ids.is_pending(output)):
        before = ids.move_current(directory, run_id, request.settings.output.keep_runs)
        log.info("%s/%s is run %s, it was %s", directory, ids.CURRENT, run_id, before or "none")
    else:
        log.info("%s/%s is left as it was: %s", directory, ids.CURRENT, ids.current(directory) or "none")
