"""The memory that the driver's machine gives: limits of control groups, of YARN, and files that are in memory."""

import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from spark_w2v.errors import NotEnoughMemoryError
from spark_w2v.spark import memory
from spark_w2v.spark.memory import Given, Need, available, check, files_in_memory, given_by, is_in_memory
from tests.spark.test_memory import ClusterContext

GB = 1 << 30
NEED = Need(model=4 * GB, driver=3 * GB, heap=GB, task=3 * GB)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def group(folder: str, limit: str, used: int, idle: int, version: int = 2) -> dict[str, str]:
    """Return the files of a control group."""
    most, current, total = memory.GROUP_FILES[2 - version]
    stat = f"anon 5\n{total}inactive_file {idle // 2}\n{total}active_file {idle - idle // 2}"
    return {f"{folder}/{most}": limit, f"{folder}/{current}": str(used), f"{folder}/memory.stat": stat}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 64 * GB),
        ({"proc/self/cgroup": "0::/", **group("sys/fs/cgroup", str(8 * GB), 3 * GB, GB)}, 6 * GB),  # in a container
        ({"proc/self/cgroup": "0::/a/b", **group("sys/fs/cgroup/a/b", str(8 * GB), 3 * GB, GB)}, 6 * GB),  # systemd
        # Slurm: the limit is that of the job, above the step.
        (
            {
                "proc/self/cgroup": "0::/job/step",
                **group("sys/fs/cgroup/job/step", "max", GB, 0),
                **group("sys/fs/cgroup/job", str(4 * GB), GB, 0),
            },
            3 * GB,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/job\n0::/",
                **group("sys/fs/cgroup/memory/job", str(5 * GB), 2 * GB, GB, 1),
                **group("sys/fs/cgroup/memory", "9223372036854771712", 2 * GB, GB, 1),
            },
            4 * GB,
        ),
        # A container of version 1 sees its own group alone, by another name.
        (
            {
                "proc/self/cgroup": "4:memory:/docker/f00",
                **group("sys/fs/cgroup/memory", str(2 * GB), GB, 0, 1),
            },
            GB,
        ),
        ({"proc/self/cgroup": "0::/", **group("sys/fs/cgroup", str(GB), 3 * GB, 0)}, 0),
    ],
)
def test_the_lowest_limit_above_a_process_counts(tmp_path: Path, files: dict[str, str], free: int) -> None:
    write(tmp_path, {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {64 << 20} kB", **files})
    assert available(tmp_path) == free


def test_a_machine_that_says_nothing_has_its_whole_memory(tmp_path: Path) -> None:
    assert (available(tmp_path) or 0) > GB // 2


def test_yarn_limits_the_drivers_python_in_cluster_mode(spark: SparkSession) -> None:
    def driver(**settings: str) -> int | None:
        named = {f"spark.{name.replace('_', '.')}": value for name, value in settings.items()}
        return given_by(cast(Any, ClusterContext(spark, {"spark.master": "yarn", **named}))).driver

    assert driver() is None
    assert driver(submit_deployMode="client", driver_memoryOverhead="1g") is None
    assert driver(submit_deployMode="cluster") == 384 << 20
    assert driver(submit_deployMode="cluster", driver_memory="10g") == GB
    assert driver(submit_deployMode="cluster", driver_memory="10g", driver_memoryOverheadFactor="0.2") == 2 * GB
    assert driver(submit_deployMode="cluster", driver_memory="10g", driver_memoryOverhead="2048") == 2 * GB


def test_a_driver_beyond_that_limit_is_refused() -> None:
    check(NEED, Given(heap=GB, driver=3 * GB))
    with pytest.raises(
        NotEnoughMemoryError, match=r"spark\.driver\.memoryOverhead is 2\.1 GB\. Raise it to 3\.6 GB, or"
    ):
        check(NEED, Given(heap=GB, driver=2 * GB))


def test_files_on_a_tmpfs_are_in_memory(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 0:5 / /my\\040tmp rw - tmpfs tmpfs rw,size=1g\n"
        "24 23 8:2 / /my\\040tmp/disk rw master:1 - xfs /dev/sdb rw\n"
        "25 22 8:3 / /over rw - ext4 /dev/sdc rw\n26 22 0:6 / /over rw - tmpfs tmpfs rw\n"
    )
    found = {path: is_in_memory(Path(path), mounts) for path in ("/a", "/my tmp/a/b", "/my tmp/disk/a", "/over", "/my")}
    assert found == {"/a": False, "/my tmp/a/b": True, "/my tmp/disk/a": False, "/over": True, "/my": False}
    mounts.write_bytes(b"22 1 8:1 / /caf\xe9 rw - ext4 /dev/sda1 rw\n23 22 0:5 / /run rw - tmpfs tmpfs rw\n")
    assert is_in_memory(Path("/run/a"), mounts)
    assert not is_in_memory(tmp_path, tmp_path / "absent")
    assert is_in_memory(Path("/dev/shm/not/there/yet"))


def test_files_in_memory_are_part_of_what_a_run_needs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    local = cast(Any, ClusterContext(spark, {"spark.master": "local[2]", "spark.local.dir": "/dev/shm/a,/b"}))
    cluster = cast(Any, ClusterContext(spark, {"spark.master": "yarn", "spark.local.dir": "/dev/shm/a"}))
    shared = Path("/dev/shm/out")
    assert files_in_memory(local, shared, GB, 1, 1e9) == 3 * GB + 8 * 10**9
    assert files_in_memory(local, tmp_path, GB, 1, 1e9) == 8 * 10**9
    assert files_in_memory(local, tmp_path, GB, 1, 0) == 0
    elsewhere = cast(Any, ClusterContext(spark, {"spark.master": "local[2]"}))  # where Java has its temporary files
    assert files_in_memory(elsewhere, tmp_path, GB, 1, 1e9) == 0
    assert files_in_memory(cluster, shared, GB, 0, 1e9) == 2 * GB
    with tempfile.TemporaryDirectory(dir="/dev/shm") as kept:  # a checkpoint is there, and will be replaced
        (Path(kept) / "center.f32").write_bytes(bytes(1000))
        assert files_in_memory(cluster, Path(kept), GB, 1, 1e9) == 3 * GB - 1000
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    assert files_in_memory(local, tmp_path, GB, 1, 1e9) == 0
    need = Need(model=GB, driver=GB, heap=GB, task=GB, files=3 * GB)
    check(need, Given(heap=GB, machine=6 * GB, slots=2))
    with pytest.raises(
        NotEnoughMemoryError, match=r"and 3\.2 GB of files in memory \(tmpfs; set TMPDIR and spark\.local"
    ):
        check(need, Given(heap=GB, machine=5 * GB, slots=2))
