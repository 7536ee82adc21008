"""The training as a stage of a Spark ML pipeline: SkipGram, which is fitted, and SkipGramModel, which transforms.

Names and meanings are those of pyspark.ml.feature.Word2Vec, where it has them; what it does not have is called as in
the configuration, in Spark's spelling. Defaults are the configuration's.

V words, D dimensions.
"""

import contextlib
import difflib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict, Unpack

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
import pyspark.sql.types as T
from numpy.typing import NDArray
from pyspark import Broadcast, SparkContext
from pyspark.ml import Estimator, Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import _convert_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasMaxIter, HasOutputCol, HasSeed, HasStepSize
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.functions import arrow_udf

from spark_w2v import config as configuration
from spark_w2v import pipeline
from spark_w2v.analysis import neighbors
from spark_w2v.config import KEYS, Config
from spark_w2v.errors import (
    ConfigError,
    DivergedError,
    NoPairsError,
    NotEnoughMemoryError,
    NoWordsError,
    OutputError,
    SparkLostError,
    StorageError,
)
from spark_w2v.runs import embeddings
from spark_w2v.runs.ids import directory_of
from spark_w2v.spark import corpus
from spark_w2v.spark.session import own_session
from spark_w2v.text.documents import mean_vectors_with
from spark_w2v.text.messages import name_hint
from spark_w2v.types import Float32Array, Int64Array

log = logging.getLogger("spark_w2v")


# Every Param that is a key of the configuration, which has its range, its default and its meaning.
KEY_OF = {
    "vectorSize": "training.dimensions",
    "windowSize": "training.window",
    "minCount": "vocabulary.min_count",
    "maxIter": "training.epochs",
    "stepSize": "training.learning_rate",
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
    "exchangeFirstPort": "exchange.first_port",
    "exchangeLastPort": "exchange.last_port",
    "exchangeTimeout": "exchange.timeout",
    "exchangePlain": "exchange.plain",
}
UNKNOWN_WORDS = ("count", "skip")
CHUNK_BYTES = 256 << 20  # of vectors, in one Arrow array: its offsets have 32 bits
STORED = {
    "word_id": T.IntegerType(),
    "word": T.StringType(),
    "count": T.LongType(),
    "vector": T.ArrayType(T.FloatType()),
}


def _doc(name: str) -> str:
    return KEYS[KEY_OF[name]].description


class ModelOptions(TypedDict, total=False):
    """What SkipGramModel may be asked to do."""

    inputCol: str
    outputCol: str
    unknownWords: str


class Options(ModelOptions, total=False):
    """What SkipGram may be asked to do."""

    vectorSize: int
    windowSize: int
    minCount: int
    maxIter: int
    stepSize: float
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
    exchangeFirstPort: int
    exchangeLastPort: int
    exchangeTimeout: float
    exchangePlain: bool


