"""Facts that both sides know beforehand: which task owns which blocks."""

import itertools

import pytest

from spark_w2v.exchange.plan import share_blocks


@pytest.mark.parametrize(
    ("blocks", "tasks", "executors", "ranges"),
    [
        (4, 2, 1, ((0, 2), (2, 4))),
        (7, 3, 1, ((0, 2), (2, 4), (4, 7))),
        (8, 4, 2, ((0, 2), (4, 6), (2, 4), (6, 8))),  # tasks 0 and 2 are on one executor, 1 and 3 on the other
        (7, 3, 2, ((0, 2), (4, 7), (2, 4))),
        (6, 6, 4, ((0, 1), (2, 3), (4, 5), (5, 6), (1, 2), (3, 4))),
        (2, 2, 5, ((0, 1), (1, 2))),
    ],
)
def test_tasks_of_one_executor_own_neighbouring_blocks(
    blocks: int, tasks: int, executors: int, ranges: tuple[tuple[int, int], ...]
) -> None:
    assert share_blocks(blocks, tasks, executors) == ranges


def test_blocks_pass_from_one_executor_to_another_as_seldom_as_can_be() -> None:
    for tasks, executors in itertools.product(range(1, 13), range(1, 6)):
        for blocks in (tasks, tasks + 1, 3 * tasks + 2):
            ranges = share_blocks(blocks, tasks, executors)
            assert sorted(block for begin, end in ranges for block in range(begin, end)) == list(range(blocks))
            assert {end - begin for begin, end in ranges} <= {blocks // tasks, blocks // tasks + 1}
            of_executors = [task % executors for _, task in sorted(zip(ranges, range(tasks), strict=True))]
            assert len(list(itertools.groupby(of_executors))) == min(tasks, executors)
