"""Each system as a process of its own: its command, and what it says of itself afterwards.

python -m bench.systems gensim-1 --text FILE --output DIR trains with gensim; spark-submit bench/systems.py mllib-2 with
MLlib, so what only one of them needs is imported where it is used.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bench.quality import Vectors

DIMENSIONS, WINDOW, NEGATIVES, SUBSAMPLE, MIN_COUNT, EPOCHS = 100, 5, 5, 1e-3, 5, 5
GENSIM_ALPHA, MLLIB_ALPHA = 0.05, 0.025  # first learning rates
SETTINGS = {
    "dimensions": DIMENSIONS,
    "window": WINDOW,
    "negatives": NEGATIVES,
    "subsample": SUBSAMPLE,
    "min_count": MIN_COUNT,
    "epochs": EPOCHS,
}
FACTS = "facts.json"
SUBMIT = (
    str(Path(sys.executable).with_name("spark-submit")), "--properties-file", "conf/spark-defaults.conf",
)  # fmt: skip


class System(NamedTuple):
    """System and number of cores; partitions are MLlib's or ours."""

    kind: str
    cores: int
    partitions: int
    scheme: str = "auto"
    about: str = ""


SYSTEMS = {
    "ours-1": System("ours", 1, 1, "auto", "this project, one partition"),
    "ours-2": System("ours", 2, 2, "blocks", "this project, 2 blocks"),
    "ours-8": System("ours", 2, 8, "blocks", "this project, 8 blocks"),
    "ours-replicas-2": System("ours", 2, 2, "replicas", "this project, 2 replicas"),
    "gensim-1": System("gensim", 1, 1, about="gensim, corpus_file, 1 worker"),
    "gensim-2": System("gensim", 2, 1, about="gensim, corpus_file, 2 workers"),
    "mllib-2": System("mllib", 2, 2, about="MLlib's Word2Vec, 2 partitions"),
}


class Facts(NamedTuple):
    """Facts that a run reports.

    Args:
        vocabulary_seconds: until training starts, without starting Python or Spark; None where it cannot be told apart.
        train_seconds: ours, rounds and Spark's scheduling; gensim, train(); MLlib, fit(), vocabulary too.
        trained_words: those of the vocabulary that subsampling left, over all epochs; None for MLlib, which has none.
        busy_seconds: core-seconds of training. ours, in the kernels; gensim, train() times its workers.
    """

    vocabulary_seconds: float | None
    train_seconds: float
    trained_words: int | None
    busy_seconds: float | None


def command(name: str, text: Path, output: Path, alpha: float, seed: int) -> list[str]:
    """Command to start, from the root of the checkout."""
    system = SYSTEMS[name]
    own = [name, "--text", str(text), "--output", str(output), "--alpha", str(alpha), "--seed", str(seed)]
    if system.kind == "gensim":
        return [sys.executable, "-m", "bench.systems", *own]
    local = ["--master", f"local[{system.cores}]"]
    if system.kind == "mllib":
        return mllib_command(local, own)
    settings = {
        "vocabulary.min_count": MIN_COUNT,
        "vocabulary.subsample": SUBSAMPLE,
        "training.scheme": system.scheme,
        "training.partitions": system.partitions,
        "training.dimensions": DIMENSIONS,
        "training.window": WINDOW,
        "training.negatives": NEGATIVES,
        "training.epochs": EPOCHS,
        "training.seed": seed,
    }
    return train_command(local, text, output, settings)


def train_command(options: Sequence[str], text: Path, output: Path | str, settings: Mapping[str, object]) -> list[str]:
    """Return the command of the job, from options of spark-submit and settings of ours."""
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    job = ["jobs/train.py", "conf/local.toml", "--input", str(text), "--output", str(output), *sets]
    return [*SUBMIT, *options, *job]