class _SkipGramParams(HasInputCol, HasOutputCol, HasMaxIter, HasStepSize, HasSeed):
    """The Params of SkipGram and of SkipGramModel, which keeps those that it was fitted with."""

    vectorSize: "Param[int]" = Param(Params._dummy(), "vectorSize", _doc("vectorSize"), TypeConverters.toInt)
    windowSize: "Param[int]" = Param(Params._dummy(), "windowSize", _doc("windowSize"), TypeConverters.toInt)
    minCount: "Param[int]" = Param(
        Params._dummy(), "minCount", _doc("minCount") + " 0 is the same as 1.", TypeConverters.toInt
    )
    numPartitions: "Param[int]" = Param(
        Params._dummy(),
        "numPartitions",
        "Tasks that train at the same time: blocks of the vocabulary, or replicas. 0: as many as Spark has slots; a "
        "number gives the same result on every machine.",
        TypeConverters.toInt,
    )
    maxSentenceLength: "Param[int]" = Param(
        Params._dummy(), "maxSentenceLength", _doc("maxSentenceLength"), TypeConverters.toInt
    )
    maxWords: "Param[int]" = Param(Params._dummy(), "maxWords", _doc("maxWords"), TypeConverters.toInt)
    subsample: "Param[float]" = Param(Params._dummy(), "subsample", _doc("subsample"), TypeConverters.toFloat)
    negatives: "Param[int]" = Param(Params._dummy(), "negatives", _doc("negatives"), TypeConverters.toInt)
    noiseExponent: "Param[float]" = Param(
        Params._dummy(), "noiseExponent", _doc("noiseExponent"), TypeConverters.toFloat
    )
    scheme: "Param[str]" = Param(Params._dummy(), "scheme", _doc("scheme"), TypeConverters.toString)
    syncsPerEpoch: "Param[int]" = Param(Params._dummy(), "syncsPerEpoch", _doc("syncsPerEpoch"), TypeConverters.toInt)
    sweepsPerEpoch: "Param[int]" = Param(
        Params._dummy(), "sweepsPerEpoch", _doc("sweepsPerEpoch"), TypeConverters.toInt
    )
    damping: "Param[float]" = Param(Params._dummy(), "damping", _doc("damping"), TypeConverters.toFloat)
    heldOutWords: "Param[int]" = Param(Params._dummy(), "heldOutWords", _doc("heldOutWords"), TypeConverters.toInt)
    exchangeFirstPort: "Param[int]" = Param(
        Params._dummy(), "exchangeFirstPort", _doc("exchangeFirstPort"), TypeConverters.toInt
    )
    exchangeLastPort: "Param[int]" = Param(
        Params._dummy(), "exchangeLastPort", _doc("exchangeLastPort"), TypeConverters.toInt
    )
    exchangeTimeout: "Param[float]" = Param(
        Params._dummy(), "exchangeTimeout", _doc("exchangeTimeout"), TypeConverters.toFloat
    )
    exchangePlain: "Param[bool]" = Param(
        Params._dummy(), "exchangePlain", _doc("exchangePlain"), TypeConverters.toBoolean
    )
    unknownWords: "Param[str]" = Param(
        Params._dummy(),
        "unknownWords",
        "What transform does with words that have no vector. count: they count in the divisor of a document's mean, as "
        "in MLlib's Word2Vec, so they pull it to zero. skip: the mean is of the words that have a vector.",
        TypeConverters.toString,
    )

    def __init__(self) -> None:
        super().__init__()
        defaults = {name: KEYS[key].default for name, key in KEY_OF.items()}
        self._setDefault(**defaults | {"numPartitions": 0, "unknownWords": "count"})

    def getVectorSize(self) -> int:
        return self.getOrDefault(self.vectorSize)

    def getWindowSize(self) -> int:
        return self.getOrDefault(self.windowSize)

    def getMinCount(self) -> int:
        return self.getOrDefault(self.minCount)

    def getNumPartitions(self) -> int:
        return self.getOrDefault(self.numPartitions)

    def getMaxSentenceLength(self) -> int:
        return self.getOrDefault(self.maxSentenceLength)

    def getMaxWords(self) -> int:
        return self.getOrDefault(self.maxWords)

    def getSubsample(self) -> float:
        return self.getOrDefault(self.subsample)

    def getNegatives(self) -> int:
        return self.getOrDefault(self.negatives)

    def getNoiseExponent(self) -> float:
        return self.getOrDefault(self.noiseExponent)

    def getScheme(self) -> str:
        return self.getOrDefault(self.scheme)

    def getSyncsPerEpoch(self) -> int:
        return self.getOrDefault(self.syncsPerEpoch)

    def getSweepsPerEpoch(self) -> int:
        return self.getOrDefault(self.sweepsPerEpoch)

    def getDamping(self) -> float:
        return self.getOrDefault(self.damping)

    def getHeldOutWords(self) -> int:
        return self.getOrDefault(self.heldOutWords)

    def getExchangeFirstPort(self) -> int:
        return self.getOrDefault(self.exchangeFirstPort)

    def getExchangeLastPort(self) -> int:
        return self.getOrDefault(self.exchangeLastPort)

    def getExchangeTimeout(self) -> float:
        return self.getOrDefault(self.exchangeTimeout)

    def getExchangePlain(self) -> bool:
        return self.getOrDefault(self.exchangePlain)

    def getUnknownWords(self) -> str:
        return self.getOrDefault(self.unknownWords)

    def _check_columns(self, schema: T.StructType) -> None:
        """Refuse a schema without the input column, or with the output column.

        Raises:
            ConfigError: one sentence.
        """
        if not self.isDefined("inputCol"):
            raise ConfigError(f"{self.uid}: has no inputCol; give the column of words, array<string>.")
        column, output = self.getInputCol(), self.getOutputCol()
        if column not in schema.names:
            hint = name_hint(column, schema.names)
            raise ConfigError(f'{self.uid}: the DataFrame has no column "{column}" (inputCol); {hint}')
        kind = schema[column].dataType
        if not corpus.is_array_of_words(kind):
            raise ConfigError(
                f'{self.uid}: "{column}" (inputCol) is {kind.simpleString()}, words are array<string>, or an array of '
                "whole numbers; put a tokenizer before this stage, or give another column."
            )
        if output in schema.names:
            raise ConfigError(f'{self.uid}: the DataFrame has a column "{output}" already; give another outputCol.')
        if self.getUnknownWords() not in UNKNOWN_WORDS:
            raise ConfigError(
                f'{self.uid}: unknownWords = "{self.getUnknownWords()}" is not one of its values; it must be "count" '
                'or "skip".'
            )


