"""The sections of the configuration, with the range, default and description of every key."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LARGEST_INT = 2**31 - 1  # word ids and positions are int32


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
            "word. doc.body is the field body of the column doc. Not used by text.",
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
                "Columns, separated by commas, that order the rows of a group; rows that are equal in them are ordered "
                "by the word."
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
                'RE2 regular expression of one word; needed by tokenizer = "regex" and refused with any other.'
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
    lower_case: Annotated[bool, Meta(description="Lower-case the text before it is split into words.")] = True
    max_sentence_words: Annotated[
        int,
        Meta(
            ge=2,
            le=LARGEST_INT,
            description="Words of the longest sentence; a longer line is split, not dropped.",
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
                "Share of the corpus above which a word counts as frequent and some of its occurrences are skipped (t "
                "of Mikolov et al. 2013); 0 skips none."
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


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the vectors are learned, and how the work is divided."""

    scheme: Annotated[
        Literal["auto", "blocks", "replicas"],
        Meta(
            description=(
                "Which pairs meet which copy of the parameters. blocks: no two tasks of a round share a row. replicas:"
                " each task trains a full copy, and the copies are averaged. auto: blocks whenever there is more than "
                "one partition."
            ),
        ),
    ] = "auto"
    partitions: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | Literal["auto"],
        Meta(
            description=(
                "Tasks that train at the same time: blocks of the vocabulary, or replicas. auto: as many as Spark has "
                "slots; a number gives the same result on every machine."
            ),
        ),
    ] = "auto"
    dimensions: Annotated[int, Meta(ge=1, le=10_000, description="Numbers in a vector.")] = 100
    window: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | Literal["sentence"],
        Meta(
            description=(
                "Words to each side of the center that it may reach; each time from 1 to this many, at random. "
                '"sentence": all other words of the sentence, whatever their order.'
            ),
        ),
    ] = 5
    max_contexts: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                'With window = "sentence": most words that a center is paired with in an epoch. In a longer sentence '
                "they are drawn at random, each equally likely. Not used with a number."
            ),
        ),
    ] = 50
    negatives: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Noise words per pair.",
            extra={"too_small": "without noise words all vectors would grow alike"},
        ),
    ] = 5
    epochs: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Passes over the corpus; occurrences, reaches and noise words are drawn again in each.",
        ),
    ] = 5
    learning_rate: Annotated[
        float,
        Meta(
            gt=0.0,
            le=1.0,
            description="Size of the first step; falls linearly over the whole run, with the pairs trained.",
            extra={"too_large": "a larger step throws the vectors about instead of teaching them"},
        ),
    ] = 0.05
    syncs_per_epoch: Annotated[
        int, Meta(ge=1, le=100_000, description="Averages of the replicas per epoch. Not used by blocks.")
    ] = 1
    sweeps_per_epoch: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description=(
                "Slices into which each bucket of pairs is split, so that an epoch visits all buckets as many times; "
                "0 takes 2 with up to 4 blocks, 4 with up to 63 and 2 with more, and fewer where buckets would have "
                "too few pairs. Not used by replicas."
            ),
        ),
    ] = 0
    noise_exponent: Annotated[
        float,
        Meta(
            ge=-5.0,
            le=5.0,
            description=(
                "Noise words are drawn by count to this power: 1 as often as they occur, 0 all equally often, below 0 "
                "rare ones first."
            ),
        ),
    ] = 0.75
    damping: Annotated[
        float,
        Meta(
            ge=0.01,
            le=10.0,
            description=(
                "kappa of the implicit step row + rate * sum / (1 + rate * kappa * n), for n updates of one row in a "
                "batch; more is steadier and slower."
            ),
            extra={"too_small": "without it, a frequent word's row diverges"},
        ),
    ] = 0.1
    patience: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description=(
                "Epochs in a row without a lower held-out loss after which the training ends; 0 trains all epochs. The "
                "vectors are those of the last epoch trained, and the learning rate falls as if all were."
            ),
        ),
    ] = 0
    min_improvement: Annotated[
        float,
        Meta(
            ge=0.0,
            lt=1.0,
            description=(
                "Share of the lowest held-out loss so far by which an epoch has to be below it to count for patience."
            ),
        ),
    ] = 0.0
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Where all randomness starts: same corpus, configuration and seed, same bits.",
        ),
    ] = 1
    held_out_words: Annotated[
        int,
        Meta(
            ge=0,
            le=LARGEST_INT,
            description=(
                "Words, in whole sentences, kept out of training to measure the held-out loss; 0 measures none, and "
                "patience has nothing to go by."
            ),
        ),
    ] = 20_000


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files written next to the embeddings."""

    checkpoint: Annotated[
        Literal["sweep", "epoch", "none"],
        Meta(
            description=(
                "How often the state is saved, so how much work a killed run loses; with replicas a sweep is a sync. A "
                "run without checkpoints starts again."
            ),
        ),
    ] = "epoch"
    table: Annotated[
        str,
        Meta(
            description=(
                "Table of Spark's catalog that gets the words and vectors too, such as db.vectors: word, id where "
                "words are whole numbers, word_id, count, vector. The table of an earlier run is replaced. Empty: none."
            )
        ),
    ] = ""
    report: Annotated[
        bool, Meta(description="Write report.html, a page about the run to look at in a browser; it needs no network.")
    ] = True
    keep_runs: Annotated[
        int,
        Meta(
            ge=0,
            le=LARGEST_INT,
            description=(
                "Finished runs that stay in a directory of --run-id, or of a store, the newest ones and the published "
                "one; the others are removed once this run is published. 0 keeps all runs with an id, and of those "
                "without one, which only a store has, this one and the one before. --keep-runs wins over it."
            ),
        ),
    ] = 0


class Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the tasks of scheme blocks reach each other and the driver. Nothing here changes the result."""

    tasks: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | Literal["auto"],
        Meta(
            description=(
                "Tasks that train at the same time, each with a share of the blocks. auto: as many as Spark has slots, "
                "and no more than blocks. A number that Spark has no slots for is refused."
            ),
        ),
    ] = "auto"
    first_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description=(
                "First port that the driver and the tasks may listen on; 0 takes any free one. A machine needs one for "
                "each task that it runs at a time, and the driver's one more."
            ),
        ),
    ] = 0
    last_port: Annotated[int, Meta(ge=0, le=65535, description="Last port that they may listen on.")] = 0
    timeout: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description=(
                "Seconds of silence after which a process counts as lost; the epoch is then repeated from the last "
                "parameters that came back."
            ),
        ),
    ] = 60.0
    plain: Annotated[
        bool,
        Meta(
            description=(
                "Parameters may travel, and pairs lie on local disks, unencrypted although Spark's own are encrypted "
                "(spark.network.crypto.enabled, spark.ssl.enabled, spark.io.encryption.enabled); without it such a run "
                "is refused."
            ),
        ),
    ] = False


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration. `load` and `from_dict` check it; calling the class does not."""

    corpus: Corpus = msgspec.field(default_factory=Corpus)
    vocabulary: Vocabulary = msgspec.field(default_factory=Vocabulary)
    training: Training = msgspec.field(default_factory=Training)
    output: Output = msgspec.field(default_factory=Output)
    exchange: Exchange = msgspec.field(default_factory=Exchange)
