"""SEGMENTS → trained vectors, the same for the job and for the Estimator.

V words.
"""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.config.keys import KEYS
from spark_w2v.skipgram.schedule import (
    auto_sweeps,
    check_buckets,
    expected_pairs,
    kept_words,
    largest_bucket,
    most_partitions,
    most_sweeps,
    why_no_more,
    window_contexts,
)
from spark_w2v.spark import corpus, inputs, memory, rare_windows
from spark_w2v.spark import vocabulary as vocabularies
from spark_w2v.spark.broadcasts import send
from spark_w2v.spark.id_checks import check_ids
from spark_w2v.spark.phrases import with_phrases
from spark_w2v.spark.reach import check_reach
from spark_w2v.spark.slots import (
    auto_partitions,
    check_slots,
    check_spark,
    exchange_of,
    is_local_mode,
    planned_tasks,
)
from spark_w2v.spark.tables import ENCODED_LEVEL, SEGMENTS_LEVEL, id_type_of
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import Progress, Settings
from spark_w2v.text.bad_lines import BadLine, check_counters
from spark_w2v.text.encoding import Vocabulary, ids_of
from spark_w2v.text.messages import MOST_SHOWN, counted
from spark_w2v.text.rare_windows import window_counts
from spark_w2v.text.summary import shown, summary, warnings
from spark_w2v.types import Int64Array

if TYPE_CHECKING:
    from spark_w2v.config import Config
    from spark_w2v.spark.session import SparkSession
    from spark_w2v.spark.tables import DataFrame

