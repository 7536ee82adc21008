"""Vectors in the formats of word2vec: text, as fastText writes .vec and GloVe without the first line, and binary.

A file is read as a stream, twice: when it is opened, to the end, and when its vectors are needed. Nothing in it is
executed or unpickled, and it is a text or a binary file by what is in it, not by its name.

U words, D dimensions.
"""

import gzip
import hashlib
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple, NoReturn, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.config.text_sections import MOST_DIMENSIONS
from spark_w2v.errors import OutputError
from spark_w2v.storage.files import open_file, raise_if_passing, reason
from spark_w2v.text.arrow_arrays import once
from spark_w2v.text.messages import some_words
from spark_w2v.types import BoolArray, Float32Array

CHUNK_BYTES = 16 << 20  # of vectors that are in memory at a time
TEXT_BYTES = 64 << 20  # of lines that are in memory at a time
ALL_WORDS_BYTES = 2 << 30  # of all words; those of GoogleNews have 50 MB
MOST_WORD_BYTES = 10_000
MOST_EMPTY = 1000  # empty lines after the first one, and after the last word of a text
MOST_NUMBER_BYTES = 40  # of a number in text, with the space before it
MOST_WORDS = 30_000_000  # = 3 GB of Python's bytes; GoogleNews has 3 million
ARCHIVES = {b"PK\x03\x04": "zip", b"BZh": "bzip2"}
GZIP, PICKLE, FASTTEXT = b"\x1f\x8b", b"\x80", b"\xba\x16\x4f\x2f"
BOM = b"\xef\xbb\xbf"  # that programs of Windows begin UTF-8 with
NUMBER = re.compile(rb"[+-]?(?=\.?\d)\d*(?:\.\d*(?:[eE][+-]?\d+)?|[eE][+-]?\d+)")  # as coordinates are written
# Where a word of a binary file has spaces, the rest of it stands where its vector is looked for.
MORE_WORDS = re.compile(rb"(?:[^\0-\x20\x7f]{0,100} ){1,8}")
SMALLEST, LARGEST = 1e-12, 1e4  # of usual numbers other than 0; one in five of random bytes is one
FIRST_NUMBERS = 8  # of a vector, which are unusual where it begins with text
GIVE = "give the output of a finished run, or vectors in word2vec's text or binary format"


State = tuple[int, int, int, int]


class Layout(NamedTuple):
    """How the vectors of a file are written.

    Args:
        rows: U as the first line says; None without such a line.
        start: bytes before the first word.
    """

    is_binary: bool
    rows: int | None
    dimensions: int
    start: int


class VectorFile:
    """The words and center vectors of a file that has been read to its end once.

    Args:
        words: (U,) strings; null where a word was there before, is empty, or is not UTF-8.
        dimensions: D.
        digest: of words and vectors.
    """

    def __init__(self, path: Path, layout: Layout, state: State, words: pa.StringArray, digest: str) -> None:
        self.words, self.dimensions, self.digest = words, layout.dimensions, digest
        self._path, self._layout, self._state = path, layout, state

    def chunks(self) -> Iterator[tuple[Float32Array, Float32Array]]:
        """Iterate over the rows, (n, D) each: center vectors, and context vectors, which are zeros.

        Raises:
            OutputError: the file has changed, or cannot be read any more.
        """
        rows = 0
        for words, center in _read(self._path, self._layout):
            rows += len(words)
            yield center, np.zeros_like(center)
        if rows != len(self.words) or _state(self._path) != self._state:
            raise OutputError(f"{self._path}: has changed while it was read; start again.")


def open_vectors(path: Path, longest: float = math.inf) -> VectorFile:
    """Read a file of vectors to its end.

    Args:
        longest: length that a vector may have.

    Raises:
        OutputError: one sentence on what is wrong with it.
    """
    state, layout = _state(path), _layout(path)
    digest, words, size = hashlib.sha256(), list[bytes](), 0
    for more, center in _read(path, layout):
        _check_lengths(path, more, center, len(words), longest)
        digest.update(np.ascontiguousarray(center).data)
        words += more
        size += sum(map(len, more))
        if size > ALL_WORDS_BYTES:
            _refuse(path, "has words of more than 2 GiB")
    digest.update(b"\0".join(words))
    spellings = pa.array(list(map(_decoded, words)), pa.string())
    return VectorFile(path, layout, state, once(spellings), digest.hexdigest()[:16])


