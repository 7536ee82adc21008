"""Names of what is counted in the lines and words of a corpus."""

# A line of the input is counted in exactly one of `lines_with_words` and the seven after it, so that lines counted are
# lines read. The rest are lines or words that were changed, or words that were skipped.
COUNTERS = (
    "lines",  # all that were read
    "words",  # all that are in SEGMENTS
    "sentences",  # all that are in SEGMENTS: lines with words, and the sentences that long lines were cut in
    "lines_with_words",
    "blank_lines",  # empty, or nothing but white space
    "wordless_lines",  # nothing but punctuation or words that are too long; an empty array
    "missing_lines",  # the column is absent or null
    "wrong_type_lines",  # the JSON field holds a number, an object, ..., or an array of something other than words
    "malformed_lines",  # not a JSON object
    "binary_lines",  # with a NUL byte: UTF-16, pictures
    "bad_weight_lines",  # the weight is null, not a number, below 0 or too large
    # Read with U+FFFD in place of each bad byte, and not counted among the eight above; rows of events in CSV and JSON
    # are left out.
    "invalid_utf8_lines",
    "unspaced_lines",  # clauses of Chinese, Japanese, Thai, ... that became words
    "cut_lines",  # more than corpus.max_sentence_words, so several sentences
    "long_words",  # more than corpus.max_word_length characters: skipped
    "null_words",  # null or empty elements of an array of ready-made words: skipped
)

# A run stops before training when these are more than corpus.max_bad_fraction of all lines.
BAD_LINES = (
    "missing_lines",
    "wrong_type_lines",
    "malformed_lines",
    "binary_lines",
    "bad_weight_lines",
    "invalid_utf8_lines",
)
