"""Whether files are text, packed or not, as their names say, and whole, where Hadoop reads on as if they were.

In a .bz2, Hadoop looks for the next block by its marker, 48 bits that may start at any bit, and checks each block that
it finds. A block whose marker is damaged it never finds, and passes over 900 kB of text without a word. The end of a
stream has a checksum of the blocks' checksums, which follow their markers, so nothing has to be unpacked to see that
one is missing.

A .lz4 or .snappy is to Hadoop a format of its own: the length of what was packed, and that. It reads a length of
gigabytes from text or from files of the commands lz4 and snzip, and either gives nothing or asks for as much memory.
"""

import codecs
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePosixPath

import pyarrow as pa

BLOCK, END = 0x314159265359, 0x177245385090  # the markers of a block and of the end of a stream
NEITHER = 0
CORES = tuple(
    # Of a marker that starts `shift` bits into a byte, the bytes that it fills alone.
    (magic, shift, (magic << (8 - shift)).to_bytes(7, "big")[1:6])
    for magic in (BLOCK, END)
    for shift in range(8)
)
WINDOW = 11  # bytes: 7 bits, a marker of 48 and a checksum of 32
LARGEST_BLOCK = 64 << 20  # bytes unpacked; Hadoop writes 256 kB at a time. Text begins with 150 million and more
BEGINNING = re.compile(rb"BZh[1-9]")

# How many bytes of text a byte of a packed file is, about.
UNPACKED = {".gz": 4, ".bz2": 4, ".zst": 4, ".deflate": 4, ".lz4": 2, ".snappy": 2}
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # of these, those that PyArrow reads