log = logging.getLogger("spark_w2v")


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus in word ids.

    Args:
        encoded: ENCODED, persisted; the caller releases it.
        facts: what was read, skipped and changed, JSON-able.
        held: gives back what Spark holds, also what `encoded` is computed from again where a part of it was lost.
        added: (V,) occurrences of the words in `encoded` that their counts do not have: around words that were rare.
        phrases: PHRASES that were joined; None where none were asked for.
        windows: WINDOWS of rare words, for a later run; None where none were asked for.
    """

    vocabulary: Vocabulary
    encoded: "DataFrame"
    facts: dict[str, Any]
    held: contextlib.ExitStack
    added: Int64Array
    phrases: pa.Table | None = None
    windows: pa.Table | None = None

    @property
    def counts(self) -> Int64Array:
        """(V,) occurrences of each word in `encoded`."""
        counts: Int64Array = self.vocabulary.counts + self.added
        return counts

    def release(self) -> None:
        """Give back what Spark holds of it; nothing can be trained on it then."""
        self.held.close()


@dataclass(frozen=True)
class ResolvedConfig:
    """The configuration without "auto"; part of what decides the result.

    Args:
        settings: as the user gave them.
        partitions: that were asked for; a small vocabulary may get fewer.
    """

    settings: "Config"
    partitions: int
    scheme: str

    def facts(self) -> dict[str, Any]:
        """Return what "auto" came to, JSON-able."""
        return {"partitions": self.partitions, "scheme": self.scheme}

    def unused_key(self) -> str | None:
        """Return the key that was given for the other scheme, or None."""
        key = "training.syncs_per_epoch" if self.scheme == "blocks" else "training.sweeps_per_epoch"
        given = getattr(self.settings.training, key.removeprefix("training."))
        return key if given != KEYS[key].default else None


def resolve(session: "SparkSession", settings: "Config") -> ResolvedConfig:
    """Return the configuration with the numbers that "auto" stands for in this session.

    Raises:
        UserError: Spark's settings do not go with the scheme.
        SparkLostError: there are no executors to count.
    """
    wanted = settings.training.partitions
    exchange = exchange_of(settings)
    partitions = auto_partitions(session.sparkContext, exchange) if wanted == "auto" else wanted
    scheme: str = settings.training.scheme
    if scheme == "auto":
        scheme = "blocks" if partitions > 1 else "replicas"
    if scheme == "blocks":
        check_spark(session.sparkContext, exchange)
        check_slots(session.sparkContext, exchange)
    return ResolvedConfig(settings, partitions, scheme)


def check_cluster(session: "SparkSession", resolved: ResolvedConfig, on_phase: Callable[[str], object]) -> None:
    """Refuse a cluster whose tasks do not reach each other; call it before anything is read."""
    if resolved.scheme == "blocks" and not is_local_mode(session.sparkContext):
        on_phase("connecting the tasks")
        check_reach(session, exchange_of(resolved.settings), resolved.partitions)


def train(
    segments: "DataFrame",
    resolved: ResolvedConfig,
    folder: Path,
    *,
    on_corpus: Callable[[EncodedCorpus], object],
    on_checked: Callable[[], object] = lambda: None,
    on_training: Callable[[EncodedCorpus, Training], object] = lambda text, training: None,
    on_progress: Callable[[Training, Progress], object] = lambda training, progress: None,
    on_phase: Callable[[str], object] = lambda name: None,
    lists: vocabularies.WordLists = vocabularies.ANY_WORD,
    files: inputs.Inputs | None = None,
    listed: pa.Table | None = None,
    check: Callable[[dict[str, int]], object] = lambda counters: None,
    averages: bool = False,
    windows: pa.Table | None = None,
    in_memory: bool = False,
) -> tuple[EncodedCorpus, Training]:
    """Train on SEGMENTS: count and encode the words, then train all epochs.

    Args:
        folder: of the training's parameters; the caller removes what is left in it.
        on_corpus: called when the text is encoded, before anything is said of it; from then on the caller releases it.
        on_checked: called when memory and disk are known to suffice, before files of parameters are made.
        on_training: called before the first epoch; may set what the training starts from. Nothing is trained if it
            returns true.
        on_progress: called while the training goes on; what it returns after an epoch ends the training if it is true.
        on_phase: called when something else begins, with what a user calls it.
        lists, files, listed, check, windows: see `prepare`; averages, in_memory: of Training and of memory.needed.

    Returns:
        The text, and the training that has ended.

    Raises:
        UserError: too much could not be read, or no word is left.
        NoPairsError: no pair is left to train on.
        NotEnoughMemoryError: it cannot fit what Spark and the machine give.
        StorageError: parameters do not fit on the disk of the folder.
        DivergedError: parameters or the loss grew without bound.
    """
    settings = resolved.settings
    text = prepare(segments, settings, lists, files, on_phase, listed, check, windows)
    on_corpus(text)
    for line in summary(text.facts):
        log.info(line)
    for line in warnings(text.facts, is_of_events=bool(settings.corpus.group_by)):
        log.warning(line)
    training = build_training(text, resolved, folder, averages, in_memory, on_checked)
    if not on_training(text, training):
        on_phase("training")
        epochs = settings.training.epochs
        started, begin = time.monotonic(), training.state.epoch / epochs if not training.state.sweep else None
        # Closed here and now: an error's traceback would keep it open, with all that it has sent to the executors.
        with contextlib.closing(training.run()) as run:  # type: ignore[type-var]  # a generator
            for progress in run:
                begin = progress.done if begin is None else begin  # of a run that was resumed within an epoch
                left = (time.monotonic() - started) * (1 - progress.done) / max(progress.done - begin, 1e-9)
                known_left = replace(progress, left=left if progress.done > begin else None)
                if on_progress(training, known_left) and progress.metrics is not None:
                    break
    training.state.check_pairs()  # here, as patience ends a training that draws no pairs
    return text, training


def prepare(
    segments: "DataFrame",
    settings: "Config",
    lists: vocabularies.WordLists = vocabularies.ANY_WORD,
    files: inputs.Inputs | None = None,
    on_phase: Callable[[str], object] = lambda name: None,
    listed: pa.Table | None = None,
    check: Callable[[dict[str, int]], object] = lambda counters: None,
    windows: pa.Table | None = None,
) -> EncodedCorpus:
    """Count the words of SEGMENTS and replace them by their ids.

    Args:
        lists: words that decide on the vocabulary next to their counts.
        files: that the segments are of; None for the rows of a DataFrame or of tables.
        listed: PHRASES to join, instead of those that are to be found.
        check: called with what was read, skipped and changed; may refuse it.
        windows: WINDOWS of rare words that an earlier run kept.

    Raises:
        UserError: the words are numbers and something does not go with them, too much could not be read, or no word
            is left.
    """
    v, is_weighted, joined = settings.vocabulary, bool(settings.corpus.weight), None
    phrases_key = "phrases.list" if listed is not None else "phrases.passes" if settings.phrases.passes else ""
    check_ids(segments, phrases_key, lists.kept, windows)
    describe = segments.sparkSession.sparkContext.setJobDescription  # for Spark's pages
    describe("corpus: reading the text and cutting it in words")
    on_phase("reading the text")
    segments = segments.persist(SEGMENTS_LEVEL)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as cleanup:
        cleanup.callback(segments.unpersist)
        counters, bad_lines, size = check_text(segments, settings, files)
        check(counters)
        if phrases_key:
            on_phase("finding phrases" if listed is None else "joining phrases")
            joined = with_phrases(segments, settings.phrases, listed, held, cleanup, is_weighted)
            segments = joined.segments
        describe("vocabulary: counting the words")
        on_phase("counting the words")
        of_words = size if joined is None else None  # phrases that are joined are more words, and longer ones
        earlier = None if windows is None else window_counts(windows, is_weighted)
        vocabulary = vocabularies.count_words(segments, v.min_count, v.max_words, lists, is_weighted, of_words, earlier)
        if (id_type := id_type_of(segments)) is not None:
            vocabulary = replace(vocabulary, ids=ids_of(vocabulary.words, id_type))
        facts = {
            **counters,
            "first_bad_lines": shown(bad_lines),
            "distinct_words": vocabulary.distinct_words,
            "vocabulary": len(vocabulary),
            "kept_words": int(vocabulary.counts.sum()),
            "vocabulary_digest": _digest(vocabulary),
        }
        if joined is not None:
            facts |= {"phrases": joined.facts, "joined_words": vocabulary.total_words}
        if lists.given is not None:
            absent = lists.given.filter(pc.invert(pc.is_in(lists.given.cast(vocabulary.words.type), vocabulary.words)))
            facts |= {"absent_words": len(absent), "first_absent_words": absent[:MOST_SHOWN].to_pylist()}
        if is_weighted:
            facts["weighted_words"] = vocabulary.total_words
        context, fewer = segments.sparkSession.sparkContext, "raise vocabulary.min_count, or take fewer tasks at a time"
        need = vocabularies.encoding_bytes(len(vocabulary), vocabulary.words.nbytes)
        memory.check_task(need, memory.given_by(context), fewer)
        words = send(context, vocabulary.words)
        held.callback(words.destroy)
        encoded, added, still_rare = vocabularies.encode(segments, words), np.zeros(len(vocabulary), np.int64), None
        if windows is not None:
            encoded, added, still_rare, about = rare_windows.with_windows(
                encoded, windows, vocabulary, lists.stop, is_weighted
            )
            facts |= about
            facts["kept_words"] -= about["trained_occurrences"]  # which are not of the text
        encoded = encoded.persist(ENCODED_LEVEL)
        held.callback(encoded.unpersist)
        describe("vocabulary: turning words into ids")
        on_phase("turning words into ids")
        encoded.count()
        kept = None
        if v.rare_windows:
            describe("vocabulary: finding the windows of rare words")
            on_phase("finding rare words")
            kept, about = rare_windows.collect_windows(
                segments, encoded, vocabulary, lists.stop, settings.training.window, v.rare_windows, still_rare
            )
            facts |= about
        phrases = None if joined is None else joined.phrases
        return EncodedCorpus(vocabulary, encoded, facts, held.pop_all(), added, phrases, kept)


def check_text(
    segments: "DataFrame", settings: "Config", files: inputs.Inputs | None
) -> tuple[dict[str, int], dict[str, list[BadLine]], int]:
    """Return the counters of SEGMENTS, which are persisted, the first bad lines, and the size for count_words.

    Raises:
        UserError: too much could not be read, or files have changed since they were listed.
    """
    counters, size = vocabularies.read_totals(segments)
    corpus.check_unchanged(segments.sparkSession, files, settings.corpus.format)
    bad_lines = corpus.bad_lines(segments, counters, files, settings.corpus)
    check_counters(counters, settings.corpus, bad_lines)
    return counters, bad_lines, size


def _digest(vocabulary: Vocabulary) -> str:
    """Return a digest that changes when a word or a count does."""
    digest = hashlib.sha256(np.ascontiguousarray(vocabulary.counts).tobytes())
    for buffer in vocabulary.words.buffers():
        if buffer is not None:
            digest.update(buffer)
    return digest.hexdigest()[:16]


def build_training(
    text: EncodedCorpus, resolved: ResolvedConfig, folder: Path, averages: bool, in_memory: bool,
    on_checked: Callable[[], object] = lambda: None,
) -> Training:  # fmt: skip
    """Return the training of a text, ready to run.

    Args:
        folder: of the training's parameters; the caller removes what is left in it.
        averages, in_memory, on_checked: see `train`.

    Raises:
        NotEnoughMemoryError: it cannot fit what Spark and the machine give.
        StorageError: its parameters do not fit on the disk of the folder.
    """
    settings, scheme, partitions = resolved.settings, resolved.scheme, resolved.partitions
    encoded, vocabulary, t = text.encoded, text.vocabulary, settings.training
    loads = kept_words(text.counts, settings.vocabulary.subsample)
    load = float(loads.sum())
    if t.window == "sentence":
        window, most_contexts, contexts = 0, t.max_contexts, float(t.max_contexts)
    else:
        window, most_contexts, contexts = t.window, 0, window_contexts(t.window, t.shrink_window)
    # What is left of sentences is shorter than the window, or may be: sentences are not counted by their weights.
    if not window or "weighted_words" in text.facts or contexts * text.facts["sentences"] > load:
        contexts = vocabularies.contexts_of_sentences(encoded, load / max(int(text.counts.sum()), 1), contexts)
    present = int(np.count_nonzero(text.counts))
    if (most := most_partitions(scheme, present, load, contexts)) < partitions:
        why = why_no_more(scheme, present, load, contexts)
        used = f"{counted(most, scheme.removesuffix('s'))} {'is' if most == 1 else 'are'} used"
        log.warning("%s instead of %d: %s", used, partitions, why)
        partitions = most
    pairs = expected_pairs(load, contexts)
    session, exchange = encoded.sparkSession.sparkContext, exchange_of(settings)
    tasks = planned_tasks(session, exchange, partitions) if scheme == "blocks" else partitions
    snapshots = settings.output.checkpoint == "sweep"
    sweeps, largest = t.sweeps_per_epoch or auto_sweeps(partitions, pairs), largest_bucket(pairs, partitions, loads)
    if scheme == "blocks":
        check_buckets(partitions, sweeps, pairs, largest, len(vocabulary))
    need = memory.needed(
        len(vocabulary), t.dimensions, partitions, scheme, pairs, tasks, snapshots, largest, in_memory,
        most_sweeps(partitions, sweeps, pairs, largest),
    )  # fmt: skip
    kept = (settings.output.checkpoint != "none") + averages
    files = memory.files_in_memory(session, folder, need.model, kept, pairs if scheme == "blocks" else 0)
    memory.check(replace(need, files=files), memory.given_by(session))
    memory.check_disk(need.model, kept, folder)
    on_checked()
    sentence = "memory: %s of Python on the driver, %s of its JVM, %s a task; %s of files of parameters at most"
    sizes = need.driver, need.heap, need.task, memory.disk_bytes(need.model, kept)
    log.info(sentence, *map(memory.format_bytes, sizes))
    return Training(
        encoded,
        text.counts,
        Settings(
            scheme=scheme,
            partitions=partitions,
            dimensions=t.dimensions,
            window=window,
            max_contexts=most_contexts,
            contexts=contexts,
            negatives=t.negatives,
            epochs=t.epochs,
            learning_rate=t.learning_rate,
            slices=sweeps if scheme == "blocks" else t.syncs_per_epoch,
            subsample=settings.vocabulary.subsample,
            noise_exponent=t.noise_exponent,
            damping=t.damping,
            seed=t.seed,
            held_out_words=t.held_out_words,
            shrinks=t.shrink_window,
            last_learning_rate=t.last_learning_rate,
        ),
        folder,
        snapshots,
        exchange,
        averages,
    )
