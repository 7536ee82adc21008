"""The words of segments are packed, hashed and counted as plain Python does it."""

import subprocess
import sys
from collections import Counter
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.text import records, spellings, word_counts
from spark_w2v.text.records import rows_of
from spark_w2v.text.spellings import packed_words, word_hashes, words_of
from spark_w2v.text.weights import UNITS
from spark_w2v.text.word_counts import BUCKET_BYTES, WORD_BYTES, add_records, buckets_of, count_records

examples = settings(max_examples=100)
WORDS = st.text(alphabet="ab\n\0é\U0001f600", max_size=4)
ROWS = st.lists(st.dictionaries(WORDS, st.integers(1, 2**40), max_size=5), max_size=6)


def batch_of(rows: list[dict[str, int]]) -> pa.RecordBatch:
    """The words and counts of SEGMENTS, between other rows in Arrow's buffers."""
    around = [{"before": 1}, *rows, {"after": 1}]
    packed = [packed_words(pa.array(["x", *row], pa.string()).slice(1)) for row in around]
    whole = pa.RecordBatch.from_pydict(
        {
            "words": pa.array([words for words, _ in packed], pa.binary()),
            "ends": pa.array([ends for _, ends in packed], pa.binary()),
            "counts": pa.array([np.array([*row.values()], "<i8").tobytes() for row in around], pa.binary()),
        }
    )
    return whole.slice(1, len(rows))


@examples
@given(ROWS)
def test_packed_words_come_out_again(rows: list[dict[str, int]]) -> None:
    words, begins = words_of(batch_of(rows))
    words.validate(full=True)
    assert words.to_pylist() == [word for row in rows for word in row]
    assert begins.tolist() == [0, *accumulate(len(row) for row in rows)]


def python_hash(word: str, hashed: int) -> int:
    odd, modulus = int(spellings.ODD), 2**64
    found = (
        sum((byte + 1) * pow(odd, place + 1, modulus) for place, byte in enumerate(word.encode()[:hashed])) % modulus
    )
    found = (found ^ found >> 32) * odd % modulus
    return found ^ found >> 29


@pytest.mark.parametrize("hashed", [1, 7, 1 << 20])
def test_a_hash_follows_from_the_word_alone(hashed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spellings, "HASHED", hashed)
    words = ["", "a", "aa", "b", "é", "a" * 30, "", "\0", "\0\0", "ab", "ba"]
    found = word_hashes(pa.array(["other", *words, "others"], pa.string()).slice(1, len(words)))
    assert found.view(np.uint64).tolist() == [python_hash(word, hashed) for word in words]
    assert not word_hashes(pa.array([], pa.string())).size


@pytest.mark.slow
def test_a_million_words_have_hashes_of_their_own_and_fill_buckets_alike() -> None:
    hashes = word_hashes(pa.array([f"w{number}" for number in range(1_000_000)], pa.string()))
    assert np.unique(hashes).size == hashes.size
    sizes = np.bincount(hashes % 64, minlength=64)
    assert np.abs(sizes - 15_625).max() < 6 * 15_625**0.5


def counts_of(
    rows: list[dict[str, int]], batches: int, buckets: int, weighted: bool = False
) -> list[list[tuple[str, int]]]:
    """What the tasks of the buckets make of the records of a task."""
    parts = [rows[number::batches] for number in range(batches)]
    found = list(count_records(iter([batch_of(part) for part in parts]), buckets))
    result = []
    for bucket in range(buckets):
        mine = [batch.filter(pa.array([n == bucket for n in batch["bucket"].to_pylist()])) for batch in found]
        shuffled = [pa.concat_batches(mine)] if mine else []  # as Spark hands them over
        added = [row for batch in add_records(iter(shuffled), weighted) for row in batch.to_pylist()]
        result.append([(row["word"], row["count"]) for row in added])
    return result


@examples
@given(ROWS, st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 60, 10**6]), st.sampled_from([1, 1 << 20]))
def test_each_word_is_in_one_bucket_with_the_sum_of_its_counts(
    rows: list[dict[str, int]], batches: int, buckets: int, added: int, packed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "ADDED_BYTES", added)
        patch.setattr(records, "PACKED_BYTES", packed)
        found = counts_of(rows, batches, buckets)
    expected: Counter[str] = Counter()
    for row in rows:
        expected.update(row)
    assert Counter(dict(pair for bucket in found for pair in bucket)) == expected
    assert sum(map(len, found)) == len(expected)


def test_sums_of_weights_are_rounded_once() -> None:
    third = UNITS // 3
    rows = [{"a": third, "b": UNITS // 2}, {"a": third}, {"b": UNITS // 2 - 1}, {"a": third, "c": third}]
    assert dict(counts_of(rows, 2, 1, weighted=True)[0]) == {"a": 1, "b": 1, "c": 0}


def test_a_task_adds_up_at_most_so_many_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "ADDED_BYTES", 6 * (2 + WORD_BYTES))
    batches = [batch_of([{f"{number}{letter}": 1 for letter in "abc"}]) for number in range(4)]
    found = [len(rows) for rows in rows_of(count_records(iter(batches), 1))]
    assert found == [12]  # packed together again
    monkeypatch.setattr(records, "PACKED_BYTES", 1)
    assert [len(rows) for rows in rows_of(count_records(iter(batches), 1))] == [6, 6]


# The words are numbers of 10 digits, 200,000 in a segment.
PEAK = """
import re, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from spark_w2v.text.word_counts import BUCKET_BYTES, WORD_BYTES, add_records, count_records

def segments(count):
    for number in range(count):
        numbers, digits = np.arange(number * 200_000, (number + 1) * 200_000), np.empty((200_000, 10), np.uint8)
        for place in range(10):
            digits[:, place] = numbers // 10**place % 10 + 48
        columns = digits, np.arange(1, 200_001, dtype="<i4") * 10, np.ones(200_000, "<i8")
        yield pa.RecordBatch.from_arrays([pa.array([c.tobytes()]) for c in columns], ["words", "ends", "counts"])

if sys.argv[1] == "add up":
    for _ in count_records(segments(12), 4):
        pass
elif sys.argv[1] == "fill a bucket":
    found = list(count_records(segments(BUCKET_BYTES // ((10 + WORD_BYTES) * 200_000)), 1))
    with pa.ipc.new_stream(sys.argv[2], found[0].schema) as writer:
        for batch in found:
            writer.write_batch(batch)
else:
    with pa.ipc.open_stream(sys.argv[2]) as stream:
        for _ in add_records(iter(stream), False):
            pass
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_task_takes_no_more_memory_than_is_said_where_all_words_differ(tmp_path: Path) -> None:
    def peak(step: str) -> int:
        command = [sys.executable, "-c", PEAK, step, str(tmp_path / "records")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    peaks = {step: peak(step) for step in ("add up", "fill a bucket", "take a bucket")}
    assert 192 << 20 < max(peaks.values()) < 384 << 20, peaks  # of docs/how-it-works.md


def test_buckets_are_as_many_as_it_takes() -> None:
    assert [buckets_of(size, 2) for size in (0, 1, 2 * BUCKET_BYTES, 2 * BUCKET_BYTES + 1)] == [2, 2, 2, 3]
    assert buckets_of(0, 0) == 1
