"""Embeddings → how good they are: word similarity, analogies, and what moved since another run. Needs no Spark.

The results are those of gensim's evaluate_word_pairs and evaluate_word_analogies with their defaults: words are
compared in upper case, and of several spellings the most frequent counts.

Letters: V words, R of them that may be asked for, D dimensions, N pairs or questions.
"""

import csv
import math
import os
import stat
import unicodedata
import warnings
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from spark_w2v.analysis.evaluation_results import Analogies, Move, NeighbourhoodDrift, Section, Similarity
from spark_w2v.analysis.neighbors import nearest_rows, unit_vectors
from spark_w2v.errors import UserError
from spark_w2v.runs.embeddings import Embeddings
from spark_w2v.storage.files import raise_if_passing, reason
from spark_w2v.types import Float32Array, Float64Array, Int64Array

RESTRICT = 300_000  # gensim's default
NEAR = 10  # words are a neighbourhood
LARGEST_FILE = 1 << 28  # bytes of pairs or questions, which are in memory where two runs are compared
LONGEST_LINE = 1 << 16  # bytes; what is longer is several wrong lines
MOST_MISSING = 10_000  # words without a vector that are kept of a file
ROWS = 1 << 14  # normalised, or compared in pairs, at a time
# Questions and words that meet in one matrix product: 512 x 4,096 x 4 bytes = 8 MB a matrix, of which there are ten.
QUESTIONS, WORDS = 512, 4096
NEIGHBOURHOODS = 1 << 13  # compared at a time

Lines = Iterable[str | None]


class AnalogyIndex(NamedTuple):
    """Vectors made ready for questions.

    words (V,), units (V, D) of length 1; ids: upper case → the most frequent of R words that is so; family (R,): the
    id of a word's most frequent spelling; family f is members[starts[f] : starts[f] + sizes[f]].
    """

    words: pa.StringArray
    units: Float32Array
    ids: Mapping[str, int]
    family: Int64Array
    members: Int64Array
    starts: Int64Array
    sizes: Int64Array


def space(embeddings: Embeddings, restrict: int = RESTRICT) -> AnalogyIndex:
    """Prepare for questions; the vectors become unit vectors in place, as a copy would double the memory."""
    units = embeddings.vectors
    for start in range(0, len(units), ROWS):
        units[start : start + ROWS] = unit_vectors(units[start : start + ROWS])
    ids: dict[str, int] = {}
    spellings = embeddings.words[:restrict].to_pylist()
    family = np.fromiter((ids.setdefault(word.upper(), i) for i, word in enumerate(spellings)), np.int64)
    sizes = np.bincount(family, minlength=len(family)).astype(np.int64)
    members = np.argsort(family, kind="stable")
    return AnalogyIndex(embeddings.words, units, ids, family, members, np.cumsum(sizes) - sizes, sizes)


def _id_of(space: AnalogyIndex, word: str) -> int | None:
    """The id of a word in any case; one that is unknown as it is spelled is looked up in NFC, as tokenizers make it."""
    found = space.ids.get(word.upper())
    return space.ids.get(unicodedata.normalize("NFC", word).upper()) if found is None else found


def worse(this: "Similarity | Analogies", other: "Similarity | Analogies", share: float) -> list[str]:
    """Return what is below a share of another run's, a sentence each: the score, and how much could be answered.

    The latter because a run that lost half of its words may score better on the rest. A score of the other run that is
    not above 0, or could not be computed, says nothing and demands nothing.
    """
    return [
        f"{this.file}: {name} is {_figure(ours)}, below {share:g} of {_figure(theirs)}."
        for name, ours, theirs in _scores(this, other)
        if theirs is not None and theirs > 0 and (ours is None or ours < share * theirs)
    ]


def not_compared(this: "Similarity | Analogies", other: "Similarity | Analogies") -> list[str]:
    """Return the scores of another run that demand nothing, a sentence each."""
    return [
        f"{this.file}: {name} is not compared, as the other's is {_figure(theirs)}."
        for name, _, theirs in _scores(this, other)
        if theirs is None or theirs <= 0
    ]


def _scores(
    this: "Similarity | Analogies", other: "Similarity | Analogies"
) -> list[tuple[str, float | None, float | None]]:
    """The names of what is compared, and both values."""
    if isinstance(this, Similarity) and isinstance(other, Similarity):
        return [("Spearman", this.spearman, other.spearman), ("pairs used", this.used, other.used)]
    if isinstance(this, Analogies) and isinstance(other, Analogies):
        a, b = this.total, other.total
        return [("3CosAdd", a.add, b.add), ("3CosMul", a.mul, b.mul), ("questions used", a.used, b.used)]
    raise TypeError("results of one kind are compared")


def _figure(value: float | None) -> str:
    return "not computable" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


# Word similarity


