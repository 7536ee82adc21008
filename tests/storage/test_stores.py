"""The operations of every store, over real HTTP and through a real JVM."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import RefusedError, StorageError, UserError
from spark_w2v.storage import hadoop, objects
from spark_w2v.storage.hadoop import HadoopStore
from spark_w2v.storage.objects import ObjectStore
from spark_w2v.storage.store import Store, open_store, scheme_of
from tests.support.faulty_proxy import FAULTS, Proxy

OPERATIONS: dict[str, Callable[[ObjectStore, Path], object]] = {
    "read": lambda store, _: store.read("a"),
    "write": lambda store, _: store.write("a", b"2"),
    "create": lambda store, _: store.create("b", b"2"),
    "replace": lambda store, _: store.replace("a", b"1", b"2"),
    "entries": lambda store, _: store.entries(),
    "upload": lambda store, directory: store.upload("a", directory / "from"),
    "download": lambda store, directory: store.download("a", directory / "to"),
    "delete": lambda store, _: store.delete(["b", "c"]),
}


# Whether an operation that returned `result` has done what it was to do.
DONE: dict[str, Callable[[ObjectStore, Path, Any], bool]] = {
    "read": lambda store, _, result: result == b"1",
    "write": lambda store, _, result: store.read("a") == b"2",
    "create": lambda store, _, result: result is True and store.read("b") == b"2",
    "replace": lambda store, _, result: result is True and store.read("a") == b"2",
    "entries": lambda store, _, result: set(result) == {"a", "b"},
    "upload": lambda store, directory, result: store.read("a") == (directory / "from").read_bytes(),
    "download": lambda store, directory, result: (directory / "to").read_bytes() == b"1",
    "delete": lambda store, _, result: set(store.entries()) == {"a"},
}


@pytest.fixture(params=["s3", "az", "hadoop"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A directory that does not exist yet."""
    if request.param in ("s3", "az"):
        place = request.getfixturevalue("bucket" if request.param == "s3" else "container")
        yield ObjectStore(f"{place}/{tmp_path.name}/deep")
    else:
        spark: SparkSession = request.getfixturevalue("spark")
        assert spark.sparkContext._jsc is not None
        spark.sparkContext._jsc.hadoopConfiguration().set("fs.viewfs.mounttable.stores.link./tmp", "file:///tmp")
        yield HadoopStore(f"viewfs://stores{tmp_path}/deep")


def test_a_file_is_read_as_it_was_written_last(store: Store) -> None:
    assert store.read("a/b") is None
    store.write("a/b", b"one")
    store.write("a/b", b"two")
    assert store.read("a/b") == b"two"


def test_names_are_listed_at_any_depth_with_size_and_time(store: Store) -> None:
    assert store.entries() == {}
    for name in ("top", "a/b", "a/bc/d", "ax"):
        store.write(name, b"123")
    assert set(store.entries()) == {"top", "a/b", "a/bc/d", "ax"}
    assert set(store.entries("a/")) == {"a/b", "a/bc/d"}
    assert set(store.entries("a/b")) == {"a/b", "a/bc/d"}
    assert store.entries("top")["top"].size == 3
    assert store.entries("top")["top"].modified > 1.7e9


def test_a_file_is_created_once_and_finds_its_own_content(store: Store) -> None:
    assert store.create("lock", b"mine")
    assert not store.create("lock", b"theirs")
    assert store.create("lock", b"mine")  # as after an answer that was lost
    assert store.read("lock") == b"mine"


def test_of_many_who_create_a_file_one_succeeds(store: Store) -> None:
    if isinstance(store, HadoopStore):
        pytest.skip("renaming on this host replaces; HDFS refuses")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: store.create("lock", str(number).encode()), range(8)))
    assert sum(made) == 1


def test_a_file_is_replaced_only_if_it_is_as_it_was(store: Store) -> None:
    assert store.replace("pointer", None, b"1")
    assert not store.replace("pointer", None, b"2")
    assert not store.replace("pointer", b"0", b"2")
    assert store.replace("pointer", b"1", b"2")
    assert store.read("pointer") == b"2"
    assert not store.replace("absent", b"1", b"2")


