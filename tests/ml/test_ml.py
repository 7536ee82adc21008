"""The Estimator and its model, as users of Spark ML meet them."""

import array
import doctest
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyspark
import pyspark.sql.functions as F
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import Tokenizer, Word2Vec, Word2VecModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csc_matrix

from spark_w2v import SkipGram, SkipGramModel, ml
from spark_w2v.config import KEYS
from spark_w2v.errors import DivergedError, NoPairsError, StorageError, UserError
from spark_w2v.runs import embedding_writer, embeddings
from spark_w2v.runs.embeddings import iter_vectors
from spark_w2v.runs.export import export
from spark_w2v.spark import rows
from spark_w2v.spark.stage_params import KEY_OF
from tests.support.estimator import OPTIONS, ROOT, planted_sentences, vectors_of
from tests.support.training_job import GROUPS, submit

# MLlib's own examples


def without_numbers(text: str) -> str:
    """Numbers and identifiers are of another training; how wide a table draws them too."""
    text = re.sub(r"-?\d+\.\d+(e-?\d+)?(\.\.\.)?", "NUMBER", text)
    return re.sub(r"[-+ ]+", " ", text)


class Checker(doctest.OutputChecker):
    """Compares all but the numbers, and the order of words where numbers decide it."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        got = re.sub("SkipGram(Model)?", r"Word2Vec\1", got)
        want, got = without_numbers(want), without_numbers(got)
        if "NUMBER" in want:
            want, got = (" ".join(sorted(re.findall(r"\w+", text))) for text in (want, got))
        return super().check_output(want, got, optionflags)


@pytest.mark.slow
def test_the_docstring_of_mllibs_word2vec_runs_with_the_import_changed(spark: SparkSession, tmp_path: Path) -> None:
    text = Word2Vec.__doc__
    assert text is not None
    names = {"Word2Vec": SkipGram, "Word2VecModel": SkipGramModel, "spark": spark, "temp_path": str(tmp_path)}
    test = doctest.DocTestParser().get_doctest(text, names, "Word2Vec", None, 0)
    assert len(test.examples) > 15
    said: list[str] = []
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(test, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted == len(test.examples)


@pytest.mark.slow
def test_mllibs_example_program_runs_with_the_import_changed(spark: SparkSession, capsys: Any) -> None:
    program = Path(pyspark.__path__[0]) / "examples" / "src" / "main" / "python" / "ml" / "word2vec_example.py"
    source = program.read_text()
    changed = source.replace("from pyspark.ml.feature import Word2Vec", "from spark_w2v import SkipGram as Word2Vec")
    assert changed != source
    assert changed.count("spark.stop()") == 1  # the session is that of all tests
    exec(compile(changed.replace("spark.stop()", ""), str(program), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    vectors = [json.loads(vector) for vector in re.findall(r"Vector: (.*)", printed)]
    assert [len(vector) for vector in vectors] == [3, 3, 3]
    assert "Text: [Hi, I, heard, about, Spark] => " in printed


# The same training as the job


def test_the_result_does_not_depend_on_how_rows_are_ordered_or_partitioned(
    sentences: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BUCKET_WORDS", 5000)
    assert rows.sentences_in_order(sentences, F.col("words")).buckets == 3
    options = {**OPTIONS, "maxIter": 1}
    vectors = vectors_of(SkipGram(**options).fit(sentences))
    shuffled = sentences.repartition(3).sortWithinPartitions("words", ascending=False)
    assert vectors_of(SkipGram(**options).fit(shuffled)) == vectors
    assert vectors_of(SkipGram(**options, seed=2).fit(sentences)) != vectors


@pytest.mark.slow
def test_settings_of_the_users_session_do_not_change_the_result(
    spark: SparkSession, sentences: DataFrame, model: SkipGramModel
) -> None:
    settings = {
        "spark.sql.execution.arrow.useLargeVarTypes": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "7",
        "spark.sql.parser.quotedRegexColumnNames": "true",
        "spark.sql.ansi.enabled": "false",
    }
    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        fitted = SkipGram(**OPTIONS).fit(sentences)
        assert vectors_of(fitted) == vectors_of(model)
        assert (
            fitted.transform(sentences).select("vector").first() == model.transform(sentences).select("vector").first()
        )
    finally:
        for key in settings:
            spark.conf.unset(key)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bigint", "tinyint", "smallint", "int", "decimal(20,0)"])
def test_whole_numbers_are_words_in_decimal(spark: SparkSession, kind: str) -> None:
    rows = spark.createDataFrame([([1, 2, 3, 100],), ([2, 3, None],), (None,)] * 3, "ids array<int>")
    strings = SkipGram(**OPTIONS | {"inputCol": "words", "minCount": 1, "maxIter": 1})
    numbers = SkipGram(**OPTIONS | {"inputCol": "ids", "minCount": 1, "maxIter": 1})
    frame = rows.selectExpr(f"cast(ids as array<{kind}>) as ids", "cast(ids as array<string>) as words")
    fitted = numbers.fit(frame)
    assert sorted(vectors_of(fitted)) == ["1", "100", "2", "3"]
    if kind != "bigint":
        return  # one is enough for the rest
    assert vectors_of(fitted) == vectors_of(strings.fit(frame))
    transformed = fitted.transform(frame).select("vector").collect()
    assert transformed == fitted.copy({fitted.inputCol: "words"}).transform(frame).select("vector").collect()


@pytest.mark.slow
def test_the_job_gives_the_same_bits_on_files_that_hold_the_rows_in_this_order(
    sentences: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BUCKET_WORDS", 5000)
    lines, buckets, _ = rows.sentences_in_order(sentences, F.col("words"))
    assert buckets == 3
    # One file a partition, named in their order.
    lines.select("value").write.parquet(str(tmp_path / "text"))
    assert len(list((tmp_path / "text").glob("part-*"))) == buckets
    stage = SkipGram(**OPTIONS)
    settings = [
        part
        for name, path in KEY_OF.items()
        if stage.isSet(name)
        for part in ("--set", f"{path}={stage.getOrDefault(name)}")
    ]
    made = [
        part
        for setting in ("corpus.format=parquet", "corpus.tokenizer=none", "corpus.column=value")
        for part in ("--set", setting)
    ]
    done = submit(["--input", tmp_path / "text", "--output", tmp_path / "out", *made, *settings])
    assert done.returncode == 0, done.stdout
    fitted = stage.fit(sentences)
    found = embeddings.read(tmp_path / "out")
    assert fitted._words.equals(found.words)
    assert np.array_equal(fitted._vectors, found.vectors)
    assert np.array_equal(fitted._counts, found.counts)
    # A pipeline takes up the job's output as it is.
    taken = SkipGramModel.of_output(tmp_path / "out", inputCol="words", outputCol="vector")
    assert taken.transform(sentences).head() == fitted.transform(sentences).head()
    assert {name: taken.getOrDefault(name) for name in KEY_OF} == {name: stage.getOrDefault(name) for name in KEY_OF}
    assert taken.getMaxIter() == 3


def test_every_key_of_training_and_vocabulary_is_a_param() -> None:
    keys = {path for path in KEYS if path.startswith(("training.", "vocabulary."))}
    of_init = {
        "vocabulary.keep_missing",
        "vocabulary.induce",
        "vocabulary.rare_windows",
        "training.average_with_init",
    }  # which the Estimator has not
    of_files = {"vocabulary.words", "vocabulary.stop_words"}  # a pipeline has its StopWordsRemover
    assert keys - set(KEY_OF.values()) == of_init | of_files
    stage = SkipGram(inputCol="words")
    for name, path in KEY_OF.items():
        given = stage.getOrDefault(name)
        assert given == (0 if name == "numPartitions" else KEYS[path].default)
        setter = getattr(stage, f"set{name[0].upper()}{name[1:]}")
        assert setter(given) is stage
        assert getattr(stage, f"get{name[0].upper()}{name[1:]}")() == given
        assert f"{name}: " in stage.explainParams()
    assert stage.settings().training.partitions == "auto"


def test_the_vectors_say_what_the_text_says(model: SkipGramModel) -> None:
    found = [word for word, _ in model.findSynonymsArray("apple", 4)]
    assert set(found) == set(GROUPS[0].split()) - {"apple"}


# What the model gives


def test_transform_gives_what_mllibs_model_gives_on_the_same_vectors(
    spark: SparkSession, model: SkipGramModel, tmp_path: Path
) -> None:
    target = tmp_path / "run"
    embedding_writer.write(target, model._words, model._counts, model._vectors, model._vectors, {"epochs": 1})
    (target / "_SUCCESS").touch()
    export(lambda: iter_vectors(target), target, tmp_path / "mllib", "mllib")
    theirs = Word2VecModel.load(str(tmp_path / "mllib")).setInputCol("words").setOutputCol("vector")
    rows = [(["apple", "saw", "nobody"],), (["nobody"],), ([],), (["harp"] * 3,), (["", "pear"],)]
    frame = spark.createDataFrame(rows, "words array<string>")
    ours, expected = model.transform(frame).collect(), theirs.transform(frame).collect()
    assert [row.vector.toArray().tolist() for row in ours] == [row.vector.toArray().tolist() for row in expected]
    for word in ("apple", "oboe"):
        assert [w for w, _ in model.findSynonymsArray(word, 14)] == [w for w, _ in theirs.findSynonymsArray(word, 14)]
    ours_of_vector = model.findSynonyms(Vectors.dense(model._vectors[3].tolist()), 3).collect()
    theirs_of_vector = theirs.findSynonyms(Vectors.dense(model._vectors[3].tolist()), 3).collect()
    assert [row.word for row in ours_of_vector] == [row.word for row in theirs_of_vector]
    assert np.allclose([row.similarity for row in ours_of_vector], [row.similarity for row in theirs_of_vector])


def test_a_document_without_words_is_zeros_and_null_is_null(spark: SparkSession, model: SkipGramModel) -> None:
    frame = spark.createDataFrame([(1, None), (2, []), (3, ["apple", None, "x"])], "id int, words array<string>")
    found = {row.id: row.vector for row in model.transform(frame).collect()}
    apple = model._vectors[model._words.to_pylist().index("apple")].astype(float)
    assert found[1] is None
    assert found[2] == Vectors.zeros(16)
    assert np.allclose(found[3].toArray(), apple / 3)
    skipping = model.copy({model.unknownWords: "skip"})
    assert skipping.transform(frame).collect()[2].vector == Vectors.dense(apple.tolist())
    assert model.getUnknownWords() == "count"


def test_a_pipeline_and_its_model_come_back_from_disk(spark: SparkSession, tmp_path: Path) -> None:
    lines = spark.createDataFrame([(" ".join(words),) for (words,) in planted_sentences(300)], "text string")
    tokenizer = Tokenizer(inputCol="text", outputCol="words")
    pipeline = Pipeline(stages=[tokenizer, SkipGram(**OPTIONS, unknownWords="skip")])
    pipeline.save(str(tmp_path / "pipeline"))
    fitted = Pipeline.load(str(tmp_path / "pipeline")).fit(lines)
    fitted.save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    before, after = fitted.stages[1], loaded.stages[1]
    assert isinstance(before, SkipGramModel)
    assert isinstance(after, SkipGramModel)
    assert after._words.equals(before._words)
    assert np.array_equal(after._vectors, before._vectors)
    assert np.array_equal(after._counts, before._counts)
    assert after.uid == before.uid == pipeline.getStages()[1].uid
    assert after.explainParams() == before.explainParams()
    assert after.getUnknownWords() == "skip"
    assert loaded.transform(lines).collect() == fitted.transform(lines).collect()
    stored = pq.read_table(tmp_path / "model" / "stages" / f"1_{after.uid}" / "data")
    assert set(stored.column_names) == {"word_id", "word", "count", "vector"}
    with pytest.raises(Exception, match="already exists"):
        fitted.save(str(tmp_path / "model"))
    fitted.write().overwrite().save(str(tmp_path / "model"))


# A model as any object of Python


def test_synonyms_of_whatever_mllib_takes_for_a_vector(spark: SparkSession, model: SkipGramModel) -> None:
    numbers = model._vectors[2].astype(float).tolist()
    expected = model.findSynonymsArray(Vectors.dense(numbers), 3)
    assert expected[0][0] == model._words[2].as_py()
    for vector in (
        numbers, tuple(numbers), np.array(numbers), model._vectors[2], array.array("d", numbers),
        Vectors.sparse(16, range(16), numbers), csc_matrix(np.array(numbers)[:, None]),
    ):  # fmt: skip
        assert model.findSynonymsArray(vector, 3) == expected
        assert [tuple(row) for row in model.findSynonyms(vector, 3).collect()] == expected
    for scale in (2.0**200, 2.0**-200):
        assert model.findSynonymsArray([number * scale for number in numbers], 3) == expected
    assert [cosine for _, cosine in model.findSynonymsArray([0.0] * 16, 2)] == [0.0, 0.0]
    with pytest.raises(TypeError, match="Cannot convert type"):
        model.findSynonymsArray(object(), 3)
    with pytest.raises(UserError, match="the vector has 2 numbers; it must have 16"):
        model.findSynonymsArray([0.1, 0.2], 3)
    with pytest.raises(UserError, match="not finite"):
        model.findSynonymsArray([float("nan")] * 16, 3)


# What is left


def left_by_spark(spark: SparkSession) -> set[Path]:
    """Return the files in the session's temporary directory, of Python and of the JVM; the JVM collects blocks."""
    directory = Path(spark.sparkContext._temp_dir).parent
    return {path for path in directory.rglob("*") if "blockmgr" not in str(path)}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["blocks", pytest.param("replicas", marks=pytest.mark.slow)])
