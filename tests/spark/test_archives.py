"""Archives and other files that are not text are refused."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_w2v.text import packed
from tests.support.inputs import LINE, refused, text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def tar_of(data: bytes, mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        info = tarfile.TarInfo("a.txt")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", data)
    return buffer.getvalue()


DATA = LINE.encode() * 50


ARCHIVES = {
    "a.tar.gz": tar_of(DATA, "w:gz"), "a.tgz": tar_of(DATA, "w:gz"), "a.gz": tar_of(DATA, "w:gz"),
    "a.bz2": tar_of(DATA, "w:bz2"), "a.tar": tar_of(DATA, "w"), "a.txt": tar_of(DATA, "w"),
    "a.zip": zip_of(DATA), "a.docx": zip_of(DATA), "a.ZIP": b"whatever", "a.7z": b"whatever", "a.rar": b"whatever",
    "a.tar.xz": b"whatever", "empty.zip": zip_of(b"")[-22:],
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_by_its_name_or_by_how_it_begins(spark: "SparkSession", folder: Path, name: str) -> None:
    text(folder / "b.txt")
    (folder / name).write_bytes(ARCHIVES[name])
    assert refused(spark, folder) == f"{folder}/{name}: {packed.ARCHIVE}."


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", gzip.compress(DATA, mtime=0), "is packed with gzip, but Spark goes by the name"),
        ("a.xz", b"whatever", "is packed in a way that Spark does not unpack"),
        ("a.csv", b"PAR1whatever", "is Parquet, not text; set corpus.format"),
        ("a.txt", b"%PDF-1.7", "is PDF, not text"),
    ],
)
def test_what_is_not_text_is_refused(spark: "SparkSession", folder: Path, name: str, content: bytes, says: str) -> None:
    (folder / name).write_bytes(content)
    assert f"{folder}/{name}: {says}" in refused(spark, folder)


def test_text_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in (b"", b"short", b"PK is not a zip\n" * 100, b"BZh is how bzip2 begins\n" * 50, b"\0" * 600):
        path.write_bytes(content)
        assert packed.not_text_by_content(str(path)) is None
