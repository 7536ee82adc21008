"""Files → PIECES: which lines are read, what a word is, and what was skipped.

The JVM reads lines and hands them over as Arrow batches; everything after that is vectorised, so that no word and no
line is ever a Python object. The word pattern runs over the distinct words of a batch, which are a tenth of its words.
"""

import difflib
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
import pyspark.sql.types as T

from spark_w2v.stages import inputs
from spark_w2v.stages.schemas import BAD, BAD_LINES, PIECES, TALLIES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus

log = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Result = TypeVar("Result")

# = 1 MB of codes and about as much of distinct words. A piece is the unit of random draws, so changing this changes
# the result of every run.
PIECE_WORDS = 250_000

# Splits of this many bytes, for files that can be split. Part of a piece's identity, as PIECE_WORDS is.
SPLIT_BYTES = 16 << 20

MOST_PIECES = 500  # that go to the JVM together, = 250 kB of small ones
LISTING_TASKS = 16  # at most, that list files given one by one

# Words of a bucket of a DataFrame's rows, which stands for a file. Part of a piece's identity, as PIECE_WORDS is.
BUCKET_WORDS = 10 * PIECE_WORDS

MOST_SCHEMAS = 100  # Parquet files that are looked at one by one, where something is wrong

# Bad lines of each kind that a split names, and bytes that it keeps of each.
NAMED_OF_A_SPLIT = 3
EXCERPT = 1000

NO_REASON = -1
LARGEST_WORD = 2**31 - 1  # characters: no limit
# Of these, a line is counted in one.
PLACES_OF_A_LINE = range(TALLIES.index("lines_with_words"), TALLIES.index("binary_lines") + 1)
BAD_TYPE = pa.list_(pa.struct([("place", pa.int32()), ("line", pa.int64()), ("beginning", pa.binary())]))
BAD_PLACES = [TALLIES.index(name) for name in BAD_LINES]


class Tokenizer(NamedTuple):
    """The keys of [corpus] that executors need, in plain types."""

    kind: str
    pattern: str
    lower_case: bool
    max_sentence_words: int
    max_word_length: int
    unspaced: str = "whole"


class Lines(NamedTuple):
    """Words and sentences of L lines with N words in S sentences."""

    words: pa.Array  # distinct, and then some: a word may be here that no code points to
    codes: Ints  # (N,) every word in text order, an index into `words`
    word_offsets: Ints  # (L + 1,) where each line's words start among all N
    lengths: Ints  # (S,) words of each sentence, all > 0
    sentence_offsets: Ints  # (L + 1,) where each line's sentences start among all S
    tallies: Ints  # (L, len(TALLIES))
    beginnings: pa.Array  # (L,) binary: how each line begins, to tell what is wrong with a bad one; may be null


class Piece(NamedTuple):
    """One row of PIECES, without its place."""

    words: pa.Array
    counts: Ints
    codes: bytes
    lengths: bytes
    tallies: Ints
    bad: Sequence[tuple[int, int, bytes]] = ()  # place in TALLIES, line and its beginning of the first bad lines


# What a word is

# Joins two letters, but neither starts nor ends a word: apostrophes, the middle dot of Catalan, Hebrew geresh and
# gershayim, the zero-width joiners of Indic scripts and Persian.
INNER = "'’·׳״\u200c\u200d"
# Seen by nobody and significant to nobody: soft hyphen, combining grapheme joiner, Hangul fillers, variation selectors.
INVISIBLE = "[\u00ad\u034f\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]"
NO_WORD = rf"[^\p{{L}}\p{{M}}\p{{N}}{INNER}]+|[{INNER}]{{2,}}"
# A combining mark without a letter before it is no word.
NO_START = rf"(^|\x01)[\p{{M}}{INNER}]+"
NO_END = rf"[{INNER}]+(\x01|$)"
# Not white space, and still the end of a word to `whitespace`: control characters, such as the field separators of
# Hive, and the zero-width space, which is there to mark the words of scripts that are written without spaces.
BREAK = r"[\p{Cc}\x{200B}]+"
# Never part of a word of `whitespace`: directional marks, word joiner, byte-order mark.
HIDDEN = r"[\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2069}\x{FEFF}]+"
# Letters that are written without spaces between the words, of Chinese and Japanese (the prolonged sound marks and 〆
# belong to no script), and of Thai, Lao, Burmese and Khmer (whose digits and marks belong to the scripts, too).
KANA = r"\p{Katakana}\x{30FC}\x{FF70}"
EAST_ASIAN = rf"\p{{Han}}\p{{Hiragana}}\x{{3006}}{KANA}"
SOUTH_EAST_ASIAN = "".join(
    chr(code)
    for block in ((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0xA9E0, 0xAA00), (0xAA60, 0xAA80))
    for code in range(*block)
    if unicodedata.category(chr(code)).startswith("L")
)
UNSPACED = rf"[{EAST_ASIAN}{SOUTH_EAST_ASIAN}]\p{{M}}*"
# What is longer than a word of these scripts, and so must be several.
CLAUSE = rf"[{EAST_ASIAN}]{{5,}}|[{SOUTH_EAST_ASIAN}\p{{M}}]{{16,}}"
ONE_WORD = rf"^[{KANA}]+$"  # "electrocardiogram", perhaps
CLAUSES_OF_A_LINE = 0.2  # of its words: segmented text has a long word now and then
SEPARATOR = "\x01"  # stands between words while a pattern works; taken out of the text before


