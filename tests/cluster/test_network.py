"""Network traffic of a run, counted by the kernel: driver and workers on three machines of a shaped network."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from bench import network
from bench.namespaces import DRIVER, WORKERS, Network, RefusedError, address
from bench.standalone import wait_until
from tests.cluster.submission import assert_same_bits, matrices

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WORDS, VOCABULARY, BLOCKS = 1_000_000, 200_000, 2
PORT = 20_000
# One model goes out and one comes back per epoch; a tenth of each is room for all else that an epoch sends.
MOST_MODELS = 2.2
MEGABYTE = 1 << 20
RECEIVE = f"""
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
print(flush=True)
connection, _ = server.accept()
while connection.recv({MEGABYTE}): pass
"""
SEND = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 5000))
started = time.monotonic()
for _ in range(int(sys.argv[2])): connection.sendall(bytes({MEGABYTE}))
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
print(time.monotonic() - started)
"""
CONNECT = """
import socket, sys
try: socket.create_connection((sys.argv[1], 1), timeout=2)
except ConnectionRefusedError: print("refused")
except OSError: print("unreachable")
"""


@contextlib.contextmanager
def skipped_where_refused() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture
def machines() -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        with skipped_where_refused():
            made = stack.enter_context(Network())
        yield made


@pytest.fixture
def bench(java_home: str, tmp_path: Path) -> Iterator[network.Bench]:
    """A cluster of two workers, all links at 1 Gbit/s, and text that has every word of the vocabulary."""
    with contextlib.ExitStack() as stack:
        with skipped_where_refused():
            made = stack.enter_context(network.started(tmp_path, WORDS, VOCABULARY))
        yield made


def python_on(machines: Network, machine: str, program: str, *arguments: str) -> list[str]:
    return [*machines.prefix(machine), sys.executable, "-c", program, *arguments]


def seconds_of_sending(machines: Network, source: str, target: str, megabytes: int) -> float:
    receive = python_on(machines, target, RECEIVE, address(target))
    with subprocess.Popen(receive, stdout=subprocess.PIPE) as receiver:
        assert receiver.stdout is not None
        receiver.stdout.readline()  # it listens
        send = python_on(machines, source, SEND, address(target), str(megabytes))
        return float(subprocess.run(send, stdout=subprocess.PIPE, text=True, check=True).stdout)


def answer(machines: Network, source: str, target: str) -> str:
    """Either "refused", as nobody listens there, or "unreachable"."""
    connect = python_on(machines, source, CONNECT, address(target))
    return subprocess.run(connect, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_a_link_passes_its_rate_and_the_kernel_counts_every_byte_once(machines: Network) -> None:
    before = machines.bytes_through(DRIVER)
    machines.shape("200mbit")
    seconds = seconds_of_sending(machines, DRIVER, WORKERS[0], 20)
    sent = machines.bytes_through(DRIVER) - before
    assert 20 * MEGABYTE <= sent < 1.05 * 20 * MEGABYTE
    assert 0.75 < seconds < 1.5  # 20 MiB at 25 MB/s take 0.84 s, the first 1 MB of them no time

    before = machines.bytes_through(DRIVER)
    machines.shape(None)
    assert seconds_of_sending(machines, *WORKERS, 20) < 0.5
    assert machines.bytes_through(DRIVER) - before < 10_000


def test_workers_apart_reach_the_driver_and_not_each_other(machines: Network) -> None:
    with machines.workers_apart():
        assert answer(machines, *WORKERS) == answer(machines, *reversed(WORKERS)) == "unreachable"
        assert {answer(machines, worker, DRIVER) for worker in WORKERS} == {"refused"}
    assert answer(machines, *WORKERS) == "refused"


def test_a_machine_without_its_link_reaches_nobody_until_it_is_back(machines: Network) -> None:
    machines.take_down(WORKERS[0])
    assert answer(machines, WORKERS[0], DRIVER) == answer(machines, DRIVER, WORKERS[0]) == "unreachable"
    assert answer(machines, DRIVER, WORKERS[1]) == "refused"
    machines.bring_up(WORKERS[0])
    assert answer(machines, WORKERS[0], DRIVER) == "refused"


def test_the_model_passes_the_driver_once_each_way_per_epoch(bench: network.Bench) -> None:
    thin = bench.train(BLOCKS, epochs=1, dimensions=network.THIN)
    one, two = bench.train(BLOCKS, epochs=1), bench.train(BLOCKS, epochs=2)
    models = [
        network.models_of_first_epoch(thin, one, VOCABULARY),
        network.models_of_later_epochs(one, two, 2, VOCABULARY),
    ]
    print(f"models in the first epoch and in the second: {models}; {thin}, {one}, {two}")
    assert min(models) > 1.9, "the parameters took another way, which this test does not see"
    assert max(models) <= MOST_MODELS


def test_workers_that_do_not_reach_each_other_end_the_run_before_the_text_is_read(bench: network.Bench) -> None:
    with bench.network.workers_apart():
        code = bench.run(BLOCKS, epochs=1, exchange__timeout=5)
    said = bench.log.read_text(errors="replace")
    assert code == 2, said
    assert re.search(
        r"task \d cannot be reached at 10\.77\.0\.\d:\d+ \(.*\); open the ports from exchange\.first_port", said
    )
    assert "distinct" not in said, "the text has been read"


@pytest.mark.parametrize("workers", [WORKERS, WORKERS[1:]])
def test_a_driver_whose_port_workers_do_not_reach_ends_the_run_before_the_text_is_read(
    workers: tuple[str, ...], bench: network.Bench
) -> None:
    with bench.network.driver_closed(PORT, workers):
        code = bench.run(BLOCKS, 1, exchange__timeout=5, exchange__first_port=PORT, exchange__last_port=PORT)
    said = bench.log.read_text(errors="replace")
    assert code == 2, said
    assert re.search(rf"the driver cannot be reached at 10\.77\.0\.1:{PORT} \(.*\); set spark\.driver\.host", said)
    assert "distinct" not in said, "the text has been read"


def test_workers_cut_apart_in_the_middle_of_a_run_are_noticed_and_change_no_bit(bench: network.Bench) -> None:
    run = partial(bench.train, 8, 3, 50, exchange__timeout=5, output__checkpoint="sweep")
    run()
    print(bench.output.joinpath("metrics.jsonl").read_text())
    expected = matrices(bench.output)
    bench.log.unlink()

    def said(words: str) -> bool:
        return bench.log.exists() and words in bench.log.read_text(errors="replace")

    def cut() -> None:
        wait_until(lambda: said("epoch 1/3"), "the second epoch begins", pause=0.02)
        with bench.network.workers_apart():
            wait_until(lambda: said("attempt 1 of 4 failed"), "the cut has been noticed", patience=120)

    with ThreadPoolExecutor(1) as threads:
        cutting = threads.submit(cut)
        run()
        cutting.result()
    assert said("epoch 2: attempt 1 of 4 failed"), "it was not the second epoch that was cut"
    assert_same_bits(bench.output, expected)
