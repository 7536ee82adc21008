"""No setting of Spark changes a result in silence: the same bits, or one sentence.

Settings are given when Spark starts, as spark-submit gives them, many at a time; where something differs, the group is
halved until the setting is found. What a user may set within reason and the job relies on, the job sets itself.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import settings_probe

ROOT = Path(__file__).resolve().parents[1]
GROUP = 45
# Sections in which numbers are tried: Arrow, Python, files, Parquet, and what keeps and shuffles rows.
SECTIONS = re.compile(
    r"spark\.sql\.(execution\.(arrow|pyspark|python|pythonUDF|pandas)|pyspark|files|parquet|inMemoryColumnarStorage|adaptive|"
    r"shuffle|sources|session|json)\."
)
# Of no kind that their value shows, or not listed.
MORE = {
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": ("1b", "1g"),
    "spark.sql.adaptive.coalescePartitions.initialPartitionNum": ("1", "1000"),
    "spark.sql.adaptive.rebalancePartitionsSmallPartitionFactor": ("0.01", "0.99"),
    "spark.sql.autoBroadcastJoinThreshold": ("-1", "1g"),
    "spark.sql.caseSensitive": ("true",),
    "spark.sql.columnNameOfCorruptRecord": ("text", "words"),
    "spark.sql.execution.arrow.compression.codec": ("zstd", "lz4"),
    "spark.sql.execution.arrow.maxBytesPerBatch": ("1b", "1g"),
    "spark.sql.execution.pandas.udf.buffer.size": ("16", "16777216"),
    "spark.sql.execution.python.udf.buffer.size": ("16", "16777216"),
    "spark.sql.execution.pythonUDF.arrow.concurrency.level": ("2",),
    "spark.sql.files.maxPartitionBytes": ("1k", "1g"),
    "spark.sql.files.maxPartitionNum": ("1", "1000"),
    "spark.sql.files.maxRecordsPerFile": ("7", "1000"),
    "spark.sql.files.minPartitionNum": ("1", "1000"),
    "spark.sql.files.openCostInBytes": ("0", "1g"),
    "spark.sql.leafNodeDefaultParallelism": ("1", "50"),
    "spark.sql.legacy.sizeOfNull": ("true",),
    "spark.sql.legacy.timeParserPolicy": ("LEGACY",),
    "spark.sql.retainGroupColumns": ("false",),
    "spark.sql.sources.useV1SourceList": ("none",),
    "spark.sql.variant.allowDuplicateKeys": ("true",),
    "spark.sql.parquet.compression.codec": ("zstd",),
    "spark.sql.planner.pythonExecution.memory": ("1g",),
    "spark.sql.session.timeZone": ("Asia/Tokyo",),
    "spark.sql.shuffle.partitions": ("1", "50"),
}
# Values that Spark does not take, some of them only once a worker starts.
REFUSED = (
    ("spark.sql.adaptive.rebalancePartitionsSmallPartitionFactor", "1"),
    ("spark.sql.execution.pandas.udf.buffer.size", "1"),
    ("spark.sql.shuffle.partitions", "0"),
)
# Without Spark ML's own functions nobody's vectors become a column, MLlib's neither; Spark says so.
NOT_TRIED = ("spark.sql.extensions.test.loadFromCp",)
Probe = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def probe(java_home: str, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Runs settings_probe.py with settings."""
    root = tmp_path_factory.mktemp("settings")
    settings_probe.write_inputs(root / "in")
    numbers = itertools.count()

    def run(settings: Mapping[str, str], names: Sequence[str] = ()) -> dict[str, Any]:
        directory = root / str(next(numbers))
        directory.mkdir()
        usual = (ROOT / "conf" / "spark-defaults.conf").read_text()
        file = directory / "settings.conf"
        file.write_text(usual + "".join(f"\n{key} {value}" for key, value in settings.items()) + "\n")
        submit = f"--properties-file {file} --master local[2] --conf spark.ui.enabled=false pyspark-shell"
        with open(directory / "log", "wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "tests.support.settings_probe", root / "in", directory / "result.json", *names],
                env={**os.environ, "PYSPARK_SUBMIT_ARGS": submit}, cwd=ROOT, stdout=log, stderr=log, timeout=400,
            )  # fmt: skip
        if done.returncode:
            return {"runs": {"all": {"code": done.returncode, "said": (directory / "log").read_text()[-5000:]}}}
        found: dict[str, Any] = json.loads((directory / "result.json").read_text())
        return found

    return run


