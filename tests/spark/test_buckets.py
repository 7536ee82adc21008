"""Pairs on their way: drawn, cut by task, spooled, and read bucket by bucket; each once, whoever gets it."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.exchange.plan import share_blocks
from spark_w2v.skipgram.pairs import PairCodec, PairSampler
from spark_w2v.skipgram.parameters import assign_blocks
from spark_w2v.spark import buckets
from spark_w2v.spark.buckets import Record, Spool, draw_records, file_pairs, merge_records, read_records
from spark_w2v.spark.memory import needed
from spark_w2v.text.encoding import segment_of, segments_of

EPOCH = 1
EDGES = np.array([0.0, 0.3, 0.6, 1.0])
SWEEPS = 3


def rows_of_text(sampler: PairSampler, segments: int = 4) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(3)
    share = 1 / np.arange(1, sampler.keep.size + 1)
    rows = []
    for segment in range(segments):
        lengths = rng.integers(1, 20, 40).astype(np.int32)
        ids = rng.choice(share.size, int(lengths.sum()), p=share / share.sum()).astype(np.int32)
        rows.append((0, 0, segment, ids.tobytes(), lengths.tobytes(), b""))
    return rows


@pytest.fixture(scope="module", params=[(400, 5), (300_000, 2), (300_000, 3)], ids=str)
def sampler(request: pytest.FixtureRequest) -> PairSampler:
    """Of few words in five blocks, and of blocks whose pairs are stored without the highest bits of their centers."""
    words, count = request.param
    return PairSampler(np.full(words, 0.9, np.float32), 4, 1, 0.0, assign_blocks(1 / np.arange(1.0, words + 1), count))


def expected(sampler: PairSampler) -> dict[tuple[int, int, int], list[int]]:
    """The sorted pairs of each sweep, center block and context block, taken apart one number at a time."""
    codec = PairCodec.of(sampler.blocks)
    found: dict[tuple[int, int, int], list[int]] = {}
    for row in rows_of_text(sampler):
        for key in sampler.pairs(*segment_of(row)[:3], EPOCH, EDGES)[0].tolist():
            rows, blocks = key & ((1 << 2 * codec.row) - 1), key >> 2 * codec.row
            mask = (1 << codec.block) - 1
            place = blocks >> 2 * codec.block, blocks >> codec.block & mask, blocks & mask
            found.setdefault(place, []).append(rows)
    return {place: sorted(pairs) for place, pairs in found.items()}


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("spooled", [1, 3000, 1 << 20])
@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("filed", [False, True])
def test_each_task_finds_each_pair_of_its_buckets_once(
    sampler: PairSampler,
    tasks: int,
    spooled: int,
    few: int,
    filed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "SPOOL_BYTES", spooled)
    monkeypatch.setattr(buckets, "FEW_PAIRS", few)
    monkeypatch.setattr(buckets, "USUAL_CHUNK", 2000)
    monkeypatch.setattr(buckets, "RECORD_PAIRS", 1)
    monkeypatch.setattr(buckets, "OPEN_FILES", 2)
    count = sampler.blocks.count
    codec, ranges = PairCodec.of(sampler.blocks, SWEEPS), share_blocks(count, min(tasks, count))
    records: list[Record] = []
    for row in rows_of_text(sampler):  # a task of Spark's each
        drawn = draw_records([row], sampler, EPOCH, EDGES, ranges)
        for record in file_pairs(drawn, str(tmp_path)) if filed else drawn:
            records += read_records(record.batch(), codec.stored)
    assert len(records) > tasks
    wanted = expected(sampler)
    for task, (begin, end) in enumerate(ranges):
        spool = Spool(SWEEPS * (end - begin) * count, codec, str(tmp_path))
        for record in records:
            if record.task == task:
                spool.add(record)
        spool.flush()
        for sweep in range(SWEEPS):
            for center in range(begin, end):
                first = (sweep * (end - begin) + center - begin) * count
                for context in range(count):
                    pairs = spool.bucket(first + context)
                    assert pairs.dtype == codec.dtype
                    masked = sorted((pairs & pairs.dtype.type((1 << 2 * codec.row) - 1)).tolist())
                    assert masked == wanted.get((sweep, center, context), [])
        spool.close()
    assert sum(int(record.sizes.sum()) for record in records) == sum(map(len, wanted.values()))
    assert sum(record.pairs.size for record in records) == (0 if filed else sum(map(len, wanted.values())))
    assert len(list(tmp_path.iterdir())) == (len(rows_of_text(sampler)) if filed else 0)


def test_memory_of_many_sweeps_is_what_the_check_before_training_says(tmp_path: Path) -> None:
    words, count, sweeps, tasks = 400, 8, 1 << 16, 2
    sampler = PairSampler(
        np.full(words, 0.9, np.float32), 4, 1, 0.0, assign_blocks(1 / np.arange(1.0, words + 1), count)
    )
    rows, edges = rows_of_text(sampler), np.linspace(0, 1, sweeps + 1)
    one, many = (needed(words, 100, count, "blocks", 1e6, tasks, sweeps=number).task for number in (1, sweeps))
    tracemalloc.start()
    try:
        spool = Spool(sweeps * count * count // tasks, PairCodec.of(sampler.blocks, sweeps), str(tmp_path))
        for record in draw_records(rows, sampler, EPOCH, edges, share_blocks(count, tasks)):
            if record.task == 1:
                spool.add(record)
        drawn = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        spool.flush()
        spooled = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    spool.close()
    assert (many - one) / 3 < max(drawn, spooled) < many - one


@pytest.mark.parametrize("filed", [False, True])
def test_memory_of_pairs_that_are_drawn_and_spooled_does_not_grow_with_their_number(
    filed: bool, sampler: PairSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "SPOOL_BYTES", 50_000)
    monkeypatch.setattr(buckets, "USUAL_CHUNK", 10_000)
    monkeypatch.setattr(buckets, "RECORD_PAIRS", 1)
    codec, count = PairCodec.of(sampler.blocks, SWEEPS), sampler.blocks.count

    def pairs_and_peak(segments: int) -> tuple[int, int, int]:
        """Pairs, most bytes until they are spooled, and most bytes while they are read, beside a bucket itself."""
        rows, spool = rows_of_text(sampler, 1) * segments, Spool(SWEEPS * count * count, codec, str(tmp_path))
        tracemalloc.start()
        try:
            drawn = draw_records(rows, sampler, EPOCH, EDGES, share_blocks(count, 1))
            for record in file_pairs(drawn, str(tmp_path)) if filed else drawn:
                for received in read_records(record.batch(), codec.stored):
                    spool.add(replace(received, pairs=received.pairs.copy()))  # what Arrow holds is not traced
            spool.flush()
            spooled, read = tracemalloc.get_traced_memory()[1], 0
            for number in range(SWEEPS * count * count):
                tracemalloc.reset_peak()
                size = 3 * spool.bucket(number).nbytes  # as stored, and with the strip's bits
                read = max(read, tracemalloc.get_traced_memory()[1] - size)
        finally:
            tracemalloc.stop()
            spool.close()
        return spool.pairs, spooled, read

    pairs_and_peak(1)  # imports what it needs
    (few, *small), (many, *large) = pairs_and_peak(40), pairs_and_peak(160)
    assert many == 4 * few > 200_000
    assert large[0] < 1.1 * small[0]
    assert large[1] < small[0]


def test_words_are_counted_once_however_many_tasks_there_are(sampler: PairSampler) -> None:
    count = sampler.blocks.count
    counts = [
        sum(
            record.words
            for record in draw_records(rows_of_text(sampler), sampler, EPOCH, EDGES, share_blocks(count, tasks))
        )
        for tasks in (1, 2, count)
    ]
    kept = sum(sampler.pairs(*segment_of(row)[:3], EPOCH, EDGES)[1] for row in rows_of_text(sampler))
    assert counts == [kept] * 3


def test_sweeps_that_are_done_are_left_out_and_the_others_are_the_same(sampler: PairSampler) -> None:
    count, strips = sampler.blocks.count, 1 << PairCodec.of(sampler.blocks, SWEEPS).strip
    ranges = share_blocks(count, 1)
    whole = np.concatenate(
        [record.sizes for record in draw_records(rows_of_text(sampler), sampler, EPOCH, EDGES, ranges)]
    )
    (rest,) = draw_records(rows_of_text(sampler), sampler, EPOCH, EDGES, ranges, first=2)
    first = 2 * count * count * strips
    assert not rest.sizes[:first].any()
    assert np.array_equal(rest.sizes[first:], whole[first:])
    assert rest.pairs.size == whole[first:].sum()


@pytest.mark.parametrize("large", [False, True])
def test_records_and_pieces_pass_through_arrow_whatever_its_offsets_are(sampler: PairSampler, large: bool) -> None:
    binary = pa.large_binary() if large else pa.binary()
    for record in draw_records(rows_of_text(sampler), sampler, EPOCH, EDGES, share_blocks(sampler.blocks.count, 2)):
        batch = record.batch()
        columns = [column.cast(binary) if pa.types.is_binary(column.type) else column for column in batch.columns]
        received = pa.RecordBatch.from_arrays(columns, batch.schema.names)
        (found,) = read_records(received, record.pairs.dtype)
        assert (found.task, found.words) == (record.task, record.words)
        assert np.array_equal(found.sizes, record.sizes)
        assert np.array_equal(found.pairs, record.pairs)
    rows = rows_of_text(sampler)
    names = ("file", "start", "segment", "ids", "lengths", "weights")
    types = (pa.int32(), pa.int64(), pa.int32(), binary, binary, binary)
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, names)
    found_rows = list(segments_of([batch.slice(0, 1), batch.slice(1)]))
    assert [(*row[:3], row[3].to_pybytes(), row[4].to_pybytes(), row[5].to_pybytes()) for row in found_rows] == rows


def test_pairs_of_several_records_come_out_by_bucket() -> None:
    records: list[tuple[Any, Any]] = [
        (np.array([2, 0, 1], np.uint8), np.array([1, 2, 3], np.uint32)),
        (np.array([1, 1, 0], np.uint16), np.array([4, 5], np.uint32)),
    ]
    assert merge_records(records, np.array([0, 3, 4]), np.dtype(np.uint32)).tolist() == [1, 2, 4, 5, 3]


def test_a_task_without_a_pair_has_empty_buckets(tmp_path: Path) -> None:
    spool = Spool(4, PairCodec(3, 1), str(tmp_path))
    spool.add(Record(0, 7, 0.5, np.zeros(4, np.uint8), np.empty(0, np.uint32)))
    spool.flush()
    assert [spool.bucket(number).size for number in range(4)] == [0] * 4
    assert (spool.words, spool.draw_seconds) == (7, 0.5)
    spool.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full")
def test_a_full_local_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(4, PairCodec(3, 1), str(tmp_path))
    spool._file.close()
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(spool, "_file", full)
        spool.add(Record(0, 7, 0.5, np.full(4, 25_000, np.uint16), np.zeros(100_000, np.uint32)))
        with pytest.raises(OSError, match="No space left on device"):
            spool.flush()
    spool.close()
