"""Vectors of held-out words from few occurrences: python -m bench.induction --corpus PATH ... [--seeds 1 2 3].

Words are drawn that a full training has many occurrences of. They are taken out of its output, and all but a few of
their occurrences out of the text; then each way gives them vectors, which are compared with those of the full training:

    induced     jobs/induce.py
    mean        the mean of the vectors of the words around, weighted as in jobs/induce.py
    random      a warm start on that text without an average, where new words begin with random vectors
    warm start  the same, where they begin with induced vectors

All are the job in local mode.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import measure, text
from bench.systems import SUBMIT, train_command
from spark_w2v.analysis.neighbors import unit_vectors
from spark_w2v.runs import embedding_writer, embeddings
from spark_w2v.skipgram.induction import ContextVectors, context_sums, means_of
from spark_w2v.skipgram.schedule import kept_share
from spark_w2v.types import Float32Array, Int32Array

WORDS = 500
FEWEST, MOST = 100, 20_000  # occurrences of a word that is held out
OCCURRENCES = (5, 20, 50)
NEAR = 10
WINDOW, SUBSAMPLE = 5, 1e-3
SETTINGS: dict[str, object] = {"training.partitions": 2, "training.dimensions": 100, "training.epochs": 5}
WARM: dict[str, object] = {**SETTINGS, "training.epochs": 1, "training.learning_rate": 0.01}


class Model(NamedTuple):
    """Words, counts, center and context vectors of an output."""

    words: list[str]
    counts: np.ndarray
    center: Float32Array
    context: Float32Array

    @classmethod
    def read(cls, output: Path) -> "Model":
        found = embeddings.read(output)
        return cls(found.words.to_pylist(), found.counts, found.vectors, embeddings.read_context(output))

    def write_without(self, held_out: np.ndarray, output: Path, to: Path) -> None:
        """Write the output again, without some words."""
        rows = np.delete(np.arange(len(self.words)), held_out)
        to.mkdir()
        words = pa.array([self.words[row] for row in rows.tolist()], pa.string())
        embedding_writer.write(to, words, self.counts[rows], self.center[rows], self.context[rows], {})
        for name in ("run.json", "metrics.jsonl", "_SUCCESS"):
            shutil.copy(output / name, to / name)


class Truth:
    """Vectors of the held-out words in the full training, and the nearest words of each."""

    def __init__(self, model: Model, held_out: np.ndarray) -> None:
        self.model, self.held_out = model, held_out
        self.units = unit_vectors(model.center)
        self.near = np.argsort(-self._cosines(self.units, self.units[held_out]), axis=1, kind="stable")[:, :NEAR]

    def _cosines(self, units: Float32Array, asked: Float32Array) -> Float32Array:
        """(n, V) cosines; -1 to held-out words, which are nobody's neighbors."""
        found: Float32Array = asked @ units.T
        found[:, self.held_out] = -1
        return found

    def compare(self, vectors: Float32Array, space: Float32Array | None = None) -> dict[str, float]:
        """Return the mean cosine to the true vector, and the median rank of the true neighbors.

        Args:
            vectors: (n, D) of the held-out words.
            space: (V, D) vectors that their neighbors are looked for among; None for those of the full training.
        """
        units = unit_vectors(vectors)
        cosines = self._cosines(self.units if space is None else unit_vectors(space), units)
        ranks = 1 + np.argsort(np.argsort(-cosines, axis=1, kind="stable"), axis=1)
        return {
            "cosine": float((units * self.units[self.held_out]).sum(1).mean()),
            "rank": float(np.median(np.take_along_axis(ranks, self.near, axis=1))),
        }


def thinned(lines: Sequence[str], words: set[str], occurrences: int, seed: int) -> list[str]:
    """Return the lines with a number of occurrences of each word, drawn at random; the others are taken out."""
    found: dict[str, list[tuple[int, int]]] = {word: [] for word in words}
    for number, line in enumerate(lines):
        for place, token in enumerate(line.split()):
            if token in words:
                found[token].append((number, place))
    rng = np.random.default_rng((seed, occurrences))
    kept: set[tuple[int, int]] = set()
    touched: set[int] = set()
    for word in sorted(words):
        kept.update(found[word][place] for place in rng.choice(len(found[word]), occurrences, replace=False))
        touched.update(number for number, _ in found[word])
    result = list(lines)
    for number in touched:
        tokens = lines[number].split()
        result[number] = " ".join(
            token for place, token in enumerate(tokens) if token not in words or (number, place) in kept
        )
        result[number] += "\n"
    return result


