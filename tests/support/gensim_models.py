"""Models with the words of gensim's files of questions; what imports it is skipped where there is no gensim."""

from typing import Any

import numpy as np

from spark_w2v.types import Float32Array
from tests.support.gensim_parts import data, keyed_vectors

QUESTIONS = data("questions-words.txt")


PAIR_FILES = [data("wordsim353.tsv"), data("simlex999.txt")]


Model = tuple[list[str], Float32Array]


def file_words() -> list[str]:
    """The words of the three files, as they are spelled there, in a fixed order."""
    lines = [line for path in (*PAIR_FILES, QUESTIONS) for line in path.read_text(encoding="utf-8").splitlines()]
    words = [word for line in lines if line[0] not in "#:" for word in line.split()]
    return [word for word in dict.fromkeys(words) if not word[0].isdigit()]


def model(seed: int, size: int, dimensions: int, share: float) -> Model:
    """Vectors in which analogies are right now and then.

    A capital is near its country plus a direction common to all, say: the words of the questions' second and fourth
    column are those of the first and third, moved. Some words are spelled in several cases, some have equal vectors,
    some none; a few are strangers to all files.
    """
    rng = np.random.default_rng(seed)
    vectors: dict[str, Float32Array] = {}
    move = rng.normal(size=dimensions)
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        if not line.startswith(":"):
            a, b, c, d = line.split()
            for base, moved in ((a, b), (c, d)):
                start = vectors.setdefault(base, rng.normal(size=dimensions).astype(np.float32))
                vectors.setdefault(moved, np.asarray(start + move + rng.normal(0, 0.6, dimensions), np.float32))
    for word in file_words():
        vectors.setdefault(word, rng.normal(size=dimensions).astype(np.float32))
    kept = [word for word in vectors if rng.random() < share]
    for word in kept[::7]:
        vectors.setdefault(word.lower(), vectors[word] + rng.normal(0, 0.1, dimensions).astype(np.float32))
        vectors.setdefault(word.upper(), vectors[word])
        kept += [word.lower(), word.upper()]
    for number in range(size):
        vectors[f"stranger{number}"] = np.asarray(rng.normal(size=dimensions) * 10.0 ** rng.integers(-4, 4), np.float32)
        kept.append(f"stranger{number}")
    words = list(dict.fromkeys(kept))
    rng.shuffle(words)
    return words, np.stack([vectors[word] for word in words]).astype(np.float32)


MODELS = {
    "small": model(1, 50, 5, 0.9),
    "wide": model(2, 100, 300, 0.7),
    "middle": model(3, 3000, 40, 1.0),
    "sparse": model(4, 500, 16, 0.4),
    "many": model(5, 6000, 8, 0.95),
}


def keyed(words: list[str], vectors: Float32Array) -> Any:
    found = keyed_vectors()(vectors.shape[1])
    found.add_vectors(words, vectors)
    return found
