"""Greedy match: keep the longest path of the draft that the target's argmax follows. A fast path; `recursive` gives the same for one-hot
distributions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.checks import refuse_where
from spec.noise import StepNoise
from spec.tree import longest_path, numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Greedy:
    """Exact at temperature 0 only: raises ValueError for a distribution that is not one-hot, which it would silently turn into greedy decoding."""

    exact: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] one-hot -> Verdict with D = N. Ties were broken by the sampler (lowest id)."""
        choice = p.argmax(-1)
        refuse_where(
            p.gather(2, choice[..., None]) != 1,
            "the greedy verifier needs one-hot distributions (temperature 0); for sampling use verifiers.recursive.Recursive()",
        )
        slots = numbers(draft.num_slots, p.device).expand_as(draft.tokens)
        if draft.num_slots == 1:
            return Verdict(slots, choice[:, 0], draft.sizes)
        hit = (draft.tokens == choice.gather(1, draft.parents.clamp(min=0))) & (slots < draft.sizes[:, None])
        if draft.is_chain:
            counts = 1 + hit[:, 1:].long().cumprod(1).sum(1)
            path = torch.where(slots < counts[:, None], slots, -1)
        else:
            path, counts = longest_path(hit, draft.ancestors)  # siblings that repeat a token both hit
        node = path.gather(1, counts[:, None] - 1)
        return Verdict(path, choice.gather(1, node).squeeze(1), counts)
