"""docs/rooms.svg shows the imports as they are."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_picture_of_the_rooms_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "draw_rooms", tmp_path / "rooms.svg"], check=True)
    stored = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert stored == (tmp_path / "rooms.svg").read_text(encoding="utf-8"), "run: .venv/bin/python scripts/draw_rooms"
