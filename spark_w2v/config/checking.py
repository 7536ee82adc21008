"""Checks of the values that a user gave; each refusal is one sentence."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec
from rapidfuzz import fuzz, process

from spark_w2v.config.keys import KEYS, SECTIONS, Key
from spark_w2v.config.paths import KEYS_OF_PATHS, with_home
from spark_w2v.config.sections import Config, Training
from spark_w2v.config.text_sections import Corpus, Phrases
from spark_w2v.config.wording import as_toml, is_kind, kind_of, kind_required, limit_of
from spark_w2v.errors import UserError, cut

# Values that earlier versions had, and what to write now.
REPLACED = {("output.checkpoint", "round"): '"sweep" replaces "round"'}
OF_FINDING = ("score", "threshold", "min_count", "delimiter", "max_phrases")  # keys of [phrases]


class Given(NamedTuple):
    """A value that somebody wrote, and where."""

    value: Any
    place: str
    is_override: bool  # the place then says key and value already


def check(given: Mapping[str, Given], uses: Collection[str] = ()) -> Config:
    """Return the configuration of these values, by path; what is not given keeps its default.

    Args:
        uses: paths of keys that are not refused where other keys take their effect away.

    Raises:
        UserError: one sentence on the first mistake found.
    """
    tables: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, one in given.items():
        key = KEYS[path]
        # What Python makes of arguments that are not UTF-8, and JSON of half an escape: no file could hold it.
        if isinstance(one.value, str) and any("\ud800" <= c <= "\udfff" for c in one.value):
            raise UserError(f"{one.place}: {path} is not UTF-8; it must be text in UTF-8.")
        value = with_home(one.value) if path in KEYS_OF_PATHS and isinstance(one.value, str) else one.value
        try:
            tables[key.section][key.name] = msgspec.convert(value, key.hint)
        except msgspec.ValidationError:
            _refuse_value(key, one)
    config = msgspec.convert(tables, Config)
    for path, sentence in _contradictions(config):
        raise UserError(f"{given[path].place}: {sentence}")
    for path, sentence in _without_effect(config):
        if path not in uses:
            raise UserError(f"{given[path].place}: {sentence}")
    return config


def _contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """Keys that are sound alone but not together; the one to blame is never one that kept its default."""
    corpus = config.corpus
    if corpus.tokenizer == "regex" and not corpus.pattern:
        yield (
            "corpus.tokenizer",
            'corpus.tokenizer = "regex" needs corpus.pattern, the regular expression of one word, such as "[a-z]+".',
        )
    if corpus.tokenizer != "regex" and corpus.pattern:
        yield (
            "corpus.pattern",
            f"corpus.pattern = {as_toml(corpus.pattern)} is not used by corpus.tokenizer = "
            f'{as_toml(corpus.tokenizer)}; it needs corpus.tokenizer = "regex".',
        )
    if corpus.tokenizer != "words" and corpus.unspaced != "whole":
        yield (
            "corpus.unspaced",
            f"corpus.unspaced = {as_toml(corpus.unspaced)} is not used by corpus.tokenizer = "
            f'{as_toml(corpus.tokenizer)}; it needs corpus.tokenizer = "words".',
        )
    if corpus.tokenizer == "none" and corpus.format == "text":
        yield (
            "corpus.tokenizer",
            'corpus.tokenizer = "none" is for ready-made words, which corpus.format = "text" cannot hold; '
            'use "whitespace", or corpus.format = "jsonl" or "parquet".',
        )
    yield from _contradictions_of_rows(corpus)
    if config.vocabulary.max_words == 1:
        yield (
            "vocabulary.max_words",
            "vocabulary.max_words = 1 leaves one word, which cannot be trained, as it has no other word near it; it "
            "must be at least 2, or 0 for all words.",
        )
    yield from _contradictions_of_words(config)
    exchange = config.exchange
    if not exchange.first_port <= exchange.last_port or (exchange.last_port and not exchange.first_port):
        yield (
            "exchange.last_port" if exchange.last_port else "exchange.first_port",
            f"exchange.first_port = {exchange.first_port} and exchange.last_port = {exchange.last_port} are not a "
            "range of ports; give both, the first not above the last, or neither.",
        )


def _contradictions_of_words(config: Config) -> Iterator[tuple[str, str]]:
    """Keys on phrases, words and rates that do not go together."""
    phrases, training = config.phrases, config.training
    if phrases.list and phrases.passes:
        yield (
            "phrases.passes",
            f"phrases.passes = {phrases.passes} searches for phrases, and phrases.list names those of an earlier run; "
            "give one of them.",
        )
    for name in OF_FINDING:
        if phrases.list and (value := getattr(phrases, name)) != getattr(Phrases(), name):
            yield (
                f"phrases.{name}",
                f"phrases.{name} = {as_toml(value)} is for finding phrases, and phrases.list names those of an earlier "
                "run; leave one of them out.",
            )
    if phrases.score == "default" and phrases.threshold < 0:
        yield (
            "phrases.threshold",
            f"phrases.threshold = {phrases.threshold:g} is below all scores of phrases.score = "
            '"default"; give at least 0.',
        )
    if phrases.score == "npmi" and phrases.threshold >= 1:
        yield (
            "phrases.score",
            f'phrases.score = "npmi" is at most 1, so no pair is above phrases.threshold = {phrases.threshold:g}; '
            "give a threshold below 1, such as 0.5.",
        )
    if re.search(r"\s", phrases.delimiter):
        yield (
            "phrases.delimiter",
            f"phrases.delimiter = {as_toml(phrases.delimiter)} has white space, which stands between words; give "
            'another one, such as "_".',
        )
    if config.vocabulary.words and config.vocabulary.keep_missing:
        yield (
            "vocabulary.words",
            f"vocabulary.words = {as_toml(config.vocabulary.words)} gives no other word a vector, and "
            "vocabulary.keep_missing keeps those of an earlier run; leave one of them out.",
        )
    for name in ("words", "max_words"):
        if config.vocabulary.rare_windows and (value := getattr(config.vocabulary, name)):
            yield (
                "vocabulary.rare_windows",
                f"vocabulary.rare_windows = {config.vocabulary.rare_windows} keeps words until they occur "
                f"vocabulary.min_count times, and vocabulary.{name} = {as_toml(value)} leaves out such words, too; "
                "leave one of them out.",
            )
    if training.last_learning_rate > training.learning_rate:
        yield (
            "training.last_learning_rate",
            f"training.last_learning_rate = {training.last_learning_rate:g} is above training.learning_rate = "
            f"{training.learning_rate:g}, and the rate falls; give at most that.",
        )


def _contradictions_of_rows(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Keys on columns that the format of the input does not have, or that lack another key."""
    for name in ("where", "group_by", "weight"):
        if getattr(corpus, name) and corpus.format == "text":
            yield (
                f"corpus.{name}",
                f'corpus.{name} = {as_toml(getattr(corpus, name))} needs columns, which corpus.format = "text" does '
                "not have; set corpus.format to what the input is.",
            )
    if corpus.where and corpus.format == "jsonl" and not corpus.group_by:
        yield (
            "corpus.where",
            f'corpus.where = {as_toml(corpus.where)} needs columns, which corpus.format = "jsonl" has with '
            "corpus.group_by alone; give that, or convert the input to Parquet.",
        )
    if corpus.order_by and not corpus.group_by:
        yield (
            "corpus.order_by",
            f"corpus.order_by = {as_toml(corpus.order_by)} orders the rows of a group; it needs corpus.group_by.",
        )
    if corpus.group_by and corpus.tokenizer != "none":
        yield (
            "corpus.group_by",
            f"corpus.group_by = {as_toml(corpus.group_by)} makes sentences of rows that hold one word each; it needs "
            'corpus.tokenizer = "none".',
        )


