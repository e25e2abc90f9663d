"""Which version of our code, of a user's packages and of the libraries a run is made with: a part of its key."""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.recording.moved import OURS, SOURCES, as_in_checkout, place_of

LIBRARIES = ("torch", "transformers")


@cache
def code_version(packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the code is now: the libraries, and a hash over the sources of ours and of further packages, which needs no git.

    What is in conf/ is in the configuration.
    """
    digest = hashlib.sha256()
    for file in sorted(sources((*OURS, *packages))):
        digest.update(file.name.encode() + hashlib.sha256(as_in_checkout(file.read_bytes())).digest())
    return {"source": digest.hexdigest()[:12]} | {name: version(name) for name in LIBRARIES}


def sources(packages: Sequence[str]) -> Iterator[Path]:
    """Python and C++ files of importable packages and modules."""
    for name in packages:
        found = importlib.util.find_spec(place_of(name))
        for folder in (found and found.submodule_search_locations) or ():
            yield from (file for kind in SOURCES for file in Path(folder).rglob(kind))
        if found and not found.submodule_search_locations and found.origin:
            yield Path(found.origin)


def foreign_packages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Top-level packages other than ours that a `_target_` names, in alphabetical order."""
    return tuple(sorted({target.split(".")[0] for target in _targets(config)} - set(OURS)))


def decoding_packages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Packages besides spec, drafters and verifiers whose code can change the distribution of the output, in alphabetical order: where a user's parts
    are."""
    parts = {name: config.get(name) or {} for name in ("drafter", "verifier", "sampling")}
    in_experiments = any(target.startswith("experiments.") for target in _targets(parts))
    return tuple(sorted({*foreign_packages(parts), *foreign_packages({"target": config.get("target")}), *(["experiments"] * in_experiments)}))


def _targets(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("_target_"), str):
            yield part["_target_"]
        for value in part.values():
            yield from _targets(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _targets(value)
