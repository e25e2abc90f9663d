"""How long a draft becomes, row by row: the interface of stopping rules, and what a drafter needs to obey one.

No rule may change the output's distribution. So it decides from the past and from a distribution before its token is drawn; what it sees in a drawn
token decides about the next token only. A drawn token stays in the draft: to drop the token that was the reason to stop would change the output's
distribution.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from spec.costs import StepCosts
from spec.tree import on_device


class StoppingRule:
    """By default a draft becomes as long as it may. A rule keeps its memory per row, so that no row depends on its neighbours.

    `before` and `after` may return None for "all rows go on", which saves a transfer from the device.
    """

    per_row: ClassVar[tuple[str, ...]] = ()  # names of the attributes that hold an entry per row, as a list or a tensor, made by `reset`

    keeps_state: bool = False  # as `Traits.keeps_state`
    wants_costs: bool = False  # whether the drafter should have steps measured, and set `costs`
    costs: StepCosts | None = None  # what steps cost

    def reset(self, num_rows: int, device: torch.device) -> None:
        """A new batch."""

    def rows_changed(self, origin: Sequence[int | None], device: torch.device) -> None:
        """Row i was row origin[i] before; None for a newcomer. What is not in `per_row` begins anew."""
        before = {name: getattr(self, name) for name in self.per_row}
        self.reset(len(origin), device)
        for name, entries in before.items():
            for row, old in enumerate(origin):
                if old is not None:
                    getattr(self, name)[row] = entries[old]

    def start(self, longest: Sequence[int]) -> list[int]:
        """Before a step: the most tokens that each row should draft, given the most that it may; 0 for finished rows."""
        return list(longest)

    def before(self, distribution: Tensor, depth: int) -> Tensor | None:
        """Which rows should draw a token at `depth` (from 1) from the drafter's distribution [B, V]; bool [B]. At temperature 0 the distribution is a
        softmax."""
        return None

    def after(self, prob: Tensor, depth: int) -> Tensor | None:
        """Which rows should go on after the token at `depth`, whose probability under that distribution was prob [B]; bool [B]."""
        return None

    def observe(self, drafted: Sequence[int], accepted: Sequence[int], cut: Sequence[bool]) -> None:
        """After a step: tokens drafted and accepted in each row, and whether EOS or the budget cut it short, so that less was judged."""


class Lengths:
    """Which rows of the current draft still grow, as a rule decides."""

    def __init__(self, rule: StoppingRule, longest: Sequence[int], device: torch.device):
        self.rule = rule
        self.longest = on_device(longest, device)
        self.going = self.longest > 0
        self.sizes = torch.ones_like(self.longest)  # [B] root included

    def before(self, distribution: Tensor, depth: int) -> bool:
        """Whether any row draws a token at `depth` from distribution [B, V]. The sizes then count that token."""
        self.going = self.going & (self.longest >= depth)
        more = self._restrict(self.rule.before(distribution, depth))
        self.sizes = self.sizes + self.going
        return more

    def after(self, prob: Tensor, depth: int) -> bool:
        """Whether any row goes on after the token at `depth`, drawn with probability prob [B]."""
        return self._restrict(self.rule.after(prob, depth))

    def _restrict(self, wanted: Tensor | None) -> bool:
        if wanted is None:
            return True
        self.going = self.going & wanted
        return bool(self.going.any())
