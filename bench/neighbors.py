"""Time of finding the neighbors of every word: python -m bench.neighbors prints it against the matrix products alone.

Both run on Spark with the same tasks and tiles; one looks for the nearest rows in each tile, the other throws
it away. The vectors are of a mixture of Gaussians, whose directions have less and less variance.
"""

import argparse
import json
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from threadpoolctl import threadpool_limits

from bench.measure import adopt_environment
from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.skipgram.nearest_rows import TILE_QUERIES, TILE_ROWS
from spark_w2v.spark.all_neighbors import all_neighbors, shared_words
from spark_w2v.spark.session import start_session
from spark_w2v.spark.slots import slots
from spark_w2v.types import Float32Array

DIMENSIONS, TOP, CLUSTERS = 100, 20, 3000


def mixture(words: int) -> Float32Array:
    """Return vectors, (words, DIMENSIONS)."""
    rng = np.random.default_rng(1)
    scale = np.arange(1, DIMENSIONS + 1) ** -0.5
    centers = rng.normal(size=(CLUSTERS, DIMENSIONS)) * scale
    found = centers[rng.integers(0, CLUSTERS, words)] + 0.5 * rng.normal(size=(words, DIMENSIONS)) * scale
    return np.asarray(found, np.float32)


def search_seconds(session: SparkSession, vectors: Float32Array) -> float:
    """Seconds of the search, its rows thrown away."""
    words = pa.array([f"w{n}" for n in range(len(vectors))], pa.string())
    begun = time.monotonic()
    found = all_neighbors(session, words, [unit_vectors(vectors)], DIMENSIONS, TOP)
    found.write.format("noop").mode("overwrite").save()
    return time.monotonic() - begun


def product_seconds(session: SparkSession, vectors: Float32Array) -> float:
    """Seconds of the products of the same tiles."""
    begun = time.monotonic()
    sent = session.sparkContext.broadcast(vectors)
    size = shared_words(len(vectors), TOP, slots(session.sparkContext)[0])
    tasks = -(-len(vectors) // size)

    def multiply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        units = sent.value
        room = np.empty(TILE_QUERIES * TILE_ROWS, np.float32)
        with threadpool_limits(1, "blas"):
            for batch in batches:
                for task in batch.column("id").to_pylist():
                    queries = units[task * size : (task + 1) * size]
                    for start in range(0, len(units), TILE_ROWS):
                        rows = units[start : start + TILE_ROWS]
                        for at in range(0, len(queries), TILE_QUERIES):
                            some = queries[at : at + TILE_QUERIES]
                            out = room[: len(some) * len(rows)].reshape(len(some), len(rows))
                            np.matmul(some, rows.T, out=out)
        yield pa.RecordBatch.from_pydict({"done": [1]})

    session.range(0, tasks, 1, tasks).mapInArrow(multiply, "done long").write.format("noop").mode("overwrite").save()
    return time.monotonic() - begun


def main() -> None:
    """Print both, alternating, and the median of their ratio within a round."""
    parser = argparse.ArgumentParser(prog="python -m bench.neighbors")
    parser.add_argument("--words", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    session = start_session()
    vectors = mixture(options.words)
    taken: dict[str, list[float]] = {"search": [], "products": []}
    seconds_of = {"products": product_seconds, "search": search_seconds}
    for seconds in seconds_of.values():  # Spark starts workers and compiles in the first jobs, whichever they are
        seconds(session, vectors[: len(vectors) // 10])
    for number in range(options.rounds):
        for name in sorted(seconds_of, reverse=bool(number % 2)):  # neither is always the first
            taken[name].append(round(seconds_of[name](session, vectors), 1))
    session.stop()
    ratio = median(search / products for search, products in zip(taken["search"], taken["products"], strict=True))
    print(json.dumps({"words": options.words, "seconds": taken, "search_to_products": round(ratio, 2)}))


if __name__ == "__main__":
    adopt_environment()
    main()
