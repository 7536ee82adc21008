"""Workers whose Python is not the driver's, as in a notebook where nobody set PYSPARK_PYTHON."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, spark_w2v
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("OFF")
rows = spark.range(100).select(F.array(F.lit("a"), F.lit("b")).alias("words"), F.lit("a b").alias("text"))
for call in (lambda: spark_w2v.SkipGram(inputCol="words").fit(rows), lambda: spark_w2v.train(rows, sys.argv[1])):
    try:
        call()
    except spark_w2v.errors.UserError as error:
        print("said:", error)
"""


@pytest.mark.slow
def test_workers_that_miss_a_package_are_named_in_one_sentence(java_home: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    environment = {
        "JAVA_HOME": java_home, "PYSPARK_PYTHON": str(tmp_path / "bare" / "bin" / "python"), "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_IP": "127.0.0.1", "PATH": "/usr/bin:/bin", "PYSPARK_DRIVER_PYTHON": sys.executable,
    }  # fmt: skip
    program = [sys.executable, "-c", "import spark_w2v.errors\n" + PROGRAM, str(tmp_path / "out")]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("said:")]
    assert len(said) == 2
    for line in said:
        assert "the Python of Spark's workers has no numpy" in line
        assert "set PYSPARK_PYTHON" in line
