"""Which losses of an epoch stop a run, and the metrics of an epoch."""

import math
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spark_w2v.errors import DivergedError
from spark_w2v.exchange.driver import Snapshot
from spark_w2v.skipgram.held_out import Sample
from spark_w2v.spark.block_epochs import BlockEpoch, SweepEnded
from spark_w2v.spark.training import Training
from spark_w2v.spark.training_state import LossLimit, Progress, State, about_tasks

UNTRAINED = 6 * math.log(2)
BEGINS_WITHOUT_VECTORS = -1.0


@pytest.mark.parametrize(
    ("begins", "loss", "held_out", "is_refused"),
    [
        (BEGINS_WITHOUT_VECTORS, 1.04, 1.9, False),
        (BEGINS_WITHOUT_VECTORS, 1.06, 1.0, True),
        (BEGINS_WITHOUT_VECTORS, 1.0, 2.1, True),
        (BEGINS_WITHOUT_VECTORS, 0.51, 2.1, True),
        (BEGINS_WITHOUT_VECTORS, 0.49, 99.0, False),  # learned by heart
        (BEGINS_WITHOUT_VECTORS, 0.49, np.inf, True),
        (BEGINS_WITHOUT_VECTORS, None, None, False),
        (1.0, 1.04, 1.0, False),  # of a file, whose context vectors are zeros
        (1.0, 1.06, 1.0, True),
        (0.7, 1.06, 0.7, True),
        (1.5, 2.9, 2.9, False),
        (1.5, 3.1, 1.5, True),
        (1.5, 1.5, 3.1, True),
        (None, 9.0, None, False),
        (None, 10.1, None, True),
    ],
)
def test_a_loss_stops_a_run_by_what_the_run_began_with(
    begins: float | None, loss: float | None, held_out: float | None, is_refused: bool
) -> None:
    limit = LossLimit(negatives=5)
    if begins != BEGINS_WITHOUT_VECTORS:
        limit.begin_with(None if begins is None else begins * UNTRAINED)
    losses = [None if value is None else value * UNTRAINED for value in (loss, held_out)]
    if is_refused:
        with pytest.raises(DivergedError, match=r"per pair, and that of an untrained model 4\.159"):
            limit.check(*losses)
    else:
        limit.check(*losses)


def test_the_vectors_that_a_run_begins_with_in_the_end_count() -> None:
    """Those of known words are given first, and those of new words, which are induced, after them."""
    limit = LossLimit(negatives=5)
    limit.begin_with(1.5 * UNTRAINED)
    limit.begin_with(0.9 * UNTRAINED)
    with pytest.raises(DivergedError):
        limit.check(1.1 * UNTRAINED, UNTRAINED)


@pytest.mark.parametrize("negatives", [1, 5, 10, 15])
@pytest.mark.parametrize("pairs", [1, 777, 20_000])
def test_vectors_whose_contexts_are_zeros_are_no_worse_than_untrained_ones(negatives: int, pairs: int) -> None:
    """The loss of such vectors, which files of other programs give, is the same but for its rounding."""
    rng = np.random.default_rng(pairs)
    ids = rng.integers(0, 9, (pairs, negatives + 2)).astype(np.int32)
    center = rng.normal(size=(9, 4)).astype(np.float32)
    held_out = Sample(ids[:, 0], ids[:, 1], ids[:, 2:]).loss(center, np.zeros_like(center))
    limit, untrained = LossLimit(negatives), (1 + negatives) * float(np.log(2))
    limit.begin_with(held_out)
    with pytest.raises(DivergedError):
        limit.check(1.1 * untrained, untrained)


def test_a_held_out_loss_above_an_untrained_models_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    limit = LossLimit(negatives=5)  # 4.16 per pair
    for held_out in (4.1, 4.2, 4.3):
        limit.check(4.0, held_out)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the held-out loss is 4.2 per pair, and that of an untrained model 4.159"
    ]


def test_given_vectors_that_are_worse_than_untrained_ones_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    limit = LossLimit(negatives=5)
    limit.begin_with(5.0)
    limit.check(4.0, 4.9)
    assert not caplog.records


def test_the_slowest_host_is_that_of_the_task_that_was_busy_longest() -> None:
    tasks: list[dict[str, Any]] = [
        {"host": "a", "pairs": 20, "take_seconds": 1.0, "kernel_seconds": 5.0, "draw_seconds": 9.0},
        {"host": "b", "pairs": 10, "take_seconds": 4.0, "kernel_seconds": 3.0},
        {"host": "c", "pairs": 30, "take_seconds": 5.0, "kernel_seconds": 1.0, "wait_seconds": 9.0},
    ]
    found = {"tasks": 3, "most_task_pairs": 30, "least_task_pairs": 10, "slowest_host": "b"}
    assert about_tasks(tasks) == found
    assert about_tasks([*tasks, {}]) == found | {"tasks": 4, "least_task_pairs": 0}  # one that has told nothing
    assert about_tasks([{}])["slowest_host"] is None


def test_the_seconds_of_an_epoch_are_those_of_all_its_tasks() -> None:
    """Tasks tell sums since the attempt began; two sweeps come back, each with what was added since the one before."""
    said = [
        {0: {"draw_seconds": 1.0, "take_seconds": 2.0, "kernel_seconds": 3.0, "wait_seconds": 0.5, "words": 7}},
        {
            0: {"draw_seconds": 1.0, "take_seconds": 4.0, "kernel_seconds": 6.0, "wait_seconds": 0.75, "words": 7},
            1: {"draw_seconds": 0.25, "take_seconds": 1.0, "kernel_seconds": 8.0, "task_bytes": 80, "words": 5},
        },
    ]
    rows: Any = SimpleNamespace(center=np.ones((2, 3), np.float32), context=np.ones((2, 3), np.float32))
    store: Any = SimpleNamespace(take=lambda sweep: rows, make_next=lambda: None)
    part: Any = SimpleNamespace(
        plan=SimpleNamespace(tasks=2, timeout=1.0), changed=threading.Condition(), progress={}, tasks_joined=2,
        failure=None, is_over=False, has_ended=True, bytes=0, stats={}, snapshots=deque(),
    )  # fmt: skip

    def next_sweep(before: int = -1) -> None:
        if before + 1 == len(said):
            part.is_over = True
            return
        part.stats, part.bytes = said[before + 1], part.bytes + 100
        part.snapshots.append(Snapshot(before + 1, [(1.5, 2, 3)]))

    part.handled = next_sweep
    next_sweep()
    run: Any = SimpleNamespace(
        state=State(rows), held_out_loss=lambda: None, _limit=LossLimit(5),
        _progress=lambda epoch, done: Progress(done, epoch, 0.0, None),
    )  # fmt: skip
    job: Any = SimpleNamespace(ended=False, wait=lambda seconds: None)
    for event in BlockEpoch._watch(SimpleNamespace(), part, job, store, 0.0):  # type: ignore[arg-type]
        assert isinstance(event, SweepEnded)
        Training._add(run, event, 10.0)
    assert (run.state.loss, run.state.loss_pairs, run.state.sweep) == (3.0, 4, 2)
    metrics = Training._end_epoch(run, 0, 2, {}).metrics
    assert metrics is not None
    assert metrics == metrics | {
        "seconds": 20.0, "draw_seconds": 1.25, "pair_seconds": 6.25, "kernel_seconds": 14.0, "wait_seconds": 0.75,
        "driver_bytes": 200, "task_bytes": 80, "pairs": 6, "words": 12,
    }  # fmt: skip
    assert vars(run.state) == vars(State(rows, epoch=1, has_trained=True))
