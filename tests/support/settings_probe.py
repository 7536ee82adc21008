"""A process with one session of Spark: small runs of the job and of the Estimator, and what came out of each.

    PYSPARK_SUBMIT_ARGS="--properties-file FILE pyspark-shell" python -m tests.support.settings_probe INPUTS RESULT RUN

Writes to RESULT, as JSON, for each run its exit code, a digest of all that it made and what it said on stderr; and what
`SET -v` lists, with the values that this session has.
"""

import contextlib
import hashlib
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from spark_w2v import SkipGram, SkipGramModel, job
from spark_w2v.errors import UserError
from spark_w2v.runs import embeddings

ROOT = Path(__file__).resolve().parents[2]
# Format, tokenizer, column, and what differs otherwise.
RUNS = {
    "text words": ["corpus.unspaced=bigrams", "training.partitions=2"],
    "text whitespace": ["corpus.tokenizer=whitespace", "training.partitions=1"],
    "text regex": [
        "corpus.tokenizer=regex",
        r"corpus.pattern=\pL+",
        "training.partitions=2",
        "training.scheme=replicas",
    ],
    "jsonl words": ["corpus.format=jsonl", "training.partitions=1"],
    "jsonl none": ["corpus.format=jsonl", "corpus.tokenizer=none", "corpus.column=words", "training.partitions=1"],
    "parquet words": ["corpus.format=parquet", "training.partitions=1"],
    "parquet none": ["corpus.format=parquet", "corpus.tokenizer=none", "corpus.column=words", "training.partitions=1"],
    "csv events": [
        "corpus.format=csv",
        "corpus.tokenizer=none",
        "corpus.column=item",
        "corpus.group_by=session",
        "corpus.order_by=hour,at",
        "training.partitions=1",
    ],
    "csv words": ["corpus.format=csv", "training.partitions=1", "vocabulary.max_words=8"],
    "orc words": ["corpus.format=orc", "training.partitions=1"],
    "parquet numbers": ["corpus.format=parquet", "corpus.tokenizer=none", "corpus.column=ids", "training.partitions=1"],
}
COMMON = [
    "corpus.max_bad_fraction=1", "vocabulary.min_count=1", "training.dimensions=4", "training.epochs=1",
    "training.held_out_words=0", "output.checkpoint=none", "output.report=false",
]  # fmt: skip


def write_inputs(directory: Path) -> None:
    """Text of several scripts with all that may be wrong with a line, in several files of each format."""
    rng = np.random.default_rng(3)
    known = ["alpha", "Beta", "don't", "café", "हिन्दी", "東京都", "a\u200bb", "x1", "-", "MiXed"]
    for format_name in ("text", "jsonl", "parquet", "orc"):
        (directory / format_name).mkdir(parents=True)
    for number in range(3):
        lines = [" ".join(rng.choice(known, rng.integers(1, 9))) for _ in range(150)]
        raw = [line.encode() for line in lines]
        (directory / "text" / f"{number}.txt").write_bytes(b"\n".join([*raw, b"", b" \t", b"caf\xe9 x", b"nul\0l"]))
        words = [line.split() for line in lines]
        objects = [{"text": line, "words": found} for line, found in zip(lines, words, strict=True)]
        odd: list[Any] = [
            {}, {"text": None, "words": None}, {"text": 5, "words": "a b"}, {"text": {"a": 1}, "words": [{"a": 1}]},
            {"text": ["a"], "words": [["a"], 1]}, {"text": "", "words": []}, {"text": "a\tb", "words": [1, 2.5, None]},
            {"TEXT": "upper", "Words": ["upper"]}, {"text": "caf\u00e9", "words": ["caf\u00e9", 12345678901234567890]},
        ]  # fmt: skip
        more = [
            '{"text": "twice", "text": "again"}', '{"text": "cut', '{"text": "a"} rest', "{'text': 'single'}", "",
            '{"text": 1e3, "words": [1e3, NaN]}', '{"text": "comment"} // no', "[1]",
            '{"text": "\\ud83d", "words": ["\\ud83d"]}',
        ]  # fmt: skip
        (directory / "jsonl" / f"{number}.jsonl").write_text("\n".join([*map(json.dumps, [*objects, *odd]), *more]))
        ids = [rng.integers(0, 30, len(found)).tolist() for found in words]
        table = {"text": [*lines, None, ""], "words": [*words, None, [None, ""]], "ids": [*ids, None, [None]]}
        pq.write_table(pa.table(table), directory / "parquet" / f"{number}.parquet", row_group_size=40)
        orc.write_table(
            pa.table({"text": lines, "x": [str(number) if number else 0] * 150}), directory / "orc" / f"{number}.orc"
        )
        # Of each second, fractions whose digits alone have another order.
        hour = directory / "csv" / f"hour={number + 8}"
        hour.mkdir(parents=True)
        rows = [
            f"{n % 7},{known[n * 7 % 10]},2026-01-31T10:00:{n // 3:02}{('.5', '.060', '.4999')[n % 3]}Z,{lines[n]}"
            for n in range(150)
        ]
        (hour / "a.csv").write_text("session,item,at,text\n" + "\n".join(rows) + "\n")


