"""Whatever a store does to a run, and whenever the run dies: the output is the right one, or the one before.

STORE_FAULTS in the environment sets how many faults the slow tests draw (20), STORE_FAULTS_SEED which ones. A failure
prints the seed.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spark_w2v.runs import ids
from spark_w2v.runs.stored import StoredOutput
from tests.support.faulty_proxy import FAULTS, Proxy, left_of_runs, separate_host
from tests.support.run_without_spark import expected, text_of

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
FAULT_COUNT = int(os.environ.get("STORE_FAULTS", "20"))  # 200 by `make test-faults`, which take 20 minutes
SEED = int(os.environ.get("STORE_FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
LIMIT = 300 + 12 * FAULT_COUNT  # seconds; a fault takes 6


@pytest.fixture
def chance() -> random.Random:
    """The draws of the slow tests, different each time."""
    print(f"STORE_FAULTS_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture
def proxy(bucket: str) -> Iterator[Proxy]:
    del bucket
    made = Proxy(os.environ["AWS_ENDPOINT_URL"])
    yield made
    made.close()


class Host:
    """A host on which a run finds nothing that another host has.

    Args:
        url: of the store, as this host sees it.
    """

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.environment = separate_host(directory, url) | {"PYTHONPATH": str(ROOT)}

    def start(self, output: str, *options: Any) -> "subprocess.Popen[str]":
        """Start a run."""
        command = [sys.executable, "-m", "tests.support.run_without_spark", output, "--epochs", str(EPOCHS), *options]
        return subprocess.Popen(
            [str(word) for word in command], cwd=self.directory / "work", env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, output: str, *options: Any) -> tuple[int, str]:
        """Return the exit code of a run, and what it printed."""
        process = self.start(output, *options)
        _, said = process.communicate(timeout=120)
        return process.returncode, said


def content(output: str) -> list[str]:
    """Return what a reader gets now."""
    parts = sorted((ids.directory_of(output) / "embeddings").iterdir())
    return [part.read_text() for part in parts]


def value_of(output: str) -> float:
    """Return the one number that is in all parts that a reader gets now."""
    found = content(output)
    assert found == [text_of(json.loads(found[0])["value"], part) for part in range(3)]
    return float(json.loads(found[0])["value"])


def kill_and_go_on(bucket: str, tmp_path: Path, proxy: Proxy, kills: int, chance: random.Random) -> None:
    """Replace an earlier output by runs that are killed at requests that are drawn, of all kinds.

    One more is killed at the request that follows the upload of its first checkpoint.
    """
    url = os.environ["AWS_ENDPOINT_URL"]
    before = proxy.requests
    measured = Host(tmp_path / "measured", proxy.url)
    output = f"{bucket}/{tmp_path.name}"
    assert measured.run(output) == (0, "")
    requests = proxy.requests - before
    moments = sorted(chance.sample(range(3, requests), min(kills, requests - 3)))
    for moment in (0, *moments):
        host = Host(tmp_path / f"a{moment}", proxy.url)
        begin = proxy.requests
        process, uploaded = host.start(output, "--overwrite", "--resume"), threading.Event()

        def kill(number: int, method: str, path: str) -> None:
            if number == begin + moment if moment else uploaded.is_set():  # noqa: B023
                process.send_signal(signal.SIGKILL)  # noqa: B023
                time.sleep(0.05)
            elif method == "PUT" and path.endswith("/manifest.json"):  # the last file of a checkpoint
                uploaded.set()  # noqa: B023

        proxy.fault = kill
        process.communicate(timeout=120)
        proxy.fault = lambda *_: None
        assert process.returncode in (0, -signal.SIGKILL)
        assert value_of(output) == expected(EPOCHS)
        other = Host(tmp_path / f"b{moment}", url)
        again = other.start(output, "--overwrite", "--resume")
        printed, _ = again.communicate(timeout=120)
        assert again.returncode == 0
        assert moment or re.search("^resumed [12]$", printed, re.MULTILINE), "it is not trained from the start"
        assert value_of(output) == expected(EPOCHS)
        assert left_of_runs(output) == []
        assert list((other.directory / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_run_on_another_host_goes_on_where_a_killed_one_was(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    kill_and_go_on(bucket, tmp_path, proxy, 3, random.Random(1))


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
def test_runs_on_other_hosts_go_on_where_many_killed_ones_were(
    bucket: str, tmp_path: Path, proxy: Proxy, chance: random.Random
) -> None:
    kill_and_go_on(bucket, tmp_path, proxy, max(1, FAULT_COUNT // 4), chance)


@pytest.mark.slow
def test_a_run_that_died_before_it_moved_the_pointer_is_published_by_the_next_run(
    bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    output = f"{bucket}/{tmp_path.name}"
    host = Host(tmp_path / "host", proxy.url)
    assert host.run(output, "--epochs", "1")[0] == 0
    process = host.start(output, "--overwrite")

    def kill(number: int, method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("/CURRENT"):
            process.kill()
            process.wait()
            return "cut"
        return None

    proxy.fault = kill
    process.communicate()
    proxy.fault = lambda *_: None
    assert value_of(output) == expected(1)
    place = StoredOutput(output)
    lock = place.lock()
    assert value_of(output) == expected(EPOCHS)
    place.forget()
    place.leave()
    lock.release()
    assert left_of_runs(output) == []


@pytest.mark.slow
def test_readers_see_whole_outputs_while_runs_die(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    output = f"{bucket}/{tmp_path.name}"
    host = Host(tmp_path / "host", proxy.url)
    assert host.run(output)[0] == 0
    chance = random.Random(2)
    with ThreadPoolExecutor(1) as threads:
        ended = False

        def read() -> int:
            number = 0
            while not ended:
                assert value_of(output) == expected(EPOCHS)
                number += 1
                time.sleep(0.05)
            return number

        reading = threads.submit(read)
        for _ in range(2):
            process = host.start(output, "--overwrite", "--pause", "0.1")
            time.sleep(chance.uniform(0.8, 2.0))
            process.kill()
            process.communicate()
            assert host.run(output, "--overwrite", "--resume")[0] == 0
        ended = True
        assert reading.result() > 2


def faulty_runs(bucket: str, tmp_path: Path, proxy: Proxy, faults: int, chance: random.Random) -> None:
    """Start runs with one fault each, after a run that published another value; then one that is not disturbed."""
    url = os.environ["AWS_ENDPOINT_URL"]
    first = f"{bucket}/{tmp_path.name}-measured"
    host = Host(tmp_path / "host", proxy.url)
    before = proxy.requests
    assert host.run(first)[0] == 0
    requests = proxy.requests - before
    for number in range(faults):
        output = f"{bucket}/{tmp_path.name}-{number}"
        kind, moment = FAULTS[number % len(FAULTS)], chance.randrange(requests)
        assert Host(tmp_path / "calm", url).run(output, "--epochs", 1)[0] == 0
        old, begin = value_of(output), proxy.requests
        assert old != expected(EPOCHS)

        def fault(request: int, method: str, path: str) -> str | None:
            return kind if request == begin + moment else None  # noqa: B023

        proxy.fault = fault
        code, said = host.run(output, "--overwrite")
        proxy.fault = lambda *_: None
        # Before the run has begun, a store that forbids is for the user to fix.
        assert code in (0, 75) or (code == 2 and kind == "403" and moment < 6), (kind, moment, code, said)
        assert len(said.strip().splitlines()) <= 2, said
        assert "Traceback" not in said
        assert value_of(output) in (old, expected(EPOCHS))
        assert code != 0 or value_of(output) == expected(EPOCHS), (kind, moment)
        if code:
            again, said = host.run(output, "--overwrite", "--resume")
            assert again == 0, (kind, moment, said)
        assert value_of(output) == expected(EPOCHS)
        assert left_of_runs(output) == [], (kind, moment)


@pytest.mark.slow
def test_faults_of_a_store_end_a_run_well_or_with_75(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    faulty_runs(bucket, tmp_path, proxy, 2, random.Random(3))


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
def test_many_faults_of_a_store_end_a_run_well_or_with_75(
    bucket: str, tmp_path: Path, proxy: Proxy, chance: random.Random
) -> None:
    faulty_runs(bucket, tmp_path, proxy, FAULT_COUNT, chance)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ("503", "cut")])
def test_a_store_that_is_gone_for_good_ends_a_run_in_a_few_times_of_a_request(
    bucket: str, tmp_path: Path, proxy: Proxy, kind: str
) -> None:
    output, retry = f"{bucket}/{tmp_path.name}", 2
    host = Host(tmp_path / "host", proxy.url)
    assert host.run(output, "--epochs", "1")[0] == 0
    process = host.start(output, "--overwrite", "--retry", retry)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    proxy.fault = lambda *_: kind
    # A handful of requests, of which each ends when it was tried again for so long and has waited once more.
    _, said = process.communicate(timeout=30 * retry)
    assert process.returncode == 75, said
    assert "the store could not" in said
    assert len(said.splitlines()) <= 2
    proxy.fault = lambda *_: None
    assert value_of(output) == expected(1)
    assert host.run(output, "--overwrite", "--resume")[0] == 0
    assert value_of(output) == expected(EPOCHS)
    assert left_of_runs(output) == []


def leave_a_stale_lock(bucket: str, tmp_path: Path, output: str) -> None:
    """Leave the lock of a driver that is killed while it trains."""
    host = Host(tmp_path / "dead", os.environ["AWS_ENDPOINT_URL"])
    process = host.start(output, "--until", "/nonexistent")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate()


def contend(bucket: str, tmp_path: Path, name: str, contenders: int) -> None:
    output = f"{bucket}/{tmp_path.name}-{name}"
    leave_a_stale_lock(bucket, tmp_path, output)
    host = Host(tmp_path / "host", os.environ["AWS_ENDPOINT_URL"])
    go = tmp_path / f"go-{name}"
    processes = [host.start(output, "--until", go) for _ in range(contenders)]
    deadline = time.monotonic() + 120
    while sum(process.poll() is None for process in processes) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    go.touch()
    codes = [process.wait(60) for process in processes]
    said = [process.communicate()[1] for process in processes]
    assert sorted(codes) == [0] + [75] * (contenders - 1), said
    assert value_of(output) == expected(EPOCHS)
    assert left_of_runs(output) == []


@pytest.mark.slow
def test_of_drivers_at_once_one_trains(bucket: str, tmp_path: Path) -> None:
    contend(bucket, tmp_path, "once", 6)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
def test_of_twenty_drivers_at_once_one_trains_each_time(bucket: str, tmp_path: Path) -> None:
    for number in range(max(1, FAULT_COUNT // 20)):
        contend(bucket, tmp_path, str(number), 20)


@pytest.mark.slow
def test_a_driver_that_stood_still_publishes_nothing(bucket: str, tmp_path: Path) -> None:
    output = f"{bucket}/{tmp_path.name}"
    url = os.environ["AWS_ENDPOINT_URL"]
    go = tmp_path / "go"
    slow = Host(tmp_path / "slow", url).start(output, "--stale", 2, "--elsewhere", "--until", go, "--epochs", 1)
    assert slow.stdout is not None
    assert slow.stdout.readline() == "begun\n"
    slow.send_signal(signal.SIGSTOP)
    time.sleep(4.5)
    assert Host(tmp_path / "fast", url).run(output, "--stale", 2, "--elsewhere")[0] == 0
    go.touch()
    slow.send_signal(signal.SIGCONT)
    _, said = slow.communicate(timeout=60)
    assert slow.returncode == 75
    assert "another run has taken over this output" in said
    assert value_of(output) == expected(EPOCHS)
    assert left_of_runs(output) == []
