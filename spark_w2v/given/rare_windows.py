"""Windows of rare words as Parquet in the output of a run, for the next one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_w2v.config.text_sections import MOST_WINDOWS
from spark_w2v.errors import OutputError
from spark_w2v.storage.files import open_file, raise_if_passing, reason
from spark_w2v.text.rare_windows import WINDOWS

FOLDER, FILE = "rare_windows", "part-00000.parquet"  # in the output of a run


def write_windows(output: Path, windows: pa.Table) -> None:
    """Write WINDOWS in the directory of an output."""
    (output / FOLDER).mkdir()
    pq.write_table(windows, output / FOLDER / FILE, compression="zstd", write_page_checksum=True)


def read_windows(output: Path) -> pa.Table | None:
    """Return WINDOWS of the output of a run; None where it kept none.

    Raises:
        OutputError: they cannot be read, or are something else.
        StorageError: they could not be read, and may be later.
    """
    path = output / FOLDER / FILE
    if not path.parent.exists():
        return None
    try:
        with open_file(path) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            if file.metadata.num_rows > MOST_WINDOWS:
                raise OutputError(f"{path}: has more than {MOST_WINDOWS:,} windows; train again.")
            windows = file.read(WINDOWS.names).cast(WINDOWS)
        windows.validate(full=True)  # strings that are not UTF-8 are read all the same
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        if isinstance(error, OutputError):
            raise
        raise_if_passing(str(path), error)
        raise OutputError(
            f"{path}: cannot be read as windows of rare words, perhaps it is damaged ({reason(error)}); copy the "
            "output again, or train again."
        ) from None
    elements = pc.list_flatten(windows["sentence"])
    if (
        any(column.null_count for column in (*windows.columns, elements))
        or pc.any(pc.less(windows["weight"], 0)).as_py()
    ):
        raise OutputError(f"{path}: has nulls or negative weights; train again.")
    return windows
