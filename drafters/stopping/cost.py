"""Goes on while one more token is worth its forward: its chance of being emitted times the time that an emitted token takes now, against its cost.

Tokens per second are highest there: expected tokens over cost is largest where the gain of the last token over its cost equals the average. The
chance that a token is accepted is learned from the drafter's certainty, in bins; SpecDec++ (arXiv 2405.19715) and DISCO (2405.04304) learn it with
a network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spec.stopping import StoppingRule

UNKNOWN = 0.1  # what a token costs where nothing has been measured


class Cost(StoppingRule):
    """relative_cost: a drafter's forward over a target's, scoring a token being free; null: what one more token adds to a step of as many rows as
    the batch has, measured before the first step. Drafts then depend on the clock: exact, but reproducible only where those costs are kept.

    Every row learns for itself. `prior` is the weight, in tokens, of the first guess: that a token is accepted as often as the drafter's largest
    probability says. Raises ValueError for negative values and for a prior of 0.
    """

    NUM_BINS = 8
    per_row = ("hits", "trials", "emitted", "spent")

    def __init__(self, relative_cost: float | None = 0.1, prior: float = 4.0):
        if (relative_cost is not None and relative_cost < 0) or prior <= 0:
            raise ValueError(f"relative_cost={relative_cost}, prior={prior}: give a cost of at least 0 (or null) and a prior above 0")
        self.relative_cost, self.prior = relative_cost, prior
        self.keeps_state = self.wants_costs = relative_cost is None

    def reset(self, num_rows: int, device: torch.device) -> None:
        middle = (torch.arange(self.NUM_BINS, device=device, dtype=torch.float64) + 0.5) / self.NUM_BINS
        self.hits = (middle * self.prior).repeat(num_rows, 1)  # [B, bins]
        self.trials = torch.full_like(self.hits, self.prior)
        self.emitted, self.spent = self.hits.new_zeros(num_rows), self.hits.new_zeros(num_rows)  # tokens, target forwards

    def cost(self, depth: int) -> float:
        """What the token at `depth` costs in this batch, in steps of plain decoding."""
        if self.relative_cost is not None:
            return self.relative_cost
        return UNKNOWN if self.costs is None or not self.costs.seconds else self.costs.marginal(len(self.hits), depth)

    def start(self, longest: Sequence[int]) -> list[int]:
        self.reach = torch.ones(len(longest), device=self.hits.device, dtype=torch.float64)
        self.bins: list[Tensor] = []
        self.price = torch.where(self.emitted > 0, self.spent / self.emitted.clamp(min=1), 1.0)  # per emitted token; plain decoding pays 1
        return list(longest)

    def before(self, distribution: Tensor, depth: int) -> Tensor:
        self.bins.append((distribution.amax(-1) * self.NUM_BINS).long().clamp(max=self.NUM_BINS - 1))
        self.reach = self.reach * (self.hits / self.trials).gather(1, self.bins[-1][:, None]).squeeze(1)
        return self.reach * self.price > self.cost(depth)

    def observe(self, drafted: Sequence[int], accepted: Sequence[int], cut: Sequence[bool]) -> None:
        device = self.hits.device
        offered, taken = torch.tensor(drafted, device=device), torch.tensor(accepted, device=device)
        judged = torch.minimum(offered, taken + (~torch.tensor(cut, device=device)).long())
        for depth, place in enumerate(self.bins, start=1):
            self.trials.scatter_add_(1, place[:, None], (depth <= judged).double()[:, None])
            self.hits.scatter_add_(1, place[:, None], ((depth <= judged) & (depth <= taken)).double()[:, None])
        prices = torch.tensor([0.0, *(self.cost(depth) for depth in range(1, max(drafted) + 1))], device=device, dtype=torch.float64).cumsum(0)
        self.spent = self.spent + 1 + prices[offered]
        self.emitted = self.emitted + taken + 1
