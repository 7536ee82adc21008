"""One Spark session for ours and MLlib, as conf/spark-defaults.conf has it, with Java's own compiler settings."""

from pyspark.sql import SparkSession


def local_session() -> SparkSession:
    """Return a session of two cores; the JVM compiles as well as it can, because MLlib trains in it."""
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g")
    for key in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        builder = builder.config(f"spark.executorEnv.{key}", "268435456")
    builder = builder.config("spark.python.unix.domain.socket.enabled", "true")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    return builder.config("spark.sql.shuffle.partitions", "8").getOrCreate()
