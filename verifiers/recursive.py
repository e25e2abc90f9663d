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
from spec.tree import children
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class Recursive:
    """Exact for every draft that keeps the q contract (`spec.types.Draft`); vectorised over rows and slots, no look at the device per node."""

    @property
    def exact(self) -> bool:
        return True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        table = children(draft.parents, draft.sizes, draft.width)
        prob = acceptance(p, draft, table)
        slots = torch.arange(draft.num_slots, device=p.device).expand_as(draft.tokens)
        path, counts = walk(noise.bernoulli(prob, Purpose.ACCEPT, slots), draft, slots)
        node = path.gather(1, counts[:, None] - 1).squeeze(1)
        bonus = noise.categorical(leftover(p, draft, table, node), Purpose.RESIDUAL, node)
        return Verdict(path, bonus, counts)


def acceptance(p: Tensor, draft: Draft, table: Tensor) -> Tensor:
    """Probability that each slot is accepted once its parent is and its earlier siblings are not; [B, N], 0 for the root and for padding.

    It depends on the draft alone, never on earlier acceptances, so all slots are done at once, one sweep per rank among siblings.
    """
    prob = torch.zeros(draft.tokens.shape, dtype=p.dtype, device=p.device)
    law = p
    for rank in range(table.shape[1]):
        child = table[:, rank]  # [B, N] by parent
        token = draft.tokens.gather(1, child.clamp(min=0))[..., None]
        wanted = law.gather(2, token).squeeze(2)
        if draft.q is not None:
            offered = _rows(draft.q, child).gather(2, token).squeeze(2)
            # q(x) = 0 happens only by underflow: then a token that the target can emit is accepted
            wanted = torch.where(offered > 0, wanted / offered, (wanted > 0).to(p.dtype))
        column = torch.where(child > 0, child, 0)
        prob.scatter_(1, column, torch.where(child > 0, wanted.clamp(max=1), 0))
        prob[:, 0] = 0
        if rank + 1 < table.shape[1]:
            law = torch.where((child > 0)[..., None], _subtract(law, draft, child), law)
    return prob


def walk(accepted: Tensor, draft: Draft, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Path [B, N] of accepted slots from the root, -1 after the end, and its length [B]."""
    if draft.is_chain:
        counts = 1 + accepted[:, 1:].long().cumprod(1).sum(1)
        return torch.where(slots < counts[:, None], slots, -1), counts
    node = torch.zeros_like(draft.sizes)
    counts = torch.ones_like(node)
    path = torch.full_like(draft.tokens, -1)
    path[:, 0] = 0
    for slot in range(1, draft.num_slots):  # children follow their parent and stand in drawn order, so one pass meets them in the right order
        step = accepted[:, slot] & (draft.parents[:, slot] == node)
        node = torch.where(step, slot, node)
        path = torch.where(step[:, None] & (slots == counts[:, None]), slot, path)
        counts = counts + step
    return path, counts


def leftover(p: Tensor, draft: Draft, table: Tensor, node: Tensor) -> Tensor:
    """What is left of the target's law at `node` [B] after all of its children were rejected; [B, V]."""
    rows = torch.arange(len(node), device=p.device)
    law = p[rows, node][:, None]
    for rank in range(table.shape[1]):
        child = table[rows, rank, node][:, None]
        law = torch.where((child > 0)[..., None], _subtract(law, draft, child), law)
    return law[:, 0]


def _rows(q: Tensor, child: Tensor) -> Tensor:
    return q.gather(1, child.clamp(min=0)[..., None].expand(-1, -1, q.shape[2]))


def _subtract(law: Tensor, draft: Draft, child: Tensor) -> Tensor:
    """Normalised (law - q)+ for the children [B, K] of the nodes whose laws are given [B, K, V]."""
    if draft.q is None:
        rest = law.scatter(2, draft.tokens.gather(1, child.clamp(min=0))[..., None], 0.0)
    else:
        rest = (law - _rows(draft.q, child)).clamp(min=0)
    mass = rest.sum(-1, keepdim=True)
    # a rejection implies mass > 0 in exact arithmetic; where rounding leaves none, the law itself is the right answer
    return torch.where(mass > 0, rest / mass, law)
