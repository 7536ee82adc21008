"""The command spark-w2v, also as python -m spark_w2v: one subcommand for each file of jobs/."""

import importlib
import sys
from collections.abc import Sequence

from spark_w2v import __version__
from spark_w2v.command_line import EXIT_CODES, USERS_MISTAKE, leave, print_error
from spark_w2v.runs.places import hide_passwords
from spark_w2v.text.messages import name_hint

PROGRAM = "spark-w2v"
# Imported when they are called, as only some of them need Spark.
COMMANDS = {
    "train": ("spark_w2v.job", "train", "train word embeddings on text, with Spark"),
    "evaluate": ("spark_w2v.commands.evaluate", "main", "measure word similarity and analogies, or compare two runs"),
    "neighbors": ("spark_w2v.commands.neighbors", "main", "print the words nearest to a word"),
    "all-neighbors": ("spark_w2v.commands.all_neighbors", "main", "find the nearest words of every word, with Spark"),
    "phrases": ("spark_w2v.commands.phrases", "main", "find phrases, such as new_york, with Spark"),
    "induce": ("spark_w2v.commands.induce", "main", "give words vectors from a text, by a finished run, with Spark"),
    "export": ("spark_w2v.commands.export", "main", "write the vectors for other tools"),
    "report": ("spark_w2v.commands.report", "main", "make the page about a run"),
    "publish": ("spark_w2v.commands.publish", "main", "give readers another run"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else USERS_MISTAKE
    if given[0] == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    name, *rest = given
    if name not in COMMANDS:
        print_error(PROGRAM, f"{hide_passwords(name)[:60]} is not a command; {name_hint(name, list(COMMANDS))}")
        return USERS_MISTAKE
    module, function, _ = COMMANDS[name]
    return int(getattr(importlib.import_module(module), function)(rest, f"{PROGRAM} {name}"))


def usage() -> str:
    """Return what --help prints."""
    lines = [f"  {name:<15}{about}" for name, (_, _, about) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ... | --version | --help",
            "",
            "Word embeddings on Apache Spark.",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help describes the arguments of a command.",
            EXIT_CODES,
        ]
    )


def entry_point() -> None:
    """Run the command of the shell."""
    leave(main)


if __name__ == "__main__":
    entry_point()
