"""The driver's parameters are in files: what is made, kept and removed, and that no process holds a matrix."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_w2v.errors import StorageError
from spark_w2v.runs import parameter_files
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles
from spark_w2v.spark.memory import needed

ROOT = Path(__file__).resolve().parents[2]


def test_parameters_begin_as_zeros_and_are_raw_float32_row_after_row(tmp_path: Path) -> None:
    made = ParameterFiles.create(tmp_path / "a" / "made", 5, 3)
    assert made.is_temporary
    assert made.center.shape == made.context.shape == (5, 3)
    assert not made.center.any()
    assert not made.context.any()
    made.center[2], made.context[4, 1] = (1, 2, 3), 7
    made.flush()
    assert sorted(os.listdir(made.directory)) == ["center.f32", "context.f32"]
    center = np.fromfile(made.directory / "center.f32", "<f4").reshape(5, 3)
    assert center.tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0]]
    assert np.fromfile(made.directory / "context.f32", "<f4").tolist() == [0] * 13 + [7, 0]


def test_opened_parameters_belong_to_somebody_else_and_are_only_read(tmp_path: Path) -> None:
    ParameterFiles.create(tmp_path / "made", 5, 3).center[:] = 4
    opened = ParameterFiles.open(tmp_path / "made", 5, 3)
    assert not opened.is_temporary
    assert (opened.center == 4).all()
    with pytest.raises(ValueError, match="read-only"):
        opened.center[0] = 1


def test_parameters_that_were_moved_or_removed_stay_readable(tmp_path: Path) -> None:
    made = ParameterFiles.create(tmp_path / "made", 5, 3)
    made.move_to(tmp_path / "kept")
    assert (made.directory, made.is_temporary) == (tmp_path / "kept", False)
    made.center[:] = 4
    assert (ParameterFiles.open(tmp_path / "kept", 5, 3).center == 4).all()
    made.remove()
    assert os.listdir(tmp_path) == []
    assert (made.center == 4).all()


def test_a_directory_that_is_there_is_never_taken(tmp_path: Path) -> None:
    made = ParameterFiles.create(tmp_path / "made", 5, 3)
    made.center[:] = 4
    with pytest.raises(FileExistsError):
        ParameterFiles.create(tmp_path / "made", 5, 3)
    assert (ParameterFiles.open(tmp_path / "made", 5, 3).center == 4).all()


def test_a_full_disk_is_noticed_when_files_are_made_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(parameter_files, "_allocate", fail)
    with pytest.raises(StorageError, match=r"made: the parameters could not be written: the disk is full\."):
        ParameterFiles.create(tmp_path / "made", 5, 3)
    assert os.listdir(tmp_path) == []


def test_files_have_all_of_their_room_from_the_start(tmp_path: Path) -> None:
    made = ParameterFiles.create(tmp_path / "made", 1000, 300)
    for name in ("center", "context"):
        found = (made.directory / f"{name}.f32").stat()
        assert found.st_size == 1_200_000
        assert found.st_blocks * 512 >= 1_200_000


def test_rows_are_read_by_word_id() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.random((50, 4), np.float32)
    places = rng.permutation(50).astype(np.int32)
    in_blocks = np.empty_like(matrix)
    in_blocks[places] = matrix
    rows = ByWord(in_blocks, places)
    for asked in (slice(None), slice(7, 31), slice(40, 99), slice(3, 3)):
        assert np.array_equal(rows[asked], matrix[asked])


MODEL = 2 * 200_000 * 300 * 4  # = 480 MB
PROGRAM = """
import sys, threading, time
from pathlib import Path
import numpy as np, pyarrow as pa
from spark_w2v.skipgram.parameters import assign_blocks, initialise
from spark_w2v.analysis import warm_start
from spark_w2v.runs import embedding_writer
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles, fill_average
from spark_w2v.runs.outputs import output_of
from spark_w2v.runs.run import Run
from spark_w2v.spark.vocabulary import Vocabulary

def anonymous():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon:"))
    return int(line.split()[1]) << 10

peak = 0
def sample():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

threading.Thread(target=sample, daemon=True).start()
words, dimensions, output = 200_000, 300, Path(sys.argv[1]) / "out"
blocks = assign_blocks(1 / np.arange(1.0, words + 1), 8)
places = np.argsort(blocks.order).astype(np.int32)
strings, counts = pa.array(map(str, range(words))), np.ones(words, np.int64)
vocabulary = Vocabulary(strings.cast(pa.large_string()), counts, 0, 0)

def begin(resume):
    return Run(output_of(str(output)), overwrite=False, resume=resume, fingerprint={})

with begin(False) as run:
    made = ParameterFiles.create(run.parameters_folder / ".initial.unfinished", words, dimensions)
    initialise(made.center, 1, places)
    run.save_checkpoint({"epoch": 1}, made)
    if len(sys.argv) > 2:  # the test itself is tested
        held = made.center[:] + 0
with begin(True) as run:
    position, parameters = run.load_checkpoint()
    vectors = ByWord(parameters.center, places), ByWord(parameters.context, places)
    run.publish(lambda directory: embedding_writer.write(directory, strings, counts, *vectors, {}), {})
earlier = warm_start.read(str(output), dimensions)
made = ParameterFiles.create(Path(sys.argv[1]) / "next", words, dimensions)
for ids, center, context in warm_start.begin(earlier, vocabulary).rows:
    made.center[places[ids]], made.context[places[ids]] = center, context
for one, other in ((made.center, parameters.center), (made.context, parameters.context)):
    assert all((one[a : a + 1000] == other[a : a + 1000]).all() for a in range(0, words, 1000))
assert made.center.any()
average = ParameterFiles.create(Path(sys.argv[1]) / "average", words, dimensions)
fill_average(average, made, made, np.full(words, 0.5, np.float32))
assert (average.center[-1000:] == made.center[-1000:]).all()
print(peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("holds_a_matrix", [False, True])
def test_the_drivers_python_holds_no_matrix_from_the_first_rows_to_the_output(
    tmp_path: Path, holds_a_matrix: bool
) -> None:
    """Pages of mapped files are not counted: the system takes them back when it needs them."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *["hold"] * holds_a_matrix],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    bound = needed(200_000, 300, 8, "blocks", 1e9, 2).driver
    assert bound < 0.65 * MODEL
    assert (int(ran.stdout) < bound) != holds_a_matrix, f"{int(ran.stdout) / 1e6:.0f} MB"
    print(f"{int(ran.stdout) / 1e6:.0f} MB")
