"""A week of nights: python -m bench.nights --corpus PATH ... [--set KEY=VALUE ...].

The text is cut in parts, by default sixteen. The first night trains on the first part; each of the others on its part
alone, with --init of the night before. Next to them, trainings on all parts so far. The new words of a night are those
that the training on all parts so far has, and the one of the night before has not; a word that the nights have no
vector of has no right neighbor. What a word's neighbors are is said by a training on all parts with another seed. Eight
nights read half of sixteen: on the same text, trainings share neighbors that rest on a few sentences and that more text
would not confirm. For the same reason, new words that occur often enough in the whole text are compared apart.

All are the job in local mode.
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
from spark_w2v.types import Float64Array

NIGHTS, PARTS = 8, 16  # parts of the text, by default
FIRST_COMPARED = 3
AMONG = (3_000, 30_000)  # most frequent words that a word's neighbors are looked for among
NEAR = 10
OFTEN = 20  # occurrences in the whole text of a word whose neighbors are known well
AT_A_TIME = 512  # words whose neighbors are looked for at a time
EPOCHS = 5  # of a full training
SETTINGS: dict[str, object] = {"training.partitions": 2, "training.dimensions": 100, "training.epochs": EPOCHS}
OF_NIGHTS: dict[str, object] = {"vocabulary.rare_windows": 1_000_000}


class Vectors:
    """Words and unit vectors of an output."""

    def __init__(self, output: Path) -> None:
        found: Embeddings = embeddings.read(output)
        self.words = found.words.to_pylist()
        self.place = {word: row for row, word in enumerate(self.words)}
        self.rows, self.counts = found.vectors, dict(zip(self.words, found.counts.tolist(), strict=True))
        self.units = unit_vectors(found.vectors)

    def near(self, asked: Sequence[str], among: Sequence[str]) -> list[set[str]]:
        """Return the nearest words of each that is asked, among some; none of a word without a vector."""
        candidates = self.units[[self.place[word] for word in among]]
        found: dict[str, set[str]] = {}
        having = [word for word in asked if word in self.place]
        for start in range(0, len(having), AT_A_TIME):
            some = having[start : start + AT_A_TIME]
            cosines = self.units[[self.place[word] for word in some]] @ candidates.T
            best = np.argpartition(-cosines, min(NEAR + 1, len(among) - 1), axis=1)[:, : NEAR + 1]
            for word, rows, of_word in zip(some, best, cosines, strict=True):
                nearest = rows[np.argsort(-of_word[rows], kind="stable")].tolist()
                found[word] = set([among[row] for row in nearest if among[row] != word][:NEAR])
        return [found.get(word, set()) for word in asked]


def shared(found: list[set[str]], truth: list[set[str]]) -> Float64Array:
    """Return the share of the true neighbors of each word that are found."""
    return np.array([len(a & b) / NEAR for a, b in zip(found, truth, strict=True)])


def compare(nights: list[set[str]], full: list[set[str]], truth: list[set[str]]) -> dict[str, float]:
    """Return the mean shares of the true neighbors, their ratio, and its standard error over the words, of one seed."""
    found, other = shared(nights, truth), shared(full, truth)
    ratio = found.mean() / other.mean()
    error = (found - ratio * other).std(ddof=1) / np.sqrt(found.size) / other.mean()
    values = {"nights": found.mean(), "full": other.mean(), "ratio": ratio, "error": error}
    return {name: round(float(value), 4) for name, value in values.items()}


def scores(vectors: Vectors, words: set[str], counts: dict[str, int]) -> dict[str, Any]:
    """Return the results on the three sets, of some words alone."""
    rows = [row for row, word in enumerate(vectors.words) if word in words]
    kept = [vectors.words[row] for row in rows]
    return dict(quality.evaluate((kept, vectors.rows[rows]), counts)._asdict())


def ratios(found: dict[str, Any], of: dict[str, Any]) -> dict[str, float]:
    """Return the results on the three sets in shares of others."""
    return {name: round(found[name] / of[name], 3) for name in list(found)[:3]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.nights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="text, plain or .gz")
    parser.add_argument("--nights", type=int, default=NIGHTS, help="how many, at most --parts")
    parser.add_argument("--parts", type=int, default=PARTS, help="of the text; each night reads one")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="outputs stay there, and are used again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all nights")
    options = parser.parse_args()
    variables = measure.environment()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        written = text.write(options.corpus or text.default_corpus(), "", None, folder / "text.txt")
        lines = written.path.read_text().splitlines(keepends=True)
        parts = [folder / f"part-{number}.txt" for number in range(options.parts)]
        for number, part in enumerate(parts):
            part.write_text(
                "".join(lines[number * len(lines) // options.parts : (number + 1) * len(lines) // options.parts])
            )

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
        given: dict[str, object] = dict(one.split("=", 1) for one in options.set)
        nightly = {**OF_NIGHTS, "vocabulary.keep_missing": "true", **given}
        tag = "-".join(["night", *(f"{key}={value}" for key, value in given.items())]).replace("/", "_")
        tonight, full = train(f"{tag}-1", parts[:1], {**OF_NIGHTS, **given}), train("full-1", parts[:1], {})
        known, first = set(full.words), scores(tonight, set(full.words), full.counts)
        print(json.dumps({"night": 1, "words": len(tonight.words), **first}), flush=True)
        for night in range(2, options.nights + 1):
            earlier, before = folder / f"{tag}-{night - 1}", full
            tonight = train(f"{tag}-{night}", [parts[night - 1]], nightly, ["--init", str(earlier)])
            full = train(f"full-{night}", parts[:night], {})
            facts: dict[str, Any] = {"night": night, "words": len(tonight.words)}
            now, shared_words = scores(tonight, known, full.counts), set(full.words) & set(tonight.words)
            facts["of_the_first_night"] = ratios(now, first)
            if night >= FIRST_COMPARED:
                facts["of_full_training"] = ratios(
                    scores(tonight, shared_words, full.counts), scores(full, shared_words, full.counts)
                )
                new = [word for word in full.words if word not in before.place and word in truth.place]
                often = [place for place, word in enumerate(new) if truth.counts[word] >= OFTEN]
                without = sum(word not in tonight.place for word in new)
                facts |= {"new_words": len(new), "without_vector": without, "of_them_often": len(often)}
                for most in AMONG:
                    among = [word for word in truth.words if word in tonight.place and word in full.place][:most]
                    near, of_nights, of_full = (vectors.near(new, among) for vectors in (truth, tonight, full))
                    for name, places in (("", range(len(new))), ("_of_frequent", often)):
                        right, nights, whole = ([of[place] for place in places] for of in (near, of_nights, of_full))
                        facts[f"neighbors{name}_among_{most}"] = compare(nights, whole, right)
            print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
