"""Sample and match: the target draws its own next token, and the draft is followed as long as it holds what was drawn.

Exact for any draft, because the emitted tokens are the target's own samples. It needs no q; the price is a low acceptance of sampled drafts.
The rule of exact-match verification (SpecInfer's naive sampling, arXiv 2305.09781; SpecExec, 2406.02532).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spec.chains import token_by_token
from spec.noise import Purpose, StepNoise
from spec.residual import rows_at
from spec.types import Draft, Verdict


@dataclass(frozen=True)
class SampleMatch:
    """Draws in two parts: first which of the drafted tokens comes next, if any, then, at the last kept slot only, which of all the others.

    That costs one pass over the vocabulary for the whole step. Siblings that repeat a token are one branch: the paths of both go on.
    """

    exact: ClassVar[bool] = True
    matches: ClassVar[bool] = True

    def __call__(self, p: Tensor, draft: Draft, noise: StepNoise) -> Verdict:
        """p [B, N, V] -> Verdict with D = N."""
        draft = replace(draft, q=None)
        if draft.is_chain or draft.num_slots == 1:
            return token_by_token(p, draft, noise)
        reached = draft.slots == 0  # the slots whose path spells what was drawn so far; none once a draw has left the draft
        last = reached
        for depth in range(int(draft.depths().max())):
            reached = drawn_child(p, draft, reached, last, noise, depth)
            last = torch.where(reached.any(1, keepdim=True), reached, last)
        node = last.int().argmax(1)
        bonus = noise.categorical(others(p, draft, last), Purpose.RESIDUAL, node)
        path, counts = draft.slots_to(node)
        return Verdict(path, bonus, counts)


def drawn_child(p: Tensor, draft: Draft, reached: Tensor, last: Tensor, noise: StepNoise, depth: int) -> Tensor:
    """The children of `reached` [B, N] that hold the drawn token, bool [B, N]; none if it is another one. `last` marks whose distribution is drawn
    from."""
    candidates = draft.children_of(reached)
    equal = draft.tokens[:, :, None] == draft.tokens[:, None, :]
    repeated = (equal & candidates[:, None, :]).tril(-1).any(-1)
    flat = last.int().argmax(1, keepdim=True) * p.shape[2] + draft.tokens
    odds = torch.where(candidates & ~repeated, p.flatten(1).gather(1, flat).double(), 0.0)
    odds = torch.cat([odds, (1 - odds.sum(1, keepdim=True)).clamp(min=0)], 1)
    choice = noise.categorical(odds, Purpose.ACCEPT, torch.full_like(draft.sizes, depth))[:, None]
    found = choice.clamp(max=draft.num_slots - 1)
    return candidates & equal.gather(2, found[:, None].expand(-1, draft.num_slots, 1)).squeeze(2) & (choice < draft.num_slots)


def others(p: Tensor, draft: Draft, last: Tensor) -> Tensor:
    """The target's distribution after the slots `last` [B, N] without the tokens drafted there; [B, V], not normalised."""
    distribution = rows_at(p, last.int().argmax(1, keepdim=True))[:, 0]
    drafted = torch.where(draft.children_of(last), draft.tokens, distribution.shape[1])  # the rest goes to a column that is cut off
    rest = torch.nn.functional.pad(distribution, (0, 1)).scatter_(1, drafted, 0.0)[:, :-1]
    # leaving all drafted tokens implies that others have mass; where rounding leaves none, the distribution itself is the right answer
    return torch.where(rest.sum(1, keepdim=True) > 0, rest, distribution)
