"""Commands run in this process."""

from collections.abc import Callable, Sequence

import pytest


def refused_in_one_sentence(
    main: Callable[[Sequence[str]], int], arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a command that has to end with exit code 2 and one sentence; return the sentence."""
    try:
        status: object = main(arguments)
    except SystemExit as stopped:  # of argparse
        status = stopped.code
    told = capsys.readouterr()
    assert status == 2
    assert told.err.count("\n") == 1
    assert told.out == ""
    return told.err
