"""The limit of the BLAS where several need it at the same time."""

import contextlib

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from spark_w2v.skipgram.one_thread import one_blas_thread


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_limit_lasts_until_the_last_one_ends_and_is_undone_then() -> None:
    assert (np.ones((2, 2)) @ np.ones((2, 2)) == 2).all()  # its BLAS is loaded
    with threadpool_limits(2, "blas"), contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        assert threads() == {2}
        first.enter_context(one_blas_thread())
        second.enter_context(one_blas_thread())
        first.close()
        assert threads() == {1}
        second.close()
        assert threads() == {2}
