"""Which version of everything a run was made with: code, libraries, models and data. Together with the configuration it is the run's key."""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.prompts import Prompt, fingerprint
from experiments.proofs.law import law_hash
from spec.model import resolve_name

OURS = ("spec", "drafters", "verifiers", "experiments")  # what is in conf/ is in the configuration
LIBRARIES = ("torch", "transformers")
WHOLE, SAMPLES, PIECE = 1 << 26, 64, 1 << 16  # files up to 64 MiB are read whole, of larger ones 64 pieces of 64 KiB


def origin(config: Mapping[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Code, models and data of a resolved configuration, as they are now. Loads no weights; what cannot be found out is None."""
    code = code_version(foreign_packages(config)) | {"law": law_hash(law_packages(config))}
    return {"code": code, "models": models(config), "data": fingerprint(prompts)[:12]}


def models(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Version of every model that the configuration names."""
    named = {"target": config["target"], "drafter": config["drafter"]} | {f"peers.{name}": peer for name, peer in (config.get("peers") or {}).items()}
    return {where: model_version(part["name"]) for where, part in named.items() if part.get("name")}


@cache
def code_version(packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the code is now: the libraries, and a hash over the sources of ours and of further packages, which needs no git."""
    digest = hashlib.sha256()
    for file in sorted(sources((*OURS, *packages))):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return {"source": digest.hexdigest()[:12]} | {name: version(name) for name in LIBRARIES}


def sources(packages: Sequence[str]) -> Iterator[Path]:
    """Python files of importable packages and modules."""
    for name in packages:
        found = importlib.util.find_spec(name)
        for folder in (found and found.submodule_search_locations) or ():
            yield from Path(folder).rglob("*.py")
        if found and not found.submodule_search_locations and found.origin:
            yield Path(found.origin)


def foreign_packages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Top-level packages other than ours that a `_target_` names, in alphabetical order."""
    return tuple(sorted({target.split(".")[0] for target in _targets(config)} - set(OURS)))


def law_packages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Packages besides spec, drafters and verifiers whose code can change the law of the output, in alphabetical order: where a user's parts are."""
    parts = {name: config.get(name) or {} for name in ("drafter", "verifier", "sampling")}
    in_experiments = any(target.startswith("experiments.") for target in _targets(parts))
    return tuple(sorted({*foreign_packages(parts), *foreign_packages({"target": config.get("target")}), *(["experiments"] * in_experiments)}))


def model_version(name: str) -> str | None:
    """A local model's content hash or a hub model's commit; None where neither is known."""
    try:
        folder = Path(resolve_name(name))
    except ValueError:
        return None  # an unknown embedded name, which loading will answer
    if folder.is_dir():
        return folder_version(folder)
    from transformers import AutoConfig

    try:
        return getattr(AutoConfig.from_pretrained(name), "_commit_hash", None)
    except (OSError, ValueError):
        return None  # loading will say what is wrong with it


def folder_version(folder: Path) -> str:
    """Hash over the files that make a model: configuration, tokenizer and weights; 12 hex digits."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.model")]):
        digest.update(f"{file.name}:{file.stat().st_size}:".encode())
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()[:12]


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    if size <= WHOLE:
        yield file.read_bytes()
        return
    with file.open("rb") as opened:
        for index in range(SAMPLES):
            opened.seek(index * (size - PIECE) // (SAMPLES - 1))
            yield opened.read(PIECE)


def _targets(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("_target_"), str):
            yield part["_target_"]
        for value in part.values():
            yield from _targets(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _targets(value)
