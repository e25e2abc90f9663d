"""Greedy match: keep the longest path of the draft that the target's argmax follows. A fast path; `recursive` gives the same for one-hot laws."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spec.noise import StepNoise
from spec.tree import numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Greedy:
    """Exact at temperature 0 only: raises ValueError for a law that is not one-hot, which it would silently turn into greedy decoding."""

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] one-hot -> Verdict with D = N. Ties were broken by the sampler (lowest id)."""
        choice = p.argmax(-1)
        if not bool((p.gather(2, choice[..., None]) == 1).all()):
            raise ValueError("the greedy verifier needs one-hot laws (temperature 0); for sampling use verifiers.recursive.Recursive()")
        slots = numbers(draft.num_slots, p.device).expand_as(draft.tokens)
        if draft.num_slots == 1:
            return Verdict(slots, choice[:, 0], draft.sizes)
        hit = (draft.tokens == choice.gather(1, draft.parents.clamp(min=0))) & (slots < draft.sizes[:, None])
        if draft.is_chain:
            counts = 1 + hit[:, 1:].long().cumprod(1).sum(1)
            path = torch.where(slots < counts[:, None], slots, -1)
        else:
            path, counts = follow(hit, draft, slots)
        node = path.gather(1, counts[:, None] - 1)
        return Verdict(path, choice.gather(1, node).squeeze(1), counts)


def follow(hit: Tensor, draft: Draft, slots: Tensor) -> tuple[Tensor, Tensor]:
    """The longest path of hits from the root: [B, N] with -1 after the end, and its length [B].

    Siblings that repeat a token may both hit; the deeper branch wins.
    """
    reached = ~(draft.ancestors & ~(hit | (slots == 0))[:, None, :]).any(-1)
    node = torch.where(reached, draft.depths(), -1).argmax(1)
    kept = draft.ancestors[numbers(len(node), hit.device), node]
    path = torch.where(kept, slots, draft.num_slots).sort(1).values
    return path.masked_fill(path == draft.num_slots, -1), kept.sum(1)
