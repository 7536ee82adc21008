"""A command in a pseudo-terminal of a given width, and what it wrote there when."""

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spark_w2v.text.messages import columns


@dataclass(frozen=True)
class Recording:
    """Output of a command, with times.

    Args:
        written: seconds since its start, and bytes.
        status: its exit code, minus the signal that ended it.
    """

    written: list[tuple[float, bytes]]
    status: int

    @property
    def text(self) -> str:
        return b"".join(part for _, part in self.written).decode(errors="replace")

    def longest_silence(self, since: bytes = b"") -> float:
        """Seconds between two changes of the screen.

        Args:
            since: what the first one has; by default the time until the first one counts too.
        """
        first = next(number for number, (_, part) in enumerate(self.written) if since in part)
        times = [second for second, _ in self.written[first:]]
        if not since:
            times = [0.0, *times]
        return max(after - before for before, after in itertools.pairwise(times))

    @property
    def widest(self) -> int:
        """Columns of the widest line, whatever was drawn over it afterwards."""
        return max(columns(part) for part in re.split(r"[\r\n]+", self.text))

    @property
    def lines(self) -> list[str]:
        """The lines that are left on the screen."""
        return [line.rpartition("\r")[2].rstrip() for line in self.text.replace("\r\n", "\n").split("\n")]


def record(
    command: Sequence[object], width: int, environment: Mapping[str, str], keys: Mapping[str, bytes] | None = None
) -> Recording:
    """Run a command to its end.

    Args:
        keys: by a text: what is typed once that text has appeared.
    """
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        os.execvpe(str(command[0]), [str(part) for part in command], {**os.environ, **environment})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    started, written, waiting = time.monotonic(), list[tuple[float, bytes]](), dict(keys or {})
    while True:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                part = os.read(terminal, 1 << 16)
            except OSError:  # the command has ended
                break
            written.append((time.monotonic() - started, part))
        text = b"".join(part for _, part in written).decode(errors="replace")
        for seen in [seen for seen in waiting if seen in text]:
            os.write(terminal, waiting.pop(seen))
        assert time.monotonic() - started < 240, text[-2000:]
    os.close(terminal)
    return Recording(written, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
