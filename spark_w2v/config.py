"""What a run may be asked to do: every key, its range and its reason.

Configuration stays on the driver. Steps on Spark put plain numbers and strings in their closures, so executors need
neither this module nor msgspec. A file is TOML and nothing in it is executed; every mistake in it is one sentence
(`ConfigError`) that names the place and the key.

`python -m spark_w2v.config` prints the reference of every key, which is stored as docs/configuration.md.
"""

import datetime
import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, get_type_hints

import msgspec
from msgspec import Meta

from spark_w2v.errors import ConfigError

# A configuration has some 2 kB. A corpus given in its place, or /dev/zero, is refused before it fills the memory.
LARGEST_FILE = 1 << 20  # bytes
LARGEST_INT = 2**31 - 1  # word ids and positions are int32


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is read, and what a word is."""

    format: Annotated[
        Literal["text", "jsonl", "parquet"],
        Meta(
            description=(
                "Kind of the input files: one sentence or document a line, one JSON object a line, or Parquet."
            ),
        ),
    ] = "text"
    column: Annotated[
        str,
        Meta(
            min_length=1,
            description=(
                "Column (Parquet) or field (JSON lines) that holds the text, or an array of ready-made words. Not used"
                " by text."
            ),
        ),
    ] = "text"
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
    lower_case: Annotated[bool, Meta(description="Lower-case the text before it is cut in words.")] = True
    max_sentence_words: Annotated[
        int,
        Meta(
            ge=2,
            le=LARGEST_INT,
            description="Words of the longest sentence; a longer line is cut in pieces, not dropped.",
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
                "min_count or not at all, beside the max_words of the text. Not used without --init."
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
        int,
        Meta(
            ge=1,
            le=10_000,
            description=(
                "Words to each side of the center that it may reach; each time from 1 to this many, at random."
            ),
        ),
    ] = 5
    negatives: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Noise words a pair.",
            extra={"too_small": "without noise words all vectors would grow alike"},
        ),
    ] = 5
    epochs: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Passes over the corpus; occurrences, reaches and noise words are drawn anew in each.",
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
        int, Meta(ge=1, le=100_000, description="Averages of the replicas an epoch. Not used by blocks.")
    ] = 1
    sweeps_per_epoch: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description=(
                "Slices that each bucket of pairs is cut in, so that an epoch visits all buckets as many times; 0 "
                "takes 2 with up to 4 blocks, 4 with up to 63 and 2 with more, and fewer where buckets would have too "
                "few pairs. Not used by replicas."
            ),
        ),
    ] = 0
    noise_exponent: Annotated[
        float,
        Meta(
            ge=-5.0,
            le=5.0,
            description=(
                "Noise words are drawn by count to this power: 1 as often as they occur, 0 all alike, below 0 rare "
                "ones first."
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
                "Words, in whole sentences, kept out of training to measure the held-out loss; 0 measures none."
            ),
        ),
    ] = 20_000


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written beside the embeddings."""

    checkpoint: Annotated[
        Literal["sweep", "epoch", "none"],
        Meta(
            description=(
                "How often the state is saved, so how much work a killed run loses; with replicas a sweep is a sync. A "
                "run without checkpoints starts again."
            ),
        ),
    ] = "epoch"
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
                "Seconds without a word after which a process counts as lost; the epoch is then repeated from the last "
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
    """All that a run may be asked to do. `load` and `from_dict` check it; the class called by hand does not."""

    corpus: Corpus = msgspec.field(default_factory=Corpus)
    vocabulary: Vocabulary = msgspec.field(default_factory=Vocabulary)
    training: Training = msgspec.field(default_factory=Training)
    output: Output = msgspec.field(default_factory=Output)
    exchange: Exchange = msgspec.field(default_factory=Exchange)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration; what is not given keeps its default.

    Args:
        path: a TOML file.
        overrides: `section.key=value`; each wins over the file, and the last one over those before it. A value is
            written as in TOML, but a string needs no quotes; white space around it is dropped.

    Raises:
        ConfigError: one sentence on the first mistake found.
    """
    given = _given_in_tables(_read_toml(path), str(path))
    for override in overrides:
        given |= _given_in_override(override)
    return _checked(given)


def from_dict(tables: Any, place: str = "configuration") -> Config:
    """The configuration that `as_dict` wrote, checked like a file; `place` is what an error calls it."""
    return _checked(_given_in_tables(tables, place))


def as_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Every key by section, defaults included, in types that JSON has."""
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(config)
    return tables


