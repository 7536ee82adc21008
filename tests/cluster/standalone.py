"""Environment, Python and JVM options of the tests' standalone cluster, next to bench.standalone, which starts it."""

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

from bench.standalone import PATIENCE, PROGRAMS, Cluster, end, wait_until, with_descendants

# What the tests start and stop clusters with comes from here.
__all__ = [
    "ARCHIVE", "PATIENCE", "PLAIN_JVM", "PROGRAMS", "QUICK_JVM", "ROOT", "Cluster",
    "bare_python", "end", "environment", "wait_until", "with_descendants",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
# Compiling less makes small jobs start sooner, and so does taking Spark's classes from an archive: a session that
# counts 1,000 rows takes 5.1 s of processor with it and 9.8 s without. Java ignores an archive that is not there, or
# that is of another Java or Spark.
ARCHIVE = ROOT / "build" / f"classes-of-spark-{version('pyspark')}.jsa"
PLAIN_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
QUICK_JVM = f"{PLAIN_JVM} -XX:SharedArchiveFile={ARCHIVE}"


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would lead a child to our checkout or to another Spark."""
    dropped = {"PYTHONPATH", "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_LOCAL_IP"}
    # With these the programs of PySpark find the jars that belong to it.
    pythons = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return {name: value for name, value in os.environ.items() if name not in dropped} | pythons | more


def bare_python(directory: Path) -> Path:
    """A Python with all that this one has installed, except the checkout."""
    venv.create(directory, symlinks=True)
    here, there = (
        subprocess.run(
            [python, "-c", "import site; print(site.getsitepackages()[0])"],
            stdout=subprocess.PIPE, text=True, check=True, env=environment(),
        ).stdout.strip()
        for python in (sys.executable, directory / "bin" / "python")
    )  # fmt: skip
    # A directory that a .pth file names is put on the path; the .pth files in there, as the one that names the
    # checkout, are not read.
    Path(there, "installed.pth").write_text(f"{here}\n")
    return directory / "bin" / "python"