def _without_effect(config: Config) -> Iterator[tuple[str, str]]:
    """Keys that change nothing as other keys are; of those that kept their default there is none."""
    corpus, phrases, vocabulary, training = config.corpus, config.phrases, config.vocabulary, config.training
    if corpus.format == "text" and corpus.column != Corpus().column:
        yield (
            "corpus.column",
            f'corpus.column = {as_toml(corpus.column)} needs columns, which corpus.format = "text" does not have; set '
            "corpus.format to what the input is.",
        )
    for name in OF_FINDING:
        if not phrases.passes and not phrases.list and (value := getattr(phrases, name)) != getattr(Phrases(), name):
            yield (
                f"phrases.{name}",
                f"phrases.{name} = {as_toml(value)} is for finding phrases, which phrases.passes = 0 does not; set "
                f"phrases.passes to 1 or more, or leave phrases.{name} out.",
            )
    # With weights a word may count less than once.
    if vocabulary.rare_windows and vocabulary.min_count == 1 and not corpus.weight:
        yield (
            "vocabulary.rare_windows",
            f"vocabulary.rare_windows = {vocabulary.rare_windows} keeps words below vocabulary.min_count, and with "
            "vocabulary.min_count = 1 there are none; raise that, or leave vocabulary.rare_windows out.",
        )
    if training.window != "sentence" and training.max_contexts != Training().max_contexts:
        yield (
            "training.max_contexts",
            f"training.max_contexts = {training.max_contexts} is not used by training.window = {training.window}; it "
            'needs training.window = "sentence".',
        )
    if training.patience and not training.held_out_words:
        yield (
            "training.patience",
            f"training.patience = {training.patience} goes by the held-out loss, which training.held_out_words = 0 "
            "does not measure; raise that, or leave training.patience out.",
        )
    if training.min_improvement and not training.patience:
        yield (
            "training.min_improvement",
            f"training.min_improvement = {training.min_improvement:g} is for training.patience, which is 0; set "
            "training.patience to 1 or more, or leave training.min_improvement out.",
        )


