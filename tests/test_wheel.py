"""The wheel in an environment that has nothing else, outside of the checkout, as pip and uv install it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import spark_w2v
from tests.support.training_job import planted_corpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "--set", "training.epochs=2", "--set", "training.dimensions=16", "--set", "vocabulary.subsample=0",
    "--set", "vocabulary.min_count=1",
]  # fmt: skip
# Of pip and of uv, where no server answers. Not "No matching distribution", which a wrong pin gets too.
OFFLINE = ("connection broken by", "error sending request")


def run(command: Sequence[object], cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command without what leads to the checkout, or to another Spark."""
    dropped = (
        "PYTHONPATH",
        "SPARK_HOME",
        "SPARK_CONF_DIR",
        "SPARK_LOCAL_IP",
        "PYSPARK_PYTHON",
        "PYSPARK_DRIVER_PYTHON",
    )
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment | variables, capture_output=True, text=True, check=False
    )


def install(command: Sequence[object], cwd: Path, **variables: str) -> None:
    done = run(command, cwd, **variables)
    if done.returncode != 0 and any(sign in done.stderr for sign in OFFLINE):
        pytest.skip("no registry of packages can be reached")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def directory(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a text, outside of the checkout."""
    made = tmp_path_factory.mktemp("elsewhere")
    (made / "text").mkdir()
    planted_corpus(made / "text" / "planted.txt", sentences=1500)
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copy")
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "spark_w2v", copy / "spark_w2v", ignore=shutil.ignore_patterns("__pycache__"))
    built = run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy], copy)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (copy / "dist").glob("*.whl")
    assert spark_w2v.__version__ in found.name
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which the wheel was installed, and what it asks for."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    assert run([sys.executable, "-m", "venv", home], home.parent).returncode == 0
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install([*pip, "-c", ROOT / "requirements" / "run.txt", wheel], home.parent)
    return home / "bin"


def test_every_command_works_from_the_wheel_without_conf(programs: Path, directory: Path) -> None:
    command = programs / "spark-w2v"
    place = run([programs / "python", "-c", "import spark_w2v; print(spark_w2v.__file__)"], directory).stdout
    assert place.startswith(f"{programs.parent}/lib/"), "not that of the checkout"
    assert run([command, "--version"], directory).stdout == f"spark-w2v {spark_w2v.__version__}\n"
    trained = run([command, "train", "--input", "text/*.txt", "--output", "out", *SMALL], directory)
    said = trained.stdout + trained.stderr
    assert trained.returncode == 0, said
    assert len(said.splitlines()) <= 20, said
    assert [line for line in said.splitlines() if re.search(r"\b(INFO|DEBUG|TRACE)\b|Stage|\tat ", line)] == []
    versions = json.loads((directory / "out" / "run.json").read_text())["versions"]
    assert versions["spark_w2v"] == spark_w2v.__version__
    assert "commit" not in versions

    question = ["neighbors", "out", "apple", "--top", "4", "--json"]
    near = run([command, *question], directory)
    assert near.returncode == 0, near.stderr
    found = {neighbor["word"] for neighbor in json.loads(near.stdout)["answers"][0]["neighbors"]}
    assert found == {"pear", "plum", "cherry", "quince"}, "those that were planted together with apple"
    module = run([programs / "python", "-m", "spark_w2v", *question], directory)
    assert (module.returncode, module.stdout) == (0, near.stdout)
    (directory / "pairs.csv").write_text('"apple","pear",9\n"apple","saw",1\n"saw","hammer",8\n')
    evaluated = run([command, "evaluate", "out", "--pairs", "pairs.csv", "--report"], directory)
    assert evaluated.returncode == 0, evaluated.stderr
    assert re.search(r"^pairs\.csv +3 +3 ", evaluated.stdout, re.MULTILINE), evaluated.stdout
    exported = run([command, "export", "out", "--format", "word2vec-text", "--to", "vectors.txt"], directory)
    assert exported.returncode == 0, exported.stderr
    assert (directory / "vectors.txt").read_text().startswith("15 16\n")
    page = directory / "out" / "report.html"
    page.unlink()
    assert run([command, "report", "out"], directory).returncode == 0
    assert "cherry" in page.read_text(encoding="utf-8")
    mistake = run([command, "train", "--input", "none", "--output", "other"], directory)
    assert mistake.returncode == 2
    assert "spark-w2v train: " in mistake.stderr
    assert "Traceback" not in mistake.stderr


ASK = (
    "from spark_w2v.spark.session import start_session; s = start_session(); c = s.sparkContext.getConf(); "
    "print('asked:', *(c.get(k) for k in ('spark.sql.shuffle.partitions', 'spark.driver.memory', "
    "'spark.python.unix.domain.socket.enabled', 'spark.ui.showConsoleProgress', 'spark.app.name')))"
)


def asked(programs: Path, directory: Path, **variables: str) -> list[str]:
    told = run([programs / "python", "-c", ASK], directory, **variables)
    assert told.returncode == 0, told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("asked:")]
    return line.split()[1:]


def test_spark_gets_the_defaults_of_the_package_where_the_user_gives_none(programs: Path, directory: Path) -> None:
    assert asked(programs, directory) == ["8", "4g", "true", "false", "spark_w2v"]
    (directory / "conf").mkdir(exist_ok=True)
    (directory / "conf" / "spark-defaults.conf").write_text("spark.sql.shuffle.partitions  3\nspark.driver.memory=1g\n")
    conf = str(directory / "conf")
    assert asked(programs, directory, SPARK_CONF_DIR=conf) == ["3", "1g", "true", "false", "spark_w2v"]
    arguments = "--conf spark.sql.shuffle.partitions=5 --driver-memory 2g --name mine pyspark-shell"
    found = asked(programs, directory, SPARK_CONF_DIR=conf, PYSPARK_SUBMIT_ARGS=arguments)
    assert found == ["5", "2g", "true", "false", "mine"]


def test_the_commands_of_the_readme_run_in_order(programs: Path, java_home: str, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (spark-w2v .+)$", readme, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["train", "neighbors", "evaluate", "export"]
    (tmp_path / "my-text").mkdir()
    (tmp_path / "my-text" / "planted.txt").write_text("war peace treaty king queen\n" * 400)
    (tmp_path / "my-wordsim353.tsv").write_text("war\tpeace\t8\nking\tqueen\t9\nwar\tqueen\t2\n")
    for command in commands:
        _, *arguments = shlex.split(command)
        done = run([programs / "spark-w2v", *arguments], tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_uv_installs_it_as_a_tool(wheel: Path, directory: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        assert run([sys.executable, "-m", "venv", tmp_path / "uv"], tmp_path).returncode == 0
        install([tmp_path / "uv" / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"], tmp_path)
        uv = str(tmp_path / "uv" / "bin" / "uv")
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    constraints = ["--constraints", ROOT / "requirements" / "run.txt", "--python", sys.executable]
    install([uv, "tool", "install", "--quiet", *constraints, wheel], tmp_path, **places)
    command = tmp_path / "bin" / "spark-w2v"
    assert run([command, "--version"], directory).stdout == f"spark-w2v {spark_w2v.__version__}\n"
    trained = run([command, "train", "--input", "text", "--output", "by-uv", *SMALL], directory)
    assert trained.returncode == 0, trained.stderr
    assert run([command, "neighbors", "by-uv", "apple"], directory).returncode == 0
    assert run([command, "export", "by-uv", "--format", "npy", "--to", "npy"], directory).returncode == 0
