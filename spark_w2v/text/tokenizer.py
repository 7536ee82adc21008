"""Lines to words and sentences: what a word is.

Everything is vectorised, so that no word and no line is a Python object. The word pattern runs over the distinct words
of a batch, which are a tenth of its words.
"""

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.messages import refuse
from spark_w2v.types import BoolArray, Int64Array

if TYPE_CHECKING:
    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus

# = 1 MB of codes and about as much of distinct words. A segment is the unit of random draws, so changing this changes
# the result of every run.
SEGMENT_WORDS = 250_000


NO_REASON = -1


# Of these, a line is counted in one.
PLACES_OF_A_LINE = range(COUNTERS.index("lines_with_words"), COUNTERS.index("binary_lines") + 1)


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
    codes: Int64Array  # (N,) every word in text order, an index into `words`
    word_offsets: Int64Array  # (L + 1,) where each line's words start among all N
    lengths: Int64Array  # (S,) words of each sentence, all > 0
    sentence_offsets: Int64Array  # (L + 1,) where each line's sentences start among all S
    counters: Int64Array  # (L, len(COUNTERS))
    beginnings: pa.Array  # (L,) binary: how each line begins, to tell what is wrong with a bad one; may be null


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
    values: pa.Array, tokenizer: Tokenizer, reasons: Int64Array | None = None, beginnings: pa.Array | None = None
) -> Lines:
    """Cut L lines in words and sentences.

    Args:
        values: (L,) strings or lists of strings, as the kind of tokenizer wants, of whichever of Arrow's types for
            them; null where there is nothing to read. Strings need not be UTF-8.
        reasons: (L,) place in COUNTERS of what is already known to be wrong with a line, NO_REASON elsewhere.
        beginnings: (L,) binary, of lines that are not their own beginning: those of JSON.
    """
    # The types are the user's choice (spark.sql.execution.arrow.useLargeVarTypes), and what follows reads offsets.
    values = _cast(values, pa.list_(pa.string()) if tokenizer.kind == "none" else pa.string())
    if beginnings is None:
        beginnings = pa.nulls(len(values), pa.binary()) if tokenizer.kind == "none" else _cast(values, pa.binary())
    counters = np.zeros((len(values), len(COUNTERS)), np.int64)
    counters[:, COUNTERS.index("lines")] = 1
    missing = _booleans(values.is_null())
    if reasons is not None:
        known = np.flatnonzero(reasons != NO_REASON)
        counters[known, reasons[known]] = 1
        missing &= reasons == NO_REASON
    _mark(counters, "missing_lines", missing)
    if tokenizer.kind == "none":
        blank = np.zeros(len(values), bool)
        chunks = values
    else:
        text = _readable(values, counters)
        blank = _booleans(pc.equal(pc.utf8_ltrim_whitespace(text), ""))
        chunks = _chunks(text, tokenizer)
    offsets, flat = _flattened(chunks)
    words, codes, offsets = _cleaned(flat, offsets, tokenizer, counters)

    in_line = np.diff(offsets)
    longest = min(tokenizer.max_sentence_words, SEGMENT_WORDS)
    sentences_in_line = -(-in_line // longest)
    sentence_offsets = offsets_of(sentences_in_line)
    lengths = np.full(sentence_offsets[-1], longest, np.int64)
    with_words = in_line > 0
    lengths[sentence_offsets[1:][with_words] - 1] = (in_line[with_words] - 1) % longest + 1

    counters[:, COUNTERS.index("words")] = in_line
    counters[:, COUNTERS.index("sentences")] = sentences_in_line
    _mark(counters, "lines_with_words", with_words)
    unexplained = counters[:, PLACES_OF_A_LINE].sum(axis=1) == 0
    _mark(counters, "blank_lines", unexplained & blank)
    _mark(counters, "wordless_lines", unexplained & ~blank)
    _mark(counters, "cut_lines", sentences_in_line > 1)
    return Lines(words, codes, offsets, lengths, sentence_offsets, counters, beginnings)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array as another of Arrow's types for the same; strings that are not UTF-8 stay as they are."""
    if array.type.equals(kind):
        return array
    # By way of bytes, because from one type of strings to another Arrow refuses what is not UTF-8.
    if pa.types.is_string(kind) and not pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary()).cast(pa.binary())
        return pa.StringArray.from_buffers(len(array), *array.buffers()[1:], array.buffers()[0], -1, array.offset)
    return array.cast(kind)


def _mark(counters: Int64Array, name: str, lines: BoolArray) -> None:
    counters[:, COUNTERS.index(name)] |= lines


def _booleans(array: pa.Array) -> BoolArray:
    """(L,) with null as False."""
    found: BoolArray = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return found


def offsets_of(lengths: Int64Array | BoolArray) -> Int64Array:
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


