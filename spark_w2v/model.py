"""Trained vectors as a stage of a Spark ML pipeline: SkipGramModel, which transforms, and answers without Spark too.

V words, D dimensions.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyspark.sql.functions as F
import pyspark.sql.types as T
from numpy.typing import NDArray
from pyspark.ml import Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import _convert_to_vector
from pyspark.ml.util import DefaultParamsReader, MLReadable, MLReader, MLWritable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql.pandas.functions import arrow_udf

from spark_w2v.analysis import neighbors
from spark_w2v.config.paths import with_home
from spark_w2v.errors import OutputError, UserError
from spark_w2v.runs import embeddings
from spark_w2v.runs.export import export, target_of
from spark_w2v.runs.export_formats import FILES
from spark_w2v.runs.ids import reading
from spark_w2v.spark.all_neighbors import check_memory, chunk_rows, known_rows, neighbors_of, with_ids
from spark_w2v.spark.derived import Derived
from spark_w2v.spark.java_errors import UnknownWordError
from spark_w2v.spark.memory import check_task, given_by
from spark_w2v.spark.model_files import ModelWriter, chunks, read_model, refused
from spark_w2v.spark.session import check_frame, frame_of
from spark_w2v.spark.stage_params import (
    ModelOptions,
    SkipGramParams,
    given_options,
    params_of_output,
    set_checked,
    setter,
    showing,
)
from spark_w2v.spark.training_summary import TrainingSummary
from spark_w2v.spark.vocabulary import encoding_bytes
from spark_w2v.text.documents import mean_vectors_with
from spark_w2v.text.encoding import ID_TYPES, id_type_name
from spark_w2v.text.messages import name_hint
from spark_w2v.types import Float32Array, Int64Array

log = logging.getLogger("spark_w2v")

# How the messages of the command export name its options, and what SkipGramModel.export calls them.
ARGUMENTS = {
    "--overwrite": "overwrite=True",
    "--white-space replace": "replaceWhiteSpace=True",
    "--to": "path",
    "--counts": "counts",
    "--format": "format",
}


class SkipGramModel(SkipGramParams, Model, MLReadable["SkipGramModel"], MLWritable):
    """Word vectors; transforms a column of words to the mean of their vectors.

    Made by SkipGram.fit, by SkipGramModel.load, or from the output of jobs/train.py by SkipGramModel.of_output.
    len() is V, and `word in model` says whether a word has a vector.
    """

    setInputCol = setter(SkipGramParams.inputCol)
    setOutputCol = setter(SkipGramParams.outputCol)
    setUnknownWords = setter(SkipGramParams.unknownWords)

    _words: pa.StringArray
    _counts: Int64Array
    _vectors: Float32Array
    _summary: TrainingSummary | None
    _id_type: str | None  # of the whole numbers that the words are, as Spark calls it

    def __init__(self) -> None:
        super().__init__()
        self._derived = Derived()
        self._with(pa.array([], pa.string()), np.zeros(0, np.int64), np.zeros((0, 0), np.float32), None)

    @classmethod
    @showing(ModelOptions)
    def of_output(cls, output: str | Path, **options: Unpack[ModelOptions]) -> "SkipGramModel":
        """Return the vectors of a finished run of jobs/train.py, or of the current one of a directory of runs.

        Args:
            output: a path of this host, or the URI of a directory in a store.

        Raises:
            OutputError: it is not one.
            UserError: there is none in the store.
        """
        model = cls()
        set_checked(model, given_options(model, options))  # before all is read
        with reading(with_home(str(output))) as directory:
            found, summary, kind, params = embeddings.of_one_run(
                directory,
                lambda: (
                    embeddings.read(directory), TrainingSummary.of_output(directory), embeddings.id_type(directory),
                    params_of_output(directory),
                ),
            )  # fmt: skip
            id_type = id_type_name(kind)
        model._with(found.words, found.counts, found.vectors, summary, id_type)
        model._set(**params | {"vectorSize": found.vectors.shape[1]})
        return set_checked(model, dict(options))

    def _with(
        self,
        words: pa.StringArray,
        counts: Int64Array,
        vectors: Float32Array,
        summary: TrainingSummary | None,
        id_type: str | None = None,
    ) -> "SkipGramModel":
        self._words, self._counts, self._vectors = words, counts, vectors
        self._summary, self._id_type = summary, id_type
        return self

    def _word_columns(self) -> list[Column]:
        """The word; and the number that it is, where the words of the corpus were numbers."""
        ids = [] if self._id_type is None else [F.col("word").cast(self._id_type).alias("id")]
        return [F.col("word"), *ids]

    @property
    def hasSummary(self) -> bool:
        """Whether it is known how the model was trained; models that earlier versions saved do not say."""
        return self._summary is not None

    @property
    def summary(self) -> TrainingSummary:
        """Losses, words and seconds of the training.

        Raises:
            UserError: hasSummary is false.
        """
        if self._summary is None:
            raise UserError(f"{self.uid}: has no summary of its training, as an earlier version saved it; fit again.")
        return self._summary

    def __repr__(self) -> str:
        words, dimensions = self._vectors.shape
        return f"SkipGramModel: uid={self.uid}, numWords={words}, vectorSize={dimensions}"

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: Any) -> bool:
        text = self._text_of(word)
        return isinstance(text, str) and neighbors.word_id(self._words, text) is not None

    def getVector(self, word: Any) -> Float32Array:
        """Return the (D,) vector of a word, which may be a number where words are numbers, without Spark.

        Raises:
            UnknownWordError: no vector for the word.
            TypeError: not a word.
        """
        text = self._text_of(word)
        if not isinstance(text, str):
            raise TypeError(f"{word!r} is of type {type(word).__name__}; a word is a str.")
        vector: Float32Array = self._vectors[self._row_of(text)].copy()
        return vector

    def toArrow(self, counts: bool = False) -> pa.Table:
        """Return what getVectors returns as a table of Arrow, with vectors as lists, without Spark.

        Args:
            counts: a last column, count, with the occurrences in the text.
        """
        table = pa.concat_tables(chunks(self._words, self._counts, self._vectors)).select(["word", "vector", "count"])
        if self._id_type is not None:
            table = table.add_column(1, "id", table["word"].cast(ID_TYPES[self._id_type]))
        return table if counts else table.drop_columns("count")

    def export(
        self,
        path: str | os.PathLike[str],
        format: str,
        *,
        overwrite: bool = False,
        replaceWhiteSpace: bool = False,
        counts: str | os.PathLike[str] | None = None,
    ) -> None:
        """Write the vectors for another tool, as the command export does, without Spark.

        Args:
            path: a file of this host for the formats of word2vec, a directory for the others; it appears whole or not
                at all.
            format: "word2vec-text", "word2vec-binary", "mllib", "projector", "safetensors", "npy", "usearch" or
                "faiss"; the last two need a library of that name.
            overwrite: replace what an earlier export wrote there.
            replaceWhiteSpace: write _ for white space that the format cannot hold in a word; without it, such words
                are refused.
            counts: a file for the words' counts, for the formats of word2vec.

        Raises:
            UserError: the caller's mistake; nothing is written.
            StorageError: what the storage refused.
        """
        if format not in FILES:
            raise UserError(f"{self.uid}: there is no format {format!r}; {name_hint(str(format), list(FILES))}")
        id_type, dimensions = ID_TYPES.get(self._id_type or ""), self._vectors.shape[1]
        found = embeddings.VectorChunks(self._words, self._counts, dimensions, iter([self._vectors]), id_type)
        with _named_as_arguments():
            done = export(
                lambda: found,
                None,
                target_of(with_home(os.fspath(path))),
                format,
                overwrite=overwrite,
                replace=replaceWhiteSpace,
                counts=None if counts is None else target_of(with_home(os.fspath(counts))),
            )
        if done.replaced:
            log.warning("%s: words with _ in place of white space: %s", self.uid, f"{done.replaced:,}")

    def unpersist(self) -> None:
        """Remove what transform and findAllSynonyms sent to the executors, and its files on the driver.

        DataFrames that they returned can then not be computed any more; a further call sends it again.
        """
        self._derived.unpersist()

    def getVectors(self, counts: bool = False) -> DataFrame:
        """Return word, vector: one row per word, the most frequent first.

        Where the words were whole numbers, a column id next to word has them with their type. So do the other methods.

        Args:
            counts: a last column, count, with the occurrences in the text.
        """
        vectors = frame_of(SparkSession.active(), self.toArrow(counts))
        return vectors.withColumn("vector", array_to_vector(F.col("vector")))

    def getVocabulary(self) -> DataFrame:
        """Return word, count: one row per word, the most frequent first."""
        table = pa.table([self._words, pa.array(self._counts)], ["word", "count"])
        return frame_of(SparkSession.active(), table).select(*self._word_columns(), "count")

    def findSynonyms(self, word: Any, num: int) -> DataFrame:
        """Return word, similarity: the nearest words, nearest first; similarity is the cosine.

        Args:
            word: a word, which is not among its synonyms, or a number where words are numbers; or a vector: one of
                pyspark.ml.linalg, a list or an array.
            num: rows at most.

        Raises:
            UnknownWordError: no vector for the word.
            UserError: num is below 1, or a vector does not fit.
            TypeError: neither a word nor a vector.
        """
        schema = T.StructType([T.StructField("word", T.StringType()), T.StructField("similarity", T.DoubleType())])
        found = SparkSession.active().createDataFrame(self.findSynonymsArray(word, num), schema)
        return found.select(*self._word_columns(), "similarity")

    def findSynonymsArray(self, word: Any, num: int) -> list[tuple[str, float]]:
        """Return what findSynonyms returns, as a list, without Spark."""
        num = neighbors.whole(num)
        excluded: list[int] = []
        direction: NDArray[Any]
        word = self._text_of(word)
        if isinstance(word, str):
            index = self._row_of(word)
            direction, excluded = self._vectors[index], [index]
        else:
            if not isinstance(word, np.ndarray):
                word = _convert_to_vector(word).toArray()
            direction = neighbors.direction_of(word, self._vectors.shape[1])
        if (units := self._derived.units) is None:
            self._derived.units = units = neighbors.unit_vectors(self._vectors)
        found = neighbors.nearest(units, direction, excluded, num)
        return [(self._words[index].as_py(), cosine) for index, cosine in found]

    def _row_of(self, word: str) -> int:
        index = neighbors.word_id(self._words, word)
        if index is None:
            message = f'"{word[:60]}" is not in vocabulary: it has no vector'
            raise UnknownWordError(message, lambda: neighbors.hint(self._words, word))
        return index

    def _text_of(self, word: Any) -> Any:
        """The word that a number is, where the words of the corpus were numbers; all else as it is."""
        return str(word) if self._id_type is not None and isinstance(word, int | np.integer) else word

    def findAllSynonyms(self, num: int, words: Iterable[Any] | None = None) -> DataFrame:
        """Return word, neighbor, rank, cosine: the nearest words of every word, exact, found by the executors.

        The most frequent word first, and for each its nearest neighbor, of rank 1. Nothing is found until the DataFrame
        is used, and each use finds it again: persist or write it.

        Args:
            num: neighbors of a word at most.
            words: those whose neighbors are wanted, as for findSynonyms; None for all. Words that have no vector are
                left out with a warning.

        Raises:
            UnknownWordError: none of the words has a vector.
            NotEnoughMemoryError: a task does not fit in the memory that Spark and the machine give.
            UserError: num is below 1.
            TypeError: words is not a list of words.
        """
        num = neighbors.whole(num)
        (count, dimensions), session = self._vectors.shape, SparkSession.active()
        rows = range(count) if words is None else self._rows_of(words)
        top, asked = min(int(num), count - 1), 0 if words is None else len(rows)
        check_memory(session, count, self._words.nbytes, dimensions, max(top, 1), asked)
        step = chunk_rows(dimensions)
        units = (neighbors.unit_vectors(self._vectors[start : start + step]) for start in range(0, count, step))
        sent = self._derived.units_in(session.sparkContext, self._words, units, dimensions)
        return with_ids(neighbors_of(session, sent, rows, top), self._id_type)

    def _rows_of(self, words: Iterable[Any]) -> Int64Array:
        """The rows of the words that have a vector, ascending; the others are named."""
        if isinstance(words, str):
            raise TypeError("words is a str; give a list of words.")
        asked = list(dict.fromkeys(map(self._text_of, words)))
        for word in asked:
            if not isinstance(word, str):
                raise TypeError(f"{word!r} is of type {type(word).__name__}; a word is a str.")
        texts = [word.encode("utf-8", "backslashreplace").decode() for word in asked]  # as no word has half a character
        return known_rows(self._words, pa.array(texts, pa.string()))

    def _transform(self, dataset: DataFrame) -> DataFrame:
        check_frame(dataset, f"{self.uid}: the DataFrame")
        words = self.words_column(dataset).value.cast(T.ArrayType(T.StringType()))
        context = dataset.sparkSession.sparkContext
        if not self._derived.is_in(context):  # or workers that have it already would count as memory that is taken
            # Each worker has all words and vectors, the words in a hash table. What else it needs is little, and a
            # limit that Spark sets itself may be lower than that.
            rest = encoding_bytes(0, 0)
            need = encoding_bytes(len(self._words), self._words.nbytes) - rest + self._vectors.nbytes
            check_task(need, given_by(context), "take fewer tasks at a time", rest)
        sent = self._derived.vectors_in(context, self._words, self._vectors)
        means = mean_vectors_with(sent, self.getUnknownWords() == "skip")
        mean = arrow_udf(means, T.ArrayType(T.DoubleType()))(words)  # type: ignore[call-overload]  # the hints say which
        # The condition, because the JVM's function has no answer to null.
        vector = F.when(words.isNotNull(), array_to_vector(mean))
        # As MLlib does, so that stages that follow need not look at a first row, which there may not be.
        size = {"ml_attr": {"num_attrs": self._vectors.shape[1]}}
        return dataset.select("*", vector.alias(self.getOutputCol(), metadata=size))

    def write(self) -> ModelWriter:
        about = {"summary": None if self._summary is None else self._summary.as_dict(), "idType": self._id_type}
        return ModelWriter(self, self._words, self._counts, self._vectors, about)

    @classmethod
    def read(cls) -> "SkipGramModelReader":
        return SkipGramModelReader(cls)


@contextlib.contextmanager
def _named_as_arguments() -> Iterator[None]:
    """Have messages of the command export name the arguments of SkipGramModel.export in place of options."""
    try:
        yield
    except UserError as error:
        # An option is a word of its own, which the name of a file that has it in the middle is not.
        options = rf"(?<![\w/.-])({'|'.join(ARGUMENTS)})(?![\w/.-])"
        error.args = (re.sub(options, lambda found: ARGUMENTS[found[0]], str(error)),)
        raise


class SkipGramModelReader(MLReader[SkipGramModel]):
    """Reads a model that ModelWriter wrote."""

    def __init__(self, kind: type[SkipGramModel] = SkipGramModel) -> None:
        super().__init__()
        self._kind = kind

    def load(self, path: str) -> SkipGramModel:
        """Return the model that was saved, complete.

        Raises:
            OutputError: it cannot be read, or is not what was saved.
        """
        metadata, words, counts, vectors = read_model(path, self.sparkSession, self._kind)
        with refused(path, self._kind.__name__):
            summary, id_type = TrainingSummary.from_dict(metadata.get("summary")), metadata.get("idType")
            if id_type not in (None, *ID_TYPES):
                raise OutputError(f"{path}: says that its words are numbers of a type {id_type}; save the model again.")
            model = self._kind()._with(words, counts, vectors, summary, id_type)
            model._resetUid(metadata["uid"])
            DefaultParamsReader.getAndSetParams(model, metadata)
        return model
