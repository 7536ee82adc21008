"""A week of nights: python -m bench.nights --corpus PATH ... [--rate 0.01] [--epochs 1].

The text is cut in eight parts. The first night trains on the first part; each of the others on its part alone, with
--init of the night before. Next to them, trainings on all parts so far, and one on all eight parts with another seed,
which says what a word's neighbors are. All are the job in local mode.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import measure, quality, text
from bench.systems import train_command
from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.runs import embeddings
from spark_w2v.runs.embeddings import Embeddings

NIGHTS = 8
FIRST_FULL = 3  # the night from which on full trainings are compared
FREQUENT = 30_000  # words that a word's neighbors are looked for among
NEAR = 10
EPOCHS = 5  # of a full training
SETTINGS: dict[str, object] = {"training.partitions": 2, "training.dimensions": 100, "training.epochs": EPOCHS}


class Vectors:
    """Words and unit vectors of an output."""

    def __init__(self, output: Path) -> None:
        found: Embeddings = embeddings.read(output)
        self.words = found.words.to_pylist()
        self.place = {word: row for row, word in enumerate(self.words)}
        self.rows, self.counts = found.vectors, dict(zip(self.words, found.counts.tolist(), strict=True))
        self.units = unit_vectors(found.vectors)

    def near(self, asked: Sequence[str], among: Sequence[str]) -> list[set[str]]:
        """Return the nearest words of each that is asked, among some."""
        candidates = self.units[[self.place[word] for word in among]]
        found = []
        for word in asked:
            cosines = candidates @ self.units[self.place[word]]
            best = np.argsort(-cosines, kind="stable")[: NEAR + 1]
            found.append(set([among[row] for row in best.tolist() if among[row] != word][:NEAR]))
        return found


def shared(found: list[set[str]], truth: list[set[str]]) -> float:
    """Return the mean share of the true neighbors that are found."""
    return round(float(np.mean([len(a & b) / NEAR for a, b in zip(found, truth, strict=True)])), 4)


def scores(vectors: Vectors, words: set[str], counts: dict[str, int]) -> dict[str, Any]:
    """Return the results on the three sets, of some words alone."""
    rows = [row for row, word in enumerate(vectors.words) if word in words]
    kept = [vectors.words[row] for row in rows]
    return dict(quality.evaluate((kept, vectors.rows[rows]), counts)._asdict())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.nights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="text, plain or .gz")
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate of the nights after the first")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the nights after the first")
    parser.add_argument("--random", action="store_true", help="new words begin with random vectors")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="outputs stay there, and are used again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the nights after the first")
    options = parser.parse_args()
    variables = measure.environment()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        written = text.write(options.corpus or text.default_corpus(), "", None, folder / "text.txt")
        lines = written.path.read_text().splitlines(keepends=True)
        parts = [folder / f"part-{number}.txt" for number in range(NIGHTS)]
        for number, part in enumerate(parts):
            part.write_text("".join(lines[number * len(lines) // NIGHTS : (number + 1) * len(lines) // NIGHTS]))

        def train(name: str, inputs: Sequence[Path], settings: dict[str, object], more: Sequence[str] = ()) -> Vectors:
            output = folder / name
            if not (output / "_SUCCESS").exists():
                first, *rest = map(str, inputs)
                command = train_command([], Path(first), output, {**SETTINGS, **settings})
                command[command.index("--input") + 2 : command.index("--input") + 2] = rest
                done = measure.run([*command, *more], variables, folder / "log")
                if done.code:
                    raise SystemExit((folder / "log").read_text(errors="replace")[-3000:])
            return Vectors(output)

        truth = train("truth", parts, {"training.seed": 2})
        nightly: dict[str, object] = {
            "training.learning_rate": options.rate, "training.epochs": options.epochs,
            "vocabulary.keep_missing": "true", "vocabulary.induce": str(not options.random).lower(),
        }  # fmt: skip
        nightly |= dict(one.split("=", 1) for one in options.set)
        tag = "-".join(["night", *(f"{value}" for value in nightly.values())]).replace("/", "_")
        before = train("first", parts[:1], {})
        known, first = set(before.words), scores(before, set(before.words), before.counts)
        print(json.dumps({"night": 1, "words": len(before.words), "known_words": first}), flush=True)
        name, so_far = "first", set(known)
        for night in range(2, NIGHTS + 1):
            earlier, name = name, f"{tag}-{night}"
            tonight = train(name, [parts[night - 1]], nightly, ["--init", str(folder / earlier)])
            facts: dict[str, Any] = {"night": night, "words": len(tonight.words)}
            now = scores(tonight, known, before.counts)
            facts["known_words_kept"] = {key: round(now[key] / first[key], 3) for key in list(first)[:3]}
            new = [word for word in tonight.words if word not in so_far]
            so_far |= set(new)
            if night >= FIRST_FULL:
                full = train(f"full-{night}", parts[:night], {})
                among = [word for word in truth.words if word in tonight.place and word in full.place][:FREQUENT]
                new = [word for word in new if word in truth.place and word in full.place]
                near = truth.near(new, among)
                facts |= {
                    "new_words": len(new),
                    "new_words_neighbors": shared(tonight.near(new, among), near),
                    "full_training_neighbors": shared(full.near(new, among), near),
                    "all_known_against_full": {
                        key: round(value / other, 3)
                        for (key, value), (_, other) in list(
                            zip(
                                scores(tonight, set(full.words), full.counts).items(),
                                scores(full, set(tonight.words), full.counts).items(),
                                strict=True,
                            )
                        )[:3]
                    },
                }
            print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
