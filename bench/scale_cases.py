"""The runs that bench.scale measures."""

from typing import NamedTuple

from bench.singles import Single

CORES = 2
QUIET = 0.2  # cores that others may use while we measure


class Case(NamedTuple):
    """One run.

    Args:
        varied: the panel of the picture that it belongs to; "" for those that vary several things.
        fitted: whether the model is fitted on it, or only checked.
        cluster: on two executors that are processes of their own.
        snapshots: the driver gets the parameters after each sweep.
        sweeps: of the epoch; 0 is "auto".
    """

    varied: str
    fitted: bool
    words: int = 4_000_000
    vocabulary: int = 50_000
    dimensions: int = 100
    blocks: int = 2
    synthetic: bool = True
    cluster: bool = False
    snapshots: bool = False
    sweeps: int = 0


M = 1_000_000
BASE = Case("base", True)

# Fitted on the small, checked on the large: what the model is for is going on from what was measured.
# The base case three times, apart, shows how far the machine itself changes meanwhile.
FULL = [
    BASE,
    *[Case("words", n < 8 * M, words=n) for n in (1 * M, 8 * M, 16 * M)],
    *[Case("dimensions", n < 400, dimensions=n) for n in (50, 200, 400)],
    BASE,
    *[Case("vocabulary", n < M, vocabulary=n) for n in (10_000, 200_000, M)],
    *[Case("blocks", True, blocks=n) for n in (1, 4, 8)],
    Case("cluster", True, cluster=True),
    Case("cluster", True, words=16 * M, cluster=True),
    Case("cluster", True, vocabulary=200_000, cluster=True),
    Case("cluster", True, blocks=4, cluster=True),
    Case("cluster", True, vocabulary=200_000, blocks=8, cluster=True),
    # With as many blocks as tasks, each block is waited for: many blocks, small and large, tell what one takes.
    *[Case("", True, words=M, vocabulary=n, sweeps=100, cluster=on) for n in (10_000, 200_000) for on in (False, True)],
    Case("", False, words=0, vocabulary=0, blocks=4, synthetic=False),
    Case("", False, words=8 * M, vocabulary=200_000, dimensions=200, blocks=4),
    BASE,
    Case("blocks", False, blocks=16),
    Case("blocks", False, blocks=32),
    Case("cluster", False, blocks=16, cluster=True),
    Case("cluster", False, vocabulary=M, cluster=True),
    Case("cluster", False, vocabulary=200_000, blocks=4, cluster=True, snapshots=True),
]

SMALL = Case("base", True, words=200_000, vocabulary=2_000)

QUICK = [
    SMALL,
    SMALL._replace(varied="words", words=100_000),
    SMALL._replace(varied="dimensions", dimensions=200),
    SMALL._replace(varied="vocabulary", vocabulary=20_000),
    SMALL._replace(varied="blocks", blocks=4),
    SMALL._replace(varied="words", words=800_000, fitted=False),
    SMALL._replace(varied="cluster", cluster=True),
]

SINGLES = [
    Single(True, 10**9, 10**6, 64),
    Single(False, 10**9, 10**6, 512),
    Single(False, 10**9, 10**5, 64),
    Single(True, 10**9, 10**5, 390),
    Single(False, 10**9, 10**7, 64),
    Single(True, 10**9, 10**7, 512),
    Single(False, 10**11, 10**6, 64),
    Single(True, 10**11, 10**6, 512),
]

QUICK_SINGLES = [Single(True, 10**8, 10**5, 64), Single(False, 10**8, 10**5, 128)]
