"""Files that survive a crash at any byte: lines that are appended, small files that are replaced as a whole; the one reader of JSONL files."""

import codecs
import errno
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

AGAIN = "remove the line, and those of its prompt from records.jsonl, and the same command decodes it again; or choose a new output folder"

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = 1 << 16  # bytes that must fit before a run begins: its configuration, its manifest and the first lines of its log


def check_folder(folder: Path) -> None:
    """Makes an output folder and writes `ROOM` bytes into it, which are removed again.

    Raises ValueError with one line where it cannot be made or written to, OSError where the disk is full.
    """
    probe = folder / f".room-{os.getpid()}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as file:
                file.write(bytes(ROOM))
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):
                probe.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it, a folder that cannot be written to is a user's mistake: a ValueError with one line. A full disk stays an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL or not _concerns(error, folder):
            raise
        raise ValueError(unwritable(folder, error)) from error


def unwritable(folder: Path, error: OSError) -> str:
    """Why nothing can be written into a folder and what to do, in one line; for a full disk too."""
    if error.errno in DISK_FULL:
        return f"{folder}: {error.strerror}; make room, or choose another folder (hydra.run.dir=..., of a sweep hydra.sweep.dir=...)"
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    cause = f"{file} is a file" if file else f"{reason(error)}: {error.filename}" if error.filename else reason(error)
    return f"{folder} cannot be written to ({cause}); choose another folder (hydra.run.dir=..., of a sweep hydra.sweep.dir=...)"


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is about the folder, something in it, or a folder that it lies in."""
    if error.filename is None:
        return False
    place, here = Path(os.fsdecode(error.filename)).absolute(), folder.absolute()
    return place.is_relative_to(here) or here.is_relative_to(place)


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


def read_json(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The object in a small JSON file. Raises ValueError with one line: the file, what it is not, why, and what to do."""
    try:
        held = json.loads(path.read_bytes().decode())
        if not isinstance(held, dict):
            raise ValueError(f"it holds {type(held).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not {what} ({reason(error)}); {advice}") from error
    return held


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in a few words and one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


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
        raise ValueError(f"{path}: cannot be read ({reason(error)}); {'choose a new output folder' if ours else f'give {wanted}'}") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")[: -1 if ours else None]
    placed = [(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    return [(where, _parsed(line, where, ours)) for where, line in placed]


def _parsed(line: bytes, where: str, ours: bool) -> dict[str, Any]:
    advice = AGAIN if ours else "every line must hold one JSON object"
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError) and not ours:
            raise ValueError(f"{where}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from error
        raise ValueError(f"{where}: {'damaged record' if ours else 'not JSON'} ({reason(error)}); {advice}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: holds {type(row).__name__}; {advice}")
    return row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `append` writes; none where there is no such file. Raises ValueError as `json_lines` does."""
    return [row for _, row in json_lines(path, ours=True)]


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.exists() and path.read_bytes() != text.encode():
        write_atomically(path, text)
