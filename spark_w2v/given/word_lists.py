"""Files of words, one a line."""

from pathlib import Path

import pyarrow as pa

from spark_w2v.errors import UserError
from spark_w2v.storage.files import open_file, reason

LARGEST_FILE = 1 << 30  # bytes; some 100 million words


def read_words(path: str, what: str) -> pa.StringArray:
    """Return the words of a file, each once, in the order of the file.

    White space around a word and blank lines are left out.

    Args:
        what: the key or the option that names the file, for messages.

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
    words = list(dict.fromkeys(filter(None, (line.strip() for line in text.split("\n")))))
    if not words:
        raise UserError(f"{place}: holds no word; give a file with one word a line.")
    return pa.array(words, pa.string())
