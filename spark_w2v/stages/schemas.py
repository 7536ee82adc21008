"""The tables that pass between the stages, and what always holds of them."""

import pyspark.sql.types as T

# One line of the input is counted in exactly one of `lines_with_words` and the six after it, so that lines counted are
# lines read. What follows describes lines or words that were changed, or words that were skipped.
TALLIES = (
    "lines",  # all that were read
    "words",  # all that are in PIECES
    "sentences",  # all that are in PIECES: lines with words, and what long lines were cut in
    "lines_with_words",
    "blank_lines",  # empty, or white space alone
    "wordless_lines",  # punctuation alone, words too long alone, an empty array
    "missing_lines",  # the column is absent or null
    "wrong_type_lines",  # the JSON field holds a number, an object, ..., or an array with something else than words
    "malformed_lines",  # no JSON object
    "binary_lines",  # with a NUL byte: UTF-16, pictures
    "invalid_utf8_lines",  # read with U+FFFD in place of each bad byte; not counted among the seven above
    "unspaced_lines",  # clauses of Chinese, Japanese, Thai, ... that became words
    "cut_lines",  # more than corpus.max_sentence_words, so several sentences
    "long_words",  # more than corpus.max_word_length characters: skipped
    "null_words",  # null or empty elements of an array of ready-made words: skipped
)
# A run stops before training when these are more than corpus.max_bad_fraction of all lines.
BAD_LINES = ("missing_lines", "wrong_type_lines", "malformed_lines", "binary_lines", "invalid_utf8_lines")

# The first bad lines of a split, of each kind.
BAD = T.StructType(
    [
        T.StructField("place", T.IntegerType()),  # of the kind among TALLIES
        T.StructField("line", T.LongType()),  # number within the split, from 0
        T.StructField("beginning", T.BinaryType()),  # of the line; empty where it is nothing that could be shown
    ]
)

# The corpus, one row a piece: at most corpus.PIECE_WORDS words of one split of one file, in whole sentences.
# (file, start, piece) is the piece's identity. It follows from the files and the configuration alone, never from cores,
# partitions or batches, so whatever is drawn at random for a piece is seeded by it. The last piece of a split carries
# all of the split's tallies and its first bad lines, and may have no words.
PIECES = T.StructType(
    [
        T.StructField("file", T.IntegerType()),  # place of the file in the sorted paths of those with content
        T.StructField("start", T.LongType()),  # byte of the file where the split starts
        T.StructField("piece", T.IntegerType()),  # number within the split, from 0
        T.StructField("words", T.ArrayType(T.StringType())),  # distinct, in order of first appearance; no nulls
        T.StructField("counts", T.ArrayType(T.LongType())),  # occurrences of each of `words` in the piece, all > 0
        T.StructField("codes", T.BinaryType()),  # int32, little-endian: every word in text order, an index into `words`
        T.StructField("lengths", T.BinaryType()),  # int32, little-endian: words of each sentence, all > 0
        T.StructField("tallies", T.ArrayType(T.LongType())),  # in the order of TALLIES
        T.StructField("bad", T.ArrayType(BAD)),
    ]
)

# PIECES in word ids: what is left of each sentence without the words outside the vocabulary. Pieces without words are
# not in it.
ENCODED = T.StructType(
    [
        T.StructField("file", T.IntegerType()),
        T.StructField("start", T.LongType()),
        T.StructField("piece", T.IntegerType()),
        T.StructField("ids", T.BinaryType()),  # int32, little-endian: word ids in text order
        T.StructField("lengths", T.BinaryType()),  # int32, little-endian: words of each sentence, all > 0
    ]
)
