"""Pages of the documentation, a part of which a benchmark writes: what stands between two marks."""

from pathlib import Path

END = "<!-- its end -->"


def begin(command: str) -> str:
    """The mark above what this command writes."""
    return f"<!-- what {command} writes -->"


def renew(path: Path, command: str, text: str) -> None:
    """Put this text where the command's last one stands; all else stays as it is."""
    page = path.read_text(encoding="utf-8")
    before, mark, rest = page.partition(begin(command))
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path}: {begin(command)} and {END} after it are missing")
    path.write_text(f"{before}{mark}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
