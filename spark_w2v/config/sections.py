"""The configuration, and its sections on the training and on what it writes."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from spark_w2v.config.text_sections import LARGEST_INT, MOST_DIMENSIONS, Corpus, Phrases, Vocabulary


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
                "Blocks that the vocabulary is divided into, or replicas; it may be more than the cores. auto: as many "
                "as Spark has slots once its executors are there; with a number the result does not depend on them."
            ),
        ),
    ] = "auto"
    dimensions: Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS, description="Numbers in a vector.")] = 100
    window: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | Literal["sentence"],
        Meta(
            description=(
                'Words to each side of the center that it may reach. "sentence": all other words of the sentence, '
                "whatever their order."
            ),
        ),
    ] = 5
    shrink_window: Annotated[
        bool,
        Meta(
            description=(
                "A center reaches from 1 to window words to each side, each time at random, so that near words are "
                'trained on more often; false: always window words. Not used with "sentence".'
            ),
        ),
    ] = True
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
    last_learning_rate: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description=(
                "Size of the last step, at most learning_rate: with the same value the rate stays. The rate never "
                "falls below a 10,000th of learning_rate, as in word2vec.c, so 0 and smaller values mean that."
            ),
        ),
    ] = 0.0
    average_with_init: Annotated[
        bool,
        Meta(
            description=(
                "With --init, average the vectors of known words with their initial ones, by the occurrences that both "
                "were trained on (docs/training.md)."
            ),
        ),
    ] = True
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
                "Share of the held-out loss of the last epoch that counted as an improvement, by which an epoch has to "
                "be below it to count as one, for patience, which it needs."
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
            le=1_000_000,
            description=(
                "Words after subsampling, in whole sentences and on average at most 1 % of these, kept out of training "
                "to measure the held-out loss on at most 20,000 of their pairs, which patience needs; 0 measures none."
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
                "one, and the one published before it unless this is 1; the others are removed once this run is "
                "published. 0 keeps all runs with an id, and of those without one, which only a store has, this one "
                "and the one before. --keep-runs wins over it."
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
                "parameters that came back. A Python worker that draws pairs is ended after as many, and its task "
                "repeated."
            ),
        ),
    ] = 60.0
    plain: Annotated[
        bool,
        Meta(
            description=(
                "Parameters may travel, and pairs and the rows of corpus.group_by lie on local disks, unencrypted "
                "although Spark's own are encrypted (spark.network.crypto.enabled, "
                "spark.authenticate.enableSaslEncryption, spark.ssl.enabled, spark.ssl.rpc.enabled, "
                "spark.io.encryption.enabled); without it such a run is refused. Of replicas only corpus.group_by with "
                "spark.io.encryption.enabled needs it."
            ),
        ),
    ] = False


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration. `load` and `from_dict` check it; calling the class does not."""

    corpus: Corpus = msgspec.field(default_factory=Corpus)
    phrases: Phrases = msgspec.field(default_factory=Phrases)
    vocabulary: Vocabulary = msgspec.field(default_factory=Vocabulary)
    training: Training = msgspec.field(default_factory=Training)
    output: Output = msgspec.field(default_factory=Output)
    exchange: Exchange = msgspec.field(default_factory=Exchange)
