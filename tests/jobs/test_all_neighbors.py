"""jobs/all_neighbors.py on a real Spark: exact, the same for any division, and nothing of the user's replaced."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import cloudpickle
from pyspark.sql import SparkSession

from spark_w2v.analysis.neighbors import nearest_rows, unit_vectors
from spark_w2v.commands import all_neighbors as command
from spark_w2v.errors import NotEnoughMemoryError, UserError
from spark_w2v.runs.embedding_writer import write
from spark_w2v.skipgram.nearest_rows import TILE_QUERIES, TILE_ROWS
from spark_w2v.spark import all_neighbors
from spark_w2v.spark.all_neighbors import SentUnits, known_rows, nearest_of
from spark_w2v.spark.memory import Given

WORDS, DIMENSIONS = 700, 12


def made(output: Path, ids: pa.Array | None = None, count: int = WORDS) -> Path:
    """A finished output of random vectors, one of them zero."""
    vectors = np.random.default_rng(3).normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors[50] = 0
    words = pa.array([f"w{n}" for n in range(count)] if ids is None else [str(n) for n in ids.to_pylist()], pa.string())
    write(output, words, np.arange(count, 0, -1).astype(np.int64), vectors, vectors, {}, ids)
    (output / "_SUCCESS").touch()
    return output


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("run") / "out")


@pytest.fixture
def run(job_here: None) -> Any:
    return lambda *arguments: command.main(["--quiet", *map(str, arguments)])


def rows_of(directory: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pq.read_table(directory).to_pylist()]


def test_every_word_has_its_nearest_in_order(run: Any, output: Path, tmp_path: Path) -> None:
    assert run(output, "--to", tmp_path / "near", "--top", 5) == 0
    found = pq.read_table(tmp_path / "near")
    assert found.schema.names == ["word", "neighbor", "rank", "cosine"]
    vectors = np.stack(pq.read_table(output / "embeddings")["vector"].to_numpy())
    ids, cosines = nearest_rows(unit_vectors(vectors), np.arange(WORDS), 5)
    regular = np.arange(WORDS) != 50  # all others are as near to zeros
    assert found["word"].to_pylist() == [f"w{n}" for n in range(WORDS) for _ in range(5)]
    assert found["rank"].to_pylist() == [1, 2, 3, 4, 5] * WORDS
    neighbors = np.array([int(word[1:]) for word in found["neighbor"].to_pylist()]).reshape(WORDS, 5)
    assert np.array_equal(neighbors[regular], ids[regular])
    assert neighbors[50].tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(found["cosine"].to_numpy().reshape(WORDS, 5)[regular], cosines[regular], atol=1e-6)


def test_neither_tasks_nor_chunks_change_a_bit(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Chunks of whole tiles, of the size that workers have: what a test patches does not reach them.
    output = made(tmp_path / "out", count=2 * TILE_ROWS + 100)
    found = []
    for number, chunk in enumerate((1, 2, 3)):
        monkeypatch.setattr(all_neighbors, "CHUNK_BYTES", chunk * TILE_ROWS * 4 * DIMENSIONS)
        assert run(output, "--to", tmp_path / str(number), "--top", 7) == 0
        found.append(pq.read_table(tmp_path / str(number)))
    assert found[0].num_rows == 7 * (2 * TILE_ROWS + 100)
    assert found[0] == found[1] == found[2]
    monkeypatch.setattr(all_neighbors, "TASK_WORDS", TILE_QUERIES)
    assert run(output, "--to", tmp_path / "tasks", "--top", 7) == 0
    assert len(list((tmp_path / "tasks").glob("part-*"))) == 17
    assert pq.read_table(tmp_path / "tasks") == found[0]


def test_a_list_of_words_is_divided_among_the_slots_in_whole_tiles(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = made(tmp_path / "out", count=TILE_ROWS + 100)
    (tmp_path / "some.txt").write_text("\n".join(f"w{n}" for n in range(2 * TILE_QUERIES + 90)))

    def near(to: str) -> tuple[list[int], list[tuple[Any, ...]]]:
        assert run(output, "--to", tmp_path / to, "--words", tmp_path / "some.txt", "--top", 3) == 0
        parts = sorted((tmp_path / to).glob("part-*"))
        return [pq.read_metadata(part).num_rows // 3 for part in parts], rows_of(tmp_path / to)

    sizes, found = near("two")
    assert sizes == [2 * TILE_QUERIES, 90]
    for slots, expected in ((0, [2 * TILE_QUERIES + 90]), (1000, [TILE_QUERIES, TILE_QUERIES, 90])):
        monkeypatch.setattr(all_neighbors, "settled_slots", lambda *_, count=slots: count)
        assert near(str(slots)) == (expected, found)


def test_a_list_of_words_and_more_neighbors_than_there_are(run: Any, output: Path, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "some.txt").write_text("w9\r\nnowhere\n\nw3\nw9\n")
    assert run(output, "--to", tmp_path / "some", "--words", tmp_path / "some.txt", "--top", 5000) == 0
    found = rows_of(tmp_path / "some")
    assert [row[0] for row in found] == ["w3"] * (WORDS - 1) + ["w9"] * (WORDS - 1)
    assert {row[1] for row in found[: WORDS - 1]} == {f"w{n}" for n in range(WORDS) if n != 3}
    assert "1 word without a vector: nowhere" in caplog.text


def test_words_that_are_numbers_have_their_ids_next_to_them(run: Any, tmp_path: Path) -> None:
    ids = pa.array(np.arange(WORDS) * 1_000_003, pa.int64())
    output = made(tmp_path / "out", ids)
    assert run(output, "--to", tmp_path / "near", "--top", 2) == 0
    found = pq.read_table(tmp_path / "near")
    assert found.schema.names == ["word", "id", "neighbor", "neighbor_id", "rank", "cosine"]
    assert [str(found.schema.field(name).type) for name in ("id", "neighbor_id")] == ["int64", "int64"]
    assert found["id"].to_pylist() == [n for n in ids.to_pylist() for _ in range(2)]


def test_a_table_is_made_and_replaced(run: Any, spark: SparkSession, output: Path) -> None:
    assert run(output, "--to-table", "near_words", "--top", 3) == 0
    assert spark.table("near_words").count() == 3 * WORDS
    assert run(output, "--to-table", "near_words", "--top", 2) == 0
    assert spark.table("near_words").count() == 2 * WORDS
    properties = {row["key"]: row["value"] for row in spark.sql("show tblproperties near_words").collect()}
    assert properties["spark_w2v.run"] == output.name
    spark.sql("drop table near_words")


def test_only_what_the_command_wrote_is_replaced(
    run: Any, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "near"
    assert run(output, "--to", target, "--top", 1) == 0
    assert run(output, "--to", target, "--top", 2) == 2
    assert "exists already; give --overwrite to replace it" in capsys.readouterr().err
    assert len(rows_of(target)) == WORDS
    assert run(output, "--to", target, "--top", 2, "--overwrite") == 0
    assert len(rows_of(target)) == 2 * WORDS
    (target / "mine.txt").touch()
    assert run(output, "--to", target, "--overwrite") == 2
    assert "holds mine.txt, which no command of spark_w2v wrote" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["near"]
    (tmp_path / "file").touch()
    assert run(output, "--to", tmp_path / "file", "--overwrite") == 2
    assert "is a file; give a directory" in capsys.readouterr().err


def test_a_failure_leaves_the_result_before(
    run: Any, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "near"
    assert run(output, "--to", target, "--top", 1) == 0
    before = rows_of(target)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no more")

    monkeypatch.setattr(all_neighbors, "nearest_of", fail)
    with pytest.raises(Exception, match="no more"):
        run(output, "--to", target, "--top", 2, "--overwrite")
    monkeypatch.setattr(all_neighbors, "nearest_of", nearest_of)
    assert rows_of(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["near"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\n \n", "holds no word"), (b"\xff\xfe", "is not UTF-8"), (b"nope\nnone\n", "none of 2 words has a vector")],
)
def test_a_list_that_is_of_no_use_is_refused(
    run: Any, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    (tmp_path / "words").write_bytes(content)
    assert run(output, "--to", tmp_path / "near", "--words", tmp_path / "words") == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_tasks_get_no_rows_of_all_words_and_those_of_a_list_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = list[int]()
    for name, found in (("settled_slots", 2), ("send_units", SentUnits(None, []))):  # type: ignore[arg-type]
        monkeypatch.setattr(all_neighbors, name, lambda *_, found=found: found)
    monkeypatch.setattr(all_neighbors, "check_memory", lambda *arguments: counted.append(arguments[5]))
    frame = SimpleNamespace(mapInArrow=lambda function, schema: function)
    session: Any = SimpleNamespace(sparkContext=None, range=lambda *_: frame)
    words, some = pa.array(np.arange(10**6).astype(str)), np.arange(0, 10**6, 2)
    every, listed = (
        len(cloudpickle.dumps(all_neighbors.all_neighbors(session, words, [], 10, 5, asked)))  # type: ignore[no-untyped-call]
        for asked in (None, some)
    )
    assert counted == [0, some.size]
    without, within = (all_neighbors.task_bytes(10**6, 10**7, 10, 5, asked) for asked in counted)
    assert every < 20_000
    assert abs(within - without - 2 * (listed - every)) < 1000  # what is sent, and what it is unpacked to


def test_what_does_not_fit_is_refused_before_it_starts(
    run: Any,
    spark: SparkSession,
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need = all_neighbors.task_bytes(10**6, 10**7, 300, 20)
    assert 250 << 20 < need < 500 << 20  # the words twice, chunks, a tile, and what waits to be sorted
    monkeypatch.setattr(all_neighbors, "given_by", lambda context: Given(1, 10**6, 2))
    assert run(output, "--to", tmp_path / "near") == 2
    assert "2 run at a time, and the machine has 1 MB left" in capsys.readouterr().err
    monkeypatch.setattr(all_neighbors, "given_by", lambda context: Given(1, None, 0, 10**6, "some.memory", 2))
    with pytest.raises(NotEnoughMemoryError, match=r"and some\.memory is 1 MB; raise it"):
        all_neighbors.check_memory(spark, 10, 10, 10, 10)


def test_words_that_are_spelled_otherwise_are_found_in_nfc() -> None:
    words = pa.array(["cafe\u0301", "caf\u00e9", "na\u00efve"])
    assert known_rows(words, pa.array(["cafe\u0301", "nai\u0308ve", "na\u00efve"])).tolist() == [0, 2]
    with pytest.raises(UserError, match="none of 1 word has a vector"):
        known_rows(words, pa.array(["nai\u0308v"]))
