"""Parts of the kernel in bench.kernel, and constants that --let sets."""

import inspect
import re

import pytest

from bench.blocks import set_constants
from bench.kernel import PARTS
from spark_w2v.skipgram import groups, kernel


def part_of(line: str) -> str:
    return next(part.name for part in PARTS if re.search(part.lines, line))


def test_every_product_and_every_sum_of_rows_has_a_part_of_its_own() -> None:
    source = [line.strip() for line in inspect.getsource(inspect.unwrap(kernel.train_pairs)).splitlines()]
    lines = [line for line in source if re.search(r"np\.(matmul|vecdot)\(|add_(rows|sums)\(|np\.take\(c\w+_rows", line)]
    assert len(lines) > 10
    assert {part_of(line) for line in lines} == {part.name for part in PARTS if part.name not in OTHERS}
    assert part_of("np.matmul(negative.transpose(0, 2, 1), z3, out=center_gradient.reshape(1))") == "center gradient"


OTHERS = ("loss", "sigma and weights", "groups, noise words, step sizes")


def test_a_constant_that_is_none_is_refused() -> None:
    before = set_constants({"NOISE_PER_CONTEXT": 8})
    try:
        assert groups.NOISE_PER_CONTEXT == 8
        with pytest.raises(ValueError, match="NOISE_PER_CONTEXTS: is no constant"):
            set_constants({"NOISE_PER_CONTEXTS": 8})
    finally:
        set_constants(before)