def _check_lengths(path: Path, words: list[bytes], center: Float32Array, before: int, longest: float) -> None:
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.vecdot(center, center))
    if lengths.max() > longest:
        row = int(np.argmax(lengths > longest))
        number, word = before + row + 1, some_words([words[row].decode(errors="replace")])
        raise OutputError(
            f"{path}: the vector of word {number:,}, {word}, has the length {lengths[row]:,.6g}, and a training takes "
            f"at most {longest:,.0f}; divide all vectors by the same number."
        )


def _state(path: Path) -> State:
    """Return what changes when a file is replaced or written to.

    Raises:
        OutputError: it cannot be looked at.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise_if_passing(str(path), error)
        raise OutputError(f"{path}: cannot be read ({reason(error)}).") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _decoded(word: bytes) -> str | None:
    try:
        return word.decode() or None
    except UnicodeDecodeError:
        return None


def _refuse(path: Path, found: str) -> NoReturn:
    raise OutputError(f"{path}: {found}; {GIVE}.")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, gzipped or not; what reading it raises becomes one sentence."""
    try:
        with open_file(path) as file:
            if file.peek(2)[:2] == GZIP:
                with gzip.open(file) as unzipped:
                    yield cast(IO[bytes], unzipped)
            else:
                yield file
    except EOFError:
        _refuse(path, "the gzip file is cut off")
    except (OSError, ValueError, zlib.error) as error:
        if isinstance(error, OutputError):
            raise
        raise_if_passing(str(path), error)
        _refuse(path, f"cannot be read ({reason(error)})")


def _layout(path: Path) -> Layout:
    """Return how a file is written, from its first bytes."""
    longest = MOST_WORD_BYTES + MOST_NUMBER_BYTES * MOST_DIMENSIONS
    with _opened(path) as file:
        mark = len(BOM) if _begins_with_mark(file) else 0
        file.read(mark)
        line = file.readline(longest)
        header = re.fullmatch(rb"\s*(-?\d{1,100})\s+(-?\d{1,100})\s*", line)
        start, second = mark + len(line), file.readline(longest) if header else b""
        for _ in range(MOST_EMPTY):
            if not second or second.strip():
                break
            start, second = start + len(second), file.readline(longest)
    if not line:
        _refuse(path, "is empty")
    if line.startswith(PICKLE):
        _refuse(path, "is a pickle, which is never opened; gensim's save_word2vec_format writes what can be read")
    if line.startswith(FASTTEXT):
        _refuse(path, "is a model of fastText, which has its vectors in the file .vec")
    if header is None:
        numbers = line.split()[1:]
        if not numbers or _numbers(line, len(numbers)) is None or not line.endswith(b"\n"):
            if archive := next((name for magic, name in ARCHIVES.items() if line.startswith(magic)), None):
                _refuse(path, f"is packed by {archive} (unpack it, or pack it with gzip instead)")
            _refuse(path, "its first line says neither how many words and dimensions it has, nor is a word's vector")
        if len(numbers) > MOST_DIMENSIONS:
            _refuse(path, f"its first line has {len(numbers):,} numbers, more than {MOST_DIMENSIONS:,}")
        return Layout(False, None, len(numbers), mark)
    rows, dimensions = int(header[1]), int(header[2])
    if not 0 < dimensions <= MOST_DIMENSIONS or not 0 < rows <= MOST_WORDS:
        _refuse(path, f"its first line says {rows:,} words of {dimensions:,} dimensions")
    return Layout(not _is_text(second, dimensions), rows, dimensions, start)


def _is_text(line: bytes, dimensions: int) -> bool:
    """Whether the first vector of a file is written as text, be it damaged."""
    if _numbers(line, dimensions) is not None or _numbers(line, len(line.split()) - 1) is not None:
        return True
    _, _, numbers = line.strip().partition(b" ")
    return line.endswith(b"\n") and dimensions > 1 and re.fullmatch(rb"[-+0-9.,;eE\s]{2,}", numbers) is not None


