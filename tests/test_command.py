"""The command spark-w2v: its subcommands, and what it says of itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spark_w2v
from spark_w2v.__main__ import COMMANDS, main
from tests.support.commands import refused_in_one_sentence
from tests.support.evaluation import finish

ROOT = Path(__file__).resolve().parents[1]


def test_each_file_of_jobs_is_a_subcommand_and_the_other_way_round() -> None:
    assert sorted(COMMANDS) == sorted(path.stem.replace("_", "-") for path in (ROOT / "jobs").glob("*.py"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_describes_its_arguments_under_its_own_name(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: spark-w2v {command} ")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"spark-w2v {spark_w2v.__version__}\n"


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines() if line.startswith("  ")] == list(COMMANDS)


def test_a_command_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nieghbors", "out"]) == 2
    assert capsys.readouterr().err == "spark-w2v: nieghbors is not a command; did you mean neighbors?\n"


def test_a_mistake_is_told_under_the_name_of_the_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["neighbors", str(tmp_path / "none"), "king"]) == 2
    assert capsys.readouterr().err.startswith("spark-w2v neighbors: ")


GIVEN = {
    "train": ["--input", "x", "--output", "x"],
    "evaluate": ["x", "--compare", "x"],
    "neighbors": ["x", "king"],
    "all-neighbors": ["x", "--to", "x"],
    "phrases": ["--input", "x", "--to", "x"],
    "induce": ["x", "--input", "x", "--words", "x", "--to", "x"],
    "export": ["x", "--format", "word2vec-text", "--to", "x"],
    "report": ["x"],
    "publish": ["x", "x"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_password_is_not_repeated_wherever_it_is_given(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    given, secret = GIVEN[command], "s3a://key:hush@bucket/x"
    options = [number for number, argument in enumerate(given) if argument.startswith("--")]
    paths = [number for number, argument in enumerate(given) if argument == "x"]
    mistakes = [
        [*given, f"--mistyped={secret}"],
        [*given, "--mistyped", secret],
        [*given, f"--mistyped={secret}/a b@c"],  # with white space in it, so no option to argparse
        [secret, *given],
    ]
    mistakes += [[secret if number == place else one for number, one in enumerate(given)] for place in paths]
    mistakes += [[*given[:place], f"{given[place]}={secret}", *given[place + 2 :]] for place in options]
    for mistake in mistakes:
        said = refused_in_one_sentence(main, [command, *mistake], capsys)
        assert "hush" not in said
        assert "s3a://..." in said or mistake != mistakes[0]


def test_a_password_in_place_of_a_command_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert "s3a://... is not a command" in refused_in_one_sentence(main, ["s3a://key:hush@bucket/x"], capsys)


def test_python_m_is_the_same_command_and_exits_with_its_code(tmp_path: Path) -> None:
    output = finish(tmp_path / "out", ["king", "queen"], np.eye(2, dtype=np.float32))
    command = [sys.executable, "-m", "spark_w2v", "neighbors", str(output)]
    found = subprocess.run([*command, "king"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert "queen" in found.stdout
    missing = subprocess.run([*command, "x"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert missing.stderr.startswith("spark-w2v neighbors: x has no vector")


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_whose_reader_has_gone_does_its_work_and_keeps_its_exit_code(
    unbuffered: str, both: bool, tmp_path: Path
) -> None:
    program = (
        "import sys\nfrom spark_w2v.command_line import leave, print_error\n"
        "def main():\n    for _ in range(3): print('a line' * 9999)\n"
        "    print_error('program', 'worse')\n    open(sys.argv[1], 'w').close()\n    return 3\nleave(main)"
    )
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "made"], text=True,
        stdout=writing, stderr=writing if both else subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    os.close(writing)
    assert ended.returncode == 3
    assert both or ended.stderr == "program: worse\n"
    assert (tmp_path / "made").exists()


def test_lines_come_at_once_where_python_is_told_not_to_buffer() -> None:
    program = (
        "import sys\nfrom spark_w2v.command_line import leave\nleave(lambda: print('one') or not sys.stdin.readline())"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        process.communicate("\n")


def test_a_command_without_a_stdout_ends_as_others_do() -> None:
    program = "from spark_w2v.command_line import leave\nleave(lambda: print('one') or 3)"
    command = ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, program]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 3


@pytest.mark.parametrize("is_long", [False, True])
def test_a_full_disk_below_stdout_is_one_sentence(is_long: bool) -> None:
    program = f"from spark_w2v.command_line import leave\nleave(lambda: print('x' * {10**6 * is_long}))"
    command = ["sh", "-c", '"$0" -c "$1" >/dev/full', sys.executable, program]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 75
    assert ended.stderr == "-c: the output of the command cannot be written (the disk is full).\n"


@pytest.mark.parametrize(
    ("last", "code"),
    [("logging.getLogger('spark_w2v').warning('a line')", 0), ("raise UserError('wrong')", 2)],
)
def test_work_goes_on_whatever_becomes_of_its_log(last: str, code: int) -> None:
    program = f"""
