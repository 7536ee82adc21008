"""Cost of a record of the shuffle besides its bytes: python -m bench.records prints core-seconds.

The same bytes of pairs go from two tasks that draw to two that train, in few large records and in many small ones,
through the same functions as in a run. In the runs of bench.scale the records are as many as the pairs are, so that
they do not tell one from the other; a cluster of hundreds of tasks has small ones.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyspark
import pyspark.sql.functions as F
from pyspark.sql import SparkSession

from bench.measure import ROOT, adopt_environment
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.spark.buckets import RECORDS, Record, Spool, read_records

CORES = 2
BYTES = 32 << 20  # of each task that draws
LARGE, SMALL = 1 << 20, 8 << 10  # bytes of a record; 8 KB is 512 tasks' share of 1 million pairs
ROUNDS = 3  # of which the last is taken: the JVMs are warm then


def seconds(session: SparkSession, size: int) -> float:
    """Seconds until the records are drawn, shuffled, spooled and in the order of their buckets."""

    def draw(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        pairs = np.arange(size // 4, dtype=np.uint32)
        sizes = np.full(CORES, pairs.size // CORES, np.uint32)
        for number in range(BYTES // size):
            yield Record(number % CORES, 0, 0.0, sizes, pairs).batch()

    def take(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        spool = Spool(CORES, PairCodec(16, 1), ".")
        for batch in batches:
            for record in read_records(batch, np.dtype(np.uint32)):
                spool.add(record)
        spool.flush()
        yield pa.RecordBatch.from_pydict({"pairs": [spool.pairs]})
        spool.close()

    begun = time.monotonic()
    found: list[Any] = (
        session.range(CORES, numPartitions=CORES)
        .mapInArrow(draw, RECORDS)
        .repartitionById(CORES, F.col("task"))
        .mapInArrow(take, "pairs long", barrier=True)
        .collect()
    )
    taken = time.monotonic() - begun
    assert sum(row["pairs"] for row in found) == CORES * BYTES // 4
    return taken


def main() -> None:
    # local-cluster starts its executors from there; spark-submit would say so.
    os.environ.setdefault("SPARK_HOME", os.path.dirname(pyspark.__file__))
    builder = SparkSession.builder.master(f"local-cluster[{CORES},1,1024]").config("spark.ui.enabled", "false")
    for line in (ROOT / "conf" / "spark-defaults.conf").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key.startswith(("spark.executor", "spark.driver.extraJava")):
            builder = builder.config(key, value.strip())
    session = builder.config("spark.executor.memory", "1g").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    found = {size: [seconds(session, size) for _ in range(ROUNDS)][-1] for size in (LARGE, SMALL)}
    session.stop()
    more = CORES * (BYTES // SMALL - BYTES // LARGE)
    print(json.dumps({"record_seconds": max(0.0, CORES * (found[SMALL] - found[LARGE]) / more)}))


if __name__ == "__main__":
    adopt_environment()
    main()