def similarity(space: AnalogyIndex, path: Path, lines: Lines | None = None) -> Similarity:
    """Correlation of cosines with the judgements of a file in the layout of WordSim-353, SimLex-999 or MEN.

    Args:
        lines: of the file, as read_lines gave them; None to read it.

    Raises:
        UserError: for a file that cannot be read or has no pair.
    """
    ids, gold = array("q"), array("d")
    pairs = bad_lines = 0
    missing: dict[str, None] = {}
    for found in _pairs(_lines(path) if lines is None else lines):
        if found is None:
            bad_lines += 1
            continue
        pairs += 1
        known = [_id_of(space, word) for word in found[:2]]
        if known[0] is not None and known[1] is not None:
            ids.extend(known)  # type: ignore[arg-type]
            gold.append(found[2])
        elif len(missing) < MOST_MISSING:
            missing.update({word: None for word, index in zip(found[:2], known, strict=True) if index is None})
    if not pairs:
        raise UserError(
            f"{path}: has no pair of words; a line is WORD WORD NUMBER, separated by tabs, commas or spaces."
        )
    rows = np.frombuffer(ids, np.int64).reshape(-1, 2) if ids else np.zeros((0, 2), np.int64)
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS):
        one, two = rows[start : start + ROWS].T
        # Float32 and the BLAS's dot, as gensim has them: then pairs that are alike but for rounding rank as there.
        cosines[start : start + ROWS] = np.vecdot(space.units[one], space.units[two])
    spearman, pearson = _correlations(np.array(gold), cosines)
    return Similarity(str(path), pairs, len(rows), spearman, pearson, pairs - len(rows), bad_lines, list(missing))


def _correlations(gold: Float64Array, cosines: Float32Array) -> tuple[float | None, float | None]:
    if len(gold) < 2:
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant, whose correlation is nan
        found = [stats.spearmanr(gold, cosines)[0], stats.pearsonr(gold, cosines)[0]]
    spearman, pearson = (float(value) if math.isfinite(value) else None for value in found)
    return spearman, pearson


def _pairs(lines: Lines) -> Iterator[tuple[str, str, float] | None]:
    """Word, word, judgement; None for a line of another layout. A first line without a number is a heading."""
    is_first = True
    for line in lines:
        if line is None:
            yield None
        elif line.strip() and not line.startswith("#"):
            fields = _fields(line, 3)
            # SimLex-999 has a part of speech before its number.
            scores = [score for field in fields[2:4] if (score := _number(field)) is not None]
            words = [field.strip() for field in fields[:2]]
            if scores and all(words):
                yield words[0], words[1], scores[0]
            elif not is_first:
                yield None
            is_first = False


def _fields(line: str, least: int) -> list[str]:
    """The fields of a line: between the first of tabs, semicolons and commas that cuts it, or between white space.

    Args:
        least: fields that a line has.
    """
    for mark in [mark for mark in "\t;," if mark in line]:
        if len(fields := _quoted(line, mark)) >= least or len(fields := line.split(mark)) >= least:
            return fields
    # Words with spaces have quotes around them there.
    return fields if '"' in line and len(fields := _quoted(line, " ")) >= least else line.split()


def _quoted(line: str, mark: str) -> list[str]:
    """The fields of a line of CSV."""
    if '"' not in line:
        return line.split(mark)
    try:
        return next(csv.reader([line.strip(" \r\n")], delimiter=mark, skipinitialspace=True), [])
    except csv.Error:  # a carriage return inside of the line
        return line.split(mark)


def _number(text: str) -> float | None:
    """A finite number, also with a decimal comma, which no unquoted field has that commas separate."""
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# Analogies


def analogies(space: AnalogyIndex, path: Path, lines: Lines | None = None) -> Analogies:
    """Answer a file in the layout of questions-words.txt among the R most frequent words.

    Args:
        lines: as similarity has them.

    Raises:
        UserError: for a file that cannot be read or has no question.
    """
    names: list[str] = []
    tallies: list[Int64Array] = []  # questions, used, right by 3CosAdd, right by 3CosMul
    bad_lines = 0
    missing: dict[str, None] = {}
    asked: list[tuple[int, list[int]]] = []

    def answer() -> None:
        ids = np.array([words for _, words in asked], np.int64).reshape(-1, 4)
        right = [found == ids[:, 3] for found in answers(space, ids[:, :3])]
        for (section, _), *is_right in zip(asked, *right, strict=True):
            tallies[section] += [0, 1, *is_right]
        asked.clear()

    for line in _lines(path) if lines is None else lines:
        words = [word.strip() for word in _fields(line or "", 4)]
        if line is not None and line.startswith(":"):
            names.append(line.lstrip(": ").strip())
            tallies.append(np.zeros(4, np.int64))
        elif len(words) == 4 and all(words):
            if not names:
                names.append("")
                tallies.append(np.zeros(4, np.int64))
            tallies[-1][0] += 1
            found = {word: _id_of(space, word) for word in words}
            ids = [index for word in words if (index := found[word]) is not None]
            if len(ids) == len(words):
                asked.append((len(names) - 1, ids))
            elif len(missing) < MOST_MISSING:
                missing.update({word: None for word, index in found.items() if index is None})
            if len(asked) == QUESTIONS:
                answer()
        elif words or line is None:
            bad_lines += 1
    answer()
    sections = [_section(name, tally) for name, tally in zip(names, tallies, strict=True)]
    total = _section("total", sum(tallies, start=np.zeros(4, np.int64)))
    if not total.questions:
        raise UserError(f"{path}: has no analogy; a line is four words, and a line that starts with : is a heading.")
    return Analogies(str(path), sections, total, bad_lines, list(missing))


