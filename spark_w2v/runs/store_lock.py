"""A lock in a store: one run at a time writes to an output, whatever host it is on.

    lock             the first holder and its token
    next-TOKEN       the holder that took over from this token, and its own token: created, never replaced
    alive-TOKEN      rewritten at every heartbeat by the holder of this token

The holder is the last of the chain that begins in `lock`. A holder is made by creating a file that must not
exist, which every store can do in one step, so that exactly one of several contenders succeeds. Comparing and replacing
is not needed.

A run publishes as the next holder after itself. So if another run has taken over, it cannot; and if it ends before it
has moved the pointer, the run that takes over moves the pointer for it, whatever ended it.
"""

import contextlib
import json
import logging
import time
from typing import Any, NamedTuple

from spark_w2v.errors import BusyError, StorageError, UserError
from spark_w2v.runs import heartbeat_lock
from spark_w2v.runs.heartbeat_lock import HeartbeatLock
from spark_w2v.runs.processes import is_alive, let_go, named, new_token
from spark_w2v.storage.store import Store

log = logging.getLogger(__name__)

LONGEST = 1000  # holders of a chain; each run that takes over makes it short again
PAUSE = 0.5  # seconds in which a store that deletes a file before it replaces it has replaced it
FOLDER = ".working/"


class Holder(NamedTuple):
    """The last of a chain.

    Args:
        facts: content of its file.
        file: the file that made it the holder.
    """

    facts: dict[str, Any]
    file: str

    @property
    def token(self) -> str:
        """The token in the names of its files."""
        return str(self.facts["token"])


class LostError(StorageError):
    """Another run has taken over."""


