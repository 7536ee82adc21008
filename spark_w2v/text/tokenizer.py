"""Lines to words and sentences.

Everything is vectorised, so that no word and no line is a Python object. The word pattern runs over the distinct words
of a batch, which are a tenth of its words.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.errors import UserError
from spark_w2v.text.arrow_arrays import (
    booleans,
    cast,
    composed,
    flatten_lists,
    offsets_of,
    string_bytes,
    string_offsets,
)
from spark_w2v.text.counters import COUNTERS
from spark_w2v.text.unspaced import CLAUSES_OF_A_LINE, are_clauses, split_unspaced
from spark_w2v.text.word_patterns import (
    BETWEEN_WORDS,
    BREAK,
    HIDDEN,
    INVISIBLE,
    NOT_A_START,
    NOT_AN_END,
    SEPARATOR,
    UNSPACED,
)
from spark_w2v.types import BoolArray, Int64Array

if TYPE_CHECKING:
    # Executors import this module, and need neither the configuration nor msgspec.
    from spark_w2v.config import Corpus

# = 1 MB of codes and about as much of distinct words. A segment is the unit of random draws, so changing this changes
# the result of every run.
SEGMENT_WORDS = 250_000

NO_REASON = -1  # in place of a place in COUNTERS

# A line is counted in exactly one of these.
PLACES_OF_A_LINE = range(COUNTERS.index("lines_with_words"), COUNTERS.index("bad_weight_lines") + 1)


class Tokenizer(NamedTuple):
    """The keys of [corpus] that executors need, in plain types."""

    kind: str
    pattern: str
    lower_case: bool
    max_sentence_words: int
    max_word_length: int
    unspaced: str = "whole"

    @classmethod
    def of(cls, corpus_config: "Corpus") -> "Tokenizer":
        """Return the tokenizer that the keys say."""
        return cls(
            corpus_config.tokenizer,
            corpus_config.pattern,
            corpus_config.lower_case,
            corpus_config.max_sentence_words,
            corpus_config.max_word_length,
            corpus_config.unspaced,
        )


BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")  # in a pattern


class Lines(NamedTuple):
    """Words and sentences of L lines with N words in S sentences."""

    words: pa.Array  # distinct; may hold words that no code points to
    codes: Int64Array  # (N,) every word in text order, an index into `words`
    word_offsets: Int64Array  # (L + 1,) where each line's words start among all N
    lengths: Int64Array  # (S,) words of each sentence, all > 0
    sentence_offsets: Int64Array  # (L + 1,) where each line's sentences start among all S
    counters: Int64Array  # (L, len(COUNTERS))
    beginnings: pa.Array  # (L,) binary: how each line begins, to tell what is wrong with a bad one; may be null


def check_tokenizer(corpus_config: "Corpus") -> None:
    """Refuse, before Spark starts, a pattern that RE2 does not know.

    Raises:
        UserError: what RE2 says, in one sentence.
    """
    if corpus_config.tokenizer != "regex":
        return
    try:
        pc.match_substring_regex(pa.array(["a"]), corpus_config.pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise UserError(
            f"corpus.pattern: '{corpus_config.pattern}' is refused by RE2 ({reason}); "
            "RE2 has no look-around and no back-references."
        ) from None
    if BYTE.search(corpus_config.pattern):
        raise UserError(
            f"corpus.pattern: '{corpus_config.pattern}' has \\C, which matches a byte, not a character; use a dot."
        )


def tokenize(
    values: pa.Array, tokenizer: Tokenizer, reasons: Int64Array | None = None, beginnings: pa.Array | None = None
) -> Lines:
    """Cut L lines in words and sentences.

    Args:
        values: (L,) strings or lists of strings, as the kind of tokenizer requires, of any of Arrow's types for them;
            null where there is nothing to read. Strings need not be UTF-8.
        reasons: (L,) place in COUNTERS of what is already known to be wrong with a line, NO_REASON elsewhere.
        beginnings: (L,) binary, of lines that are not their own beginning: those of JSON.
    """
    # The types are the user's choice (spark.sql.execution.arrow.useLargeVarTypes), and what follows reads offsets.
    values = cast(values, pa.list_(pa.string()) if tokenizer.kind == "none" else pa.string())
    if beginnings is None:
        beginnings = pa.nulls(len(values), pa.binary()) if tokenizer.kind == "none" else cast(values, pa.binary())
    counters = np.zeros((len(values), len(COUNTERS)), np.int64)
    counters[:, COUNTERS.index("lines")] = 1
    missing = is_null = booleans(values.is_null())
    if reasons is not None:
        known = np.flatnonzero(reasons != NO_REASON)
        counters[known, reasons[known]] = 1
        missing = is_null & (reasons == NO_REASON)
    _mark(counters, "missing_lines", missing)
    if tokenizer.kind == "none":
        blank = np.zeros(len(values), bool)
        chunks, beginnings = _readable_words(values, counters, beginnings)
    else:
        text = _readable_text(values, counters)
        blank = booleans(pc.equal(pc.utf8_ltrim_whitespace(text), ""))
        chunks = _chunks_of_lines(text, tokenizer)
    offsets, flat = flatten_lists(chunks)
    words, codes, offsets = _words_of_lines(flat, offsets, tokenizer, counters)

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
    unexplained = (counters[:, PLACES_OF_A_LINE].sum(axis=1) == 0) & ~is_null
    _mark(counters, "blank_lines", unexplained & blank)
    _mark(counters, "wordless_lines", unexplained & ~blank)
    _mark(counters, "cut_lines", sentences_in_line > 1)
    return Lines(words, codes, offsets, lengths, sentence_offsets, counters, beginnings)


def are_made(words: pa.StringArray, tokenizer: Tokenizer) -> BoolArray:
    """Whether a tokenizer makes each of some words of itself; one that it does not is in no text."""
    made = np.zeros(len(words), bool)
    for start in range(0, len(words), SEGMENT_WORDS):
        some = words.slice(start, SEGMENT_WORDS)
        lines = tokenize(some, tokenizer)
        alone = np.flatnonzero(np.diff(lines.word_offsets) == 1)
        found = lines.words.take(pa.array(lines.codes[lines.word_offsets[alone]]))
        made[start + alone] = booleans(pc.equal(found, some.take(pa.array(alone))))
    return made


def _mark(counters: Int64Array, name: str, lines: BoolArray) -> None:
    counters[:, COUNTERS.index(name)] |= lines


def _readable_text(values: pa.Array, counters: Int64Array) -> pa.Array:
    """Lines as valid UTF-8 without NUL; "" for null lines and for binary ones."""
    text = values
    # Spark's reader of text hands every byte on as it is, and Arrow's functions may crash on what is not UTF-8.
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text, is_invalid = _replace_invalid(text.cast(pa.binary()))
        _mark(counters, "invalid_utf8_lines", is_invalid)
    if text.null_count:
        text = pc.fill_null(text, "")
    if (string_bytes(text) == 0).any():
        binary = booleans(pc.match_substring(text, "\0"))
        _mark(counters, "binary_lines", binary)
        counters[binary, COUNTERS.index("invalid_utf8_lines")] = 0
        text = pc.if_else(pa.array(binary), "", text)
    return text


def _readable_words(lines: pa.Array, counters: Int64Array, beginnings: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(L,) lists of ready-made words, all valid UTF-8; and beginnings: of a line with others, the first of them."""
    offsets, flat = flatten_lists(lines)
    try:
        flat.validate(full=True)
        return lines, beginnings
    except pa.ArrowInvalid:
        spelled = flat.cast(pa.binary())
    words, is_invalid = _replace_invalid(spelled)
    places = np.flatnonzero(is_invalid)
    of_line, first = np.unique(np.searchsorted(offsets, places, side="right") - 1, return_index=True)
    counters[of_line, COUNTERS.index("invalid_utf8_lines")] = 1
    told = beginnings.to_pylist()
    for line, place in zip(of_line.tolist(), places[first].tolist(), strict=True):
        told[line] = told[line] or spelled[place].as_py()
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), words, mask=lines.is_null())
    return lists, pa.array(told, pa.binary())


