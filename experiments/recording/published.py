"""Where records lie that are committed with the code."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "records"