def _ascii_table(lower_case: bool) -> npt.NDArray[np.uint8]:
    """Every byte to itself, but ASCII that is no letter, digit or apostrophe to a space; A to a if asked."""
    table = np.arange(256, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if not character.isalnum() and character != "'":
            table[byte] = ord(" ")
        elif lower_case:
            table[byte] = ord(character.lower())
    return table


ASCII_TABLES = {lower_case: _ascii_table(lower_case) for lower_case in (False, True)}


def tokenize(
    values: pa.Array, tokenizer: Tokenizer, reasons: Ints | None = None, beginnings: pa.Array | None = None
) -> Lines:
    """Cut L lines in words and sentences.

    Args:
        values: (L,) strings or lists of strings, as the kind of tokenizer wants, of whichever of Arrow's types for
            them; null where there is nothing to read. Strings need not be UTF-8.
        reasons: (L,) place in TALLIES of what is already known to be wrong with a line, NO_REASON elsewhere.
        beginnings: (L,) binary, of lines that are not their own beginning: those of JSON.
    """
    # The types are the user's choice (spark.sql.execution.arrow.useLargeVarTypes), and what follows reads offsets.
    values = _cast(values, pa.list_(pa.string()) if tokenizer.kind == "none" else pa.string())
    if beginnings is None:
        beginnings = pa.nulls(len(values), pa.binary()) if tokenizer.kind == "none" else _cast(values, pa.binary())
    tallies = np.zeros((len(values), len(TALLIES)), np.int64)
    tallies[:, TALLIES.index("lines")] = 1
    missing = _booleans(values.is_null())
    if reasons is not None:
        known = np.flatnonzero(reasons != NO_REASON)
        tallies[known, reasons[known]] = 1
        missing &= reasons == NO_REASON
    _mark(tallies, "missing_lines", missing)
    if tokenizer.kind == "none":
        blank = np.zeros(len(values), bool)
        chunks = values
    else:
        text = _readable(values, tallies)
        blank = _booleans(pc.equal(pc.utf8_ltrim_whitespace(text), ""))
        chunks = _chunks(text, tokenizer)
    offsets, flat = _flattened(chunks)
    words, codes, offsets = _cleaned(flat, offsets, tokenizer, tallies)

    in_line = np.diff(offsets)
    longest = min(tokenizer.max_sentence_words, PIECE_WORDS)
    sentences_in_line = -(-in_line // longest)
    sentence_offsets = _offsets(sentences_in_line)
    lengths = np.full(sentence_offsets[-1], longest, np.int64)
    with_words = in_line > 0
    lengths[sentence_offsets[1:][with_words] - 1] = (in_line[with_words] - 1) % longest + 1

    tallies[:, TALLIES.index("words")] = in_line
    tallies[:, TALLIES.index("sentences")] = sentences_in_line
    _mark(tallies, "lines_with_words", with_words)
    unexplained = tallies[:, PLACES_OF_A_LINE].sum(axis=1) == 0
    _mark(tallies, "blank_lines", unexplained & blank)
    _mark(tallies, "wordless_lines", unexplained & ~blank)
    _mark(tallies, "cut_lines", sentences_in_line > 1)
    return Lines(words, codes, offsets, lengths, sentence_offsets, tallies, beginnings)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array as another of Arrow's types for the same; strings that are not UTF-8 stay as they are."""
    if array.type.equals(kind):
        return array
    # By way of bytes, because from one type of strings to another Arrow refuses what is not UTF-8.
    if pa.types.is_string(kind) and not pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary()).cast(pa.binary())
        return pa.StringArray.from_buffers(len(array), *array.buffers()[1:], array.buffers()[0], -1, array.offset)
    return array.cast(kind)


def _mark(tallies: Ints, name: str, lines: Bools) -> None:
    tallies[:, TALLIES.index(name)] |= lines


def _booleans(array: pa.Array) -> Bools:
    """(L,) with null as False."""
    found: Bools = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return found


def _offsets(lengths: Ints | Bools) -> Ints:
    """(n + 1,) where each of n runs starts, and the end of the last."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _bytes(text: pa.Array) -> npt.NDArray[np.uint8]:
    """The UTF-8 of all strings of an array, one after the other."""
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    content = text.buffers()[2]
    if not len(text) or content is None:
        return np.empty(0, np.uint8)
    return np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]


def _readable(values: pa.Array, tallies: Ints) -> pa.Array:
    """Lines as valid UTF-8 without NUL; "" for null lines and for binary ones."""
    text = values
    # Spark's reader of text hands every byte on as it is, and Arrow's functions need not survive what is no UTF-8.
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text = _repaired(text.cast(pa.binary()), tallies)
    if text.null_count:
        text = pc.fill_null(text, "")
    if (_bytes(text) == 0).any():
        binary = _booleans(pc.match_substring(text, "\0"))
        _mark(tallies, "binary_lines", binary)
        tallies[binary, TALLIES.index("invalid_utf8_lines")] = 0
        text = pc.if_else(pa.array(binary), "", text)
    return text


def _repaired(lines: pa.Array, tallies: Ints) -> pa.Array:
    """The only place where a line is a Python object: a batch in which something is not UTF-8."""
    text: list[str | None] = []
    for number, line in enumerate(lines.to_pylist()):
        try:
            text.append(line if line is None else line.decode())
        except UnicodeDecodeError:
            text.append(line.decode(errors="replace"))
            tallies[number, TALLIES.index("invalid_utf8_lines")] = 1
    return pa.array(text, pa.string())


def _chunks(text: pa.Array, tokenizer: Tokenizer) -> pa.Array:
    """(L,) lists of strings; each holds any number of words, and no word is in two of them."""
    match tokenizer.kind:
        case "words":
            # All in one table look-up a byte: lower-case and cut at what separates words in ASCII. It leaves few
            # distinct chunks, and those of letters and digits alone are finished.
            table = ASCII_TABLES[tokenizer.lower_case]
            offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
            content = pa.py_buffer(table[_bytes(text)])
            text = pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets - offsets[0]), content)
            return pc.ascii_split_whitespace(text)
        case "whitespace":
            return pc.utf8_split_whitespace(text)
        case _:
            if not (_bytes(text) < 128).all():
                text = pc.utf8_normalize(text, "NFC")
            return _matches(pc.utf8_lower(text) if tokenizer.lower_case else text, tokenizer.pattern)


def _matches(text: pa.Array, pattern: str) -> pa.Array:
    """(L,) lists of what the pattern matches in each string."""
    text = pc.replace_substring(text, SEPARATOR, " ")
    # With a separator before and after every match, matches are the odd elements of the pieces between separators.
    marked = pc.replace_substring_regex(text, pattern, SEPARATOR + r"\0" + SEPARATOR)
    offsets, flat = _flattened(pc.split_pattern(marked, SEPARATOR))
    lengths = np.diff(offsets)  # all odd
    first = np.repeat(offsets[:-1], lengths)
    odd = (np.arange(len(flat)) - first) % 2 == 1
    return pa.ListArray.from_arrays(pa.array(_offsets(lengths // 2), pa.int32()), flat.filter(pa.array(odd)))


def _flattened(lists: pa.Array) -> tuple[Ints, pa.Array]:
    """Offsets (L + 1,) from 0 and elements; a null list is an empty one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return _offsets(lengths), lists.flatten()


def _cleaned(flat: pa.Array, offsets: Ints, tokenizer: Tokenizer, tallies: Ints) -> tuple[pa.Array, Ints, Ints]:
    """Words, codes and word offsets of lines (as in Lines) from their chunks."""
    encoded = flat.dictionary_encode(null_encoding="encode")
    chunks, chunk_of = encoded.dictionary, encoded.indices.to_numpy()
    words_of = _words_of_chunks(chunks, tokenizer)
    begin, parts = _flattened(words_of)
    long = _booleans(pc.greater(pc.utf8_length(parts), tokenizer.max_word_length))
    if tokenizer.kind == "none":
        empty = np.diff(begin) == 0
        tallies[:, TALLIES.index("null_words")] = np.diff(_offsets(empty[chunk_of])[offsets])
    if tokenizer.kind != "none" and (is_clause := _are_clauses(parts)).any():
        clauses = np.diff(_offsets(np.diff(_offsets(is_clause)[begin])[chunk_of])[offsets])
        of_line = np.diff(_offsets(np.diff(begin)[chunk_of])[offsets])
        _mark(tallies, "unspaced_lines", clauses > CLAUSES_OF_A_LINE * of_line)
    if long.any():
        line_of_part = np.diff(_offsets(long)[begin])  # long words of each chunk
        tallies[:, TALLIES.index("long_words")] = np.diff(_offsets(line_of_part[chunk_of])[offsets])
        begin = _offsets(~long)[begin]
        parts = parts.filter(pa.array(~long))
    encoded = parts.dictionary_encode()
    code_of_part = encoded.indices.to_numpy().astype(np.int64)
    in_chunk = np.diff(begin)
    if (in_chunk == 1).all():
        return encoded.dictionary, code_of_part[chunk_of], offsets
    repeats = in_chunk[chunk_of]
    word_offsets = _offsets(repeats)
    # The parts of each chunk in turn: begin, begin + 1, ... as often as the chunk has words.
    part = np.arange(word_offsets[-1]) + np.repeat(begin[:-1][chunk_of] - word_offsets[:-1], repeats)
    return encoded.dictionary, code_of_part[part], word_offsets[offsets]


def _are_clauses(words: pa.Array) -> Bools:
    """Whether each of some words is several, of a script that is written without spaces."""
    found = np.zeros(len(words), bool)
    long = np.flatnonzero(pc.binary_length(words).to_numpy() >= 15)  # 5 letters of 3 bytes; few are
    if len(long):
        longer = words.take(pa.array(long))
        is_one = pc.match_substring_regex(longer, ONE_WORD)
        found[long] = _booleans(pc.and_not(pc.match_substring_regex(longer, CLAUSE), is_one))
    return found


def _words_of_chunks(chunks: pa.Array, tokenizer: Tokenizer) -> pa.Array:
    """(n,) lists of words, from n distinct chunks."""
    if tokenizer.kind == "words":
        done = pc.ascii_is_alnum(chunks)
        rest = chunks.filter(pc.invert(done))
        if tokenizer.lower_case:
            rest = pc.utf8_lower(rest)
        rest = pc.replace_substring_regex(pc.utf8_normalize(rest, "NFC"), INVISIBLE, "")
        rest = pc.replace_substring_regex(rest, NO_WORD, SEPARATOR)
        if tokenizer.unspaced != "whole":
            rest = pc.replace_substring_regex(rest, f"((?:{UNSPACED})+)", SEPARATOR + r"\1" + SEPARATOR)
        rest = pc.replace_substring_regex(rest, NO_START, r"\1")
        rest = pc.replace_substring_regex(rest, NO_END, r"\1")
        chunks = pc.replace_with_mask(chunks, pc.invert(done), rest)
    elif tokenizer.kind == "whitespace":
        chunks = pc.replace_substring_regex(pc.utf8_normalize(chunks, "NFC"), BREAK, SEPARATOR)
        chunks = pc.replace_substring_regex(chunks, HIDDEN, "")
        if tokenizer.lower_case:
            chunks = pc.utf8_lower(chunks)
    if tokenizer.kind in ("words", "whitespace"):
        offsets, flat = _flattened(pc.split_pattern(chunks, SEPARATOR))
        if tokenizer.unspaced != "whole":
            offsets, flat = _without_spaces(flat, offsets, tokenizer.unspaced)
    else:
        offsets, flat = np.arange(len(chunks) + 1), chunks
    empty = _booleans(pc.fill_null(pc.equal(flat, ""), True))
    if empty.any():
        offsets = _offsets(~empty)[offsets]
        flat = flat.filter(pa.array(~empty))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _without_spaces(words: pa.Array, offsets: Ints, unspaced: str) -> tuple[Ints, pa.Array]:
    """Offsets (n + 1,) and words of n chunks, with characters or pairs of them in place of text without spaces.

    Args:
        words: of the chunks; one that begins with a letter of these scripts has no others.
        unspaced: "characters", each with its combining marks; or "bigrams", all pairs of neighbours among these.
    """
    is_run = _booleans(pc.match_substring_regex(words, f"^{UNSPACED}"))
    if not is_run.any():
        return offsets, words
    runs = pc.replace_substring_regex(words.filter(pa.array(is_run)), f"({UNSPACED})", r"\1" + SEPARATOR)
    begin, characters = _flattened(pc.split_pattern(pc.utf8_rtrim(runs, SEPARATOR), SEPARATOR))
    sizes = np.diff(begin)
    if unspaced == "bigrams":
        has_next = np.ones(len(characters), bool)
        has_next[begin[1:] - 1] = sizes == 1  # a character alone stays; of the others the last begins no pair
        following = pc.if_else(
            pa.array(np.repeat(sizes == 1, sizes)), "", pa.concat_arrays([characters[1:], pa.array([""])])
        )
        characters = pc.binary_join_element_wise(characters, following, "").filter(pa.array(has_next))
        sizes = np.maximum(sizes - 1, 1)
    lengths = np.ones(len(words), np.int64)
    lengths[is_run] = sizes
    # Words that are no runs first, then the runs' characters, taken from there in the order of the text.
    others = words.filter(pa.array(~is_run))
    source = np.arange(lengths.sum())
    in_run = np.repeat(is_run, lengths)
    source[~in_run] = np.arange(len(others))
    source[in_run] = len(others) + np.arange(len(characters))
    return _offsets(lengths)[offsets], pa.concat_arrays([others, characters]).take(pa.array(source))


# Pieces


class Cutter:
    """Cuts the lines of one split in pieces, whatever batches they come in."""

    def __init__(self) -> None:
        self._parts: list[tuple[pa.Array, Ints]] = []
        self._lengths: list[Ints] = []
        self._words = 0
        self._tallies = np.zeros(len(TALLIES), np.int64)
        self._bad: list[tuple[int, int, bytes]] = []

    def add(self, lines: Lines, first: int, end: int) -> Iterator[Piece]:
        """Take lines first to end - 1 in, and hand out every piece that they complete."""
        tallies = lines.tallies[first:end].sum(axis=0)
        for place in BAD_PLACES:
            if tallies[place] and self._tallies[place] < NAMED_OF_A_SPLIT:
                found = first + np.flatnonzero(lines.tallies[first:end, place])
                for line in found[: NAMED_OF_A_SPLIT - self._tallies[place]].tolist():
                    beginning = _excerpt(lines.beginnings[line].as_py() or b"")
                    self._bad.append((place, int(self._tallies[0]) + line - first, beginning))
        self._tallies += tallies
        codes = lines.codes[lines.word_offsets[first] : lines.word_offsets[end]]
        lengths = lines.lengths[lines.sentence_offsets[first] : lines.sentence_offsets[end]]
        while len(lengths):
            ends = np.cumsum(lengths)
            fit = int(np.searchsorted(ends, PIECE_WORDS - self._words, side="right"))
            if fit:
                words = int(ends[fit - 1])
                self._parts.append((lines.words, codes[:words]))
                self._lengths.append(lengths[:fit])
                self._words += words
                codes, lengths = codes[words:], lengths[fit:]
            if len(lengths):
                yield self._piece(np.zeros(len(TALLIES), np.int64))

    def finish(self) -> Piece:
        """The last piece of the split, which tells of all its lines."""
        return self._piece(self._tallies)._replace(bad=self._bad)

    def _piece(self, tallies: Ints) -> Piece:
        parts, lengths = self._parts, self._lengths
        self._parts, self._lengths, self._words = [], [], 0
        if not parts:
            return Piece(pa.array([], pa.string()), np.empty(0, np.int64), b"", b"", tallies)
        if len(parts) == 1:
            words, codes = parts[0]
        else:
            joint = pa.concat_arrays([words for words, _ in parts]).dictionary_encode()
            words, code_of = joint.dictionary, joint.indices.to_numpy()
            starts = _offsets(np.array([len(part) for part, _ in parts]))
            codes = np.concatenate([code_of[codes + start] for (_, codes), start in zip(parts, starts, strict=False)])
        # Codes in order of first appearance, so that they tell nothing of the batches that the words came in.
        encoded = pa.array(codes, pa.int32()).dictionary_encode()
        codes = encoded.indices.to_numpy()
        counts = np.bincount(codes, minlength=len(encoded.dictionary))
        return Piece(
            words.take(encoded.dictionary),
            counts.astype(np.int64),
            codes.astype("<i4").tobytes(),
            np.concatenate(lengths).astype("<i4").tobytes(),
            tallies,
        )


def _excerpt(line: bytes) -> bytes:
    """The beginning of a bad line; or, if it is not UTF-8, what is around the first place that is not."""
    try:
        line.decode()
        start = 0
    except UnicodeDecodeError as error:
        start = max(0, error.start - EXCERPT // 4)
    return line[start : start + EXCERPT]


def cut(batches: Iterator[pa.RecordBatch], tokenizer: Tokenizer, files: dict[int, int]) -> Iterator[pa.RecordBatch]:
    """The PIECES of some splits, from batches of LINES; batches may end anywhere.

    Args:
        files: place of each file among the sorted paths, by the hash of its path. Lines of other files are left out.
    """
    place: tuple[int, int] | None = None
    cutter = Cutter()
    number = words = 0
    waiting: list[tuple[tuple[int, int, int], Piece]] = []

    def keep(piece: Piece) -> None:
        nonlocal number, words
        assert place is not None
        waiting.append(((files[place[0]], place[1], number), piece))
        number += 1
        words += len(piece.codes) // 4

    for batch in batches:
        beginnings = batch.column("beginning") if "beginning" in batch.schema.names else None
        reasons = batch.column("reason").to_numpy().astype(np.int64)
        lines = tokenize(batch.column("value"), tokenizer, reasons, beginnings)
        hashes, starts = batch.column("path_hash").to_numpy(), batch.column("start").to_numpy()
        # One task reads several splits, one after the other.
        changes = np.flatnonzero((np.diff(hashes) != 0) | (np.diff(starts) != 0)) + 1
        bounds = [0, *changes.tolist(), len(hashes)]
        for first, end in pairwise(bounds):
            here = (int(hashes[first]), int(starts[first])) if end > first else place
            if here is not None and here[0] not in files:
                continue  # a file that was not there when they were listed
            if here != place:
                if place is not None:
                    keep(cutter.finish())
                place, cutter, number = here, Cutter(), 0
            for piece in cutter.add(lines, first, end):
                keep(piece)
            # Small pieces go together, as each batch costs more than what is in it.
            if words >= PIECE_WORDS or len(waiting) >= MOST_PIECES:
                yield _rows(waiting)
                waiting, words = [], 0
    if place is not None:
        keep(cutter.finish())
        yield _rows(waiting)


def _rows(pieces: Sequence[tuple[tuple[int, int, int], Piece]]) -> pa.RecordBatch:
    """Rows of PIECES."""
    places, found = zip(*pieces, strict=True)
    files, starts, numbers = zip(*places, strict=True)
    columns = {
        "file": pa.array(files, pa.int32()),
        "start": pa.array(starts, pa.int64()),
        "piece": pa.array(numbers, pa.int32()),
        "words": _lists([piece.words for piece in found]),
        "counts": _lists([pa.array(piece.counts) for piece in found]),
        "codes": pa.array([piece.codes for piece in found], pa.binary()),
        "lengths": pa.array([piece.lengths for piece in found], pa.binary()),
        "tallies": _lists([pa.array(piece.tallies) for piece in found]),
        "bad": pa.array([[dict(zip(BAD.names, row, strict=True)) for row in piece.bad] for piece in found], BAD_TYPE),
    }
    return pa.RecordBatch.from_pydict(columns)


def _lists(arrays: Sequence[pa.Array]) -> pa.Array:
    offsets = _offsets(np.array([len(array) for array in arrays]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.concat_arrays(arrays))


# Reading


def check_tokenizer(corpus_config: "Corpus") -> None:
    """Refuse, before Spark starts, a pattern that RE2 does not know.

    Raises:
        ConfigError: what RE2 says, in one sentence.
    """
    if corpus_config.tokenizer != "regex":
        return
    try:
        pc.match_substring_regex(pa.array(["a"]), corpus_config.pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        _refuse(
            f"corpus.pattern: '{corpus_config.pattern}' is refused by RE2 ({reason}); "
            "RE2 has no look-around and no back-references."
        )


def _refuse(message: str) -> NoReturn:
    from spark_w2v.config import ConfigError  # here, because executors import this module without msgspec

    raise ConfigError(message)


def list_files(
    spark: "SparkSession", paths: Sequence[str], kind: str = "text", outputs: Sequence[str] = ()
) -> inputs.Inputs:
    """All files with content under the paths, as inputs.list_files finds them.

    Raises:
        ConfigError: as there; and what Hadoop says of a path that it cannot open.
    """
    session = _session(spark)
    return _explained(lambda: inputs.list_files(session, paths, kind, outputs))


def read(
    spark: "SparkSession", paths: Sequence[str], corpus_config: "Corpus", found: inputs.Inputs | None = None
) -> "DataFrame":
    """PIECES of all files under the paths. Lists the files and reads Parquet's schemas; the rest is lazy.

    The DataFrame belongs to a session of its own, so that how files are split does not depend on the caller's.

    Args:
        paths: files, directories (read with everything below them) or globs, of any file system that Hadoop knows.
        found: of list_files, where the paths are listed already.

    Raises:
        ConfigError: nothing to read, no such column, a pattern that is none.
    """
    check_tokenizer(corpus_config)
    session = _session(spark)
    found = list_files(spark, paths, corpus_config.format) if found is None else found
    session.conf.set("spark.sql.files.openCostInBytes", min(found.open_bytes, SPLIT_BYTES))
    lines = _explained(lambda: _lines(session, found, corpus_config))
    hashes = [file.path_hash for file in found.files]
    assert len(set(hashes)) == len(hashes), "two paths of one hash"
    places = {path_hash: place for place, path_hash in enumerate(hashes)}
    tokenizer = Tokenizer(
        corpus_config.tokenizer,
        corpus_config.pattern,
        corpus_config.lower_case,
        corpus_config.max_sentence_words,
        corpus_config.max_word_length,
        corpus_config.unspaced,
    )
    return lines.mapInArrow(_cut_with(tokenizer, places), PIECES)


def read_frame(sentences: "DataFrame", column: str, max_sentence_words: int) -> "DataFrame":
    """PIECES of a column of ready-made words. Counts the words; the rest is lazy, so the DataFrame is computed twice.

    Args:
        column: an array of strings or of whole numbers.

    Rows of a DataFrame have neither a place nor an order that hold until tomorrow, and whatever is drawn at random for
    a piece is seeded by its place. So rows are dealt to buckets by a hash of their words, and sorted there: the pieces
    depend on the rows alone, not on their order, nor on how they were partitioned. They are those of files that have
    the same rows in the same order, one file a bucket.
    """
    lines, buckets = frame_in_order(_in_own_session(sentences), column)
    tokenizer = Tokenizer("none", "", False, max_sentence_words, LARGEST_WORD)
    return lines.mapInArrow(_cut_with(tokenizer, {bucket: bucket for bucket in range(buckets)}), PIECES)


def column_named(name: str) -> "Column":
    """The column of this name, whatever characters are in it."""
    # Quoted only where it must be: spark.sql.parser.quotedRegexColumnNames takes what is quoted for a pattern.
    return F.col(name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"`{name.replace('`', '``')}`")


def frame_in_order(sentences: "DataFrame", column: str) -> tuple["DataFrame", int]:
    """LINES of a DataFrame, partition b with the rows of bucket b in order, and how many buckets there are."""
    value = column_named(column)
    words = sentences.select(value.cast(T.ArrayType(T.StringType())).alias("value"))
    counted = words.agg(F.coalesce(F.sum(F.when(F.col("value").isNotNull(), F.size("value"))), F.lit(0))).first()
    assert counted is not None, "an aggregate without groups has one row"
    buckets = max(1, -(-int(counted[0]) // BUCKET_WORDS))
    lines = words.select(
        F.pmod(F.xxhash64("value"), F.lit(buckets)).alias("path_hash"),
        F.lit(0).cast("long").alias("start"),
        "value",
        F.lit(NO_REASON).alias("reason"),
    )
    # By a hash first, because comparing longs is faster; rows with the same hash and the same words are alike.
    lines = lines.repartitionById(buckets, F.col("path_hash").cast("int"))
    return lines.sortWithinPartitions("path_hash", F.xxhash64("value"), "value"), buckets


def _cut_with(
    tokenizer: Tokenizer, files: dict[int, int]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: cut(batches, tokenizer, files)


def _session(spark: "SparkSession") -> "SparkSession":
    session = spark.newSession()
    # By default the size of a split depends on the number of cores (bytes / spark.default.parallelism), and so would
    # every piece, whatever is drawn for it, and in the end the embeddings.
    session.conf.set("spark.sql.files.maxPartitionBytes", SPLIT_BYTES)
    session.conf.set("spark.sql.files.minPartitionNum", 1)
    session.conf.set("spark.sql.files.openCostInBytes", inputs.OPEN_BYTES)
    session.conf.unset("spark.sql.files.maxPartitionNum")
    # Where files are given one by one, Spark lists them with a task for each, or in 10,000 tasks.
    session.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", LISTING_TASKS)
    # A file that ends too early must not pass for one that ends there.
    session.conf.set("spark.sql.files.ignoreCorruptFiles", "false")
    session.conf.set("spark.sql.files.ignoreMissingFiles", "false")
    # As by default; what follows has other names of columns in mind and other files.
    session.conf.set("spark.sql.parser.quotedRegexColumnNames", "false")
    session.conf.set("spark.sql.files.archive.reader.enabled", "false")
    session.conf.set("spark.sql.parquet.mergeSchema", "false")
    _rely_on(session)
    return session


def _rely_on(session: "SparkSession") -> None:
    """Set what decides in which form, and how many at a time, rows reach Python."""
    session.conf.set("spark.sql.execution.arrow.useLargeVarTypes", "false")
    session.conf.set("spark.sql.execution.arrow.compression.codec", "none")
    # Memory of the JVM: with a thousand times as many rows at a time, none is enough.
    session.conf.set("spark.sql.inMemoryColumnarStorage.batchSize", 10_000)
    session.conf.set("spark.sql.parquet.columnarReaderBatchSize", 4096)
    # Memory of a worker: some ten times a batch.
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 20_000)
    session.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", 8 << 20)


def own_session(spark: "SparkSession") -> "SparkSession":
    """A session with our settings and, but for these, the caller's, which stay as they are."""
    from pyspark.sql import SparkSession

    # A new session would forget what the caller set while it ran. PySpark has no name for a clone.
    session = SparkSession(spark.sparkContext, spark._jsparkSession.cloneSession())
    _rely_on(session)
    return session


def _in_own_session(rows: "DataFrame") -> "DataFrame":
    """The same rows in a session with our settings; how they are read stays the caller's."""
    from pyspark.sql import DataFrame

    session = own_session(rows.sparkSession)
    plan = rows._jdf.queryExecution().analyzed()
    assert session._jvm is not None, "a session has its JVM"
    return DataFrame(session._jvm.org.apache.spark.sql.classic.Dataset.ofRows(session._jsparkSession, plan), session)


def _explained(step: Callable[[], Result]) -> Result:
    """What a step returns; what Spark says of the user's files becomes one sentence."""
    try:
        return step()
    except inputs.UnreadablePathError as error:
        cause = error.__cause__
        assert cause is not None, "it is raised from one"
        _refuse(explain(cause) or f"{error.path}: cannot be opened ({_reason(_text_of(cause))}).")
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        _refuse(sentence)


def _lines(session: "SparkSession", found: inputs.Inputs, corpus_config: "Corpus") -> "DataFrame":
    """LINES: path_hash and start of the split, value as `tokenize` wants it, reason and beginning as it wants them."""
    column = corpus_config.column
    ready_made = corpus_config.tokenizer == "none"
    kind = T.ArrayType(T.StringType()) if ready_made else T.StringType()
    reason, beginning = F.lit(NO_REASON), None
    reader = session.read.options(**found.options).option("recursiveFileLookup", True)
    if corpus_config.format == "parquet":
        lines = reader.parquet(*found.paths)
        _check_column(lines.schema, column, ready_made, lambda: _schemas(session, found.files))
        value = column_named(column).cast(kind)
    else:
        lines = reader.text(found.paths)
        value = F.col("value")
    # Not F.col("_metadata"), which the column of that name of somebody's Parquet hides.
    metadata = lines.metadataColumn("_metadata")
    if corpus_config.format == "text" and ready_made:
        _refuse('corpus.tokenizer: "none" needs a column of ready-made words; text has none, use "whitespace".')
    if corpus_config.format == "jsonl":
        # As variant, because as string a number or an object would pass for text.
        corrupt = f"not {column}"  # whatever the field is called, this is another
        field = T.StructType([T.StructField(column, T.VariantType()), T.StructField(corrupt, T.StringType())])
        parsed = F.from_json("value", field, {"columnNameOfCorruptRecord": corrupt})
        lines = lines.withColumn("parsed", parsed)
        field_found = F.col("parsed").getField(column)
        type_found = F.schema_of_variant(field_found)
        fits = _is_array_of_words(field_found) if ready_made else type_found == "STRING"
        value = F.when(fits, F.try_variant_get(field_found, "$", kind.simpleString()))
        reason = (
            F.when(F.trim("value") == "", TALLIES.index("blank_lines"))
            .when(F.col("value").contains("\0"), TALLIES.index("binary_lines"))
            .when(F.col("parsed").getField(corrupt).isNotNull(), TALLIES.index("malformed_lines"))
            .when(field_found.isNull() | (type_found == "VOID"), TALLIES.index("missing_lines"))
            .when(value.isNull(), TALLIES.index("wrong_type_lines"))
            .when(~F.is_valid_utf8("value"), TALLIES.index("invalid_utf8_lines"))
            .otherwise(NO_REASON)
        )
        # Of a line without the field, the names of those that it has.
        beginning = F.when(
            reason == TALLIES.index("missing_lines"), F.array_join(F.json_object_keys("value"), "\n").cast("binary")
        ).when(reason != NO_REASON, F.col("value").cast("binary"))
    columns = [
        F.xxhash64(metadata.getField("file_path")).alias("path_hash"),
        metadata.getField("file_block_start").alias("start"),
        value.alias("value"),
        reason.alias("reason"),
    ]
    if beginning is not None:
        columns.append(F.substring(beginning, 1, EXCERPT).alias("beginning"))
    return lines.select(*columns)


def _is_array_of_words(found: "Column") -> "Column":
    """Whether a variant is an array whose elements are strings, numbers with all their digits, or null."""

    def fits(type_found: "Column") -> "Column":
        return type_found.isin("STRING", "VOID", "BIGINT") | type_found.startswith("DECIMAL")

    array = F.schema_of_variant(found)
    elements = F.try_variant_get(found, "$", "array<variant>")
    same = array.startswith("ARRAY<") & fits(F.regexp_extract(array, "^ARRAY<(.*)>$", 1))
    return F.when(array == "ARRAY<VARIANT>", F.forall(elements, lambda e: fits(F.schema_of_variant(e)))).otherwise(same)


def is_array_of_words(kind: T.DataType) -> bool:
    """Whether a column has ready-made words: strings, or whole numbers, which are words in decimal."""
    if not isinstance(kind, T.ArrayType):
        return False
    element = kind.elementType
    whole = isinstance(element, T.IntegralType) or (isinstance(element, T.DecimalType) and element.scale == 0)
    return whole or isinstance(element, T.StringType)


def _check_column(
    schema: T.StructType, column: str, ready_made: bool, schemas: Callable[[], Iterator[tuple[str, T.StructType]]]
) -> None:
    """Refuse a column that is not there, or holds something else.

    Args:
        schemas: the paths and schemas of the files one by one, as far as it is worth looking.
    """
    if column not in schema.names:
        lacking = others = None
        for path, own in schemas():
            if column in own.names:
                others = others or path
            else:
                lacking = lacking or (path, own.names)
            if lacking and others:
                names = inputs.some(lacking[1])
                _refuse(
                    f'corpus.column: {inputs.shown(lacking[0])} has no column "{column}", it has {names}; '
                    f"{inputs.shown(others)} has it. Leave files without it out of --input."
                )
        _refuse(f'corpus.column: the Parquet files have no column "{column}"; {name_hint(column, schema.names)}')
    found = schema[column].dataType
    if ready_made and not is_array_of_words(found):
        _refuse(
            f'corpus.column: "{column}" is {found.simpleString()}, ready-made words are array<string>, or an array of '
            "whole numbers; give another column or another corpus.tokenizer."
        )
    if not ready_made and not isinstance(found, T.StringType):
        change = 'set corpus.tokenizer to "none".' if is_array_of_words(found) else "give another column."
        _refuse(f'corpus.column: "{column}" is {found.simpleString()}, text is string; {change}')


def _schemas(session: "SparkSession", files: Sequence[inputs.File]) -> Iterator[tuple[str, T.StructType]]:
    for file in files[:MOST_SCHEMAS]:
        yield file.path, session.read.parquet(_escaped(file.path)).schema


def _escaped(path: str) -> str:
    """A path of Spark's that its reader does not take for a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", unquote(path))


def name_hint(name: str, names: Sequence[str]) -> str:
    """What to say where a name is not among others: the one that is meant, or what there is."""
    if not names:
        return "it has none."
    same = [other for other in names if other.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"it has {inputs.some(names)}."


class BadLine(NamedTuple):
    """A line that could not be read, or not as it is."""

    file: str
    line: int  # from 1
    beginning: bytes

    def __str__(self) -> str:
        return f"{inputs.shown(self.file)}:{self.line}"


def bad_lines(pieces: "DataFrame", tallies: dict[str, int], files: Sequence[str]) -> dict[str, list[BadLine]]:
    """The first bad lines of each kind of which there are any; of PIECES that are persisted."""
    found: dict[str, list[Any]] = {}
    bad = pieces.select("file", "start", F.inline("bad"))
    for name in BAD_LINES:
        if files and tallies[name]:
            place = F.col("place") == TALLIES.index(name)
            found[name] = bad.where(place).orderBy("file", "start", "line").limit(NAMED_OF_A_SPLIT).collect()
    # How many lines the splits of these files have.
    named = sorted({row["file"] for rows in found.values() for row in rows})
    lines = F.sum(F.col("tallies")[TALLIES.index("lines")]).alias("lines")
    splits = pieces.where(F.col("file").isin(named)).groupBy("file", "start").agg(lines).collect() if named else []

    def bad_line(row: Any) -> BadLine:
        before = sum(s["lines"] for s in splits if s["file"] == row["file"] and s["start"] < row["start"])
        return BadLine(files[row["file"]], before + row["line"] + 1, bytes(row["beginning"]))

    return {name: [bad_line(row) for row in rows] for name, rows in found.items()}


def check_tallies(
    tallies: dict[str, int], corpus_config: "Corpus", bad_lines: Mapping[str, Sequence[BadLine]] | None = None
) -> None:
    """Refuse a corpus of which too much could not be read, or which has no words for a reason that can be named.

    Args:
        bad_lines: the first ones, by what is wrong with them.

    Raises:
        ConfigError: no line has the column, or more bad lines than corpus.max_bad_fraction.
    """
    lines, bad_lines = tallies["lines"], bad_lines or {}
    if lines and corpus_config.format == "jsonl" and tallies["missing_lines"] == lines - tallies["blank_lines"] > 0:
        names = _fields(bad_lines.get("missing_lines", ()))
        hint = name_hint(corpus_config.column, names) if names else "give the name of the field that holds the text."
        hint = hint.replace("it has", "they have")
        _refuse(f'corpus.column: none of {lines:,} lines has a field "{corpus_config.column}"; {hint}')
    bad = {name: tallies[name] for name in BAD_LINES if tallies[name]}
    if sum(bad.values()) > corpus_config.max_bad_fraction * lines:
        reasons = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in bad.items())
        named = {name: ", ".join(map(str, bad_lines[name])) for name in bad if bad_lines.get(name)}
        first = "; ".join(f"{name.replace('_', ' ')}: {places}" for name, places in named.items())
        if len(named) == len(bad) == 1:
            first = "".join(named.values())
        hints = [hint for name in bad for hint in _hints(name, bad_lines.get(name, ()), corpus_config)]
        _refuse(
            f"{sum(bad.values()):,} of {lines:,} lines are bad ({reasons}), {sum(bad.values()) / lines:.1%}; "
            + (f"the first are {first}; " if first else "")
            + "".join(f"{hint}; " for hint in hints)
            + f"fix the input, or raise corpus.max_bad_fraction ({corpus_config.max_bad_fraction:g})."
        )
    if not tallies["words"]:
        _refuse_wordless(tallies, corpus_config)


def _refuse_wordless(tallies: dict[str, int], corpus_config: "Corpus") -> None:
    """Say why a corpus has no words, where the configuration is the reason."""
    if tallies["long_words"]:
        _refuse(
            f"the corpus has no words: all {tallies['long_words']:,} are longer than corpus.max_word_length "
            f"({corpus_config.max_word_length:,}); raise it, or check corpus.tokenizer."
        )
    if tallies["wordless_lines"] and corpus_config.tokenizer == "regex":
        lowered = ""
        if corpus_config.lower_case:
            lowered = (
                ", which is lower-cased before; for a pattern of upper-case letters set corpus.lower_case to false"
            )
        _refuse(
            f"the corpus has no words: corpus.pattern '{corpus_config.pattern}' matches nothing in "
            f"{tallies['wordless_lines']:,} lines of text{lowered}."
        )


def _fields(bad_lines: Sequence[BadLine]) -> list[str]:
    """Names of the fields of JSON lines that have other ones than was asked for."""
    names = (name for bad in bad_lines for name in bad.beginning.decode(errors="replace").split("\n"))
    return list(dict.fromkeys(name for name in names if name))


def _hints(name: str, bad_lines: Sequence[BadLine], corpus_config: "Corpus") -> Iterator[str]:
    """What is probably wrong with a kind of bad lines, and what to do."""
    column = corpus_config.column
    for bad in bad_lines[:1]:
        match name:
            case "invalid_utf8_lines":
                yield _encoding_hint(bad.beginning)
            case "binary_lines":
                zeros = bad.beginning.count(0) / max(len(bad.beginning), 1)
                if zeros > 0.3:
                    width = 16 if zeros < 0.6 else 32
                    yield f"the text looks like UTF-{width}, convert it (iconv -f UTF-{width} -t UTF-8)"
            case "malformed_lines":
                file, start = inputs.shown(bad.file), bad.beginning.removeprefix(b"\xef\xbb\xbf").strip()
                if start.startswith(b"["):
                    yield f"{file} is one JSON array, not one object per line (jq -c '.[]' makes it so)"
                elif start == b"{":
                    yield f"{file} has objects of several lines, not one per line (jq -c . makes it so)"
            case "wrong_type_lines" if corpus_config.tokenizer == "none":
                yield f'the field "{column}" is not always an array of strings or numbers'
            case "wrong_type_lines":
                is_array = re.search(rb'"%s"\s*:\s*\[' % re.escape(column.encode()), bad.beginning)
                change = '; for ready-made words set corpus.tokenizer to "none"' if is_array else ""
                yield f'the field "{column}" is not always a string{change}'
            case "missing_lines":
                if names := _fields(bad_lines):
                    yield f'without the field "{column}", {name_hint(column, names).rstrip(".?")}'


def _encoding_hint(line: bytes) -> str:
    """Which encoding a line that is not UTF-8 seems to have."""
    text = line.decode(errors="replace")
    high = sum(byte >= 0x80 for byte in line)
    if sum(character >= "\x80" for character in text.replace("\ufffd", "")) > text.count("\ufffd"):
        return "the text is UTF-8 with damaged characters"
    # Letters with accents stand alone among others; in Cyrillic, Greek, Chinese, ... most bytes are of this kind.
    if high <= 0.3 * len(line):
        return "the text looks like Latin-1 or Windows-1252, convert it (iconv -f WINDOWS-1252 -t UTF-8)"
    return "the text has another encoding, such as Windows-1251, GB18030 or Shift-JIS, convert it (iconv -t UTF-8)"


# What Spark and Hadoop say, and what it means to a user; the first that is found counts.
MEANINGS = (
    (  # of the file itself, or of what would be its checksum
        r"Relative path in absolute URI: (?:\.(?=.*\.crc))?(?P<file>[^|\n]*?)(?:\.crc)?\s*(?:[|\n]|$)",
        "Hadoop takes no colon in a name; rename it.",
    ),
    (
        r"\[PATH_NOT_FOUND\] Path does not exist: (?P<file>.+?)\. SQLSTATE",
        "no such file; give --input paths that exist.",
    ),
    (
        r"Illegal file pattern: (?P<reason>.+)",
        "--input: is no glob ({reason}); put a backslash before brackets and braces.",
    ),
    (
        r"Can not create a Path from an? (empty|null) string",
        "--input: an empty path; give a file, a directory or a glob.",
    ),
    (
        r"(?P<reason>No FileSystem for scheme \"[^\"]+\"|Class \S+FileSystem\S* not found)",
        "Spark has no such file system ({reason}); {hint}.",
    ),
    (
        r"UNSUPPORTED_FILE_SYSTEM\].*? reading file (?P<file>.+?)\. The",
        "Spark cannot list files there; copy them to a file system that Hadoop lists.",
    ),
    (
        r"UNABLE_TO_INFER_SCHEMA|CANNOT_READ_FILE_FOOTER\].*? reading file (?P<file>.+?)\. Could",
        "is not Parquet, or damaged; set corpus.format to what it is, or replace it.",
    ),
    (
        r"COLUMN_ALREADY_EXISTS\] The column (?P<reason>\S+)",
        "corpus.column: the Parquet files have two columns {reason}, as Spark reads names; rename one.",
    ),
    (  # with a character beyond ASCII in its name
        r"FILE_NOT_EXIST\].*? reading file (?P<file>[^\n]*?(?:%[89A-F][0-9A-F]|[^\x00-\x7f])[^\n]*?)\. File",
        "was removed while it was read, or the workers' locale has no such name; start again, with "
        "LC_ALL=C.UTF-8 there.",
    ),
    (
        r"PARQUET_COLUMN_DATA_TYPE_MISMATCH\].*? reading file (?P<file>.+?)\. Data type mismatches .*? column "
        r"\[(?P<column>[^\],]+).*?\]\. Expected Spark type (?P<expected>.+?), actual Parquet type (?P<actual>\w+)",
        "its column {column} is {actual}, in other files it is {expected}; convert it, or leave it out of --input.",
    ),
    (r"FILE_NOT_EXIST\].*? reading file (?P<file>.+?)\. File", "was removed while it was read; start again."),
    (
        r"FAILED_READ_FILE[.\w]*\].*? reading file (?P<file>.+?)\. ",
        "cannot be read to its end ({reason}); replace it, or leave it out of --input.",
    ),
    (
        r"requirement failed: (?P<reason>[^\n]*?Please change 'spark\.[\w.]+')\.",
        "Spark refuses a setting ({reason}); change it, or leave it out.",
    ),
    (
        r"\[INVALID_CONF_VALUE[.\w]*\] (?P<reason>.+?)(?: SQLSTATE|\n|$)",
        "Spark refuses a setting ({reason}); change it, or leave it out.",
    ),
    (r"AccessControlException: (?P<reason>.+)", "cannot be read ({reason}); give readable files."),
)
REASONS = (
    ("EOFException|Unexpected end|unexpected end|ends unexpectedly", "it ends too early: truncated?"),
    ("not a gzip file|incorrect header check", "it is not gzip"),
    ("[Pp]ermission denied", "permission denied"),
    ("(?i)native zstandard library not available|without zstd support", "this Hadoop reads no zstd"),
    ("(?i)invalid (block|code|distance|stored|literal|bit)|crc|checksum|corrupt|magic", "it is damaged"),
)


# What Spark reads of a store under another scheme than its own tools do.
SCHEMES_OF_SPARK = {"s3": "s3a://", "s3n": "s3a://", "az": "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/"}


def explain(error: BaseException) -> str | None:
    """One sentence on an exception of reading, naming the file; None for what is no fault of the input."""
    text = _text_of(error)
    for pattern, meaning in MEANINGS:
        found = re.search(pattern, text)
        if found is None:
            continue
        parts = found.groupdict()
        file = inputs.shown(parts.get("file") or "")
        reason = (parts.get("reason") or _reason(text)).strip()
        parts["hint"] = "add its jars with --packages, or give local files"
        for scheme, sparks in SCHEMES_OF_SPARK.items():
            if f'"{scheme}"' in reason:
                parts["hint"] = f"it reads that store as {sparks}, once --packages names the jars"
        return f"{file}: {meaning}".removeprefix(": ").format(**parts | {"reason": reason})
    return None


def _text_of(error: BaseException) -> str:
    """What an exception says, with the causes of Java's, which PySpark and py4j keep."""
    origin = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    return f"{error}\n{_java_trace(origin)}" if origin is not None else str(error)


def _java_trace(exception: Any) -> str:
    lines: list[str] = []
    while exception is not None and len(lines) < 20:
        lines.append(f"Caused by: {exception.toString()}")
        exception = exception.getCause()
    return "\n".join(lines)


def _reason(text: str) -> str:
    """The known reason, or what the innermost exception says."""
    for pattern, reason in REASONS:
        if re.search(pattern, text):
            return reason
    causes = re.findall(r"^Caused by: (?:[\w.$]+: )?(.+)$", text, re.MULTILINE)
    return str(causes[-1])[:200] if causes else "no reason given"