def test_fit_leaves_no_file_in_sparks_temporary_directory(
    spark: SparkSession, sentences: DataFrame, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    # What Spark makes a broadcast of, from a mebibyte on, because a function brings a vocabulary with it.
    rows = [([f"w{(number * 7 + k) % 40_000}" for k in range(20)],) for number in range(6_000)]
    large = spark.createDataFrame(rows, "words array<string>")
    alone = spark.createDataFrame([(["a"],), (["b"],)] * 5, "words array<string>")
    before = left_by_spark(spark)
    options = {**OPTIONS, "maxIter": 1, "vectorSize": 2, "minCount": 1, "scheme": scheme, "numPartitions": 2}
    SkipGram(**options).fit(large)
    assert left_by_spark(spark) == before
    monkeypatch.setattr("spark_w2v.spark.training_state.MOST_LOSS", 0.01)
    with pytest.raises(DivergedError, match="stepSize"):
        SkipGram(**options).fit(sentences)
    assert left_by_spark(spark) == before

    def broken(*arguments: Any) -> Any:
        raise StorageError("no room")

    monkeypatch.undo()
    monkeypatch.setattr(ml, "epoch_line", broken)
    with pytest.raises(StorageError):
        SkipGram(**options).fit(sentences)
    assert left_by_spark(spark) == before
    with pytest.raises(NoPairsError):
        SkipGram(**options).fit(alone)
    assert left_by_spark(spark) == before


def test_fewer_blocks_than_were_asked_for_are_used_with_the_reason(
    sentences: DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    SkipGram(**{**OPTIONS, "numPartitions": 40, "maxIter": 1}).fit(sentences)
    assert (
        "1 block is used instead of 40: the vocabulary has 15 words, and blocks of fewer than 256 take longer"
        in caplog.messages
    )


def test_fit_leaves_nothing_behind_in_the_session(spark: SparkSession, sentences: DataFrame) -> None:
    context = spark.sparkContext
    persisted = set(context._jsc.getPersistentRDDs())
    context.setJobGroup("mine", "my own work")
    try:
        SkipGram(**OPTIONS).fit(sentences)
        assert context.getLocalProperty("spark.jobGroup.id") == "mine"
        assert context.getLocalProperty("spark.job.description") == "my own work"
    finally:
        for key in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(key, None)  # type: ignore[arg-type]  # None removes it
    assert set(context._jsc.getPersistentRDDs()) == persisted


@pytest.mark.parametrize("seed", [-1, -(2**63), 0, 2**63 - 1])
def test_a_seed_is_any_number_of_64_bits_as_in_mllib(seed: int) -> None:
    stage = SkipGram(inputCol="words").setSeed(seed)
    assert stage.getSeed() == seed
    assert stage.settings().training.seed == seed % 2**64


@pytest.mark.slow
def test_a_negative_seed_trains_and_is_another_one(spark: SparkSession) -> None:
    frame = spark.createDataFrame(planted_sentences(100), "words array<string>")
    options = {**OPTIONS, "maxIter": 1}
    found = [vectors_of(SkipGram(**options, seed=seed).fit(frame)) for seed in (-1, 1)]
    assert found[0] != found[1]


def test_a_seed_of_more_than_64_bits_is_refused() -> None:
    for seed in (2**63, -(2**63) - 1):
        with pytest.raises(UserError, match=r"SkipGram\.seed: .* out of range"):
            SkipGram(inputCol="words", seed=seed).settings()


# Mistakes


def test_a_word_without_a_vector_gets_the_spellings_that_have_one(model: SkipGramModel) -> None:
    with pytest.raises(UserError, match='"aple" is not in vocabulary: it has no vector; near are apple'):
        model.findSynonymsArray("aple", 3)
    with pytest.raises(UserError, match="at least 1"):
        model.findSynonymsArray("apple", 0)
    with pytest.raises(TypeError, match="did you mean vectorSize"):
        SkipGram(vectorsize=3)  # type: ignore[call-arg]


def test_importing_the_package_loads_neither_spark_nor_numpy() -> None:
    program = "import sys, spark_w2v; print(sorted({'numpy', 'pyspark', 'pyarrow', 'msgspec'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_estimator_needs_nothing_of_the_job() -> None:
    program = "import sys, spark_w2v.ml; print('spark_w2v.job' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
