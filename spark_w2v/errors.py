"""The errors that a command turns into one sentence and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress


def printable(text: str) -> str:
    """Return a text without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, length: int = 60) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= length else text[: length - 3] + "..."


@contextmanager
def passed_on() -> Iterator[None]:
    """Mark what code of the user's raises, which is not a mistake in the input, whatever it says."""
    try:
        yield
    except Exception as error:
        with suppress(AttributeError):  # an exception that takes no more than its class says
            error.is_passed_on = True  # type: ignore[attr-defined]
        raise


def is_passed_on(error: BaseException) -> bool:
    """Whether code of the user's raised it."""
    return bool(getattr(error, "is_passed_on", False))


class UserError(ValueError):
    """The user's mistake, in one printable line: where, what was found, what is required. Exit code 2."""

    def __init__(self, message: str) -> None:
        # A key or a path may hold line ends, escape codes or lone surrogates; none of them reaches the terminal.
        # Not super(): a class that is an error of a library, too, has that one next, which may take other arguments.
        ValueError.__init__(self, printable(message))


class RefusedError(UserError):
    """A store does not let us do something: no bucket, no permission. Exit code 2 before a run has begun, then 75."""


class StorageError(RuntimeError):
    """A storage refused something that it may allow later. Exit code 75; what was stored is unharmed."""


class BusyError(UserError):
    """Another run is at work on the output; once it has ended, trying again helps. Exit code 75."""


ConfigError = UserError


class NoWordsError(UserError):
    """The corpus has no words at all."""


class OutputError(UserError):
    """Something that is not the output of a finished run, or must not become one."""


class SparkLostError(RuntimeError):
    """The attempts at an epoch failed as often as Spark lets a task fail; trying again later may help."""


class DivergedError(ArithmeticError):
    """Parameters or the loss grew without bound, or stopped being finite."""


class NotEnoughMemoryError(UserError):
    """Needs more memory than there is: what is needed, what there is, what to change."""


class NoPairsError(UserError):
    """The corpus has words, and no two of them stand together.

    Args:
        words: of the vocabulary.
        epochs: that drew no pair from sentences of two words or more; 0 where there is no such sentence.
    """

    def __init__(self, words: int, epochs: int = 0) -> None:
        self.epochs = epochs
        if epochs:
            super().__init__(
                f"no pair to train on: subsampling, the weights or the held-out sentences left none in {epochs:,} "
                f"epoch{'s' if epochs > 1 else ''}. Set vocabulary.subsample and training.held_out_words to 0, or give "
                "a longer text."
            )
            return
        one = ", which is one word alone" if words == 1 else ""
        super().__init__(
            f"no pair to train on: every sentence has fewer than two words of the vocabulary{one}. Lower "
            "vocabulary.min_count, or check that the corpus has one sentence a line."
        )
