"""Gumbel coupling: the target samples with noise that belongs to the position, so its output for a seed is the same whatever was drafted.

Source: Daliri, Musco, Suresh, arXiv 2408.07978, algorithm 2. The token at absolute position t is argmax of log p + g[t], with g[t] keyed by
sequence, t and token alone; the draft is followed as long as it holds that token. A drafter that uses the same g[t] is followed more often.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.noise import StepNoise
from spec.residual import rows_at
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Coupled:
    """Exact for any draft, which may even have looked at the noise (`shares_noise`); needs no q. Siblings that repeat a token are one branch."""

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    shares_noise: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N. Only visited slots are looked at, one for every depth and row."""
        reached, bonus = draft.slots == 0, draft.tokens[:, 0]
        last, live = reached, torch.ones_like(bonus, dtype=torch.bool)
        num_depths = draft.num_slots if draft.is_chain else 1 + int(draft.depths().max())
        for depth in range(num_depths):
            distribution = rows_at(p, last.int().argmax(1, keepdim=True))[:, 0]
            drawn = (distribution.double().log() + noise.gumbel(noise.root_positions + 1 + depth, p.shape[2])).argmax(1)
            bonus = torch.where(live, drawn, bonus)
            reached = draft.children_of(reached) & (draft.tokens == bonus[:, None])
            live = reached.any(1)
            if live.device.type == "cpu" and not bool(live.any()):
                break  # a look that costs nothing here and saves the noise of depths that no row gets to
            last = torch.where(live[:, None], reached, last)
        path, counts = draft.slots_to(last.int().argmax(1))
        return Verdict(path, bonus, counts)
