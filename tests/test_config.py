"""The configuration: what is read, what overrides it, and what it is written as."""

import ast
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_w2v import config
from spark_w2v.config import KEYS, Config
from spark_w2v.config.checking import OF_OTHERS
from spark_w2v.errors import UserError
from spark_w2v.skipgram.schedule import LEAST_RATE
from spark_w2v.text.tokenizer import SEGMENT_WORDS
from tests.support.configuration import Write, loads_or_refuses_in_one_line, writer

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "conf").glob("*.toml"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


# What is read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    assert isinstance(config.load(path), Config)


def test_the_shipped_configurations_are_the_two_that_the_documentation_names() -> None:
    assert [path.name for path in SHIPPED] == ["cluster.toml", "local.toml"]


def test_the_laptop_configuration_says_aloud_what_the_defaults_are() -> None:
    assert config.load(ROOT / "conf" / "local.toml") == Config()


def test_an_empty_file_is_all_defaults(write: Write) -> None:
    assert config.load(write("")) == Config() == config.from_dict({})


def test_every_default_is_a_value_that_would_be_accepted() -> None:
    assert config.from_dict(config.as_dict(Config())) == Config()


def test_what_the_file_says_wins_over_the_default(write: Write) -> None:
    loaded = config.load(write('[training]\nepochs = 3\npartitions = 8\n[corpus]\nformat = "parquet"\n'))
    assert (loaded.training.epochs, loaded.training.partitions, loaded.corpus.format) == (3, 8, "parquet")
    assert loaded.training.window == Config().training.window


def test_a_whole_number_will_do_where_a_fraction_is_asked(write: Write) -> None:
    rate = config.load(write("[training]\nlearning_rate = 1\n")).training.learning_rate
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[training]\nepochs = 3\n", b"[training]\r\nepochs = 3\r\n"])
def test_a_file_saved_by_an_editor_on_windows_is_read(write: Write, content: bytes) -> None:
    assert config.load(write(content)).training.epochs == 3


def test_a_configuration_cannot_be_changed() -> None:
    loaded = Config()
    with pytest.raises(AttributeError):
        loaded.training.epochs = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        loaded.output = config.Output()  # type: ignore[misc]
    assert hash(loaded) == hash(Config())


# The command line


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.damping=.01", 0.01),
        ("training.noise_exponent=-.5", -0.5),
        ("vocabulary.subsample=.1e-2", 1e-3),
        ("training.scheme=blocks", "blocks"),
        ('training.scheme="blocks"', "blocks"),
        ("training.partitions=auto", "auto"),
        ("training.partitions=16", 16),
        ("training.epochs=3", 3),
        (" training.epochs = 3 ", 3),
        ("training.seed=9_223_372_036_854_775_807", 2**63 - 1),
        ("training.learning_rate=1", 1.0),
        ("vocabulary.subsample=1e-4", 1e-4),
        ("corpus.lower_case=false", False),
        ("corpus.column=body", "body"),
        ("corpus.column=7", "7"),
        ("corpus.column=true", "true"),
        ("corpus.column=' a '", " a "),
        ("corpus.column=a=b", "a=b"),
        ("corpus.column=it's", "it's"),
        ("corpus.column='a'\nextra=2", "'a'\nextra=2"),
    ],
)
def test_an_override_is_read_as_its_key_asks(write: Write, override: str, value: object) -> None:
    section, key = override.partition("=")[0].strip().split(".")
    found = config.as_dict(config.load(write('[corpus]\nformat = "parquet"\n'), [override]))[section][key]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "pattern",
    ["[a-z]+", r"\w+", r"[\p{L}\d]+", "[#@]?[a-z]+", "42", '"a"|b', '"a"|"b"', r"'\w+'|'\d+'", "'?[a-z]+", '"[^"]*"'],
)
def test_a_pattern_needs_no_quotes_on_the_command_line(write: Write, pattern: str) -> None:
    loaded = config.load(write(""), ["corpus.tokenizer=regex", f"corpus.pattern={pattern}"])
    assert loaded.corpus.pattern == pattern