class StoreLock(HeartbeatLock):
    """The lock of a run on an output in a store, from the call until `release`.

    Args:
        store: the directory of the output.

    Raises:
        BusyError: another run is at work on it.
        StorageError: the store refuses.
    """

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._file = f"{FOLDER}lock"  # that made this run the holder
        self._files = [_next(self.token), _alive(self.token)]
        self._begin()

    @property
    def publishes(self) -> str | None:
        """The run whose publication is bound to this lock, by `claim` or by the holder before, and not yet complete."""
        run = self._facts.get("publishes")
        return run if isinstance(run, str) else None

    def is_held(self) -> bool:
        """Whether no other run has taken over."""
        holder = self._holder()
        return holder is not None and holder.token == self.token

    def assert_held(self) -> None:
        """Raise LostError if another run has taken over."""
        if not self.is_held():
            raise LostError(f"{self._store.uri}: another run has taken over this output, so this one stops.")

    def claim(self, run: str) -> None:
        """Bind the publication of a run to this lock, whatever happens to this process.

        Raises:
            LostError: another run has taken over.
        """
        facts = {**self._facts, "token": new_token(), "publishes": run}
        before = self.token
        try:
            if not self._store.create(_next(before), _json(facts)):
                raise LostError(f"{self._store.uri}: another run has taken over this output, so this one stops.")
        except BaseException:  # it may be there, and the answer lost
            let_go(facts["token"])
            raise
        let_go(before)
        self._facts, self._file = facts, _next(before)
        self._files += [_next(self.token), _alive(self.token)]
        try:
            # A run that took over and has ended has removed its file; then the chain does not lead here.
            self.assert_held()
        except LostError:
            self._store.delete([_next(before)])
            raise
        self._sign()

    def published(self) -> None:
        """Say that the publication is complete, so that the next run need not complete it."""
        with contextlib.suppress(StorageError, UserError):  # or the next run does it again, which changes nothing
            self._rewrite(publishes=None)
        self._facts = {**self._facts, "publishes": None}

    def _give_back(self) -> None:
        """Remove the lock, unless the next run has to complete a publication."""
        with contextlib.suppress(StorageError, UserError):
            if self.is_held() and self.publishes is not None:
                self._rewrite(has_ended=True)
            elif self.is_held():
                # The beginning of the chain first: without it there is no holder.
                self._store.delete([f"{FOLDER}lock"])
                self._store.delete(self._files)

    def _rewrite(self, **changes: Any) -> None:
        """Change the facts in the file that made this run the holder."""
        self._store.replace(self._file, _json(self._facts), _json({**self._facts, **changes}))

    def _take(self) -> None:
        for _ in range(10):  # as often as others come and go in between
            self._facts["publishes"] = None
            if self._store.create(f"{FOLDER}lock", _json(self._facts)):
                self._store.delete(self._left())  # of runs that died while they released it
                self._sign()
                return
            beginning = self._store.read(f"{FOLDER}lock")
            holder = self._holder()
            if holder is None or beginning is None:
                continue
            if not self._is_stale(holder):
                raise BusyError(
                    f"{self._store.uri}: another run is at work on it, {named(holder.facts)}; wait for it, or give "
                    "another output."
                )
            # From now on: this run may end, too, before it has moved the pointer.
            self._facts["publishes"] = holder.facts.get("publishes")
            if not self._store.create(_next(holder.token), _json(self._facts)):
                continue
            # Another may have taken over and removed this file, so that it could be made again: the chain then begins
            # elsewhere.
            if not self.is_held() or not self._store.replace(f"{FOLDER}lock", beginning, _json(self._facts)):
                self._store.delete([_next(holder.token)])
                continue
            log.warning("%s: the lock of %s is stale and is taken over", self._store.uri, named(holder.facts))
            self._store.delete(self._left())
            self._sign()
            return
        raise BusyError(f"{self._store.uri}: other runs come and go; try again.")

    def _holder(self) -> Holder | None:
        """Return the last of the chain; None where there is none."""
        file = f"{FOLDER}lock"
        facts = self._facts_in(file)
        for _ in range(LONGEST):
            if facts is None:
                return None
            after = self._facts_in(_next(str(facts["token"])))
            if after is None:
                return Holder(facts, file)
            file, facts = _next(str(facts["token"])), after
        raise UserError(f"{self._store.uri}/{file}: the lock leads nowhere; remove {FOLDER} if no run is at work.")

    def _facts_in(self, name: str) -> dict[str, Any] | None:
        content = self._store.read(name)
        if content is None:
            return None
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads(content)
            if isinstance(facts, dict) and str(facts.get("token", "")).isalnum():
                return facts
        raise UserError(
            f"{self._store.uri}/{name}: is not a lock of this version of spark_w2v; remove it if no run is at work."
        )

    def _is_stale(self, holder: Holder) -> bool:
        if holder.facts.get("has_ended"):
            return True
        alive = is_alive(holder.facts)
        if alive is not None:
            return not alive
        # Clocks of hosts differ: the store's own decides.
        probe = f"{FOLDER}probe-{self.token}"
        self._store.write(probe, b"")
        found = self._store.entries(FOLDER)
        if _alive(holder.token) not in found:  # no sign yet, or one that is being rewritten
            time.sleep(PAUSE)
            found = self._store.entries(FOLDER)
        self._store.delete([probe])
        seen = [found[name].modified for name in (holder.file, _alive(holder.token)) if name in found]
        return probe in found and bool(seen) and found[probe].modified - max(seen) > heartbeat_lock.STALE

    def _left(self) -> list[str]:
        """Return the files of all locks, except `lock` and the file of a run that has taken over from this one."""
        names = tuple(f"{FOLDER}{name}-" for name in ("next", "alive", "probe"))
        return [name for name in self._store.entries(FOLDER) if name.startswith(names) and name != _next(self.token)]

    def _sign(self) -> None:
        self._store.write(_alive(self.token), str(time.time()).encode())


def _next(token: str) -> str:
    return f"{FOLDER}next-{token}"


def _alive(token: str) -> str:
    return f"{FOLDER}alive-{token}"


def _json(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, sort_keys=True) + "\n").encode()