def _begins_with_mark(file: IO[bytes]) -> bool:
    """Whether a byte-order mark is there, and not a word that is this character, as the first one of GloVe may be."""
    begin = cast(BufferedReader, file).peek(len(BOM) + 1)[: len(BOM) + 1]
    return begin.startswith(BOM) and not begin[len(BOM) :].isspace()


def _numbers(line: bytes, dimensions: int) -> tuple[bytes, Float32Array] | None:
    """Return word and vector of a line of text; None if it is something else.

    White space around the word is left out. Where a line begins with it, and then has numbers only, the word is empty.
    """
    parts = line.rsplit(None, dimensions)
    if len(parts) == dimensions and line[:1].isspace():
        parts = [b"", *parts]
    if len(parts) != dimensions + 1 or dimensions < 1:
        return None
    word, *numbers = parts
    if any(b"_" in number for number in numbers):  # float reads 1_0 as 10
        return None
    try:
        with np.errstate(over="ignore"):
            return word.lstrip(), np.array([float(number) for number in numbers], np.float64).astype(np.float32)
    except ValueError:
        return None


def _read(path: Path, layout: Layout) -> Iterator[tuple[list[bytes], Float32Array]]:
    """Iterate over words and (n, D) vectors of a file.

    Raises:
        OutputError: one sentence on what is wrong with it.
    """
    rows = 0
    with _opened(path) as file:
        file.seek(layout.start)
        for words, vectors in (_read_binary if layout.is_binary else _read_text)(path, file, layout):
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                _refuse(path, f"the vector of word {rows + 1 + int(np.argmin(finite)):,} is not finite")
            rows += len(words)
            yield words, vectors
    if layout.rows is not None and rows < layout.rows:
        _refuse(path, f"ends after {rows:,} words, and its first line says {layout.rows:,}")


