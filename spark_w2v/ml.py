"""The training as a stage of a Spark ML pipeline: SkipGram, which is fitted to a SkipGramModel.

Names and meanings are those of pyspark.ml.feature.Word2Vec, where it has them; what it does not have is called as in
the configuration, in Spark's spelling. Defaults are the configuration's.
"""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable
from pyspark.sql import DataFrame

from spark_w2v import pipeline
from spark_w2v.callbacks import EpochCallback, EpochCallbacks, check_callbacks
from spark_w2v.model import SkipGramModel as SkipGramModel
from spark_w2v.progress_text import epoch_line, progress_text
from spark_w2v.spark import corpus
from spark_w2v.spark.model_files import StageReadable, StageWriter
from spark_w2v.spark.session import check_batch, restored_caller
from spark_w2v.spark.slots import tasks_of
from spark_w2v.spark.stage_params import DEFAULTS, Options, given_options, named_as_params, set_checked, showing
from spark_w2v.spark.stage_settings import TrainingParams
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Progress
from spark_w2v.spark.training_summary import TrainingSummary
from spark_w2v.terminal import PhaseClock, shown

log = logging.getLogger("spark_w2v")


class SkipGram(TrainingParams, Estimator["SkipGramModel"], StageReadable["SkipGram"], DefaultParamsWritable):
    """Trains word vectors on a column of words, `array<string>`; the same training as jobs/train.py.

    The result depends on the rows, the Params and the seed, with numPartitions = 0 on the number of Spark's slots, and
    neither on the order of the rows nor on how they are partitioned. The DataFrame is computed twice; persist it if
    that is expensive.
    """

    @showing(Options, DEFAULTS)
    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self._callbacks: list[EpochCallback] = []
        self._progress: bool | None = None
        self.setParams(**options)

    @showing(Options, DEFAULTS)
    def setParams(self, **options: Unpack[Options]) -> "SkipGram":
        """Set Params; a value out of its range is refused here, and all of them stay as they were.

        Raises:
            UserError: one sentence.
        """
        return set_checked(self, given_options(self, options))

    def setCallbacks(self, callbacks: Sequence[EpochCallback]) -> "SkipGram":
        """Call these after each epoch with its metrics, a dict as in metrics.jsonl; not saved with the stage.

        The training ends after an epoch for which one of them returns true.

        Raises:
            UserError: they are not a list of functions.
        """
        check_callbacks(callbacks)
        self._callbacks = list(callbacks)
        return self

    def setProgress(self, progress: bool | None) -> "SkipGram":
        """Show a bar and a line per epoch, or not; None, the default, does in a terminal and in a notebook."""
        self._progress = progress
        return self

    def write(self) -> StageWriter:
        return StageWriter(self)

    def _fit(self, dataset: DataFrame) -> "SkipGramModel":
        check_batch(dataset, f"{self.uid}: the DataFrame")
        words_column = self.words_column(dataset)
        weight = self.weight_column(dataset.schema)
        session, settings, started = dataset.sparkSession, self.settings(), time.monotonic()
        callbacks, epochs = EpochCallbacks(settings, self._callbacks), list[dict[str, Any]]()
        with (
            restored_caller(session.sparkContext),
            self.own_words(),
            shown(self._progress) as line,
            contextlib.ExitStack() as cleanup,
        ):
            clock = PhaseClock(line, lambda: tasks_of(session.sparkContext))

            def on_progress(training: Training, progress: Progress) -> bool:
                line.progress(progress.done, progress_text(progress, settings.training.epochs))
                if progress.metrics is None:
                    return False
                epochs.append(progress.metrics)
                log.info(epoch_line(progress, settings.training.epochs), extra={"fields": progress.metrics})
                return callbacks(progress.metrics)

            # In Spark's own temporary directory, which it removes should this process not come to it.
            folder = Path(tempfile.mkdtemp(prefix="parameters-", dir=session.sparkContext._temp_dir))
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            resolved = pipeline.resolve(session, settings)
            if (unused := resolved.unused_key()) is not None:
                log.warning('%s: %s is not used, as scheme is "%s"', self.uid, named_as_params(unused), resolved.scheme)
            pipeline.check_cluster(session, resolved, clock.begin)
            clock.begin("counting the rows")
            text, training = pipeline.train(
                corpus.read_frame(dataset, words_column, self.getMaxSentenceLength(), weight),
                resolved,
                folder,
                on_corpus=lambda text: cleanup.callback(text.release),
                on_progress=on_progress,
                on_phase=clock.begin,
                check=self.check_weights,
                in_memory=True,
            )
            vectors = training.vectors()[0][:]  # a model has its vectors in memory
        words = text.vocabulary.words.cast(pa.string())
        stopped = callbacks.reason if len(epochs) < settings.training.epochs else None
        stopped = None if stopped is None else named_as_params(stopped)
        summary = TrainingSummary(epochs, round(time.monotonic() - started, 3), stopped)
        model = SkipGramModel()._with(words, text.vocabulary.counts, vectors, summary, text.vocabulary.id_type)
        return self._copyValues(model._resetUid(self.uid))