def train(inputs: Path, output: Path, settings: list[str]) -> dict[str, Any]:
    """A run of the job."""
    said = io.StringIO()
    arguments = [str(ROOT / "conf" / "local.toml"), "--input", str(inputs), "--output", str(output)]
    for setting in [*COMMON, *settings]:
        arguments += ["--set", setting]
    code = -1
    with contextlib.redirect_stderr(said):
        try:
            code = job.train(arguments)
        except Exception:
            traceback.print_exc()
    result: dict[str, Any] = {"code": code, "said": said.getvalue()}
    if code == 0:
        found = embeddings.read(output)
        facts = json.loads((output / "run.json").read_text())["corpus"]
        context = b"".join(path.read_bytes() for path in sorted((output / "context").glob("*.parquet")))
        result["digest"] = digest(found.words.to_pylist(), found.counts, found.vectors, facts, context)
    return result


def fit(session: SparkSession, inputs: Path, directory: Path) -> dict[str, Any]:
    """The Estimator on a user's DataFrame, its model, and the model saved and loaded."""
    try:
        # Not from files: what settings of reading do to a user's own read is Spark's affair.
        frame = session.createDataFrame(pq.read_table(inputs / "parquet", columns=["words", "ids"]))
        made: list[Any] = []
        for column in ("words", "ids"):
            stage = SkipGram(inputCol=column, outputCol="vector", vectorSize=4, maxIter=1, minCount=1, heldOutWords=0)
            model = stage.setNumPartitions(1).setSeed(3).fit(frame)
            model.save(str(directory / column))
            loaded = SkipGramModel.load(str(directory / column))
            vectors = loaded.transform(frame).select("vector").collect()
            named = [(row["word"], row["vector"].toArray().tolist()) for row in model.getVectors().collect()]
            word = named[0][0]
            near = [tuple(row) for row in loaded.findSynonyms(word, 3).collect()]
            rows = sorted(repr(row["vector"]) for row in vectors)
            made += [model._words.to_pylist(), model._counts, model._vectors, loaded._vectors, named, near, rows]
        return {"code": 0, "said": "", "digest": digest(*made)}
    except UserError as error:
        return {"code": 2, "said": f"train.py: {error}\n"}
    except Exception:
        return {"code": 1, "said": traceback.format_exc()}


def digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(bytes(part) if isinstance(part, bytes | np.ndarray) else repr(part).encode())
    return found.hexdigest()[:16]


def main(inputs: Path, result: Path, *names: str) -> None:
    found: dict[str, Any] = {"runs": {}, "listed": {}}
    stop = SparkSession.stop
    SparkSession.stop = lambda self: None  # type: ignore[method-assign]  # all runs in one session
    for name, settings in RUNS.items():
        if names and name not in names:
            continue
        output = result.parent / "out" / name.replace(" ", "-")
        found["runs"][name] = train(inputs / name.split()[0], output, settings)
        if SparkSession.getActiveSession() is None:
            break  # Spark does not start with these settings
    session = SparkSession.getActiveSession()
    if session is None and names == ("estimator",):
        session = SparkSession.builder.getOrCreate()
    if session is not None:
        if not names or "estimator" in names:
            found["runs"]["estimator"] = fit(session, inputs, result.parent / "models")
        with contextlib.suppress(Exception):  # a session that Spark refuses to make
            for key, value, *_ in session.sql("SET -v").collect():
                # Some are listed as "<value of another key>".
                found["listed"][key] = value if value == "<undefined>" else session.conf.get(key)
        stop(session)
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
