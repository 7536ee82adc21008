"""The Spark that several calls of one process share, where one of them started it."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from pyspark.sql import SparkSession

from spark_w2v.spark.session import start_session, stop_session


class _Started:
    """The Spark that a call of this process started, and how many calls use it."""

    lock = threading.Lock()
    session: SparkSession | None = None
    users = 0


@contextlib.contextmanager
def used_session(
    find: Callable[[], SparkSession | None], on_start: Callable[[], object] = lambda: None
) -> Iterator[SparkSession]:
    """Give a session: the one that is there, or one that is started, which the last that uses it stops.

    Args:
        find: returns the one that is there; None for none.
        on_start: called before one is started.
    """
    with _Started.lock:  # whoever comes while it starts waits for it
        session = find()
        if session is None:
            on_start()
            session = _Started.session = start_session()
            _Started.users = 0
        counts = _Started.session is not None and session.sparkContext is _Started.session.sparkContext
        _Started.users += counts
    try:
        yield session
    finally:
        if counts:
            with _Started.lock:
                _Started.users -= 1
                if not _Started.users:
                    _Started.session = None
                    stop_session(session)
