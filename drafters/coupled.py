"""A small assistant drafts with the noise that the target will sample with: argmax of log q + g[t], where g[t] belongs to the position t.

Source: Daliri, Musco, Suresh, arXiv 2408.07978 (Gumbel coupling); the draft that `verifiers.coupled` follows most often.
"""

from typing import Any

import torch
from torch import Tensor

from spec.arguments import whole
from spec.assistant import Assistant
from spec.assisted import AssistedDrafter
from spec.growth import Growth
from spec.interfaces import Traits
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class CoupledDraft(AssistedDrafter):
    """A chain of num_tokens tokens, each with num_children - 1 childless siblings beside it: the next best by the same sum.

    Given the noise the tokens are certain, so q is left out; with verifiers other than `coupled` they are judged as one-hot, which is exact because
    those judge with other random numbers. At temperature 0 they are the assistant's most probable tokens. Raises ValueError for numbers below 1.
    """

    def __init__(
        self,
        name: str | Any = "embedded/drafter",
        num_tokens: int | str = 5,
        num_children: int = 1,
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        runtime: str = "auto",
        store: str = "auto",
        model: Any = None,
    ):
        self.set_length(num_tokens, "at least 1 token (drafter=none drafts nothing)")
        self.num_children = whole("num_children", num_children, "at least 1 child", 1)
        self.traits = Traits(makes_trees=num_children > 1)
        loading = {"dtype": dtype, "device_map": device_map, "attn_implementation": attn_implementation, "store": store}
        self.assistant = Assistant(name, model, runtime=runtime, **loading)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        """Slot 1 + (d - 1) K is the chain's token at depth d; its siblings follow it."""
        self.growth = growth = Growth(self.assistant, state, sampler, width=self.num_children)
        for depth in range(1, min(self.num_tokens, growth.deepest) + 1):
            distribution = growth.next_distributions()[:, :1]  # after the chain's own slot, the first of its level
            best, tokens = self._score(distribution, growth, depth).topk(min(self.num_children, distribution.shape[2]))
            parent = growth.num_slots - tokens.shape[1] if depth > 1 else 0
            growth.add([parent] * tokens.shape[1], tokens, None, best > -torch.inf)
        return growth.draft()

    def _score(self, distribution: Tensor, growth: Growth, depth: int) -> Tensor:
        """Scores whose argmax is the next token; distribution [B, 1, V] -> [B, V]."""
        scores = distribution[:, 0].double().log()
        if growth.sampler.greedy:
            return scores
        positions = growth.noise.root_positions + depth
        return scores + growth.noise.gumbel(positions, distribution.shape[2])
