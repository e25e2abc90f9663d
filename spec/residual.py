"""The two operations that rejection sampling is made of: the ratio that a token is accepted with, and what a rejection leaves of a distribution."""

import torch
from torch import Tensor

from spec.mass import mass
from spec.tree import numbers
from spec.types import Draft


def over(wanted: Tensor, offered: Tensor) -> Tensor:
    """p(x) / q(x) in float64. q(x) = 0 happens only by underflow: then x is accepted if p(x) > 0, and rejected if p(x) = 0."""
    return (wanted.double() / offered).nan_to_num(0.0, posinf=1.0)


def rows_at(distributions: Tensor, slots: Tensor) -> Tensor:
    """distributions [B, N, V] at slots [B, K] -> [B, K, V]."""
    if len(slots) == 1:
        return distributions.index_select(1, slots[0])
    flat = slots + numbers(len(slots), slots.device)[:, None] * distributions.shape[1]
    return distributions.flatten(0, 1).index_select(0, flat.flatten()).view(*slots.shape, distributions.shape[2])


def subtract(distribution: Tensor, draft: Draft, child: Tensor) -> Tensor:
    """Normalised (distribution - q)+ for the children [B, K] of the nodes whose distributions are given, [B, K, V]; unchanged where the child is
    -1."""
    slot = child.clamp(min=0)
    if draft.q is None:
        rest = distribution.scatter(2, draft.tokens.gather(1, slot)[..., None], 0.0)
    else:
        rest = torch.sub(distribution, rows_at(draft.q, slot)).clamp_(min=0)
    left = torch.where(child > 0, mass(rest), 0.0)[..., None]
    # a rejection implies mass > 0 in exact arithmetic; where rounding leaves none, the distribution itself is the right answer
    return torch.where(left > 0, rest.div_(left.to(rest.dtype)), distribution)
