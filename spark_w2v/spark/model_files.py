"""The files of a saved stage: metadata/ as all of Spark's have it. That of a model has a digest, and data/ is Parquet.

V words, D dimensions.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
import pyspark.sql.types as T
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.ml.param import Param, Params
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsReader, DefaultParamsWriter, MLReadable, MLWriter
from pyspark.sql import SparkSession

from spark_w2v.errors import OutputError
from spark_w2v.runs.places import OF_A_RUN
from spark_w2v.spark.hadoop_files import escape_glob
from spark_w2v.spark.session import create_frame, own_session
from spark_w2v.types import Float32Array, Int64Array

CHUNK_BYTES = 256 << 20  # of vectors, in one Arrow array: its offsets have 32 bits
TASK_BYTES = 16 << 20  # of these in a task that writes
STORED = {
    "word_id": T.IntegerType(),
    "word": T.StringType(),
    "count": T.LongType(),
    "vector": T.ArrayType(T.FloatType()),
}

# Classes that have moved, by the names under which earlier versions save and load them.
SAVED_AS = {"spark_w2v.model.SkipGramModel": "spark_w2v.ml.SkipGramModel"}

Stage = TypeVar("Stage", bound=MLReadable[Any])


class StageReader(DefaultParamsReader[Stage]):
    """Reads a stage that has only Params, and refuses one of another class, of which Spark would make an empty one."""

    def load(self, path: str) -> Stage:
        """Return the stage that was saved.

        Raises:
            OutputError: it cannot be read, or is of another class.
        """
        path = os.fspath(path)
        with refused(path, self.cls.__name__):
            stage: Any = super().load(_as_pattern(path, self.sparkSession))
            if not isinstance(stage, self.cls):
                raise _of_another_class(path, _name_of(type(stage)), self.cls)
            return cast(Stage, stage)


class StageReadable(DefaultParamsReadable[Stage]):
    """A stage that StageReader reads."""

    @classmethod
    def read(cls) -> StageReader[Stage]:
        return StageReader(cls)


class CarefulWriter(MLWriter):
    """Saves a stage, and removes none that training has made."""

    def save(self, path: str) -> None:
        """Save the stage.

        Raises:
            OutputError: there is something already; with overwrite(), vectors that were trained.
        """
        path = os.fspath(path)
        if self.shouldOverwrite:
            _check_overwritten(path, self.sparkSession)
        super().save(path)


class StageWriter(CarefulWriter, DefaultParamsWriter):
    """Saves a stage that has only Params."""


class ModelWriter(CarefulWriter):
    """Saves a model.

    Args:
        model: whose uid, class and Params are written.
        words: (V,).
        counts: (V,).
        vectors: (V, D).
        about_training: further values for the metadata, JSON-able; those that are None are left out.
    """

    def __init__(
        self,
        model: Params,
        words: pa.StringArray,
        counts: Int64Array,
        vectors: Float32Array,
        about_training: dict[str, Any],
    ) -> None:
        super().__init__()
        self._model, self._rows = model, (words, counts, vectors)
        self._about = {name: value for name, value in about_training.items() if value is not None}

    def saveImpl(self, path: str) -> None:
        session, (_, _, vectors) = self.sparkSession, self._rows
        if (name := _content(path, session)) is not None:
            raise OutputError(
                f"{path}: {'is a file' if not name else f'has {name} in it already'}; give another path, or save with "
                "write().overwrite(), which removes all that is there."
            )
        metadata = json.loads(DefaultParamsWriter._get_metadata_to_save(self._model, session))
        digest = digest_of(metadata, *self._rows)
        about: dict[str, Any] = {
            "class": _name_of(type(self._model)),
            "words": vectors.shape[0],
            "dimensions": vectors.shape[1],
            "digest": digest,
        }
        DefaultParamsWriter.saveMetadata(self._model, path, session, about | self._about)
        own = own_session(session)
        for number, table in enumerate(chunks(*self._rows)):
            mode = "append" if number else "error"
            create_frame(own, table).write.mode(mode).parquet(os.path.join(path, "data"))


def _check_overwritten(path: str, session: SparkSession) -> None:
    """Refuse to remove what training has made.

    Raises:
        OutputError: it is a run, or in one, or has one in it.
    """
    there, files = _there(path, session)
    there = files.makeQualified(there)
    path_class: Any = session._jvm.org.apache.hadoop.fs.Path  # type: ignore[union-attr]
    near = [there]
    for directory in (there, path_class(there, "runs")):  # that of a directory of runs
        with contextlib.suppress(Py4JJavaError):  # nothing there, or nothing that may be read
            near += [status.getPath() for status in files.listStatus(directory) if status.isDirectory()]
    while (there := there.getParent()) is not None:
        near.append(there)
    for directory in near:
        with contextlib.suppress(Py4JJavaError):
            if all(files.exists(path_class(directory, name)) for name in OF_A_RUN):
                raise OutputError(
                    f"{path}: overwrite() would remove vectors that were trained, of {directory}; give another path."
                )


def _there(path: str, session: SparkSession) -> tuple[Any, Any]:
    there: Any = session._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
    return there, there.getFileSystem(session._jsparkSession.sessionState().newHadoopConf())


def _exists(path: str, session: SparkSession) -> bool:
    there, files = _there(path, session)
    return bool(files.exists(there))


def _content(path: str, session: SparkSession) -> str | None:
    """Return a name in a directory; an empty one of a file, None where there is nothing."""
    there, files = _there(path, session)
    if not files.exists(there):
        return None
    found = files.listStatus(there)
    if len(found) == 1 and found[0].getPath().equals(files.makeQualified(there)):
        return ""
    return str(found[0].getPath().getName()) if found else None


def _as_pattern(path: str, session: SparkSession) -> str:
    """Return a glob, as which Spark reads every path, of what was saved at the path, whatever its characters mean.

    What is not there under its own name is left as it is: a pattern, that of a pipeline too, is taken as by Spark's own
    readers.
    """
    return escape_glob(path) if _exists(os.path.join(path, "metadata"), session) else path


def read_model(
    path: str, session: SparkSession, expected: type
) -> tuple[dict[str, Any], pa.StringArray, Int64Array, Float32Array]:
    """Return the metadata, words, counts and vectors of a saved model.

    Args:
        expected: the class that the model must be of.

    Raises:
        OutputError: it cannot be read, or is not what was saved.
    """
    path = os.fspath(path)
    with refused(path, expected.__name__):
        pattern = _as_pattern(path, session)
        metadata = _metadata(path, pattern, session, expected)
        words, counts, vectors = _rows(path, pattern, metadata, session)
        # Models of earlier versions have none.
        if "digest" in metadata and metadata["digest"] != digest_of(metadata, words, counts, vectors):
            raise _not_what_was_saved(path, "its digest is another one, so words, vectors or Params have changed")
    return metadata, words, counts, vectors


def _metadata(path: str, pattern: str, session: SparkSession, expected: type) -> dict[str, Any]:
    metadata: dict[str, Any] = DefaultParamsReader.loadMetadata(pattern, session)
    if metadata["class"] != _name_of(expected):
        raise _of_another_class(path, metadata["class"], expected)
    for param in (*metadata["paramMap"], *metadata["defaultParamMap"]):
        if not isinstance(getattr(expected, param, None), Param):
            raise OutputError(
                f"{path}: has a Param {param}, which this version does not have; load it with the one that saved it."
            )
    return metadata


def _name_of(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__name__}"
    return SAVED_AS.get(name, name)


def _of_another_class(path: str, found: str, expected: type) -> OutputError:
    return OutputError(f"{path}: is a {found}; give the path of a {_name_of(expected)}.")


def _rows(
    path: str, pattern: str, metadata: dict[str, Any], session: SparkSession
) -> tuple[pa.StringArray, Int64Array, Float32Array]:
    """Return the words, counts and vectors, by word_id; CHUNK_BYTES of vectors come to the driver at a time."""
    # Not merged: with spark.sql.parquet.respectSummaryFiles Spark would look for summary files that are not there.
    stored = own_session(session).read.option("mergeSchema", False).parquet(os.path.join(pattern, "data"))
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
        table, few = pa.table(columns, list(STORED)), max(1, TASK_BYTES // (4 * vectors.shape[1]))
        # Spark makes a task of each chunk, which carries it and may have 128 MiB (spark.rpc.message.maxSize).
        yield pa.concat_tables([table.slice(at, few) for at in range(0, len(table), few)] or [table])


def _rows_of_chunk(dimensions: int) -> int:
    return max(1, CHUNK_BYTES // (4 * dimensions))


def digest_of(metadata: dict[str, Any], words: pa.StringArray, counts: Int64Array, vectors: Float32Array) -> str:
    """Return a digest that changes with every word, count and bit of a vector of a model, and with its Params."""
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
def refused(path: str, name: str) -> Iterator[None]:
    """Turn whatever keeps a stage from being loaded into an error that names its directory.

    Args:
        name: of its class.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        text = f"there is no {error}" if type(error) is KeyError else str(error)
        reason = text.strip().partition("\n")[0][:300].rstrip(".") or type(error).__name__
        raise OutputError(
            f"{path}: cannot be loaded as a {name} ({reason}); give the path of a saved one, or save it again if this "
            "was one."
        ) from error
