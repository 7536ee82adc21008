"""Where a task keeps what does not fit in its memory."""

import os


def local_directory(task: int) -> str:
    """Return a directory on the local disks that Spark gave this executor, another one for another task."""
    directories = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    return directories[task % len(directories)] or "."
