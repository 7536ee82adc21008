"""What a user reads of a training that goes on."""

from spark_w2v.spark.training_state import Progress
from spark_w2v.terminal import duration


def epoch_line(progress: Progress, epochs: int) -> str:
    """Return one line on an epoch that has ended."""
    m = progress.metrics
    assert m is not None
    return (
        f"epoch {m['epoch']}/{epochs}: loss {shown_loss(m['loss'])}, held out {shown_loss(m['held_out_loss'])}, "
        f"rate {m['learning_rate']:.4f}, {m['words']:,} words, {m['pairs']:,} pairs, "
        f"{m['words_per_second']:,} words/s, {duration(progress.left or 0.0)} left"
    )


def progress_text(progress: Progress, epochs: int) -> str:
    """Return where the training is, for a line that moves."""
    doing = "drawing pairs" if progress.is_drawing else f"loss {shown_loss(progress.loss)}"
    left = "" if progress.left is None else f", {duration(progress.left)} left"
    return f"epoch {min(progress.epoch + 1, epochs)}/{epochs}, {doing}{left}"


def shown_loss(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"
