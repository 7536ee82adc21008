"""Every bucket once per sweep, blocks that only move to a neighbour, and sweeps that are not too small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.errors import UserError
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.skipgram.schedule import (
    LEAST_BUCKET,
    MOST_BUCKETS,
    MOST_PAIRS,
    PAIR_BITS,
    Ring,
    auto_sweeps,
    check_buckets,
    done_before,
    epoch_edges,
    equal_sweeps,
    largest_bucket,
    most_sweeps,
    share_of_run,
    stored_buckets,
)

examples = settings(max_examples=80)
MANY = 1e12  # pairs

rings = st.builds(
    lambda blocks, sweeps, seed: Ring.draw(blocks, sweeps, np.random.default_rng(seed)),
    st.integers(1, 13),
    st.integers(1, 5),
    st.integers(0, 2**32),
)


@examples
@given(ring=rings)
def test_every_bucket_is_trained_once_per_sweep(ring: Ring) -> None:
    every = sorted((i, j) for i in range(ring.blocks) for j in range(ring.blocks))
    assert ring.rounds == len(ring.directions) * ring.blocks
    for sweep in range(len(ring.directions)):
        numbers = range(sweep * ring.blocks, (sweep + 1) * ring.blocks)
        assert sorted((i, ring.context_of(n, i)) for n in numbers for i in range(ring.blocks)) == every


@examples
@given(ring=rings)
def test_no_two_buckets_of_a_round_share_a_block(ring: Ring) -> None:
    for number in range(ring.rounds):
        contexts = [ring.context_of(number, i) for i in range(ring.blocks)]
        assert sorted(contexts) == list(range(ring.blocks))
        assert [ring.center_of(number, j) for j in contexts] == list(range(ring.blocks))


@examples
@given(ring=rings)
def test_a_context_block_moves_to_a_neighbour_or_stays_also_from_one_sweep_to_the_next(ring: Ring) -> None:
    for number in range(ring.rounds - 1):
        for context in range(ring.blocks):
            moved = ring.center_of(number + 1, context) - ring.center_of(number, context)
            assert moved % ring.blocks in {0, 1, ring.blocks - 1}


def test_start_and_directions_are_drawn() -> None:
    drawn = [Ring.draw(8, 3, np.random.default_rng(seed)) for seed in range(200)]
    assert {ring.start for ring in drawn} == set(range(8))
    assert len({ring.directions for ring in drawn}) == 8
    assert Ring.draw(8, 3, np.random.default_rng(7)) == drawn[7]


def test_an_epoch_is_cut_in_equal_sweeps_and_the_first_of_several_blocks_in_growing_ones_too() -> None:
    doubling = [0.0, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    for epoch, blocks in [(0, 1), (1, 1), (1, 8)]:
        assert epoch_edges(epoch, blocks, 4, MANY).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert epoch_edges(epoch, blocks, 1, MANY).tolist() == [0.0, 1.0]
    assert epoch_edges(0, 2, 1, MANY).tolist() == [*doubling, 1.0]
    assert epoch_edges(0, 2, 4, MANY).tolist() == [*doubling, 0.75, 1.0]


@examples
@given(blocks=st.integers(2, 200), per_bucket=st.floats(0, 1e6))
def test_a_growing_sweep_has_pairs_enough_for_all_buckets(blocks: int, per_bucket: float) -> None:
    edges = epoch_edges(0, blocks, 1, per_bucket * blocks**2)
    assert (edges[0], edges[-1]) == (0.0, 1.0)
    sizes = np.diff(edges) * per_bucket
    assert sizes.size == 1 or sizes.min() >= LEAST_BUCKET * (1 - 1e-9)
    assert sizes.size == 8 or edges[1] / 2 * per_bucket < LEAST_BUCKET


@pytest.mark.parametrize(
    ("blocks", "per_bucket", "sweeps"),
    [(1, 1e6, 2), (4, 1e6, 2), (5, 1e6, 4), (63, 4, 4), (63, 3, 3), (64, 1e6, 2), (64, 2, 2), (64, 1, 1), (64, 0, 1)],
)
def test_sweeps_are_fewer_where_buckets_would_be_too_small(blocks: int, per_bucket: float, sweeps: int) -> None:
    assert auto_sweeps(blocks, per_bucket * LEAST_BUCKET * blocks**2) == sweeps


def loads_of(heaviest: float) -> np.ndarray:
    """Words of which one has this share of the load."""
    return np.append(np.full(1_000, (1 - heaviest) / 1_000), heaviest)


@pytest.mark.slow
@examples
@given(
    blocks=st.integers(1, 4096),
    sweeps=st.sampled_from([0, 1, 3, 64, 5000]),
    per_bucket=st.floats(2000, 1e9),
    heaviest=st.floats(1e-4, 0.9),
)
def test_no_epoch_of_what_is_not_refused_has_too_many_buckets_and_what_the_refusal_advises_is_not_refused(
    blocks: int, sweeps: int, per_bucket: float, heaviest: float
) -> None:
    loads, pairs = loads_of(heaviest), min(per_bucket * blocks**2, 1e15)

    def refusal(blocks: int, sweeps: int) -> str:
        largest, wanted = largest_bucket(pairs, blocks, loads), sweeps or auto_sweeps(blocks, pairs)
        try:
            check_buckets(blocks, wanted, pairs, largest, 1_000)
        except UserError as error:
            return str(error)
        most, equal = most_sweeps(blocks, wanted, pairs, largest), equal_sweeps(wanted, largest)
        assert largest / equal <= MOST_PAIRS
        if equal < 1 << 16:  # of more the edges alone are half a gigabyte
            assert [epoch_edges(epoch, blocks, equal, pairs).size - 1 for epoch in (0, 1)] == [most, equal]
        assert stored_buckets(blocks, most) <= MOST_BUCKETS
        return ""

    if said := refusal(blocks, sweeps):
        advised = int(said.rpartition(" at most ")[2].rstrip(".").replace(",", ""))
        if "set training.sweeps_per_epoch to at most" in said:
            assert refusal(blocks, advised) == ""
            assert refusal(blocks, advised + 1) != ""
        else:
            assert advised < blocks
            assert refusal(advised, sweeps) == ""


@pytest.mark.parametrize(
    ("blocks", "sweeps", "pairs", "heaviest", "says"),
    [
        (65, 16_384, 1e9, 1e-4, "65 blocks has 16,384 sweeps, and so .* training.sweeps_per_epoch to at most 4,096"),
        (8192, 2, 1e12, 1e-4, "set training.sweeps_per_epoch to at most 1"),
        (1024, 2, 5e10, 0.3, "269 sweeps, as .* about 4,500,000,000 pairs, .* training.partitions to at most 256"),
        (16_384, 2, 1e12, 1e-4, "has 2 sweeps, and so .* lower training.partitions to at most 4,096"),
    ],
)  # fmt: skip
def test_too_many_buckets_are_refused_with_what_makes_fewer(
    blocks: int, sweeps: int, pairs: float, heaviest: float, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        check_buckets(blocks, sweeps, pairs, largest_bucket(pairs, blocks, loads_of(heaviest)), 1_000)


def test_no_more_sweeps_are_taken_than_the_number_of_a_pair_has_bits_for() -> None:
    words = 10_000_000
    bits = PAIR_BITS - 2 * (assign_blocks(np.ones(words), 2).bits + 1)
    says = rf"an epoch has 100,002 sweeps, and blocks of 5,000,000 words leave {bits} bits for their number; lower"
    with pytest.raises(UserError, match=says):
        check_buckets(2, 100_000, 1e12, 1e4, words)
    check_buckets(2, 1 << bits, 1e12, 1e4, words)
    with pytest.raises(UserError, match=rf"leave {bits} bits"):
        check_buckets(2, (1 << bits) + 1, 1e12, 1e4, words)
    with pytest.raises(UserError, match=r"words leave 2 bits for their number; raise training\.partitions"):
        check_buckets(1, 1, 1e15, 1e15, 2_000_000_000)


@examples
@given(blocks=st.integers(1, 9), sweeps=st.integers(1, 5), epoch=st.integers(0, 1))
def test_rounds_of_a_sweep_have_equal_shares_of_it(blocks: int, sweeps: int, epoch: int) -> None:
    edges = epoch_edges(epoch, blocks, sweeps, MANY)
    rounds = (edges.size - 1) * blocks
    done = np.array([done_before(number, blocks, edges) for number in range(rounds + 1)])
    assert (done[0], done[-1]) == (0.0, 1.0)
    assert done[::blocks].tolist() == edges.tolist()
    np.testing.assert_allclose(np.diff(done), (np.diff(edges) / blocks).repeat(blocks), rtol=1e-9)


def test_a_sweep_goes_round_the_ring_in_its_own_direction() -> None:
    ring = Ring(3, 1, (1, -1))
    assert [ring.context_of(number, 0) for number in range(6)] == [1, 2, 0, 1, 0, 2]
    drawn = {Ring.draw(3, 8, np.random.default_rng(seed)).directions for seed in range(4)}
    assert {direction for directions in drawn for direction in directions} == {1, -1}


def test_a_run_counts_for_what_it_taught_next_to_what_was_known() -> None:
    shares = share_of_run(np.array([0, 200, 800, 2**40, 2**40, 0]), np.array([0, 0, 200, 0, 2**40, 7]))
    assert shares.dtype == np.float32
    expected = [1, 200 / 400, 400 / 1200, 200 / (200 + 2**40), (200 + 2**40) / (200 + 2**41), 1]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert shares[0] == shares[-1] == 1
