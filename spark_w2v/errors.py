"""The errors that a command turns into one sentence and an exit code."""


class UserError(ValueError):
    """The user's mistake, in one printable line: where, what was found, what is required. Exit code 2."""

    def __init__(self, message: str) -> None:
        # A key or a path may hold line ends, escape codes or lone surrogates; none of them reaches the terminal.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class RefusedError(UserError):
    """A store does not let us do something: no bucket, no permission. Exit code 2 before a run has begun, then 75."""


class StorageError(RuntimeError):
    """What a storage refused and may allow later, in one sentence. Exit code 75; what was stored is unharmed."""


class BusyError(UserError):
    """Another run is at work on the output; once it has ended, trying again helps. Exit code 75."""
