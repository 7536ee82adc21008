"""Communities and links of a graph from random walks: python -m bench.walks.

The graph is a degree-corrected stochastic block model: planted communities, degrees of a heavy tail, most of the edges
between communities. Ours and MLlib train on the same uniform walks, with the same dimensions, window and epochs. The
learning rate of each, and the noise exponent that ours has, are chosen on a smaller graph drawn with another seed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from bench.local_session import local_session
from bench.measure import ROOT, adopt_environment
from spark_w2v.types import Float32Array, Int64Array

DEGREE, CROSSING, TAIL = 10, 0.6, 2.5  # edges per node; share of those drawn among all nodes; exponent of the degrees
HELD_OUT = 0.05  # of the edges, for link prediction
WALKS, LENGTH = 3, 20  # per node; nodes of a walk
DIMENSIONS, WINDOW, EPOCHS, NEAREST = 64, 5, 2, 10
SAMPLED = 5_000  # nodes whose neighbors are looked up
SMALLER, RATES, NOISE = 5, (0.025, 0.05, 0.1), (0.75, 0.0)  # times smaller, and what is tried there; first the rate
OUTPUT = ROOT / "build" / "bench" / "walks.jsonl"


class Graph(NamedTuple):
    """A graph with planted communities.

    Args:
        ids: (N,) the nodes' names, large whole numbers in no order.
        community: (N,) the community of each.
        edges, held_out: (M, 2) positions of nodes; walks see the first alone.
    """

    ids: Int64Array
    community: Int64Array
    edges: Int64Array
    held_out: Int64Array


def planted_graph(nodes: int, communities: int, seed: int) -> Graph:
    """Draw each edge's first end by weight; its second by weight, too, in the community of the first or anywhere."""
    rng = np.random.default_rng(seed)
    community = np.sort(rng.integers(communities, size=nodes))
    weight = np.minimum((1 - rng.random(nodes)) ** (-1 / (TAIL - 1)), nodes**0.5)
    reach = np.concatenate([[0.0], np.cumsum(weight)])
    wanted = nodes * DEGREE // 2
    first = np.searchsorted(reach, rng.random(wanted) * reach[-1], side="right") - 1
    anywhere = rng.random(wanted) < CROSSING
    starts = np.searchsorted(community, np.arange(communities + 1))
    low = np.where(anywhere, 0.0, reach[starts[community[first]]])
    high = np.where(anywhere, reach[-1], reach[starts[community[first] + 1]])
    second = np.searchsorted(reach, low + rng.random(wanted) * (high - low), side="right") - 1
    ends = np.sort(np.minimum(np.stack([first, second], axis=1), nodes - 1), axis=1)
    edges = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
    out = rng.random(len(edges)) < HELD_OUT
    ids = rng.permutation(np.unique(rng.integers(10**15, 2**62, 2 * nodes)))[:nodes]
    return Graph(ids, community, edges[~out], edges[out])


def random_walks(graph: Graph, walks: int, length: int, seed: int) -> Int64Array:
    """Walks by position, (W, length), that go to each neighbor equally likely; from each node that has an edge."""
    rng = np.random.default_rng(seed)
    nodes = graph.ids.size
    both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
    near = csr_array((np.ones(len(both), np.int8), (both[:, 0], both[:, 1])), shape=(nodes, nodes))
    degree = np.diff(near.indptr)
    found = np.empty((length, int(np.count_nonzero(degree)) * walks), np.int64)
    found[0] = rng.permutation(np.repeat(np.flatnonzero(degree), walks))
    for step in range(1, length):
        here = found[step - 1]
        found[step] = near.indices[near.indptr[here] + (rng.random(here.size) * degree[here]).astype(np.int64)]
    return found.T


def write(graph: Graph, walks: Int64Array, path: Path) -> None:
    """Parquet with a column `walk`, array<bigint>."""
    names = pa.array(graph.ids[walks].ravel())
    ends = pa.array(np.arange(0, walks.size + 1, walks.shape[1], dtype=np.int32))
    pq.write_table(pa.table({"walk": pa.ListArray.from_arrays(ends, names)}), path, row_group_size=50_000)


def quality(graph: Graph, ids: Int64Array, vectors: Float32Array, seed: int) -> dict[str, float]:
    """Community recovery and link prediction, by cosine.

    `community` is the share of a node's NEAREST nodes that are in its community, over a sample of nodes. `auc` is how
    often the ends of a held-out edge have a higher cosine than its first end and the second of another: degrees are
    alike.
    """
    rng = np.random.default_rng(seed)
    place = np.full(graph.ids.size, -1)
    sorter = np.argsort(graph.ids)
    place[sorter[np.searchsorted(graph.ids, ids, sorter=sorter)]] = np.arange(ids.size)
    nodes = np.flatnonzero(place >= 0)
    units = np.zeros((graph.ids.size, vectors.shape[1]), np.float32)
    units[nodes] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))[place[nodes]]
    asked, shares = rng.choice(nodes, min(SAMPLED, nodes.size), replace=False), []
    for start in range(0, asked.size, 500):
        rows = asked[start : start + 500]
        cosines = units[rows] @ units.T
        cosines[np.arange(rows.size), rows] = -2
        near = np.argpartition(-cosines, NEAREST, axis=1)[:, :NEAREST]
        shares.append(graph.community[near] == graph.community[rows][:, None])
    edges = graph.held_out[(place[graph.held_out] >= 0).all(axis=1)]
    other = rng.permutation(edges[:, 1])
    true, false = (np.einsum("ij,ij->i", units[edges[:, 0]], units[ends]) for ends in (edges[:, 1], other))
    ranks = np.searchsorted(np.sort(false), true)
    return {
        "community": round(float(np.concatenate(shares).mean()), 4),
        "auc": round(float(ranks.mean() / false.size), 4),
    }