# Names of what Hadoop does not unpack; Spark reads it as if it were text.
ARCHIVES = (
    *(".zip", ".7z", ".rar", ".jar", ".cpio", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst"),
    *(f".tar{end}" for end in (*UNPACKED, ".xz", ".z", ".lz", ".lzma", ".br")),
)
UNKNOWN = (".xz", ".z", ".lz", ".lzma", ".lzo")
ARCHIVE = "is an archive, not text; unpack it, and give what was in it"
RENAME = "is packed with {}, but Spark goes by the name; rename it to end in {}"
UNPACK = "is packed in a way that Spark does not unpack; unpack it, or pack it with gzip"
OTHER = "is {}, not text; convert it, or leave it out of --input"
BEGINNINGS = {
    **dict.fromkeys((b"BZh%d1AY&SY" % level for level in range(1, 10)), RENAME.format("bzip2", ".bz2")),
    b"PK\x03\x04": ARCHIVE,  # zip
    b"PK\x05\x06": ARCHIVE,  # an empty one
    b"7z\xbc\xaf\x27\x1c": ARCHIVE,
    b"Rar!\x1a\x07": ARCHIVE,
    b"\x1f\x8b\x08": RENAME.format("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": RENAME.format("zstd", ".zst"),
    b"\x04\x22\x4d\x18": UNPACK,  # a frame of the command lz4
    b"\xfd7zXZ\x00": "is packed with xz, which Spark does not unpack; unpack it, or pack it with gzip",
    b"PAR1": "is Parquet, not text; set corpus.format to parquet, or leave it out of --input",
    b"Obj\x01": "is Avro, not text; set corpus.format to avro, or leave it out of --input",
    b"ARROW1\x00\x00": OTHER.format("an Arrow file"),
    b"%PDF-": OTHER.format("PDF"),
    b"SQLite format 3\x00": OTHER.format("a SQLite database"),
    b"\x89PNG\r\n": OTHER.format("a picture"),
    b"\xd0\xcf\x11\xe0\xa1\xb1": OTHER.format("a document of Office"),
}
JSON_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')
# Formats of text with fields, by the ends of names; as plain text, their names and numbers would be words.
FIELDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def suffix(path: str) -> str:
    """The end of a name by which Hadoop tells how a file is packed."""
    return PurePosixPath(path).suffix


def not_text_by_name(path: str) -> str | None:
    """Return why a file cannot be text by its name, as the end of a sentence; None where it may be, packed or not."""
    name = path.lower()
    if name.endswith(ARCHIVES):
        return ARCHIVE
    if name.endswith(UNKNOWN):
        return UNPACK
    return None


def format_of_fields(path: str, beginning: bytes) -> str | None:
    """Return the corpus.format that a file of text seems to have, by its name and beginning; None of plain text."""
    name = path.lower()
    end = suffix(name)
    if (by_name := FIELDS.get(suffix(name.removesuffix(end)) if end in UNPACKED else end)) is not None:
        return by_name
    line, line_end, _ = beginning.partition(b"\n")
    is_object = JSON_OBJECT.match(line) is not None and (not line_end or line.rstrip().endswith(b"}"))
    return "jsonl" if is_object else None


def beginning_of(path: str) -> bytes:
    """Return how a file of this machine begins, unpacked if its name says so; nothing if it cannot be read.

    Spark says why then.
    """
    try:
        with pa.input_stream(path, compression=CODECS.get(suffix(path)), buffer_size=tarfile.BLOCKSIZE) as stream:
            return bytes(stream.read(tarfile.BLOCKSIZE))
    except OSError:
        return b""


def not_text_by_content(path: str, beginning: bytes) -> str | None:
    """Return why a file cannot be text by how it begins, as the end of a sentence; None where it may be.

    Args:
        beginning: as beginning_of returns it.
    """
    # Which is the end of texts in Breton, too. Of a file of another machine nothing is known.
    if path.lower().endswith(".br") and not (beginning and _may_be_utf8(beginning)):
        return UNPACK
    for magic, meaning in BEGINNINGS.items():
        if beginning.startswith(magic):
            return meaning
    try:
        tarfile.TarInfo.frombuf(beginning, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return ARCHIVE


def _may_be_utf8(beginning: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def damage_of_blocks(beginning: bytes) -> str | None:
    """Return the fault in the beginning of a .lz4 or .snappy file; None where Hadoop may have written it."""
    if int.from_bytes(beginning[:4], "big") > LARGEST_BLOCK:
        return "it is not in Hadoop's format, which other tools do not write"
    return None


def damage_of_bzip2(pieces: Iterable[bytes]) -> str | None:
    """Return the fault of a .bz2 file, as the end of a sentence; None where every block is there.

    Args:
        pieces: the bytes of the file, in pieces of at least 4.
    """
    combined, has_ended = 0, False
    for magic, checksum in _markers(pieces):
        if magic == NEITHER:
            return "it is not bzip2"
        if magic == BLOCK:
            combined, has_ended = ((combined << 1 | combined >> 31) & 0xFFFFFFFF) ^ checksum, False
        elif checksum != combined:
            return "it is damaged: not all of its blocks are there"
        else:
            combined, has_ended = 0, True
    return None if has_ended else "it ends too early: truncated?"


def _markers(pieces: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Marker and checksum of each block and each end, in order; NEITHER where a file does not begin as bzip2 does."""
    data, has_begun = b"", False
    for piece in chain(pieces, [b"\0"]):  # the last marker need not fill its window
        data += piece
        if not has_begun:
            if not BEGINNING.match(data):
                yield NEITHER, 0
                return
            has_begun = True
        found = []
        for magic, shift, core in CORES:
            start = data.find(core, 1) - 1
            while start >= 0:
                window = data[start : start + WINDOW]
                marked = int.from_bytes(window, "big") >> (8 * WINDOW - 80 - shift)
                if len(window) == WINDOW and marked >> 32 & 0xFFFFFFFFFFFF == magic:
                    found.append((start, magic, marked & 0xFFFFFFFF))
                start = data.find(core, start + 2) - 1
        yield from ((magic, checksum) for _, magic, checksum in sorted(found))
        data = data[-WINDOW + 1 :]  # so that a window that is cut is found, and once
