"""What bench makes of its runs: ratios within a round, medians, the table of README.md."""

from typing import Any

import pytest

from bench import table


def run(label: str, number: int, seconds: float, **more: Any) -> dict[str, Any]:
    """A run of a round."""
    return {
        "label": label, "round": number, "seconds": seconds, "peak_bytes": 2e6, "worker_bytes": None, "cores": 2,
        "vocabulary_seconds": 1.0, "train_seconds": seconds, "busy_seconds": 2 * seconds, "trained_words": 8000,
        "wordsim353": 60.0, "simlex999": 30.0, "analogies": 40.0, **more,
    }  # fmt: skip


# The second round was slow for both; ours of the third has nobody to compare with.
RUNS = [
    run("ours-2", 1, 2.0), run("gensim-2", 1, 8.0), run("ours-2", 2, 10.0), run("gensim-2", 2, 20.0),
    run("ours-2", 3, 1.0),
]  # fmt: skip


def test_ratios_are_taken_within_a_round() -> None:
    assert table.ratios(RUNS, "ours-2", "gensim-2", lambda r: r["seconds"], True) == [4.0, 2.0]
    assert table.ratios(RUNS, "ours-2", "gensim-2", table.training_speed, False) == [4.0, 2.0]
    assert table.ratios(RUNS, "gensim-2", "ours-2", lambda r: r["seconds"], True) == [0.25, 0.5]
    assert table.ratios(RUNS, "ours-2", "mllib-2", lambda r: r["seconds"], True) == []


def test_speeds_are_words_of_a_core_and_second() -> None:
    assert table.training_speed(RUNS[1]) == 8000 / (2 * 8.0)
    assert table.kernel_speed(RUNS[1]) == 8000 / 16.0
    assert table.kernel_speed(run("mllib-2", 1, 8.0, trained_words=None)) is None


def test_the_summary_has_the_median_and_the_ends() -> None:
    found = table.summary(RUNS, "gensim-2")
    assert found["ours-2"]["wall, s"] == {"median": 2.0, "least": 1.0, "most": 10.0}
    assert found["ours-2"]["wall: times faster than gensim-2"] == {"median": 3.0, "least": 2.0, "most": 4.0}
    assert found["gensim-2"]["wall: times faster than gensim-2"]["median"] == 1.0
    assert "a Python worker, MB" not in found["ours-2"]


def test_the_table_of_the_readme_says_how_many_times_faster() -> None:
    lines = table.short(RUNS, ["ours-2", "gensim-2", "mllib-2"]).splitlines()
    assert lines[0].endswith("| analogies, % | times faster than gensim-2 |")
    assert lines[2:] == [
        "| ours-2 | 2.0 | 2 | 60.0 | 30.0 | 40.0 | 3.0 |",
        "| gensim-2 | 14.0 | 2 | 60.0 | 30.0 | 40.0 | 1.0 |",
    ]


@pytest.mark.parametrize("options", [["--publish"], ["--publish", "--size", "full", "--words", "9"]])
def test_figures_of_part_of_the_text_are_not_published(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import __main__ as main  # imports gensim's and Spark's settings, which the others do not need

    monkeypatch.setattr("sys.argv", ["bench", *options])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "it needs --size full, and no --words" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--quick", "--no-mllib", "--only=MLlib"])
def test_figures_of_some_runs_on_a_cluster_are_not_published(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import cluster

    monkeypatch.setattr("sys.argv", ["cluster", "--publish", option])
    with pytest.raises(SystemExit) as ended:
        cluster.main()
    assert ended.value.code == 2
    assert "no --quick, --no-mllib or --only" in capsys.readouterr().err