def reference() -> str:
    """Every key as Markdown: the text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `python -m spark_w2v.config` from spark_w2v/config.py; a test keeps it so. -->",
        "",
        "A run is configured by one TOML file; `conf/local.toml` and `conf/cluster.toml` are examples.",
        "`--set section.key=value`, any number of times, wins over the file; strings need no quotes there.",
        "What neither gives keeps its default. Spark's own settings (memory, cores, master) are not here:",
        "they stay in `conf/spark-defaults.conf` and on the command line of `spark-submit`.",
    ]
    for section, keys in SECTIONS.items():
        lines += [
            "",
            f"## [{section}]",
            "",
            str(get_type_hints(Config)[section].__doc__),
            "",
            "| key | value | default | meaning |",
            "|---|---|---|---|",
        ]
        for key in keys.values():
            cells = [f"`{key.name}`", key.values(), f"`{_shown(key.default)}`", key.description]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


class Key(NamedTuple):
    """One key of one section, as its class declares it."""

    section: str
    name: str
    hint: Any
    types: tuple[msgspec.inspect.Type, ...]
    default: Any
    description: str
    reasons: Mapping[str, str]  # why not too_small, why not too_large

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether any text will do, so that an override's `7` is the string "7"."""
        return isinstance(self.types[0], msgspec.inspect.StrType)

    def values(self) -> str:
        return ", or ".join(", ".join(filter(None, [_kind_required(t), _range(t)])) for t in self.types)


class Given(NamedTuple):
    """A value that somebody wrote, and where."""

    value: Any
    place: str
    is_override: bool  # the place then says key and value already


def _declared_keys() -> dict[str, dict[str, Key]]:
    sections: dict[str, dict[str, Key]] = {}
    for section, section_class in get_type_hints(Config).items():
        hints = get_type_hints(section_class, include_extras=True)
        info = msgspec.inspect.type_info(section_class)
        assert isinstance(info, msgspec.inspect.StructType)
        sections[section] = {}
        for field in info.fields:
            meta = field.type
            assert isinstance(meta, msgspec.inspect.Metadata), f"{section}.{field.name} has no description"
            types = meta.type.types if isinstance(meta.type, msgspec.inspect.UnionType) else (meta.type,)
            description = (meta.extra_json_schema or {})["description"]
            reasons = meta.extra or {}
            sections[section][field.name] = Key(
                section, field.name, hints[field.name], types, field.default, description, reasons
            )
    return sections


SECTIONS = _declared_keys()
KEYS = {key.path: key for keys in SECTIONS.values() for key in keys.values()}


# Reading


def _read_toml(path: str | Path) -> dict[str, Any]:
    place = str(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{place}: no such file; give a TOML file, such as conf/local.toml.") from None
    except IsADirectoryError:
        raise ConfigError(f"{place}: is a directory; give a TOML file, such as conf/local.toml.") from None
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read ({error.strerror}); give a readable TOML file.") from None
    except ValueError as error:  # a path with a NUL or a lone surrogate in it
        raise ConfigError(f"{place}: is not a path ({error}); give a TOML file, such as conf/local.toml.") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(
            f"{place}: is larger than 1 MiB, so no configuration; give a TOML file, such as conf/local.toml.",
        )
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a byte-order mark first
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{place}: line {line} is not UTF-8; save the file as UTF-8 text.") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{place}: is nested too deep; a configuration has sections and keys, no more.") from None
    except ValueError as error:  # TOMLDecodeError, or Python's on a number of more than 4,300 digits
        _refuse_toml(place, text, str(error))


def _refuse_toml(place: str, text: str, message: str) -> NoReturn:
    lines = text.split("\n")
    problem, at, position = message.partition(" (at ")
    match = re.match(r"line (\d+),", position)
    if match:
        number = int(match[1])
    elif at:  # "at end of document": the last line with something on it
        number = max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
    else:
        raise ConfigError(f"{place}: is not TOML: {message}.")
    problem = problem[:1].lower() + problem[1:]
    hint = {
        "invalid value": '; strings need quotes, as in scheme = "auto"',
        "cannot overwrite a value": "; a key may be given once",
    }.get(problem, "; a section may be given once" if problem.endswith("twice") else "")
    line = lines[number - 1].strip() if number <= len(lines) else ""
    raise ConfigError(f"{place}: line {number}, {_shown(line)}, is not TOML: {problem}{hint}.")


