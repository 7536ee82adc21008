"""Time of reading sessions from event rows: python -m bench.events prints it against the same sessions as arrays.

With --strings, sessions and items are strings and times are timestamps; without, all are whole numbers.

Reading is all up to SEGMENTS: Parquet is read, events are sorted, and the words are cut in segments. The files have the
same items in the same order, as one row an event or as one row a session.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from bench.measure import adopt_environment
from spark_w2v import config
from spark_w2v.spark import corpus, vocabulary
from spark_w2v.spark.session import start_session

EVENTS, SESSIONS, ITEMS = 5_000_000, 200_000, 100_000
FILES = 8
ROUNDS = 7
ROWS: dict[str, Any] = {"format": "parquet", "column": "item", "tokenizer": "none"}
GROUPED: dict[str, Any] = {**ROWS, "group_by": "session", "order_by": "at"}


def write(directory: Path, strings: bool) -> None:
    """Write events in random order, and arrays: of random sessions, items of a Zipf distribution."""
    rng = np.random.default_rng(1)
    session = rng.integers(0, SESSIONS, EVENTS)
    at = rng.permutation(EVENTS)
    item = np.minimum(rng.zipf(1.2, EVENTS), ITEMS)
    columns = {"session": pa.array(session), "at": pa.array(at), "item": pa.array(item)}
    if strings:
        of_session = pa.array([f"{number:08x}-{number * 2654435761 % 2**32:08x}" for number in range(SESSIONS)])
        of_item = pa.array([f"product-{number}" for number in range(ITEMS + 1)])
        columns = {
            "session": of_session.take(columns["session"]),
            "at": columns["at"].cast(pa.timestamp("us", "UTC")),
            "item": of_item.take(columns["item"]),
        }
    order = np.lexsort((at, session))
    sizes = np.bincount(session, minlength=SESSIONS)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    arrays = pa.table({"item": pa.ListArray.from_arrays(pa.array(offsets), columns["item"].take(pa.array(order)))})
    events = pa.table(columns)
    for name, table in (("events", events), ("arrays", arrays)):
        (directory / name).mkdir()
        step = -(-len(table) // FILES)
        for number in range(FILES):
            pq.write_table(table.slice(number * step, step), directory / name / f"{number}.parquet")


def seconds(session: SparkSession, path: Path, keys: dict[str, Any]) -> float:
    """Seconds until the segments have been computed."""
    begun = time.monotonic()
    segments = corpus.read(session, [str(path)], config.Corpus(**keys))
    counters = vocabulary.counters(segments)
    taken = time.monotonic() - begun
    assert counters["words"] == EVENTS
    return taken


def frame_seconds(session: SparkSession, path: Path) -> float:
    """The same of a DataFrame, as the Estimator and spark_w2v.train read it."""
    begun = time.monotonic()
    vocabulary.counters(corpus.read_text_frame(session.read.parquet(str(path)), config.Corpus(**ROWS)))
    return time.monotonic() - begun


def main() -> None:
    """Print medians of the ratios within ROUNDS, after one round that is not counted."""
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strings", action="store_true", help="sessions and items are strings, times are timestamps")
    strings = parser.parse_args().strings
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), strings)
        session = start_session()
        session.sparkContext.setLogLevel("ERROR")
        ways: dict[str, Callable[[], float]] = {
            "events": lambda: seconds(session, Path(folder) / "events", GROUPED),
            "arrays": lambda: seconds(session, Path(folder) / "arrays", ROWS),
            "arrays_of_a_frame": lambda: frame_seconds(session, Path(folder) / "arrays"),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS + 1):
            for name, way in ways.items():
                once = way()
                if number:
                    taken[name].append(round(once, 2))
        session.stop()
    ratios = {
        name: round(median(events / other for events, other in zip(taken["events"], taken[name], strict=True)), 2)
        for name in ("arrays", "arrays_of_a_frame")
    }
    print(json.dumps({"seconds": taken, "events_to": ratios}))


if __name__ == "__main__":
    adopt_environment()
    main()
