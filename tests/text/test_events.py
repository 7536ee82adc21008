"""Rows of a word each become one line per group, whatever batches they come in."""

from itertools import groupby
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_w2v.text import events
from spark_w2v.text.events import join_rows
from spark_w2v.text.tokenizer import NO_REASON

MISSING = 6
examples = settings(max_examples=80)


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    names = ("group", "word", "reason", "weight")
    types = (pa.int64(), pa.string(), pa.int8(), pa.int32())
    columns = [pa.array([row[k] for row in rows], kind) for k, kind in enumerate(types)]
    return pa.RecordBatch.from_arrays(columns, names)


def joined(rows: list[tuple[Any, ...]], size: int, longest: int = 4) -> list[dict[str, Any]]:
    batches = [batch_of(rows[at : at + size]) for at in range(0, len(rows), size)]
    return [line for batch in join_rows(iter(batches), longest, 3) for line in batch.to_pylist()]


def by_hand(rows: list[tuple[Any, ...]], most: int) -> list[dict[str, Any]]:
    found = []
    for number, row in enumerate(rows):
        alone = number if row[2] != NO_REASON else -1
        found.append((row[0], alone, row))
    lines = []
    for (key, alone), group in groupby(found, key=lambda item: item[:2]):
        members = [row for _, _, row in group]
        for at in range(0, len(members), most):
            piece = members[at : at + most]
            lines.append(
                {
                    "path_hash": (key or 0) % 3,
                    "start": 0,
                    "value": None if alone >= 0 else [row[1] for row in piece],
                    "reason": piece[0][2],
                    "weight": max(row[3] for row in piece),
                }
            )
    return lines


@examples
@given(
    st.lists(
        st.tuples(
            st.integers(-4, 4), st.sampled_from(["a", "b", None]),
            st.sampled_from([NO_REASON] * 5 + [MISSING]), st.integers(0, 9),
        ),
        max_size=60,
    ),
    st.integers(1, 12),
)  # fmt: skip
def test_lines_are_the_groups_of_neighbouring_rows_however_they_are_cut_in_batches(
    rows: list[tuple[Any, ...]], size: int
) -> None:
    rows = [(row[0] if row[2] == NO_REASON else None, *row[1:]) for row in sorted(rows, key=lambda row: row[0])]
    assert joined(rows, size) == by_hand(rows, 1 << 30)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_group_of_more_rows_than_are_held_is_cut_where_a_sentence_ends(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(events, "SEGMENT_WORDS", 11)
    rows = [(group, f"{group}-{n}", NO_REASON, n % 5) for group in (1, 2) for n in range(30)]
    lines = joined(rows, size)
    assert lines == by_hand(rows, 8)  # two sentences of 4
    assert [len(line["value"]) for line in lines] == [8, 8, 8, 6] * 2
