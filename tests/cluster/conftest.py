"""One standalone cluster for all tests that ask for it, and the package as `make package` builds it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.standalone import ARCHIVE, PLAIN_JVM, PROGRAMS, QUICK_JVM, ROOT, Cluster, bare_python, environment
from tests.cluster.submission import planted_corpus


@pytest.fixture(scope="session", autouse=True)
def class_archive(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The archive of classes that JVMs start with, written by the JVM of a small run as it ends; kept in build/."""
    if ARCHIVE.exists():
        return
    directory = tmp_path_factory.mktemp("archive")
    corpus = planted_corpus(directory / "corpus", files=1, sentences=200)
    command = [
        PROGRAMS / "spark-submit", "--master", "local[1]", "--driver-java-options",
        f"{PLAIN_JVM} -XX:ArchiveClassesAtExit={directory / 'classes.jsa'}", "--conf", "spark.eventLog.enabled=true",
        "--conf", f"spark.eventLog.dir={directory.as_uri()}", "--conf", "spark.ui.enabled=false",
        ROOT / "jobs" / "train.py", ROOT / "conf" / "local.toml", "--input", corpus, "--output", directory / "out",
        "--set", "training.epochs=1",
    ]  # fmt: skip
    with open(directory / "printed", "wb") as log:
        run = subprocess.run(list(map(str, command)), env=environment(), stdout=log, stderr=log, check=False)
    ARCHIVE.parent.mkdir(exist_ok=True)
    if run.returncode == 0 and (directory / "classes.jsa").exists():  # not every Java can; without it all is slower
        beside = ARCHIVE.with_suffix(f".{os.getpid()}")  # two processes may come here at a time
        shutil.move(directory / "classes.jsa", beside)
        beside.rename(ARCHIVE)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what `make package` needs, so that nobody's dist/ is touched; what it makes goes to dist/ there."""
    copy = tmp_path_factory.mktemp("package")
    for name in ("Makefile", "README.md", "LICENSE", "pyproject.toml"):
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "requirements", copy / "requirements")
    shutil.copytree(ROOT / "spark_w2v", copy / "spark_w2v", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


def make(packages: Path, target: str) -> None:
    subprocess.run(
        # -o: the environment is not to be renewed from here.
        ["make", "-o", ".venv/.installed-dev", target],
        cwd=packages, env=environment(), stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def package(packages: Path) -> Path:
    """The zip of `make package`."""
    make(packages, "package-code")
    return packages / "dist" / "spark_w2v.zip"


@pytest.fixture(scope="session")
def environment_archive(packages: Path) -> Path:
    """The environment of `make package`."""
    make(packages, "package-env")
    return packages / "dist" / "environment.pex"


@pytest.fixture(scope="session")
def python_without_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="session")
def cluster(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers of one core each."""
    variables = environment(SPARK_DAEMON_JAVA_OPTS=QUICK_JVM)
    started = Cluster(tmp_path_factory.mktemp("cluster"), variables, workers=3, memory="1g")
    try:
        yield started
    finally:
        started.stop()
