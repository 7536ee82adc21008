"""How good vectors are: evaluate.py OUTPUT --pairs FILE... --analogies FILE... [--compare OTHER]. Needs no Spark.

With --fail-below it is the gate between training and publishing: another exit code when the vectors got worse.
"""

import sys
from pathlib import Path

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spark_w2v.command_line import leave
from spark_w2v.commands.evaluate import main

if __name__ == "__main__":
    leave(main)