def test_an_override_wins_over_the_file_and_the_last_one_over_the_others(write: Write) -> None:
    path = write("[training]\nepochs = 3\nwindow = 2\n")
    loaded = config.load(path, ["training.epochs=4", "training.epochs=7"])
    assert (loaded.training.epochs, loaded.training.window) == (7, 2)


# Any input


@given(content=st.text() | st.binary() | st.text(st.sampled_from("[]training.epochs=\n\"'0123-e:#{},")))
def test_any_file_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    loads_or_refuses_in_one_line(lambda: config.load(path))


@given(
    key=st.sampled_from(sorted(config.KEYS)),
    value=st.one_of(
        st.text(),
        st.text(st.sampled_from("0123456789.-+e_xtruefalsnif'\"[]{}=\n :#")),
        (st.integers() | st.floats()).map(str),
    ),
)
def test_any_value_of_any_key_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.toml"
    section, _, name = key.partition(".")
    path.write_text(f"[{section}]\n{name} = {value}\n", "utf-8", errors="surrogatepass")
    loads_or_refuses_in_one_line(lambda: config.load(path))
    path.write_text("")
    loads_or_refuses_in_one_line(lambda: config.load(path, [f"{key}={value}"]))


@given(override=st.text(st.characters()) | st.text(st.sampled_from("trainig.epochs=3 ")))
def test_any_override_loads_or_is_refused_in_one_line(override: str) -> None:
    loads_or_refuses_in_one_line(lambda: config.load(ROOT / "conf" / "local.toml", [override]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*config.SECTIONS, "epochs", "x"]), inner),
)


@given(tables=JSON)
def test_any_json_loads_or_is_refused_in_one_line(tables: Any) -> None:
    loads_or_refuses_in_one_line(lambda: config.from_dict(tables, "run.json"))


# What becomes of it


def test_a_configuration_written_as_json_reads_back_the_same(write: Write) -> None:
    loaded = config.load(
        ROOT / "conf" / "cluster.toml", ["training.partitions=auto", "corpus.where=Überschrift", "corpus.format=csv"]
    )
    assert config.from_dict(json.loads(json.dumps(config.as_dict(loaded)))) == loaded