def mllib_command(options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command of MLlib, from options of spark-submit and arguments of main()."""
    # It trains in the JVM, which is to compile as well as it can: Java's own default. It starts as fast as for ours.
    full = "-XX:TieredStopAtLevel=4"
    archive = "-XX:SharedArchiveFile=.venv/classes.jsa -Xlog:cds*=off"
    executors = ["--conf", f"spark.executor.extraJavaOptions={full}"]
    driver = ["--driver-java-options", f"{full} {archive}"]
    return [*SUBMIT, *options, *driver, *executors, "bench/systems.py", *arguments]


def facts(name: str, output: Path) -> Facts:
    """Return the facts that a finished run reports."""
    if SYSTEMS[name].kind != "ours":
        return Facts(**json.loads((output / FACTS).read_text()))
    run = json.loads((output / "run.json").read_text())
    epochs = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return Facts(
        vocabulary_seconds=run["prepare_seconds"],
        train_seconds=sum(epoch["seconds"] for epoch in epochs),
        trained_words=sum(epoch["words"] for epoch in epochs),
        busy_seconds=sum(epoch["kernel_seconds"] for epoch in epochs),
    )


def vectors(name: str, output: Path) -> "Vectors":
    """The words and vectors of a finished run, in any order."""
    import numpy as np

    match SYSTEMS[name].kind:
        case "ours":
            from spark_w2v.runs import embeddings

            found = embeddings.read(output)
            return found.words.to_pylist(), found.vectors
        case "gensim":
            from gensim.models import KeyedVectors

            keyed = KeyedVectors.load(str(output / "vectors"))
            return keyed.index_to_key, keyed.vectors
        case _:
            import pyarrow.parquet as pq

            table = pq.read_table(output / "vectors")
            values = [vector["values"] for vector in table["vector"].to_pylist()]
            return table["word"].to_pylist(), np.array(values, np.float32)


def quality_of(name: str, output: Path, counts: Mapping[str, int]) -> dict[str, Any]:
    """bench.quality.Quality of a finished run, as a dict, and how many words have a vector."""
    from bench import quality

    found = vectors(name, output)
    return {"vocabulary": len(found[0]), **quality.evaluate(found, counts)._asdict()}


def _train_gensim(system: System, options: argparse.Namespace) -> Facts:
    from gensim.models import Word2Vec

    model = Word2Vec(
        sg=1,
        hs=0,
        vector_size=DIMENSIONS,
        window=WINDOW,
        negative=NEGATIVES,
        sample=SUBSAMPLE,
        min_count=MIN_COUNT,
        epochs=EPOCHS,
        alpha=GENSIM_ALPHA if options.alpha is None else options.alpha,
        workers=system.cores,
        seed=options.seed,
    )
    started = time.monotonic()
    model.build_vocab(corpus_file=options.text)
    counted = time.monotonic()
    trained, _ = model.train(
        corpus_file=options.text,
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=EPOCHS,
    )
    seconds = time.monotonic() - counted
    model.wv.save(str(options.output / "vectors"))
    return Facts(counted - started, seconds, trained, seconds * system.cores)


def _train_mllib(system: System, options: argparse.Namespace) -> Facts:
    import pyspark.sql.functions as F
    from pyspark.ml.feature import Word2Vec
    from pyspark.sql import SparkSession

    session = SparkSession.builder.getOrCreate()
    try:
        sentences = session.read.text(options.text).select(F.split("value", " ").alias("sentence"))
        # Hierarchical softmax without subsampling is all it has.
        word2vec = Word2Vec(
            vectorSize=DIMENSIONS,
            windowSize=WINDOW,
            minCount=options.min_count,
            maxIter=options.epochs,
            stepSize=MLLIB_ALPHA if options.alpha is None else options.alpha,
            numPartitions=options.partitions or system.partitions,
            seed=options.seed,
            inputCol="sentence",
            outputCol="vector",
        )
        started = time.monotonic()
        model = word2vec.fit(sentences)
        seconds = time.monotonic() - started
        model.getVectors().write.parquet(Path(options.output / "vectors").as_uri())
        return Facts(None, seconds, None, None)
    finally:
        session.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.systems", description="Train with one system, once.")
    parser.add_argument("name", choices=[name for name, system in SYSTEMS.items() if system.kind != "ours"])
    parser.add_argument("--text", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--alpha", type=float, help=f"{GENSIM_ALPHA} for gensim and {MLLIB_ALPHA} for MLlib by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--min-count", type=int, default=MIN_COUNT, help="MLlib alone; so the following")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--partitions", type=int, help="without it the system's")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    system = SYSTEMS[options.name]
    found: Any = _train_gensim(system, options) if system.kind == "gensim" else _train_mllib(system, options)
    (options.output / FACTS).write_text(json.dumps(found._asdict()))


if __name__ == "__main__":
    main()
