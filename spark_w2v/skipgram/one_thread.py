"""The limit of the BLAS to one thread, with which sums have the same bits on any machine."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from threadpoolctl import threadpool_limits


class _Limit:
    """Of this process: how many need the limit, and what undoes it."""

    lock = threading.Lock()
    users = 0
    made: Any = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have the BLAS use one thread, until the last of those ends that need it at the same time.

    threadpool_limits alone restores what it found: of two that overlap, the first to end would take the limit from the
    second, which would then leave it behind.
    """
    with _Limit.lock:
        if not _Limit.users:
            _Limit.made = threadpool_limits(1, "blas")
        _Limit.users += 1
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.users -= 1
            if not _Limit.users:
                _Limit.made.restore_original_limits()
