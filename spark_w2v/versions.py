"""Versions of what a run is computed with."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from spark_w2v import __version__


def versions(spark: str) -> dict[str, str]:
    """Return the versions of Python, of its libraries, and of the checkout, by name.

    Args:
        spark: version of the Spark that runs; one that pip did not install has no metadata.
    """
    libraries = {name: version(name) for name in ("numpy", "pyarrow", "scipy")}
    commit = _commit()
    return {
        "spark_w2v": __version__,
        **({} if commit is None else {"commit": commit}),
        "python": platform.python_version(),
        **libraries,
        "pyspark": spark,
    }


def _commit() -> str | None:
    """The commit of the checkout that this package lies in; None elsewhere."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
