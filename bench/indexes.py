"""Indexes of an export against exact search: python -m bench.indexes [--output RUN] prints a table.

200,000 vectors of 100 dimensions from a mixture of 3,000 Gaussians, of very different weights, whose variance falls by
a power law from the first dimension to the last; with --output, the center vectors of a finished run. Each index is
built by the code of the export, in a process of its own, and read back as its library does by itself. One thread, one
query per call: 1,000 of the words, whose ten nearest include themselves. Seconds are of processor time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.measure import adopt_environment
from spark_w2v.analysis.neighbors import nearest, unit_vectors
from spark_w2v.runs import embeddings
from spark_w2v.runs.index_formats import LIBRARIES, check_library, write_index
from spark_w2v.types import Float32Array

WORDS, DIMENSIONS, CLUSTERS = 200_000, 100, 3_000
SPREAD = 0.7  # of a cluster, where the centers have 1
QUERIES, TOP = 1_000, 10
EXACT = 200  # queries whose time is taken
CHUNK = 10_000  # rows added at a time, as an export of 100 dimensions does

Answer = Callable[[Float32Array], NDArray[Any]]


def mixture(words: int) -> Float32Array:
    """(V, D) clustered vectors, the same each time."""
    rng = np.random.default_rng(1)
    scale = np.arange(1, DIMENSIONS + 1) ** -0.5
    centers = rng.normal(size=(CLUSTERS, DIMENSIONS))
    cluster = rng.choice(CLUSTERS, words, p=rng.dirichlet(np.ones(CLUSTERS)))
    return ((centers[cluster] + SPREAD * rng.normal(size=(words, DIMENSIONS))) * scale).astype(np.float32)


def build(form: str, vectors_file: Path, path: Path) -> tuple[float, int]:
    """Seconds, and bytes of memory at most beyond what the process had before."""
    vectors = np.load(vectors_file, mmap_mode="r")
    check_library(form)  # imports it

    def chunks() -> Iterator[Float32Array]:
        for start in range(0, len(vectors), CHUNK):
            # Read and not mapped: pages of the file would count as memory of the process.
            rows = np.fromfile(
                vectors_file, np.float32, vectors[start : start + CHUNK].size,
                offset=vectors.offset + start * vectors.strides[0],
            )  # fmt: skip
            yield rows.reshape(-1, vectors.shape[1])

    before, begun = _peak(), time.process_time()
    write_index(form, path, chunks(), vectors.shape)
    return time.process_time() - begun, _peak() - before


def _peak() -> int:
    """Bytes; not of getrusage, which begins at what the parent had. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def answer_of(form: str, path: Path) -> Answer:
    """Load an index with nothing but its library; return what finds the ids of the nearest words of one vector."""
    if form == "usearch":
        from usearch.index import Index

        found = Index.restore(str(path))
        assert found is not None
        return lambda query: np.asarray(found.search(query, TOP, threads=1).keys)
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(path))
    return lambda query: np.asarray(index.search(unit_vectors(query[None]), TOP)[1][0])


def ask(answer: Answer, queries: Float32Array) -> tuple[list[NDArray[Any]], float]:
    """The ids for each query, and queries per second."""
    answer(queries[0])
    begun = time.process_time()
    found = [answer(query) for query in queries]
    return found, len(queries) / (time.process_time() - begun)


def table(name: str, vectors: Float32Array) -> Iterator[str]:
    """The lines of a table, each as soon as it is known."""
    count, dimensions = vectors.shape
    asked = np.random.default_rng(2).choice(count, min(QUERIES, count), replace=False)
    queries, units = vectors[asked], unit_vectors(vectors)
    exact = [{i for i, _ in nearest(units, query, [], TOP)} for query in queries]
    _, rate = ask(lambda query: np.array([i for i, _ in nearest(units, query, [], TOP)]), queries[:EXACT])
    yield f"{name}: {count:,} words x {dimensions}"
    yield ""
    yield "| | build, s | memory, bytes per word | file, MB | recall at 10 | queries/s |"
    yield "|---|--:|--:|--:|--:|--:|"
    yield f"| exact (NumPy) | | {4 * dimensions} | | 1 | {rate:,.0f} |"
    with tempfile.TemporaryDirectory(prefix="spark_w2v-indexes-") as directory:
        vectors_file = Path(directory, "vectors.npy")
        np.save(vectors_file, vectors)
        for form in LIBRARIES:
            path = Path(directory, form)
            with get_context("spawn").Pool(1) as pool:
                seconds, memory = pool.apply(build, (form, vectors_file, path))
            found, rate = ask(answer_of(form, path), queries)
            hits = sum(len(right & set(ids.tolist())) for right, ids in zip(exact, found, strict=True))
            recall = hits / sum(map(len, exact))
            size = path.stat().st_size / 1e6
            yield f"| {form} | {seconds:.0f} | {memory / count:,.0f} | {size:,.0f} | {recall:.3f} | {rate:,.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.indexes", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, metavar="RUN", help="a finished run, instead of the mixture")
    parser.add_argument("--words", type=int, default=WORDS, help=f"of the mixture ({WORDS:,})")
    options = parser.parse_args()
    with threadpool_limits(1):
        if options.output is None:
            name, vectors = "a mixture of Gaussians", mixture(options.words)
        else:
            name, vectors = options.output.name, embeddings.read(options.output).vectors
        for line in table(name, vectors):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    adopt_environment()
    sys.exit(main())