class SkipGram(_SkipGramParams, Estimator["SkipGramModel"], DefaultParamsReadable["SkipGram"], DefaultParamsWritable):
    """Trains word vectors on a column of words, `array<string>`; the same training as jobs/train.py.

    The result depends on the rows, the Params and the seed, and neither on the order of the rows nor on how they are
    partitioned. The DataFrame is computed twice; persist it if that is expensive.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self.setParams(**options)

    def setParams(self, **options: Unpack[Options]) -> "SkipGram":
        return self._set(**_known(self, options))

    def setVectorSize(self, value: int) -> "SkipGram":
        return self._set(vectorSize=value)

    def setWindowSize(self, value: int) -> "SkipGram":
        return self._set(windowSize=value)

    def setMinCount(self, value: int) -> "SkipGram":
        return self._set(minCount=value)

    def setMaxIter(self, value: int) -> "SkipGram":
        return self._set(maxIter=value)

    def setStepSize(self, value: float) -> "SkipGram":
        return self._set(stepSize=value)

    def setNumPartitions(self, value: int) -> "SkipGram":
        return self._set(numPartitions=value)

    def setSeed(self, value: int) -> "SkipGram":
        return self._set(seed=value)

    def setMaxSentenceLength(self, value: int) -> "SkipGram":
        return self._set(maxSentenceLength=value)

    def setMaxWords(self, value: int) -> "SkipGram":
        return self._set(maxWords=value)

    def setSubsample(self, value: float) -> "SkipGram":
        return self._set(subsample=value)

    def setNegatives(self, value: int) -> "SkipGram":
        return self._set(negatives=value)

    def setNoiseExponent(self, value: float) -> "SkipGram":
        return self._set(noiseExponent=value)

    def setScheme(self, value: str) -> "SkipGram":
        return self._set(scheme=value)

    def setSyncsPerEpoch(self, value: int) -> "SkipGram":
        return self._set(syncsPerEpoch=value)

    def setSweepsPerEpoch(self, value: int) -> "SkipGram":
        return self._set(sweepsPerEpoch=value)

    def setDamping(self, value: float) -> "SkipGram":
        return self._set(damping=value)

    def setHeldOutWords(self, value: int) -> "SkipGram":
        return self._set(heldOutWords=value)

    def setExchangeFirstPort(self, value: int) -> "SkipGram":
        return self._set(exchangeFirstPort=value)

    def setExchangeLastPort(self, value: int) -> "SkipGram":
        return self._set(exchangeLastPort=value)

    def setExchangeTimeout(self, value: float) -> "SkipGram":
        return self._set(exchangeTimeout=value)

    def setExchangePlain(self, value: bool) -> "SkipGram":
        return self._set(exchangePlain=value)

    def setUnknownWords(self, value: str) -> "SkipGram":
        return self._set(unknownWords=value)

    def setInputCol(self, value: str) -> "SkipGram":
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> "SkipGram":
        return self._set(outputCol=value)

    def settings(self) -> Config:
        """The configuration of a job that trains as this stage does.

        Raises:
            ConfigError: a Param is out of its range.
        """
        tables: dict[str, dict[str, Any]] = {
            # The words are ready-made; a null where a row has none is nothing that could be fixed here.
            "corpus": {"format": "parquet", "tokenizer": "none", "max_bad_fraction": 1.0},
            "output": {"checkpoint": "none", "report": False},
        }
        tables["corpus"] |= {"max_word_length": configuration.LARGEST_INT}
        seed = self.getSeed()
        if not -(2**63) <= seed < 2**63:
            raise ConfigError(
                f"SkipGram.seed: seed = {seed} is out of range; it must be a whole number of 64 bits, from -2^63 to "
                "2^63 - 1."
            )
        for name, path in KEY_OF.items():
            section, _, key = path.partition(".")
            value: Any = self.getOrDefault(name)
            if name == "seed":
                value = max(seed, 0)
            if name == "numPartitions" and value == 0:
                value = "auto"
            if name == "minCount" and value == 0:
                value = 1
            if section != "exchange":  # of which two are a range, sound only together
                configuration.from_dict({section: {key: value}}, f"SkipGram.{name}")
            tables.setdefault(section, {})[key] = value
        settings = configuration.from_dict(tables, "SkipGram")
        # MLlib's seeds may be negative, the job's may not: as an unsigned number each is another one.
        return msgspec.structs.replace(
            settings, training=msgspec.structs.replace(settings.training, seed=seed % (1 << 64))
        )

    def _fit(self, dataset: DataFrame) -> "SkipGramModel":
        self._check_columns(dataset.schema)
        session = dataset.sparkSession
        with _own_job_group(session.sparkContext), self._own_words(), contextlib.ExitStack() as cleanup:
            settings = self.settings()
            plan = pipeline.resolve(session, settings)
            segments = corpus.read_frame(dataset, self.getInputCol(), self.getMaxSentenceLength())
            text = pipeline.prepare(segments, settings)
            cleanup.callback(text.release)
            # In Spark's own temporary directory, which it removes should this process not come to it.
            folder = Path(tempfile.mkdtemp(prefix="parameters-", dir=session.sparkContext._temp_dir))
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            for line in pipeline.summary(text.facts):
                log.info(line)
            training = pipeline.build_training(text, settings, plan, folder)
            started = time.monotonic()
            # Closed here and now: an error's traceback would keep it open, with all that it has sent to the executors.
            epochs = contextlib.closing(training.run())  # type: ignore[type-var]  # a generator
            for progress in cleanup.enter_context(epochs):
                if progress.metrics is not None:
                    left = (time.monotonic() - started) * (1 / progress.done - 1)
                    log.info(pipeline.epoch_line(progress, settings.training.epochs, left))
            vectors = training.vectors()[0][:]  # a model has its vectors in memory
        words = text.vocabulary.words.cast(pa.string())
        model = SkipGramModel()._with(words, text.vocabulary.counts, vectors)
        return self._copyValues(model._resetUid(self.uid))

    @contextlib.contextmanager
    def _own_words(self) -> Iterator[None]:
        """Speak of a user's mistake in terms of Params and of the DataFrame, not of keys, files and lines."""
        try:
            yield
        except NoWordsError as error:
            error.args = (
                f'{self.uid}: nothing to train on: no row of the DataFrame has a word in "{self.getInputCol()}" '
                "(inputCol); give another DataFrame or another column.",
            )
            raise
        except NoPairsError as error:
            error.args = (
                f"{self.uid}: no pair to train on: no row of the DataFrame has two words of the vocabulary in "
                f'"{self.getInputCol()}" (inputCol). Lower minCount ({self.getMinCount()}), or check that a row has a '
                "sentence and not one word.",
            )
            raise
        except (
            ConfigError, NotEnoughMemoryError, DivergedError, StorageError, SparkLostError,
        ) as error:  # fmt: skip
            sentence = str(error)
            for name, key in KEY_OF.items():
                sentence = sentence.replace(key, name)
            error.args = (sentence,)
            raise


