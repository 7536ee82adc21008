"""One Spark session for ours and MLlib, as conf/spark-defaults.conf has it, with Java's own compiler settings."""

from pyspark.sql import SparkSession

from bench.measure import ROOT


def local_session() -> SparkSession:
    """Return a session of two cores; the JVM compiles as well as it can, because MLlib trains in it."""
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g")
    for line in (ROOT / "conf" / "spark-defaults.conf").read_text().splitlines():
        if line.startswith("spark.executorEnv.MALLOC_"):
            builder = builder.config(*line.split())
    builder = builder.config("spark.python.unix.domain.socket.enabled", "true")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    return builder.config("spark.sql.shuffle.partitions", "8").getOrCreate()
