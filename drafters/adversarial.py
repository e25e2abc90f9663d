"""Legal drafts that are useless or hard to judge: the output must follow the target's distribution all the same. For tests."""

import torch
from torch import Tensor

from spec.arguments import whole
from spec.growth import Growth
from spec.interfaces import Drafter, Traits
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft

KINDS = {
    "random": "every token is as likely as any other",
    "duplicates": "three siblings at the root, nine times in ten the same token",
    "tiny_mass": "distributions that are certain but for 1e-30",
    "eos": "nothing but `token`, one-hot",
    "empty": "no tokens at all",
    "ragged": "random tokens, of a length that changes with the row's own",
    "too_long": "random tokens far beyond what the row may still emit",
}


class Adversarial(Drafter):
    """kind: one of `KINDS`. `token`: the one that "eos", "duplicates" and "tiny_mass" favour. Distributions are declared as they are, at temperature
    0 too.

    Raises ValueError for an unknown kind or a token outside the vocabulary.
    """

    def __init__(self, kind: str = "random", num_tokens: int | str = 4, token: int = 0):
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: choose one of {', '.join(KINDS)}")
        self.kind, self.token = kind, whole("token", token, "a token id", 0)
        self.set_length(num_tokens, "at least 1 token; kind='empty' drafts nothing")
        self.num_chains = 3 if kind == "duplicates" else 1
        self.traits = Traits(makes_trees=self.num_chains > 1)
        self.distribution = torch.empty(0)

    def attach(self, target: CausalLM) -> None:
        if not 0 <= self.token < target.vocab_size:
            raise ValueError(f"token={self.token}: the vocabulary is 0 to {target.vocab_size - 1}")
        dtype = torch.float64 if target.dtype == torch.float64 else torch.float32
        self.distribution = self._distribution(torch.ones(target.vocab_size, dtype=dtype, device=target.device) / target.vocab_size)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        growth = Growth(None, state, sampler, width=self.num_chains)
        if self.kind == "too_long":
            growth.limits = growth.limits + self.num_tokens
        if self.kind == "ragged":
            growth.limits, growth.uneven = growth.limits.minimum(state.root_positions()[:, None] % (self.num_tokens + 1)), True
        if self.kind != "empty":
            for depth in range(self.num_tokens):
                self._add_level(growth, depth)
        return growth.draft()

    def _add_level(self, growth: Growth, depth: int) -> None:
        width = self.num_chains
        distribution = self.distribution.expand(growth.state.num_rows, width, -1)
        parents = [0] * width if depth == 0 else range(growth.num_slots - width, growth.num_slots)
        if self.kind == "eos":
            growth.add(parents, torch.full(distribution.shape[:2], self.token, device=distribution.device), None)
        else:
            growth.add(parents, *growth.draw(parents, distribution, None)[:2])

    def _distribution(self, uniform: Tensor) -> Tensor:
        if self.kind == "duplicates":
            distribution = 0.1 * uniform
            distribution[self.token] += 0.9
            return distribution
        if self.kind == "tiny_mass":
            distribution = torch.full_like(uniform, 1e-30)
            distribution[self.token] = 1.0
            return distribution
        return uniform
