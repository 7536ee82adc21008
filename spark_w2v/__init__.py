"""Word2vec on Apache Spark: Spark partitions the skip-gram pairs, NumPy trains them inside the executors.

A module imports from its own layer and from those above it in this table, never from those below; a test keeps it so.

    config      what a run may be asked to do: TOML and --set, checked
    skipgram    the algorithm: NumPy and SciPy, without Spark
    exchange    blocks of parameters between processes: sockets and NumPy, without Spark
    stages      one Spark step a file: corpus, vocabulary, training_pairs, training, embeddings, documents; steps puts
                them in turn; publication; warm_start, evaluation, export, neighbors and report (with layout) work on a
                finished output, without Spark; watching shows a run while it lives; workers is the process that Spark
                starts in local mode to fork its Python workers from
    ml          the training as a stage of a Spark ML pipeline
    command_line  what every command does alike
    job         what the training job does, from its arguments to its exit code
    jobs/       entry points for spark-submit and for the shell

Public names, imported from where they are, so that importing this package loads neither Spark nor NumPy:

    spark_w2v                       SkipGram, SkipGramModel (loaded when they are asked for)
    spark_w2v.config                load, from_dict, Config, ConfigError
    spark_w2v.job                   train
    spark_w2v.stages.embeddings     read, read_context, facts
    spark_w2v.stages.neighbors      nearest, analogy, closest_spellings
    spark_w2v.skipgram.reference    the losses and gradients of the textbook
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spark_w2v.ml import SkipGram, SkipGramModel

__all__ = ["SkipGram", "SkipGramModel"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from spark_w2v import ml

        return getattr(ml, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
