"""Time of reading a text, counting its words and turning them into ids: python -m bench.reading.

The text is synthetic (bench.synthetic), or that of --corpus. Spark runs in local mode; the first round, in which its
JVM warms up, is printed next to the medians of the others.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import adopt_environment
from bench.synthetic import write_text, zipf_counts
from spark_w2v import config, pipeline
from spark_w2v.spark import corpus
from spark_w2v.spark.session import SparkSession, start_session


def seconds(session: SparkSession, path: Path, settings: config.Config) -> tuple[dict[str, float], int]:
    """Seconds of each phase, by the names that a user sees, and the words of the text."""
    begun: list[tuple[str, float]] = []
    segments, _ = corpus.read_text(session, [str(path)], settings.corpus)
    text = pipeline.prepare(segments, settings, on_phase=lambda name: begun.append((name, time.monotonic())))
    ends = [*(moment for _, moment in begun[1:]), time.monotonic()]
    text.release()
    return {name: round(end - at, 2) for (name, at), end in zip(begun, ends, strict=True)}, text.facts["words"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, metavar="PATH", help="a text, instead of a synthetic one")
    parser.add_argument("--words", type=int, default=16_000_000, help="of the synthetic text")
    parser.add_argument("--vocabulary", type=int, default=200_000, help="distinct words of the synthetic text")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, as the first is told apart")
    settings = config.from_dict({"vocabulary": {"min_count": 1}})
    with tempfile.TemporaryDirectory() as folder:
        path: Path = options.corpus or Path(folder) / "text.txt"
        if options.corpus is None:
            write_text(zipf_counts(options.words, options.vocabulary), path)
        session = start_session()
        session.sparkContext.setLogLevel("ERROR")
        rounds = [seconds(session, path, settings) for _ in range(options.rounds)]
        session.stop()
    phases = [found for found, _ in rounds]
    later: dict[str, Any] = {name: round(median(p[name] for p in phases[1:]), 2) for name in phases[0]}
    later["all"] = round(median(sum(p.values()) for p in phases[1:]), 2)
    print(json.dumps({"words": rounds[0][1], "first": phases[0], "later": later}))


if __name__ == "__main__":
    adopt_environment()
    main()
