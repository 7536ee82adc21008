"""Vectors of a finished output, or of a model in memory → the files of other tools, whole or not at all.

Needs no Spark.
"""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_w2v.config.text_sections import MOST_DIMENSIONS
from spark_w2v.errors import OutputError, UserError
from spark_w2v.runs import embeddings
from spark_w2v.runs.export_formats import FILES, writable_words, write_counts, write_format
from spark_w2v.runs.index_formats import LIBRARIES, check_library
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.places import is_local, local_path, run_above
from spark_w2v.storage.files import kind_of, open_file, refused, remove_written, strangers

VECTORS = ("center", "context", "sum")
# gensim and smart_open, pandas and others unpack a file with such a name, whatever is in it.
PACKED = (".gz", ".bz2", ".xz", ".zst")
LONGEST_WORD = 1 << 16  # bytes of a line that are looked at
MOST_NUMBER = 32  # bytes of a number in text, with the space before it
SIZES = re.compile(rb"([0-9]{1,19}) ([0-9]{1,19})\n")  # how a file of word2vec begins
COUNT = re.compile(rb"\S+ [0-9]{1,19}\n")


class Exported(NamedTuple):
    """The size of an export; `replaced` words are spelled otherwise there."""

    words: int
    dimensions: int
    replaced: int


