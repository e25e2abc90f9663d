"""Recursive rejection sampling: one exact rule for chains and trees, with or without replacement, one-hot drafts included.

At a node with target distribution p, its children are tried in the order in which they were drawn: child x is accepted with probability
min(1, p(x) / q(x)), and a rejection replaces p by the normalised (p - q)+. Because q is the distribution of that child GIVEN its earlier siblings,
one rule covers a chain (Leviathan et al., arXiv 2211.17192, Algorithm 1), i.i.d. siblings (SpecInfer, 2305.09781) and siblings without replacement
(Jeon et al., 2402.14160).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import token_by_token
from spec.noise import Purpose, StepNoise
from spec.residual import over, subtract
from spec.tree import longest_path, numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Recursive:
    """Exact for every draft that keeps the q contract (`spec.types.Draft`); vectorised over rows and slots, no transfer from the device per node."""

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        if draft.is_chain or draft.num_slots == 1:
            return token_by_token(p, draft, noise)
        older = draft.older
        accepted = noise.bernoulli(tree_acceptance(p, draft, older), Purpose.ACCEPT, draft.slots)
        path, counts = longest_path(accepted & ~(older & accepted[:, None, :]).any(2), draft.ancestors)
        node = path.gather(1, counts[:, None] - 1).squeeze(1)
        return Verdict(path, noise.categorical(leftover(p, draft, node), Purpose.RESIDUAL, node), counts)


def tree_acceptance(p: Tensor, draft: Draft, older: Tensor) -> Tensor:
    """Probability that each slot is accepted once its parent is and its older siblings [B, N, N] are not; [B, N], 0 for the root and for padding.

    It depends on the draft alone, never on earlier acceptances, so all slots are done at once: distributions are reduced in one sweep per rank among
    siblings. One-hot drafts need no distributions: what older siblings take away is p of their tokens, each counted once.
    """
    slots, parents = numbers(draft.num_slots, p.device), draft.parents.clamp(min=0)
    used = (slots > 0) & (slots < draft.sizes[:, None])
    column = parents * p.shape[2] + draft.tokens
    wanted = p.flatten(1).gather(1, column).double() * used
    if draft.q is None:
        wanted = wanted.masked_fill((older & (draft.tokens[:, :, None] == draft.tokens[:, None, :])).any(2), 0.0)
        return over(wanted, 1 - (older * wanted[:, None, :]).sum(2))
    offered = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
    distribution, prob, rank = p, over(wanted, offered), older.sum(2)
    table = draft.children
    for reduced in range(1, table.shape[1]):
        distribution = subtract(distribution, draft, table[:, reduced - 1])
        prob = torch.where(rank == reduced, over(distribution.flatten(1).gather(1, column), offered), prob)
    return prob * used


def leftover(p: Tensor, draft: Draft, node: Tensor) -> Tensor:
    """What is left of the target's distribution at `node` [B] after all of its children were rejected; [B, V], not normalised."""
    rows, slots = numbers(len(node), p.device), numbers(draft.num_slots, p.device)
    distribution = p[rows, node]
    if draft.q is None:
        others = (draft.parents != node[:, None]) | (slots >= draft.sizes[:, None])
        rest = distribution * torch.ones_like(distribution).scatter_reduce_(1, draft.tokens, others.to(distribution.dtype), "amin")
        return torch.where(rest.sum(-1, keepdim=True) > 0, rest, distribution)
    siblings, left = draft.children[rows, :, node], distribution[:, None]
    num_ranks = int((siblings > 0).sum(1).max()) if node.device.type == "cpu" else siblings.shape[1]  # a look that costs nothing on the CPU
    for rank in range(num_ranks):
        left = subtract(left, draft, siblings[:, rank : rank + 1])
    return left[:, 0]
