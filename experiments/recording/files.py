"""Files that survive a crash at any byte: lines that are appended, small files that are replaced as a whole; the one reader of JSONL files."""

import codecs
import gzip
import json
import os
import zlib
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


def json_lines(path: Path, *, ours: bool = False, wanted: str = "a .jsonl or .jsonl.gz file") -> list[tuple[str, dict[str, Any]]]:
    """(file:line, object) of every line of a JSONL file, gzipped or not; blank lines are left out.

    `ours`: a file that `append` writes. It may be missing, and what follows its last newline was torn by a crash and is left out.
    Raises ValueError with file and line for what is not a JSON object; `wanted` ends the advice "give ..." for a file that cannot be read at all.
    """
    if ours and not path.exists():
        return []
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give {wanted}") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")[: -1 if ours else None]
    placed = [(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    return [(where, _parsed(line, where, ours)) for where, line in placed]


def _parsed(line: bytes, where: str, ours: bool) -> dict[str, Any]:
    advice = "remove the line, or choose a new output folder" if ours else "every line must hold one JSON object"
    try:
        row = json.loads(line.decode())
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError) and not ours:
            raise ValueError(f"{where}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from error
        raise ValueError(f"{where}: {'damaged record' if ours else 'not JSON'} ({error}); {advice}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: holds {type(row).__name__}; {advice}")
    return row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `append` writes; none where there is no such file. Raises ValueError as `json_lines` does."""
    return [row for _, row in json_lines(path, ours=True)]


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
