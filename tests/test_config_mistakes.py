"""Every mistake in a configuration is one sentence that names the place and the key."""

from pathlib import Path

import pytest

from tests.support.configuration import Write, refusal, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[training]\nlearning_rte = 1\n", "unknown key training.learning_rte; did you mean training.learning_rate?"),
        (
            "[corpus]\nmin_count = 1\n",
            "unknown key corpus.min_count; did you mean phrases.min_count or vocabulary.min_count?",
        ),
        (
            '[output]\ncheckpoint = "round"\n',
            'output.checkpoint = "round" is not one of its values; it must be "epoch", "none" or "sweep"; "sweep" '
            'replaces "round".',
        ),
        (
            "[output]\ncolour = 1\n",
            "unknown key output.colour; the keys of [output] are checkpoint, table, report, keep_runs.",
        ),
        (
            '[output]\n"a\\nb" = 1\n',
            "unknown key output.a\\nb; did you mean output.table?",
        ),
        ("[trainign]\nepochs = 3\n", "unknown section [trainign]; did you mean [training]?"),
        (
            "[spark]\n",
            "unknown section [spark]; "
            "the sections are [corpus], [phrases], [vocabulary], [training], [output], [exchange].",
        ),
        ("vector_size = 3\n", "vector_size = 3 is outside of every section; did you mean training.dimensions?"),
        ("[training]\nalpha = 0.1\n", "unknown key training.alpha; did you mean training.learning_rate?"),
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
            '[phrases]\nlist = "p"\npasses = 2\n',
            "phrases.passes = 2 searches for phrases, and phrases.list names those of an earlier run; give one of "
            "them.",
        ),
        (
            '[phrases]\nlist = "p"\nthreshold = 5\n',
            "phrases.threshold = 5.0 is for finding phrases, and phrases.list names those of an earlier run; leave one "
            "of them out.",
        ),
        (
            '[phrases]\nlist = "p"\nmin_count = 9\n',
            "phrases.min_count = 9 is for finding phrases, and phrases.list names those of an earlier run; leave one "
            "of them out.",
        ),
        (
            "[phrases]\nthreshold = -0.5\n",
            'phrases.threshold = -0.5 is below all scores of phrases.score = "default"; give at least 0.',
        ),
        (
            '[phrases]\nscore = "npmi"\n',
            'phrases.score = "npmi" is at most 1, so no pair is above phrases.threshold = 10; give a threshold '
            "below 1, such as 0.5.",
        ),
        (
            '[corpus]\ncolumn = "body"\n',
            'corpus.column = "body" needs columns, which corpus.format = "text" does not have; set corpus.format to '
            "what the input is.",
        ),
        (
            "[phrases]\nthreshold = 20\n",
            "phrases.threshold = 20.0 is for finding phrases, which phrases.passes = 0 does not; set phrases.passes to "
            "1 or more, or leave phrases.threshold out.",
        ),
        (
            '[phrases]\npasses = 0\ndelimiter = "-"\n',
            'phrases.delimiter = "-" is for finding phrases, which phrases.passes = 0 does not; set phrases.passes to '
            "1 or more, or leave phrases.delimiter out.",
        ),
        (
            "[vocabulary]\nrare_windows = 9\nmin_count = 1\n",
            "vocabulary.rare_windows = 9 keeps words below vocabulary.min_count, and with vocabulary.min_count = 1 "
            "there are none; raise that, or leave vocabulary.rare_windows out.",
        ),
        (
            "[training]\nmax_contexts = 10\n",
            'training.max_contexts = 10 is not used by training.window = 5; it needs training.window = "sentence".',
        ),
        (
            "[training]\npatience = 2\nheld_out_words = 0\n",
            "training.patience = 2 goes by the held-out loss, which training.held_out_words = 0 does not measure; "
            "raise that, or leave training.patience out.",
        ),
        (
            "[training]\nmin_improvement = 0.01\n",
            "training.min_improvement = 0.01 is for training.patience, which is 0; set training.patience to 1 or more, "
            "or leave training.min_improvement out.",
        ),
        (
            '[phrases]\ndelimiter = " "\n',
            'phrases.delimiter = " " has white space, which stands between words; give another one, such as "_".',
        ),
        (
            '[phrases]\ndelimiter = "-----------"\n',
            'phrases.delimiter = "-----------" is not one of its values; it must be a string of 1 to 10 characters.',
        ),
        (
            '[vocabulary]\nwords = "w"\nkeep_missing = true\n',
            'vocabulary.words = "w" gives no other word a vector, and vocabulary.keep_missing keeps those of an '
            "earlier run; leave one of them out.",
        ),
        (
            "[vocabulary]\nrare_windows = 9\nmax_words = 100\n",
            "vocabulary.rare_windows = 9 keeps words until they occur vocabulary.min_count times, and "
            "vocabulary.max_words = 100 leaves out such words, too; leave one of them out.",
        ),
        (
            '[vocabulary]\nrare_windows = 9\nwords = "w.txt"\n',
            "vocabulary.rare_windows = 9 keeps words until they occur vocabulary.min_count times, and "
            'vocabulary.words = "w.txt" leaves out such words, too; leave one of them out.',
        ),
        (
            "[training]\nlast_learning_rate = 0.1\n",
            "training.last_learning_rate = 0.1 is above training.learning_rate = 0.05, and the rate falls; give at "
            "most that.",
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


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (r'"\w+"', r"'\w+'"),
        (r'"it\'s\w+"', "'...'"),
    ],
)
def test_a_value_in_quotes_that_toml_does_not_know_is_refused(write: Write, value: str, instead: str) -> None:
    assert refusal(write(""), "corpus.tokenizer=regex", f"corpus.pattern={value}") == (
        f"--set corpus.pattern={value}: is in quotes and is not a string of TOML; write the value in single "
        f"quotes, between which a backslash stands for itself ({instead}), or without quotes."
    )


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
