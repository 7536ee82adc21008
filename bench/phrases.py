"""Phrases of a text, ours against gensim's Phrases: python -m bench.phrases --corpus PATH ... [--repeats 3].

Both are whole processes that read one file of words and write the phrases with their scores; the best hundred are
compared, whatever the order of those of equal scores. Ours is the job in local mode with all cores.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from bench import measure, text
from bench.systems import SUBMIT

MIN_COUNT = 5
THRESHOLDS = {"default": 10.0, "npmi": 0.5}
BEST = 100
OURS = [
    "corpus.tokenizer=whitespace", "corpus.lower_case=false", "corpus.max_word_length=1000000",
    f"phrases.min_count={MIN_COUNT}",
]  # fmt: skip


def by_gensim(path: str, score: str, to: str) -> None:
    """Write gensim's phrases and scores; in a process of its own."""
    from gensim.models.phrases import Phrases
    from gensim.models.word2vec import LineSentence

    begun = time.monotonic()
    found = Phrases(
        LineSentence(path, max_sentence_length=1_000_000), min_count=MIN_COUNT, threshold=THRESHOLDS[score],
        scoring=score,
    ).export_phrases()  # fmt: skip
    Path(to).write_text(json.dumps({"phrases": found, "seconds": time.monotonic() - begun}))


def best(scores: dict[str, float]) -> tuple[set[str], set[str]]:
    """Return the phrases above the score of the hundredth, and those of that score."""
    ordered = sorted(scores.values(), reverse=True)
    last = ordered[min(BEST, len(ordered)) - 1]
    return {name for name, score in scores.items() if score > last}, {
        name for name, score in scores.items() if score == last
    }


def compared(ours: dict[str, float], gensim: dict[str, float]) -> dict[str, object]:
    """Return how far two lists are the same."""
    shared = ours.keys() & gensim.keys()
    return {
        "phrases": len(ours),
        "gensim_phrases": len(gensim),
        "shared": len(shared),
        "largest_difference_of_scores": max((abs(ours[name] / gensim[name] - 1) for name in shared), default=0.0),
        "same_best": best(ours) == best(gensim),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.phrases", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="text, plain or .gz")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scores", nargs="+", default=list(THRESHOLDS), choices=list(THRESHOLDS))
    parser.add_argument("--gensim", nargs=3, metavar=("FILE", "SCORE", "TO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gensim:
        by_gensim(*options.gensim)
        return 0
    variables = measure.environment()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        folder = Path(scratch)
        words = text.write(options.corpus or text.default_corpus(), "", None, folder / "text.txt")
        for score in options.scores:
            seconds: dict[str, list[float]] = {"ours": [], "gensim": []}
            for _ in range(options.repeats):
                keys = [*OURS, f"phrases.score={score}", f"phrases.threshold={THRESHOLDS[score]}"]
                to = folder / "ours"
                ours = [
                    *SUBMIT, "jobs/phrases.py", "conf/local.toml",
                    "--input", str(words.path), "--to", str(to), "--overwrite",
                    *(part for key in keys for part in ("--set", key)),
                ]  # fmt: skip
                other = [sys.executable, "-m", "bench.phrases", "--gensim", str(words.path), score, str(folder / "g")]
                for name, command in (("ours", ours), ("gensim", other)):
                    done = measure.run(command, variables, folder / "log")
                    if done.code:
                        print((folder / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
                        return 1
                    seconds[name].append(round(done.seconds, 1))
            table = pq.read_table(to)
            found = dict(zip(table["phrase"].to_pylist(), table["score"].to_pylist(), strict=True))
            facts = compared(found, json.loads((folder / "g").read_text())["phrases"])
            times = [other / ours for ours, other in zip(seconds["ours"], seconds["gensim"], strict=True)]
            facts |= {"words": words.words, "seconds": seconds, "times": round(median(times), 2)}
            print(json.dumps({"score": score, **facts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