def export(
    read: Callable[[], embeddings.VectorChunks],
    output: Path | None,
    target: Path,
    form: str,
    *,
    overwrite: bool = False,
    replace: bool = False,
    counts: Path | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Exported:
    """Write vectors in one of FILES; the target appears whole or not at all.

    Args:
        read: returns them, once the target is known to be one.
        output: where they are read from, a finished output; None for those in memory.
        overwrite: an earlier export may be replaced: a file by a file, a directory by one of the same format.
        replace: write _ for white space that the format cannot hold in a word, and more _ until the word is unique.
        counts: where the occurrences of each word go, for the formats of word2vec.
        tell: gets a line before an index is built, which takes minutes, and one after.

    Raises:
        UserError: the user's mistake; nothing is written.
        StorageError: what the storage refused.
    """
    check_library(form)
    _check(output, target, form, overwrite)
    if counts is not None:
        _check_counts(output, target, form, counts, overwrite)
    found = read()
    words, replaced = writable_words(found.words, form, replace)
    ids = _ids(output or "the model", found) if form in LIBRARIES else None
    try:
        working = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise refused(f"{target}: cannot be made", error) from None
    try:
        staged = working / "staged"
        begun = time.monotonic()
        if form in LIBRARIES:
            tell(f"building the index of {len(words):,} words on one core; 200,000 words take a few minutes")
        write_format(form, staged, found, words, ids)
        if form in LIBRARIES:
            tell(f"built in {time.monotonic() - begun:,.0f} s")
        if counts is not None:
            write_counts(working / "counts", words, found.counts)
            _check_counts(output, target, form, counts, overwrite)
        _check(output, target, form, overwrite)  # again, as this took a while
        if FILES[form]:
            LocalOutput(str(target), target, _written(form)).publish(staged)
        else:
            if counts is not None:  # first: vectors without their counts would pass for a whole export
                os.replace(working / "counts", counts)
            os.replace(staged, target)
    except OSError as error:
        raise refused(f"{target}: could not be written", error) from None
    finally:
        with contextlib.suppress(OSError):
            remove_written(working, re.compile(rf"counts|staged(?:/(?:{_written(form).pattern})?)?"))
    return Exported(len(words), found.dimensions, replaced)


def target_of(path: str) -> Path:
    """Return the place of an export.

    Raises:
        UserError: it is not a path of this host.
    """
    if not is_local(path):
        raise UserError(f"{path}: is not on this host; export to a path of this host, and copy it from there.")
    return local_path(path)


def _ids(output: Path | str, found: embeddings.VectorChunks) -> NDArray[Any] | None:
    """The words as numbers of the column `id`, (V,); None where there is no such column."""
    if found.id_type is None:
        return None
    try:
        return np.asarray(found.words.cast(found.id_type))
    except pa.ArrowInvalid:
        raise OutputError(
            f"{output}: has a column id of {found.id_type}, and words that are no such numbers; copy the output again, "
            "or train again."
        ) from None


def _check_counts(output: Path | None, target: Path, form: str, counts: Path, overwrite: bool) -> None:
    """Refuse a place for the counts, as _check does for the vectors."""
    if FILES[form]:
        raise UserError(f"--counts: is for the formats of word2vec, and {form} has the words in a file of its own.")
    if counts == target:
        raise UserError(f"{counts}: is --to and --counts; give two files.")
    if os.path.dirname(counts) != os.path.dirname(target):
        raise UserError(f"{counts}: is not next to {target}; give another file in the same directory.")
    _check(output, counts, form, overwrite, _is_counts)


def _is_vectors(file: BufferedReader) -> bool:
    """Whether a file is laid out as _write_text or _write_binary lay it out, by its size, its first row and its end."""
    header = file.readline(LONGEST_WORD)
    sizes = SIZES.fullmatch(header)
    if sizes is None:
        return False
    rows, dimensions = map(int, sizes.groups())
    if rows < 1 or not 0 < dimensions <= MOST_DIMENSIONS:
        return False
    end = file.seek(-1, os.SEEK_END) + 1
    if file.read() != b"\n":
        return False
    file.seek(len(header))
    # The program word2vec writes a space at the end of each line.
    word, *numbers = file.readline(LONGEST_WORD + MOST_NUMBER * dimensions).rstrip(b" \n").split(b" ")
    if word and len(numbers) == dimensions and all(map(_is_number, numbers)):
        return True
    file.seek(len(header))
    found = file.read(LONGEST_WORD + 4 * dimensions + 2)
    second = found.find(b" ") + 1 + 4 * dimensions + 1  # after the line feed
    at_end = len(header) + second == end
    # A row has a word of a byte at least, a space and a line feed.
    return (
        end - len(header) >= rows * (4 * dimensions + 3)
        and found.find(b" ") > 0
        and found[second - 1 : second] == b"\n"
        and at_end == (rows == 1)
    )


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_counts(file: BufferedReader) -> bool:
    return all(COUNT.fullmatch(line) for line in iter(lambda: file.readline(LONGEST_WORD), b""))


def _check(
    output: Path | None,
    target: Path,
    form: str,
    overwrite: bool,
    is_ours: Callable[[BufferedReader], bool] = _is_vectors,
) -> None:
    """Refuse a target before anything is read: above all one that holds what no export wrote.

    Args:
        is_ours: whether a file that is not empty may be replaced.
    """
    run = output if output is not None and output in (target, *target.parents) else run_above(target)
    if run is not None:
        raise UserError(f"{target}: is inside of {run}, which holds a run and nothing else; give another path.")
    if not FILES[form] and target.suffix.lower() in PACKED:
        raise UserError(f"{target}: readers would take it for a packed file; give a name without {target.suffix}.")
    try:
        if not target.parent.is_dir():
            raise UserError(f"{target}: cannot be made, as {target.parent} is not a directory.")
        if not os.path.lexists(target):
            return
        if FILES[form]:
            if not target.is_dir():
                raise UserError(f"{target}: is a file, and {form} is a directory; give another path.")
            if found := strangers(target, _written(form)):
                raise UserError(
                    f"{target}: holds {found[0]}, which no export to {form} wrote, so it is not touched, even with "
                    "--overwrite; give another path."
                )
        elif (kind := kind_of(os.lstat(target).st_mode)) != "a file":
            raise UserError(f"{target}: is {kind}, and {form} is a file; give another path.")
        elif overwrite:
            with open_file(target) as file:
                may_go = not file.peek(1) or is_ours(file)
            if not may_go:
                raise UserError(
                    f"{target}: is not laid out as a file of word2vec is, so no export wrote it, and it is not "
                    "touched, even with --overwrite; give another path."
                )
    except OSError as error:
        raise refused(f"{target}: cannot be looked at", error) from None
    if not overwrite:
        raise UserError(f"{target}: exists already; give --overwrite to replace it, or another path.")


def _written(form: str) -> re.Pattern[str]:
    """The paths that an export writes into its directory, as files.strangers has it."""
    folders = {f"{name.partition('/')[0]}/" for name in FILES[form] if "/" in name}
    return re.compile("|".join(map(re.escape, sorted({*FILES[form], *folders}))))
