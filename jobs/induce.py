"""Give words vectors from a text, with Spark: induce.py OUTPUT --input PATH ... --words FILE --to DIR [--overwrite]."""

import sys
from pathlib import Path

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spark_w2v.command_line import leave
from spark_w2v.commands.induce import main

if __name__ == "__main__":
    leave(main)
