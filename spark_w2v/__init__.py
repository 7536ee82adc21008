"""Word2vec on Apache Spark: Spark partitions the skip-gram pairs, NumPy trains them inside the executors.

A module imports from its own layer and from those above it in this table, never from those below; a test keeps it so.

    errors, types, config   errors, array types and configuration, for every module
    callbacks       what is called after each epoch
    skipgram        the algorithm, in NumPy and SciPy
    text            text to words, sentences and word ids, in NumPy and Arrow
    exchange        blocks of parameters between processes, with sockets
    storage         places: a directory, an object store, a file system of Hadoop
    given           what a user gives together with the text: vectors, phrases, lists of words
    runs            the life of a run on a place: lock, checkpoints, publication, the files that readers get
    terminal        log lines and the line that moves
    spark           what runs on Spark
    analysis        what reads a finished run: neighbors, evaluation, word map, report, warm start
    progress_text   what a user reads of a training that goes on
    pipeline        text to vectors, once, for the job and the stage
    command_line    one sentence and an exit code for a mistake, the same in every command
    epoch_observer  progress bar, metrics, curves and checkpoints of a job's epochs
    run_request     what a run is asked for
    versions        versions of what a run is computed with
    training_run    a run, from what is asked for to a published output
    job             the training job
    model, ml       trained vectors, and the training, as stages of a Spark ML pipeline
    api             the job as a function
    commands        the commands but for the training
    __main__        the command spark-w2v
    jobs/           entry points for spark-submit and for the shell

Public names, imported from where they are, so that importing this package loads neither Spark nor NumPy:

    spark_w2v                       train, SkipGram, SkipGramModel (loaded when they are asked for), EarlyStopping
    spark_w2v.config                load, from_dict, Config, UserError
    spark_w2v.job                   train
    spark_w2v.runs.embeddings       read, read_context, facts
    spark_w2v.analysis.neighbors      nearest, analogy, closest_spellings
    spark_w2v.skipgram.reference    the losses and gradients of the textbook
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spark_w2v.api import train
    from spark_w2v.callbacks import EarlyStopping
    from spark_w2v.ml import SkipGram
    from spark_w2v.model import SkipGramModel

__all__ = ["EarlyStopping", "SkipGram", "SkipGramModel", "__version__", "train"]

__version__ = "0.2.0.dev0"

_MODULES = {"EarlyStopping": "callbacks", "SkipGram": "ml", "SkipGramModel": "model", "train": "api"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"spark_w2v.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
