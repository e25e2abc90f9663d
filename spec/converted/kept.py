"""Folders that are made once, in the user's cache folder, and checked before each use.

A folder holds what was made and `made.json`, which is written last and names every file with its size and hash. A folder without it, or whose files
are others, was damaged or never finished: it is made anew.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)
MADE, MAKING, DAY = "made.json", ".making-", 86400
ELSEWHERE = "make room, or choose another folder by the environment variable XDG_CACHE_HOME"


def kept_folder(folder: Path, make: Callable[[Path], Mapping[str, Any]]) -> Path:
    """The folder, made if there is none or it is damaged. Raises ValueError, in one line, where the disk does not take it.

    `make` writes into an empty folder beside it, which takes its name when it is whole, and returns what `made.json` says besides the files.
    """
    try:
        if folder.exists():
            why = damage(folder)
            if why is None:
                return folder
            LOG.warning("%s is damaged (%s); it is made anew", folder, why)
        _make(folder, make)
    except OSError as error:
        raise cannot(folder, error) from error
    return folder


def cannot(folder: Path, error: OSError) -> ValueError:
    """The line for a folder that the disk does not take."""
    return ValueError(f"{folder} cannot be made: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}; {ELSEWHERE}")


def _make(folder: Path, make: Callable[[Path], Mapping[str, Any]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(folder.parent)
    making = Path(tempfile.mkdtemp(prefix=f"{folder.name}{MAKING}", dir=folder.parent))
    try:
        about = dict(make(making))
        (making / MADE).write_text(json.dumps(about | {"files": contents(making)}, indent=1) + "\n", encoding="utf-8")
        if folder.exists() and damage(folder) is not None:
            shutil.rmtree(folder)
        with suppress(FileExistsError if os.name == "nt" else OSError):  # another process was faster, and its folder is as good
            making.rename(folder)
        if not folder.exists():
            raise OSError(f"{making} could not be renamed")
    finally:
        shutil.rmtree(making, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it no other process is here for the same folder, on systems that have locks of files. Raises OSError."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # two processes then do the same work, and one of them takes the other's folder
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            LOG.warning("another process is making %s; waiting for it", folder)
            flock(file, LOCK_EX)
        yield


def made(folder: Path) -> dict[str, Any]:
    """What `made.json` says; empty where it cannot be read."""
    try:
        found = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def contents(folder: Path) -> dict[str, list[Any]]:
    """Size and hash of every file below a folder but `made.json`, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MADE)
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _hashed(path)] for path in files}


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def damage(folder: Path) -> str | None:
    """What is wrong with a folder, in a few words; None if it is whole."""
    if "files" not in (told := made(folder)):
        return f"no {MADE} that can be read"
    wanted, found = told["files"], contents(folder)
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)) if isinstance(wanted, dict) else [MADE]
    return f"{odd[0]} is not what was written" if odd else None


def clear_abandoned(home: Path) -> None:
    """Removes what a process that was killed has left half made; what is younger than a day may still be in the making."""
    for path in home.glob(f"*{MAKING}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path)
