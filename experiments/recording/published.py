"""Records that are committed with the code, and the tables that README and docs show of them, each between two marks of its own."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "records"


def newest(kind: str, command: str, folder: Path = RECORDS) -> dict[str, Any]:
    """The latest `<kind>-*.json`. Raises FileNotFoundError with the command that makes one where there is none."""
    found = sorted(folder.glob(f"{kind}-*.json"))
    if not found:
        raise FileNotFoundError(f"no {kind}-*.json in {folder}; make one with python -m {command}")
    return json.loads(found[-1].read_text(encoding="utf-8"))


def newest_of_each(pattern: str, folder: Path = RECORDS) -> list[Path]:
    """The latest record of every label, by label; the date is the end of a record's name."""
    found = {re.sub(r"-\d{4}-\d{2}-\d{2}$", "", path.stem): path for path in sorted(folder.glob(pattern), key=lambda path: path.stem)}
    return [found[label] for label in sorted(found)]


def marks(name: str) -> tuple[str, str]:
    """The lines between which the table of this name stands."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def updated(page: str, name: str, content: str) -> str:
    """The page with new content between the marks of this name. Raises ValueError where they are missing."""
    begin, end = marks(name)
    if begin not in page or end not in page:
        raise ValueError(f"the page has no place for the table; put the lines {begin} and {end} where it belongs")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
