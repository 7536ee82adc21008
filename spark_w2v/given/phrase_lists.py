"""Lists of phrases as Parquet: what a run or jobs/phrases.py found, to be joined in another text."""

from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_w2v.config.text_sections import MOST_PASSES, MOST_PHRASES
from spark_w2v.errors import UserError
from spark_w2v.storage.files import raise_if_passing, reason
from spark_w2v.text.phrases import PHRASES

FOLDER, FILE = "phrases", "part-00000.parquet"  # in the output of a run
NEEDED = ("phrase", "first", "second", "pass")  # the others may be missing


def write_phrases(output: Path, phrases: pa.Table) -> None:
    """Write PHRASES in the directory of an output."""
    (output / FOLDER).mkdir()
    pq.write_table(phrases, output / FOLDER / FILE)


def read_phrases(path: str) -> pa.Table:
    """Return PHRASES of a file, of a directory of jobs/phrases.py, or of the output of a run.

    Raises:
        UserError: it cannot be read, or holds something else.
        StorageError: it could not be read, and may be later.
    """
    try:
        tables = [_read(file, path) for file in _files(path)]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise_if_passing(f"phrases.list {path}", error)
        _refuse(path, f"cannot be read ({reason(error)})")
    phrases = pa.concat_tables(tables).combine_chunks()
    passes = phrases["pass"].to_numpy()
    if passes.size and not 1 <= passes.min() <= passes.max() <= MOST_PASSES:
        _refuse(path, f"has a pass that is not between 1 and {MOST_PASSES}")
    unique = phrases.group_by(["first", "second", "pass"]).aggregate([])
    if len(unique) != len(phrases):
        _refuse(path, "has a phrase twice")
    return phrases


def _files(path: str) -> list[Path]:
    place = Path(path)
    if not place.is_dir():
        return [place]
    folder = place / FOLDER if (place / FOLDER).is_dir() else place
    files = sorted(folder.glob("part-*.parquet"))
    if not files:
        _refuse(path, "holds no part-*.parquet")
    return files


def _read(file: Path, path: str) -> pa.Table:
    if file.exists() and not file.is_file():
        _refuse(path, "is not a file")
    with pq.ParquetFile(file) as parquet:
        if parquet.metadata.num_rows > MOST_PHRASES:
            _refuse(path, f"has more than {MOST_PHRASES:,} phrases")
        if missing := [name for name in NEEDED if name not in parquet.schema_arrow.names]:
            _refuse(path, f"has no column {missing[0]}")
        table = parquet.read([name for name in PHRASES.names if name in parquet.schema_arrow.names])
    for place, field in enumerate(PHRASES):
        if field.name not in table.schema.names:
            table = table.add_column(place, field.name, pa.nulls(len(table), field.type))
    table = table.select(PHRASES.names).cast(PHRASES)
    table.validate(full=True)  # other programs write strings that are not UTF-8, and the cast keeps them
    for name in NEEDED:
        if table[name].null_count or (name != "pass" and np.any(pc.binary_length(table[name]).to_numpy() == 0)):
            _refuse(path, f"has an empty value in column {name}")
    return table


def _refuse(path: str, found: str) -> NoReturn:
    raise UserError(f"phrases.list {path}: {found}; give the phrases of a run or of jobs/phrases.py.")
