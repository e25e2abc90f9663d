"""Which version of its models a run is made with, and the case of a configuration: what a verdict on it would be about."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from experiments.recording.code import decoding_packages
from experiments.recording.proofs.code_hash import code_hash
from experiments.recording.proofs.settings import Case, settings_of
from spec.converted import MADE
from spec.loading import load_config, resolve_name

WHOLE, SAMPLES, PIECE = 1 << 26, 64, 1 << 16  # files up to 64 MiB are read whole, of larger ones 64 pieces of 64 KiB


def case_of(
    config: Mapping[str, Any], device: torch.device | str, dtype: torch.dtype | str, checkpoints: Mapping[str, str] = MappingProxyType({})
) -> Case:
    """The case of a resolved configuration. `device` and `dtype` are those that the target has once it is loaded; `checkpoints` as in `models`."""
    named = {place: name for part in ("target", "drafter") for place, name in named_models(config[part], part)}
    named |= unnamed(checkpoints, named)
    models = {place: {"name": name, "version": model_version(name)} for place, name in named.items()}
    return Case(settings_of(config, device, dtype), code_hash(decoding_packages(config)), models)


def models(config: Mapping[str, Any], checkpoints: Mapping[str, str] = MappingProxyType({})) -> dict[str, str | None]:
    """Version of every model that the configuration names, and of those that the drafter says it loads (`Drafter.checkpoints`) without that."""
    parts = {"target": config["target"], "drafter": config["drafter"]} | {f"peers.{name}": peer for name, peer in (config.get("peers") or {}).items()}
    named = {place: name for where, part in parts.items() for place, name in named_models(part, where)}
    return {place: model_version(name) for place, name in (named | unnamed(checkpoints, named)).items()}


def unnamed(checkpoints: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """The checkpoints of a drafter that stand under no `name` of its configuration, by place."""
    return {f"drafter.checkpoints.{role}": name for role, name in checkpoints.items() if name not in named.values()}


def named_models(part: Any, place: str) -> Iterator[tuple[str, str]]:
    """(place, name) of the models that a part of a configuration names: by `name` beside its `_target_`, and so in every part inside it.

    Places are dotted paths: "drafter", "drafter.stopping", "drafter.members.0".
    """
    if isinstance(part, Mapping):
        if part.get("_target_") and part.get("name"):
            yield place, str(part["name"])
        for key, inner in part.items():
            yield from named_models(inner, f"{place}.{key}")
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for number, inner in enumerate(part):
            yield from named_models(inner, f"{place}.{number}")


def model_version(name: str) -> str | None:
    """A local model's content hash or a hub model's commit; None where neither is known."""
    try:
        folder = Path(resolve_name(name))
    except ValueError:
        return None  # an unknown embedded name: loading will say so
    if folder.is_dir():
        return folder_version(folder)
    try:
        return getattr(load_config(name), "_commit_hash", None)
    except ValueError:
        return None  # loading will say what is wrong with it


def folder_version(folder: Path) -> str:
    """Hash over the files that make a model: configuration, tokenizer and weights; 12 hex digits."""
    digest = hashlib.sha256()
    files = [path for path in folder.glob("*.json") if path.name != MADE]  # which says how and by what a model was converted
    for file in sorted([*files, *folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.model")]):
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
