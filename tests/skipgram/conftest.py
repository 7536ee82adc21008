"""Fixtures of the kernel's tests."""

import pytest

from spark_w2v.skipgram import groups, kernel
from spark_w2v.skipgram.groups import WIDTHS
from tests.support.kernel import BATCH


@pytest.fixture(params=WIDTHS)
def small_batches(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Groups of one width, two of them a set, eight pairs a batch, two noise words per context, whatever the rows."""
    sizes = {"SHARING": 2, "NOISE_PER_CONTEXT": 2, "BATCH": BATCH, "SMALLEST_BATCH": BATCH, "LOSS_STRIDE": 2}
    for name, size in {**sizes, "WIDTHS": (request.param,), "LEAST_CUT": 1}.items():
        # Each module has a copy of its own of a constant that it imports.
        for module in (groups, kernel):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, size)
    return int(request.param)
