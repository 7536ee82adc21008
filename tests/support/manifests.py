"""Checkpoints with manifests of any content."""

import hashlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from spark_w2v.runs import checkpoints
from spark_w2v.runs.checkpoints import Checkpoint, write_checkpoint
from tests.support.runs import parameters


def one_checkpoint(directory: Path) -> Path:
    """Write a small checkpoint, and return its directory."""
    write_checkpoint(directory, 0, Checkpoint({"epoch": 1}, parameters(directory, 1, 3), {"a": 1}, 0))
    return directory / "00000000"


def signed(body: Any, version: Any = checkpoints.FORMAT) -> bytes:
    """Return a manifest of this body whose checksum is right, as a forger would write it."""
    text = checkpoints.to_json(body)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return checkpoints.to_json({"format": version, "sha256": digest, "body": body}).encode()


def body_of(**parts: Any) -> dict[str, Any]:
    """Return the body of a manifest, with some values replaced."""
    return {"position": {}, "fingerprint": {}, "metrics_bytes": 0, "words": 3, "dimensions": 4} | parts


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
sizes = st.sampled_from([0, 1, 3, 4, -3, -4, 12, 2**31, 2**62, 2**70, True, 3.0]) | json_values
bodies = st.fixed_dictionaries(
    {
        "position": st.just({}) | json_values,
        "fingerprint": st.just({}) | json_values,
        "metrics_bytes": st.just(0) | sizes,
        "words": st.just(3) | sizes,
        "dimensions": st.just(4) | sizes,
        "digests": st.fixed_dictionaries({"center": json_values, "context": json_values}) | json_values,
    },
    optional={"more": json_values},
)
