"""The most memory that a step takes."""

import tracemalloc
from collections.abc import Callable

import pyarrow as pa


def peak_of(run: Callable[[], object]) -> int:
    """Bytes that Python and Arrow take at most."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] + int(pool.max_memory())
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
