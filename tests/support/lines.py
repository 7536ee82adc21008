"""Lines for the tokenizer, and the words found one character at a time."""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.tokenizer import Tokenizer, tokenize
from spark_w2v.text.word_patterns import INNER

WORDS = Tokenizer("words", "", True, 1000, 100)


# L counts lines, as in corpus.py.
REASONS = COUNTERS[COUNTERS.index("lines_with_words") : COUNTERS.index("binary_lines") + 1]


def words_of(values: Sequence[Any], tokenizer: Tokenizer = WORDS) -> list[list[str]]:
    """The words of each line."""
    kind = pa.list_(pa.string()) if tokenizer.kind == "none" else pa.string()
    lines = tokenize(pa.array(values, kind), tokenizer)
    spelled = lines.words.to_pylist()
    bounds = lines.word_offsets.tolist()
    return [[spelled[code] for code in lines.codes[a:b]] for a, b in pairwise(bounds)]


def tallied(array: pa.Array, tokenizer: Tokenizer = WORDS) -> dict[str, int]:
    """Return the counters of an array that are not 0."""
    sums = tokenize(array, tokenizer).counters.sum(axis=0).tolist()
    return {name: count for name, count in zip(COUNTERS, sums, strict=True) if count}


def slow_words(text: str) -> list[str]:
    """The default tokenizer, one character at a time: the oracle."""
    invisible = set("\u00ad\u034f\u115f\u1160\u3164\uffa0") | {chr(code) for code in range(0xFE00, 0xFE10)}
    text = "".join(c.lower() if len(c.lower()) == 1 else c for c in text if c not in invisible)
    text = unicodedata.normalize("NFC", text)
    inner = INNER
    runs = "".join(c if unicodedata.category(c)[0] in "LMN" or c in inner else " " for c in text)
    for mark in inner:
        for other in inner:
            while mark + other in runs:  # two inner marks join nothing
                at = runs.index(mark + other)
                end = at
                while end < len(runs) and runs[end] in inner:
                    end += 1
                runs = runs[:at] + " " + runs[end:]
    found = []
    for run in runs.split(" "):
        start = 0
        while start < len(run) and (run[start] in inner or unicodedata.category(run[start])[0] == "M"):
            start += 1
        found.append(run[start:].rstrip(inner))
    return [word for word in found if word]
