"""Files that survive a crash at any byte: lines that are appended, and small files that are replaced as a whole."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Either the old file or the whole new one is there, whatever happens."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds lines to a JSONL file and waits until they are on the disk."""
    waiting = memoryview("".join(json.dumps(row) + "\n" for row in rows).encode())
    with path.open("ab", buffering=0) as file:  # no buffer that a failed write would leave behind for `close`
        while waiting:
            waiting = waiting[file.write(waiting) :]
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; what follows the last newline was torn by a crash and is left out."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: damaged record ({error}); remove the line, or choose a new output folder") from error
    return rows


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
