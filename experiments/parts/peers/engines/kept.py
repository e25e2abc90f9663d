"""Models converted for engines, in a cache folder of the user's: made once for the same weights, by the same engine, and checked before each use."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spec.converted import kept_folder
from spec.native import cache_folder

log = logging.getLogger(__name__)
ORIGIN = ("_name_or_path", "transformers_version")  # of a configuration: where it came from, not what it is


def cache_home() -> Path:
    return cache_folder() / "engines"


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

        def make(making: Path) -> dict[str, Any]:
            began = time.perf_counter()
            self.convert(model, making)
            seconds = round(time.perf_counter() - began, 1)
            log.info("%s: the model was converted in %.1f s, once, into %s", self.engine, seconds, folder)
            return {"engine": self.engine, "version": self.version, "model": str(model.config.name_or_path), "seconds": seconds}

        return kept_folder(folder, make)
