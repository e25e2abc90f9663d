"""Converted models in a cache folder of the user's: made once for the same weights, by the same engine, and checked before each use.

A folder holds what the engine reads and `made.json`, which is written last and names every file with its size and hash. A folder without it, or whose
files are others, was damaged or never finished: it is made anew.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.recording.files import reason, write_atomically

log = logging.getLogger(__name__)
ORIGIN = ("_name_or_path", "transformers_version")  # of a configuration: where it came from, not what it is
MADE, MAKING, DAY = "made.json", ".making-", 86400
ELSEWHERE = "make room, or choose another folder by the environment variable XDG_CACHE_HOME"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/draftproof/engines`; `~/.cache` where the variable is not set or no absolute path."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "draftproof" / "engines"


def digest_of(model: Any) -> str:
    """Hash over a transformers model's configuration and every weight as it is now, 16 hex digits."""
    settings = {name: value for name, value in model.config.to_dict().items() if name not in ORIGIN}
    found = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=8)
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name}:{weight.dtype}:{tuple(weight.shape)}:".encode())
        found.update(weight.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@dataclass(frozen=True)
class Recipe:
    """How one engine's models are made. `convert` writes them into an empty folder, and raises ValueError for a model that it cannot serve."""

    engine: str
    version: str  # of the engine and of our conversion
    convert: Callable[[Any, Path], None]

    def kept(self, model: Any) -> Path:
        """The folder of this model, made if there is none or it is damaged. Raises ValueError where that cannot be done."""
        folder = cache_home() / f"{self.engine}-{self.version}-{digest_of(model)}"
        try:
            if folder.exists():
                why = damage(folder)
                if why is None:
                    return folder
                log.warning("%s is damaged (%s); it is made anew", folder, why)
            self._make(model, folder)
        except OSError as error:
            raise ValueError(f"{folder} cannot be made: {reason(error)}; {ELSEWHERE}") from error
        return folder

    def _make(self, model: Any, folder: Path) -> None:
        """Converts into a folder beside it, which takes its name when it is whole."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(folder.parent)
        making, began = Path(tempfile.mkdtemp(prefix=f"{folder.name}{MAKING}", dir=folder.parent)), time.perf_counter()
        try:
            self.convert(model, making)
            seconds = round(time.perf_counter() - began, 1)
            about = {"engine": self.engine, "version": self.version, "model": str(model.config.name_or_path), "seconds": seconds}
            write_atomically(making / MADE, json.dumps(about | {"files": contents(making)}, indent=1) + "\n")
            if folder.exists() and damage(folder) is not None:
                shutil.rmtree(folder)
            with suppress(FileExistsError if os.name == "nt" else OSError):  # another process was faster, and its folder is as good
                making.rename(folder)
            if not folder.exists():
                raise OSError(f"{making} could not be renamed")
        finally:
            shutil.rmtree(making, ignore_errors=True)
        log.info("%s: the model was converted in %.1f s, once, into %s", self.engine, seconds, folder)


def contents(folder: Path) -> dict[str, list[Any]]:
    """Size and hash of every file below a folder but `made.json`, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MADE)
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, hashed(path)] for path in files}


def hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def damage(folder: Path) -> str | None:
    """What is wrong with a converted model, in a few words; None if it is whole."""
    try:
        wanted = json.loads((folder / MADE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"no {MADE} that can be read"
    found = contents(folder)
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)) if isinstance(wanted, dict) else [MADE]
    return f"{odd[0]} is not what was written" if odd else None


def clear_abandoned(home: Path) -> None:
    """Removes what a process that was killed has left half made; what is younger than a day may still be in the making."""
    for path in home.glob(f"*{MAKING}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path)