def _given_in_tables(tables: Any, place: str) -> dict[str, Given]:
    if not isinstance(tables, Mapping):  # JSON that something else wrote
        raise ConfigError(f"{place}: is {_kind(tables)}; it must be a table of sections.")
    given: dict[str, Given] = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            _refuse_section(section, table, place)
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"{place}: {section} = {_shown(table)} is {_kind(table)}; it must be a section, [{section}].",
            )
        for name, value in table.items():
            path = f"{section}.{name}"
            if path not in KEYS:
                _refuse_key(path, place)
            given[path] = Given(value, place, is_override=False)
    return given


def _given_in_override(override: str) -> dict[str, Given]:
    place = f"--set {override[:100]}"
    path, equals, text = override.partition("=")
    path, text = path.strip(), text.strip()
    if not equals:
        example = f"{path}={_shown(KEYS[path].default)}" if path in KEYS else "training.epochs=3"
        raise ConfigError(f"{place}: has no value; it must be section.key=value, as in {example}.")
    if "." not in path:
        owner = next((key.path for key in KEYS.values() if key.name == path), None)
        hint = f"did you mean {owner}?" if owner else "it must be section.key=value, as in training.epochs=3."
        raise ConfigError(f"{place}: has no section; {hint}")
    if path not in KEYS:
        section, _, name = path.partition(".")
        if section in SECTIONS:
            _refuse_key(path, place)
        _refuse_section(section, {name: text}, place)
    return {path: Given(_override_value(text, KEYS[path]), place, is_override=True)}


def _override_value(text: str, key: Key) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if list(tables) != ["value"]:  # a line end in the text, and a second key after it
        return text
    value = tables["value"]
    return text if key.is_text and not isinstance(value, str) else value


# Checking

# Values that earlier versions had, and what to write now.
REPLACED = {("output.checkpoint", "round"): '"sweep" replaces "round"'}


def _checked(given: Mapping[str, Given]) -> Config:
    tables: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, one in given.items():
        key = KEYS[path]
        # What Python makes of arguments that are not UTF-8, and JSON of half an escape: no file could hold it.
        if isinstance(one.value, str) and any("\ud800" <= c <= "\udfff" for c in one.value):
            raise ConfigError(f"{one.place}: {path} is not UTF-8; it must be text in UTF-8.")
        try:
            tables[key.section][key.name] = msgspec.convert(one.value, key.hint)
        except msgspec.ValidationError:
            _refuse_value(key, one)
    config = msgspec.convert(tables, Config)
    for path, sentence in _contradictions(config):
        raise ConfigError(f"{given[path].place}: {sentence}")
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
            f"corpus.pattern = {_shown(corpus.pattern)} is not used by corpus.tokenizer = {_shown(corpus.tokenizer)}; "
            'it needs corpus.tokenizer = "regex".',
        )
    if corpus.tokenizer != "words" and corpus.unspaced != "whole":
        yield (
            "corpus.unspaced",
            f"corpus.unspaced = {_shown(corpus.unspaced)} is not used by corpus.tokenizer = "
            f'{_shown(corpus.tokenizer)}; it needs corpus.tokenizer = "words".',
        )
    if corpus.tokenizer == "none" and corpus.format == "text":
        yield (
            "corpus.tokenizer",
            'corpus.tokenizer = "none" is for ready-made words, which corpus.format = "text" cannot hold; '
            'use "whitespace", or corpus.format = "jsonl" or "parquet".',
        )
    if config.vocabulary.max_words == 1:
        yield (
            "vocabulary.max_words",
            "vocabulary.max_words = 1 leaves one word, which cannot be trained, as it has no other word near it; it "
            "must be at least 2, or 0 for all words.",
        )
    exchange = config.exchange
    if not exchange.first_port <= exchange.last_port or (exchange.last_port and not exchange.first_port):
        yield (
            "exchange.last_port" if exchange.last_port else "exchange.first_port",
            f"exchange.first_port = {exchange.first_port} and exchange.last_port = {exchange.last_port} are not a "
            "range of ports; give both, the first not above the last, or neither.",
        )


def _refuse_section(section: str, table: Any, place: str) -> NoReturn:
    owner = next((key.path for key in KEYS.values() if key.name == section), None)
    if owner and not isinstance(table, Mapping):
        raise ConfigError(
            f"{place}: {section} = {_shown(table)} is outside of every section; did you mean {owner}?",
        )
    known = ", ".join(f"[{name}]" for name in SECTIONS)
    near = difflib.get_close_matches(section, SECTIONS, n=1)
    hint = f"did you mean [{near[0]}]?" if near else f"the sections are {known}."
    raise ConfigError(f"{place}: unknown section [{_cut(section)}]; {hint}")


