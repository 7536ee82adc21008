"""The Python of docs/api.md, coming-from.md and estimator.md, run: every block, in order, on planted groups."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_w2v import SkipGram, SkipGramModel, train
from spark_w2v.config import KEYS
from spark_w2v.spark.stage_params import KEY_OF
from tests.support.training_job import planted_corpus

DOCS = Path(__file__).resolve().parents[1] / "docs"


def python_of(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_blocks(page: str, home: Path) -> dict[str, Any]:
    """Run the blocks of a page with `home` for its relative paths; return the names that they defined."""
    names: dict[str, Any] = {"__name__": page}
    for number, code in enumerate(python_of(page), 1):
        # Not with chdir, which the JVM would not follow.
        there = re.sub(r'"(?=my-)', f'"{home}/', code)
        exec(compile(there, f"{page}, block {number}", "exec"), names)
    return names


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my-text").mkdir()
    planted_corpus(tmp_path / "my-text" / "planted.txt", sentences=1500)
    return tmp_path


@pytest.mark.slow
def test_every_block_of_the_api_page_runs_and_prints_what_it_says(
    spark: SparkSession, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_blocks("api.md", home)
    printed = capsys.readouterr().out
    comments = re.findall(r"  # (after epoch .*|\"aple\" .*)$", "\n".join(python_of("api.md")), re.MULTILINE)
    assert len(comments) == 2
    for said in comments:
        assert said in printed
    assert "(training.patience)" in printed
    assert "mistake:" in printed
    assert "holds a finished output" in printed
    assert {str(word) for word in names["words"]} > {"apple", "oboe", "saw"}
    assert names["context"].shape == names["vectors"].shape == (15, 50)
    assert spark.range(3).count() == 3


@pytest.mark.slow
def test_every_block_for_those_who_come_from_elsewhere_runs(spark: SparkSession, home: Path) -> None:
    names = run_blocks("coming-from.md", home)
    fruit = {"pear", "plum", "cherry", "quince"}
    assert {word for word, _ in names["model"].findSynonymsArray("apple", 4)} == fruit
    assert {word for word, _ in names["keyed"].most_similar("apple", topn=4)} == fruit
    assert dict(zip(names["keyed"].index_to_key, names["keyed"].expandos["count"], strict=True)) == dict(
        zip(names["words"].to_pylist(), names["counts"].tolist(), strict=True)
    )


@pytest.mark.slow
def test_every_block_about_the_estimator_runs(spark: SparkSession, home: Path) -> None:
    names = run_blocks("estimator.md", home)
    rows = names["sessions"].collect()
    assert sorted(row["items"] for row in rows) == sorted(
        [(session + step) % 50 for step in reversed(range(8))] for session in range(500)
    )
    assert {float(row.weight) for row in rows} == {1.0, 2.0}
    counts = [
        {row.id: row["count"] for row in names[model].getVocabulary().collect()} for model in ("model", "of_events")
    ]
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) == 12 * 500
    assert {row.id for row in names["next_model"].getVocabulary().collect()} == set(range(50)) - {7, 8}


def test_the_api_page_has_every_argument_of_train_and_every_method_of_the_model() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    arguments = re.search(r"(?:^\| `\w+` \|[^\n]*\n)+", text[text.index("| argument |") :], re.MULTILINE)
    assert arguments is not None
    assert re.findall(r"^\| `(\w+)`", arguments[0], re.MULTILINE) == list(inspect.signature(train).parameters)
    own = {name for kind in (SkipGram, SkipGramModel) for name in vars(kind) if not name.startswith("_")}
    of_params = {f"set{name[0].upper()}{name[1:]}" for name in (*KEY_OF, "inputCol", "outputCol")}
    methods = own - of_params - {"read"}  # of MLReadable, which load calls
    assert {name for name in methods if name not in text} == set()
    assert {"setProgress", "setCallbacks", "getVocabulary", "hasSummary", "of_output"} <= methods


def test_every_key_that_is_a_default_in_the_comparison_has_that_default() -> None:
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    rows = {
        "dimensions": "training.dimensions",
        "window": "training.window",
        "least count of a word": "vocabulary.min_count",
        "epochs": "training.epochs",
        "first learning rate": "training.learning_rate",
        "negatives": "training.negatives",
        "exponent of the noise": "training.noise_exponent",
        "subsampling": "vocabulary.subsample",
        "longest sentence, words": "corpus.max_sentence_words",
    }
    for title, key in rows.items():
        found = re.search(rf"^\| {title} \| ([\d.,]+) \|", text, re.MULTILINE)
        assert found is not None
        assert float(found[1].replace(",", "")) == KEYS[key].default, title