def test_a_dictionary_is_checked_like_a_file() -> None:
    with pytest.raises(UserError) as caught:
        config.from_dict({"training": {"epochs": None}}, "OUTPUT/run.json")
    assert str(caught.value) == "OUTPUT/run.json: training.epochs = null is no value; it must be a whole number."
    with pytest.raises(UserError, match=r"unknown section \[1\]; the sections are \[corpus\]"):
        config.from_dict({1: {}})


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("training.learning_rate", np.float64(0.25), 0.25),
        ("training.learning_rate", np.float32(0.25), 0.25),
        ("training.learning_rate", np.longdouble(0.25), 0.25),
        ("training.learning_rate", np.int8(1), 1.0),
        ("training.epochs", np.int64(3), 3),
        ("training.partitions", np.uint16(3), 3),
        ("training.shrink_window", np.bool_(False), False),
        ("training.scheme", np.str_("blocks"), "blocks"),
        ("corpus.column", np.str_("body"), "body"),
    ],
)
def test_a_scalar_of_numpy_is_the_value_that_it_is(key: str, value: object, read: object) -> None:
    section, _, name = key.partition(".")
    tables: dict[str, dict[str, object]] = {"corpus": {"format": "parquet"}}
    tables.setdefault(section, {})[name] = value
    found = config.as_dict(config.from_dict(tables))[section][name]
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.float64(0), "training.epochs = 0.0 is a number with a decimal point; it must be a whole number."),
        (np.int64(0), "training.epochs = 0 is out of range; it must be at least 1."),
        (
            np.timedelta64(3, "ns"),
            "training.epochs = np.timedelta64(3,'ns') is a timedelta64; it must be a whole number.",
        ),
        (np.bool_(True), "training.epochs = true is a boolean; it must be a whole number."),
    ],
)
def test_a_scalar_of_numpy_that_is_not_the_value_of_a_key_is_refused_as_what_it_is(
    value: object, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        config.from_dict({"training": {"epochs": value}})
    assert str(caught.value) == f"configuration: {sentence}"


def test_what_has_no_effect_is_read_for_one_that_uses_it_and_of_earlier_versions() -> None:
    tables = {"phrases": {"threshold": 20.0}, "training": {"min_improvement": 0.1}}
    with pytest.raises(UserError, match=r"training\.min_improvement"):
        config.from_dict(tables, uses=["phrases.threshold"])
    assert config.from_dict(tables, uses=config.KEYS).phrases.threshold == 20


def test_rare_windows_of_weighted_words_may_be_of_words_that_count_less_than_once() -> None:
    corpus = {"format": "parquet", "weight": "w"}
    found = config.from_dict({"corpus": corpus, "vocabulary": {"min_count": 1, "rare_windows": 9}})
    assert found.vocabulary.rare_windows == 9


def test_the_error_survives_a_pickle() -> None:
    error = UserError("run.toml: wrong.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_key_is_described_in_a_sentence() -> None:
    for key in config.KEYS.values():
        assert key.description.endswith("."), key.path


def test_the_reference_has_the_limits_beyond_which_a_number_changes_nothing() -> None:
    described = {path: key.description for path, key in config.KEYS.items()}
    assert f"below a {1 / LEAST_RATE:,.0f}th of learning_rate" in described["training.last_learning_rate"]
    assert f"at most {SEGMENT_WORDS:,}, also" in described["corpus.max_sentence_words"]


def test_every_number_has_a_range_that_holds_its_default() -> None:
    for key in config.KEYS.values():
        if isinstance(key.default, float | int) and not isinstance(key.default, bool):
            assert "at least" in key.values() or "greater than" in key.values(), key.path
            assert msgspec.convert(key.default, key.hint) == key.default


def test_the_stored_reference_is_the_one_the_classes_give() -> None:
    stored = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert stored == config.reference(), "run: python -m spark_w2v.config > docs/configuration.md"


def test_configuration_loads_neither_spark_nor_numpy() -> None:
    program = "import sys, spark_w2v.config;print(sorted({'pyspark', 'numpy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


# Use


SOURCES = sorted(path for path in (ROOT / "spark_w2v").rglob("*.py") if "config" not in path.parts)


def section_of(node: ast.expr | None, names: Mapping[str, str]) -> str | None:
    """Return the section that an expression is, as `settings.training` is; a name may stand for one."""
    if isinstance(node, ast.Attribute) and node.attr in config.SECTIONS:
        return node.attr
    return names.get(node.id) if isinstance(node, ast.Name) else None


def keys_read(source: str) -> set[str]:
    """Return the keys that a module reads: attributes of a section, a name for one or a parameter of its class."""
    names: dict[str, str] = {}
    tree = ast.parse(source)
    # Parameters first, as what a function assigns may come of them.
    for node in sorted(ast.walk(tree), key=lambda node: not isinstance(node, ast.arg)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            annotated = ast.unparse(node.annotation).strip("'\"").lower()
            names |= {node.arg: annotated} if annotated in config.SECTIONS else {}
        elif isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            for name, assigned in pairs:
                if isinstance(name, ast.Name) and (section := section_of(assigned, names)):
                    names[name.id] = section
    return {
        f"{section}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and (section := section_of(node.value, names))
    }


def test_every_key_is_read_somewhere() -> None:
    read = set().union(*(keys_read(path.read_text("utf-8")) for path in SOURCES))
    assert set(config.KEYS) - read == set()


def test_names_of_other_programs_lead_to_keys_that_there_are() -> None:
    assert set(OF_OTHERS.values()) <= KEYS.keys()
    assert not OF_OTHERS.keys() & {key.name for key in KEYS.values()}
