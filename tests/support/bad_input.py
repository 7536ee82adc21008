"""Messages on input that cannot be read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spark_w2v import config, pipeline
from spark_w2v.errors import UserError
from spark_w2v.spark import corpus, vocabulary
from spark_w2v.spark.java_errors import translate_error

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def tallied(spark: "SparkSession", path: Path, **keys: Any) -> dict[str, int]:
    """Return the counters of the files of a path that are not 0."""
    segments = corpus.read(spark, [str(path)], config.Corpus(**keys))
    return {name: count for name, count in vocabulary.counters(segments).items() if count}


def prepared(spark: "SparkSession", path: Path, **keys: Any) -> None:
    """Read files, and check what could not be read."""
    session = spark.newSession()
    settings = config.from_dict({"corpus": keys, "vocabulary": {"min_count": 1}})
    found = corpus.list_files(session, [str(path)], settings.corpus.format)
    segments = corpus.read(session, [str(path)], settings.corpus, found)
    pipeline.prepare(segments, settings, files=found).release()


def checked(spark: "SparkSession", path: Path, **keys: Any) -> str:
    """Return the message on files of which too much could not be read, or that have no words."""
    with pytest.raises(UserError) as error:
        prepared(spark, path, **keys)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def refused(spark: "SparkSession", path: Path, **keys: Any) -> str:
    with pytest.raises(UserError) as error:
        corpus.read(spark, [str(path)], config.Corpus(**keys))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def explained(spark: "SparkSession", path: Path, **keys: Any) -> str:
    """Return the message on a file that proves bad while it is read, whichever job reads it."""
    segments = corpus.read(spark, [str(path)], config.Corpus(**keys))
    sentences = set()
    # Not count_words, which begins with the job of `counters`.
    for job in (lambda: vocabulary.counters(segments), segments.rdd.count):
        with pytest.raises(Exception) as error:  # noqa: PT011 - of whatever class, it has to be explained
            job()
        sentences.add(translate_error(error.value))
    (sentence,) = sentences
    assert sentence is not None
    assert "\n" not in sentence
    return sentence