def _refuse_key(path: str, place: str) -> NoReturn:
    section, _, name = path.partition(".")
    near = [key.path for key in KEYS.values() if key.name == name]  # the right key, in another section
    near = near or [f"{section}.{match}" for match in difflib.get_close_matches(name, SECTIONS[section], n=1)]
    near = near or difflib.get_close_matches(path, KEYS, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else f"the keys of [{section}] are {', '.join(SECTIONS[section])}."
    raise ConfigError(f"{place}: unknown key {_cut(path)}; {hint}")


def _refuse_value(key: Key, given: Given) -> NoReturn:
    """Say of a value that msgspec refused what it is, and what it must be."""
    value = given.value
    subject = _shown(value) if given.is_override else f"{key.path} = {_shown(value)}"
    fitting = [t for t in key.types if _is_kind(value, t)]
    if isinstance(value, float) and not math.isfinite(value):
        found, required = "is not a finite number", key.values()
    elif not fitting:
        found, required = f"is {_kind(value)}", ", or ".join(map(_kind_required, key.types))
    elif isinstance(value, str):
        found = "is empty" if not value else "is not one of its values"
        required = ", or ".join(map(_kind_required, key.types))
    else:
        others = [_kind_required(t) for t in key.types if t not in fitting]
        side, limit = _limit(value, fitting[0])
        found, required = "is out of range", ", or ".join([limit, *others])
        required += f": {key.reasons[side]}" if side in key.reasons else ""
    required += f"; {REPLACED[key.path, value]}" if isinstance(value, str) and (key.path, value) in REPLACED else ""
    raise ConfigError(f"{given.place}: {subject} {found}; it must be {required}.")


# Words for values and types


def _is_kind(value: Any, kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case msgspec.inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case msgspec.inspect.BoolType():
            return isinstance(value, bool)
        case _:
            return isinstance(value, str)


def _kind_required(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.IntType():
            return "a whole number"
        case msgspec.inspect.FloatType():
            return "a number"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType(values=values):
            *first, last = [f'"{value}"' for value in values]
            return f"{', '.join(first)} or {last}" if first else last
        case msgspec.inspect.StrType(min_length=1):
            return "a string that is not empty"
        case _:
            return "a string"


def _bounds(kind: msgspec.inspect.Type) -> tuple[str, str]:
    """What is said of the lower and of the upper end of a range; nothing where there is no range."""
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return "", ""
    lower = f"at least {_number(kind.ge)}" if kind.ge is not None else f"greater than {_number(kind.gt)}"
    upper = f"at most {_number(kind.le)}" if kind.le is not None else f"less than {_number(kind.lt)}"
    return lower, upper


def _number(value: float | None) -> str:
    assert value is not None, "a number in the configuration has a range"
    return str(int(value)) if value == int(value) else str(value)


def _range(kind: msgspec.inspect.Type) -> str:
    lower, upper = _bounds(kind)
    # An upper end that only the machine's integers set is no news to a reader.
    endless = isinstance(kind, msgspec.inspect.IntType) and kind.le is not None and kind.le >= LARGEST_INT
    return " and ".join(filter(None, [lower, "" if endless else upper]))


def _limit(value: float, kind: msgspec.inspect.Type) -> tuple[str, str]:
    """Which end of the range a number is beyond, and that end in words."""
    assert isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    lower, upper = _bounds(kind)
    below = (kind.ge is not None and value < kind.ge) or (kind.gt is not None and value <= kind.gt)
    return ("too_small", lower) if below else ("too_large", upper)


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "a boolean"
        case int():
            return "a whole number"
        case float():
            return "a number with a decimal point"
        case str():
            return "a string"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case datetime.date() | datetime.time():
            return "a date or a time"
        case None:
            return "no value"
        case _:
            return f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    """A value as TOML writes it, on one line and cut to a readable length."""
    match value:
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 256:  # Python refuses to print integers of more than 4,300 digits
            return "a number of more than 77 digits"
        case int() | float() | datetime.date() | datetime.time():
            return str(value)
        case str():
            return f'"{_cut(value)}"'
        case Mapping():
            return "{...}" if value else "{}"
        case list() | tuple():
            return "[...]" if value else "[]"
        case None:
            return "null"
        case _:
            return _cut(repr(value))


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


if __name__ == "__main__":
    print(reference(), end="")