def test_every_character_of_a_path_is_one_of_its_name(store: Store) -> None:
    """As in Hadoop: two names are two places, and the one that was given."""
    opened: Any = type(store)
    names = ["a b", "a%20b", "a", "a#2", "a%", "a%2Fb", "a[1]", "a+b", "a&b=c;~", "aü", "a{b}"]
    for name in names:
        assert opened(f"{store.uri}/{name}").create("file", name.encode()), name
    assert set(store.entries()) == {f"{name}/file" for name in names}
    assert [opened(f"{store.uri}/{name}").read("file") for name in names] == [name.encode() for name in names]
    assert set(opened(f"{store.uri}/a#2").entries()) == {"file"}


def test_files_are_copied_whole_in_both_directions(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 70_000  # more than one part
    here = tmp_path / "ö d%20"  # as TMPDIR may have it
    here.mkdir()
    (here / "from").write_bytes(content)
    store.upload("a/large", here / "from")
    store.download("a/large", here / "to")
    assert (here / "to").read_bytes() == content
    assert store.entries()["a/large"].size == len(content)
    with pytest.raises(FileNotFoundError):
        store.download("absent", tmp_path / "nothing")


def test_what_is_deleted_is_gone_and_what_is_absent_is_passed_over(store: Store) -> None:
    for name in ("a/b", "a/c"):
        store.write(name, b"1")
    store.delete(["a/b", "absent", "a/never"])
    assert set(store.entries()) == {"a/c"}
    store.delete([])


def test_a_bucket_that_does_not_exist_is_the_users_mistake(bucket: str) -> None:
    del bucket
    store = ObjectStore("s3://missing-bucket/out")
    for step in (lambda: store.read("x"), lambda: store.write("x", b""), store.entries, lambda: store.create("x", b"")):
        with pytest.raises(UserError, match="no such bucket"):
            step()


def test_hdfs_without_a_host_is_the_users_mistake(spark: SparkSession) -> None:
    del spark
    with pytest.raises(RefusedError, match=r"hdfs:///out: names no host, .* or set HADOOP_CONF_DIR\.$"):
        HadoopStore("hdfs:///out")


def test_a_store_without_conditions_is_the_users_mistake(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    store = ObjectStore(f"{bucket}/x")
    with pytest.raises(UserError, match=r"/lock: the store does not let us write \(.*conditional put is") as refused:
        store.create("lock", b"1")
    assert not isinstance(refused.value, RefusedError), "which a run that has begun tries again"


def test_a_server_that_does_not_answer_may_answer_later(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del bucket
    monkeypatch.setattr(objects, "RETRY_SECONDS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="could not read"):
        ObjectStore("s3://bucket/out").read("x")


@pytest.fixture
def proxied(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Proxy, ObjectStore]]:
    """A store with the file `a`, behind a proxy."""
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    store = ObjectStore(f"{bucket}/{tmp_path.name}")
    store.write("a", b"1")
    yield proxy, store
    proxy.close()


@pytest.mark.fast_cases(20)
@pytest.mark.parametrize("operation", list(OPERATIONS))
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "delay"])
def test_any_fault_of_a_request_is_one_of_our_errors(
    proxied: tuple[Proxy, ObjectStore], operation: str, fault: str, tmp_path: Path
) -> None:
    proxy, store = proxied
    (tmp_path / "from").write_bytes(b"1" * 1000)
    for doomed in range(2):  # `replace` has two requests
        if operation == "create":
            store.delete(["b"])
        else:
            store.write("b", b"1")
        begin = proxy.requests
        proxy.fault = lambda number, *_, at=begin + doomed: fault if number == at else None
        try:
            result = OPERATIONS[operation](store, tmp_path)
        except (StorageError, RefusedError) as error:
            assert isinstance(error, RefusedError) == (fault == "403")  # noqa: PT017
            result = error
        proxy.fault = lambda *_: None
        assert isinstance(result, Exception) or DONE[operation](store, tmp_path, result)
        store.write("a", b"1")


@pytest.fixture
def in_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A file of 24 ranges of a download."""
    monkeypatch.setattr(objects, "RANGE", 1 << 18)
    content = os.urandom(6 << 20)
    (tmp_path / "from").write_bytes(content)
    return content


def test_a_download_may_take_longer_than_any_request(
    bucket: str, proxied: tuple[Proxy, ObjectStore], in_ranges: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy, _ = proxied
    monkeypatch.setattr(objects, "TIMEOUT", 2)
    monkeypatch.setattr(objects, "RETRY_SECONDS", 1)
    store = ObjectStore(f"{bucket}/{tmp_path.name}")
    store.upload("a", tmp_path / "from")
    proxy.pace = 2 << 20  # 3 s for the file, 0.1 s for a range
    store.download("a", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == in_ranges


def test_a_file_that_is_replaced_while_it_is_read_is_not_read_as_two_halves(
    proxied: tuple[Proxy, ObjectStore], in_ranges: bytes, tmp_path: Path
) -> None:
    proxy, store = proxied
    store.upload("a", tmp_path / "from")
    (tmp_path / "from").write_bytes(in_ranges[::-1])
    begin = proxy.requests

    def replace(number: int, *_: str) -> None:
        if number == begin + 3:
            store.upload("a", tmp_path / "from")

    proxy.fault = replace
    with pytest.raises(StorageError, match="was replaced while it was read"):
        store.download("a", tmp_path / "to")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AuthorizationHeaderMalformed", "a non-empty Access Key (AKID) must be provided in the credential."),
        ("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
        ("AuthorizationHeaderMalformed", "the region is wrong; expecting 'us-east-1'."),  # of MinIO
        ("PermanentRedirect", "The bucket must be addressed using the specified endpoint"),
    ],
)
def test_a_wrong_region_and_a_wrong_key_are_the_users_mistakes(
    proxied: tuple[Proxy, ObjectStore], monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    proxy, store = proxied

    def answer(request: Any, *_: Any) -> None:
        status = 400 if code == "AuthorizationHeaderMalformed" else 301
        Proxy._answer(
            proxy, request, status, [], f"<Error><Code>{code}</Code><Message>{says}</Message></Error>".encode()
        )

    monkeypatch.setattr(proxy, "_handle", answer)
    for step in (lambda: store.read("a"), lambda: store.write("a", b""), store.entries):
        with pytest.raises(RefusedError) as refused:
            step()
        assert ("set AWS_REGION to the bucket's" in str(refused.value)) == ("Access Key" not in says)


def test_errors_show_no_signature() -> None:
    said = objects._reason(ValueError("GET https://host/a?sig=abc%3D&se=1 failed, secret_key=hidden, Debug source: x"))
    assert "abc" not in said
    assert "hidden" not in said
    with pytest.raises(UserError, match="after a question mark") as caught:
        ObjectStore("s3://bucket/out?secret_key=hidden")
    assert "hidden" not in str(caught.value)


def test_a_scheme_says_which_store_it_is(spark: SparkSession) -> None:
    del spark
    assert [scheme_of(uri) for uri in ("out", "/out", "file:/out", "FILE:///out", "a:b", "d/s3:/x")] == [None] * 6
    assert scheme_of("S3://bucket/out") == "s3"
    with pytest.raises(UserError, match="is a path of this host"):
        open_store("out")
    with pytest.raises(UserError, match="nosuch"):
        open_store("nosuch://host/out")


def test_of_a_file_that_cannot_be_written_nothing_stays(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HadoopStore(f"{tmp_path.as_uri()}/deep")
    store.write("before", b"1")

    def fail(temporary: Any, name: str) -> None:
        assert len(list((tmp_path / "deep").iterdir())) > 2, "it is there"
        raise OSError("the quota is used up")

    monkeypatch.setattr(store, "_move", fail)
    (tmp_path / "from").write_bytes(b"2")
    steps: list[Callable[[], object]] = [
        lambda: store.write("after", b"2"),
        lambda: store.upload("after", tmp_path / "from"),
    ]
    for step in steps:
        with pytest.raises(OSError, match="quota"):
            step()

    def fill(file: Any, content: bytes) -> None:
        store._files.create(file, True).close()
        fail(file, "")

    monkeypatch.setattr(store, "_fill", fill)
    with pytest.raises(OSError, match="quota"):
        store.create("after", b"2")
    assert {path.name for path in (tmp_path / "deep").iterdir()} - {".before.crc"} == {"before"}


def test_a_file_that_hadoop_loses_while_it_writes_is_not_one_that_is_missing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HadoopStore(tmp_path.as_uri())
    # As of a lease that was lost, and of too many open files.
    monkeypatch.setattr(store, "_move", lambda *_: store._files.getFileStatus(store._path("nowhere")))
    with pytest.raises(StorageError, match=r"to: could not be written .*FileNotFoundException"):
        store.write("to", b"2")


def test_what_a_process_left_half_written_in_hadoop_goes_with_the_files_next_to_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = HadoopStore((tmp_path / "store").as_uri())
    store.write("run/metrics.jsonl", b"1")
    for folder, age in (("before", 4000), ("young", 0)):  # of runs that were killed while they wrote their first file
        (tmp_path / "store" / folder).mkdir(parents=True)
        (tmp_path / "store" / folder / ".writing-dead-center.f32").touch()
        os.utime(tmp_path / "store" / folder / ".writing-dead-center.f32", (0, time.time() - age))
    for name in (".writing-dead-center.f32", ".writing-alive-center.f32"):
        (tmp_path / "store" / "run" / name).write_bytes(b"half")
    os.utime(tmp_path / "store" / "run" / ".writing-dead-center.f32", (0, time.time() - 4000))
    store.delete(["run/metrics.jsonl"])
    assert os.listdir(tmp_path / "store" / "run") == [".writing-alive-center.f32"]
    os.utime(tmp_path / "store" / "run" / ".writing-alive-center.f32", (0, time.time() - 4000))
    store.delete(["run/metrics.jsonl"])
    assert os.listdir(tmp_path / "store") == ["young"]


def test_where_a_file_is_seen_when_it_is_closed_it_is_written_to_its_own_name(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spark.sparkContext._jsc is not None
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    settings.set("fs.s3a.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
    settings.set("fs.viewfs.overload.scheme.target.s3a.impl", "org.apache.hadoop.fs.LocalFileSystem")
    settings.set("fs.viewfs.mounttable.files.link./tmp", "file:///tmp")
    store = HadoopStore(f"s3a://files{tmp_path}/deep")

    def move(temporary: Any, name: str) -> None:
        raise AssertionError("it would be missing in between")

    monkeypatch.setattr(store, "_move", move)
    (tmp_path / "from").write_bytes(b"2")
    store.write("a", b"1")
    store.write("a", b"2")
    store.upload("b", tmp_path / "from")
    store.upload("b", tmp_path / "from")
    assert [store.read(name) for name in ("a", "b")] == [b"2", b"2"]

    def fail(file: Any, content: bytes) -> None:
        raise OSError("the quota is used up")

    monkeypatch.setattr(store, "_fill", fail)
    with pytest.raises(OSError, match="quota"):
        store.write("a", b"3")
    assert store.read("a") == b"2"


def test_a_file_that_is_missing_while_it_is_replaced_is_looked_for_again(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pauses = HadoopStore(tmp_path.as_uri()), list[float]()
    for name in (".writing-0a1b2c3d-lock", ".writing-0a1b2c3d-other", ".writing-0a1b2c3d-dead"):
        (tmp_path / name).write_bytes(b"new")
    os.utime(tmp_path / ".writing-0a1b2c3d-dead", (0, time.time() - 4000))

    def replace(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            os.rename(tmp_path / ".writing-0a1b2c3d-lock", tmp_path / "lock")

    monkeypatch.setattr(hadoop, "time", SimpleNamespace(time=time.time, sleep=replace))
    assert store.read("dead") is None
    assert store.read("absent") is None
    assert store.read("folder/absent") is None
    assert not pauses
    assert not store.create("lock", b"theirs")
    assert store.read("lock") == b"new"
    assert len(pauses) == 2
    assert store.read("other") is None
    assert len(pauses) == 2 + hadoop.TRIES - 1
