"""The start and the end of Python workers: in local mode, Spark starts them as `python -m` of this module.

They end without a word when the JVM lets go of them. A worker that waits for its next task wakes up when the JVM closes
its socket, and answers that this was unexpected. Over TCP the answer is lost in silence. Over a Unix domain socket it
fails, and pyspark.daemon prints a traceback: a whole one when a worker was idle for a minute, its first line when the
session ends, as it is killed while it prints.
"""

import os
import signal
import sys
from collections.abc import Iterable
from typing import TypeVar

Rows = TypeVar("Rows", bound=Iterable[object])


def loaded(rows: Rows) -> Rows:
    """Return the rows, once the modules are loaded that take a worker longest: half a second of its first task."""
    import spark_w2v.spark.block_task
    import spark_w2v.text.segments  # noqa: F401

    return rows


def leave_out_archives() -> None:
    """Remove Spark's archives of PySpark and Py4J from the path where both are also installed as packages, as by pip.

    The archives hold the same modules without bytecode, and to compile those took more than a second.
    """
    home = os.environ.get("SPARK_HOME", "")
    if any(os.path.join(path, "pyspark") == home and os.path.isdir(os.path.join(path, "py4j")) for path in sys.path):
        archives = os.path.join(home, "python", "lib", "")
        sys.path[:] = [path for path in sys.path if not path.startswith(archives)]


if __name__ == "__main__":
    leave_out_archives()
    from pyspark.daemon import manager

    loaded([])  # once for all workers, which are forked from this process
    # What ends every other Unix program whose reader is gone. Workers keep it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    manager()
