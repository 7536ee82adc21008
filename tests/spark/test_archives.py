"""Archives and other files that are not text are refused."""

import bz2
import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_w2v.spark import corpus
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
        ("a.txt", bz2.compress(DATA, 1), "is packed with bzip2, but Spark goes by the name"),
        ("a.txt", b"\x04\x22\x4d\x18whatever", "is packed in a way that Spark does not unpack"),
        ("en.br", b"\x0b\xff\x80whatever", "is packed in a way that Spark does not unpack"),
    ],
)
def test_what_is_not_text_is_refused(spark: "SparkSession", folder: Path, name: str, content: bytes, says: str) -> None:
    (folder / name).write_bytes(content)
    assert f"{folder}/{name}: {says}" in refused(spark, folder)


def test_a_text_in_breton_is_read(spark: "SparkSession", folder: Path) -> None:
    (folder / "en.br").write_text("demat d\u2019an holl, trugarez")
    assert len(corpus.list_files(spark, [str(folder)], "text").files) == 1


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", b'\xef\xbb\xbf {"text": "a b"}\n', "jsonl"),
        ("a.txt", b'{"a \\" b":1}', "jsonl"),
        ("a.jsonl.gz", gzip.compress(b"a b", mtime=0), "jsonl"),
        ("a.txt.gz", gzip.compress(b'{"text": 1}', mtime=0), "jsonl"),
        ("a.CSV", b"a,b\n", "csv"),
        ("a.txt", b"{a: b}\n", None),
        ("package.json", b'{"name": "a",\n "version": 1}', None),
        ("a.json.txt", b"a b\n", None),
    ],
)
def test_text_that_seems_to_have_fields_is_warned_of(
    spark: "SparkSession",
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes,
    kind: str | None,
) -> None:
    (folder / name).write_bytes(content)
    corpus.list_files(spark, [str(folder)], "text")
    says = 'corpus.format: as "text", the names of fields are words, and so is all that is in them; "{}" is for {}'
    assert caplog.messages == ([says.format(kind, folder / name)] if kind else [])
    caplog.clear()
    corpus.list_files(spark, [str(folder)], "csv")
    assert not caplog.messages


def test_text_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in (b"", b"short", b"PK is not a zip\n" * 100, b"BZh is how bzip2 begins\n" * 50, b"\0" * 600):
        path.write_bytes(content)
        assert packed.not_text_by_content(str(path), packed.beginning_of(str(path))) is None
