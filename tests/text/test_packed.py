"""Packed files that Hadoop would read as less than they are."""

import bz2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_w2v.text.packed import damage_of_blocks
from spark_w2v.text.packed import damage_of_bzip2 as damage

TEXT = np.random.default_rng(3).bytes(350_000)
WHOLE = bz2.compress(TEXT, 1)  # blocks of 100 kB: four
MISSING = "it is damaged: not all of its blocks are there"


def pieces(content: bytes, size: int = 1 << 20) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def marks(content: bytes) -> list[int]:
    """The bit at which each block's marker starts, found the slow way."""
    bits = "".join(f"{byte:08b}" for byte in content)
    marker = f"{0x314159265359:048b}"
    found, at = [], bits.find(marker)
    while at >= 0:
        found.append(at)
        at = bits.find(marker, at + 1)
    return found


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("size", [4, 10, 11, 12, 1000, 1 << 20])
def test_whole_files_are_whole_in_pieces_of_any_size(level: int, size: int) -> None:
    assert damage(pieces(bz2.compress(TEXT[:120_000], level), size)) is None


@given(texts=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_files_joined_to_one_and_files_of_nothing_are_whole(texts: list[bytes]) -> None:
    assert damage(pieces(b"".join(map(bz2.compress, texts)), 7 if len(texts) > 2 else 64)) is None


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("bit", [0, 5, 17, 47, 48, 79])
def test_one_bit_of_any_blocks_marker_or_checksum_is_noticed(block: int, bit: int) -> None:
    starts = marks(WHOLE)
    assert len(starts) == 4
    assert len({start % 8 for start in starts}) > 1
    assert damage(pieces(flipped(WHOLE, starts[block] + bit))) == MISSING


def test_what_is_cut_or_no_bzip2_is_told() -> None:
    assert damage(pieces(WHOLE[: len(WHOLE) // 2])) == "it ends too early: truncated?"
    assert damage(pieces(WHOLE[:-4])) == "it ends too early: truncated?"
    for content in (b"just text\n", b"BZ", b"BZh0", b"\x1f\x8b\x08\x00"):
        assert damage([content]) == "it is not bzip2"


def test_only_what_hadoop_may_have_written_passes_for_lz4_and_snappy() -> None:
    assert damage_of_blocks((256 << 10).to_bytes(4, "big") + b"...") is None
    assert damage_of_blocks(b"") is None
    for beginning in (b"just text", b"\n\n\n\n", b"\x04\x22\x4d\x18d@", b"\xff\x06\x00\x00sNaPpY"):
        assert damage_of_blocks(beginning) == "it is not in Hadoop's format, which other tools do not write"
