"""The sections of the configuration on the text: what is read, and which words get a vector."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LARGEST_INT = 2**31 - 1  # word ids and positions are int32

MOST_DIMENSIONS = 10_000  # also of vectors of other programs
MOST_PASSES, MOST_PHRASES = 8, 50_000_000  # of phrases, also of a list that is given
MOST_WINDOWS = 10_000_000  # of rare words, also of an earlier run


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The input, and how it becomes words."""

    format: Annotated[
        Literal["text", "jsonl", "parquet", "orc", "csv", "avro", "table"],
        Meta(
            description=(
                "Kind of the input: files with one sentence or document a line, one JSON object a line, Parquet, ORC, "
                "CSV with a line of names, or Avro; or tables that Spark's catalog knows by the names given as input."
            ),
        ),
    ] = "text"
    column: Annotated[
        str,
        Meta(
            min_length=1,
            description="Column or field that holds the text, or an array of ready-made words; with group_by, one "
            "word. doc.body is the field body of the column doc. Not for text.",
        ),
    ] = "text"
    where: Annotated[
        str,
        Meta(
            description=(
                "Condition in Spark SQL that a row has to meet to be read, such as day = '2026-01-31'. Not for text, "
                "nor for jsonl without group_by."
            ),
        ),
    ] = ""
    group_by: Annotated[
        str,
        Meta(
            description=(
                "Columns, separated by commas, of rows that hold one word each: all rows with the same values make one "
                'sentence. Needs tokenizer = "none".'
            ),
        ),
    ] = ""
    order_by: Annotated[
        str,
        Meta(
            description=(
                "Columns of numbers, strings, dates or times, separated by commas, that order the rows of a group; "
                "rows that are equal in them are ordered by the word."
            ),
        ),
    ] = ""
    weight: Annotated[
        str,
        Meta(
            description=(
                "Column or field with the weight of a sentence, 0 to 1,000: its words count and are trained on as "
                "often as if the sentence were there so many times; a fraction is met on average over the epochs. With "
                "group_by the largest weight of the rows counts. Empty: all weights are 1."
            ),
        ),
    ] = ""
    tokenizer: Annotated[
        Literal["words", "whitespace", "regex", "none"],
        Meta(
            description=(
                "How text becomes words: runs of letters and digits with their inner marks, whatever stands between "
                "white space, what corpus.pattern matches, or nothing to do because the column holds ready-made words."
            ),
        ),
    ] = "words"
    pattern: Annotated[
        str,
        Meta(
            description=(
                'RE2 regular expression of one word; needed by tokenizer = "regex" and refused with any other. In RE2, '
                r"\w, \d and \b are of ASCII alone; [\pL\pN_]+ is a word of any script."
            ),
        ),
    ] = ""
    unspaced: Annotated[
        Literal["whole", "characters", "bigrams"],
        Meta(
            description=(
                'What tokenizer = "words" makes of letters that are written without spaces between the words (Chinese, '
                "Japanese, Thai, Lao, Khmer, Burmese): one word of all up to the next other character, a word of each, "
                "or a word of each two that follow each other."
            ),
        ),
    ] = "whole"
    lower_case: Annotated[
        bool,
        Meta(
            description=(
                'Lower-case the text before it is split into words. Not used by tokenizer = "none", which takes words '
                "as they are."
            ),
        ),
    ] = True
    max_sentence_words: Annotated[
        int,
        Meta(
            ge=2,
            le=LARGEST_INT,
            description="Words of the longest sentence; a longer line is split, not dropped. A sentence has at most "
            "250,000, also where this is more.",
            extra={"too_small": "a sentence of one word has no pair to train on"},
        ),
    ] = 1000
    max_word_length: Annotated[
        int,
        Meta(ge=1, le=LARGEST_INT, description="Characters of the longest word; longer ones are skipped and counted."),
    ] = 100
    max_bad_fraction: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description=(
                "Share of lines that may be bad (unreadable, not UTF-8, without the column); more stop the run before "
                "training."
            ),
        ),
    ] = 0.01


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Words that are joined to one because they occur together, as new_york (Mikolov et al. 2013, section 4)."""

    passes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_PASSES,
            description=(
                "Times that the text is searched for pairs of words to join; the second time may join phrases of the "
                "first to phrases of up to four words. 0 joins none."
            ),
        ),
    ] = 0
    list: Annotated[
        str,
        Meta(
            description=(
                "List of phrases: a Parquet file, the directory that jobs/phrases.py wrote, or the output of a run, on "
                "this host. They are joined, and none is searched for, so the keys on finding them are refused. Empty: "
                "none."
            )
        ),
    ] = ""
    score: Annotated[
        Literal["default", "npmi"],
        Meta(
            description=(
                "How a pair a b is scored, as by gensim. default: (count(a b) - min_count) / count(a) / count(b) x "
                "the number of distinct words and pairs. npmi: normalized pointwise mutual information, -1 to 1."
            ),
        ),
    ] = "default"
    threshold: Annotated[
        float,
        Meta(
            ge=-1.0,
            le=1e12,
            description="Score above which a pair is joined; at least 0, with npmi from -1 to below 1, such as 0.5.",
        ),
    ] = 10.0
    min_count: Annotated[
        int, Meta(ge=1, le=LARGEST_INT, description="Occurrences that a pair, and each of its words, needs.")
    ] = 5
    delimiter: Annotated[
        str, Meta(min_length=1, max_length=10, description="What stands between the joined words; no white space.")
    ] = "_"
    max_phrases: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_PHRASES,
            description=(
                "Phrases of a pass at most, those of the highest scores; the others are counted. The driver and each "
                "task hold the list."
            ),
        ),
    ] = 1_000_000


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which words get a vector, and which of their occurrences are trained on."""

    min_count: Annotated[
        int, Meta(ge=1, le=LARGEST_INT, description="Occurrences in the corpus that a word needs to get a vector.")
    ] = 5
    max_words: Annotated[
        int,
        Meta(
            ge=0,
            le=LARGEST_INT,
            description="Words to keep, the most frequent first, 2 or more; 0 keeps all that min_count lets through.",
        ),
    ] = 0
    subsample: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=1.0,
            description=(
                "Threshold t of frequent words: of a word that is a share f of all occurrences of the vocabulary, "
                "sqrt(t / f) + t / f are kept, as in word2vec.c, so words above 2.6 t lose some; 0 skips none."
            ),
        ),
    ] = 1e-3
    keep_missing: Annotated[
        bool,
        Meta(
            description=(
                "With --init: every word of the earlier run stays, also one that the text has less often than "
                "min_count or not at all, in addition to the max_words of the text. Not used without --init."
            ),
        ),
    ] = False
    induce: Annotated[
        bool,
        Meta(
            description=(
                "With --init: words that the earlier vectors do not have begin with vectors that follow from the "
                "contexts in which they occur, not with random ones. Where vectors are averaged, they are then turned "
                "to what their contexts and their own context vectors say. Not used without --init."
            ),
        ),
    ] = True
    rare_windows: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_WINDOWS,
            description=(
                "Occurrences of words below min_count that the output keeps, with the words around them, for the next "
                "run with --init. It counts them too, and trains on them where a word then has min_count occurrences. "
                "0 keeps none. Refused with max_words and words."
            ),
        ),
    ] = 0
    words: Annotated[
        str,
        Meta(
            description=(
                "File of this host with the words that get vectors, one a line, and no others do; min_count does not "
                "apply to them. Words of it that get none are counted. Empty: any word."
            ),
        ),
    ] = ""
    stop_words: Annotated[
        str,
        Meta(
            description=(
                "File of this host with words that get no vector, one a line; the words to both sides of one become "
                "neighbors. Empty: none."
            ),
        ),
    ] = ""
