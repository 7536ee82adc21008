"""Paths that begin with ~, as a user writes them where no shell replaces it: in a file, or after an equals sign."""

import os

KEYS_OF_PATHS = ("phrases.list", "vocabulary.words", "vocabulary.stop_words")


def with_home(path: str) -> str:
    """Return a path with the home directory for a ~ that is its first part; ./~ names what is called so.

    Not for ~user: such a name is more often that of a file than of an account.
    """
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path
