"""Prompts to tune on and prompts to report: divided by a hash of their ids, so that a prompt stays on its side when others are added or removed."""

import hashlib
from collections.abc import Sequence

from experiments.parts.data.prompts import Prompt


def is_dev(name: str, dev_share: float) -> bool:
    """Whether the prompt of this id is one to tune on: the first 8 bytes of the id's SHA-256, as a fraction of 2^64, lie below `dev_share`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < dev_share * 2**64


def side(prompts: Sequence[Prompt], split: str, dev_share: float) -> list[Prompt]:
    """The prompts of one side, in their order. Raises ValueError for a side without prompts."""
    if split == "all":
        return list(prompts)
    chosen = [prompt for prompt in prompts if is_dev(prompt.id, dev_share) == (split == "dev")]
    if not chosen:
        raise ValueError(
            f"split={split}: none of the {len(prompts)} prompts falls on this side with dev_share={dev_share}; choose another share or more prompts"
        )
    return chosen
