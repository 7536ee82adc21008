"""The Params of the stages SkipGram and SkipGramModel, most of which are keys of the configuration.

A key's range, default and description are in the configuration; here it gets a name in Spark's spelling.
"""

import functools
import inspect
import json
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, get_type_hints

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasMaxIter, HasOutputCol, HasSeed, HasStepSize
from pyspark.sql import DataFrame

from spark_w2v.config import KEYS
from spark_w2v.config.checking import nearest
from spark_w2v.errors import UserError
from spark_w2v.spark.columns import FoundColumn, find_column, is_array_of_words, names_of
from spark_w2v.text.messages import name_hint

KEY_OF = {
    "vectorSize": "training.dimensions",
    "windowSize": "training.window",
    "shrinkWindow": "training.shrink_window",
    "maxContexts": "training.max_contexts",
    "minCount": "vocabulary.min_count",
    "maxIter": "training.epochs",
    "stepSize": "training.learning_rate",
    "lastStepSize": "training.last_learning_rate",
    "numPartitions": "training.partitions",
    "seed": "training.seed",
    "maxSentenceLength": "corpus.max_sentence_words",
    "maxWords": "vocabulary.max_words",
    "subsample": "vocabulary.subsample",
    "negatives": "training.negatives",
    "noiseExponent": "training.noise_exponent",
    "scheme": "training.scheme",
    "syncsPerEpoch": "training.syncs_per_epoch",
    "sweepsPerEpoch": "training.sweeps_per_epoch",
    "damping": "training.damping",
    "heldOutWords": "training.held_out_words",
    "patience": "training.patience",
    "minImprovement": "training.min_improvement",
    "exchangeFirstPort": "exchange.first_port",
    "exchangeLastPort": "exchange.last_port",
    "exchangeTimeout": "exchange.timeout",
    "exchangePlain": "exchange.plain",
}
UNKNOWN_WORDS = ("count", "skip")


class ModelOptions(TypedDict, total=False):
    """Options of SkipGramModel."""

    inputCol: str
    outputCol: str
    unknownWords: str


class Options(ModelOptions, total=False):
    """Options of SkipGram."""

    weightCol: str
    vectorSize: int
    windowSize: int | str
    shrinkWindow: bool
    maxContexts: int
    minCount: int
    maxIter: int
    stepSize: float
    lastStepSize: float
    numPartitions: int
    seed: int
    maxSentenceLength: int
    maxWords: int
    subsample: float
    negatives: int
    noiseExponent: float
    scheme: str
    syncsPerEpoch: int
    sweepsPerEpoch: int
    damping: float
    heldOutWords: int
    patience: int
    minImprovement: float
    exchangeFirstPort: int
    exchangeLastPort: int
    exchangeTimeout: float
    exchangePlain: bool


# numPartitions = 0: as many as Spark has slots.
DEFAULTS: dict[str, Any] = {name: KEYS[key].default for name, key in KEY_OF.items()} | {
    "numPartitions": 0,
    "unknownWords": "count",
}

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V", bool, int, float, str, object)
S = TypeVar("S", bound=Params)
CONVERTERS: dict[type, Callable[[Any], Any]] = {
    bool: TypeConverters.toBoolean,
    int: TypeConverters.toInt,
    float: TypeConverters.toFloat,
    str: TypeConverters.toString,
}
KINDS = {converter: kind for kind, converter in CONVERTERS.items()}


def number_or_text(value: Any) -> int | str:
    """Convert the value of a Param that is a whole number or a word."""
    return value if isinstance(value, str) else TypeConverters.toInt(value)


def _param(name: str, kind: type[V], description: str = "") -> "Param[V]":
    """Return the Param of a name, described as its key is unless told otherwise."""
    return Param(Params._dummy(), name, description or _description(name), CONVERTERS[kind])


def _description(name: str) -> str:
    """Return what the configuration says of the key of a Param, with Params in place of other keys."""
    text = KEYS[KEY_OF[name]].description
    for param, key in KEY_OF.items():
        if "_" in (bare := key.partition(".")[2]):  # and is no English word
            text = re.sub(rf"\b{bare}\b", param, text)
    return re.sub(r'\bwindow(?= words| = ")', "windowSize", text)


def named_as_params(sentence: str) -> str:
    """Return a sentence with the names of Params in place of the keys of a configuration."""
    for name, key in {**KEY_OF, "weightCol": "corpus.weight"}.items():
        sentence = sentence.replace(key, name)
    return sentence


