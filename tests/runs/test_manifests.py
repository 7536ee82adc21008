"""A manifest of any content, forged ones included, is read as a checkpoint or passed over."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spark_w2v.runs.checkpoints import newest_checkpoint
from tests.support.manifests import bodies, body_of, json_values, one_checkpoint, signed
from tests.support.runs import save, start

examples = settings(
    max_examples=60,  # tests/test_fuzz.py tries others
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@examples
@given(manifest=st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode()) | bodies.map(signed))
def test_any_manifest_is_a_checkpoint_or_a_warning(tmp_path: Path, manifest: bytes) -> None:
    if not (tmp_path / "00000000").exists():
        one_checkpoint(tmp_path)
    (tmp_path / "00000000" / "manifest.json").write_bytes(manifest)
    found = newest_checkpoint(tmp_path)
    assert found is None or isinstance(found.position, dict)


@examples
@given(data=st.data())
def test_files_of_any_bytes_are_read_only_as_what_the_manifest_says(tmp_path: Path, data: st.DataObject) -> None:
    words, dimensions = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))
    size = words * dimensions * 4 + data.draw(st.sampled_from([0, 0, 0, 1, -4]))
    content = data.draw(st.binary(min_size=max(0, size), max_size=max(0, size)))
    (tmp_path / "00000000").mkdir(exist_ok=True)
    for name in ("center", "context"):
        (tmp_path / "00000000" / f"{name}.f32").write_bytes(content)
    digests = dict.fromkeys(("center", "context"), hashlib.sha256(content).hexdigest())
    (tmp_path / "00000000" / "manifest.json").write_bytes(
        signed(body_of(words=words, dimensions=dimensions, digests=digests))
    )
    found = newest_checkpoint(tmp_path)
    if found is None:
        is_finite = len(content) % 4 == 0 and np.isfinite(np.frombuffer(content, "<f4")).all()
        assert not is_finite or len(content) != words * dimensions * 4 or not content
    else:
        assert found.parameters.center.shape == (words, dimensions)
        assert found.parameters.center.tobytes() == found.parameters.context.tobytes() == content


def test_a_manifest_that_claims_more_metrics_than_any_disk_has_costs_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(tmp_path / "out") as run:
        run.append_metrics({"epoch": 1})
        save(run, 1)
        manifest = run.parameters_folder / "00000000" / "manifest.json"
        body = json.loads(manifest.read_bytes())["body"] | {"metrics_bytes": 2**61}
        manifest.write_bytes(signed(body))
    with start(tmp_path / "out", resume=True) as run:
        assert "so the metrics of epochs before the checkpoint are lost" in caplog.text
        assert run.load_checkpoint() is not None
        assert run.metrics() == [{"epoch": 1}]


@pytest.mark.parametrize("name", ["manifest.json", "center.f32", "context.f32"])
def test_a_fifo_is_passed_over_and_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    path = one_checkpoint(tmp_path) / name
    path.unlink()
    os.mkfifo(path)
    assert newest_checkpoint(tmp_path) is None
    assert "is passed over, as it is damaged: " in caplog.text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"words": -3, "dimensions": -4}, "no such shape"),
        ({"words": 2**40}, "center.f32 has 48 bytes, not those of its shape"),
        ({"words": True, "dimensions": 12}, "no such shape"),
        ({"words": 12, "dimensions": 1.0}, "no such shape"),
        ({"digests": {"center": "", "context": "", "../other": ""}}, "not the digests of both files"),
        ({"digests": ["center", "context"]}, "not the digests of both files"),
        ({"digests": {"center": 7, "context": None}}, "center.f32 does not match its checksum"),
        ({"position": []}, "a part of another type"),
        ({"metrics_bytes": -1}, "a part of another type"),
        ({"digests": "not finite"}, "context.f32 has numbers that are not finite"),
    ],
)
def test_a_forged_manifest_is_told_what_is_wrong_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], sentence: str
) -> None:
    checkpoint = one_checkpoint(tmp_path)
    if change == {"digests": "not finite"}:
        (checkpoint / "context.f32").write_bytes(np.array([*range(11), np.nan], np.float32).tobytes())
        change = {}
    digests = {n: hashlib.sha256((checkpoint / f"{n}.f32").read_bytes()).hexdigest() for n in ("center", "context")}
    (checkpoint / "manifest.json").write_bytes(signed(body_of(digests=digests) | change))
    assert newest_checkpoint(tmp_path) is None
    assert sentence in caplog.text


@pytest.mark.parametrize(
    "text", ['{"a": ' * 100_000, "1" * 5000, "NaN", '{"format": 2, "sha256": "", "body": {"x": 1e999}}', "[]", "null"]
)
def test_json_that_python_cannot_read_is_damage(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (one_checkpoint(tmp_path) / "manifest.json").write_text(text)
    assert newest_checkpoint(tmp_path) is None
    assert "is passed over" in caplog.text
