"""docs/notebook.ipynb, run from its first cell to its last by Jupyter, on a Spark that it starts itself."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_job import FAST_JVM, ROOT

pytestmark = pytest.mark.slow
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
KERNEL = "this-python"
PNG = b"\x89PNG\r\n\x1a\n"


def run(folder: Path) -> list[dict[str, Any]]:
    """Execute the notebook in a folder, by the Python that runs this test; return its cells of code."""
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": KERNEL, "language": "python", "env": {"PYTHONPATH": str(ROOT)},
    }  # fmt: skip
    (folder / "jupyter" / "kernels" / KERNEL).mkdir(parents=True)
    (folder / "jupyter" / "kernels" / KERNEL / "kernel.json").write_text(json.dumps(kernel))
    (folder / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    # What an owner of this machine configured stays out, and what the notebook has to set itself, too.
    ours = {"IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"}
    dropped = {"PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "MPLBACKEND"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {name: str(folder / name.lower()) for name in ours}
    command = [
        sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "executed",
        f"--ExecutePreprocessor.kernel_name={KERNEL}", NOTEBOOK.name,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env={**environment, **FAST_JVM, "JUPYTER_PATH": str(folder / "jupyter")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return code_cells(folder / "executed.ipynb")


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def the_cell(cells: list[dict[str, Any]], code: str) -> dict[str, Any]:
    (found,) = [cell for cell in cells if code in "".join(cell["source"])]
    return found


def stream(cell: dict[str, Any], name: str) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == name)


def epochs_shown(cell: dict[str, Any], of: int) -> list[int]:
    """Epochs that have a line of their own, in order."""
    lines = re.split(r"[\r\n]", stream(cell, "stderr"))
    found = [re.match(rf"\d\d:\d\d:\d\d epoch (\d+)/{of}: loss [\d.]+, held out [\d.]+, ", line) for line in lines]
    return [int(match[1]) for match in found if match]


def pngs(cell: dict[str, Any]) -> list[bytes]:
    data = [output.get("data", {}).get("image/png") for output in cell["outputs"]]
    return [base64.b64decode("".join(image)) for image in data if image]


def test_it_is_committed_as_nobody_has_run_it() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(NOTEBOOK))


def test_it_shows_what_it_says_and_the_session_goes_on(java_home: str, tmp_path: Path) -> None:
    cells = run(tmp_path)
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "Traceback" not in "".join(stream(cell, "stderr") for cell in cells)

    fit = the_cell(cells, "model = skipgram.fit(sentences)")
    drawn = stream(fit, "stderr").split("\r")
    assert any(re.match(r" *\d+% \|█+[▏▎▍▌▋▊▉]? *\| \d\d:\d\d epoch \d/8, loss", state) for state in drawn)
    assert any(state.startswith("counting the words, ") for state in drawn)
    assert epochs_shown(fit, 8) == [1, 2, 3, 4, 5, 6, 7, 8]

    (shown,) = [cell for cell in cells if "".join(cell["source"]) == "model.summary"]
    (summary,) = [output for output in shown["outputs"] if output["output_type"] == "execute_result"]
    assert re.match(r"TrainingSummary: epochs=8, loss=[\d.]+, seconds=[\d.]+$", "".join(summary["data"]["text/plain"]))
    (plot,) = pngs(the_cell(cells, "def plot_losses"))
    assert plot.startswith(PNG)
    assert len(plot) > 5000

    assert "46 words" in stream(the_cell(cells, "model.getVocabulary()\n"), "stdout")
    fruit = {"apple", "pear", "cherry", "quince", "ripe", "sweet", "orchard", "basket", "juice"}
    nearest = stream(the_cell(cells, "findSynonyms"), "stdout")
    found = re.search(r"^plum: (.*)$", nearest, re.MULTILINE)
    assert found is not None
    assert set(found[1].split(", ")) < fruit

    patient = the_cell(cells, ".setPatience(2)")
    ended = re.search(r"^(\d+) of 30 epochs; ended after epoch \1: no lower held-out loss", stream(patient, "stdout"))
    assert ended is not None
    assert 2 < int(ended[1]) < 30
    assert epochs_shown(patient, 30) == list(range(1, int(ended[1]) + 1))
    assert len(pngs(patient)) == 1

    limited = the_cell(cells, ".setCallbacks([is_good_enough])")
    said = re.findall(r"^epoch (\d+): held-out loss ([\d.]+)$", stream(limited, "stdout"), re.MULTILINE)
    assert [float(loss) < 2.4 for _, loss in said] == [False] * (len(said) - 1) + [True]
    assert f"ended after epoch {len(said)}: a callback asked for it" in stream(limited, "stdout")
    assert stream(limited, "stderr") == ""  # setProgress(False)

    last = stream(the_cell(cells, "spark.sql("), "stdout")
    assert re.search(r"\|plum\| +\d+\|\n\|snow\| +\d+\|\n", last)
    assert last.endswith("settings as before: True\n")
