"""The training as a stage of a Spark ML pipeline: SkipGram, which is fitted, and SkipGramModel, which transforms.

Names and meanings are those of pyspark.ml.feature.Word2Vec, where it has them; what it does not have is called as in
the configuration, in Spark's spelling. Defaults are the configuration's.

V words, D dimensions.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import msgspec
import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
import pyspark.sql.types as T
from numpy.typing import NDArray
from pyspark import Broadcast, SparkContext
from pyspark.ml import Estimator, Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import _convert_to_vector
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
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
from spark_w2v.config import Config
from spark_w2v.errors import (
    ConfigError,
    DivergedError,
    NoPairsError,
    NotEnoughMemoryError,
    NoWordsError,
    SparkLostError,
    StorageError,
)
from spark_w2v.runs import embeddings
from spark_w2v.runs.ids import directory_of
from spark_w2v.spark import corpus
from spark_w2v.spark.model_files import chunks, read_model, write_model
from spark_w2v.spark.stage_params import KEY_OF, ModelOptions, Options, SkipGramParams, given_options, setter
from spark_w2v.text.documents import mean_vectors_with
from spark_w2v.types import Float32Array, Int64Array


class SkipGram(SkipGramParams, Estimator["SkipGramModel"], DefaultParamsReadable["SkipGram"], DefaultParamsWritable):
    """Trains word vectors on a column of words, `array<string>`; the same training as jobs/train.py.

    The result depends on the rows, the Params and the seed, and neither on the order of the rows nor on how they are
    partitioned. The DataFrame is computed twice; persist it if that is expensive.
    """

    setVectorSize = setter(SkipGramParams.vectorSize, int)
    setWindowSize = setter(SkipGramParams.windowSize, int)
    setMinCount = setter(SkipGramParams.minCount, int)
    setMaxIter = setter(SkipGramParams.maxIter, int)
    setStepSize = setter(SkipGramParams.stepSize, float)
    setNumPartitions = setter(SkipGramParams.numPartitions, int)
    setSeed = setter(SkipGramParams.seed, int)
    setMaxSentenceLength = setter(SkipGramParams.maxSentenceLength, int)
    setMaxWords = setter(SkipGramParams.maxWords, int)
    setSubsample = setter(SkipGramParams.subsample, float)
    setNegatives = setter(SkipGramParams.negatives, int)
    setNoiseExponent = setter(SkipGramParams.noiseExponent, float)
    setScheme = setter(SkipGramParams.scheme, str)
    setSyncsPerEpoch = setter(SkipGramParams.syncsPerEpoch, int)
    setSweepsPerEpoch = setter(SkipGramParams.sweepsPerEpoch, int)
    setDamping = setter(SkipGramParams.damping, float)
    setHeldOutWords = setter(SkipGramParams.heldOutWords, int)
    setExchangeFirstPort = setter(SkipGramParams.exchangeFirstPort, int)
    setExchangeLastPort = setter(SkipGramParams.exchangeLastPort, int)
    setExchangeTimeout = setter(SkipGramParams.exchangeTimeout, float)
    setExchangePlain = setter(SkipGramParams.exchangePlain, bool)
    setUnknownWords = setter(SkipGramParams.unknownWords, str)
    setInputCol = setter(SkipGramParams.inputCol, str)
    setOutputCol = setter(SkipGramParams.outputCol, str)

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self.setParams(**options)

    def setParams(self, **options: Unpack[Options]) -> "SkipGram":
        return self._set(**given_options(self, options))

    def settings(self) -> Config:
        """Return the configuration of a job that trains as this stage does.

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
            # In Spark's own temporary directory, which it removes should this process not come to it.
            folder = Path(tempfile.mkdtemp(prefix="parameters-", dir=session.sparkContext._temp_dir))
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            text, training = pipeline.train(
                corpus.read_frame(dataset, self.getInputCol(), self.getMaxSentenceLength()),
                pipeline.resolve(session, self.settings()),
                folder,
                on_corpus=lambda text: cleanup.callback(text.release),
            )
            vectors = training.vectors()[0][:]  # a model has its vectors in memory
        words = text.vocabulary.words.cast(pa.string())
        model = SkipGramModel()._with(words, text.vocabulary.counts, vectors)
        return self._copyValues(model._resetUid(self.uid))

    @contextlib.contextmanager
    def _own_words(self) -> Iterator[None]:
        """Name a user's mistake in terms of Params and of the DataFrame, not of keys, files and lines."""
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
    """Values computed once from a model's vectors: shared by its copies, left behind by a pickle and a deep copy.

    Args:
        units: (V, D) the vectors at length 1.
        sent: words and vectors, on the way to the executors of a context.
    """

    def __init__(self) -> None:
        self.units: Float32Array | None = None
        self.sent: Broadcast[tuple[pa.Array, Float32Array]] | None = None

    def __reduce__(self) -> tuple[type["_Derived"], tuple[()]]:
        return _Derived, ()