class Setting(NamedTuple):
    """Learning rate, and exponent of the noise, which MLlib has not."""

    rate: float
    noise: float


class Bench:
    """Both systems in one session, on one graph and one file of walks.

    Args:
        walks: per node.
        partitions: of MLlib; ours has two.
    """

    def __init__(self, graph: Graph, scratch: Path, walks: int, epochs: int, partitions: int) -> None:
        self.graph, self.scratch, self.epochs, self.partitions = graph, scratch, epochs, partitions
        self.walks = scratch / "walks.parquet"
        steps = random_walks(graph, walks, LENGTH, 1)
        write(graph, steps, self.walks)
        inside = (graph.community[graph.edges[:, 0]] == graph.community[graph.edges[:, 1]]).mean()
        facts = f"{graph.ids.size:,} nodes, {len(graph.edges):,} edges, {inside:.0%} within a community"
        print(f"{facts}; {steps.size:,} steps of walks", flush=True)

    def run(self, system: str, setting: Setting, seed: int) -> dict[str, Any]:
        """Train and measure: a line of OUTPUT."""
        train = self.ours if system == "ours" else self.mllib
        ids, vectors, seconds = train(setting, seed)
        found = {"system": system, **setting._asdict(), "seed": seed, "seconds": round(seconds, 1), "nodes": ids.size}
        found |= {"of": self.graph.ids.size, **quality(self.graph, ids, vectors, 1)}
        print(json.dumps(found), flush=True)
        with OUTPUT.open("a") as file:
            file.write(json.dumps(found) + "\n")
        return found

    def best(self, system: str) -> Setting:
        """The setting with the best community recovery: the rate first, then the noise exponent."""
        tried = [self.run(system, Setting(rate, NOISE[0]), 1) for rate in RATES]
        found = max(tried, key=lambda run: run["community"])
        if system == "ours":
            tried = [found, *(self.run(system, Setting(found["rate"], noise), 1) for noise in NOISE[1:])]
            found = max(tried, key=lambda run: run["community"])
        return Setting(found["rate"], found["noise"])

    def ours(self, setting: Setting, seed: int) -> tuple[Int64Array, Float32Array, float]:
        """Seconds from the file to the finished output."""
        import spark_w2v
        from spark_w2v.runs import embeddings

        config: dict[str, dict[str, Any]] = {
            "corpus": {"format": "parquet", "column": "walk", "tokenizer": "none"},
            "vocabulary": {"min_count": 1, "subsample": 0.0},
            "training": {
                "dimensions": DIMENSIONS, "window": WINDOW, "epochs": self.epochs, "learning_rate": setting.rate,
                "noise_exponent": setting.noise, "partitions": 2, "seed": seed,
            },
            "output": {"report": False},
        }  # fmt: skip
        session, output = local_session(), self.scratch / "output"
        started = time.monotonic()
        spark_w2v.train(str(self.walks), str(output), config=config, overwrite=True, spark=session, progress=False)
        seconds = time.monotonic() - started
        words, _, vectors = embeddings.read(output)
        return np.array([int(word) for word in words.to_pylist()]), vectors, seconds

    def mllib(self, setting: Setting, seed: int) -> tuple[Int64Array, Float32Array, float]:
        """Seconds of fit. MLlib takes strings alone; the walks are cast to them and kept before that."""
        import pyspark.sql.functions as F
        from pyspark.ml.feature import Word2Vec

        walks = local_session().read.parquet(self.walks.as_uri())
        strings = walks.select(F.col("walk").cast("array<string>")).repartition(self.partitions).persist()
        strings.count()
        word2vec = Word2Vec(
            vectorSize=DIMENSIONS, windowSize=WINDOW, minCount=1, maxIter=self.epochs, stepSize=setting.rate, seed=seed,
            numPartitions=self.partitions, inputCol="walk", outputCol="vector",
        )  # fmt: skip
        started = time.monotonic()
        model = word2vec.fit(strings)
        seconds = time.monotonic() - started
        rows = model.getVectors().collect()
        strings.unpersist()
        vectors = np.array([row.vector.toArray() for row in rows], np.float32)
        return np.array([int(row.word) for row in rows]), vectors, seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.walks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--communities", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--walks", type=int, default=WALKS, help="per node")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--mllib-partitions", type=int, default=2)
    options = parser.parse_args()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text("")
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        how = Path(scratch), options.walks, options.epochs, options.mllib_partitions
        smaller = planted_graph(options.nodes // SMALLER, options.communities // SMALLER, 2)
        bench = Bench(smaller, *how)
        chosen = {system: bench.best(system) for system in ("ours", "mllib")}
        bench = Bench(planted_graph(options.nodes, options.communities, 1), *how)
        for seed in options.seeds:
            for system, setting in chosen.items():
                bench.run(system, setting, seed)
    return 0


if __name__ == "__main__":
    adopt_environment()
    sys.exit(main())