class _Derived:
    """What is computed of a model's vectors once: shared by its copies, and left behind by a pickle and a deep copy.

    Args:
        units: (V, D) the vectors at length 1.
        sent: words and vectors, on the way to the executors of a context.
    """

    def __init__(self) -> None:
        self.units: Float32Array | None = None
        self.sent: Broadcast[tuple[pa.Array, Float32Array]] | None = None

    def __reduce__(self) -> tuple[type["_Derived"], tuple[()]]:
        return _Derived, ()


class SkipGramModel(_SkipGramParams, Model, MLReadable["SkipGramModel"], MLWritable):
    """Word vectors; transforms a column of words to the mean of their vectors.

    Made by SkipGram.fit, by SkipGramModel.load, or from the output of jobs/train.py by SkipGramModel.of_output.
    """

    _words: pa.StringArray
    _counts: Int64Array
    _vectors: Float32Array

    def __init__(self) -> None:
        super().__init__()
        self._derived = _Derived()

    @classmethod
    def of_output(cls, output: str | Path, **options: Unpack[ModelOptions]) -> "SkipGramModel":
        """The vectors of a finished run of jobs/train.py, or of the current one of a directory of runs.

        Args:
            output: a path of this host, or the URI of a directory in a store.

        Raises:
            OutputError: it is none.
            UserError: there is none in the store.
        """
        found = embeddings.read(directory_of(str(output)))
        model = cls()._with(found.words, found.counts, found.vectors)
        model._setDefault(vectorSize=found.vectors.shape[1])
        return model._set(**_known(model, options))

    def _with(self, words: pa.StringArray, counts: Int64Array, vectors: Float32Array) -> "SkipGramModel":
        self._words, self._counts, self._vectors = words, counts, vectors
        return self

    def __repr__(self) -> str:
        words, dimensions = self._vectors.shape
        return f"SkipGramModel: uid={self.uid}, numWords={words}, vectorSize={dimensions}"

    def setInputCol(self, value: str) -> "SkipGramModel":
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> "SkipGramModel":
        return self._set(outputCol=value)

    def setUnknownWords(self, value: str) -> "SkipGramModel":
        return self._set(unknownWords=value)

    def getVectors(self) -> DataFrame:
        """word, vector: one row a word, the most frequent first."""
        table = pa.concat_tables(chunks(self._words, self._counts, self._vectors)).select(["word", "vector"])
        return (
            SparkSession.active()
            .createDataFrame(table)
            .select("word", array_to_vector(F.col("vector")).alias("vector"))
        )

    def findSynonyms(self, word: Any, num: int) -> DataFrame:
        """word, similarity: the nearest words, nearest first; similarity is the cosine.

        Args:
            word: a word, which is not among its synonyms; or a vector: one of pyspark.ml.linalg, a list or an array.
            num: rows at most.

        Raises:
            ConfigError: no vector for the word, or num is below 1.
            TypeError: neither a word nor a vector.
        """
        schema = T.StructType([T.StructField("word", T.StringType()), T.StructField("similarity", T.DoubleType())])
        return SparkSession.active().createDataFrame(self.findSynonymsArray(word, num), schema)

    def findSynonymsArray(self, word: Any, num: int) -> list[tuple[str, float]]:
        """What findSynonyms gives, as a list, without Spark."""
        if num < 1:
            raise ConfigError(f"num is {num}; it must be at least 1.")
        excluded: list[int] = []
        direction: NDArray[Any]
        if isinstance(word, str):
            index = neighbors.word_id(self._words, word)
            if index is None:
                near = neighbors.closest_spellings(self._words, word)
                raise ConfigError(f'"{word[:60]}" has no vector' + (f"; near are {', '.join(near)}." if near else "."))
            direction, excluded = self._vectors[index], [index]
        else:
            direction = _convert_to_vector(word).toArray()
            if direction.shape != self._vectors.shape[1:]:
                raise ConfigError(f"the vector has {direction.size} numbers; it must have {self._vectors.shape[1]}.")
            if not np.isfinite(direction).all():
                raise ConfigError("the vector has numbers that are not finite; all must be.")
            # By a power of two, which changes no digit: float32 has no room for the squares of 1e20.
            direction = np.ldexp(direction, -np.frexp(np.abs(direction).max())[1])
        if self._derived.units is None:
            self._derived.units = neighbors.unit_vectors(self._vectors)
        found = neighbors.nearest(self._derived.units, direction, excluded, num)
        return [(self._words[index].as_py(), cosine) for index, cosine in found]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check_columns(dataset.schema)
        words = corpus.column_named(self.getInputCol()).cast(T.ArrayType(T.StringType()))
        means = mean_vectors_with(self._broadcast(dataset.sparkSession.sparkContext), self.getUnknownWords() == "skip")
        mean = arrow_udf(means, T.ArrayType(T.DoubleType()))(words)  # type: ignore[call-overload]  # the hints say which
        # The condition, because the JVM's function has no answer to null.
        vector = F.when(words.isNotNull(), array_to_vector(mean))
        return dataset.withColumn(self.getOutputCol(), vector)

    def _broadcast(self, context: SparkContext) -> "Broadcast[tuple[pa.Array, Float32Array]]":
        """The vectors, sent once a context, however often transform is called."""
        derived = self._derived
        if derived.sent is None or derived.sent._sc is not context:
            derived.sent = context.broadcast((self._words, self._vectors))
        return derived.sent

    def write(self) -> "SkipGramModelWriter":
        return SkipGramModelWriter(self)

    @classmethod
    def read(cls) -> "SkipGramModelReader":
        return SkipGramModelReader()