class SkipGramModel(SkipGramParams, Model, MLReadable["SkipGramModel"], MLWritable):
    """Word vectors; transforms a column of words to the mean of their vectors.

    Made by SkipGram.fit, by SkipGramModel.load, or from the output of jobs/train.py by SkipGramModel.of_output.
    """

    setInputCol = setter(SkipGramParams.inputCol, str)
    setOutputCol = setter(SkipGramParams.outputCol, str)
    setUnknownWords = setter(SkipGramParams.unknownWords, str)

    _words: pa.StringArray
    _counts: Int64Array
    _vectors: Float32Array

    def __init__(self) -> None:
        super().__init__()
        self._derived = _Derived()

    @classmethod
    def of_output(cls, output: str | Path, **options: Unpack[ModelOptions]) -> "SkipGramModel":
        """Return the vectors of a finished run of jobs/train.py, or of the current one of a directory of runs.

        Args:
            output: a path of this host, or the URI of a directory in a store.

        Raises:
            OutputError: it is not one.
            UserError: there is none in the store.
        """
        found = embeddings.read(directory_of(str(output)))
        model = cls()._with(found.words, found.counts, found.vectors)
        model._setDefault(vectorSize=found.vectors.shape[1])
        return model._set(**given_options(model, options))

    def _with(self, words: pa.StringArray, counts: Int64Array, vectors: Float32Array) -> "SkipGramModel":
        self._words, self._counts, self._vectors = words, counts, vectors
        return self

    def __repr__(self) -> str:
        words, dimensions = self._vectors.shape
        return f"SkipGramModel: uid={self.uid}, numWords={words}, vectorSize={dimensions}"

    def getVectors(self) -> DataFrame:
        """Return word, vector: one row per word, the most frequent first."""
        table = pa.concat_tables(chunks(self._words, self._counts, self._vectors)).select(["word", "vector"])
        return (
            SparkSession.active()
            .createDataFrame(table)
            .select("word", array_to_vector(F.col("vector")).alias("vector"))
        )

    def findSynonyms(self, word: Any, num: int) -> DataFrame:
        """Return word, similarity: the nearest words, nearest first; similarity is the cosine.

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
        """Return what findSynonyms returns, as a list, without Spark."""
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
        """Return the vectors, sent once per context, however often transform is called."""
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
    """Writes a model as `model_files` describes it."""

    def __init__(self, model: SkipGramModel) -> None:
        super().__init__()
        self._model = model

    def saveImpl(self, path: str) -> None:
        model = self._model
        write_model(path, self.sparkSession, model, model._words, model._counts, model._vectors)


class SkipGramModelReader(MLReader[SkipGramModel]):
    """Reads a model that SkipGramModelWriter wrote."""

    def load(self, path: str) -> SkipGramModel:
        """Return the model that was saved, complete.

        Raises:
            OutputError: it cannot be read, or is not what was saved.
        """
        expected = f"{SkipGramModel.__module__}.{SkipGramModel.__name__}"
        metadata, words, counts, vectors = read_model(path, self.sparkSession, expected)
        model = SkipGramModel()._with(words, counts, vectors)
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model


@contextlib.contextmanager
def _own_job_group(context: SparkContext) -> Iterator[None]:
    """Restore the caller's job group: training names its own jobs."""
    keys = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
    before = [(key, context.getLocalProperty(key)) for key in keys]
    try:
        yield
    finally:
        for key, value in before:
            context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None removes it
