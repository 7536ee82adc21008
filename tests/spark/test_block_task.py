"""What a task of `blocks` decides by itself."""

import pytest

from spark_w2v.spark.block_task import own_host


@pytest.mark.parametrize(
    ("given", "seen", "host"),
    [
        ("10.0.0.7", "172.17.0.1", "10.0.0.7"),
        ("", "10.0.0.7", "10.0.0.7"),
        ("0.0.0.0", "10.0.0.7", "10.0.0.7"),
        ("::", "[fe80::1]", "fe80::1"),
        ("[fe80::2]", "10.0.0.7", "fe80::2"),
    ],
)
def test_a_task_uses_the_address_that_spark_was_told_to_use_there(
    given: str, seen: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", given)
    assert own_host(seen) == host
