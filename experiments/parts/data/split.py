"""Prompts to tune on and prompts to report: divided by a hash of their ids, so that a prompt stays on its side whichever other prompts there are."""

import hashlib
from collections.abc import Sequence

from experiments.parts.data.prompts import Prompt

SPLITS = ("all", "dev", "test")


def is_dev(name: str, dev_share: float) -> bool:
    """Whether the prompt of this id is one to tune on: the first 8 bytes of the id's SHA-256, as a fraction of 2^64, lie below `dev_share`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < dev_share * 2**64


def side(prompts: Sequence[Prompt], split: str, dev_share: float) -> list[Prompt]:
    """The prompts of one side, in their order. Raises ValueError for an unknown side, a share that is none, and a side without prompts."""
    check_split(split, dev_share)
    if split == "all":
        return list(prompts)
    chosen = [prompt for prompt in prompts if is_dev(prompt.id, dev_share) == (split == "dev")]
    if not chosen:
        raise ValueError(
            f"split={split}: none of the {len(prompts)} prompts falls on this side with dev_share={dev_share}; choose another share or more prompts"
        )
    return chosen


def check_split(split: str, dev_share: float) -> None:
    """Raises ValueError for values that mean nothing."""
    if split not in SPLITS:
        raise ValueError(f"split={split}: give one of {', '.join(SPLITS)}")
    if isinstance(dev_share, bool) or not isinstance(dev_share, (int, float)) or not 0 < dev_share < 1:
        raise ValueError(f"dev_share={dev_share}: give a number between 0 and 1, the share of the prompts to tune on")
