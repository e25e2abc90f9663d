"""Names that stand in the configurations of runs recorded before `experiments/` was divided into rooms, and what they are called now."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "experiments.build.load_target": "experiments.parts.target.load_target",
    "experiments.random_target.load_random": "experiments.parts.random_target.load_random",
    "experiments.data.embedded": "experiments.parts.data.sources.embedded",
    "experiments.data.jsonl": "experiments.parts.data.sources.jsonl",
    "experiments.data.hub": "experiments.parts.data.sources.hub",
    "experiments.data.data_set": "experiments.parts.data.sources.data_set",
    "experiments.peers.configured.WantedGenerate": "experiments.parts.peers.configured.WantedGenerate",
    "experiments.peers.configured.WantedAssisted": "experiments.parts.peers.configured.WantedAssisted",
    "experiments.peers.configured.WantedPromptLookup": "experiments.parts.peers.configured.WantedPromptLookup",
    "experiments.tracking.NoTracking": "experiments.parts.tracking.none.NoTracking",
    "experiments.tracking.WandbTracking": "experiments.parts.tracking.wandb.WandbTracking",
}


def renamed(part: Any) -> Any:
    """Plain data with today's name for every `_target_` that has moved; everything else is as it was."""
    if isinstance(part, Mapping):
        return {key: MOVED.get(value, value) if key == "_target_" and isinstance(value, str) else renamed(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [renamed(value) for value in part]
    return part
