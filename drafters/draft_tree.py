"""A tree of a small assistant's tokens: of a fixed shape, or grown where the assistant is surest, one assistant forward per level or round.

Source: static trees as in SpecInfer (Miao et al., arXiv 2305.09781) and Sequoia (Chen et al., 2402.12374), siblings without replacement as in Jeon
et al., 2402.14160; growth as in OPT-Tree (Wang et al., 2406.17276) and EAGLE-2 (Li et al., 2406.16858), but those rank tokens that were drawn, which
would bias sampled output: here the place of a token is chosen before it is drawn.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spec.arguments import as_whole, shown, whole
from spec.assistant import Assistant
from spec.assisted import AssistedDrafter
from spec.growth import SIBLINGS, Growth
from spec.interfaces import Traits
from spec.mass import mass
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import numbers
from spec.types import Draft


class DraftTree(AssistedDrafter):
    """A tree whose nodes of depth d have widths[d] children each, or, with widths None, one of num_nodes tokens grown in num_rounds forwards.

    Growth divides the tokens over the rounds and draws them one after another, siblings without replacement. Each becomes a child of the slot with
    the largest product: probability of the path, times the mass of the distribution that the slot's earlier children have left. So a place is chosen
    before its token, and no token is dropped. At temperature 0 the most probable tokens are taken instead, in growth those with the most probable
    paths. `siblings` as in `multi_draft`, for fixed shapes. Raises ValueError for values outside their ranges.
    """

    def __init__(
        self,
        name: str | Any = "embedded/drafter",
        widths: Sequence[int] | None = (3, 2, 1, 1),
        siblings: str = "distinct",
        num_nodes: int = 16,
        num_rounds: int = 4,
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        runtime: str = "auto",
        store: str = "auto",
        model: Any = None,
    ):
        if widths is not None and not _are_widths(widths):
            raise ValueError(f"widths={shown(widths)}: give the number of children at each depth, each at least 1, or null for a tree that grows")
        if not 1 <= whole("num_rounds", num_rounds, "a whole number") <= whole("num_nodes", num_nodes, "a whole number"):
            raise ValueError(f"num_nodes={num_nodes}, num_rounds={num_rounds}: give 1 <= num_rounds <= num_nodes, so that every round adds a token")
        if siblings not in SIBLINGS:
            raise ValueError(f"siblings={siblings!r}: choose one of {', '.join(SIBLINGS)}")
        self.widths, self.siblings = None if widths is None else list(widths), siblings
        self.num_nodes, self.num_rounds = num_nodes, num_rounds
        self.traits = Traits(makes_trees=widths is None or max(widths) > 1, adapts_siblings=widths is None)
        loading = {"dtype": dtype, "device_map": device_map, "attn_implementation": attn_implementation, "store": store}
        self.assistant = Assistant(name, model, runtime=runtime, **loading)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        """A tree no deeper than each row has room; where a distribution has nothing left to draw, the child does not exist."""
        self.growth = growth = Growth(self.assistant, state, sampler, width=max(self.widths) if self.widths else None)
        if self.widths is None:
            self._grow(growth)
        for width in self.widths or ():
            growth.branch(width, self.siblings)
        return growth.draft()

    def _grow(self, growth: Growth) -> None:
        reach = torch.ones_like(growth.tokens, dtype=torch.float64)  # [B, N] product of the assistant's probabilities down to each slot
        distributions: list[Tensor] = []
        for number in range(min(self.num_rounds, growth.deepest)):
            distributions.append(growth.next_distributions())
            distribution = torch.cat(distributions, 1)
            share = self.num_nodes // self.num_rounds + (number < self.num_nodes % self.num_rounds)
            still = reach * (number < growth.limits)  # a row stops after as many rounds as it has room for, as it would in a batch of its own
            grown = (take if growth.sampler.greedy else draw)(growth, distribution, still, share)
            reach = torch.cat([reach, grown[:, reach.shape[1] :]], 1)


def open_slots(growth: Growth, num_slots: int) -> Tensor:
    """Which of the first slots may get a child: those that exist and stand above the deepest level of their row; bool [B, N]."""
    return (growth.exists & (growth.depths < growth.limits))[:, :num_slots]


def draw(growth: Growth, distribution: Tensor, reach: Tensor, count: int) -> Tensor:
    """Draws `count` children one after another, each where it is likeliest to be needed and right; distribution [B, N, V], reach [B, N] -> [B, N +
    count].

    A child is a handful of operators over one row; all of them become slots together. Where nothing is left to draw the token is certain.
    """
    num_rows, num_slots, num_tokens = distribution.shape
    left = untried(growth, distribution)
    total = left.sum(-1)
    weight = torch.where(open_slots(growth, num_slots), reach[:, :num_slots], 0.0)  # [B, N]
    left, first, certain = left.flatten(0, 1), numbers(num_rows, left.device) * num_slots, (numbers(num_tokens, left.device) == 0).to(left.dtype)
    parents, tokens, rows, chances = [], [], [], []
    for offset in range(count):
        best, parent = (weight * total).max(1)
        at = parent if num_rows == 1 else parent + first
        row = left.index_select(0, at)
        rows.append(torch.where(best[:, None] > 0, row, certain))
        token, _, _ = growth.draw(parent[:, None], rows[-1][:, None], None, offset=offset)
        row = row.scatter(1, token, 0.0)
        left.index_copy_(0, at, row)
        total.view(-1).index_copy_(0, at, row.sum(1))
        parents.append(parent)
        tokens.append(token)
        chances.append(best)
    parent, token, row = torch.stack(parents, 1), torch.cat(tokens, 1), torch.stack(rows, 1)
    growth.add(parent, token, row / mass(row)[..., None].to(row.dtype), torch.stack(chances, 1) > 0)
    likelihood = distribution.flatten(1).gather(1, parent * num_tokens + token)
    return torch.cat([reach, reach.gather(1, parent) * likelihood], 1)


def take(growth: Growth, distribution: Tensor, reach: Tensor, count: int) -> Tensor:
    """Takes the `count` most probable paths that are one token longer than one of the slots; as `draw`, for temperature 0."""
    chance = reach[..., None] * untried(growth, distribution) * open_slots(growth, distribution.shape[1])[..., None]
    best, index = chance.flatten(1).topk(min(count, chance[0].numel()))
    growth.add(index // distribution.shape[2], index % distribution.shape[2], None, best > 0)
    return torch.cat([reach, best], 1)


def untried(growth: Growth, distribution: Tensor) -> Tensor:
    """The distributions [B, N, V] without the tokens of the slots' children; a copy."""
    place = growth.parents[:, 1:] * distribution.shape[2] + growth.tokens[:, 1:]
    drawn = torch.where(growth.exists[:, 1:], place, -1)
    tried = torch.zeros(len(distribution), distribution[0].numel() + 1, dtype=torch.bool, device=distribution.device).scatter_(1, drawn + 1, True)[
        :, 1:
    ]
    return distribution.masked_fill(tried.view_as(distribution), 0.0)


def _are_widths(given: Any) -> bool:
    """Whether these are numbers of children, one for each depth and at least 1 each."""
    return hasattr(given, "__len__") and not isinstance(given, str) and len(given) > 0 and all((as_whole(width) or 0) >= 1 for width in given)
