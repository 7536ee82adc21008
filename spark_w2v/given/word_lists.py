"""Files of words, one a line."""

import logging
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.config import Corpus
from spark_w2v.errors import UserError
from spark_w2v.storage.files import open_file, reason
from spark_w2v.text.messages import MOST_SHOWN, counted, some

log = logging.getLogger("spark_w2v")

LARGEST_FILE = 1 << 30  # bytes; some 100 million words


def read_words(path: str, what: str, is_composed: bool = False) -> pa.StringArray:
    """Return the words of a file, each once, in the order of the file.

    White space around a word and blank lines are left out.

    Args:
        what: the key or the option that names the file, for messages.
        is_composed: the text has been brought to NFC, as all tokenizers do it, so the words are, too.

    Raises:
        UserError: it cannot be read, is too large, or holds no word.
    """
    place = f"{what} {path}"
    try:
        with open_file(Path(path)) as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be read ({reason(error)}); give a file with one word a line.") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{place}: is larger than 1 GiB; give a file with one word a line.")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a byte-order mark first
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{place}: line {line} is not UTF-8; save the file as UTF-8 text.") from None
    if is_composed:
        text = unicodedata.normalize("NFC", text)
    words = list(dict.fromkeys(filter(None, (line.strip() for line in text.split("\n")))))
    if not words:
        raise UserError(f"{place}: holds no word; give a file with one word a line.")
    return pa.array(words, pa.string())


def warn_of_impossible(words: pa.StringArray, what: str, corpus: Corpus) -> None:
    """Warn of words that are spelled as no word of a text can be.

    Args:
        what: the key that names the file.
    """
    if corpus.tokenizer == "none":
        return
    impossible = []
    if corpus.lower_case:
        impossible.append((pc.not_equal(pc.utf8_lower(words), words), "corpus.lower_case leaves no upper case"))
    if corpus.tokenizer != "regex":
        cut = f'corpus.tokenizer = "{corpus.tokenizer}" cuts at white space'
        impossible.append((pc.match_substring_regex(words, r"[\s\pZ]"), cut))
    for are, why in impossible:
        if len(found := words.filter(are)):
            log.warning(
                "%s: %s can never occur, as %s, such as %s",
                what,
                counted(len(found), "word"),
                why,
                some(found[:MOST_SHOWN].to_pylist()),
            )
