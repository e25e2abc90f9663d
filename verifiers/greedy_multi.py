"""Greedy multi-draft: all children of a node but the last are its most probable tokens; only the last is drawn, from the rest of the distribution.

Source: Hu et al., arXiv 2502.18779, section 4. The last child Y, drawn from its row q', is tested first, with min(1, p(Y) / q'(Y)); if it is
rejected, y is drawn from the normalised (p - q')+, and if another child holds y the walk goes on there. This is optimal for this way of drafting.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import token_by_token
from spec.checks import NAN_ROW, refuse_nan_rows, refuse_where
from spec.noise import Purpose, StepNoise
from spec.residual import over, rows_at, subtract
from spec.tree import numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class GreedyMulti:
    """Exact for any choice of the other children, if the last child Y was drawn from its declared row and was planned to be the last.

    As in token-level verification with Y alone, the token after a node follows p; the other children only decide whether the walk goes on after it.
    This needs more than the q contract. If a token is the last child because of its value, it does not follow its row, so drafters whose trees grow
    by what was drawn are refused (`planned_siblings`). And if Y may repeat a sibling's token, Y's row must not depend on what was drawn BELOW its
    siblings, because the walk goes there only if Y is rejected. It is enough to draw all siblings before their children, or to draw Y without its
    siblings' tokens. If Y is certain (q' one-hot, or no q at all), the rule is that of sample_match. Raises ValueError where q is NaN.
    """

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    planned_siblings: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        refuse_nan_rows(draft)
        if draft.is_chain or draft.num_slots == 1:
            return token_by_token(p, draft, noise)
        rows, table = numbers(len(p), p.device), draft.children
        node, bonus, walking = torch.zeros_like(draft.sizes), torch.zeros_like(draft.sizes), torch.ones_like(draft.sizes, dtype=torch.bool)
        settled = torch.zeros_like(p[:, 0])
        settled[:, 0] = 1  # a distribution to draw from where nothing is to be drawn
        for depth in range(int(draft.depths().max()) + 1):
            kids, key = table[rows, :, node], torch.full_like(node, depth)
            last, distribution = kids.amax(1), rows_at(p, node[:, None])
            accepted = noise.bernoulli(odds_of(last, distribution[:, 0], draft) * walking, Purpose.ACCEPT, key)
            if draft.q is not None:
                refuse_where((last >= 0) & rows_at(draft.q, last.clamp(min=0)[:, None]).sum(2).squeeze(1).isnan(), NAN_ROW)
            rest = subtract(distribution, draft, last[:, None])[:, 0]
            drawn = noise.categorical(torch.where((walking & ~accepted)[:, None], rest, settled), Purpose.RESIDUAL, key)
            found = torch.where(accepted, last, holding(drawn, kids.masked_fill(kids == last[:, None], -1), draft))
            bonus = torch.where(walking & (found < 0), drawn, bonus)
            walking = walking & (found >= 0)
            node = torch.where(walking, found, node)
            if node.device.type == "cpu" and not walking.any():
                break
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)


def odds_of(child: Tensor, distribution: Tensor, draft: Draft) -> Tensor:
    """p(x) / q(x) of `child` [B] under the target's distribution [B, V] at its parent; 0 where the child is -1."""
    slot = child.clamp(min=0)[:, None]
    token = draft.tokens.gather(1, slot)
    wanted = distribution.gather(1, token).squeeze(1)
    if draft.q is not None:
        wanted = over(wanted, draft.q[numbers(len(child), child.device), slot[:, 0], token[:, 0]])
    return wanted * (child >= 0)


def holding(token: Tensor, kids: Tensor, draft: Draft) -> Tensor:
    """The first of the slots `kids` [B, R] (-1 = none) that holds `token` [B]; [B], -1 where none does."""
    hit = (draft.tokens.gather(1, kids.clamp(min=0)) == token[:, None]) & (kids >= 0)
    first = kids.gather(1, hit.int().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(hit.any(1), first, -1)