class SkipGramModelWriter(MLWriter):
    """metadata/ as all of Spark's models have it, with a digest; data/ is Parquet: word_id, word, count, vector."""

    def __init__(self, model: SkipGramModel) -> None:
        super().__init__()
        self._model = model

    def saveImpl(self, path: str) -> None:
        model = self._model
        words, dimensions = model._vectors.shape
        metadata = json.loads(DefaultParamsWriter._get_metadata_to_save(model, self.sparkSession))
        digest = digest_of(metadata, model._words, model._counts, model._vectors)
        about = {"words": words, "dimensions": dimensions, "digest": digest}
        DefaultParamsWriter.saveMetadata(model, path, self.sparkSession, about)
        for table in chunks(model._words, model._counts, model._vectors):
            self.sparkSession.createDataFrame(table).write.mode("append").parquet(os.path.join(path, "data"))


class SkipGramModelReader(MLReader[SkipGramModel]):
    def load(self, path: str) -> SkipGramModel:
        """The model that was saved, complete.

        Raises:
            OutputError: it cannot be read, or is not what was saved.
        """
        with _refused(path):
            metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
            expected = f"{SkipGramModel.__module__}.{SkipGramModel.__name__}"
            if metadata["class"] != expected:
                raise OutputError(f"{path}: is a {metadata['class']}; give the path of a {expected}.")
            words, counts, vectors = self._rows(path, metadata)
            # Models of earlier versions have none.
            if "digest" in metadata and metadata["digest"] != digest_of(metadata, words, counts, vectors):
                raise _not_what_was_saved(path, "its digest is another one, so words, vectors or Params have changed")
            model = SkipGramModel()._with(words, counts, vectors)
            model._resetUid(metadata["uid"])
            DefaultParamsReader.getAndSetParams(model, metadata)
        return model

    def _rows(self, path: str, metadata: dict[str, Any]) -> tuple[pa.StringArray, Int64Array, Float32Array]:
        """The words, counts and vectors, by word_id; CHUNK_BYTES of vectors come to the driver at a time."""
        # Not merged: with spark.sql.parquet.respectSummaryFiles Spark would look for summary files that are not there.
        session = own_session(self.sparkSession)
        stored = session.read.option("mergeSchema", False).parquet(os.path.join(path, "data"))
        found = {field.name: field.dataType for field in stored.schema}
        if any(name not in found or found[name].simpleString() != kind.simpleString() for name, kind in STORED.items()):
            raise _not_what_was_saved(path, f"data has the columns {stored.schema.simpleString()}")
        total = stored.count()
        first = stored.select(F.size("vector")).first()
        if first is None or total != metadata.get("words", total):
            raise _not_what_was_saved(path, f"data has {total:,} rows of {metadata.get('words', 1):,}")
        dimensions = int(metadata.get("dimensions", first[0]))
        counts, vectors = np.empty(total, np.int64), np.empty((total, dimensions), np.float32)
        words, seen = [], 0
        step = _rows_of_chunk(dimensions)
        for start in range(0, total, step):
            some = stored.select(*STORED)
            if total > step:
                some = some.where(F.col("word_id").between(start, start + step - 1))
            table = some.toArrow()
            ids = table["word_id"].to_numpy()
            seen += len(ids)
            place = np.argsort(ids)
            lengths = pc.list_value_length(table["vector"])
            if not np.array_equal(ids[place], np.arange(start, min(start + step, total))):
                raise _not_what_was_saved(path, "word_id in data is not 0, 1, 2, ...: rows are missing or there twice")
            if any(column.null_count for column in table.columns) or pc.any(pc.not_equal(lengths, dimensions)).as_py():
                raise _not_what_was_saved(path, f"not every row has a word, a count and {dimensions} numbers")
            counts[ids] = table["count"].to_numpy()
            words.append(table["word"].cast(pa.string()).take(place))
            for batch in table.select(["word_id", "vector"]).to_batches():
                vectors[batch["word_id"].to_numpy()] = batch["vector"].flatten().to_numpy().reshape(-1, dimensions)
        return pa.concat_arrays([chunk for some in words for chunk in some.chunks]), counts, vectors


