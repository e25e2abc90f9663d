"""Which code can change the distribution of the output: one hash over its sources. It needs no git, line endings do not count, and the wheel's
sources are read as they stand in a checkout (`as_in_checkout`), so that a verdict holds for one code wherever it is installed.

Reports, documents and the battery itself are not in it: they cannot change what is emitted. The battery has a hash of its own.
"""

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from experiments.recording.moved import SOURCES, as_in_checkout, place_of

CORE = ("spec", "drafters", "verifiers")
JUDGES = ("lossless",)  # of experiments/: the battery


@cache
def code_hash(packages: tuple[str, ...] = (), root: Path | None = None) -> str:
    """Hash over every .py and .cpp file of spec, drafters and verifiers, and of further packages; 12 hex digits.

    `packages` are those of a user's own drafter. `root` is the folder that holds the packages; None: wherever they are installed. A process asks
    once: what it has imported stays what it was.
    """
    return _digest(file for name in sorted({*CORE, *packages}) for file in _sources(name, root))


@cache
def battery_hash() -> str:
    """The same over the battery; 12 hex digits."""
    root = Path(__file__).resolve().parents[2]
    return _digest((f"{name}/{path}", file) for name in JUDGES for path, file in _below(root / name))


def _sources(name: str, root: Path | None) -> Iterator[tuple[str, Path]]:
    for place in _places(name, root):
        yield from ((f"{name}/{path}", file) for path, file in _below(place))


def _places(name: str, root: Path | None) -> Sequence[Path]:
    """Folders of a package, or the one file of a module."""
    if root is not None:
        return [root / name]
    found = importlib.util.find_spec(place_of(name))
    if found is None:
        return []
    return [Path(folder) for folder in found.submodule_search_locations or ()] or [Path(found.origin or "")]


def _below(place: Path) -> Iterator[tuple[str, Path]]:
    """Python and C++ files with their names below `place`; hidden folders, where editors keep copies, are left out."""
    if place.is_file():
        yield place.name, place
    for file in (file for kind in SOURCES for file in place.rglob(kind)):
        path = file.relative_to(place)
        if not any(part.startswith(".") for part in path.parts):
            yield path.as_posix(), file


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files):
        text = as_in_checkout(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        digest.update(f"{name}\0".encode() + hashlib.sha256(text).digest())
    return digest.hexdigest()[:12]