def params_of_output(output: Path) -> dict[str, Any]:
    """Return the values of Params with which the run of an output was trained; none that its files do not tell."""
    try:
        configuration = json.loads((output / "run.json").read_text(encoding="utf-8"))["configuration"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found: dict[str, Any] = {}
    for name, key in KEY_OF.items():
        try:
            value: Any = functools.reduce(operator.getitem, key.split("."), configuration)
            if name == "numPartitions" and value == "auto":
                value = 0
            if name == "seed" and value >= 1 << 63:
                value -= 1 << 64  # of which it is the unsigned number
            getattr(SkipGramParams, name).typeConverter(value)
        except (KeyError, TypeError, ValueError):  # of another version
            continue
        found[name] = value
    return found


def _getter(param: "Param[V]") -> Callable[[Params], V]:
    """Return the method that gets a Param, with the name, the signature and the docstring of MLlib's own."""

    def get(self: Params) -> V:
        value: V = self.getOrDefault(param.name)
        return value

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    _describe(get, f"get{_capitalized(param)}", inspect.Signature([own], return_annotation=_kind(param)))
    get.__doc__ = f"Gets the value of {param.name} or its default value."
    return get


def setter(param: "Param[V]") -> Callable[[S, V], S]:
    """Return the method that sets a Param, with the name, the signature and the docstring of MLlib's own.

    The name, not the Param, is what is set: a stage has a copy of each Param of its class.
    """

    def set(self: S, value: V) -> S:
        return set_checked(self, {param.name: value})

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=_kind(param))
    _describe(set, f"set{_capitalized(param)}", inspect.Signature([own, given]))
    set.__doc__ = f"Sets the value of {param.name}."
    return set


def showing(options: type, defaults: Mapping[str, Any] = MappingProxyType({})) -> Callable[[F], F]:
    """Have help(), and completion in a notebook, list the options of a method that takes any of them by name.

    Args:
        options: ModelOptions or Options.
        defaults: None for an option that has none.
    """

    def shown(method: F) -> F:
        given = [*inspect.signature(method).parameters.values()][:-1]
        for name, kind in get_type_hints(options).items():
            default = defaults.get(name)
            given.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
        method.__signature__ = inspect.signature(method).replace(parameters=given)  # type: ignore[attr-defined]
        return method

    return shown


def set_checked(stage: S, given: dict[str, Any]) -> S:
    """Set Params, all of them or, where one is refused, none; None is the default again.

    Raises:
        UserError: the value of one is out of its range.
        TypeError: it is of another kind.
    """
    before = dict(stage._paramMap)
    try:
        stage._set(**given)
        for name in [name for name, value in given.items() if value is None]:
            stage.clear(stage.getParam(name))  # which can be saved and loaded, as None cannot
        if isinstance(stage, SkipGramParams):
            for name in given:
                stage.check_param(name)
    except Exception:
        stage._paramMap = before
        raise
    return stage


def _kind(param: "Param[Any]") -> type:
    """Return the type of a Param's values, as help() shows it."""
    return KINDS.get(param.typeConverter, object)


def _capitalized(param: "Param[Any]") -> str:
    return param.name[0].upper() + param.name[1:]


def _describe(method: Callable[..., Any], name: str, signature: inspect.Signature) -> None:
    method.__name__ = method.__qualname__ = name
    method.__signature__ = signature  # type: ignore[attr-defined]  # what help() shows


