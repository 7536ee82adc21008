"""Saved models come back whole or are refused."""

import copy
import gc
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import cloudpickle
from pyspark.ml import PipelineModel
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession

from spark_w2v import SkipGram, SkipGramModel
from spark_w2v import model as of_model
from spark_w2v.errors import OutputError
from spark_w2v.runs.embedding_writer import write
from spark_w2v.spark import model_files, stage_params
from tests.support.estimator import OPTIONS


@pytest.fixture(scope="module")
def saved(spark: SparkSession, model: SkipGramModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the same words, `one` and `other`, in several parts each; to look at only."""
    directory = tmp_path_factory.mktemp("saved")
    other = model.copy()._with(model._words, model._counts, model._vectors + np.float32(0.5), model._summary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_files, "TASK_BYTES", 6 * 4 * 16)
        model.save(str(directory / "one"))
        other.save(str(directory / "other"))
    assert len(parts(directory / "one")) > 1
    return directory


def parts(directory: Path) -> list[Path]:
    return sorted((directory / "data").glob("part-*.parquet"))


def rewrite(path: Path, content: bytes) -> None:
    """Change a file without Hadoop's checksum of it."""
    path.write_bytes(content)
    (path.parent / f".{path.name}.crc").unlink(missing_ok=True)


def lose_part(one: Path, other: Path) -> None:
    rewrite(parts(one)[-1], b"")
    parts(one)[-1].unlink()


def double_part(one: Path, other: Path) -> None:
    shutil.copy(parts(one)[1], one / "data" / "part-00009-copied.parquet")


def swap_part(one: Path, other: Path) -> None:
    rewrite(parts(one)[1], parts(other)[1].read_bytes())


def swap_data(one: Path, other: Path) -> None:
    shutil.rmtree(one / "data")
    shutil.copytree(other / "data", one / "data")


def lose_data(one: Path, other: Path) -> None:
    shutil.rmtree(one / "data")


def lose_metadata(one: Path, other: Path) -> None:
    shutil.rmtree(one / "metadata")


def change_param(one: Path, other: Path) -> None:
    (metadata,) = (one / "metadata").glob("part-*")
    changed = metadata.read_bytes().replace(b'"unknownWords":"count"', b'"unknownWords":"cound"')
    assert changed != metadata.read_bytes()
    rewrite(metadata, changed)


def cut_metadata(one: Path, other: Path) -> None:
    (metadata,) = (one / "metadata").glob("part-*")
    rewrite(metadata, metadata.read_bytes()[:100])


def foreign_table(one: Path, other: Path) -> None:
    shutil.rmtree(one / "data")
    (one / "data").mkdir()
    pq.write_table(pa.table({"word": ["a"]}), one / "data" / "part-00000.parquet")


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lose_part, "rows of 15"),
        (double_part, "rows of 15"),
        (swap_part, "its digest is another one"),
        (swap_data, "its digest is another one"),
        (change_param, "its digest is another one"),
        (lose_data, "cannot be loaded as a SkipGramModel"),
        (lose_metadata, "cannot be loaded as a SkipGramModel"),
        (cut_metadata, "cannot be loaded as a SkipGramModel"),
        (foreign_table, "data has the columns"),
    ],
)
def test_a_model_that_is_not_what_was_saved_is_refused_by_its_directory(
    saved: Path, tmp_path: Path, damage: Callable[[Path, Path], None], says: str
) -> None:
    shutil.copytree(saved / "one", tmp_path / "one")
    damage(tmp_path / "one", saved / "other")
    with pytest.raises(OutputError) as refused:
        SkipGramModel.load(str(tmp_path / "one"))
    assert str(refused.value).startswith(f"{tmp_path / 'one'}: ")
    assert says in str(refused.value)


@pytest.mark.slow
def test_no_flipped_bit_is_loaded(model: SkipGramModel, saved: Path, tmp_path: Path) -> None:
    for number, place in enumerate((0.02, 0.2, 0.35, 0.5, 0.65, 0.9)):
        directory = tmp_path / str(number)
        shutil.copytree(saved / "one", directory)
        path = parts(directory)[number % 2]
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1 << number
        rewrite(path, bytes(content))
        try:
            loaded = SkipGramModel.load(str(directory))
        except OutputError:
            continue
        # A bit that nobody reads.
        assert loaded._words.equals(model._words)
        assert np.array_equal(loaded._counts, model._counts)
        assert np.array_equal(loaded._vectors.view(np.uint32), model._vectors.view(np.uint32))