def _replace_invalid(texts: pa.Array) -> tuple[pa.Array, BoolArray]:
    """Strings with U+FFFD in place of each bad byte, and which of them had any.

    The only place where a line or a word is a Python object: a batch in which something is not UTF-8.
    """
    valid: list[str | None] = []
    is_invalid = np.zeros(len(texts), bool)
    for number, text in enumerate(texts.to_pylist()):
        try:
            valid.append(text if text is None else text.decode())
        except UnicodeDecodeError:
            valid.append(text.decode(errors="replace"))
            is_invalid[number] = True
    return pa.array(valid, pa.string()), is_invalid


def _ascii_table(lower_case: bool) -> npt.NDArray[np.uint8]:
    """(256,) each byte as it is, but ASCII that is not a letter, digit or apostrophe as a space; A as a if asked."""
    table = np.arange(256, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if not character.isalnum() and character != "'":
            table[byte] = ord(" ")
        elif lower_case:
            table[byte] = ord(character.lower())
    return table


ASCII_TABLES = {lower_case: _ascii_table(lower_case) for lower_case in (False, True)}


def _chunks_of_lines(text: pa.Array, tokenizer: Tokenizer) -> pa.Array:
    """(L,) lists of strings; each holds any number of words, and no word is in two of them."""
    match tokenizer.kind:
        case "words":
            # All in one table look-up per byte: lower-case and cut at what separates words in ASCII. It leaves few
            # distinct chunks, and those of letters and digits alone are finished.
            if tokenizer.lower_case:
                text = _with_one_dotted_i(text)
            offsets = string_offsets(text)
            content = pa.py_buffer(ASCII_TABLES[tokenizer.lower_case][string_bytes(text)])
            text = pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets - offsets[0]), content)
            return pc.ascii_split_whitespace(text)
        case "whitespace":
            return pc.utf8_split_whitespace(text)
        case _:
            return _find_all(_composed(text, tokenizer.lower_case), tokenizer.pattern)