def _section(name: str, tally: Int64Array) -> Section:
    questions, used, add, mul = map(int, tally)
    return Section(
        name, questions, used, add / used if used else None, mul / used if used else None, questions - used, add, mul
    )


def answers(space: AnalogyIndex, asked: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return what c is to, as a is to b: among R words but a, b, c in any spelling, the lowest id of equals.

    Args:
        asked: (N, 3) ids of a, b, c, each the most frequent spelling.

    Returns:
        Two (N,), by 3CosAdd and by 3CosMul: ids of most frequent spellings, or -1 where no word is left.
    """
    count = len(asked)
    each = np.arange(count)
    units = space.units[: len(space.family)]
    # Column j of line i is a spelling of one of its three words.
    sizes = space.sizes[asked].reshape(-1)
    i = np.repeat(each.repeat(3), sizes)
    j = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(space.starts[asked], sizes)
    j = space.members[j]

    distinct, place = np.unique(asked, return_inverse=True)
    a, b, c = place.reshape(-1, 3).T
    best = np.full((2, count), -np.inf, np.float32)
    found = np.full((2, count), -1)
    for start in range(0, len(units), WORDS):
        cosines = units[distinct] @ units[start : start + WORDS].T
        to_a, to_b, to_c = cosines[a], cosines[b], cosines[c]
        is_here = (j >= start) & (j < start + WORDS)
        # 3CosMul with cosines shifted to [0, 1] and epsilon 1e-6, as in the paper's footnote 7 and in gensim.
        by_mul = (1 + to_b) / 2 * ((1 + to_c) / 2) / ((1 + to_a) / 2 + np.float32(1e-6))
        for method, scores in enumerate((to_b - to_a + to_c, by_mul)):
            scores[i[is_here], j[is_here] - start] = -np.inf
            top = scores.argmax(axis=1)
            better = scores[each, top] > best[method]
            best[method, better] = scores[each, top][better]
            found[method, better] = space.family[start + top[better]]
    return found[0], found[1]


# Two runs


def neighbourhood_drift(here: AnalogyIndex, there: AnalogyIndex, among: int, show: int) -> NeighbourhoodDrift:
    """The words whose neighbourhoods differ most: fewest of the NEAR nearest in common, the more frequent first.

    Args:
        among: how many of the words that both runs have are words and neighbours, the most frequent of `here` first.
        show: how many to name.
    """
    rows = pc.index_in(here.words, value_set=there.words)
    common = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    chosen = common[:among]
    units = [here.units[chosen], there.units[rows.take(pa.array(chosen)).to_numpy()]]
    near = max(0, min(NEAR, len(chosen) - 1))
    shared = np.zeros(len(chosen), np.int64)
    for start in range(0, len(chosen) if near else 0, NEIGHBOURHOODS):
        ids = np.arange(start, min(start + NEIGHBOURHOODS, len(chosen)))
        one, two = (nearest_rows(matrix, ids, near)[0] for matrix in units)
        shared[ids] = (one[:, :, None] == two[:, None, :]).sum(axis=(1, 2))
    moved = np.argsort(shared, kind="stable")[:show]
    moved = moved[shared[moved] < near]
    words = here.words.take(pa.array(chosen))
    nearest = [
        [words.take(pa.array(ids)).to_pylist() for ids in nearest_rows(matrix, moved, near)[0]] for matrix in units
    ]
    return NeighbourhoodDrift(
        len(chosen), near, float(shared.mean()) if near else None,
        [Move(words[i].as_py(), int(shared[i]), *both) for i, *both in zip(moved.tolist(), *nearest, strict=True)],
        len(common), len(here.words) - len(common), len(there.words) - len(common),
    )  # fmt: skip


# Files


def check_file(path: Path) -> None:
    """Refuse a file that cannot be read, before there is work; of a pipe nothing is read.

    Raises:
        UserError: it cannot be read.
        StorageError: it could not be read, and may be later.
    """
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            open(path, "rb").close()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> UserError:
    raise_if_passing(str(path), error)
    return UserError(f"{path}: cannot be read ({reason(error)}).")


def read_lines(path: Path) -> list[str | None]:
    """Return the lines of a file for several runs, as a pipe can be read but once; None where one is no line of these.

    Raises:
        UserError, StorageError: as check_file does.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[str | None]:
    """Lines of UTF-8; None for one that is not, or is longer than any line of these files."""
    try:
        with open(path, "rb") as file:
            is_first, size = True, 0
            while line := file.readline(LONGEST_LINE):
                size += len(line)
                if size > LARGEST_FILE:
                    raise UserError(f"{path}: is larger than 256 MiB; give a file of pairs or questions.")
                try:
                    text = line.decode("utf-8-sig" if is_first else "utf-8")
                    yield text if len(line) < LONGEST_LINE else None
                except UnicodeDecodeError:
                    yield None
                is_first = False
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
