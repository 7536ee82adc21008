"""Everything that README and docs/ tell a reader to type exists: targets, files, keys, links, Python that compiles."""

import re
from pathlib import Path

import pytest

from spark_w2v.config import SECTIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# Pages whose blocks tests/test_examples.py runs.
GUIDE = "\n".join(
    [README, *((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("training", "input", "output"))]
)

# Paths that a reader brings, or that a command of the README makes.
MADE = ("my-", ".my-", ".venv/", "dist/", "build/", "hdfs:", "file:")
KEYS = {f"{section}.{name}" for section, keys in SECTIONS.items() for name in keys}


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def paths_in(code: str) -> set[str]:
    """Words of shell code that name a file or a directory of the repository."""
    words = re.findall(r"[\w.*:/-]+", code.replace("$PWD/", ""))
    return {word for word in words if "/" in word and not word.startswith(MADE)}


def targets_in(text: str) -> set[str]:
    """Return the targets after `make` in code: at the start of a line of shell, or in backquotes."""
    shell = [line for block in blocks(text, "sh") for line in block.splitlines()]
    commands = [*shell, *re.findall(r"`([^`\n]+)`", text)]
    return {target for line in commands for target in re.findall(r"^make (?:[A-Z]+=\S+ )*([a-z-]+)", line)}


def keys_in(text: str) -> set[str]:
    """Keys given to --set, and words in backquotes that begin with a section of the configuration."""
    sections = "|".join(SECTIONS)
    quoted = re.findall(rf"`((?:{sections})\.[a-z_]+)(?:=[^`]*)?`", text)
    placeholder = {"section.key"}
    return {*re.findall(r"--set ([\w.]+)=", text), *quoted} - placeholder


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def table_of(page: Path) -> list[dict[str, str]]:
    """Rows of the first table that `make bench` wrote on a page; of several rounds, the medians."""
    _, _, written = page.read_text(encoding="utf-8").partition("<!-- what make bench writes -->")
    found = re.search(r"(?:^\|.*\n)+", written, re.MULTILINE)
    assert found is not None
    heading, _, *rows = [line.strip("| ").split(" | ") for line in found[0].splitlines()]
    return [dict(zip(heading, [cell.partition(" (")[0] for cell in row], strict=True)) for row in rows]


def test_the_readme_has_the_figures_of_the_benchmarks_page() -> None:
    ours, theirs = table_of(ROOT / "README.md"), table_of(ROOT / "docs" / "bench.md")
    common = ours[0].keys() & theirs[0].keys()
    assert {"system", "wall, s", "memory, MB", "analogies, %"} <= common
    assert [{key: row[key] for key in common} for row in ours] == [{key: row[key] for key in common} for row in theirs]


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1200


def test_the_first_two_commands_are_the_demo_and_the_tests() -> None:
    commands = [line for block in blocks(README, "sh") for line in block.splitlines()]
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    existing = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert targets_in(page.read_text(encoding="utf-8")) - existing == set()


def test_every_path_in_shell_code_exists() -> None:
    named = {path for block in blocks(GUIDE, "sh") for path in paths_in(block)}
    assert {"jobs/train.py", "conf/local.toml", "scripts/java_home"} <= named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_path_of_the_repository_named_in_prose_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`((?:conf|docs|jobs|requirements|scripts|spark_w2v|tests)/[\w./-]+)`", text))
    assert "spark_w2v/skipgram/reference.py" in named
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_that_is_named_exists(page: Path) -> None:
    assert keys_in(page.read_text(encoding="utf-8")) - KEYS == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, title = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not title or title in anchors(target), link


def test_every_block_of_python_compiles() -> None:
    found = blocks(GUIDE, "python")
    assert len(found) == 7  # pandas, Spark ML, DuckDB, Spark, gensim, USearch, Faiss
    for number, code in enumerate(found):
        compile(code, f"Python block {number + 1}", "exec")


def test_every_option_in_the_guide_is_one_of_the_job_or_of_spark() -> None:
    commands = [ROOT / "spark_w2v" / "job.py", *(ROOT / "spark_w2v" / "commands").glob("*.py")]
    ours = "".join(command.read_text(encoding="utf-8") for command in commands)
    spark = {"--properties-file", "--master", "--deploy-mode", "--py-files", "--conf"}
    named = {option for block in blocks(GUIDE, "sh") for option in re.findall(r"(?<!\S)--[a-z-]+", block)}
    assert {option for option in named - spark if f'"{option}"' not in ours} == set()


def test_what_is_missing_is_noticed() -> None:
    shell = "make PYTHON=python3 tset\ntrain.py conf/locl.toml --set training.epoch=3\n"
    text = f"```sh\n{shell}```\nand `vocabulary.minimum`"
    assert targets_in(text) == {"tset"}
    assert paths_in(blocks(text, "sh")[0]) == {"conf/locl.toml"}
    assert keys_in(text) == {"training.epoch", "vocabulary.minimum"}
