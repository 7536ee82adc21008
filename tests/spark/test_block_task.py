"""Decisions of a task of `blocks`."""

import contextlib
import itertools
import re
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from spark_w2v.exchange.plan import ExchangeError, ExchangePlan, share_blocks
from spark_w2v.exchange.task import Bucket
from spark_w2v.skipgram.kernel import SgdParams, TrainStats
from spark_w2v.skipgram.pairs import PairCodec
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.schedule import Ring, learning_rate
from spark_w2v.spark import block_task, buckets
from spark_w2v.spark.block_task import TaskSpec, own_host, run_task

SECONDS = 0.02


@pytest.mark.parametrize(
    ("given", "seen", "host"),
    [
        ("10.0.0.7", "172.17.0.1", "10.0.0.7"),
        ("", "10.0.0.7", "10.0.0.7"),
        ("0.0.0.0", "10.0.0.7", "10.0.0.7"),
        ("::", "[fe80::1]", "fe80::1"),
        ("[fe80::2]", "10.0.0.7", "fe80::2"),
    ],
)
def test_a_task_uses_the_address_that_spark_was_told_to_use_there(
    given: str, seen: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", given)
    assert own_host(seen) == host


def train_buckets(
    monkeypatch: pytest.MonkeyPatch,
    rounds: list[int],
    context: int = 0,
    failure_after: int | None = None,
    stats: dict[str, Any] | None = None,
) -> list[tuple[SgdParams, set[int], Any]]:
    """Train buckets without pairs in a task of two blocks; waiting for each takes `SECONDS`, and training it as long.

    Returns:
        Parameters, threads of the BLAS and pairs of the centers of each call.
    """
    seen: list[tuple[SgdParams, set[int], Any]] = []

    def train_pairs(*arguments: Any, center_pairs: Any) -> TrainStats:
        threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        seen.append((next(value for value in arguments if isinstance(value, SgdParams)), threads, center_pairs))
        part.failure = "the driver is gone" if len(seen) == failure_after else None
        time.sleep(SECONDS)
        return TrainStats(pairs=0, loss=0.0, loss_pairs=0)

    def next_bucket() -> Bucket | None:
        time.sleep(SECONDS)
        return waiting.pop(0) if waiting else None

    monkeypatch.setattr(block_task, "train_pairs", train_pairs)
    plan: Any = SimpleNamespace(
        sampler=SimpleNamespace(blocks=assign_blocks(np.ones(6), 2), seed=1),
        negatives=2, damping=0.1,
        noise=np.array([0.2, 0.3, 0.1, 0.1, 0.2, 0.1]),
    )  # fmt: skip
    exchange: Any = SimpleNamespace(ring=SimpleNamespace(blocks=2), dimensions=3, centers=lambda task: range(2))
    spec = TaskSpec(exchange, ("", 0), (0, 0), b"", 1, np.array([0, 0.25, 1]), 2, (0.05, 0.0))
    rows = np.zeros((3, 3), np.float32)
    waiting = [Bucket(number, 0, context, rows, rows.copy()) for number in rounds]
    part: Any = SimpleNamespace(
        task=0, plan=exchange, changed=threading.Condition(), failure=None, has_ended=True,
        next_bucket=next_bucket, trained=lambda *_: None,
        working=contextlib.nullcontext,
    )  # fmt: skip
    node: Any = SimpleNamespace(received={}, refused=0)
    with threadpool_limits(2, "blas"):
        block_task._Worker(plan, spec, part, node, "host").run(iter([]))
    if stats is not None:
        stats |= part.stats
    return seen


def test_seconds_of_waiting_are_apart_from_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    stats: dict[str, Any] = {}
    begun = time.monotonic()
    train_buckets(monkeypatch, [0, 1, 2], stats=stats)
    seconds = time.monotonic() - begun
    assert stats["wait_seconds"] >= 4 * SECONDS  # three buckets, and the end
    assert stats["kernel_seconds"] >= 3 * SECONDS
    assert stats["wait_seconds"] + stats["take_seconds"] + stats["kernel_seconds"] <= seconds


def test_the_learning_rates_of_a_bucket_are_those_before_and_after_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(step.first_rate, step.last_rate) for step, *_ in train_buckets(monkeypatch, [0, 1, 2, 3])]
    before = [0, 0.125, 0.25, 0.625, 1]  # share of the second epoch that is trained
    rates = [learning_rate(0.05, 0.0, (1 + share) / 2) for share in before]
    assert found == list(itertools.pairwise(rates))


def test_a_task_trains_no_more_buckets_once_its_attempt_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(train_buckets(monkeypatch, [0, 1, 2, 3], failure_after=2)) == 2


def test_a_task_trains_with_one_thread_of_the_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, threads, *_),) = train_buckets(monkeypatch, [0])
    assert threads == {1}


def test_pairs_of_a_center_are_counted_once_a_sweep_with_all_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    row = PairCodec.of(assign_blocks(np.ones(6), 2), 2).row
    centers = {0: [0, 0, 2], 1: [2, 1], 4: [], 5: [1]}  # of buckets: sweep, center block, context block
    read: list[int] = []

    def bucket(spool: buckets.Spool, number: int) -> Any:
        read.append(number)
        return np.array(centers[number], np.uint32) << row

    monkeypatch.setattr(buckets.Spool, "bucket", bucket)
    found = [center_pairs.tolist() for *_, center_pairs in train_buckets(monkeypatch, [0, 1, 2], context=1)]
    assert found == [[2.0, 1.0, 2.0], [2.0, 1.0, 2.0], [0.0, 1.0, 0.0]]
    assert read == [0, 1, 1, 1, 4, 5, 5]  # each before it is trained, too


def test_a_task_that_cannot_reach_the_driver_tells_spark_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(worker: Any, batches: Any) -> None:
        with worker._part.changed:
            assert worker._part.changed.wait_for(lambda: worker._part.has_ended, 30)

    monkeypatch.setattr(block_task._Worker, "run", wait)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        plan = ExchangePlan(Ring.draw(2, 1, np.random.default_rng(1)), 0, (3, 3), 2, share_blocks(2, 1), False, 10.0)
        spec = TaskSpec(plan, ("127.0.0.1", port), (0, 0), b"secret", 0, np.array([0.0, 1.0]), 1, (0.05, 0.0))
        run_spec: Any = SimpleNamespace(sampler=SimpleNamespace(blocks=assign_blocks(np.ones(6), 2)))
        said = f"the driver cannot be reached at 127.0.0.1:{port} (Connection refused); set spark.driver.host"
        with pytest.raises(ExchangeError, match=re.escape(said)):
            run_task(run_spec, spec, 0, "127.0.0.1", iter([]))
