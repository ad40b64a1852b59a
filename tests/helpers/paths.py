"""The folders of the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
WEIGHTS = ROOT / "ditexp" / "weights"