# Names of gensim, of MLlib and of word2vec.c.
OF_OTHERS = {
    "alpha": "training.learning_rate", "starting_alpha": "training.learning_rate", "stepSize": "training.learning_rate",
    "min_alpha": "training.last_learning_rate",
    "size": "training.dimensions", "vector_size": "training.dimensions", "vectorSize": "training.dimensions",
    "windowSize": "training.window", "negative": "training.negatives", "ns_exponent": "training.noise_exponent",
    "iter": "training.epochs", "maxIter": "training.epochs",
    "workers": "training.partitions", "numPartitions": "training.partitions",
    "sample": "vocabulary.subsample", "minCount": "vocabulary.min_count", "max_final_vocab": "vocabulary.max_words",
    "maxSentenceLength": "corpus.max_sentence_words",
}  # fmt: skip


def nearest(name: str, names: Iterable[str], least: float = 60) -> str | None:
    """Return the name that is most like another one; None where none is alike to `least` of 100."""
    found = process.extractOne(name, list(names), scorer=fuzz.ratio, score_cutoff=least)
    return None if found is None else found[0]


def keys_named(name: str) -> str | None:
    """Return the keys of this name, of any section, as a sentence says them; None where there is none.

    That of another program is the name of the key that means the same.
    """
    return " or ".join(key.path for key in KEYS.values() if key.name == name) or OF_OTHERS.get(name)


def refuse_section(section: str, table: Any, place: str) -> NoReturn:
    owner = keys_named(section)
    if owner and not isinstance(table, Mapping):
        raise UserError(
            f"{place}: {section} = {as_toml(table)} is outside of every section; did you mean {owner}?",
        )
    known = ", ".join(f"[{name}]" for name in SECTIONS)
    near = nearest(section, SECTIONS)
    hint = f"did you mean [{near}]?" if near else f"the sections are {known}."
    raise UserError(f"{place}: unknown section [{cut(section)}]; {hint}")


def refuse_key(path: str, place: str) -> NoReturn:
    section, _, name = path.partition(".")
    near = keys_named(name)  # the right key, in another section
    if near is None and (match := nearest(name, SECTIONS[section])) is not None:
        near = f"{section}.{match}"
    near = near or nearest(path, KEYS, least=75)
    hint = f"did you mean {near}?" if near else f"the keys of [{section}] are {', '.join(SECTIONS[section])}."
    raise UserError(f"{place}: unknown key {cut(path)}; {hint}")


def _refuse_value(key: Key, given: Given) -> NoReturn:
    """Refuse a value that msgspec refused, with what it is and what it must be."""
    value = given.value
    subject = as_toml(value) if given.is_override else f"{key.path} = {as_toml(value)}"
    fitting = [t for t in key.types if is_kind(value, t)]
    if isinstance(value, float) and not math.isfinite(value):
        found, required = "is not a finite number", key.values()
    elif not fitting:
        found, required = f"is {kind_of(value)}", ", or ".join(map(kind_required, key.types))
    elif isinstance(value, str):
        found = "is empty" if not value else "is not one of its values"
        required = ", or ".join(map(kind_required, key.types))
    else:
        others = [kind_required(t) for t in key.types if t not in fitting]
        side, limit = limit_of(value, fitting[0])
        found, required = "is out of range", ", or ".join([limit, *others])
        required += f": {key.reasons[side]}" if side in key.reasons else ""
    required += f"; {REPLACED[key.path, value]}" if isinstance(value, str) and (key.path, value) in REPLACED else ""
    raise UserError(f"{given.place}: {subject} {found}; it must be {required}.")
