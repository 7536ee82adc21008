"""What the locks of a host and of a store have in common: a heartbeat, until they are given back."""

import contextlib
import threading
from abc import ABC, abstractmethod

from spark_w2v.runs.processes import describe_holder, let_go

HEARTBEAT = 15.0  # seconds between two heartbeats
# Seconds without a heartbeat after which a lock of another host is stale: 20 heartbeats, more than clocks differ or a
# driver that collects garbage stands still.
STALE = 300.0


class HeartbeatLock(ABC):
    """A lock of this process, which others can see to be alive from `_begin` to `release` or `stop`."""

    def __init__(self) -> None:
        self._facts = describe_holder()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    @property
    def token(self) -> str:
        """The token of this run, unlike that of any other."""
        return str(self._facts["token"])

    @abstractmethod
    def is_held(self) -> bool:
        """Whether no other run has taken over."""

    @abstractmethod
    def _take(self) -> None:
        """Take the lock, or raise why not."""

    @abstractmethod
    def _sign(self) -> None:
        """Show that this process is alive."""

    @abstractmethod
    def _give_back(self) -> None:
        """Remove the lock, if it is held."""

    def _begin(self) -> None:
        try:
            self._take()
            self._thread.start()
        except BaseException:  # such as an interrupted notebook's, whose process lives on
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; nothing of it is left, unless the next run needs it."""
        with contextlib.ExitStack() as at_the_end:  # a heartbeat may wait for a store, and the user not for it
            at_the_end.callback(let_go, self.token)  # last, as another thread takes over what is not held
            at_the_end.callback(self._give_back)
            self._end_beat()

    def stop(self) -> None:
        """Stop the heartbeat; the next run of this process need not wait for the lock."""
        try:
            self._end_beat()
        finally:
            let_go(self.token)

    def _end_beat(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with contextlib.suppress(Exception):  # whatever a disk or a store says: the next one may succeed
                if self.is_held():
                    self._sign()
