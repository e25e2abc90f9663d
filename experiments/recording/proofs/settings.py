"""What a verdict holds for: the settings that can change the distribution, the code, and beside them the models on which it was passed.

Prompts, batch size, budgets and seeds are not among the settings: the battery varies them itself, and the distribution is a statement about all of
them. Models are not either: they are data to the same code. A verdict passed on other models counts, but it is always shown as such.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

REPLACED = ("name", "device", "dtype")  # of the target: a model, and two words that may be "auto"


@dataclass(frozen=True)
class Case:
    """What a verdict is about. `code` is the hash of the code that decodes, `models` names and versions of target and drafter's model."""

    settings: dict[str, Any]
    code: str
    models: dict[str, dict[str, str | None]]

    @property
    def key(self) -> str:
        return key_of(self.settings, self.models)


def settings_of(config: Mapping[str, Any], device: torch.device | str, dtype: torch.dtype | str) -> dict[str, Any]:
    """Drafter, verifier, sampling and the target's arithmetic and runtime."""
    arithmetic = {"device": torch.device(device).type, "dtype": str(dtype).removeprefix("torch.")}
    found = {
        "drafter": without(config["drafter"], "name") if ours(config["drafter"]) else config["drafter"],
        "verifier": config["verifier"],
        "sampling": without(config["sampling"], "seed"),
        "target": without(config["target"], *REPLACED) | arithmetic,
    }
    return plain(found)


def ours(part: Mapping[str, Any]) -> bool:
    """Whether a drafter is of this package, where `name` is a model and nothing else."""
    return str(part.get("_target_")).startswith("drafters.")


def without(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in names}


def plain(value: Any) -> Any:
    """The same with one way to write a number and a list: 1.0 is 1."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def key_of(settings: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """One for each combination of settings and models, whatever the code; 8 hex digits."""
    return hashlib.sha256(json.dumps([settings, models], sort_keys=True).encode()).hexdigest()[:8]
