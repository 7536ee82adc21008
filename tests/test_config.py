import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_w2v import config
from spark_w2v.config import Config
from spark_w2v.errors import ConfigError

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "conf").glob("*.toml"))

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_configuration(content: str | bytes) -> Path:
        path = tmp_path / "run.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_configuration


def refusal(path: str | Path, *overrides: str) -> str:
    """What the user reads; the directory of a test is cut off."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    return str(caught.value).removeprefix(f"{Path(path).parent}/")


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
    found = config.as_dict(config.load(write(""), [override]))[section][key]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("pattern", ["[a-z]+", r"\w+", r"[\p{L}\d]+", "[#@]?[a-z]+", "42", '"a"|b'])
def test_a_pattern_needs_no_quotes_on_the_command_line(write: Write, pattern: str) -> None:
    loaded = config.load(write(""), ["corpus.tokenizer=regex", f"corpus.pattern={pattern}"])
    assert loaded.corpus.pattern == pattern


def test_an_override_wins_over_the_file_and_the_last_one_over_the_others(write: Write) -> None:
    path = write("[training]\nepochs = 3\nwindow = 2\n")
    loaded = config.load(path, ["training.epochs=4", "training.epochs=7"])
    assert (loaded.training.epochs, loaded.training.window) == (7, 2)


# Mistakes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[training]\nlearning_rte = 1\n", "unknown key training.learning_rte; did you mean training.learning_rate?"),
        ("[corpus]\nmin_count = 1\n", "unknown key corpus.min_count; did you mean vocabulary.min_count?"),
        (
            '[output]\ncheckpoint = "round"\n',
            'output.checkpoint = "round" is not one of its values; it must be "epoch", "none" or "sweep"; "sweep" '
            'replaces "round".',
        ),
        (
            "[output]\ncolour = 1\n",
            "unknown key output.colour; the keys of [output] are checkpoint, report, keep_runs.",
        ),
        (
            '[output]\n"a\\nb" = 1\n',
            "unknown key output.a\\nb; the keys of [output] are checkpoint, report, keep_runs.",
        ),
        ("[trainign]\nepochs = 3\n", "unknown section [trainign]; did you mean [training]?"),
        (
            "[spark]\n",
            "unknown section [spark]; the sections are [corpus], [vocabulary], [training], [output], [exchange].",
        ),
        ("epochs = 3\n", "epochs = 3 is outside of every section; did you mean training.epochs?"),
        ("training = 3\n", "training = 3 is a whole number; it must be a section, [training]."),
        ("[[training]]\n", "training = [...] is a list; it must be a section, [training]."),
        ("[training]\nepochs = 0\n", "training.epochs = 0 is out of range; it must be at least 1."),
        ("[training]\nepochs = 1_000_000\n", "training.epochs = 1000000 is out of range; it must be at most 100000."),
        ("[training]\nseed = -1\n", "training.seed = -1 is out of range; it must be at least 0."),
        (
            f"[training]\nseed = {2**63}\n",
            f"training.seed = {2**63} is out of range; it must be at most {2**63 - 1}.",
        ),
        (
            "[training]\nseed = 0x" + "f" * 5000,
            f"training.seed = a number of more than 77 digits is out of range; it must be at most {2**63 - 1}.",
        ),
        (
            f"[training]\nlearning_rate = 1{'0' * 400}\n",
            "training.learning_rate = a number of more than 77 digits is out of range; it must be at most 1: "
            "a larger step throws the vectors about instead of teaching them.",
        ),
        ("[training]\nlearning_rate = 0\n", "training.learning_rate = 0 is out of range; it must be greater than 0."),
        (
            "[training]\nlearning_rate = 10\n",
            "training.learning_rate = 10 is out of range; it must be at most 1: "
            "a larger step throws the vectors about instead of teaching them.",
        ),
        (
            "[training]\nnegatives = 0\n",
            "training.negatives = 0 is out of range; it must be at least 1: "
            "without noise words all vectors would grow alike.",
        ),
        (
            "[training]\npartitions = 0\n",
            'training.partitions = 0 is out of range; it must be at least 1, or "auto".',
        ),
        (
            "[training]\npartitions = 5000\n",
            'training.partitions = 5000 is out of range; it must be at most 4096, or "auto".',
        ),
        (
            '[training]\npartitions = "many"\n',
            'training.partitions = "many" is not one of its values; it must be a whole number, or "auto".',
        ),
        (
            '[training]\nscheme = "block"\n',
            'training.scheme = "block" is not one of its values; it must be "auto", "blocks" or "replicas".',
        ),
        (
            "[training]\nscheme = 2\n",
            'training.scheme = 2 is a whole number; it must be "auto", "blocks" or "replicas".',
        ),
        ('[training]\nepochs = "three"\n', 'training.epochs = "three" is a string; it must be a whole number.'),
        ("[training]\nepochs = true\n", "training.epochs = true is a boolean; it must be a whole number."),
        (
            "[training]\nepochs = 3.0\n",
            "training.epochs = 3.0 is a number with a decimal point; it must be a whole number.",
        ),
        ("[training]\nepochs = [3]\n", "training.epochs = [...] is a list; it must be a whole number."),
        ("[training.epochs]\n", "training.epochs = {} is a table; it must be a whole number."),
        (
            "[training]\nepochs = 2024-01-01\n",
            "training.epochs = 2024-01-01 is a date or a time; it must be a whole number.",
        ),
        ("[training]\nlearning_rate = true\n", "training.learning_rate = true is a boolean; it must be a number."),
        (
            "[vocabulary]\nsubsample = nan\n",
            "vocabulary.subsample = nan is not a finite number; it must be a number, at least 0 and less than 1.",
        ),
        (
            "[training]\nlearning_rate = -inf\n",
            "training.learning_rate = -inf is not a finite number; it must be a number, greater than 0 and at most 1.",
        ),
        ("[vocabulary]\nsubsample = 1\n", "vocabulary.subsample = 1 is out of range; it must be less than 1."),
        ("[corpus]\nlower_case = 1\n", "corpus.lower_case = 1 is a whole number; it must be true or false."),
        ("[corpus]\ncolumn = 7\n", "corpus.column = 7 is a whole number; it must be a string that is not empty."),
        ('[corpus]\ncolumn = ""\n', 'corpus.column = "" is empty; it must be a string that is not empty.'),
        (
            "[corpus]\nmax_sentence_words = 1\n",
            "corpus.max_sentence_words = 1 is out of range; it must be at least 2: "
            "a sentence of one word has no pair to train on.",
        ),
        (
            '[corpus]\ntokenizer = "regex"\n',
            'corpus.tokenizer = "regex" needs corpus.pattern, the regular expression of one word, such as "[a-z]+".',
        ),
        (
            '[corpus]\npattern = "[a-z]+"\n',
            'corpus.pattern = "[a-z]+" is not used by corpus.tokenizer = "words"; it needs corpus.tokenizer = "regex".',
        ),
        (
            "[vocabulary]\nmax_words = 1\n",
            "vocabulary.max_words = 1 leaves one word, which cannot be trained, as it has no other word near it; it "
            "must be at least 2, or 0 for all words.",
        ),
        (
            '[corpus]\ntokenizer = "none"\n',
            'corpus.tokenizer = "none" is for ready-made words, which corpus.format = "text" cannot hold; '
            'use "whitespace", or corpus.format = "jsonl" or "parquet".',
        ),
        (
            "[training]\nscheme = blocks\n",
            'line 2, "scheme = blocks", is not TOML: invalid value; strings need quotes, as in scheme = "auto".',
        ),
        (
            "[training]\nepochs = 3\nepochs = 4\n",
            'line 3, "epochs = 4", is not TOML: cannot overwrite a value; a key may be given once.',
        ),
        (
            "[training]\n\n[training]\n",
            "line 3, \"[training]\", is not TOML: cannot declare ('training',) twice; a section may be given once.",
        ),
        (
            "[training]\nepochs =\n",
            'line 2, "epochs =", is not TOML: invalid value; strings need quotes, as in scheme = "auto".',
        ),
        (b"[training]\n# caf\xe9\n", "line 2 is not UTF-8; save the file as UTF-8 text."),
        ("[training]\n".encode("utf-16"), "line 1 is not UTF-8; save the file as UTF-8 text."),
        ("a = " + "[" * 100_000, "is nested too deep; a configuration has sections and keys, no more."),
        (b"\0" * (2 << 20), "is larger than 1 MiB, so no configuration; give a TOML file, such as conf/local.toml."),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(write: Write, content: str | bytes, sentence: str) -> None:
    assert refusal(write(content)) == f"run.toml: {sentence}"


def test_a_number_that_python_refuses_to_read_is_one_sentence(write: Write) -> None:
    message = refusal(write(f"[training]\nseed = {'9' * 5000}\n"))
    assert message.startswith("run.toml: is not TOML: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epochs=0", "0 is out of range; it must be at least 1."),
        ("training.epochs=three", '"three" is a string; it must be a whole number.'),
        ("training.epochs=", '"" is a string; it must be a whole number.'),
        (
            "training.learning_rate=nan",
            "nan is not a finite number; it must be a number, greater than 0 and at most 1.",
        ),
        ("corpus.lower_case=yes", '"yes" is a string; it must be true or false.'),
        ("corpus.column=", '"" is empty; it must be a string that is not empty.'),
        ("corpus.column=\udcff", "corpus.column is not UTF-8; it must be text in UTF-8."),
        ("training.epochs=3\nextra=2", '"3\\nextra=2" is a string; it must be a whole number.'),
        ("training.learning_rte=1", "unknown key training.learning_rte; did you mean training.learning_rate?"),
        ("training.epochs.x=1", "unknown key training.epochs.x; did you mean training.epochs?"),
        ("trainign.epochs=1", "unknown section [trainign]; did you mean [training]?"),
        ("epochs=3", "has no section; did you mean training.epochs?"),
        ("speed=3", "has no section; it must be section.key=value, as in training.epochs=3."),
        ("training.epochs", "has no value; it must be section.key=value, as in training.epochs=5."),
        ("", "has no value; it must be section.key=value, as in training.epochs=3."),
        (
            "corpus.pattern=x",
            'corpus.pattern = "x" is not used by corpus.tokenizer = "words"; it needs corpus.tokenizer = "regex".',
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(write: Write, override: str, sentence: str) -> None:
    place = override.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
    assert refusal(write(""), override) == f"--set {place}: {sentence}"


def test_an_override_nested_too_deep_is_one_sentence(write: Write) -> None:
    message = refusal(write(""), "training.epochs=" + "[" * 100_000)
    assert message.startswith("--set training.epochs=[[[")
    assert message.endswith('[[[..." is a string; it must be a whole number.')
    assert len(message) < 300


def test_a_missing_file_a_directory_and_a_path_that_is_none_are_one_sentence(tmp_path: Path) -> None:
    give = "give a TOML file, such as conf/local.toml."
    assert refusal(tmp_path / "nothing.toml") == f"nothing.toml: no such file; {give}"
    assert refusal(tmp_path) == f"{tmp_path.name}: is a directory; {give}"
    assert refusal("a\0b") == f"a\\x00b: is not a path (embedded null byte); {give}"
    assert refusal("a\nb.toml") == f"a\\nb.toml: no such file; {give}"


def test_a_file_that_may_not_be_read_is_one_sentence(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:  # root, who runs tests in containers, may read everything
        raise PermissionError(13, "Permission denied")

    path = write("")
    monkeypatch.setattr("builtins.open", refuse)
    assert refusal(path) == "run.toml: cannot be read (Permission denied); give a readable TOML file."


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


def loads_or_refuses_in_one_line(attempt: Callable[[], Config]) -> None:
    try:
        loaded = attempt()
    except ConfigError as error:
        refused = str(error)
    else:
        assert config.from_dict(json.loads(json.dumps(config.as_dict(loaded), allow_nan=False))) == loaded
        return
    assert refused.isprintable()
    assert refused.endswith((".", "?"))


# What becomes of it


def test_a_configuration_written_as_json_reads_back_the_same(write: Write) -> None:
    loaded = config.load(ROOT / "conf" / "cluster.toml", ["training.partitions=auto", "corpus.column=Überschrift"])
    assert config.from_dict(json.loads(json.dumps(config.as_dict(loaded)))) == loaded


def test_a_dictionary_is_checked_like_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        config.from_dict({"training": {"epochs": None}}, "OUTPUT/run.json")
    assert str(caught.value) == "OUTPUT/run.json: training.epochs = null is no value; it must be a whole number."


def test_the_error_survives_a_pickle() -> None:
    error = ConfigError("run.toml: wrong.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_key_is_described_in_a_sentence() -> None:
    for key in config.KEYS.values():
        assert key.description.endswith("."), key.path


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
