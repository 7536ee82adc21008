"""A path of the user that begins with ~ is in the home directory, wherever it is written."""

import importlib
from pathlib import Path
from typing import Any, NoReturn

import pytest

import spark_w2v
from spark_w2v import SkipGramModel, api, config
from spark_w2v.__main__ import COMMANDS
from spark_w2v.command_line import Parser
from spark_w2v.config.paths import with_home
from spark_w2v.errors import OutputError
from spark_w2v.run_request import Request

# Arguments that are no paths on this host.
OTHERS = {"ID", "N", "NAME", "RUN_ID", "SECTION.KEY=VALUE", "SHARE", "WORD", "CONFIG"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def parser_of(command: str) -> Parser:
    """Return the parser of a command, which is not called further."""
    made: list[Parser] = []

    def stop(parser: Parser, *_: object) -> NoReturn:
        made.append(parser)
        raise ZeroDivisionError

    module, function, _ = COMMANDS[command]
    main = getattr(importlib.import_module(module), function)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parser, "parse_args", stop)
        patched.setattr(Parser, "parse_intermixed_args", stop)
        with pytest.raises(ZeroDivisionError):
            main([], "program")
    return made[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_paths_of_a_command_may_begin_with_it(command: str, home: Path) -> None:
    parser = parser_of(command)
    parser._mutually_exclusive_groups.clear()
    paths = [a for a in parser._actions if isinstance(a.metavar, str) and a.metavar not in OTHERS]
    assert paths
    for action in paths:
        for other in parser._actions:
            other.required = other is action
        options = parser.parse_args([*action.option_strings[:1], "~/x"])
        assert getattr(options, action.dest) in (f"{home}/x", [f"{home}/x"]), action.metavar


@pytest.mark.parametrize("key", ["phrases.list", "vocabulary.words", "vocabulary.stop_words"])
def test_so_may_the_files_that_a_configuration_names(key: str, home: Path) -> None:
    section, _, name = key.partition(".")
    (home / "run.toml").write_text(f'[{section}]\n{name} = "~/x"\n')
    for found in (config.load("~/run.toml"), config.load(None, [f"{key}=~/x"]), config.load(None, [f'{key}="~/x"'])):
        assert config.as_dict(found)[section][name] == f"{home}/x"
    assert config.as_dict(config.load(None, [f"{key}=./~/x"]))[section][name] == "./~/x"


def test_so_may_the_paths_of_a_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Request] = []

    def begin(request: Request, _: Any) -> NoReturn:
        requests.append(request)
        raise ZeroDivisionError

    monkeypatch.setattr(api, "TrainingRun", begin)
    with pytest.raises(ZeroDivisionError):
        spark_w2v.train(["~/a", Path("~/b")], Path("~/out"), init="~/first", tensorboard="~/curves")
    (request,) = requests
    assert request.paths == [f"{home}/a", f"{home}/b"]
    assert (request.output, request.init, request.tensorboard) == (f"{home}/out", f"{home}/first", f"{home}/curves")


def test_so_may_the_output_of_which_a_model_is_made(home: Path) -> None:
    with pytest.raises(OutputError, match=f"{home}/none: no such directory"):
        SkipGramModel.of_output("~/none")


def test_only_a_first_part_of_its_own_is_the_home_directory(home: Path) -> None:
    assert (with_home("~"), with_home("~/out")) == (str(home), f"{home}/out")
    assert [with_home(path) for path in ("./~", "./~/out", "a/~/out", "~out", "~root/out", "hdfs:/~/out", "")] == [
        "./~", "./~/out", "a/~/out", "~out", "~root/out", "hdfs:/~/out", "",
    ]  # fmt: skip