def _composed(text: pa.Array, lower_case: bool) -> pa.Array:
    """Strings in Unicode's NFC, in lower case if asked."""
    is_ascii = (string_bytes(text) < 128).all()
    if lower_case:
        text = pc.utf8_lower(_with_one_dotted_i(text))
    # Last, as ẖ is one character and its upper case is two.
    return text if is_ascii else composed(text)


def _with_one_dotted_i(text: pa.Array) -> pa.Array:
    """Strings with İ as one character, which is i in lower case; as two it would become an i with a second dot."""
    dot = "\u0307"
    # Its first byte, which few texts have, is found in a tenth of the time of a look at each string.
    has_dot = (string_bytes(text) == dot.encode()[0]).any()
    return pc.replace_substring(text, f"I{dot}", "İ") if has_dot else text


def _find_all(text: pa.Array, pattern: str) -> pa.Array:
    """(L,) lists of what the pattern matches in each string."""
    text = pc.replace_substring(text, SEPARATOR, " ")
    # With a separator before and after every match, matches are the odd ones of the strings between separators.
    marked = pc.replace_substring_regex(text, pattern, SEPARATOR + r"\0" + SEPARATOR)
    offsets, flat = flatten_lists(pc.split_pattern(marked, SEPARATOR))
    lengths = np.diff(offsets)  # all odd
    first = np.repeat(offsets[:-1], lengths)
    odd = (np.arange(len(flat)) - first) % 2 == 1
    return pa.ListArray.from_arrays(pa.array(offsets_of(lengths // 2), pa.int32()), flat.filter(pa.array(odd)))


def _words_of_lines(
    flat: pa.Array, offsets: Int64Array, tokenizer: Tokenizer, counters: Int64Array
) -> tuple[pa.Array, Int64Array, Int64Array]:
    """Words, codes and word offsets of lines (as in Lines) from their chunks."""
    encoded = flat.dictionary_encode(null_encoding="encode")
    chunks, chunk_of = encoded.dictionary, encoded.indices.to_numpy()
    begin, parts = flatten_lists(_words_of_chunks(chunks, tokenizer))
    long = booleans(pc.greater(pc.utf8_length(parts), tokenizer.max_word_length))
    if tokenizer.kind == "none":
        empty = np.diff(begin) == 0
        counters[:, COUNTERS.index("null_words")] = np.diff(offsets_of(empty[chunk_of])[offsets])
    elif (is_clause := are_clauses(parts)).any():
        clauses = np.diff(offsets_of(np.diff(offsets_of(is_clause)[begin])[chunk_of])[offsets])
        of_line = np.diff(offsets_of(np.diff(begin)[chunk_of])[offsets])
        _mark(counters, "unspaced_lines", clauses > CLAUSES_OF_A_LINE * of_line)
    if long.any():
        long_in_chunk = np.diff(offsets_of(long)[begin])
        counters[:, COUNTERS.index("long_words")] = np.diff(offsets_of(long_in_chunk[chunk_of])[offsets])
        begin = offsets_of(~long)[begin]
        parts = parts.filter(pa.array(~long))
    encoded = parts.dictionary_encode()
    code_of_part = encoded.indices.to_numpy().astype(np.int64)
    in_chunk = np.diff(begin)
    if (in_chunk == 1).all():
        return encoded.dictionary, code_of_part[chunk_of], offsets
    repeats = in_chunk[chunk_of]
    word_offsets = offsets_of(repeats)
    # The parts of one chunk after the other: begin, begin + 1, ... as often as the chunk has words.
    part = np.arange(word_offsets[-1]) + np.repeat(begin[:-1][chunk_of] - word_offsets[:-1], repeats)
    return encoded.dictionary, code_of_part[part], word_offsets[offsets]


def _words_of_chunks(chunks: pa.Array, tokenizer: Tokenizer) -> pa.Array:
    """(n,) lists of words, from n distinct chunks."""
    if tokenizer.kind == "words":
        done = pc.ascii_is_alnum(chunks)
        rest = chunks.filter(pc.invert(done))
        rest = _composed(pc.replace_substring_regex(rest, INVISIBLE, ""), tokenizer.lower_case)
        rest = pc.replace_substring_regex(rest, BETWEEN_WORDS, SEPARATOR)
        if tokenizer.unspaced != "whole":
            rest = pc.replace_substring_regex(rest, f"((?:{UNSPACED})+)", SEPARATOR + r"\1" + SEPARATOR)
        rest = pc.replace_substring_regex(rest, NOT_A_START, r"\1")
        rest = pc.replace_substring_regex(rest, NOT_AN_END, r"\1")
        chunks = pc.replace_with_mask(chunks, pc.invert(done), rest)
    elif tokenizer.kind == "whitespace":
        chunks = pc.replace_substring_regex(chunks, BREAK, SEPARATOR)
        chunks = _composed(pc.replace_substring_regex(chunks, HIDDEN, ""), tokenizer.lower_case)
    if tokenizer.kind in ("words", "whitespace"):
        offsets, flat = flatten_lists(pc.split_pattern(chunks, SEPARATOR))
        if tokenizer.unspaced != "whole":
            offsets, flat = split_unspaced(flat, offsets, tokenizer.unspaced)
    else:
        offsets, flat = np.arange(len(chunks) + 1), chunks
    empty = booleans(pc.fill_null(pc.equal(flat, ""), True))
    if empty.any():
        offsets = offsets_of(~empty)[offsets]
        flat = flat.filter(pa.array(~empty))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
