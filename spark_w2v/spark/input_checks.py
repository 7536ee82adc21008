"""Checks of what was listed, before any of it is read."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spark_w2v.errors import UserError
from spark_w2v.spark.hadoop_files import File, Hadoop, directories_above, is_pattern, local_path
from spark_w2v.text import packed
from spark_w2v.text.messages import counted, path_text, some

log = logging.getLogger(__name__)

AT_A_TIME = 4 << 20  # bytes of a .bz2 that come to the driver together
MOST_CHECKED = 2 << 30  # bytes of .bz2 that the driver looks through, = 40 s
READERS = 8  # threads that look at how files begin


def check_outputs(hadoop: Hadoop, given: Sequence[str], roots: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse to write where the next run would read."""
    read = {_alike(root): root for root in roots}
    patterns = [(name, os.path.abspath(name)) for name in given if is_pattern(name) and ":/" not in name]
    for output in outputs:
        inside = [output, *directories_above([output])]
        found = [read[_alike(path)] for path in inside if _alike(path) in read]
        found += [name for name, pattern in patterns if any(hadoop.fits(path, pattern) for path in inside)]
        if found:
            raise UserError(
                f"{output}: is inside of --input {path_text(found[0])}, so the next run would read it; give another."
            )


def _alike(path: str) -> str:
    return re.sub("^s3[an]?:/+", "s3://", path.rstrip("/"))


def check_text(files: Sequence[File], kind: str) -> None:
    """Refuse files that Spark would read as text, and that are something else; warn of fields where text is read.

    Args:
        kind: corpus.format.
    """
    paths = [path_text(file.path) for file in files]
    here = [path for file in files if (path := local_path(file.path)) is not None]
    with ThreadPoolExecutor(READERS) as readers:
        beginnings = dict(zip(here, readers.map(packed.beginning_of, here), strict=True))
    found: dict[str, list[str]] = {}
    formats: dict[str, list[str]] = {}
    for path in paths:
        beginning = beginnings.get(path, b"")
        if reason := packed.not_text_by_name(path) or packed.not_text_by_content(path, beginning):
            found.setdefault(reason, []).append(path)
        elif kind == "text" and (seems := packed.format_of_fields(path, beginning)):
            formats.setdefault(seems, []).append(path)
    for reason, bad in found.items():
        raise UserError(f"{some(bad)}: {reason}.")
    for seems, odd in formats.items():
        log.warning(
            'corpus.format: as "text", the names of fields are words, and so is all that is in them; "%s" is for %s',
            seems, some(odd),
        )  # fmt: skip


def check_packed(hadoop: Hadoop, files: Sequence[File]) -> None:
    """Refuse packed files of which Hadoop would read less than there is, and not say so."""
    bzip2 = [file for file in files if file.path.lower().endswith(".bz2")]
    blocks = [file for file in files if file.path.lower().endswith((".lz4", ".snappy"))]
    if sum(file.bytes for file in bzip2) > MOST_CHECKED:
        log.warning(
            "%s: too large to be looked through for damage, which Hadoop passes over in silence; test with bzip2 -t",
            counted(len(bzip2), ".bz2 file"),
        )
        bzip2 = []
    if bzip2:
        size = f"{sum(file.bytes for file in bzip2) / 1e6:,.0f} MB"
        log.info("looking for damage in %s, %s", counted(len(bzip2), ".bz2 file"), size)
    if blocks:
        log.warning(
            "%s of .lz4 or .snappy: where one is cut short, Hadoop does not notice", counted(len(blocks), "file")
        )
    for file in [*bzip2, *blocks]:
        stream = hadoop.open(file.path)
        try:
            if file in blocks:
                reason = packed.damage_of_blocks(bytes(stream.readNBytes(4)))
            else:
                reason = packed.damage_of_bzip2(_chunks_of(stream))
        finally:
            stream.close()
        if reason is not None:
            raise UserError(
                f"{path_text(file.path)}: cannot be read to its end ({reason}); replace it, or leave it out of --input."
            )


def _chunks_of(stream: Any) -> Iterator[bytes]:
    while piece := bytes(stream.readNBytes(AT_A_TIME)):
        yield piece
