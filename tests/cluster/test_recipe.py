"""The recipe of docs/deploying.md for a standalone cluster of one's own, typed."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.standalone import PROGRAMS, ROOT, environment
from tests.cluster.submission import planted_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_the_recipe_starts_a_cluster_trains_on_it_and_stops_it(java_home: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## A standalone cluster of your own\n")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert "7077" in block
    for name in ("jobs", "conf", "spark_w2v"):
        (tmp_path / name).symlink_to(ROOT / name)
    planted_corpus(tmp_path / "my-text", files=2, sentences=2000)
    variables = environment(
        SPARK_LOCAL_IP="127.0.0.1", PATH=f"{PROGRAMS}:{os.environ['PATH']}", PYSPARK_PYTHON=sys.executable,
        PYTHONPATH=str(ROOT),
    )  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-c", block.replace("7077", port)], cwd=tmp_path, env=variables, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    logs = "".join(path.read_text() for path in tmp_path.glob("my-*.log"))
    assert done.returncode == 0, done.stdout + logs
    assert (tmp_path / "my-vectors" / "_SUCCESS").exists()
    assert "epoch 5/5" in done.stdout
    assert len(done.stdout.splitlines()) <= 60
    assert len(list(tmp_path.glob("my-worker-*.log"))) == 2
