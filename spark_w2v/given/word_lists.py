"""Files of words, one a line."""

import codecs
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v.config import Corpus
from spark_w2v.errors import UserError
from spark_w2v.storage.files import open_file, raise_if_passing, reason
from spark_w2v.text.arrow_arrays import flatten_lists, offsets_of
from spark_w2v.text.messages import MOST_SHOWN, counted, some_words
from spark_w2v.text.tokenizer import Tokenizer, are_made

log = logging.getLogger("spark_w2v")

LARGEST_FILE = 256 << 20  # bytes; some 25 million words, which take gigabytes as strings of Python


def read_words(path: str, what: str, is_composed: bool = False) -> pa.StringArray:
    """Return the words of a file, each once, in the order of the file.

    White space around a word and blank lines are left out.

    Args:
        what: the key or the option that names the file, for messages.
        is_composed: the text has been brought to NFC, as all tokenizers do it, so the words are, too.

    Raises:
        UserError: it cannot be read, is too large, or holds no word.
        StorageError: it could not be read, and may be later.
    """
    place = f"{what} {path}"
    try:
        with open_file(Path(path)) as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise_if_passing(place, error)
        raise UserError(f"{place}: cannot be read ({reason(error)}); give a file with one word a line.") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{place}: is larger than 256 MiB; give a file with one word a line.")
    content = content.removeprefix(codecs.BOM_UTF8)  # which editors on Windows put first
    if b"\0" in content:
        raise UserError(f"{place}: holds bytes that no text has, so it is UTF-16 or no text; save it as UTF-8 text.")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{place}: line {line} is not UTF-8; save the file as UTF-8 text.") from None
    if is_composed:
        text = unicodedata.normalize("NFC", text)
    words = list(dict.fromkeys(filter(None, (line.strip() for line in text.split("\n")))))
    if not words:
        raise UserError(f"{place}: holds no word; give a file with one word a line.")
    return pa.array(words, pa.string())


def warn_of_impossible(words: pa.StringArray, what: str, corpus: Corpus, delimiter: str = "") -> None:
    """Warn of words that no text can have, as the tokenizer makes other ones of them, or none.

    Args:
        what: the key that names the file.
        delimiter: stands between the words of a phrase; empty where phrases are not joined.
    """
    if corpus.tokenizer == "none":
        return
    tokenizer = Tokenizer.of(corpus)
    words = words.filter(pa.array(~are_made(words, tokenizer)))
    if delimiter:
        offsets, parts = flatten_lists(pc.split_pattern(words, delimiter))
        odd_parts = np.diff(offsets_of(~are_made(parts, tokenizer))[offsets])
        words = words.filter(pa.array(odd_parts > 0))
    if len(words):
        log.warning(
            '%s: %s can never occur, as corpus.tokenizer = "%s"%s does not leave them as they are, such as %s',
            what,
            counted(len(words), "word"),
            corpus.tokenizer,
            " with corpus.lower_case" if corpus.lower_case else "",
            some_words(words[:MOST_SHOWN].to_pylist()),
        )
