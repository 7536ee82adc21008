"""The order in which buckets are trained: sweeps of an epoch, and the ring in which context blocks go round.

B blocks, S sweeps of an epoch. A sweep visits each of the B x B buckets once, in B rounds of B buckets that share no
row. Rounds are numbered through the epoch, 0 to S * B - 1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Measured: docs/decisions.md. Many blocks have as many rounds in two sweeps as fewer blocks in four.
FEW_BLOCKS, MANY_BLOCKS, FEW_SWEEPS, SWEEPS = 4, 64, 2, 4
FIRST_SWEEPS = 8  # growing sweeps of the first epoch at most: 1/128, 1/128, 1/64, ..., 1/2
LEAST_BUCKET = 500  # pairs of a bucket that a sweep leaves at least: with fewer the kernel takes too long per pair


def auto_sweeps(blocks: int, pairs: float) -> int:
    """Equal sweeps of an epoch, so that what one block learns reaches the others in time.

    Args:
        pairs: expected in the epoch.
    """
    enough = SWEEPS if FEW_BLOCKS < blocks < MANY_BLOCKS else FEW_SWEEPS
    return max(1, min(enough, int(pairs / blocks**2 / LEAST_BUCKET)))


def epoch_edges(epoch: int, blocks: int, sweeps: int, pairs: float) -> npt.NDArray[np.float64]:
    """(S + 1,) where an epoch is cut in sweeps, from 0 to 1: in equal ones.

    With several blocks, the first epoch begins with smaller ones, each as large as all before it: blocks that learn
    apart from the start learn coordinate systems of their own (docs/decisions.md). No smaller ones, though, than leave
    LEAST_BUCKET pairs for a bucket: many blocks have many rounds in one sweep.

    Args:
        pairs: expected in the epoch.
    """
    edges = np.arange(sweeps + 1) / sweeps
    if epoch == 0 and blocks > 1:
        growing = 0.5 ** np.arange(FIRST_SWEEPS)
        edges = np.union1d(edges, growing[growing * pairs >= LEAST_BUCKET * blocks**2])
    return edges


@dataclass(frozen=True)
class Ring:
    """The context blocks go round the center blocks, one step per round, in a direction drawn for each sweep.

    A block's next place is always beside the one that it has, also from one sweep to the next. So when neighbouring
    center blocks live on one machine, half of the model passes each machine's network card once per sweep. The order
    depends on the blocks and the generator alone, so the result depends neither on the number of tasks nor on hosts.

    Args:
        blocks: B.
        start: the context block that center block 0 meets in the first round of every sweep.
        directions: (S,) of each sweep, 1 or -1.
    """

    blocks: int
    start: int
    directions: tuple[int, ...]

    @classmethod
    def draw(cls, blocks: int, sweeps: int, rng: np.random.Generator) -> "Ring":
        """Draw a ring for an epoch of some sweeps."""
        return cls(blocks, int(rng.integers(blocks)), tuple((2 * rng.integers(0, 2, sweeps) - 1).tolist()))

    @property
    def rounds(self) -> int:
        """S * B."""
        return len(self.directions) * self.blocks

    def _offset(self, number: int) -> int:
        sweep, step = divmod(number, self.blocks)
        return self.start + self.directions[sweep] * step

    def context_of(self, number: int, center: int) -> int:
        """The context block that a center block meets in a round."""
        return (center + self._offset(number)) % self.blocks

    def center_of(self, number: int, context: int) -> int:
        """The center block that a context block meets in a round."""
        return (context - self._offset(number)) % self.blocks


def done_before(number: int, blocks: int, edges: npt.NDArray[np.float64]) -> float:
    """Share of an epoch's pairs that are trained before a round; S * B is the end of the epoch.

    It follows from the schedule alone, so that no task has to know what the others have drawn.

    Args:
        number: the round.
        edges: of epoch_edges.
    """
    sweep, step = divmod(number, blocks)
    if sweep == edges.size - 1:
        return 1.0
    return float(edges[sweep] + (edges[sweep + 1] - edges[sweep]) * step / blocks)
