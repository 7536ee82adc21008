"""The order in which buckets are trained: the sweeps of an epoch, and the ring of context blocks.

B blocks, S sweeps of an epoch. A sweep visits each of the B x B buckets once, in B rounds of B buckets that share no
row. Rounds are numbered through the epoch, 0 to S * B - 1.
"""

import math
from dataclasses import dataclass

import numpy as np

from spark_w2v.errors import UserError
from spark_w2v.skipgram.sampling import frequent_share, keep_probability
from spark_w2v.types import Float32Array, Float64Array, Int64Array

# Measured: docs/measurements.md. Many blocks have as many rounds in two sweeps as fewer blocks have in four.
FEW_BLOCKS, MANY_BLOCKS, FEW_SWEEPS, SWEEPS = 4, 64, 2, 4
FIRST_SWEEPS = 8  # most growing sweeps of the first epoch: 1/128, 1/128, 1/64, ..., 1/2
LEAST_BUCKET = 500  # fewest pairs of a bucket in a sweep: with fewer the kernel takes too long per pair


def auto_sweeps(blocks: int, pairs: float) -> int:
    """Return the number of equal sweeps of an epoch that lets what one block learns reach the others in time.

    Args:
        blocks: B.
        pairs: expected number in the epoch.
    """
    enough = SWEEPS if FEW_BLOCKS < blocks < MANY_BLOCKS else FEW_SWEEPS
    return max(1, min(enough, int(pairs / blocks**2 / LEAST_BUCKET)))