class SkipGramParams(HasInputCol, HasOutputCol, HasMaxIter, HasStepSize, HasSeed):
    """The Params of SkipGram and of SkipGramModel, which keeps those that it was fitted with."""

    vectorSize = _param("vectorSize", int)
    windowSize: "Param[Any]" = Param(Params._dummy(), "windowSize", _description("windowSize"), number_or_text)
    maxIter = _param("maxIter", int)
    stepSize = _param("stepSize", float)
    shrinkWindow = _param("shrinkWindow", bool)
    maxContexts = _param("maxContexts", int)
    minCount = _param("minCount", int, _description("minCount") + " 0 is the same as 1.")
    lastStepSize = _param("lastStepSize", float)
    numPartitions = _param(
        "numPartitions",
        int,
        "Blocks that the vocabulary is divided into, or replicas; it may be more than the cores. 0: as many as Spark "
        "has slots; with a number the result does not depend on them.",
    )
    maxSentenceLength = _param("maxSentenceLength", int, _description("maxSentenceLength").replace(" line ", " row "))
    maxWords = _param("maxWords", int)
    subsample = _param("subsample", float)
    negatives = _param("negatives", int)
    noiseExponent = _param("noiseExponent", float)
    scheme = _param("scheme", str)
    syncsPerEpoch = _param("syncsPerEpoch", int)
    sweepsPerEpoch = _param("sweepsPerEpoch", int)
    damping = _param("damping", float)
    heldOutWords = _param("heldOutWords", int)
    patience = _param("patience", int)
    minImprovement = _param("minImprovement", float)
    exchangeFirstPort = _param("exchangeFirstPort", int)
    exchangeLastPort = _param("exchangeLastPort", int)
    exchangeTimeout = _param("exchangeTimeout", float)
    exchangePlain = _param(
        "exchangePlain",
        bool,
        _description("exchangePlain")
        .replace("pairs and the rows of corpus.group_by lie", "pairs lie")
        .partition(" Of rep")[0],
    )
    unknownWords = _param(
        "unknownWords",
        str,
        "What transform does with words that have no vector. count: they count in the divisor of a document's mean, as "
        "in MLlib's Word2Vec, so they pull it to zero. skip: the mean is of the words that have a vector.",
    )

    getVectorSize = _getter(vectorSize)
    getWindowSize = _getter(windowSize)
    getShrinkWindow = _getter(shrinkWindow)
    getMaxContexts = _getter(maxContexts)
    getMinCount = _getter(minCount)
    getLastStepSize = _getter(lastStepSize)
    getNumPartitions = _getter(numPartitions)
    getMaxSentenceLength = _getter(maxSentenceLength)
    getMaxWords = _getter(maxWords)
    getSubsample = _getter(subsample)
    getNegatives = _getter(negatives)
    getNoiseExponent = _getter(noiseExponent)
    getScheme = _getter(scheme)
    getSyncsPerEpoch = _getter(syncsPerEpoch)
    getSweepsPerEpoch = _getter(sweepsPerEpoch)
    getDamping = _getter(damping)
    getHeldOutWords = _getter(heldOutWords)
    getPatience = _getter(patience)
    getMinImprovement = _getter(minImprovement)
    getExchangeFirstPort = _getter(exchangeFirstPort)
    getExchangeLastPort = _getter(exchangeLastPort)
    getExchangeTimeout = _getter(exchangeTimeout)
    getExchangePlain = _getter(exchangePlain)
    getUnknownWords = _getter(unknownWords)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(**DEFAULTS)

    def check_param(self, name: str) -> None:
        """Refuse a value of a Param that the stage cannot take; a model takes any of those of training.

        Raises:
            UserError: one sentence.
        """
        if name == "unknownWords" and self.getUnknownWords() not in UNKNOWN_WORDS:
            raise UserError(
                f'{self.uid}: unknownWords = "{self.getUnknownWords()}" is not one of its values; it must be "count" '
                'or "skip".'
            )

    def words_column(self, dataset: DataFrame) -> FoundColumn:
        """Return the input column, which may be a field; refuse a DataFrame without it, or with the output column.

        Raises:
            UserError: one sentence.
        """
        if not self.isDefined("inputCol") or self.getInputCol() is None:
            raise UserError(f"{self.uid}: has no inputCol; give the column of words, array<string>.")
        if self.getOutputCol() is None:
            raise UserError(f"{self.uid}: outputCol is None; give the column that transform adds.")
        schema, column, output = dataset.schema, self.getInputCol(), self.getOutputCol()
        found = find_column(schema, column)
        if found is None:
            hint = name_hint(column, names_of(schema))
            raise UserError(f'{self.uid}: the DataFrame has no column "{column}" (inputCol); {hint}')
        if not is_array_of_words(found.kind):
            raise UserError(
                f'{self.uid}: "{column}" (inputCol) is {found.kind.simpleString()}, words are array<string>, or an '
                "array of whole numbers; put a tokenizer before this stage, or give another column."
            )
        # A column with a name that Spark takes for the same would be replaced.
        is_exact = str(dataset.sparkSession.conf.get("spark.sql.caseSensitive")).strip().lower() == "true"
        for name in schema.names:
            if name == output or (not is_exact and name.lower() == output.lower()):
                raise UserError(f'{self.uid}: the DataFrame has a column "{name}" already; give another outputCol.')
        self.check_param("unknownWords")  # which a map of Params may give
        return found


def given_options(stage: Params, options: Any) -> dict[str, Any]:
    """Return the options that were given.

    Raises:
        TypeError: no such Param.
    """
    for name in options:
        if not stage.hasParam(name):
            close = nearest(name, [param.name for param in stage.params])
            hint = f"; did you mean {close}?" if close else "."
            raise TypeError(f"{type(stage).__name__} has no Param {name}{hint}")
    return dict(options)
