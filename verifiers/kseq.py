"""K-SEQ: the K siblings of a node, drawn independently from one distribution, are tested in turn, each with min(1, p(x) / (rho q(x))).

Source: SpecTr, Sun et al., arXiv 2310.15141, algorithm 3. With beta = sum min(q, p / rho), rho in [1, K] solves 1 - (1 - beta)^K = rho beta, and if
all K fail the token comes from p - min(q, p / rho) (1 - (1 - beta)^K) / beta. Letter that differs: t = 1 / rho. Every rho that is not too small is
exact, and the smallest accepts most. The rule for one node is applied from the root down, to the children of each kept slot.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import token_by_token
from spec.checks import NAN_ROW, refuse_nan_rows, refuse_where
from spec.mass import mass
from spec.noise import Purpose, StepNoise
from spec.residual import over, rows_at
from spec.tree import numbers
from spec.types import Draft, Verdict

BISECTIONS = {torch.float32: 20, torch.float64: 48}  # to a millionth of rho, and to all its digits
DIFFERENT = (
    "K-SEQ needs siblings drawn independently from one distribution; the rows of q differ between siblings: draw with replacement and declare the "
    "same row for each, or take verifier=recursive or traversal, which are exact for any siblings"
)


@dataclass(frozen=True)
class KSeq:
    """Exact for siblings that are independent draws from one row and whose number was settled before the first was drawn.

    Siblings' rows are compared at every visited node, so always at the root. Raises ValueError where they differ or q is NaN. A draft does not show
    whether the number of siblings depended on their tokens. Without q every token is certain; then the rule becomes the one that is optimal for
    certain siblings: the target draws, and the draft is followed if it holds that token.
    """

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    planned_siblings: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        refuse_nan_rows(draft)
        if draft.is_chain or draft.num_slots == 1:  # K = 1, so rho = 1
            return token_by_token(p, draft, noise)
        rows, table = numbers(len(p), p.device), draft.children
        node, walking = torch.zeros_like(draft.sizes), torch.ones_like(draft.sizes, dtype=torch.bool)
        t = torch.ones_like(p[:, 0, 0], dtype=torch.float64)  # 1 / rho at the last slot whose children were tested
        for depth in range(int(draft.depths().max())):
            kids = table[rows, :, node].masked_fill(~walking[:, None], -1)
            here = judged(p, draft, node, kids)
            t = torch.where(walking, here.t, t)
            choice = noise.categorical(here.odds, Purpose.ACCEPT, torch.full_like(node, depth))
            walking = choice < kids.shape[1]
            node = torch.where(walking, kids.gather(1, choice.clamp(max=kids.shape[1] - 1)[:, None]).squeeze(1), node)
            if node.device.type == "cpu" and not walking.any():
                break
        bonus = noise.categorical(leftover(p, draft, table[rows, :, node], (node, t)), Purpose.RESIDUAL, node)
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)


@dataclass(frozen=True)
class Judged:
    """The children of one node per row."""

    odds: Tensor  # [B, R + 1] float64: the chance that the r-th is the first to be accepted, and, last, that none is
    t: Tensor  # [B] float64: 1 / rho


def judged(p: Tensor, draft: Draft, node: Tensor, kids: Tensor) -> Judged:
    """Tests the children `kids` [B, R] (-1 = none) of `node` [B]."""
    tokens, present = draft.tokens.gather(1, kids.clamp(min=0)), kids >= 0
    distribution = rows_at(p, node[:, None])[:, 0]
    wanted = distribution.gather(1, tokens).double()
    if draft.q is None:
        repeated = ((tokens[:, :, None] == tokens[:, None, :]) & present[:, None, :]).tril(-1).any(2)
        odds = torch.where(present & ~repeated, wanted, 0.0)
        return Judged(torch.cat([odds, (1 - odds.sum(1, keepdim=True)).clamp(min=0)], 1), torch.ones_like(wanted[:, 0]))
    offered = rows_at(draft.q, kids[:, :1].clamp(min=0))[:, 0]
    for kid in kids[:, 1:].unbind(1):
        refuse_where((rows_at(draft.q, kid.clamp(min=0)[:, None])[:, 0] != offered).any(1) & (kid >= 0), DIFFERENT)
    num_siblings = present.sum(1)
    # a look that costs nothing on the CPU and saves the bisection where it would give 1
    alone = num_siblings.device.type == "cpu" and int(num_siblings.max()) < 2
    t = torch.ones_like(wanted[:, 0]) if alone else largest_safe(distribution, offered, num_siblings)
    odds = over(wanted * t[:, None], offered.gather(1, tokens).double()).clamp(max=1) * present
    failed = torch.nn.functional.pad((1 - odds).cumprod(1), (1, 0), value=1.0)
    return Judged(torch.cat([failed[:, :-1] * odds, failed[:, -1:]], 1), t)


def largest_safe(p: Tensor, q: Tensor, num_siblings: Tensor) -> Tensor:
    """t = 1 / rho for p, q [B, V] and K [B]; float64 [B], 1 where K < 2.

    t is safe, that is exact, while share(t) = beta / (1 - (1 - beta)^K) >= t. beta and share grow with t, so share(t) bounds the solution from the
    same side as t, and better. The safe end of the bisection is returned: exact after any number of halvings.
    """
    num_siblings = num_siblings.clamp(min=1).double()
    low, high = 1 / num_siblings, torch.ones_like(num_siblings)
    scratch = torch.empty_like(p)
    for _ in range(BISECTIONS[p.dtype]):
        t = (low + high) / 2
        torch.mul(p, t[:, None].to(p.dtype), out=scratch)
        better = share(mass(torch.minimum(scratch, q, out=scratch)), num_siblings)
        safe = better >= t
        low, high = torch.where(safe, better, low), torch.where(safe, high, better)
    t = low.to(p.dtype)  # rounded down: distributions are multiplied by the very number that tokens are tested with
    return torch.where(t > low, t.nextafter(torch.zeros_like(t)), t).double()


def share(beta: Tensor, num_siblings: Tensor) -> Tensor:
    """beta / (1 - (1 - beta)^K), which rises from 1 / K at beta = 0 to 1 at beta = 1; beta and K [B] -> float64 [B]."""
    beta = beta.double().clamp(1e-300, 1.0)
    return -beta / torch.expm1(num_siblings * torch.log1p(-beta))


def leftover(p: Tensor, draft: Draft, kids: Tensor, end: tuple[Tensor, Tensor]) -> Tensor:
    """What the rejection of all children `kids` [B, R] leaves of the target's distribution at the last kept slot; [B, V]. `end` = (slot [B], t
    [B])."""
    node, t = end
    distribution, present = rows_at(p, node[:, None])[:, 0], kids >= 0
    if draft.q is None:
        drafted = torch.where(present, draft.tokens.gather(1, kids.clamp(min=0)), distribution.shape[1])  # the rest goes to a column that is cut off
        rest = torch.nn.functional.pad(distribution, (0, 1)).scatter_(1, drafted, 0.0)[:, :-1]
    else:
        first, num_siblings = kids[:, :1].clamp(min=0), present.sum(1)
        overlap = torch.minimum(distribution * t[:, None].to(distribution.dtype), rows_at(draft.q, first)[:, 0])
        rest = (distribution - overlap / share(mass(overlap), num_siblings.clamp(min=1))[:, None].to(distribution.dtype)).clamp_(min=0)
    left = rest.sum(1, keepdim=True)
    refuse_where(left.isnan() & present.any(1, keepdim=True), NAN_ROW)
    # a rejection implies mass in exact arithmetic; where rounding leaves none, the distribution itself is the right answer
    return torch.where(present.any(1, keepdim=True) & (left > 0), rest, distribution)
