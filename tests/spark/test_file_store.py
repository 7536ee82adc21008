"""The driver's files of an epoch."""

from pathlib import Path

import numpy as np
import pytest

from spark_w2v.errors import StorageError
from spark_w2v.exchange.plan import CENTER, CONTEXT
from spark_w2v.runs.parameter_files import ParameterFiles
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.spark.block_epochs import FileStore

BLOCKS = assign_blocks(np.ones(6), 2)


class Maker:
    """Makes parameters of three rows of a block, and keeps in mind of which sweeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, list[int]()

    def __call__(self, sweep: int) -> ParameterFiles:
        if sweep == 9:
            raise StorageError("the disk is full")
        self.made.append(sweep)
        return ParameterFiles.create(self.folder / f".{sweep}.unfinished", 6, 4)


def mapped() -> str:
    return Path("/proc/self/maps").read_text()


def test_files_are_there_before_rows_come_and_go_when_they_are_not_needed(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    before = ParameterFiles.create(tmp_path / ".before.unfinished", 6, 4)
    store = FileStore(BLOCKS, before, make, iter([0, 1, 2]))
    assert make.made == [0, 1]
    store.write(0, CENTER, 1)[:] = 1
    store.write(1, CONTEXT, 0)[:] = 2
    assert store.read(CENTER, 0).shape == (3, 4)
    before.remove()
    del before
    assert ".before.unfinished" in mapped()
    ended = store.take(0)
    assert ".before.unfinished" not in mapped(), "its place on the disk is free"
    assert sorted(np.unique(ended.center)) == [0, 1]
    assert make.made == [0, 1]
    for _ in range(2):
        store.make_next()
    assert make.made == [0, 1, 2]
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".0.unfinished"]
    del ended
    assert str(tmp_path) not in mapped(), "the exchange may have the store for as long as it likes"


def test_a_full_disk_leaves_no_files(tmp_path: Path) -> None:
    before = ParameterFiles.create(tmp_path / ".before.unfinished", 6, 4)
    with pytest.raises(StorageError, match="the disk is full"):
        FileStore(BLOCKS, before, Maker(tmp_path), iter([0, 9]))
    assert [path.name for path in tmp_path.iterdir()] == [".before.unfinished"]
