"""Callbacks after each epoch, and when they end a run."""

from typing import Any

import pytest

from spark_w2v import config as configuration
from spark_w2v.callbacks import EarlyStopping, EpochCallbacks


def ends_after(stopping: EarlyStopping, losses: list[float | None]) -> int | None:
    """Return the epoch, from 1, after which a run would end."""
    for epoch, loss in enumerate(losses, 1):
        if stopping({"epoch": epoch, "held_out_loss": loss}):
            return epoch
    return None


@pytest.mark.parametrize(
    ("patience", "improvement", "losses", "last"),
    [
        (0, 0.0, [3.0, 4.0, 5.0], None),
        (1, 0.0, [3.0, 2.0, 2.0, 1.0], 3),
        (2, 0.0, [3.0, 3.5, 2.9, 3.0, 2.95, 2.0], 5),
        (1, 0.01, [3.0, 2.5, 2.49, 1.0], 3),
        (1, 0.0, [3.0, 2.5, 2.49, 1.0], None),
        (1, 0.01, [1.00, 0.995, 0.9895], 2),
        (2, 0.01, [1.00, 0.995, 0.9895, 0.985, 0.984], 5),  # the third is below 0.99 of the first, and counts
        (1, 0.0, [None, None], None),
    ],
)
def test_a_run_ends_once_the_held_out_loss_no_longer_falls(
    patience: int, improvement: float, losses: list[float | None], last: int | None
) -> None:
    assert ends_after(EarlyStopping(patience, improvement), losses) == last


def test_a_training_that_begins_knows_nothing_of_the_one_before() -> None:
    stopping = EarlyStopping(2)
    assert ends_after(stopping, [3.0, 2.5, 2.2, 2.1]) is None
    assert ends_after(stopping, [3.5, 3.0, 2.7, 2.6]) is None
    assert ends_after(stopping, [3.5, 3.6, 3.7]) == 3


def settings(**training: Any) -> configuration.Config:
    return configuration.from_dict({"training": training})


def test_every_callback_is_called_and_one_that_returns_true_ends_the_run() -> None:
    seen: list[int] = []
    callbacks = EpochCallbacks(settings(), [lambda m: m["epoch"] == 2, lambda m: seen.append(m["epoch"])])
    assert [callbacks({"epoch": epoch, "held_out_loss": 1.0}) for epoch in (1, 2)] == [False, True]
    assert seen == [1, 2]
    assert callbacks.reason == "after epoch 2: a callback asked for it"


def test_patience_without_held_out_sentences_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    settings = configuration.from_dict({"training": {"patience": 1, "epochs": 3}}, "test")
    callbacks = EpochCallbacks(settings, [])
    assert not callbacks({"epoch": 1, "held_out_loss": 2.0})
    assert not caplog.text
    callbacks = EpochCallbacks(settings, [])
    assert not any([callbacks({"epoch": epoch, "held_out_loss": None}) for epoch in (1, 2, 3)])  # noqa: C419
    assert caplog.text.count("patience ends no training here, as no sentence was held out") == 1


def test_what_a_callback_does_to_its_metrics_stays_with_it() -> None:
    seen: list[Any] = []
    callbacks: list[Any] = [lambda metrics: metrics.clear(), lambda metrics: seen.append(dict(metrics))]
    metrics = {"epoch": 1, "held_out_loss": 1.0}
    EpochCallbacks(settings(), callbacks)(metrics)
    assert seen == [metrics] == [{"epoch": 1, "held_out_loss": 1.0}]


def test_a_resumed_run_ends_where_it_would_have() -> None:
    earlier = [{"epoch": epoch, "held_out_loss": 3.0} for epoch in (1, 2, 3)]
    whole = EpochCallbacks(settings(patience=2), [])
    assert [whole(metrics) for metrics in earlier] == [False, False, True]
    resumed = EpochCallbacks(settings(patience=2), [])
    assert not resumed.replay(earlier[:2])
    assert resumed(earlier[2])
    ended = EpochCallbacks(settings(patience=2), [])
    assert ended.replay(earlier)
    assert ended.reason == whole.reason