def mean_of_contexts(lines: Sequence[str], model: Model, held_out: np.ndarray) -> Float32Array:
    """Return (n, D) means of the vectors of the words around, which a held-out word is not."""
    place = {word: row for row, word in enumerate(model.words)}
    sentences = [[place[token] for token in line.split() if token in place] for line in lines]
    ids: Int32Array = np.array([row for sentence in sentences for row in sentence], np.int32)
    lengths: Int32Array = np.array([len(sentence) for sentence in sentences], np.int32)
    keep = kept_share(model.counts, SUBSAMPLE)
    keep[held_out] = 0
    slot_of = np.full(len(model.words), -1, np.int32)
    slot_of[held_out] = np.arange(held_out.size)
    sums = np.zeros((held_out.size, model.center.shape[1] + 1), np.int64)
    for found in context_sums(ids, lengths, slot_of, ContextVectors.of(model.center, keep), WINDOW):
        sums[found.slots] += found.sums
    return np.nan_to_num(means_of(sums)).astype(np.float32)


def rows_of(words: Sequence[str], vectors: Float32Array, asked: Sequence[str]) -> Float32Array:
    """Return (n, D) vectors of words; zeros for one that is not there."""
    place = {word: row for row, word in enumerate(words)}
    found = np.zeros((len(asked), vectors.shape[1]), np.float32)
    for number, word in enumerate(asked):
        if word in place:
            found[number] = vectors[place[word]]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.induction", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="text, plain or .gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of draws of words and occurrences")
    parser.add_argument("--occurrences", type=int, nargs="+", default=OCCURRENCES, help="of each word in the text")
    options = parser.parse_args()
    variables = measure.environment()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        folder = Path(scratch)

        def run(command: Sequence[str]) -> None:
            if measure.run(command, variables, folder / "log").code:
                raise SystemExit((folder / "log").read_text(errors="replace")[-3000:])

        written = text.write(options.corpus or text.default_corpus(), "", None, folder / "text.txt")
        run(train_command([], written.path, folder / "full", SETTINGS))
        model = Model.read(folder / "full")
        lines = written.path.read_text().splitlines(keepends=True)
        results: dict[tuple[int, str], list[dict[str, float]]] = {}
        for seed in options.seeds:
            candidates = np.flatnonzero((model.counts >= FEWEST) & (model.counts <= MOST))
            held_out = np.sort(np.random.default_rng(seed).choice(candidates, WORDS, replace=False))
            asked = [model.words[row] for row in held_out.tolist()]
            truth, without = Truth(model, held_out), folder / f"without-{seed}"
            model.write_without(held_out, folder / "full", without)
            (folder / "words").write_text("\n".join(asked) + "\n")
            for occurrences in options.occurrences:
                thin = thinned(lines, set(asked), occurrences, seed)
                (folder / "thin.txt").write_text("".join(thin))
                ways: dict[str, dict[str, float]] = {}
                run([
                    *SUBMIT, "jobs/induce.py", str(without), "--input", str(folder / "thin.txt"),
                    "--words", str(folder / "words"), "--to", str(folder / "induced"), "--overwrite",
                ])  # fmt: skip
                table = pq.read_table(folder / "induced")
                vectors = np.array(table["vector"].to_pylist(), np.float32)
                ways["induced"] = truth.compare(rows_of(table["word"].to_pylist(), vectors, asked))
                ways["mean"] = truth.compare(mean_of_contexts(thin, model, held_out))
                for name, is_induced in (("random", "false"), ("warm start", "true")):
                    output = folder / "warm"
                    command = train_command([], folder / "thin.txt", output, {**WARM, "vocabulary.induce": is_induced})
                    run([*command, "--init", str(without), "--overwrite"])
                    found = embeddings.read(output)
                    words = found.words.to_pylist()
                    ways[name] = truth.compare(
                        rows_of(words, found.vectors, asked), rows_of(words, found.vectors, model.words)
                    )
                for name, result in ways.items():
                    results.setdefault((occurrences, name), []).append(result)
                print(json.dumps({"seed": seed, "occurrences": occurrences, **ways}), flush=True)
        for (occurrences, name), found_here in results.items():
            means: dict[str, Any] = {key: round(mean(one[key] for one in found_here), 3) for key in found_here[0]}
            print(json.dumps({"occurrences": occurrences, "way": name, **means}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