def test_a_model_of_the_version_before_is_loaded_if_no_row_is_missing_or_there_twice(
    spark: SparkSession, model: SkipGramModel, saved: Path, tmp_path: Path
) -> None:
    for name in ("whole", "less", "more"):
        shutil.copytree(saved / "one", tmp_path / name)
        (metadata,) = (tmp_path / name / "metadata").glob("part-*")
        content = json.loads(metadata.read_text())
        for key in ("words", "dimensions", "digest"):
            del content[key]
        rewrite(metadata, json.dumps(content).encode())
    parts(tmp_path / "less")[0].unlink()
    double_part(tmp_path / "more", tmp_path)
    loaded = SkipGramModel.load(str(tmp_path / "whole"))
    assert loaded._words.equals(model._words)
    assert np.array_equal(loaded._vectors, model._vectors)
    assert np.array_equal(loaded._counts, model._counts)
    for name in ("less", "more"):
        with pytest.raises(OutputError, match="rows are missing or there twice"):
            SkipGramModel.load(str(tmp_path / name))


def test_another_model_is_refused_with_its_class(spark: SparkSession, tmp_path: Path) -> None:
    SkipGram(**OPTIONS).save(str(tmp_path / "estimator"))
    with pytest.raises(OutputError, match=r"estimator: is a spark_w2v\.ml\.SkipGram; give"):
        SkipGramModel.load(str(tmp_path / "estimator"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found["summary"].pop("epochs"), r"\(the summary of the training is not one\); give the path"),
        (lambda found: found.update(summary=[1]), r"\(the summary of the training is not one\); give the path"),
        (lambda found: found.pop("sparkVersion"), r"\(there is no 'sparkVersion'\); give the path"),
        (lambda found: found["defaultParamMap"].update(later=1), "has a Param later, which this version does not have"),
    ],
)
def test_metadata_that_cannot_be_used_is_one_sentence(
    model: SkipGramModel, saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    shutil.copytree(saved / "one", tmp_path / "one")
    (metadata,) = (tmp_path / "one" / "metadata").glob("part-*")
    found = json.loads(metadata.read_text())
    change(found)
    found["digest"] = model_files.digest_of(found, model._words, model._counts, model._vectors)
    rewrite(metadata, json.dumps(found).encode())
    with pytest.raises(OutputError, match=f"one: .*{says}"):
        SkipGramModel.load(str(tmp_path / "one"))


class Regional(SkipGram):
    """A stage of a user, with a Param of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.region: Param[str] = Param(self, "region", "where it is from")


def test_a_stage_of_a_user_comes_back_as_one_of_its_bases_too(spark: SparkSession, tmp_path: Path) -> None:
    stage = Regional()
    stage.set(stage.region, "eu")
    stage.save(str(tmp_path / "stage"))
    for kind in (Regional, SkipGram):
        loaded: Any = kind.load(str(tmp_path / "stage"))
        assert type(loaded) is Regional
        assert loaded.getOrDefault(loaded.region) == "eu"
    SkipGram(**OPTIONS).save(str(tmp_path / "base"))
    with pytest.raises(OutputError, match=r"base: is a spark_w2v\.ml\.SkipGram; give the path of a .*Regional"):
        Regional.load(str(tmp_path / "base"))


@pytest.mark.parametrize("name", ["data", "metadata", "notes"])
def test_a_model_is_not_saved_among_the_files_of_others(model: SkipGramModel, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=rf": has {name} in it already; give another path, or save with write\("):
        model.save(str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == [name, "mine.txt"]
    model.write().overwrite().save(tmp_path)  # type: ignore[arg-type]
    assert SkipGramModel.load(str(tmp_path))._words.equals(model._words)


@pytest.mark.parametrize("places", ["1 1", "1 1/model/deep", "1 1/embeddings", "1 .", "runs/1 .", "runs/1 runs"])
def test_a_model_is_not_saved_over_vectors_that_were_trained(model: SkipGramModel, tmp_path: Path, places: str) -> None:
    run, place = places.split()
    for name in (f"{run}/_SUCCESS", f"{run}/run.json", f"{run}/embeddings/part-00000.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    paths = (tmp_path / place, f"file:{tmp_path / place}")
    for stage, path in [(stage, path) for stage in (model, SkipGram()) for path in paths]:
        with pytest.raises(OutputError, match=f"would remove vectors that were trained, of .*{tmp_path / run};"):
            stage.write().overwrite().save(str(path))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["model[1]", "model{1}*?", r"model\1"])
def test_a_directory_is_loaded_whatever_characters_its_name_has(
    model: SkipGramModel, saved: Path, tmp_path: Path, name: str
) -> None:
    SkipGram(**OPTIONS).save(str(tmp_path / "estimator"))
    (tmp_path / name).mkdir()
    shutil.move(tmp_path / "estimator", tmp_path / name)
    shutil.copytree(saved / "one", tmp_path / name / "one")
    assert SkipGramModel.load(f"{tmp_path}/{name}/one")._words.equals(model._words)
    assert SkipGram.load(f"{tmp_path}/{name}/estimator").getVectorSize() == OPTIONS["vectorSize"]


def test_a_pattern_that_fits_one_saved_stage_is_read_as_sparks_readers_read_it(
    model: SkipGramModel, saved: Path
) -> None:
    assert SkipGramModel.load(f"{saved}/on[e]")._words.equals(model._words)


def test_an_estimator_is_not_made_of_a_model(spark: SparkSession, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"one: is a spark_w2v\.ml\.SkipGramModel; give the path of a .*SkipGram\."):
        SkipGram.load(str(saved / "one"))
    with pytest.raises(OutputError, match=r"nowhere: cannot be loaded as a SkipGram \(.*\); give the path of a saved"):
        SkipGram.load(str(tmp_path / "nowhere"))


def test_a_model_comes_back_in_pieces_with_any_size_of_them(
    spark: SparkSession, model: SkipGramModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "CHUNK_BYTES", 4 * 4 * 16)
    assert [len(table) for table in model_files.chunks(model._words, model._counts, model._vectors)] == [4, 4, 4, 3]
    assert [row.word for row in model.getVectors().collect()] == model._words.to_pylist()
    model.save(str(tmp_path / "model"))
    loaded = SkipGramModel.load(str(tmp_path / "model"))
    assert loaded._words.equals(model._words)
    assert np.array_equal(loaded._vectors, model._vectors)
    assert np.array_equal(loaded._counts, model._counts)


@pytest.mark.parametrize("rows", [0, 2])
def test_the_size_of_arrows_batches_is_not_the_callers(
    rows: int, spark: SparkSession, model: SkipGramModel, tmp_path: Path
) -> None:
    size = "spark.sql.execution.arrow.maxRecordsPerBatch"
    spark.conf.set(size, rows)
    try:
        model.save(str(tmp_path / "model"))
        assert [row.word for row in model.getVocabulary().collect()] == model._words.to_pylist()
        model.getVectors().createOrReplaceTempView("vectors_of_a_model")
        assert spark.table("vectors_of_a_model").count() == len(model._words)
        assert spark.conf.get(size) == str(rows)
    finally:
        spark.conf.unset(size)
    assert len(parts(tmp_path / "model")) <= 2  # local[2] has two tasks
    assert SkipGramModel.load(str(tmp_path / "model"))._words.equals(model._words)


class OwnModel(SkipGramModel):
    """A model of a user's own class."""


def test_a_model_of_a_class_of_ones_own_is_loaded_as_one(model: SkipGramModel, tmp_path: Path) -> None:
    own = OwnModel()._with(model._words, model._counts, model._vectors, model._summary)
    own.save(str(tmp_path / "own"))
    loaded: Any = OwnModel.load(str(tmp_path / "own"))
    assert type(loaded) is OwnModel
    assert np.array_equal(loaded._vectors, model._vectors)
    with pytest.raises(OutputError, match=r"own: is a .*OwnModel; give the path of a spark_w2v\.ml\.SkipGramModel\."):
        SkipGramModel.load(str(tmp_path / "own"))


def test_a_param_that_is_none_again_is_saved_and_loaded(spark: SparkSession, tmp_path: Path) -> None:
    skipgram: Any = SkipGram(inputCol="words", weightCol="weight", seed=7, outputCol="vector")
    assert skipgram.setWeightCol(None).setSeed(None) is skipgram
    assert skipgram.setParams(outputCol=None, windowSize=2) is skipgram
    skipgram.save(str(tmp_path / "stage"))
    for stage in (skipgram, SkipGram.load(str(tmp_path / "stage"))):
        assert not stage.isDefined("weightCol")
        assert (stage.getSeed(), stage.getOutputCol(), stage.getWindowSize()) == (1, f"{stage.uid}__output", 2)


def test_more_than_2_31_numbers_fit_in_the_lists_that_spark_gets(tmp_path: Path) -> None:
    # Pages of a sparse file that nobody reads: 8.6 GB that are nowhere.
    words, dimensions = 21_500, 100_000
    vectors = np.memmap(tmp_path / "sparse", np.float32, "w+", shape=(words, dimensions))
    assert vectors.size > 2**31
    names = pa.array([str(number) for number in range(words)])
    tables = list(model_files.chunks(names, np.zeros(words, np.int64), vectors))
    assert len(tables) > 1
    whole = pa.concat_tables(tables)
    assert whole["word_id"].to_pylist() == list(range(words))
    assert whole["word"].to_pylist() == names.to_pylist()
    assert whole["vector"].type == pa.list_(pa.float32())
    for table in tables:
        for chunk in table["vector"].chunks:  # each is a task
            assert 4 * len(chunk.flatten()) <= model_files.TASK_BYTES
            assert chunk.offsets[-1].as_py() <= len(table) * dimensions == len(chunk.values)
    assert (tmp_path / "sparse").stat().st_blocks < 1000


def test_a_model_is_pickled_and_copied_after_it_was_used(
    spark: SparkSession, sentences: DataFrame, model: SkipGramModel
) -> None:
    synonyms = model.findSynonymsArray("apple", 3)
    expected: Any = model.transform(sentences).head()
    pickled, made = pickle.loads(pickle.dumps(model)), cloudpickle.loads(cloudpickle.dumps(model))  # type: ignore[no-untyped-call]
    for other in (pickled, made, copy.deepcopy(model), copy.copy(model), model.copy()):
        assert other.uid == model.uid
        assert other.findSynonymsArray("apple", 3) == synonyms
    for other in (pickled, copy.deepcopy(model)):
        assert other.transform(sentences).head() == expected
    # What is copied as MLlib copies it for each call with Params of its own is sent once for all.
    assert model.copy()._derived.sent is model._derived.sent
    elsewhere: Any = model.transform(sentences, {model.outputCol: "elsewhere"}).head()
    assert elsewhere.elsewhere == expected.vector
    copied = pickle.loads(pickle.dumps(PipelineModel([model]))).transform(sentences).head()
    assert copied == expected


class Words(Evaluator):
    """Counts documents that have a vector."""

    def _evaluate(self, dataset: DataFrame) -> float:
        return float(dataset.where("vector is not null").count())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PySpark does not close its threads
def test_a_model_of_cross_validation_is_pickled(spark: SparkSession, sentences: DataFrame) -> None:
    stage = SkipGram(**{**OPTIONS, "maxIter": 1})
    grid = ParamGridBuilder().addGrid(stage.windowSize, [1, 2]).build()
    few = sentences.limit(200)
    found: Any = CrossValidator(
        estimator=stage, estimatorParamMaps=grid, evaluator=Words(), numFolds=2, parallelism=2, collectSubModels=True
    ).fit(few)
    best = pickle.loads(pickle.dumps(found.bestModel))
    assert best.transform(few).head() == found.bestModel.transform(few).head()
    assert copy.deepcopy(found.subModels[0][1]).getWindowSize() == 2
    gc.collect()


@pytest.mark.parametrize("params_first", [False, True])
def test_an_output_that_is_replaced_while_it_is_read_gives_all_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_first: bool
) -> None:
    for name, rows in (("out", 3), ("next", 5)):
        words, vectors = pa.array([f"{name}{row}" for row in range(rows)]), np.eye(rows, 4, dtype=np.float32)
        write(tmp_path / name, words, np.ones(rows, np.int64), vectors, vectors, {}, None)
        (tmp_path / name / "run.json").write_text(json.dumps({"configuration": {"training": {"epochs": rows}}}))
        (tmp_path / name / "_SUCCESS").touch()
    params_of_output = stage_params.params_of_output

    def replaced(output: Path) -> Any:
        before = params_of_output(output)
        if (tmp_path / "next").exists():
            (tmp_path / "out").rename(tmp_path / "before")
            (tmp_path / "next").rename(tmp_path / "out")
        return before if params_first else params_of_output(output)

    monkeypatch.setattr(of_model, "params_of_output", replaced)
    model = SkipGramModel.of_output(tmp_path / "out")
    assert model._words.to_pylist() == [f"next{row}" for row in range(5)]
    assert model.getMaxIter() == 5