def chunks(words: pa.StringArray, counts: Int64Array, vectors: Float32Array) -> Iterator[pa.Table]:
    """The rows of a model as tables with the columns of STORED, CHUNK_BYTES of vectors at a time; no vector is copied.

    Spark has lists with offsets of 32 bits only, and a model of 2^31 numbers or more does not fit in one such array.
    """
    step = _rows_of_chunk(vectors.shape[1])
    for start in range(0, len(vectors), step):
        rows = vectors[start : start + step]
        ids = np.arange(start, start + len(rows), dtype=np.int32)
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(vectors.shape[1])
        columns = [
            pa.array(ids),
            words[start : start + step],
            pa.array(counts[start : start + step]),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1))),
        ]
        yield pa.table(columns, list(STORED))


def _rows_of_chunk(dimensions: int) -> int:
    return max(1, CHUNK_BYTES // (4 * dimensions))


def digest_of(metadata: dict[str, Any], words: pa.StringArray, counts: Int64Array, vectors: Float32Array) -> str:
    """What changes with every word, count and bit of a vector of a model, and with its Params."""
    params = {name: metadata[name] for name in ("uid", "paramMap", "defaultParamMap")}
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for start in range(0, len(words), 1 << 16):
        some = words[start : start + (1 << 16)]
        digest.update(pc.binary_length(some).to_numpy().astype("<i4").tobytes())
        digest.update("".join(some.to_pylist()).encode())
        digest.update(counts[start : start + (1 << 16)].astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(vectors[start : start + (1 << 16)], "<f4").data)
    return digest.hexdigest()


def _not_what_was_saved(path: str, found: str) -> OutputError:
    return OutputError(
        f"{path}: is not the model as it was saved: {found}. Save the model again, or bring the directory back from a "
        "copy."
    )


@contextlib.contextmanager
def _refused(path: str) -> Iterator[None]:
    """Name the directory in whatever keeps a model from being loaded."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:300].rstrip(".") or type(error).__name__
        raise OutputError(
            f"{path}: cannot be loaded as a SkipGramModel ({reason}); give the path of a saved one, or save the model "
            "again if this was one."
        ) from error


def _known(stage: Params, options: Any) -> dict[str, Any]:
    """The options that were given; None is as good as not given.

    Raises:
        TypeError: no such Param.
    """
    for name in options:
        if not stage.hasParam(name):
            close = difflib.get_close_matches(name, [param.name for param in stage.params], 1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise TypeError(f"{type(stage).__name__} has no Param {name}{hint}")
    return {name: value for name, value in options.items() if value is not None}


@contextlib.contextmanager
def _own_job_group(context: SparkContext) -> Iterator[None]:
    """Give the caller's job group back: training names its own jobs."""
    keys = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
    before = [(key, context.getLocalProperty(key)) for key in keys]
    try:
        yield
    finally:
        for key, value in before:
            context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None removes it
