"""The Estimator and its model, as users of Spark ML meet them."""

import doctest
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyspark
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import Tokenizer, Word2Vec, Word2VecModel
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v.config import KEYS, ConfigError
from spark_w2v.ml import KEY_OF
from spark_w2v.stages import corpus, embeddings
from spark_w2v.stages.export import export
from tests.test_train import GROUPS, submit

ROOT = Path(__file__).resolve().parents[1]
OPTIONS: dict[str, Any] = {
    "inputCol": "words", "outputCol": "vector", "vectorSize": 16, "subsample": 0.0, "windowSize": 3, "maxIter": 3,
    "numPartitions": 1,
}  # fmt: skip


def planted_sentences(number: int = 1500, seed: int = 7) -> list[tuple[list[str]]]:
    """Sentences whose words all belong to one group."""
    rng = np.random.default_rng(seed)
    groups = [group.split() for group in GROUPS]
    return [(list(map(str, rng.choice(groups[rng.integers(3)], 8))),) for _ in range(number)]


@pytest.fixture(scope="module")
def sentences(spark: SparkSession) -> Iterator[DataFrame]:
    frame = spark.createDataFrame(planted_sentences(), "words array<string>").coalesce(1).persist()
    frame.count()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def model(sentences: DataFrame) -> SkipGramModel:
    return SkipGram(**OPTIONS).fit(sentences)


def vectors_of(model: SkipGramModel) -> dict[str, list[float]]:
    return {row.word: list(row.vector) for row in model.getVectors().collect()}


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


def test_the_block_of_the_readme_runs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "SkipGram" in block]
    assert '"my-pipeline"' in block
    exec(compile(block.replace('"my-pipeline"', repr(str(tmp_path / "pipeline"))), "README.md", "exec"), {})
    assert "|War and peace|" in capsys.readouterr().out
    assert PipelineModel.load(str(tmp_path / "pipeline")).stages[1].uid.startswith("SkipGram_")


# The same training as the job


def test_the_result_does_not_depend_on_how_rows_are_ordered_or_partitioned(
    sentences: DataFrame, model: SkipGramModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = SkipGram(**OPTIONS).fit(sentences.repartition(3).sortWithinPartitions("words", ascending=False))
    assert vectors_of(shuffled) == vectors_of(model)
    assert vectors_of(SkipGram(**OPTIONS, seed=2).fit(sentences)) != vectors_of(model)


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


@pytest.mark.parametrize("kind", ["tinyint", "smallint", "int", "bigint", "decimal(20,0)"])
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
    monkeypatch.setattr(corpus, "BUCKET_WORDS", 5000)
    lines, buckets = corpus.frame_in_order(sentences, "words")
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
    assert taken.getVectorSize() == 16


def test_every_key_of_training_and_vocabulary_is_a_param() -> None:
    keys = {path for path in KEYS if path.startswith(("training.", "vocabulary."))}
    assert keys - set(KEY_OF.values()) == {"vocabulary.keep_missing"}  # of --init, which the Estimator has not
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
    embeddings.write(target, model._words, model._counts, model._vectors, model._vectors, {"epochs": 1})
    (target / "_SUCCESS").touch()
    export(target, tmp_path / "mllib", "mllib")
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


# Mistakes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inputCol": "wrods"}, "did you mean words"),
        ({"inputCol": "id"}, "words are array<string>"),
        ({"outputCol": "id"}, "give another outputCol"),
        ({"vectorSize": 0}, "SkipGram.vectorSize: vectorSize = 0 is out of range"),
        ({"stepSize": 2.0}, "stepSize"),
        ({"scheme": "block"}, 'it must be "auto"'),
        ({"unknownWords": "drop"}, 'it must be "count" or "skip"'),
        ({"minCount": 1_000_000}, "lower minCount"),
    ],
)
def test_a_mistake_is_one_sentence_in_the_names_of_the_params(
    spark: SparkSession, options: dict[str, Any], says: str
) -> None:
    frame = spark.createDataFrame([(1, ["a", "b"])], "id int, words array<string>")
    with pytest.raises(ConfigError) as refused:
        SkipGram(**{**OPTIONS, **options}).fit(frame)
    assert says in str(refused.value)
    assert "training." not in str(refused.value)


def test_a_word_without_a_vector_gets_the_spellings_that_have_one(model: SkipGramModel) -> None:
    with pytest.raises(ConfigError, match='"aple" has no vector; near are apple'):
        model.findSynonymsArray("aple", 3)
    with pytest.raises(ConfigError, match="at least 1"):
        model.findSynonymsArray("apple", 0)
    with pytest.raises(TypeError, match="did you mean vectorSize"):
        SkipGram(vectorsize=3)  # type: ignore[call-arg]


def test_importing_the_package_loads_neither_spark_nor_numpy() -> None:
    program = "import sys, spark_w2v; print(sorted({'numpy', 'pyspark', 'pyarrow', 'msgspec'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_estimator_needs_neither_tqdm_nor_anything_of_the_job() -> None:
    program = "import sys; sys.modules['tqdm'] = None; import spark_w2v.ml; print('spark_w2v.job' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