def _readable(values: pa.Array, counters: Int64Array) -> pa.Array:
    """Lines as valid UTF-8 without NUL; "" for null lines and for binary ones."""
    text = values
    # Spark's reader of text hands every byte on as it is, and Arrow's functions need not survive what is no UTF-8.
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text = _repaired(text.cast(pa.binary()), counters)
    if text.null_count:
        text = pc.fill_null(text, "")
    if (_bytes(text) == 0).any():
        binary = _booleans(pc.match_substring(text, "\0"))
        _mark(counters, "binary_lines", binary)
        counters[binary, COUNTERS.index("invalid_utf8_lines")] = 0
        text = pc.if_else(pa.array(binary), "", text)
    return text


def _repaired(lines: pa.Array, counters: Int64Array) -> pa.Array:
    """The only place where a line is a Python object: a batch in which something is not UTF-8."""
    text: list[str | None] = []
    for number, line in enumerate(lines.to_pylist()):
        try:
            text.append(line if line is None else line.decode())
        except UnicodeDecodeError:
            text.append(line.decode(errors="replace"))
            counters[number, COUNTERS.index("invalid_utf8_lines")] = 1
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
    # With a separator before and after every match, matches are the odd elements of the segments between separators.
    marked = pc.replace_substring_regex(text, pattern, SEPARATOR + r"\0" + SEPARATOR)
    offsets, flat = _flattened(pc.split_pattern(marked, SEPARATOR))
    lengths = np.diff(offsets)  # all odd
    first = np.repeat(offsets[:-1], lengths)
    odd = (np.arange(len(flat)) - first) % 2 == 1
    return pa.ListArray.from_arrays(pa.array(offsets_of(lengths // 2), pa.int32()), flat.filter(pa.array(odd)))


def _flattened(lists: pa.Array) -> tuple[Int64Array, pa.Array]:
    """Offsets (L + 1,) from 0 and elements; a null list is an empty one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets_of(lengths), lists.flatten()


def _cleaned(
    flat: pa.Array, offsets: Int64Array, tokenizer: Tokenizer, counters: Int64Array
) -> tuple[pa.Array, Int64Array, Int64Array]:
    """Words, codes and word offsets of lines (as in Lines) from their chunks."""
    encoded = flat.dictionary_encode(null_encoding="encode")
    chunks, chunk_of = encoded.dictionary, encoded.indices.to_numpy()
    words_of = _words_of_chunks(chunks, tokenizer)
    begin, parts = _flattened(words_of)
    long = _booleans(pc.greater(pc.utf8_length(parts), tokenizer.max_word_length))
    if tokenizer.kind == "none":
        empty = np.diff(begin) == 0
        counters[:, COUNTERS.index("null_words")] = np.diff(offsets_of(empty[chunk_of])[offsets])
    if tokenizer.kind != "none" and (is_clause := _are_clauses(parts)).any():
        clauses = np.diff(offsets_of(np.diff(offsets_of(is_clause)[begin])[chunk_of])[offsets])
        of_line = np.diff(offsets_of(np.diff(begin)[chunk_of])[offsets])
        _mark(counters, "unspaced_lines", clauses > CLAUSES_OF_A_LINE * of_line)
    if long.any():
        line_of_part = np.diff(offsets_of(long)[begin])  # long words of each chunk
        counters[:, COUNTERS.index("long_words")] = np.diff(offsets_of(line_of_part[chunk_of])[offsets])
        begin = offsets_of(~long)[begin]
        parts = parts.filter(pa.array(~long))
    encoded = parts.dictionary_encode()
    code_of_part = encoded.indices.to_numpy().astype(np.int64)
    in_chunk = np.diff(begin)
    if (in_chunk == 1).all():
        return encoded.dictionary, code_of_part[chunk_of], offsets
    repeats = in_chunk[chunk_of]
    word_offsets = offsets_of(repeats)
    # The parts of each chunk in turn: begin, begin + 1, ... as often as the chunk has words.
    part = np.arange(word_offsets[-1]) + np.repeat(begin[:-1][chunk_of] - word_offsets[:-1], repeats)
    return encoded.dictionary, code_of_part[part], word_offsets[offsets]


def _are_clauses(words: pa.Array) -> BoolArray:
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
        offsets = offsets_of(~empty)[offsets]
        flat = flat.filter(pa.array(~empty))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _without_spaces(words: pa.Array, offsets: Int64Array, unspaced: str) -> tuple[Int64Array, pa.Array]:
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
    return offsets_of(lengths)[offsets], pa.concat_arrays([others, characters]).take(pa.array(source))


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
        refuse(
            f"corpus.pattern: '{corpus_config.pattern}' is refused by RE2 ({reason}); "
            "RE2 has no look-around and no back-references."
        )
