"""One standalone cluster for all tests that ask for it, and the package as `make package` builds it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.standalone import Cluster, bare_python, environment

ROOT = Path(__file__).resolve().parents[2]


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
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield started
    finally:
        started.stop()
