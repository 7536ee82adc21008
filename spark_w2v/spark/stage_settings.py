"""The Params of a stage that trains, as a configuration."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyspark.sql.types as T
from pyspark.ml.param.shared import HasWeightCol
from pyspark.sql import Column

from spark_w2v import config as configuration
from spark_w2v.config import KEYS, Config
from spark_w2v.errors import (
    DivergedError,
    NoPairsError,
    NoWordsError,
    SparkLostError,
    StorageError,
    UserError,
    is_passed_on,
)
from spark_w2v.spark import columns
from spark_w2v.spark.java_errors import WHERE_COMPUTED, lost_error, translate_error
from spark_w2v.spark.stage_params import KEY_OF, SkipGramParams, named_as_params, setter
from spark_w2v.text.weights import MOST_WEIGHT


class TrainingParams(SkipGramParams, HasWeightCol):
    """The Params of SkipGram, with what the configuration says of them."""

    setVectorSize = setter(SkipGramParams.vectorSize)
    setWindowSize = setter(SkipGramParams.windowSize)
    setShrinkWindow = setter(SkipGramParams.shrinkWindow)
    setMaxContexts = setter(SkipGramParams.maxContexts)
    setMinCount = setter(SkipGramParams.minCount)
    setMaxIter = setter(SkipGramParams.maxIter)
    setStepSize = setter(SkipGramParams.stepSize)
    setLastStepSize = setter(SkipGramParams.lastStepSize)
    setNumPartitions = setter(SkipGramParams.numPartitions)
    setSeed = setter(SkipGramParams.seed)
    setMaxSentenceLength = setter(SkipGramParams.maxSentenceLength)
    setMaxWords = setter(SkipGramParams.maxWords)
    setSubsample = setter(SkipGramParams.subsample)
    setNegatives = setter(SkipGramParams.negatives)
    setNoiseExponent = setter(SkipGramParams.noiseExponent)
    setScheme = setter(SkipGramParams.scheme)
    setSyncsPerEpoch = setter(SkipGramParams.syncsPerEpoch)
    setSweepsPerEpoch = setter(SkipGramParams.sweepsPerEpoch)
    setDamping = setter(SkipGramParams.damping)
    setHeldOutWords = setter(SkipGramParams.heldOutWords)
    setPatience = setter(SkipGramParams.patience)
    setMinImprovement = setter(SkipGramParams.minImprovement)
    setExchangeFirstPort = setter(SkipGramParams.exchangeFirstPort)
    setExchangeLastPort = setter(SkipGramParams.exchangeLastPort)
    setExchangeTimeout = setter(SkipGramParams.exchangeTimeout)
    setExchangePlain = setter(SkipGramParams.exchangePlain)
    setUnknownWords = setter(SkipGramParams.unknownWords)
    setWeightCol = setter(HasWeightCol.weightCol)
    setInputCol = setter(SkipGramParams.inputCol)
    setOutputCol = setter(SkipGramParams.outputCol)

    def weight_column(self, schema: T.StructType) -> Column | None:
        """Return the column of weights; None where all are 1.

        Raises:
            UserError: there is no such column, or it holds something else.
        """
        if not self.isDefined("weightCol") or not self.getWeightCol():
            return None
        with self.own_words():
            return columns.need_weight(schema, self.getWeightCol(), "the DataFrame has")

    def check_weights(self, counters: dict[str, int]) -> None:
        """Refuse rows of which more have a bad weight than a job may have bad lines by default.

        Raises:
            UserError: one sentence.
        """
        bad, rows = counters["bad_weight_lines"], counters["lines"]
        if bad > KEYS["corpus.max_bad_fraction"].default * rows:
            raise UserError(
                f'{self.uid}: {bad:,} of {rows:,} rows have a bad weight in "{self.getWeightCol()}" (weightCol), '
                f"{bad / rows:.1%}; a weight is a number from 0 to {MOST_WEIGHT:,}: give them one, or leave them out."
            )

    def settings(self) -> Config:
        """Return the configuration of a job that trains as this stage does.

        Raises:
            UserError: a Param is out of its range.
        """
        tables: dict[str, dict[str, Any]] = {
            # The words are ready-made; a null where a row has none is nothing that could be fixed here. Of weights, see
            # check_weights.
            "corpus": {"format": "parquet", "tokenizer": "none", "max_bad_fraction": 1.0},
            "output": {"checkpoint": "none", "report": False},
        }
        tables["corpus"] |= {"max_word_length": configuration.LARGEST_INT}
        if self.isDefined("weightCol") and self.getWeightCol() is not None:
            tables["corpus"] |= {"weight": self.getWeightCol()}
        for name, path in KEY_OF.items():
            section, _, key = path.partition(".")
            self.check_param(name)
            tables.setdefault(section, {})[key] = self._value_of(name)
        with self.own_words():
            # A grid of Params may have several windows, or no patience in one place.
            may_idle = ("training.max_contexts", "training.min_improvement", "training.patience")
            settings = configuration.from_dict(tables, "SkipGram", uses=may_idle)
        # MLlib's seeds may be negative, the job's may not: as an unsigned number each is another one.
        return msgspec.structs.replace(
            settings, training=msgspec.structs.replace(settings.training, seed=self.getSeed() % (1 << 64))
        )

    def _value_of(self, name: str) -> Any:
        """The value of a Param as the configuration has it."""
        value: Any = self.getOrDefault(name)
        if name == "seed":
            return max(value, 0)
        if name == "numPartitions" and value == 0:
            return "auto"
        return 1 if name == "minCount" and value == 0 else value

    def check_param(self, name: str) -> None:
        """Refuse a value that the configuration does not take.

        Raises:
            UserError: one sentence.
        """
        super().check_param(name)
        if name not in KEY_OF:
            return
        seed = self.getSeed()
        if name == "seed" and not -(2**63) <= seed < 2**63:
            raise UserError(
                f"SkipGram.seed: seed = {seed} is out of range; it must be a whole number of 64 bits, from -2^63 to "
                "2^63 - 1."
            )
        section, _, key = KEY_OF[name].partition(".")
        if section != "exchange":  # of which two are a range, sound only together
            # The last rate is compared with the first one, which may be given later: here, with the largest.
            first = {"learning_rate": 1.0} if name == "lastStepSize" else {}
            try:
                given = {section: {**first, key: self._value_of(name)}}  # without the others, which may be given later
                configuration.from_dict(given, f"SkipGram.{name}", uses=KEYS)
            except UserError as error:
                of_param = str(error).replace(KEY_OF[name], name)
                raise UserError(of_param.replace('at least 1, or "auto"', "at least 1, or 0 for all slots")) from None

    @contextlib.contextmanager
    def own_words(self) -> Iterator[None]:
        """Name a user's mistake in terms of Params and of the DataFrame, not of keys, files and lines."""
        try:
            yield
        except Exception as error:
            if is_passed_on(error):
                raise
            with self._reworded():
                raise

    @contextlib.contextmanager
    def _reworded(self) -> Iterator[None]:
        try:
            yield
        except NoWordsError as error:
            if "corpus.weight" in str(error):
                raise UserError(
                    f'{self.uid}: nothing to train on: the weights in "{self.getWeightCol()}" (weightCol) come to less '
                    "than a half for each word; give larger ones."
                ) from error
            error.args = (
                f'{self.uid}: nothing to train on: no row of the DataFrame has a word in "{self.getInputCol()}" '
                "(inputCol); give another DataFrame or another column.",
            )
            raise
        except NoPairsError as error:
            if error.epochs:
                text = str(error).replace("vocabulary.subsample", "subsample")
                text = text.replace("training.held_out_words", "heldOutWords")
                error.args = (f"{self.uid}: {text}",)
                raise
            error.args = (
                f"{self.uid}: no pair to train on: no row of the DataFrame has two words of the vocabulary in "
                f'"{self.getInputCol()}" (inputCol). Lower minCount ({self.getMinCount()}), or check that a row has a '
                "sentence and not one word.",
            )
            raise
        except (UserError, DivergedError, StorageError, SparkLostError) as error:
            error.args = (named_as_params(str(error)),)
            raise
        except Exception as error:
            if (gone := lost_error(error)) is not None:
                raise gone from error
            if (explained := translate_error(error)) is None:
                raise
            explained = explained.replace(WHERE_COMPUTED, "in the DataFrame").removeprefix("--input: ")
            explained = explained.replace("give --input paths", "read paths").replace("--input", "the DataFrame")
            raise UserError(f"{self.uid}: {explained}") from error