def outcome(found: Mapping[str, Any]) -> dict[str, Any]:
    """Results that must not change: the digest of each run, or its message where there is none."""
    return {name: run.get("digest", said(run)) for name, run in found["runs"].items()}


def said(run: Mapping[str, Any]) -> str:
    """Return what a run wrote on stderr, without the log."""
    return "\n".join(line for line in run["said"].splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line))


def is_told(found: Mapping[str, Any], usual: Mapping[str, Any]) -> bool:
    """Whether all runs that did not end as usual said why in a sentence."""
    for name, run in found["runs"].items():
        if run.get("digest") is not None and run["digest"] == usual["runs"].get(name, {}).get("digest"):
            continue
        if run["code"] != 2 or not re.fullmatch(r"train\.py: [^\n]+[.?]", said(run)):
            return False
    return True


def culprits(
    settings: Sequence[tuple[str, str]], usual: Mapping[str, Any], run: Probe, names: Sequence[str] = ()
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The smallest groups of settings that change something, and what happened.

    Args:
        names: of the runs that are looked at; none are all.
    """
    found = run(dict(settings), names)
    before, after = outcome(usual), outcome(found)
    names = [name for name in after if after[name] != before.get(name)]
    if not names:
        return
    if len(settings) == 1:
        yield dict(settings), found
        return
    half, any_found = len(settings) // 2, False
    for part in (settings[:half], settings[half:]):
        for one in culprits(part, usual, run, names if set(names) <= set(before) else ()):
            any_found = True
            yield one
    if not any_found:
        yield dict(settings), found  # only together


def groups_of(listed: Mapping[str, str | None]) -> Iterator[list[tuple[str, str]]]:
    """All settings that are tried, in groups without a key that comes twice."""
    opposite = {"true": "false", "false": "true"}
    flipped = [(key, opposite[value]) for key, value in listed.items() if value in opposite and key not in NOT_TRIED]
    yield from (flipped[at : at + GROUP] for at in range(0, len(flipped), GROUP))
    extremes: dict[str, tuple[str, ...]] = dict(MORE)
    for key, value in listed.items():
        number = re.fullmatch(r"(-?\d+(?:\.\d+)?)(b|k|m|g|kb|mb|gb|ms|s)?", value or "", re.IGNORECASE)
        if number and SECTIONS.match(key) and key not in MORE:
            unit = (number[2] or "").lower()
            is_size = unit not in ("", "ms", "s")
            extremes[key] = ("1b", "1g") if is_size else (f"1{unit}", f"2147483647{unit}")
    for place in range(2):
        group = [(key, values[place]) for key, values in extremes.items() if place < len(values)]
        yield from (group[at : at + GROUP] for at in range(0, len(group), GROUP))


@pytest.mark.slow
def test_a_setting_that_spark_does_not_take_is_told_in_a_sentence(probe: Probe) -> None:
    for key, value in REFUSED:
        found = probe({key: value}, ["text words"])["runs"]["text words"]
        assert found["code"] == 2, found
        assert re.fullmatch(rf"train\.py: Spark refuses a setting [^\n]*{re.escape(key)}[^\n]+\.", said(found)), found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_setting_of_spark_changes_a_result_in_silence(probe: Probe) -> None:
    usual = probe({})
    assert {name: run["code"] for name, run in usual["runs"].items()} == dict.fromkeys(
        [*settings_probe.RUNS, "estimator"], 0
    ), usual["runs"]
    silent: list[Any] = []
    told: list[Any] = []
    tried = 0
    for group in groups_of(usual["listed"]):
        tried += len(group)
        for settings, found in culprits(group, usual, probe):
            before, after = outcome(usual), outcome(found)
            different = {name: run for name, run in found["runs"].items() if after[name] != before.get(name)}
            (told if is_told(found, usual) else silent).append((settings, different))
    print(f"{tried} settings tried, {len(told)} refused in a sentence, {len(silent)} change the result")
    assert not silent, json.dumps({"silent": silent, "told": told}, indent=1, ensure_ascii=False)
