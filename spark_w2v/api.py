"""Training from Python: the job as a function."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import config as configuration
from spark_w2v.callbacks import EpochCallback, check_callbacks
from spark_w2v.config.paths import with_home
from spark_w2v.errors import UserError, is_passed_on
from spark_w2v.model import SkipGramModel
from spark_w2v.run_request import Request
from spark_w2v.spark.java_errors import lost_error, translate_error
from spark_w2v.spark.session import check_batch, check_running, restored_caller
from spark_w2v.spark.shared_session import used_session
from spark_w2v.terminal import shown
from spark_w2v.training_run import STARTING, TrainingRun


def train(
    input: str | Path | Sequence[str | Path] | DataFrame,
    output: str | Path,
    *,
    config: str | Path | Mapping[str, Mapping[str, Any]] | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    run_id: str | int | None = None,
    publish: bool = True,
    tensorboard: str | Path | None = None,
    mlflow: bool = False,
    callbacks: Sequence[EpochCallback] = (),
    spark: SparkSession | None = None,
    progress: bool | None = None,
) -> SkipGramModel:
    """Train word embeddings as jobs/train.py does, publish them, and return them.

    A Spark session that is there already is used and left as it was; one that had to be started is stopped at the end.

    Args:
        input: files, directories or globs; names of tables, where `corpus.format` is "table"; or a DataFrame, whose
            column `corpus.column` holds text, or ready-made words where `corpus.tokenizer` is "none".
        output: a directory of this host, or the URI of one in a store.
        config: a TOML file, or a mapping from section to key to value; what it does not give keeps its default.
        init, resume, overwrite, run_id, tensorboard, mlflow: the options of jobs/train.py; a run_id may be a number.
        publish: False is --no-publish.
        callbacks: called after each epoch with its metrics, a mapping as in metrics.jsonl; the training ends after an
            epoch for which one returns true.
        spark: the session; by default that of the DataFrame, or the active one, or one that is started.
        progress: whether a bar and log lines are shown; by default in a terminal and in a notebook.

    Returns:
        The vectors, with `summary` and `getVocabulary()`.

    Raises:
        UserError: a mistake that the message says how to fix.
        BusyError, StorageError, SparkLostError: try again later.
        DivergedError: parameters or the loss grew without bound.
    """
    _check_kinds(output, config, callbacks)
    if isinstance(input, DataFrame):
        check_batch(input, "input")
    if spark is not None:
        check_running(spark, "spark: is a session")
    # What the tokenizer may be depends on whether there are columns; a DataFrame has them, whatever files would have.
    overrides = ["corpus.format=parquet"] if isinstance(input, DataFrame) else []
    if config is None or isinstance(config, str | Path):
        settings = configuration.load(config, overrides)
    else:
        settings = configuration.from_dict(config, "config", overrides)
    given: Sequence[str] | DataFrame = input if isinstance(input, DataFrame) else _paths(input)
    request = Request(
        settings,
        given,
        with_home(str(output)),
        init=None if init is None else with_home(str(init)),
        resume=resume,
        overwrite=overwrite,
        run_id=None if run_id is None else str(run_id),
        publish=publish,
        tensorboard=None if tensorboard is None else with_home(str(tensorboard)),
        mlflow=mlflow,
        callbacks=callbacks,
        in_memory=True,
    )
    with shown(progress) as line, contextlib.ExitStack() as cleanup:
        run = TrainingRun(request, line)
        there = spark or (given.sparkSession if isinstance(given, DataFrame) else None)
        try:
            session = cleanup.enter_context(
                used_session(lambda: there or _session(), lambda: run.clock.begin(STARTING))
            )
            with restored_caller(session.sparkContext):
                published = run.run(session)
        except UserError:
            raise
        except Exception as error:
            if is_passed_on(error):
                raise
            if (gone := lost_error(error)) is not None:
                raise gone from error
            if (explained := translate_error(error)) is None:
                raise
            raise UserError(explained) from error
    return SkipGramModel.of_output(published)


def _paths(input: Any) -> list[str]:
    """The paths of an input that is no DataFrame."""
    paths = [input] if isinstance(input, str | os.PathLike) else list(input) if isinstance(input, Iterable) else [None]
    if hasattr(input, "columns") or not all(isinstance(path, str | os.PathLike) for path in paths):
        raise UserError(
            f"input: is neither a path nor a list of paths ({type(input).__name__}); give one, or a DataFrame of "
            "Spark, as spark.createDataFrame makes it of rows or of a DataFrame of pandas."
        )
    if not paths or "" in paths:
        raise UserError("input: has no path, or an empty one; give files, directories, globs, or names of tables.")
    return [with_home(str(path)) for path in paths]


def _check_kinds(output: Any, config: Any, callbacks: Any) -> None:
    """Refuse what no annotation kept away."""
    if not isinstance(output, str | os.PathLike) or not str(output):
        raise UserError(f"output: is {output!r}; give a directory of this host, or the URI of one in a store.")
    if config is not None and not isinstance(config, str | Path | Mapping):
        raise UserError(f"config: is a {type(config).__name__}; give a TOML file, or a mapping from section to keys.")
    check_callbacks(callbacks)


def _session() -> SparkSession | None:
    """Return the session that is there; None where Spark has not been started."""
    active = SparkSession.getActiveSession()
    if active is None and SparkContext._active_spark_context is not None:  # started in another thread
        return SparkSession.builder.getOrCreate()
    return active
