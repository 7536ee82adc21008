"""The fingerprint of a run: two runs with the same fingerprint have the same result."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from spark_w2v.storage.files import ABSENT


def stored_in(run_facts: Callable[[], bytes]) -> dict[str, Any]:
    """Return the fingerprint of the run that wrote a finished output; {} where there is none.

    Args:
        run_facts: reads its run.json.

    Raises:
        OSError, StorageError: it could not be read now.
    """
    try:
        found = json.loads(run_facts())["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        return {}
    return found if isinstance(found, dict) else {}


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return the differences of some sections of a fingerprint from a stored one, a sentence each."""
    before, now = _flat(stored), _flat(given)
    found = [
        f"{key} was {_shown(before[key]) if key in before else 'not set'}, is {_shown(value)}"
        for key, value in now.items()
        if key not in before or before[key] != value
    ]
    # A key that is missing is noticed where its whole section is given: training.new of {"training": ...}.
    return found + [
        f"{key} was {_shown(value)}, is not set"
        for key, value in before.items()
        if key not in now and any(key.startswith(f"{section}.") for section in given)
    ]


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"training.epochs": ...} of {"training": {"epochs": ...}}."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
