"""Names of what runs write."""

import re

# What runs write into an output, and jobs/report.py; parts of earlier versions had no tag.
OUTPUT = re.compile(
    r"_SUCCESS|run\.json|metrics\.jsonl|report\.html|\.report\.html\.[0-9a-f]{8}"
    r"|(?:embeddings|context|vocabulary)/(?:part-[0-9]{5}(?:-[0-9a-f]{16})?\.parquet)?"
)
POINTER = re.compile(rb"runs/[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\n?")


def first_of(names: list[str]) -> str:
    """Return the first few of some names, as one text without what a terminal would obey."""
    shown = [name if name.isprintable() else name.encode("unicode_escape").decode() for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
