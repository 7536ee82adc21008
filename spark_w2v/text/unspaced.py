"""Text of scripts that are written without spaces between the words."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.text.arrow_arrays import booleans, flatten_lists, offsets_of
from spark_w2v.text.word_patterns import CLAUSE, ONE_WORD, SEPARATOR, UNSPACED
from spark_w2v.types import BoolArray, Int64Array

CLAUSES_OF_A_LINE = 0.2  # of its words: segmented text has a long word now and then


def are_clauses(words: pa.Array) -> BoolArray:
    """Whether each of some words is several words, of a script that is written without spaces."""
    found = np.zeros(len(words), bool)
    long = np.flatnonzero(pc.binary_length(words).to_numpy() >= 15)  # 5 letters of 3 bytes; few are
    if len(long):
        longer = words.take(pa.array(long))
        is_one = pc.match_substring_regex(longer, ONE_WORD)
        found[long] = booleans(pc.and_not(pc.match_substring_regex(longer, CLAUSE), is_one))
    return found


def split_unspaced(words: pa.Array, offsets: Int64Array, unspaced: str) -> tuple[Int64Array, pa.Array]:
    """Offsets (n + 1,) and words of n chunks, with characters or pairs of them in place of text without spaces.

    Args:
        words: of the chunks; one that begins with a letter of these scripts has no others.
        unspaced: "characters", each with its combining marks; or "bigrams", all pairs of neighbours among these.
    """
    is_run = booleans(pc.match_substring_regex(words, f"^{UNSPACED}"))
    if not is_run.any():
        return offsets, words
    runs = pc.replace_substring_regex(words.filter(pa.array(is_run)), f"({UNSPACED})", r"\1" + SEPARATOR)
    begin, characters = flatten_lists(pc.split_pattern(pc.utf8_rtrim(runs, SEPARATOR), SEPARATOR))
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
    # First the words that are not runs, then the runs' characters, taken from there in the order of the text.
    others = words.filter(pa.array(~is_run))
    source = np.arange(lengths.sum())
    in_run = np.repeat(is_run, lengths)
    source[~in_run] = np.arange(len(others))
    source[in_run] = len(others) + np.arange(len(characters))
    return offsets_of(lengths)[offsets], pa.concat_arrays([others, characters]).take(pa.array(source))
