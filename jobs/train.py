"""Text to embeddings: spark-submit jobs/train.py CONFIG --input PATH... --output DIR. The work is in spark_w2v.job."""

import sys
from pathlib import Path

try:
    import spark_w2v  # noqa: F401
except ImportError:  # spark-submit puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spark_w2v.spark.workers import leave_out_archives

if __name__ == "__main__":
    leave_out_archives()  # before PySpark is imported
    from spark_w2v.command_line import leave
    from spark_w2v.job import train

    leave(train)