import argparse, logging, sys
from spark_w2v import job
from spark_w2v.command_line import leave
from spark_w2v.errors import UserError
def work(line, cleanup):
    line.show("going on")
    print("done")
    {last}
leave(lambda: job.run_job("train.py", argparse.Namespace(log_format="text", quiet=False), work))
"""
    command = ["sh", "-c", '"$0" -c "$1" 2>/dev/full', sys.executable, program]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
    assert (ended.returncode, ended.stdout) == (code, b"done\n")


def test_py4j_makes_no_record_of_the_end_of_a_connection() -> None:
    """It comes after the end of Python's threads, and a record has a thread's name: Python 3.13 prints a traceback."""
    program = """
import argparse, logging, sys
from spark_w2v import job
records = logging.getLogRecordFactory()
def record(name, *rest, **more):
    print(name)
    return records(name, *rest, **more)
logging.setLogRecordFactory(record)
def work(line, cleanup):
    logging.getLogger("py4j.clientserver").info("Closing down clientserver connection")
    logging.getLogger("spark_w2v").info("trained")
sys.exit(job.run_job("train.py", argparse.Namespace(log_format="text", quiet=False), work))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "spark_w2v\n"), done.stderr


@pytest.mark.parametrize("job", sorted(path.name for path in (ROOT / "jobs").glob("*.py")))
def test_a_job_ends_with_its_exit_code_whatever_becomes_of_its_log(job: str, tmp_path: Path) -> None:
    command = ["sh", "-c", '"$0" "$1" --no-such-option 2>/dev/full', sys.executable, str(ROOT / "jobs" / job)]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 2


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_second_signal_while_spark_is_stopped_changes_no_exit_code(number: str, code: int) -> None:
    program = f"""
import argparse, os, signal, sys, threading, time
from spark_w2v import job
again = threading.Event()
def kill(): os.kill(os.getpid(), signal.{number})
def kill_again():
    kill()
    again.set()
def work(line, cleanup):
    cleanup.callback(again.wait, 30)  # as Spark takes its time
    cleanup.callback(threading.Timer(0.2, kill_again).start)
    kill()
sys.exit(job.run_job("train.py", argparse.Namespace(log_format="text", quiet=False), work))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "train.py: stopped.\n")


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    program = """
import argparse, os, signal, sys
from spark_w2v import job
def work(line, cleanup):
    os.kill(os.getpid(), signal.SIGHUP)
sys.exit(job.run_job("train.py", argparse.Namespace(log_format="text", quiet=False), work))
"""
    done = subprocess.run(["nohup", sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(("mistake", "code"), [("", 0), ("raise UserError('wrong')", 2), ("assert 0", 1)])
def test_a_spark_that_does_not_stop_holds_up_no_exit_code(mistake: str, code: int) -> None:
    program = f"""
import argparse, sys, time
from spark_w2v import job
from spark_w2v.errors import UserError
job.ENDING = 0.3
def work(line, cleanup):
    cleanup.callback(time.sleep, 50)
    {mistake or "pass"}
sys.exit(job.run_job("train.py", argparse.Namespace(log_format="text", quiet=False), work))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == code
    assert "Spark has not stopped within 0 s, so the command ends without it\n" in done.stderr
    assert ("AssertionError" in done.stderr) == (code == 1)
