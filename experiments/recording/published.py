"""Records that are committed with the code, and the tables that README and docs show of them, each between two marks of its own.

A table is made from records of a clean commit only: what a reader cannot check out, he cannot check.
"""

import re
from pathlib import Path
from typing import Any

from experiments.recording import machine
from experiments.recording.files import read_json

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / machine.RECORDS


def newest(kind: str, command: str, folder: Path = RECORDS) -> dict[str, Any]:
    """The latest `<kind>-*.json`. Raises FileNotFoundError with the command that makes one where there is none, ValueError as `read_record` does."""
    found = sorted(folder.glob(f"{kind}-*.json"))
    if not found:
        raise FileNotFoundError(f"no {kind}-*.json in {folder}; make one with python -m {command}")
    return read_record(found[-1])


def read_record(path: Path) -> dict[str, Any]:
    """A record that a table may be made from. Raises ValueError for one that is damaged, or was made by code that is not committed."""
    found = read_json(path, "a record", "make it again")
    refuse_dirty(path, found.get("provenance"))
    return found


def refuse_dirty(path: Path, origin: Any) -> None:
    """Raises ValueError unless the circumstances of a record name the commit that it was made at, with nothing changed since."""
    commit = origin.get("git_commit") if isinstance(origin, dict) else None
    if not isinstance(commit, str) or commit.endswith("-dirty"):
        raise ValueError(f"{path}: was made at {commit or 'no commit'}, not at a clean commit; commit what was changed and make the record again")


def refuse_changed_code(output: Path) -> None:
    """Raises ValueError, before anything is measured, where a record is to be published and the code is not committed."""
    commit = machine.git_commit()
    if output.resolve().is_relative_to(RECORDS) and (commit is None or commit.endswith("-dirty")):
        raise ValueError(f"{output}: a record that is published needs a clean commit, this is {commit or 'no checkout'}; commit first")


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
