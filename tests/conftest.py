"""One Spark session for all tests that ask for it; whoever does not ask starts no JVM."""

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


ROOT = Path(__file__).resolve().parents[1]

# Before any JVM or worker starts. Workers take whatever python3 is on PATH unless told; a SPARK_HOME or a PYTHONPATH of
# this machine would bring in another Spark than the one pinned.
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ.pop("SPARK_HOME", None)
os.environ.pop("SPARK_CONF_DIR", None)

# The same examples every time, so that a failure can be repeated; no deadline, as a test may be slow on a busy machine.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases that `fast_cases` leaves out."""
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("fast_cases"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def java_home() -> str:
    """The Java that `make` would use, also when the tests are started by hand; set in this process's environment."""
    found = subprocess.run([ROOT / "scripts" / "java_home"], stdout=subprocess.PIPE, text=True, check=True)
    os.environ["JAVA_HOME"] = found.stdout.strip()
    return os.environ["JAVA_HOME"]


@pytest.fixture(scope="session")
def spark(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """A local session with two task slots, made to start fast rather than to run fast."""
    from pyspark.sql import SparkSession

    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.default.parallelism", "2")
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.local.dir", str(scratch / "local"))
        .config("spark.driver.memory", "1g")
        # Compiling a query takes longer than running it on a few rows; the job's own tests have it compiled.
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        # What Spark keeps of jobs that have ended has to be at its limit before test_soak.py looks at the heap.
        .config("spark.ui.retainedJobs", "8")
        .config("spark.ui.retainedStages", "8")
        .config("spark.ui.retainedTasks", "32")
        .config("spark.sql.ui.retainedExecutions", "4")
        # As in conf/spark-defaults.conf: tasks start 45 ms sooner each; and as the job does then.
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.python.daemon.module", "spark_w2v.spark.workers")
        .config("spark.driver.extraClassPath", ".venv/log4j2.jar")
        .config(
            "spark.driver.extraJavaOptions",
            # Compiling less makes small jobs start sooner. A collection leaves a twentieth of the heap as it is unless
            # told, which test_soak.py would take for objects that live.
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:MarkSweepAlwaysCompactCount=1 "
            "-XX:SharedArchiveFile=.venv/classes.jsa -Xlog:cds*=off",
        )
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on loopback, which the environment leads to."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    lock, put_object = threading.Lock(), S3Response.put_object

    def put_alone(response: S3Response) -> Any:
        with lock:  # moto looks for an object and then makes it, where S3 does both in one step
            return put_object(response)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(S3Response, "put_object", put_alone)
        for name, value in variables.items():
            patched.setenv(name, value)
        import boto3  # type: ignore[import-untyped]

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container of Azurite, on loopback, which the environment leads to."""
    program = ROOT / "build" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        pytest.skip("no Azurite; scripts/get_azurite installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = str(tmp_path_factory.mktemp("azurite"))
    command = [str(program), "--silent", "--skipApiVersionCheck", "--location", folder, "--blobHost", "127.0.0.1"]
    server = subprocess.Popen([*command, "--blobPort", str(port)])
    variables = {
        # The account that Azurite has, and everybody knows.
        "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
        "AZURE_STORAGE_ACCOUNT_KEY": (
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
        ),
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/devstoreaccount1",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, "Azurite did not start"
            time.sleep(0.1)
        _make_container(port)
        yield "az://container"
    server.kill()
    server.wait()


def _make_container(port: int) -> None:
    """Send the one request of Azure's that the library has no call for, signed with the shared key."""
    account, key = os.environ["AZURE_STORAGE_ACCOUNT_NAME"], base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
    date = email.utils.formatdate(usegmt=True)
    signed = (
        f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n"
        f"/{account}/{account}/container\nrestype:container"
    )
    signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {
        "x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {account}:{signature}",
        "Content-Length": "0",
    }  # fmt: skip
    connection.request("PUT", f"/{account}/container?restype=container", headers=headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == 201, said
