"""Which version of its models a run is made with, and the case of a configuration: what a verdict on it would be about."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.recording.code import law_packages
from experiments.recording.proofs.law import law_hash
from experiments.recording.proofs.settings import Case, settings_of
from spec.model import resolve_name

WHOLE, SAMPLES, PIECE = 1 << 26, 64, 1 << 16  # files up to 64 MiB are read whole, of larger ones 64 pieces of 64 KiB


def case_of(config: Mapping[str, Any], device: torch.device | str, dtype: torch.dtype | str) -> Case:
    """The case of a resolved configuration. `device` and `dtype` are those that the target has once it is loaded."""
    parts = {name: config[name] for name in ("target", "drafter") if config[name].get("name") is not None}
    models = {name: {"name": str(part["name"]), "version": model_version(str(part["name"]))} for name, part in parts.items()}
    return Case(settings_of(config, device, dtype), law_hash(law_packages(config)), models)


def models(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Version of every model that the configuration names."""
    named = {"target": config["target"], "drafter": config["drafter"]} | {f"peers.{name}": peer for name, peer in (config.get("peers") or {}).items()}
    return {where: model_version(part["name"]) for where, part in named.items() if part.get("name")}


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
