"""Wrong block verifications, each wrong in one way, and the correct rule that they are variations of (Sun et al., arXiv 2403.10444)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from experiments.lossless.enumeration.branches import BranchingNoise
from experiments.lossless.mutants.chains import Mutant, at, normalised, own_rows
from spec.noise import Purpose
from spec.types import Draft, Verdict


def balanced(mass: Tensor, r: Tensor) -> Tensor:
    """h = S / (S + 1 - r), with 0 / 0 = 0."""
    return (mass / (mass + (1 - r))).nan_to_num(0.0)


def last_accepted(accepted: Tensor) -> Tensor:
    """The largest i of 1...K whose flag in accepted [B, K] is set, or 0; [B]."""
    return (accepted * torch.arange(1, accepted.shape[1] + 1)).amax(1)


def before_first_rejection(accepted: Tensor) -> Tensor:
    """How many flags are set before the first that is not; [B]."""
    return accepted.long().cumprod(1).sum(1)


def shared_uniform(h: Tensor) -> Tensor:
    """Chances of one uniform number being below h_i, [B, K], given that it lies above all later ones: the scan begins at the end."""
    above = pad(h.flip(1).cummax(1).values.flip(1)[:, 1:], (0, 1))
    return torch.where(above < 1, (h - above).clamp(min=0) / (1 - above), 0.0)


@dataclass(frozen=True)
class BlockRule:
    """Block verification as it is written down, place after place; the fields are where it can go wrong. The defaults are right."""

    exact: ClassVar[bool] = True
    clipped: Callable[[Tensor], Tensor] = lambda r: r.clamp(max=1)
    stop: Callable[[Tensor, Tensor], Tensor] = balanced  # h_i from the mass of the residual distribution and r_i
    residual: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, q, r: (r[:, None] * p - q).clamp(min=0)
    carried: Callable[[Tensor], Tensor] = lambda r: r  # the r_0...r_K [B, K + 1] that the residual looks at
    chances: Callable[[Tensor], Tensor] = lambda h: h  # [B, K] chance of each place, given that all later ones failed
    chosen: Callable[[Tensor], Tensor] = last_accepted

    def __call__(self, p: Tensor, draft: Draft, noise: BranchingNoise) -> Verdict:
        """p [B, N, V] of chains that fill all slots."""
        q, tokens, last = own_rows(draft), draft.tokens, draft.num_slots - 1
        rows, slots = torch.arange(len(p)), torch.arange(draft.num_slots).expand(len(p), -1)
        ratios, stops = [torch.ones(len(p), dtype=p.dtype)], []
        for slot in range(1, last + 1):
            ratio = (at(p[:, slot - 1], tokens[:, slot]) / at(q[:, slot], tokens[:, slot])).nan_to_num(0.0)
            ratios.append(self.clipped(ratios[-1] * ratio))
            mass = (ratios[-1][:, None] * p[:, slot] - q[:, min(slot + 1, last)]).clamp(min=0).sum(1)
            stops.append(ratios[-1] if slot == last else self.stop(mass, ratios[-1]))
        if not stops:
            return Verdict(slots, noise.categorical(p[:, 0], Purpose.RESIDUAL, slots[:, 0]), draft.sizes)
        h = self.chances(torch.stack(stops, 1).clamp(0, 1))
        node = self.chosen(noise.bernoulli(h, Purpose.ACCEPT, slots[:, 1:]))
        r = self.carried(torch.stack(ratios, 1))[rows, node]
        residual = normalised(self.residual(p[rows, node], q[rows, (node + 1).clamp(max=last)], r), p[rows, node])
        distribution = torch.where((node == last)[:, None], p[:, -1], residual)
        bonus = noise.categorical(distribution, Purpose.RESIDUAL, node)
        return Verdict(torch.where(slots <= node[:, None], slots, -1), bonus, node + 1)


BLOCK_MUTANTS = (
    Mutant("B1 stops at the first rejection", 0.279215, verifier=BlockRule(chosen=before_first_rejection)),
    Mutant("B2 residual (p - q)+", 0.035521, verifier=BlockRule(residual=lambda p, q, r: (p - q).clamp(min=0))),
    Mutant("B3 h = r", 0.174260, verifier=BlockRule(stop=lambda mass, r: r)),
    Mutant("B4 r not clipped", 0.079408, verifier=BlockRule(clipped=lambda r: r)),
    Mutant("B5 one uniform for all places", 0.063504, verifier=BlockRule(chances=shared_uniform)),
    Mutant("B6 residual with the next r", 0.106205, verifier=BlockRule(carried=lambda r: pad(r[:, 1:], (0, 1), value=1.0))),
)
