"""Recursive rejection sampling: one exact rule for chains and trees, with or without replacement, one-hot drafts included.

At a node with target law p, its children are tried in the order in which they were drawn: child x is accepted with probability
min(1, p(x) / q(x)), and a rejection replaces p by the normalised (p - q)+. Because q is the law of that child GIVEN its earlier siblings, one rule
covers a chain (Leviathan et al., arXiv 2211.17192, Algorithm 1), i.i.d. siblings (SpecInfer, 2305.09781) and siblings without replacement
(Jeon et al., 2402.14160).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spec.noise import Purpose, StepNoise
from spec.residual import over, rows_at, subtract
from spec.tree import children, numbers
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Recursive:
    """Exact for every draft that keeps the q contract (`spec.types.Draft`); vectorised over rows and slots, no look at the device per node."""

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        slots = numbers(draft.num_slots, p.device).expand_as(draft.tokens)
        if draft.num_slots == 1:
            return Verdict(slots, noise.categorical(p[:, 0], Purpose.RESIDUAL, slots[:, 0]), draft.sizes)
        if draft.is_chain:
            accepted = noise.bernoulli(chain_acceptance(p, draft), Purpose.ACCEPT, slots[:, 1:]) & (slots[:, 1:] < draft.sizes[:, None])
            node = accepted.cumprod(1).sum(1)
            path = slots.masked_fill(slots > node[:, None], -1)
            siblings = (node + 1).masked_fill(node + 1 >= draft.sizes, -1)[:, None]
        else:
            table = children(draft.parents, draft.sizes, draft.width)
            accepted = noise.bernoulli(tree_acceptance(p, draft, table, slots), Purpose.ACCEPT, slots)
            path, node = walk(accepted, draft, table, slots)
            siblings = table.gather(2, node[:, None, None].expand(-1, table.shape[1], 1)).squeeze(2)
        bonus = noise.categorical(leftover(p, draft, node, siblings), Purpose.RESIDUAL, node)
        return Verdict(path, bonus, (path >= 0).sum(1))


def chain_acceptance(p: Tensor, draft: Draft) -> Tensor:
    """p(x) / q(x) of every drafted token of a chain, under the law of its parent, the slot before it; [B, N - 1]."""
    tokens = draft.tokens[:, 1:, None]
    wanted = p[:, :-1].gather(2, tokens)
    return (wanted if draft.q is None else over(wanted, draft.q[:, 1:].gather(2, tokens))).squeeze(2)


def tree_acceptance(p: Tensor, draft: Draft, table: Tensor, slots: Tensor) -> Tensor:
    """Probability that each slot is accepted once its parent is and its earlier siblings are not; [B, N], 0 for the root and for padding.

    It depends on the draft alone, never on earlier acceptances, so all slots are done at once, one sweep per rank among siblings.
    """
    law, prob, parents = p, torch.zeros_like(p[..., 0]), draft.parents.clamp(min=0)
    offered = None if draft.q is None else draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
    for rank in range(table.shape[1]):
        if rank > 0:
            law = subtract(law, draft, table[:, rank - 1])
        wanted = law.flatten(1).gather(1, parents * law.shape[2] + draft.tokens)
        is_child = table[:, rank].gather(1, parents) == slots
        prob = torch.where(is_child, wanted if offered is None else over(wanted, offered), prob)
    return prob


def walk(accepted: Tensor, draft: Draft, table: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Path [B, N] of accepted slots from the root, -1 after the end, and its last slot [B].

    Of the accepted children of a node the first in drawn order counts; a slot is kept if that holds for it and for all of its ancestors.
    """
    chosen, taken = slots == 0, torch.zeros_like(slots)
    parents = draft.parents.clamp(min=0)
    for rank in range(table.shape[1]):
        hit = accepted & (table[:, rank].gather(1, parents) == slots) & (taken.gather(1, parents) == 0)
        chosen = chosen | hit
        taken = taken.scatter_add(1, parents, hit.long())
    kept = ~(draft.ancestors & ~chosen[:, None, :]).any(-1)
    path = torch.where(kept, slots, draft.num_slots).sort(1).values
    return path.masked_fill(path == draft.num_slots, -1), torch.where(kept, slots, 0).amax(1)


def leftover(p: Tensor, draft: Draft, node: Tensor, siblings: Tensor) -> Tensor:
    """What is left of the target's law at `node` [B] after its children `siblings` [B, R] (-1 = none) were all rejected; [B, V]."""
    law = rows_at(p, node[:, None])
    for rank in range(siblings.shape[1]):
        law = subtract(law, draft, siblings[:, rank : rank + 1])
    return law[:, 0]