def epoch_edges(epoch: int, blocks: int, sweeps: int, pairs: float) -> Float64Array:
    """Return (S + 1,) where an epoch is cut in equal sweeps, from 0 to 1.

    With several blocks, the first epoch begins with smaller sweeps, each as large as all before it together: blocks
    that learn apart from the start learn coordinate systems of their own (docs/measurements.md). A bucket has at least
    LEAST_BUCKET pairs in each of these sweeps, and they make no more buckets than MOST_BUCKETS; many blocks need fewer
    of them, as one sweep has many rounds.

    Args:
        epoch: from 0.
        blocks: B.
        sweeps: equal sweeps.
        pairs: expected number in the epoch.
    """
    edges = np.arange(sweeps + 1) / sweeps
    if epoch == 0 and blocks > 1:
        growing = 0.5 ** np.arange(FIRST_SWEEPS)
        room = max(0, MOST_BUCKETS // stored_buckets(blocks, 1) - sweeps)
        edges = np.union1d(edges, growing[growing * pairs >= LEAST_BUCKET * blocks**2][: room + 1])  # one is at 1
    return edges


def equal_sweeps(sweeps: int, largest: float) -> int:
    """Return the number of equal sweeps of an epoch, where these are wanted: more if they keep buckets at MOST_PAIRS.

    Args:
        largest: expected pairs of an epoch in its largest bucket.
    """
    return max(sweeps, math.ceil(largest / MOST_PAIRS))


def most_sweeps(blocks: int, sweeps: int, pairs: float, largest: float) -> int:
    """Return the number of sweeps of the first epoch, which has the most.

    Args:
        blocks: B.
        sweeps: equal sweeps that are wanted.
        pairs: expected number in the epoch.
        largest: expected number in its largest bucket.
    """
    return epoch_edges(0, blocks, equal_sweeps(sweeps, largest), pairs).size - 1


@dataclass(frozen=True)
class Ring:
    """Ring in which context blocks move past center blocks, one step per round, in a direction drawn for each sweep.

    A context block moves only between neighbouring center blocks, also from one sweep to the next. So when neighbouring
    center blocks are on one machine, half of the model passes each machine's network card once per sweep. The order
    depends only on the blocks and the generator, so the result depends neither on the number of tasks nor on hosts.

    Args:
        blocks: B.
        start: the context block that center block 0 meets in the first round of every sweep.
        directions: (S,) direction of each sweep, 1 or -1.
    """

    blocks: int
    start: int
    directions: tuple[int, ...]

    @classmethod
    def draw(cls, blocks: int, sweeps: int, rng: np.random.Generator) -> "Ring":
        """Draw the ring of an epoch of S sweeps."""
        return cls(blocks, int(rng.integers(blocks)), tuple((2 * rng.integers(0, 2, sweeps) - 1).tolist()))

    @property
    def rounds(self) -> int:
        """S * B."""
        return len(self.directions) * self.blocks

    def _offset(self, number: int) -> int:
        sweep, step = divmod(number, self.blocks)
        return self.start + self.directions[sweep] * step

    def context_of(self, number: int, center: int) -> int:
        """Return the context block that a center block is trained with in a round."""
        return (center + self._offset(number)) % self.blocks

    def center_of(self, number: int, context: int) -> int:
        """Return the center block that a context block is trained with in a round."""
        return (context - self._offset(number)) % self.blocks


def done_before(number: int, blocks: int, edges: Float64Array) -> float:
    """Return the share of an epoch's pairs that is trained before a round.

    It follows from the schedule alone, so that no task has to know what the others have drawn.

    Args:
        number: of the round; S * B is the end of the epoch.
        blocks: B.
        edges: as epoch_edges returns them.
    """
    sweep, step = divmod(number, blocks)
    if sweep == edges.size - 1:
        return 1.0
    return float(edges[sweep] + (edges[sweep + 1] - edges[sweep]) * step / blocks)


SMALLEST_BLOCK = 256  # words: with fewer, a word is its own noise too often, and rounds take longer than their work

# Pairs of a bucket in an epoch: with fewer, twice the blocks take more than twice the time per pair, and twice the
# cores gain nothing (docs/measurements.md).
SMALLEST_BUCKET = 2_000
# Occurrences that a run counts for beyond those that it trained on: vectors that were trained on few before are mostly
# noise. Measured in docs/measurements.md, "A week of nights".
EXTRA_OCCURRENCES = 200
SMALLEST_REPLICA = 20_000  # words of an epoch: with fewer, a copy learns nothing that the average would keep
PAIR_BITS = 64  # of the number of a pair
MOST_BUCKETS = 1 << 26  # of an epoch: a task that draws pairs counts them in 540 MB
MOST_PAIRS = 1 << 24  # approximate limit of a bucket; more sweeps keep it. = 300 MB while a task cuts them in groups


def window_contexts(window: int, shrinks: bool = True) -> float:
    """Return the expected contexts of a center within a window, and a few more: sentences end.

    Args:
        window: largest reach.
        shrinks: whether the reach is drawn, and not always the largest.
    """
    return window + 1.0 if shrinks else 2.0 * window


def expected_pairs(load: float, contexts: float) -> float:
    """Return the expected pairs of an epoch.

    Args:
        load: words that subsampling leaves.
        contexts: expected contexts of a center.
    """
    return load * contexts


def kept_words(counts: Int64Array, subsample: float) -> Float64Array:
    """Return the (V,) expected occurrences of each word in an epoch, after subsampling."""
    return counts.astype(np.float64) * kept_share(counts, subsample)


def kept_share(counts: Int64Array, subsample: float) -> Float32Array:
    """Return the (V,) probability that an occurrence of each word is trained on."""
    total = int(counts.sum())
    return keep_probability(counts, total, frequent_share(subsample, total))


def largest_bucket(pairs: float, partitions: int, loads: Float64Array) -> float:
    """Return the expected pairs of an epoch in the largest bucket.

    Blocks carry the same load, except that a word is in one block, which carries all of its load.

    Args:
        pairs: of an epoch.
        partitions: B.
        loads: (V,) expected occurrences of each word.
    """
    heaviest = float(loads.max(initial=0.0))
    return pairs / (min(partitions, loads.sum() / heaviest) if heaviest else partitions) ** 2


def share_of_run(before: Int64Array, here: Int64Array) -> Float32Array:
    """Return the (V,) share of a run's vectors in their average with the initial ones: (e + n) / (e + n + b).

    e is EXTRA_OCCURRENCES.

    Args:
        before: (V,) b, occurrences that the initial vectors of each word were trained on, over all epochs.
        here: (V,) n, those of this run.
    """
    run = EXTRA_OCCURRENCES + here.astype(np.float64)
    return (run / (run + before)).astype(np.float32)


def most_partitions(scheme: str, vocabulary: int, load: float, contexts: float) -> int:
    """Return the most partitions that a corpus is large enough for.

    Args:
        vocabulary: V.
        load: words that subsampling leaves.
        contexts: expected contexts of a center.
    """
    if scheme == "replicas":
        return max(1, int(load) // SMALLEST_REPLICA)
    by_pairs = math.isqrt(int(expected_pairs(load, contexts) / SMALLEST_BUCKET))
    return max(1, min(vocabulary // SMALLEST_BLOCK, by_pairs))


def stored_buckets(blocks: int, sweeps: int) -> int:
    """Return how many buckets a task tells apart that draws pairs: those of a power of two of blocks."""
    return sweeps << 2 * (blocks - 1).bit_length()


def check_buckets(blocks: int, sweeps: int, pairs: float, largest: float, words: int) -> None:
    """Refuse more buckets than a task that draws pairs can count, and than the number of a pair has bits for.

    Args:
        words: V.
        blocks, sweeps, pairs, largest: as for most_sweeps.

    Raises:
        UserError: one sentence.
    """
    equal, most = equal_sweeps(sweeps, largest), MOST_BUCKETS // stored_buckets(blocks, 1)
    rows = -(-words // blocks)
    bits = 2 * ((rows - 1).bit_length() + (blocks - 1).bit_length())
    slices = most_sweeps(blocks, sweeps, pairs, largest) if equal <= most else 0
    if bits + (slices - 1).bit_length() > PAIR_BITS:
        remedy = "raise training.partitions" if equal > sweeps else "lower training.sweeps_per_epoch"
        raise UserError(
            f"an epoch has {slices:,} sweeps, and blocks of {rows:,} words leave {PAIR_BITS - bits} bits for their "
            f"number; {remedy}."
        )
    if equal <= most:
        return
    why = f", as its largest bucket has about {largest:,.0f} pairs" if equal > sweeps else ""
    remedy = f"set training.sweeps_per_epoch to at most {most:,}"
    if equal_sweeps(1, largest) > most:
        fewer = blocks
        while fewer > 1 and stored_buckets(fewer, equal_sweeps(sweeps, max(largest, pairs / fewer**2))) > MOST_BUCKETS:
            fewer = 1 << (fewer - 1).bit_length() - 1  # the next smaller power of two
        remedy = f"lower training.partitions to at most {fewer:,}"
    raise UserError(
        f"an epoch of {blocks:,} blocks has {equal:,} sweeps{why}, and so more buckets of pairs than a task can count; "
        f"{remedy}."
    )


def why_no_more(scheme: str, vocabulary: int, load: float, contexts: float) -> str:
    """Return the reason for the result of most_partitions, as a clause for the log."""
    if scheme == "replicas":
        return (
            f"an epoch trains on {load:,.0f} occurrences, and replicas of fewer than {SMALLEST_REPLICA:,} add nothing"
        )
    pairs = expected_pairs(load, contexts)
    if vocabulary // SMALLEST_BLOCK <= math.isqrt(int(pairs / SMALLEST_BUCKET)):
        return f"the vocabulary has {vocabulary:,} words, and blocks of fewer than {SMALLEST_BLOCK} take longer"
    return (
        f"an epoch has about {pairs:,.0f} pairs, B blocks cut them in B x B buckets, and buckets of fewer than "
        f"{SMALLEST_BUCKET:,} pairs take longer"
    )


LEAST_RATE = 1e-4  # share of the first learning rate, as in word2vec.c


def learning_rate(first: float, last: float, done: float) -> float:
    """Return the learning rate when the share `done` of the run is done: it falls linearly, to LEAST_RATE at least.

    Args:
        first, last: rates at the beginning and at the end of the run.
    """
    return max(first * LEAST_RATE, first * (1.0 - done) + last * done)
