"""Python workers that end without a word when the JVM lets go of them: what Spark starts as `python -m` in local mode.

A worker that waits for its next task wakes up when the JVM closes its socket, and answers that this was unexpected.
Over TCP the answer is lost in silence. Over a Unix domain socket it fails, and pyspark.daemon prints a traceback: a
whole one when a worker was idle for a minute, its first line when the session ends, as it is killed while it prints.
"""

import signal

from pyspark.daemon import manager

if __name__ == "__main__":
    # Loaded once for all workers, which are forked from this process: half a second of the first tasks.
    import spark_w2v.spark.block_task
    import spark_w2v.text.segments  # noqa: F401

    # What ends every other Unix program whose reader is gone. Workers keep it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    manager()