def _read_text(path: Path, file: IO[bytes], layout: Layout) -> Iterator[tuple[list[bytes], Float32Array]]:
    d, rows = layout.dimensions, 0
    longest = MOST_WORD_BYTES + MOST_NUMBER_BYTES * d
    size, empty = max(1, CHUNK_BYTES // (4 * d)), 0  # lines that are none, where nothing has come after them yet
    while empty <= MOST_EMPTY:
        lines, taken, line = [b"\n"] * empty, 0, b" "
        while len(lines) < size + empty and taken < TEXT_BYTES and (line := file.readline(longest)):
            lines.append(line)
            taken += len(line)
            if len(line) == longest and not line.endswith(b"\n"):
                _refuse(path, f"word {rows + len(lines):,} is not followed by {d:,} numbers")
        empty = 0
        while lines and not lines[-1].strip():
            lines.pop()
            empty += 1
        if not lines and not line:
            return
        if not lines:
            continue
        if layout.rows is None and rows + len(lines) > MOST_WORDS:
            _refuse(path, f"has more than {MOST_WORDS:,} words")
        if layout.rows is not None and rows + len(lines) > layout.rows:
            _refuse(path, f"goes on after the {layout.rows:,} words that its first line says")
        words, vectors = _rows(lines, d) or _rows_one_by_one(path, lines, layout, rows)
        rows += len(words)
        yield words, vectors
    _refuse(path, f"has {empty:,} empty lines after {rows:,} words")


def _rows(lines: list[bytes], dimensions: int) -> tuple[list[bytes], Float32Array] | None:
    """Return words and vectors of lines of text; None where a line is not a word without spaces, and its numbers."""
    parts = [line.rstrip().split(None, 1) for line in lines]
    if any(len(part) != 2 or part[1].count(b" ") != dimensions - 1 for part in parts):
        return None
    joined = pa.array([b" ".join(rest for _, rest in parts)], pa.large_binary())
    try:
        numbers = pc.cast(pc.split_pattern(joined.cast(pa.large_string()), " ").values, pa.float32())
    except pa.ArrowInvalid:
        return None
    return [word for word, _ in parts], numbers.to_numpy().reshape(len(lines), dimensions)


def _rows_one_by_one(path: Path, lines: list[bytes], layout: Layout, before: int) -> tuple[list[bytes], Float32Array]:
    """As _rows, also of words with spaces; a line that is something else is refused by its number.

    A word that ends with a number may be one ("windows 3.1"), or the dimensions are more than those assumed. A first
    line that says how many there are is believed, unless most of the first words end so.

    Args:
        before: words before these lines.
    """
    d = layout.dimensions
    words, vectors, odd = list[bytes](), np.empty((len(lines), d), np.float32), list[int]()
    for number, line in enumerate(lines):
        found = _numbers(line, d)
        if found is None:
            _refuse(path, f"word {before + number + 1:,} is not followed by {d:,} numbers")
        _, space, last = found[0].rpartition(b" ")
        if space and NUMBER.fullmatch(last) and math.isfinite(float(last)):
            odd.append(before + number + 1)
        words.append(found[0])
        vectors[number] = found[1]
    if odd and (layout.rows is None or (not before and 2 * len(odd) > len(lines))):
        _refuse(path, f"word {odd[0]:,} is followed by more than {d:,} numbers")
    return words, vectors


def _read_binary(path: Path, file: IO[bytes], layout: Layout) -> Iterator[tuple[list[bytes], Float32Array]]:
    assert layout.rows is not None, "a binary file has a first line"
    d, rows, left = layout.dimensions, 0, b""
    size = max(CHUNK_BYTES, 2 * (4 * d + MOST_WORD_BYTES))
    while more := file.read(size):
        content, place = left + more, 0
        words, parts, begins = list[bytes](), list[bytes](), list[int]()
        while rows + len(words) < layout.rows:
            space = content.find(b" ", place, place + MOST_WORD_BYTES)
            if space < 0 and len(content) - place > MOST_WORD_BYTES:
                _refuse(path, f"word {rows + len(words) + 1:,} does not end within {MOST_WORD_BYTES:,} bytes")
            end = space + 1 + 4 * d
            if space < 0 or end > len(content):
                break
            words.append(content[place:space].lstrip(b"\n"))
            parts.append(content[space + 1 : end])
            begins.append(space + 1)
            place = end
        rows, left = rows + len(words), content[place:]
        if words:
            vectors = np.frombuffer(b"".join(parts), "<f4").reshape(len(words), d)
            for row in np.flatnonzero(~_are_usual(vectors[:, :FIRST_NUMBERS])):
                number = rows - len(words) + int(row) + 1
                _check_spaces(path, content, words[row], begins[row], d, number, number == layout.rows)
            yield words, vectors
        if rows == layout.rows:
            if (left + file.read(1)).strip():
                _refuse(path, f"goes on after the {layout.rows:,} words that its first line says")
            return


def _check_spaces(
    path: Path, content: bytes, first: bytes, begin: int, dimensions: int, number: int, is_last: bool
) -> None:
    """Refuse a word with spaces, of which a reader takes the first part for the word and the rest for numbers.

    It has spaces if its numbers are usual ones behind what may be the rest of it, and a word follows them, or nothing
    does after the last word.

    Args:
        first: what was taken for the word.
        begin: of its numbers, which are unusual.
        number: of the word, from 1.
    """
    rest = MORE_WORDS.match(content, begin)
    place, last = begin, rest.end() if rest else begin
    while place := content.find(b" ", place, last) + 1:
        end = place + 4 * dimensions
        if end > len(content):
            return
        word = _decoded(first + b" " + content[begin : place - 1])
        follows = not content[end:].strip() if is_last else _is_word(content, end)
        if word and follows and _are_usual(np.frombuffer(content, "<f4", dimensions, place)):
            raise OutputError(
                f"{path}: word {number:,}, {some_words([word])}, has a space in it, and the binary format has no such "
                "words; save the vectors as text."
            )


def _are_usual(vectors: Float32Array) -> BoolArray:
    """Whether all numbers of each vector may be those of one; few that begin within a number or in a text are."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(vectors)
        usual: BoolArray = ((sizes == 0) | ((sizes > SMALLEST) & (sizes < LARGEST))).all(axis=-1)
    return usual


def _is_word(content: bytes, place: int) -> bool:
    """Whether printable text and a space are there."""
    space = content.find(b" ", place, place + MOST_WORD_BYTES)
    word = _decoded(content[place:space].lstrip(b"\n")) if space >= 0 else None
    return word is not None and word.isprintable()
