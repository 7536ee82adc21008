"""What does not go with words that are whole numbers."""

from typing import TYPE_CHECKING

import pyarrow as pa

from spark_w2v.errors import UserError
from spark_w2v.spark.tables import id_type_of
from spark_w2v.text.encoding import ids_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def check_ids(
    segments: "DataFrame",
    phrases: str,
    kept: pa.Array | None = None,
    windows: pa.Table | None = None,
) -> None:
    """Refuse what does not go with the words of SEGMENTS if they are whole numbers, as their schema says.

    Args:
        phrases: the key that asks for phrases; empty where none does.
        kept: words of an earlier run that stay in the vocabulary.
        windows: WINDOWS of an earlier run.

    Raises:
        UserError: there are phrases, or other words, in one sentence.
    """
    if (id_type := id_type_of(segments)) is None:
        return
    if phrases:
        raise UserError(
            f"{phrases}: the words are numbers of the type {id_type}, and phrases of numbers are not numbers; cast the "
            "column to strings, or leave phrases out."
        )
    if windows is not None:
        ids_of(
            windows["word"].unique(),
            id_type,
            "--init: the rare words of the earlier run",
            "remove rare_windows/ of that output",
        )
    if kept is not None:
        ids_of(kept, id_type)
