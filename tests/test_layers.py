"""The algorithm cannot import Spark, and imports run one way, from the first of LAYERS to the last."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spark_w2v

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "spark_w2v"

# The first column of the table in the package's docstring, lowest first. A module may import from its own layer and
# from those before it.
TABLE = (spark_w2v.__doc__ or "").partition("Public names")[0]
LAYERS = tuple(re.findall(r"\w+", " ".join(re.findall(r"^ {4}(.+?) {2,}", TABLE, re.MULTILINE))))
# Only these may import pyspark. hadoop.py reaches Hadoop's file systems through the JVM, which PySpark starts.
ON_SPARK = (
    "spark_w2v/spark/",
    "spark_w2v/model.py",
    "spark_w2v/ml.py",
    "spark_w2v/api.py",
    "spark_w2v/storage/hadoop.py",
)
WITHOUT_SPARK = ("spark_w2v/skipgram", "spark_w2v/text", "spark_w2v/exchange")
LONGEST = {"spark_w2v/storage": 300, "spark_w2v/runs": 300}  # lines of a file; elsewhere 400


def module_name(path: Path) -> str:
    """`spark_w2v.skipgram.pairs` for spark_w2v/skipgram/pairs.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    """The layer that a module of ours belongs to; None for the package itself and for everyone else's modules."""
    first, _, rest = module.partition(".")
    name = rest.partition(".")[0] if first == "spark_w2v" else first if first == "jobs" else ""
    return name if name in LAYERS else None


def imports_of(source: str, package: str) -> set[str]:
    """Every module that the source imports, wherever in the file, type-checking imports and relative ones included.

    `from a import b` counts as a and as a.b, as b may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found.add(origin)
            found.update(f"{origin}.{alias.name}" for alias in node.names)
    return found


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def files(*places: str) -> list[Path]:
    return sorted(path for place in places for path in (ROOT / place).rglob("*.py"))


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_files_of_the_algorithm_are_found() -> None:
    """Everything below passes over an empty list."""
    assert all(files(room) for room in WITHOUT_SPARK)


def test_importing_the_whole_algorithm_loads_no_pyspark() -> None:
    modules = [module_name(path) for path in files(*WITHOUT_SPARK)]
    # In a process of its own, as another test may have loaded it; with pyspark made unimportable, as an import inside a
    # try would otherwise go unseen where it is installed.
    program = (
        "import importlib, sys\n"
        "sys.modules['pyspark'] = None\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print(*(name for name, module in sys.modules.items() if name.startswith('pyspark.') or name == 'py4j'))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == ""


def test_commands_on_vectors_need_no_pyspark() -> None:
    modules = [f"spark_w2v.commands.{name}" for name in ("evaluate", "export", "neighbors", "publish", "report")]
    program = f"import sys; sys.modules['pyspark'] = None; import {', '.join(modules)}"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", files("spark_w2v", "jobs"), ids=identify)
def test_only_the_room_for_spark_imports_pyspark(path: Path) -> None:
    imported = imports_of(path.read_text(encoding="utf-8"), package_of(path))
    if not identify(path).startswith(ON_SPARK):
        assert not {name for name in imported if name.partition(".")[0] in ("pyspark", "py4j")}


@pytest.mark.parametrize("path", files("spark_w2v", "jobs", "bench", "tests"), ids=identify)
def test_no_file_is_long(path: Path) -> None:
    longest = next((lines for room, lines in LONGEST.items() if identify(path).startswith(room)), 400)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


@pytest.mark.parametrize("path", files("spark_w2v", "jobs"), ids=identify)
def test_imports_run_one_way(path: Path) -> None:
    layer = layer_of(module_name(path))
    if layer is None:  # spark_w2v/__init__.py gathers the public names
        return
    imported = imports_of(path.read_text(encoding="utf-8"), package_of(path))
    above = LAYERS[LAYERS.index(layer) + 1 :]
    assert not {name for name in imported if layer_of(name) in above}, f"{layer} is below {', '.join(above)}"


@pytest.mark.parametrize("path", files("spark_w2v"), ids=identify)
def test_every_module_belongs_to_a_layer(path: Path) -> None:
    name = module_name(path)
    assert name == "spark_w2v" or layer_of(name) is not None, f"{name} is in none of {', '.join(LAYERS)}"


@pytest.mark.parametrize(
    ("source", "package", "imported"),
    [
        ("import pyspark.sql.functions as F", "spark_w2v.skipgram", "pyspark.sql.functions"),
        ("def f():\n    from pyspark import RDD", "spark_w2v.skipgram", "pyspark"),
        ("if TYPE_CHECKING:\n    from pyspark.sql import DataFrame", "spark_w2v.skipgram", "pyspark.sql"),
        ("from . import pairs", "spark_w2v.skipgram", "spark_w2v.skipgram.pairs"),
        ("from ..spark import corpus", "spark_w2v.skipgram", "spark_w2v.spark.corpus"),
        ("from spark_w2v import job", "spark_w2v.spark", "spark_w2v.job"),
    ],
)
def test_an_import_is_seen_wherever_and_however_it_is_written(source: str, package: str, imported: str) -> None:
    assert imported in imports_of(source, package)


LOADED_BY_TASKS = (
    "all_neighbors", "block_epochs", "block_task", "buckets", "corpus", "induction", "phrases", "replicas", "training",
    "vector_rows", "vocabulary",
)  # fmt: skip


@pytest.mark.parametrize("name", LOADED_BY_TASKS)
def test_what_tasks_load_needs_no_package_of_the_driver_alone(name: str) -> None:
    without = "import sys; sys.modules.update(dict.fromkeys(['msgspec', 'rapidfuzz', 'tqdm'])); "
    program = f"{without}import spark_w2v.spark.{name}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
